//! The process environment as a value, so that tests need none.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;

use super::error::{ConfigError, Problem};
use super::variables::{RPC_PREFIX, VARIABLES};

/// What our own variables begin with.
const OURS: &str = "CRYPTOPAY_";
/// Read by the tests and their script, not by the gateway.
const TESTS: &str = "CRYPTOPAY_TEST_";
/// Longest value that is read, in bytes.
const MAX_VALUE_BYTES: usize = 64 * 1024;
/// Most edits between an unknown name and the one that was probably meant.
const MAX_EDITS: usize = 3;

/// The variables of a process. Values may be secret: `Debug` shows the names only.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, OsString>);

impl Environment {
    /// The environment of this process, as it is now.
    pub fn of_process() -> Self {
        Self::from_iter(std::env::vars_os())
    }

    /// The value of a variable; an empty one counts as unset.
    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, ConfigError> {
        let Some(value) = self.0.get(name).filter(|value| !value.is_empty()) else { return Ok(None) };
        let value = value.to_str().ok_or_else(|| ConfigError::new(name, "it is no UTF-8 text", "set it again"))?;
        if value.len() > MAX_VALUE_BYTES {
            return Err(ConfigError::new(name, format!("it is longer than {MAX_VALUE_BYTES} bytes"), "shorten it"));
        }
        Ok(Some(value.trim()).filter(|value| !value.is_empty()))
    }

    /// The value of a variable, understood.
    pub(super) fn parsed<T>(
        &self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, Problem>,
    ) -> Result<Option<T>, ConfigError> {
        self.text(name)?.map(|value| parse(value).map_err(|problem| problem.with(name))).transpose()
    }

    /// Names of the RPC variables that are set.
    pub(super) fn rpc_names(&self) -> impl Iterator<Item = &str> {
        let set = self.0.iter().filter(|(_, value)| !value.is_empty());
        set.map(|(name, _)| name.as_str()).filter(|name| name.starts_with(RPC_PREFIX))
    }

    /// A warning for each variable that looks like ours and is none, with the one that was probably meant.
    pub(super) fn unknown_variables(&self) -> Vec<String> {
        let known = |name: &str| VARIABLES.iter().any(|variable| variable.name == name);
        let ours = self.0.keys().filter(|name| name.starts_with(OURS) && !name.starts_with(TESTS));
        ours.filter(|name| !known(name) && !name.starts_with(RPC_PREFIX))
            .map(|name| {
                let hint = nearest(name).map_or_else(String::new, |meant| format!("; did you mean {meant}?"));
                format!("{}: there is no such variable, so it has no effect{hint}", name.escape_debug())
            })
            .collect()
    }
}

impl<N: Into<OsString>, V: Into<OsString>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        // A name that is no UTF-8 is none of ours.
        let named =
            variables.into_iter().filter_map(|(name, value)| Some((name.into().into_string().ok()?, value.into())));
        Self(named.collect())
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// The known variable that a name is a slip of.
fn nearest(name: &str) -> Option<&'static str> {
    let names = || VARIABLES.iter().map(|variable| variable.name);
    // `DATABASE_URL` and `REDIS_URL` have no prefix; people add it.
    let bare = name.strip_prefix(OURS)?;
    names().find(|known| *known == bare).or_else(|| {
        let edits = names().map(|known| (edit_distance(name, known), known));
        edits.filter(|(edits, _)| *edits <= MAX_EDITS).min().map(|(_, known)| known)
    })
}

/// How many characters have to be put in, left out or exchanged (Levenshtein), row by row.
fn edit_distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (line, left) in one.chars().take(64).enumerate() {
        let mut next = Vec::with_capacity(row.len());
        next.push(line.saturating_add(1));
        for (right, pair) in other.iter().zip(row.windows(2)) {
            let &[diagonal, above] = pair else { continue };
            let beside = next.last().copied().unwrap_or_default();
            let exchanged = diagonal.saturating_add(usize::from(left != *right));
            next.push(exchanged.min(above.saturating_add(1)).min(beside.saturating_add(1)));
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted() {
        for (one, other, edits) in [("", "", 0), ("", "abc", 3), ("kitten", "sitting", 3), ("same", "same", 0)] {
            assert_eq!(edit_distance(one, other), edits, "{one} {other}");
            assert_eq!(edit_distance(other, one), edits, "{other} {one}");
        }
    }

    #[test]
    fn an_unknown_variable_of_ours_is_named_with_the_one_that_was_meant() {
        let env = Environment::from_iter([
            ("CRYPTOPAY_BINDD", "127.0.0.1:1"),
            ("CRYPTOPAY_SECRT", "hunter2"),
            ("CRYPTOPAY_DATABASE_URL", "postgres://u:hunter2@h/d"),
            ("CRYPTOPAY_COLOUR_OF_THE_SKY", "blue"),
            ("CRYPTOPAY_TEST_POSTGRES", "1"),
            ("CRYPTOPAY_RPC_BASE", "1"),
            ("CRYPTOPAY_MODE", "live"),
            ("PATH", "/bin"),
        ]);
        let warnings = env.unknown_variables();
        let text = warnings.join("\n");
        assert_eq!(warnings.len(), 4, "{text}");
        for hint in ["did you mean CRYPTOPAY_BIND?", "did you mean CRYPTOPAY_SECRET?", "did you mean DATABASE_URL?"] {
            assert!(text.contains(hint), "{text}");
        }
        assert!(!text.contains("hunter2") && !format!("{env:?}").contains("hunter2"));
    }

    #[test]
    fn an_empty_variable_is_an_unset_one() {
        let env = Environment::from_iter([("CRYPTOPAY_BIND", ""), ("CRYPTOPAY_LOG", "  "), ("CRYPTOPAY_RPC_X", "")]);
        assert_eq!(env.text("CRYPTOPAY_BIND"), Ok(None));
        assert_eq!(env.text("CRYPTOPAY_LOG"), Ok(None));
        assert_eq!(env.rpc_names().count(), 0);
    }
}
