//! Somebody with a key.

use alloy::primitives::{Address, B256, hex};
use alloy::signers::SignerSync;
use alloy::signers::local::PrivateKeySigner;

/// A key of a test. The same number is always the same key.
#[derive(Debug, Clone)]
pub struct Signer(PrivateKeySigner);

impl Signer {
    /// The key with this number, from 1.
    ///
    /// # Panics
    ///
    /// For 0, which is nobody's key.
    #[must_use]
    pub fn new(number: u8) -> Self {
        Self(PrivateKeySigner::from_bytes(&B256::with_last_byte(number)).expect("a key is not zero"))
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> Address {
        self.0.address()
    }

    /// What a wallet gives for a text (`personal_sign`, EIP-191): `0x` and 130 hexadecimal digits.
    ///
    /// # Panics
    ///
    /// Never: a key in memory always signs.
    #[must_use]
    pub fn sign(&self, text: &str) -> String {
        let signature = self.0.sign_message_sync(text.as_bytes()).expect("a key in memory should sign");
        hex::encode_prefixed(signature.as_bytes())
    }
}
