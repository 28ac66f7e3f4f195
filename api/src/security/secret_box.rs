//! Encryption of what the tables keep and the gateway must read again: webhook secrets, stored answers.
//!
//! XChaCha20-Poly1305 with a random 24-byte nonce, written `v1.<key id>.<base64url of nonce and ciphertext>`. The owner
//! and the purpose are bound in: a box that is copied into another merchant's row, or another column, does not open.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use cryptopay_domain::ids::MerchantId;
use secrecy::{ExposeSecret, SecretSlice, SecretString};

use crate::security::entropy;
use crate::security::keys::{DerivedKey, KeyRing};

const VERSION: &str = "v1";
const NONCE_BYTES: usize = 24;
/// Longest box that is opened, in characters: room for a stored answer, far above any webhook secret.
const MAX_SEALED_CHARS: usize = 2 * 1024 * 1024;

/// Seals with the current secret's key and opens with the current or the previous one's.
pub struct SecretBox {
    keys: KeyRing,
}

/// Whose a sealed text is, and what for. Opens only with the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    /// What the text is.
    pub purpose: Purpose,
    /// Whose it is.
    pub merchant: MerchantId,
}

/// What a sealed text is. The words are bound into the boxes: changing one makes the old boxes unreadable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The signing secret of a webhook endpoint.
    WebhookSecret,
    /// The answer that an idempotency key repeats.
    StoredAnswer,
}

/// A text could not be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the text is too long to be encrypted")]
pub struct SealError;

/// A sealed text does not open. None of these goes away by trying again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Not a sealed text.
    #[error("not a text that this version encrypted")]
    Malformed,
    /// Sealed with a secret that is no longer configured.
    #[error(
        "encrypted with key {id}, which comes of neither CRYPTOPAY_SECRET nor CRYPTOPAY_SECRET_PREVIOUS; set the older secret as CRYPTOPAY_SECRET_PREVIOUS"
    )]
    UnknownKey {
        /// The key's id: eight hexadecimal digits, no secret.
        id: String,
    },
    /// Changed, or of another owner or purpose.
    #[error("the encrypted text was changed, or belongs to another merchant or purpose")]
    Tampered,
}

impl SecretBox {
    pub(super) fn new(keys: KeyRing) -> Self {
        Self { keys }
    }

    /// Encrypts `plain`.
    ///
    /// # Errors
    /// If it is so long that it could not be opened again: more than a mebibyte and a half.
    pub fn seal(&self, context: Context, plain: &[u8]) -> Result<String, SealError> {
        let key = &self.keys.current;
        let nonce: [u8; NONCE_BYTES] = entropy::bytes();
        let payload = Payload { msg: plain, aad: &context.associated_data(&key.id) };
        let ciphertext = cipher(key).ok_or(SealError)?.encrypt(&XNonce::from(nonce), payload).map_err(|_| SealError)?;
        let sealed =
            format!("{VERSION}.{}.{}", key.id, URL_SAFE_NO_PAD.encode([&nonce, ciphertext.as_slice()].concat()));
        if sealed.len() > MAX_SEALED_CHARS { Err(SealError) } else { Ok(sealed) }
    }

    /// Whether a text is sealed with the current secret's key.
    pub fn is_current(&self, sealed: &str) -> bool {
        parts(sealed).is_ok_and(|(id, _)| id == self.keys.current.id)
    }

    /// Decrypts what [`SecretBox::seal`] made with the same context.
    ///
    /// # Errors
    /// If it is no such text, its key is gone, or it was made for another context.
    pub fn open(&self, context: Context, sealed: &str) -> Result<SecretSlice<u8>, OpenError> {
        let (id, body) = parts(sealed)?;
        let key = [Some(&self.keys.current), self.keys.previous.as_ref()]
            .into_iter()
            .flatten()
            .find(|key| key.id == id)
            .ok_or_else(|| OpenError::UnknownKey { id: id.to_owned() })?;
        let body = URL_SAFE_NO_PAD.decode(body).map_err(|_| OpenError::Malformed)?;
        let (nonce, ciphertext) = body.split_first_chunk::<NONCE_BYTES>().ok_or(OpenError::Malformed)?;
        let payload = Payload { msg: ciphertext, aad: &context.associated_data(id) };
        let plain = cipher(key)
            .ok_or(OpenError::Malformed)?
            .decrypt(&XNonce::from(*nonce), payload)
            .map_err(|_| OpenError::Tampered)?;
        Ok(plain.into())
    }

    /// The same, where what was sealed is text.
    ///
    /// # Errors
    /// As [`SecretBox::open`], and if it is no UTF-8.
    pub fn open_text(&self, context: Context, sealed: &str) -> Result<SecretString, OpenError> {
        let plain = self.open(context, sealed)?;
        std::str::from_utf8(plain.expose_secret()).map(SecretString::from).map_err(|_| OpenError::Malformed)
    }
}

impl Context {
    /// What is authenticated beside the text. No part can hold the separator, so that no two contexts read alike.
    fn associated_data(&self, key_id: &str) -> Vec<u8> {
        let Self { purpose, merchant } = self;
        format!("cryptopay|{VERSION}|{key_id}|{}|merchant {merchant}", purpose.word()).into_bytes()
    }
}

impl Purpose {
    const fn word(self) -> &'static str {
        match self {
            Self::WebhookSecret => "webhook-secret",
            Self::StoredAnswer => "stored-answer",
        }
    }
}

fn cipher(key: &DerivedKey) -> Option<XChaCha20Poly1305> {
    XChaCha20Poly1305::new_from_slice(key.bytes.expose_secret()).ok()
}

/// Key id and body of a sealed text.
fn parts(sealed: &str) -> Result<(&str, &str), OpenError> {
    if sealed.len() > MAX_SEALED_CHARS {
        return Err(OpenError::Malformed);
    }
    let rest = sealed.strip_prefix(VERSION).and_then(|rest| rest.strip_prefix('.')).ok_or(OpenError::Malformed)?;
    let (id, body) = rest.split_once('.').ok_or(OpenError::Malformed)?;
    let valid_id = id.len() == 8 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if valid_id { Ok((id, body)) } else { Err(OpenError::Malformed) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::MasterSecret;
    use crate::security::keys::Usage;

    const CONTEXT: Context = Context { purpose: Purpose::WebhookSecret, merchant: MerchantId(7) };

    fn secret_box(current: u8, previous: Option<u8>) -> SecretBox {
        let secret = |byte| MasterSecret::from_entropy([byte; 32]);
        let previous = previous.map(secret);
        SecretBox::new(KeyRing::derive(&secret(current), previous.as_ref(), Usage::SecretBox).unwrap())
    }

    fn failure(keys: &SecretBox, context: Context, sealed: &str) -> OpenError {
        keys.open(context, sealed).unwrap_err()
    }

    #[test]
    fn what_is_sealed_opens_again_and_never_looks_the_same() {
        let keys = secret_box(1, None);
        for plain in ["", "whsec_abc", &"long ".repeat(100_000)] {
            let (one, other) =
                (keys.seal(CONTEXT, plain.as_bytes()).unwrap(), keys.seal(CONTEXT, plain.as_bytes()).unwrap());
            assert_ne!(one, other);
            assert_eq!(keys.open_text(CONTEXT, &one).unwrap().expose_secret(), plain);
        }
    }

    #[test]
    fn the_previous_secret_still_opens_and_never_seals() {
        let old = secret_box(1, None).seal(CONTEXT, b"x").unwrap();
        let rotating = secret_box(2, Some(1));
        assert_eq!(rotating.open(CONTEXT, &old).unwrap().expose_secret(), b"x");
        let new = rotating.seal(CONTEXT, b"x").unwrap();
        assert_eq!(secret_box(2, None).open(CONTEXT, &new).unwrap().expose_secret(), b"x");
        let OpenError::UnknownKey { id } = failure(&secret_box(2, None), CONTEXT, &old) else { panic!("opened") };
        assert!(old.contains(&id));
    }

    #[test]
    fn a_box_opens_for_its_own_merchant_and_purpose_only() {
        let keys = secret_box(1, None);
        let sealed = keys.seal(CONTEXT, b"x").unwrap();
        for context in [
            Context { merchant: MerchantId(8), ..CONTEXT },
            Context { merchant: MerchantId(70), ..CONTEXT },
            Context { purpose: Purpose::StoredAnswer, ..CONTEXT },
        ] {
            assert_eq!(failure(&keys, context, &sealed), OpenError::Tampered);
        }
    }

    #[test]
    fn a_change_of_any_byte_is_noticed() {
        let keys = secret_box(1, None);
        let sealed = keys.seal(CONTEXT, b"secret").unwrap();
        let body = URL_SAFE_NO_PAD.decode(parts(&sealed).unwrap().1).unwrap();
        for place in 0..body.len() {
            let mut body = body.clone();
            body[place] ^= 1;
            let sealed = format!("{}{}", &sealed[..12], URL_SAFE_NO_PAD.encode(body));
            assert_eq!(failure(&keys, CONTEXT, &sealed), OpenError::Tampered, "byte {place}");
        }
    }

    #[test]
    fn what_is_no_box_is_refused() {
        let keys = secret_box(1, None);
        let sealed = keys.seal(CONTEXT, b"secret").unwrap();
        for text in [
            "",
            "v1",
            "v1..",
            "plain text",
            &sealed.replace("v1.", "v2."),
            &sealed[..30],
            &format!("{sealed}="),
            &format!("{sealed}!"),
            &"v".repeat(MAX_SEALED_CHARS + 1),
        ] {
            assert_eq!(failure(&keys, CONTEXT, text), OpenError::Malformed, "{}", text.len());
        }
    }

    #[test]
    fn what_could_not_be_opened_is_not_sealed() {
        assert_eq!(secret_box(1, None).seal(CONTEXT, &vec![0; MAX_SEALED_CHARS]), Err(SealError));
    }
}
