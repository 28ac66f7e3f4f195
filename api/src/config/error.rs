//! What is wrong with the configuration, in one line that names the variable and the mend.

use std::fmt;

/// Most characters of a value that a message repeats.
const MAX_SHOWN_CHARS: usize = 80;

/// A refusal: `CRYPTOPAY_BIND: "foo" is no address; set it to something like 127.0.0.1:8080`. Never holds the value of
/// a variable that may be secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {problem}; {mend}")]
pub struct ConfigError {
    name: String,
    problem: String,
    mend: String,
}

impl ConfigError {
    /// `name` is the variable or option at fault.
    pub(super) fn new(name: impl Into<String>, problem: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { name: name.into(), problem: one_line(&problem.into()), mend: mend.into() }
    }

    /// The variable or option at fault.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// What is wrong with a value, before it is said of which variable.
#[derive(Debug)]
pub(super) struct Problem {
    words: String,
    mend: String,
}

impl Problem {
    /// Says nothing of the value itself: it may be secret.
    pub(super) fn secretly(words: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { words: words.into(), mend: mend.into() }
    }

    /// Repeats the value, which is no secret.
    pub(super) fn of_value(value: &str, words: impl fmt::Display, mend: impl Into<String>) -> Self {
        Self { words: format!("{} {words}", shown(value)), mend: mend.into() }
    }

    pub(super) fn with(self, name: &str) -> ConfigError {
        ConfigError::new(name, self.words, self.mend)
    }
}

/// A value in quotes, on one line and of bounded length.
fn shown(value: &str) -> String {
    let mut start: String = value.chars().take(MAX_SHOWN_CHARS).collect();
    if start.len() < value.len() {
        start.push('…');
    }
    format!("{start:?}")
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_one_bounded_line_with_name_problem_and_mend() {
        let error = Problem::of_value("foo", "is no address", "set it to 127.0.0.1:8080").with("CRYPTOPAY_BIND");
        assert_eq!(error.to_string(), "CRYPTOPAY_BIND: \"foo\" is no address; set it to 127.0.0.1:8080");
        let error = Problem::of_value(&"é\n".repeat(1_000), "is long", "shorten it").with("X").to_string();
        assert!(error.len() < 300 && !error.contains('\n') && error.contains('…'), "{error}");
    }
}
