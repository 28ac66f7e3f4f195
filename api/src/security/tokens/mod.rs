//! Tokens of a login: a short-lived access token that any process can check without the database, and a refresh token
//! that is a row.
//!
//! A login is a *family*: both kinds carry its id, so that logging out, or a stolen refresh token, ends all of them.

mod access;
mod refresh;

use std::fmt;
use std::time::Duration;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

pub use access::{AccessClaims, AccessTokens, SignError, TokenError, Untimed};
pub use refresh::{InvalidRefreshToken, RefreshToken};

use crate::security::entropy;

/// How long an access token is good for. Source: the REST contract.
pub const ACCESS_LIFETIME: Duration = Duration::from_secs(24 * 3_600);
/// How long a refresh token is good for. Source: the REST contract.
pub const REFRESH_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3_600);

/// One login: the family of its refresh tokens. 32 lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FamilyId(String);

/// A text that is no family id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the id of a login")]
pub struct InvalidFamilyId;

impl FamilyId {
    /// A new login.
    pub fn generate() -> Self {
        Self(HEXLOWER.encode(&entropy::bytes::<16>()))
    }

    /// The id as the table keeps it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FamilyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for FamilyId {
    type Error = InvalidFamilyId;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let valid = text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if valid { Ok(Self(text)) } else { Err(InvalidFamilyId) }
    }
}

impl From<FamilyId> for String {
    fn from(id: FamilyId) -> Self {
        id.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_id_reads_back_and_nothing_else_does() {
        let id = FamilyId::generate();
        assert_eq!(FamilyId::try_from(id.to_string()), Ok(id.clone()));
        for text in ["", "abc", &id.as_str()[1..], &format!("{id}0"), &"G".repeat(32)] {
            assert_eq!(FamilyId::try_from(text.to_owned()), Err(InvalidFamilyId), "{text}");
        }
    }
}
