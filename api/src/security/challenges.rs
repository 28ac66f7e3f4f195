//! Nonces of challenges that are remembered by nobody: whoever has the secret can compute them again.
//!
//! A nonce belongs to one subject, so that a signature of the text that carries it proves nothing about another.

use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::ExposeSecret;
use sha2::Sha256;

use crate::security::keys::{DerivedKey, KeyRing};

/// Bytes of a nonce: too many to guess.
const NONCE_BYTES: usize = 16;

/// Makes nonces.
pub struct Challenges {
    keys: KeyRing,
}

impl Challenges {
    pub(super) fn new(keys: KeyRing) -> Self {
        Self { keys }
    }

    /// The nonce of a subject: 32 hexadecimal digits.
    pub fn nonce(&self, subject: &str) -> String {
        nonce(&self.keys.current, subject)
    }

    /// The nonces of a subject that are good: also that of the secret before, while it is rotated.
    pub fn nonces(&self, subject: &str) -> Vec<String> {
        [Some(&self.keys.current), self.keys.previous.as_ref()]
            .into_iter()
            .flatten()
            .map(|key| nonce(key, subject))
            .collect()
    }
}

fn nonce(key: &DerivedKey, subject: &str) -> String {
    // HMAC takes keys of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key.bytes.expose_secret()) else { return String::new() };
    mac.update(subject.as_bytes());
    let tag = mac.finalize().into_bytes();
    HEXLOWER.encode(tag.get(..NONCE_BYTES).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use crate::config::MasterSecret;
    use crate::security::Keys;

    #[test]
    fn a_nonce_is_of_its_subject_and_its_secret_and_of_the_secret_before() {
        let secret = |byte| MasterSecret::from_entropy([byte; 32]);
        let old = Keys::new(&secret(1), None).unwrap();
        let new = Keys::new(&secret(2), Some(&secret(1))).unwrap();
        let made = old.challenges().nonce("wallet 1");
        assert_eq!(made.len(), 32);
        assert_ne!(made, old.challenges().nonce("wallet 2"));
        assert_ne!(made, new.challenges().nonce("wallet 1"));
        assert!(new.challenges().nonces("wallet 1").contains(&made));
        assert_eq!(old.challenges().nonces("wallet 1"), [made]);
    }
}
