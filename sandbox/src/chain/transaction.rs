//! Builds a payment's transaction, signed: a call of the token's `transfer`, plain value, or a call of a contract that pays
//! several.
//!
//! Who pays has a key that is derived from a name, so that the sender is truly who signed. Nobody has the key of an address
//! that somebody else names as the payer; such a transaction carries a signature that no key can have made, as
//! impersonated accounts of development nodes do.

use alloy::consensus::{SignableTransaction, Transaction as _, TxEip1559, TxEnvelope};
use alloy::primitives::{Address, Bytes, Log, Signature, TxKind, U256, keccak256};
use alloy::signers::SignerSync;
use alloy::signers::local::PrivateKeySigner;
use alloy::sol;
use alloy::sol_types::{SolCall, SolEvent};
use cryptopay_domain::address::{AccountAddress, Asset, Hash};
use cryptopay_domain::reference::Reference;
use cryptopay_domain::units::Units;

use crate::error::SimulationError;

sol! {
    /// The two pieces of ERC-20 that a payment needs.
    contract Erc20 {
        event Transfer(address indexed from, address indexed to, uint256 value);
        function transfer(address to, uint256 value) external returns (bool);
    }

    /// A contract that passes tokens on to many.
    contract Disperse {
        function disperseToken(address token, address[] recipients, uint256[] values) external;
    }
}

/// Base fee of every block: 1 gwei. There is no gas market here.
pub(crate) const BASE_FEE: u64 = 1_000_000_000;
/// What payers add to it: 0.1 gwei.
const PRIORITY_FEE: u128 = 100_000_000;
/// What payers would pay at most: 3 gwei.
const MAX_FEE: u128 = 3_000_000_000;
/// Intrinsic gas of any transaction.
const PLAIN_GAS: u64 = 21_000;
/// What a typical token's `transfer` costs beyond that.
const TOKEN_GAS: u64 = 26_000;
/// Gas of a byte of input that is not zero (EIP-2028). Zeros are cheap enough to be left out here.
const INPUT_BYTE_GAS: u64 = 16;
/// No point of the curve has this x coordinate, so no key signs with it.
const IMPOSSIBLE_R: U256 = U256::from_limbs([5, 0, 0, 0]);

/// What a sender adds to a transaction, whatever it does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    pub(crate) chain_id: u64,
    pub(crate) nonce: u64,
    pub(crate) tip: Tip,
}

/// What is paid to whoever mines it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tip {
    Usual,
    /// Enough for nodes to prefer it to the transaction of the same nonce that they know already.
    Raised,
}

/// A payment to be sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Transfer {
    pub(crate) asset: Asset,
    pub(crate) to: AccountAddress,
    pub(crate) units: Units,
    pub(crate) reference: Option<Reference>,
}

/// Payments of one token in one transaction, made by a contract that passes them on.
pub(crate) struct Batch<'a> {
    pub(crate) token: AccountAddress,
    /// In the order of their logs.
    pub(crate) payments: &'a [(AccountAddress, Units)],
    pub(crate) reference: Option<Reference>,
}

/// Who pays.
pub(crate) enum Payer {
    /// Somebody with a key.
    Known(PrivateKeySigner),
    /// An address whose key nobody has.
    Impersonated(AccountAddress),
}

/// A signed transaction and what it does.
pub(crate) struct Signed {
    pub(crate) hash: Hash,
    pub(crate) envelope: TxEnvelope,
    pub(crate) gas_used: u64,
    pub(crate) logs: Vec<Log>,
}

impl Payer {
    /// The payer of this name.
    pub(crate) fn named(name: &str) -> Result<Self, SimulationError> {
        let key = keccak256(format!("cryptopay sandbox payer {name}"));
        let signer = PrivateKeySigner::from_bytes(&key).map_err(alloy::signers::Error::other)?;
        Ok(Self::Known(signer))
    }

    /// Their account.
    pub(crate) fn address(&self) -> AccountAddress {
        match self {
            Self::Known(signer) => AccountAddress(signer.address()),
            Self::Impersonated(address) => *address,
        }
    }
}

/// Builds and signs a payment.
pub(crate) fn sign(payer: &Payer, terms: Terms, transfer: &Transfer) -> Result<Signed, SimulationError> {
    let from = payer.address().0;
    let call = match transfer.asset {
        Asset::Native => Call { to: transfer.to.0, value: transfer.units.0, input: Vec::new(), logs: Vec::new() },
        Asset::Token(contract) => {
            let call = Erc20::transferCall { to: transfer.to.0, value: transfer.units.0 };
            let log = transfer_log(contract.0, from, transfer.to, transfer.units);
            Call { to: contract.0, value: U256::ZERO, input: call.abi_encode(), logs: vec![log] }
        }
    };
    finish(payer, terms, call, transfer.reference)
}

/// Builds and signs a transaction that pays several.
pub(crate) fn sign_batch(payer: &Payer, terms: Terms, batch: &Batch<'_>) -> Result<Signed, SimulationError> {
    let from = payer.address().0;
    let call = Disperse::disperseTokenCall {
        token: batch.token.0,
        recipients: batch.payments.iter().map(|(to, _)| to.0).collect(),
        values: batch.payments.iter().map(|(_, units)| units.0).collect(),
    };
    let logs = batch.payments.iter().map(|(to, units)| transfer_log(batch.token.0, from, *to, *units)).collect();
    let call = Call { to: named_address("contract for batches"), value: U256::ZERO, input: call.abi_encode(), logs };
    finish(payer, terms, call, batch.reference)
}

/// An address of this name whose key nobody uses.
pub(crate) fn named_address(name: &str) -> Address {
    Address::from_word(keccak256(format!("cryptopay sandbox {name}")))
}

/// What a transaction does.
struct Call {
    to: Address,
    value: U256,
    input: Vec<u8>,
    logs: Vec<Log>,
}

fn finish(payer: &Payer, terms: Terms, call: Call, reference: Option<Reference>) -> Result<Signed, SimulationError> {
    let Call { to, value, mut input, logs } = call;
    if let Some(reference) = reference {
        input.extend(reference.calldata());
    }
    let gas_used = gas(&input, logs.len());
    let tip = match terms.tip {
        Tip::Usual => PRIORITY_FEE,
        Tip::Raised => PRIORITY_FEE.saturating_mul(2),
    };
    let unsigned = TxEip1559 {
        chain_id: terms.chain_id,
        nonce: terms.nonce,
        // Wallets leave some room.
        gas_limit: gas_used.saturating_add(gas_used / 5),
        max_fee_per_gas: MAX_FEE,
        max_priority_fee_per_gas: tip,
        to: TxKind::Call(to),
        value,
        access_list: Default::default(),
        input: Bytes::from(input),
    };
    let signature = match payer {
        Payer::Known(signer) => signer.sign_hash_sync(&unsigned.signature_hash())?,
        Payer::Impersonated(address) => impossible_signature(*address),
    };
    let signed = unsigned.into_signed(signature);
    Ok(Signed { hash: Hash(*signed.hash()), envelope: TxEnvelope::Eip1559(signed), gas_used, logs })
}

/// What a mined transaction paid for a unit of gas, in wei.
pub(crate) fn effective_gas_price(envelope: &TxEnvelope) -> u128 {
    envelope.effective_gas_price(Some(BASE_FEE))
}

fn transfer_log(contract: Address, from: Address, to: AccountAddress, units: Units) -> Log {
    let event = Erc20::Transfer { from, to: to.0, value: units.0 };
    Log { address: contract, data: event.encode_log_data() }
}

fn gas(input: &[u8], transfers: usize) -> u64 {
    let paid_bytes = u64::try_from(input.iter().filter(|byte| **byte != 0).count()).unwrap_or(u64::MAX);
    let execution = TOKEN_GAS.saturating_mul(u64::try_from(transfers).unwrap_or(u64::MAX));
    PLAIN_GAS.saturating_add(execution).saturating_add(paid_bytes.saturating_mul(INPUT_BYTE_GAS))
}

/// The address is in it, so that equal payments of two such payers are two transactions.
fn impossible_signature(address: AccountAddress) -> Signature {
    let s = U256::from_be_slice(address.0.as_slice()).saturating_add(U256::ONE);
    Signature::new(IMPOSSIBLE_R, s, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: Terms = Terms { chain_id: 1, nonce: 0, tip: Tip::Usual };

    fn transfer() -> Transfer {
        Transfer {
            asset: Asset::Token(AccountAddress(Address::repeat_byte(9))),
            to: AccountAddress(Address::repeat_byte(1)),
            units: Units::new(5),
            reference: None,
        }
    }

    #[test]
    fn a_named_payer_is_who_signed() {
        let payer = Payer::named("ORD-1").unwrap();
        let signed = sign(&payer, TERMS, &transfer()).unwrap();
        let signature = signed.envelope.signature();
        let signer = signature.recover_address_from_prehash(&signed.envelope.signature_hash()).unwrap();
        assert_eq!(signer, payer.address().0);
    }

    #[test]
    fn nobody_can_have_signed_for_an_impersonated_payer() {
        for byte in [0, 1, 0xff] {
            let payer = Payer::Impersonated(AccountAddress(Address::repeat_byte(byte)));
            let signed = sign(&payer, TERMS, &transfer()).unwrap();
            let signature = signed.envelope.signature();
            assert!(signature.recover_address_from_prehash(&signed.envelope.signature_hash()).is_err());
        }
    }

    #[test]
    fn equal_payments_of_two_impersonated_payers_are_two_transactions() {
        let hash = |byte| {
            let payer = Payer::Impersonated(AccountAddress(Address::repeat_byte(byte)));
            sign(&payer, TERMS, &transfer()).unwrap().hash
        };
        assert_ne!(hash(1), hash(2));
    }

    #[test]
    fn a_payment_that_pays_more_for_its_place_is_another_transaction() {
        let payer = Payer::named("ORD-1").unwrap();
        let raised = sign(&payer, Terms { tip: Tip::Raised, ..TERMS }, &transfer()).unwrap();
        let usual = sign(&payer, TERMS, &transfer()).unwrap();
        assert_ne!(raised.hash, usual.hash);
        assert_eq!((raised.logs, raised.envelope.nonce()), (usual.logs, usual.envelope.nonce()));
    }
}
