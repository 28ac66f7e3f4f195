//! The keys that come of `CRYPTOPAY_SECRET`: one for each purpose, each with an id that says which secret it came of.
//!
//! HKDF-SHA256 with a label for each purpose makes them independent: whoever learns one learns nothing of the others or
//! of the secret. What the previous secret's keys signed or encrypted is still accepted, so that a secret can be changed
//! without logging anybody out; new tokens and boxes are made with the current one only.

use std::fmt;
use std::sync::Arc;

use data_encoding::HEXLOWER;
use hkdf::Hkdf;
use secrecy::SecretSlice;
use sha2::Sha256;

use crate::config::MasterSecret;
use crate::security::challenges::Challenges;
use crate::security::secret_box::SecretBox;
use crate::security::tokens::AccessTokens;

/// Bytes of every derived key.
const KEY_BYTES: usize = 32;
/// Four bytes tell two secrets apart; the id is public and says nothing about the secret.
const KEY_ID_BYTES: usize = 4;

/// Everything that needs a key. Cheap to clone.
#[derive(Clone)]
pub struct Keys(Arc<Parts>);

struct Parts {
    tokens: AccessTokens,
    secret_box: SecretBox,
    challenges: Challenges,
}

/// The keys could not be derived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The key derivation refused the length asked for. Cannot happen with the lengths above.
    #[error("a key of this length cannot be derived")]
    Length,
    /// Two secrets have keys with the same id, so that it would not say which to use.
    #[error("CRYPTOPAY_SECRET_PREVIOUS cannot be told apart from CRYPTOPAY_SECRET; unset it")]
    SameId,
}

/// What a derived key is for. The label is part of the key: changing one makes whatever was made with it unreadable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Usage {
    AccessTokens,
    SecretBox,
    Challenges,
    Id,
}

/// A key for one purpose.
pub(super) struct DerivedKey {
    /// Which secret it came of.
    pub(super) id: String,
    /// Its 32 bytes.
    pub(super) bytes: SecretSlice<u8>,
}

/// The keys for one purpose: what is made with the first is read with any.
pub(super) struct KeyRing {
    pub(super) current: DerivedKey,
    pub(super) previous: Option<DerivedKey>,
}

impl Keys {
    /// Derives all keys.
    ///
    /// # Errors
    /// If `previous` is `current`, or so alike that their ids coincide (one pair of secrets in four thousand million).
    pub fn new(current: &MasterSecret, previous: Option<&MasterSecret>) -> Result<Self, KeyError> {
        Ok(Self(Arc::new(Parts {
            tokens: AccessTokens::new(&KeyRing::derive(current, previous, Usage::AccessTokens)?),
            secret_box: SecretBox::new(KeyRing::derive(current, previous, Usage::SecretBox)?),
            challenges: Challenges::new(KeyRing::derive(current, previous, Usage::Challenges)?),
        })))
    }

    /// Signs and checks access tokens.
    pub fn tokens(&self) -> &AccessTokens {
        &self.0.tokens
    }

    /// Makes the nonces of challenges.
    pub fn challenges(&self) -> &Challenges {
        &self.0.challenges
    }

    /// Encrypts and decrypts what the tables keep.
    pub fn secret_box(&self) -> &SecretBox {
        &self.0.secret_box
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys([redacted])")
    }
}

impl KeyRing {
    pub(super) fn derive(
        current: &MasterSecret,
        previous: Option<&MasterSecret>,
        usage: Usage,
    ) -> Result<Self, KeyError> {
        let current = DerivedKey::derive(current, usage)?;
        let previous = previous.map(|secret| DerivedKey::derive(secret, usage)).transpose()?;
        if previous.as_ref().is_some_and(|previous| previous.id == current.id) {
            return Err(KeyError::SameId);
        }
        Ok(Self { current, previous })
    }
}

impl DerivedKey {
    fn derive(secret: &MasterSecret, usage: Usage) -> Result<Self, KeyError> {
        let id = HEXLOWER.encode(&expand::<KEY_ID_BYTES>(secret, Usage::Id)?);
        Ok(Self { id, bytes: expand::<KEY_BYTES>(secret, usage)?.to_vec().into() })
    }
}

impl Usage {
    const fn label(self) -> &'static [u8] {
        match self {
            Self::AccessTokens => b"cryptopay v1 access-token hs256",
            Self::SecretBox => b"cryptopay v1 secret-box xchacha20poly1305",
            Self::Challenges => b"cryptopay v1 challenge hmac-sha256",
            Self::Id => b"cryptopay v1 key-id",
        }
    }
}

/// HKDF-SHA256 (RFC 5869) without a salt: the secret is uniform, or at least full of entropy, already.
fn expand<const N: usize>(secret: &MasterSecret, usage: Usage) -> Result<[u8; N], KeyError> {
    let mut key = [0; N];
    Hkdf::<Sha256>::new(None, secret.expose_secret()).expand(usage.label(), &mut key).map_err(|_| KeyError::Length)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;

    fn secret(byte: u8) -> MasterSecret {
        MasterSecret::from_entropy([byte; 32])
    }

    #[test]
    fn every_purpose_and_every_secret_has_a_key_of_its_own() {
        let keys: Vec<_> = [(1, Usage::AccessTokens), (1, Usage::SecretBox), (2, Usage::AccessTokens)]
            .map(|(byte, usage)| DerivedKey::derive(&secret(byte), usage).unwrap())
            .into_iter()
            .collect();
        assert_eq!(keys[0].id, keys[1].id);
        assert_ne!(keys[0].id, keys[2].id);
        for (one, other) in [(0, 1), (0, 2), (1, 2)] {
            assert_ne!(keys[one].bytes.expose_secret(), keys[other].bytes.expose_secret());
        }
    }

    #[test]
    fn a_derived_key_never_changes_from_one_version_to_the_next() {
        // Computed once, independently, with Python's hmac module. Another value here means that no running deployment
        // could read what it stored.
        let key = DerivedKey::derive(&secret(1), Usage::SecretBox).unwrap();
        assert_eq!(key.id, "3c4a0a04");
        assert_eq!(
            HEXLOWER.encode(key.bytes.expose_secret()),
            "920c198d5e96106bf6025439fc3a274284278832d06e9c4827d5f1bf395d3fdf"
        );
    }

    #[test]
    fn the_same_secret_twice_is_refused() {
        assert_eq!(Keys::new(&secret(1), Some(&secret(1))).unwrap_err(), KeyError::SameId);
        assert!(Keys::new(&secret(1), Some(&secret(2))).is_ok());
    }

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", Keys::new(&secret(1), None).unwrap()), "Keys([redacted])");
    }
}
