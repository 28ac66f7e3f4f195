//! API keys: `sk_test_` or `sk_live_` and forty base-32 characters. Shown once; the table keeps a digest, and the first
//! twelve characters for their owner to recognise one by.

use std::fmt;

use data_encoding::BASE32;
use secrecy::{ExposeSecret, SecretString};

use crate::config::Mode;
use crate::security::digest::SecretDigest;

/// What every API key begins with; no access token does.
const FAMILY: &str = "sk_";
const TEST_PREFIX: &str = "sk_test_";
const LIVE_PREFIX: &str = "sk_live_";
/// 200 bits are forty base-32 characters without padding.
const SECRET_BYTES: usize = 25;
const SECRET_CHARS: usize = 40;
/// `sk_test_` and four characters: twenty bits, enough to tell one's own keys apart and no help in guessing one.
const DISPLAY_CHARS: usize = 12;

/// An API key, as somebody sent it or as it was just made.
#[derive(Clone)]
pub struct ApiKey {
    text: SecretString,
    mode: Mode,
}

/// A text that has not the form of an API key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an API key begins with sk_test_ or sk_live_ and has 48 characters")]
pub struct InvalidApiKey;

/// Whether a bearer token claims to be an API key rather than an access token.
pub fn is_api_key(bearer: &str) -> bool {
    bearer.starts_with(FAMILY)
}

impl ApiKey {
    /// Makes a new key, from 25 bytes of [`entropy`](super::entropy).
    pub fn from_entropy(mode: Mode, entropy: [u8; SECRET_BYTES]) -> Self {
        let secret = BASE32.encode(&entropy).to_ascii_lowercase();
        Self { text: format!("{}{secret}", prefix_of(mode)).into(), mode }
    }

    /// Reads what somebody sent.
    ///
    /// # Errors
    /// If it has not the form of a key. Whether the key is known, and of this gateway's mode, is the caller's to ask.
    pub fn parse(text: &str) -> Result<Self, InvalidApiKey> {
        let (mode, secret) = [Mode::Sandbox, Mode::Live]
            .into_iter()
            .find_map(|mode| Some((mode, text.strip_prefix(prefix_of(mode))?)))
            .ok_or(InvalidApiKey)?;
        let valid = secret.len() == SECRET_CHARS && secret.bytes().all(|b| matches!(b, b'a'..=b'z' | b'2'..=b'7'));
        if valid { Ok(Self { text: text.into(), mode }) } else { Err(InvalidApiKey) }
    }

    /// The mode that this key was made in. A gateway takes keys of its own mode only.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The beginning that may be shown and stored: twelve characters.
    pub fn display_prefix(&self) -> String {
        self.expose().chars().take(DISPLAY_CHARS).collect()
    }

    /// What the table keeps in place of the key.
    pub fn digest(&self) -> SecretDigest {
        SecretDigest::of(self.expose())
    }

    /// The key itself, for the one answer that shows it.
    pub fn expose(&self) -> &str {
        self.text.expose_secret()
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKey({}…)", self.display_prefix())
    }
}

const fn prefix_of(mode: Mode) -> &'static str {
    match mode {
        Mode::Sandbox => TEST_PREFIX,
        Mode::Live => LIVE_PREFIX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::security::entropy;

    #[test]
    fn a_key_reads_back_with_its_mode_and_digest() {
        for (mode, prefix) in [(Mode::Sandbox, "sk_test_"), (Mode::Live, "sk_live_")] {
            let key = ApiKey::from_entropy(mode, entropy::bytes());
            assert!(key.expose().starts_with(prefix) && is_api_key(key.expose()));
            assert_eq!(key.expose().len(), 48);
            assert_eq!(key.display_prefix(), key.expose()[..12]);
            let read = ApiKey::parse(key.expose()).unwrap();
            assert_eq!(read.mode(), mode);
            assert!(read.digest().matches(key.digest().as_str()));
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let secret = "a".repeat(40);
        for text in [
            "",
            "sk_",
            "sk_test_",
            &secret,
            &format!("sk_prod_{secret}"),
            &format!("SK_TEST_{secret}"),
            &format!("sk_test_{secret}a"),
            &format!("sk_test_{}", &secret[1..]),
            &format!("sk_test_{}A", &secret[1..]),
            &format!("sk_test_{}é", &secret[2..]),
            &format!(" sk_test_{secret}"),
        ] {
            assert_eq!(ApiKey::parse(text).unwrap_err(), InvalidApiKey, "{text}");
        }
    }

    #[test]
    fn debug_shows_no_more_than_the_prefix() {
        let key = ApiKey::from_entropy(Mode::Live, [7; 25]);
        assert_eq!(format!("{key:?}"), format!("ApiKey({}…)", key.display_prefix()));
    }
}
