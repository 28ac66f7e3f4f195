//! Whether somebody can sign for an address.
//!
//! An account of its own key signs by EIP-191 (`personal_sign`); the signature is checked here, without a node. A contract
//! wallet has no key: it is asked, by EIP-1271, on the chain on which it lives. A node's word for that is believed only
//! if a second one says the same, where there is a second one.

use std::time::Instant;

use alloy::primitives::{Bytes, Signature, U256, eip191_hash_message, hex};
use alloy::sol;
use alloy::sol_types::SolCall;
use cryptopay_domain::address::{AccountAddress, Hash};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::classify::is_execution_failure;
use crate::endpoints::Endpoints;
use crate::rpc::{Call, malformed, parse};
use crate::{ChainError, EvmClient};

/// Most bytes of a signature: a contract wallet of a hundred owners needs 6,500.
pub const MAX_SIGNATURE_BYTES: usize = 8 * 1024;
/// Bytes of a signature by one key: r, s, v.
const ECDSA_BYTES: usize = 65;
/// What EIP-1271 has a contract answer that accepts: the selector of the function, in a word of its own.
const ACCEPTED: &str = "0x1626ba7e00000000000000000000000000000000000000000000000000000000";

sol! {
    function isValidSignature(bytes32 hash, bytes signature) external view returns (bytes4);
}

/// A signature as somebody sent it; nothing is known of it but its length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentSignature(Bytes);

/// A text that is no signature. The words go to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Enter the signature as 0x and an even number of hexadecimal digits, at most 8192 bytes.")]
pub struct InvalidSignature;

impl std::str::FromStr for SentSignature {
    type Err = InvalidSignature;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.strip_prefix("0x").filter(|digits| digits.len() <= MAX_SIGNATURE_BYTES.saturating_mul(2));
        let digits = digits.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let bytes = hex::decode(digits.ok_or(InvalidSignature)?).map_err(|_| InvalidSignature)?;
        Ok(Self(bytes.into()))
    }
}

/// What `personal_sign` signs of a text (EIP-191, version `E`).
pub fn personal_message_hash(text: &str) -> Hash {
    Hash(eip191_hash_message(text))
}

impl SentSignature {
    /// Whether the key of `address` has signed `hash`. Of the two forms that every ECDSA signature has, only the one with
    /// the low `s` counts (EIP-2), with `v` 27 or 28, or 0 or 1 as some wallets write it.
    pub fn is_by_key_of(&self, address: AccountAddress, hash: Hash) -> bool {
        let Some(v) = self.0.last().filter(|_| self.0.len() == ECDSA_BYTES) else { return false };
        let y_parity = match v {
            0 | 27 => false,
            1 | 28 => true,
            _ => return false,
        };
        let word = |from: usize| self.0.get(from..from.saturating_add(32)).map(U256::from_be_slice);
        let (Some(r), Some(s)) = (word(0), word(32)) else { return false };
        let signature = Signature::new(r, s, y_parity);
        if signature.normalize_s().is_some() {
            return false;
        }
        signature.recover_address_from_prehash(&hash.0).is_ok_and(|signer| signer == address.0)
    }
}

/// What a contract wallet says of a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContractWord {
    /// It accepts it.
    Accepts,
    /// It does not, or answers in no way that counts as yes.
    Refuses,
    /// There is no contract at the address.
    NoContract,
}

/// A contract's word, and who told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Testimony {
    /// The endpoint's EIP-155 chain id.
    pub chain_id: u64,
    /// What it says that the contract says.
    pub word: ContractWord,
}

impl EvmClient {
    /// Who the endpoint is, whether there is a contract, and what that says: all in one batch.
    pub(crate) async fn ask_contract(
        &self,
        contract: AccountAddress,
        hash: Hash,
        signature: &SentSignature,
    ) -> Result<Testimony, ChainError> {
        let data = isValidSignatureCall { hash: hash.0, signature: signature.0.clone() }.abi_encode();
        let call = json!({ "to": contract.to_key(), "data": Bytes::from(data) });
        let calls = [
            Call { method: crate::evm::CHAIN_ID, params: Value::Array(Vec::new()) },
            Call { method: CODE, params: json!([contract.to_key(), "latest"]) },
            Call { method: CALL, params: json!([call, "latest"]) },
        ];
        let mut answers = self.rpc.each(&calls).await?.into_iter();
        let missing = || malformed(CALL, "it is missing from the batch");
        let chain_id = self.note_id(&answers.next().ok_or_else(missing)??)?;
        let has_code = has_code(&answers.next().ok_or_else(missing)??)?;
        let answer = answers.next().ok_or_else(missing)?;
        let word = if has_code { read_word(answer)? } else { ContractWord::NoContract };
        Ok(Testimony { chain_id, word })
    }
}

const CODE: &str = "eth_getCode";
const CALL: &str = "eth_call";

fn has_code(answer: &RawValue) -> Result<bool, ChainError> {
    let code: Bytes = parse(CODE, answer)?;
    Ok(!code.is_empty())
}

/// Only the one word that EIP-1271 names is a yes. Whatever is longer, shorter or other is a no, and so is an execution
/// that fails.
fn read_word(answer: Result<Box<RawValue>, ChainError>) -> Result<ContractWord, ChainError> {
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) if is_execution_failure(&error) => return Ok(ContractWord::Refuses),
        Err(error) => return Err(error),
    };
    // Of a long answer nothing is read but its length.
    if answer.get().len() > ACCEPTED.len().saturating_add(2) {
        return Ok(ContractWord::Refuses);
    }
    let text: String = parse(CALL, &answer)?;
    Ok(if text.eq_ignore_ascii_case(ACCEPTED) { ContractWord::Accepts } else { ContractWord::Refuses })
}

impl Endpoints {
    /// Asks a contract wallet whether it accepts a signature. A yes counts when two endpoints tell of it, where two are
    /// configured; a no of the first is a no, for it changes nothing.
    ///
    /// # Errors
    /// No endpoint, or no second one, answers usefully, or they contradict each other: it is not known.
    pub async fn ask_contract(
        &self,
        contract: AccountAddress,
        hash: Hash,
        signature: &SentSignature,
    ) -> Result<ContractWord, ChainError> {
        let mut tried: Vec<String> = Vec::new();
        let mut accepted = false;
        let mut problem = ChainError::Unconfirmed;
        while let Some(endpoint) = self.untried(Instant::now(), &tried) {
            tried.push(endpoint.name().to_owned());
            // The endpoint is not scored by it: what the code of somebody's contract does to a node is not the node's fault.
            let asked = async {
                let testimony = endpoint.client().ask_contract(contract, hash, signature).await?;
                self.identify(testimony.chain_id)?;
                Ok(testimony.word)
            };
            match asked.await {
                Ok(ContractWord::Accepts) if accepted || !self.are_several() => return Ok(ContractWord::Accepts),
                Ok(ContractWord::Accepts) => accepted = true,
                Ok(no) if !accepted => return Ok(no),
                // One of the two is behind, or lies.
                Ok(_) => return Err(ChainError::Unconfirmed),
                Err(error) => problem = error,
            }
        }
        Err(problem)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy::primitives::B256;
    use alloy::signers::SignerSync;
    use alloy::signers::local::PrivateKeySigner;
    use proptest::prelude::*;

    const TEXT: &str = "prove it";

    fn signer() -> PrivateKeySigner {
        PrivateKeySigner::from_bytes(&B256::repeat_byte(7)).unwrap()
    }

    fn signed() -> [u8; 65] {
        signer().sign_message_sync(TEXT.as_bytes()).unwrap().as_bytes()
    }

    fn is_ours(bytes: &[u8]) -> bool {
        SentSignature(Bytes::copy_from_slice(bytes))
            .is_by_key_of(AccountAddress(signer().address()), personal_message_hash(TEXT))
    }

    #[test]
    fn a_personal_signature_is_recognised_in_both_ways_of_writing_v() {
        let mut bytes = signed();
        assert!(is_ours(&bytes));
        bytes[64] -= 27;
        assert!(is_ours(&bytes));
    }

    #[test]
    fn another_text_another_key_or_another_v_is_no_signature() {
        let sent = SentSignature(Bytes::copy_from_slice(&signed()));
        let address = AccountAddress(signer().address());
        assert!(!sent.is_by_key_of(address, personal_message_hash("prove it!")));
        assert!(!sent.is_by_key_of(AccountAddress(alloy::primitives::Address::ZERO), personal_message_hash(TEXT)));
        for v in [2, 26, 29, 35, 255, signed()[64] ^ 7] {
            let mut bytes = signed();
            bytes[64] = v;
            assert!(!is_ours(&bytes), "{v}");
        }
    }

    #[test]
    fn the_same_signature_with_a_high_s_is_refused() {
        let low = Signature::from_raw(&signed()).unwrap();
        let order: U256 = "0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141".parse().unwrap();
        let high = Signature::new(low.r(), order - low.s(), !low.v());
        // It is the same key's, and still not counted.
        let hash = personal_message_hash(TEXT);
        assert_eq!(high.recover_address_from_prehash(&hash.0).unwrap(), signer().address());
        assert!(!is_ours(&high.as_bytes()));
    }

    #[test]
    fn what_is_no_hexadecimal_text_is_no_signature() {
        let long = format!("0x{}", "00".repeat(MAX_SIGNATURE_BYTES + 1));
        for text in ["", "00", "0x0", "0xzz", "0X00", "0x 0", "0x0x", "0xé", &long] {
            assert_eq!(text.parse::<SentSignature>(), Err(InvalidSignature), "{text:.20}");
        }
        assert!("0x".parse::<SentSignature>().is_ok(), "a contract may have been told of the hash before");
        assert!("0xABcd".parse::<SentSignature>().is_ok());
    }

    #[test]
    fn only_the_one_word_is_a_yes() {
        let read = |text: &str| read_word(Ok(RawValue::from_string(text.to_owned()).unwrap()));
        let yes = format!("\"{ACCEPTED}\"");
        assert_eq!(read(&yes).unwrap(), ContractWord::Accepts);
        assert_eq!(read(&yes.to_uppercase().replace("0X", "0x")).unwrap(), ContractWord::Accepts);
        for no in [
            "\"0x\"".to_owned(),
            "\"0x1626ba7e\"".to_owned(),
            format!("\"{}1\"", &ACCEPTED[..65]),
            format!("\"{}\"", ACCEPTED.replace("1626", "1627")),
            format!("\"{ACCEPTED}00\""),
            format!("\"{ACCEPTED}{}\"", "00".repeat(100_000)),
        ] {
            assert_eq!(read(&no).unwrap(), ContractWord::Refuses, "{no:.90}");
        }
        assert!(read("null").is_err() && read("1").is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_are_anybodys_signature_by_chance(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(!is_ours(&bytes));
        }

        #[test]
        fn a_signature_with_any_byte_changed_is_refused(at in 0usize..65, by in 1u8..) {
            let mut bytes = signed();
            bytes[at] ^= by;
            // 27 and 0, 28 and 1 mean the same.
            prop_assume!(!(at == 64 && (bytes[64] % 27 == signed()[64] % 27) && [0, 1, 27, 28].contains(&bytes[64])));
            prop_assert!(!is_ours(&bytes));
        }
    }
}
