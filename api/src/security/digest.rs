//! SHA-256 of secrets that are only ever compared: refresh tokens and API keys. They hold at least 200 random bits, so
//! that a slow hash or a salt would add nothing.

use std::fmt;

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// The digest of a secret, as the tables keep it: 64 lower-case hexadecimal digits.
#[derive(Clone)]
pub struct SecretDigest(String);

impl SecretDigest {
    /// The digest of `secret`'s text.
    pub(super) fn of(secret: &str) -> Self {
        Self(HEXLOWER.encode(&Sha256::digest(secret.as_bytes())))
    }

    /// What to store and to look rows up by.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a row that was found really is this secret's, without telling by the time taken how nearly it is not.
    pub fn matches(&self, stored: &str) -> bool {
        self.0.as_bytes().ct_eq(stored.as_bytes()).into()
    }
}

impl fmt::Debug for SecretDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretDigest([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_plain_sha256_in_hex() {
        // FIPS 180-2, appendix B.1.
        let digest = SecretDigest::of("abc");
        assert_eq!(digest.as_str(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert!(digest.matches(digest.as_str()));
        assert!(!digest.matches("") && !digest.matches(SecretDigest::of("abd").as_str()));
        assert!(!format!("{digest:?}").contains("ba78"));
    }
}
