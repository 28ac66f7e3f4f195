//! Variables whose value is one of a few words, and the Redis prefix.

use super::error::Problem;

/// Longest prefix of Redis keys, in characters.
const MAX_KEY_PREFIX_CHARS: usize = 64;

/// Whether anything real can move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Test money: chains without an RPC URL are simulated.
    Sandbox,
    /// Real money: nothing simulated, generated or private.
    Live,
}

/// Which parts of the gateway a process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Role {
    /// Everything in one process.
    All,
    /// The API.
    Api,
    /// The jobs.
    Worker,
}

/// Whether strangers may make an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registration {
    /// Anybody may.
    Open,
    /// Only the operator, with `cryptopay merchant create`.
    Closed,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines: one JSON object a line.
    Json,
}

impl Mode {
    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sandbox => "sandbox",
            Self::Live => "live",
        }
    }
}

impl Role {
    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Api => "api",
            Self::Worker => "worker",
        }
    }
}

pub(super) fn mode(text: &str) -> Result<Mode, Problem> {
    one_of(text, [("sandbox", Mode::Sandbox), ("live", Mode::Live)])
}

pub(super) fn registration(text: &str) -> Result<Registration, Problem> {
    one_of(text, [("open", Registration::Open), ("closed", Registration::Closed)])
}

pub(super) fn log_format(text: &str) -> Result<LogFormat, Problem> {
    one_of(text, [("text", LogFormat::Text), ("json", LogFormat::Json)])
}

/// Letters that mean nothing in a Redis pattern or cluster slot.
pub(super) fn key_prefix(text: &str) -> Result<String, Problem> {
    let valid = text.len() <= MAX_KEY_PREFIX_CHARS
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b':' | b'.' | b'_' | b'-'));
    if valid {
        return Ok(text.to_owned());
    }
    Err(Problem::of_value(
        text,
        "is no prefix for keys",
        "set it to at most 64 letters, digits and : . _ - such as cryptopay:",
    ))
}

fn one_of<T: Copy>(text: &str, [one, other]: [(&'static str, T); 2]) -> Result<T, Problem> {
    [one, other].into_iter().find(|(word, _)| text.eq_ignore_ascii_case(word)).map(|(_, value)| value).ok_or_else(
        || {
            let mend = format!("set it to {} or {}", one.0, other.0);
            Problem::of_value(text, "is neither", mend)
        },
    )
}
