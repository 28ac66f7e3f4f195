//! Refresh tokens: opaque, each used once. The table keeps their digests.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret, SecretString};

use crate::security::digest::SecretDigest;
use crate::security::entropy;

const PREFIX: &str = "rt_";
const SECRET_BYTES: usize = 32;
/// 32 bytes in base64url without padding.
const SECRET_CHARS: usize = 43;

/// A refresh token, as somebody sent it or as it was just made: `rt_` and 32 random bytes in base64url.
#[derive(Clone)]
pub struct RefreshToken(SecretString);

/// A text that has not the form of a refresh token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a refresh token begins with rt_ and has 46 characters")]
pub struct InvalidRefreshToken;

impl RefreshToken {
    /// Makes a new one.
    pub fn generate() -> Self {
        Self(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(entropy::bytes::<SECRET_BYTES>())).into())
    }

    /// Reads what somebody sent.
    ///
    /// # Errors
    /// If it has not the form of a refresh token. Whether it is known is the table's to say.
    pub fn parse(text: &str) -> Result<Self, InvalidRefreshToken> {
        let secret = text.strip_prefix(PREFIX).ok_or(InvalidRefreshToken)?;
        let valid = secret.len() == SECRET_CHARS
            && secret.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        if valid { Ok(Self(text.into())) } else { Err(InvalidRefreshToken) }
    }

    /// What the table keeps in place of the token.
    pub fn digest(&self) -> SecretDigest {
        SecretDigest::of(self.expose())
    }

    /// The token itself, for the one answer that shows it.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for RefreshToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RefreshToken([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_with_the_same_digest() {
        let token = RefreshToken::generate();
        let read = RefreshToken::parse(token.expose()).unwrap();
        assert!(read.digest().matches(token.digest().as_str()));
        assert_ne!(token.expose(), RefreshToken::generate().expose());
        assert!(!format!("{token:?}").contains(&token.expose()[3..]));
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let secret = "a".repeat(43);
        for text in [
            "",
            "rt_",
            &secret,
            &format!("rt_{secret}a"),
            &format!("rt_{}", &secret[1..]),
            &format!("rt_{}é", &secret[2..]),
        ] {
            assert_eq!(RefreshToken::parse(text).unwrap_err(), InvalidRefreshToken, "{text}");
        }
    }
}
