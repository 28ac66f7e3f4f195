//! What was looked at and how it was found, for people and for machines.

use std::fmt::Write;

use serde::Serialize;

/// How something was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    /// As it should be.
    Good,
    /// It works, but somebody should know.
    Warning,
    /// To be mended: the command ends with status 1.
    Wrong,
}

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    /// What it is about: `database`, `base: https://rpc.example`.
    pub(super) subject: String,
    /// What was looked at.
    pub(super) what: &'static str,
    /// How it was found.
    pub(super) verdict: Verdict,
    /// In words.
    pub(super) found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mend: Option<String>,
}

/// The checks of one subject, as they are made.
#[derive(Debug)]
pub(super) struct Checks {
    subject: String,
    list: Vec<Check>,
}

impl Checks {
    pub(super) fn of(subject: impl Into<String>) -> Self {
        Self { subject: subject.into(), list: Vec::new() }
    }

    pub(super) fn good(&mut self, what: &'static str, found: impl Into<String>) {
        self.add(what, Verdict::Good, found.into(), None);
    }

    pub(super) fn warn(&mut self, what: &'static str, found: impl Into<String>, mend: impl Into<String>) {
        self.add(what, Verdict::Warning, found.into(), Some(mend.into()));
    }

    pub(super) fn wrong(&mut self, what: &'static str, found: impl Into<String>, mend: impl Into<String>) {
        self.add(what, Verdict::Wrong, found.into(), Some(mend.into()));
    }

    pub(super) fn done(self) -> Vec<Check> {
        self.list
    }

    fn add(&mut self, what: &'static str, verdict: Verdict, found: String, mend: Option<String>) {
        let one_line = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let (found, mend) = (one_line(found), mend.map(one_line));
        self.list.push(Check { subject: self.subject.clone(), what, verdict, found, mend });
    }
}

/// Everything that was found.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Whether nothing is wrong.
    pub(super) ok: bool,
    /// How many things are wrong.
    pub(super) wrong: usize,
    /// How many warnings there are.
    pub(super) warnings: usize,
    /// In order.
    pub(super) checks: Vec<Check>,
}

impl Report {
    pub(super) fn of(checks: Vec<Check>) -> Self {
        let count = |verdict| checks.iter().filter(|check| check.verdict == verdict).count();
        let (wrong, warnings) = (count(Verdict::Wrong), count(Verdict::Warning));
        Self { ok: wrong == 0, wrong, warnings, checks }
    }

    /// As a table, subject by subject; what to do stands below what is wrong.
    pub(super) fn table(&self) -> String {
        let mut text = String::new();
        let mut subject = None;
        let width = self.checks.iter().map(|check| check.what.chars().count()).max().unwrap_or_default();
        for check in &self.checks {
            if subject != Some(&check.subject) {
                let gap = if subject.is_some() { "\n" } else { "" };
                // Writing into a string cannot fail.
                let _ = writeln!(text, "{gap}{}", check.subject);
                subject = Some(&check.subject);
            }
            let _ = writeln!(text, "  {:<5}  {:<width$}  {}", check.verdict.word(), check.what, check.found);
            if let Some(mend) = &check.mend {
                let _ = writeln!(text, "  {:<5}  {:<width$}  -> {mend}", "", "");
            }
        }
        let _ = writeln!(text, "\n{}", self.summary());
        text
    }

    fn summary(&self) -> String {
        let warnings = match self.warnings {
            0 => String::new(),
            1 => "; 1 warning".to_owned(),
            more => format!("; {more} warnings"),
        };
        match self.wrong {
            0 => format!("Nothing is wrong{warnings}."),
            1 => format!("1 thing is wrong{warnings}."),
            more => format!("{more} things are wrong{warnings}."),
        }
    }
}

impl Verdict {
    const fn word(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Warning => "warn",
            Self::Wrong => "WRONG",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_names_each_subject_once_and_says_below_a_fault_what_to_do() {
        let mut checks = Checks::of("database");
        checks.good("reachable", "PostgreSQL 16.1");
        checks.wrong("schema", "two\nmigrations are missing", "run `cryptopay migrate up`");
        let mut more = Checks::of("base");
        more.warn("endpoints", "one", "add another");
        let report = Report::of([checks.done(), more.done()].concat());
        assert_eq!((report.ok, report.wrong, report.warnings), (false, 1, 1));
        let table = report.table();
        let wanted = "database\n  ok     reachable  PostgreSQL 16.1\n  WRONG  schema     two migrations are missing\n                    \
                      -> run `cryptopay migrate up`\n\nbase\n  warn   endpoints  one\n                    -> add another\n\n1 thing is \
                      wrong; 1 warning.\n";
        assert_eq!(table, wanted);
    }
}
