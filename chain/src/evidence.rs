//! Turns hints into facts: the receipt and the transaction of every hit, checked against each other and against the
//! block that we hold.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use alloy::consensus::TxEnvelope;
use alloy::eips::Encodable2718;
use alloy::primitives::{Address, B256, Bytes, U256, keccak256};
use alloy::rpc::types::Log;
use cryptopay_domain::address::{AccountAddress, Asset, Hash};
use cryptopay_domain::transfer::{Block, ObservedTransfer, Position, UnverifiableTransfer};
use cryptopay_domain::units::Units;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use crate::evm::{CHAIN_ID, header_call};
use crate::logs::{ASK_AGAIN, TokenTransfer, check_tip, transfer_of};
use crate::rpc::{Call, is_null, malformed, null_as_empty, parse, untrue};
use crate::{ChainError, EvmClient, Inclusion, ShownTransfer};

/// Calls in one batch: a receipt and a transaction for each of 25 hits.
const MAX_CALLS_PER_BATCH: usize = 50;
/// Most transactions of one range: bounds what one step holds in memory. A range with more is asked for in halves.
const MAX_TRANSACTIONS: usize = 1_000;
/// Most bytes of input data that are kept; the largest that Ethereum's public pool relays. What lies beyond is cut off:
/// a reference there is not found, and weaker evidence decides.
const MAX_INPUT_BYTES: usize = 128 * 1024;
const RECEIPT: &str = "eth_getTransactionReceipt";
const TRANSACTION: &str = "eth_getTransactionByHash";

/// A hint that a transaction holds income.
#[derive(Debug, Clone)]
pub(crate) struct Hit {
    pub(crate) tx_hash: B256,
    pub(crate) block: Block,
    pub(crate) kind: Kind,
}

/// Where in the transaction it is.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    /// A log.
    Token { transfer: TokenTransfer, log: Box<Log> },
    /// The transaction's own value.
    Native { from: Address, to: Address, value: U256 },
}

/// A transaction as a node shows it.
pub(crate) enum Envelope {
    /// Its fields hash to the hash that the node gives it.
    Proven(Box<TxEnvelope>),
    /// Of a type, or without the signature, that would let us tell.
    Unknown,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Receipt {
    transaction_hash: B256,
    block_hash: Option<B256>,
    #[serde(default, with = "alloy::serde::quantity::opt")]
    block_number: Option<u64>,
    #[serde(default, with = "alloy::serde::quantity::opt")]
    transaction_index: Option<u64>,
    #[serde(default, with = "alloy::serde::quantity::opt")]
    status: Option<u64>,
    from: Address,
    #[serde(with = "alloy::serde::quantity")]
    gas_used: u64,
    effective_gas_price: Option<U256>,
    /// What the OP stack charges for the data on its base chain.
    l1_fee: Option<U256>,
    #[serde(deserialize_with = "null_as_empty")]
    logs: Vec<Log>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Transaction {
    hash: B256,
    block_hash: Option<B256>,
    from: Address,
    to: Option<Address>,
    value: U256,
    #[serde(with = "alloy::serde::quantity")]
    nonce: u64,
    input: Bytes,
    gas_price: Option<U256>,
}

#[derive(Deserialize)]
struct Signature {
    hash: B256,
    r: Option<U256>,
    s: Option<U256>,
}

/// Transfers with evidence that holds, ordered by block, transaction index and position, and those without.
#[derive(Default)]
pub(crate) struct Gathered {
    pub(crate) transfers: Vec<ObservedTransfer>,
    pub(crate) unverifiable: Vec<UnverifiableTransfer>,
}

/// Evidence of transactions, as far as it was fetched.
type Fetched = BTreeMap<B256, Result<Evidence, ChainError>>;

/// Fetches and checks the evidence of every hit in blocks up to `last`. A hit whose evidence is missing, unreadable or untrue
/// is set aside. Who answered is asked last, so that nothing counts of a node that was put in another one's place.
pub(crate) async fn gather(client: &EvmClient, hits: Vec<Hit>, last: &Block) -> Result<Gathered, ChainError> {
    let hashes: Vec<B256> = hits.iter().map(|hit| hit.tx_hash).collect::<BTreeSet<_>>().into_iter().collect();
    if hashes.is_empty() {
        return Ok(Gathered::default());
    }
    if hashes.len() > MAX_TRANSACTIONS && hits.iter().any(|hit| hit.block != *last) {
        return Err(ChainError::RangeTooLarge { limit: None });
    }
    let mut evidence = Fetched::new();
    let mut again = 0..ASK_AGAIN;
    loop {
        match fetch(client, &hashes, last, &mut evidence).await {
            Err(error) if error.is_behind() && again.next().is_some() => continue,
            other => other?,
        }
        let is_complete = hashes.iter().all(|hash| matches!(evidence.get(hash), Some(Ok(_))));
        if is_complete || again.next().is_none() {
            break;
        }
    }
    let (mut found, mut unverifiable) = (Vec::with_capacity(hits.len()), Vec::new());
    for hit in &hits {
        let transfer = match evidence.get(&hit.tx_hash) {
            Some(Ok(evidence)) => {
                evidence.transfer(hit).map(|transfer| (evidence.index, transfer)).map_err(|error| error.to_string())
            }
            Some(Err(error)) => Err(error.to_string()),
            None => Err(malformed(RECEIPT, "it is missing from the batch").to_string()),
        };
        match transfer {
            Ok((index, Some(transfer))) => found.push((index, transfer)),
            Ok((_, None)) => {}
            Err(reason) => {
                tracing::warn!(
                    endpoint = client.name(),
                    block_number = hit.block.number,
                    tx_hash = %hit.tx_hash,
                    reason,
                    "a transfer cannot be verified and is set aside"
                );
                unverifiable.push(hit.unverifiable(reason));
            }
        }
    }
    found.sort_by_key(|(index, transfer)| (transfer.block.number, *index, transfer.position));
    Ok(Gathered { transfers: found.into_iter().map(|(_, transfer)| transfer).collect(), unverifiable })
}

impl Hit {
    fn unverifiable(&self, reason: String) -> UnverifiableTransfer {
        let (position, log_index, from, to, asset, value) = match &self.kind {
            Kind::Token { transfer, log } => (
                Position::Unknown(log.log_index.unwrap_or_default()),
                log.log_index,
                transfer.from,
                transfer.to,
                Asset::Token(AccountAddress(transfer.contract)),
                transfer.value,
            ),
            Kind::Native { from, to, value } => (Position::Native, None, *from, *to, Asset::Native, *value),
        };
        UnverifiableTransfer {
            tx_hash: Hash(self.tx_hash),
            position,
            log_index,
            block: self.block,
            from: AccountAddress(from),
            to: AccountAddress(to),
            asset,
            units: Units(value),
            reason,
        }
    }
}

/// Asks for the evidence that is not there yet.
///
/// # Errors
/// The packet failed, or the endpoint does not hold `last`. A transaction without usable evidence is no error.
async fn fetch(client: &EvmClient, hashes: &[B256], last: &Block, evidence: &mut Fetched) -> Result<(), ChainError> {
    let wanted: Vec<B256> = hashes.iter().filter(|hash| !matches!(evidence.get(*hash), Some(Ok(_)))).copied().collect();
    let mut calls = Vec::with_capacity(wanted.len().saturating_mul(2).saturating_add(2));
    for hash in &wanted {
        calls.push(Call { method: RECEIPT, params: json!([hash]) });
        calls.push(Call { method: TRANSACTION, params: json!([hash]) });
    }
    calls.push(Call { method: CHAIN_ID, params: json!([]) });
    calls.push(header_call(last.number));
    let mut answers = client.rpc.each_grouped(&calls, 2, MAX_CALLS_PER_BATCH).await?;
    let (Some(header), Some(id)) = (answers.pop(), answers.pop()) else {
        return Err(malformed(CHAIN_ID, "it is missing from the batch"));
    };
    client.check_id(&id?)?;
    let header = header?;
    let mut answers = answers.into_iter();
    for hash in wanted {
        let (Some(receipt), Some(transaction)) = (answers.next(), answers.next()) else {
            return Err(malformed(RECEIPT, "it is missing from the batch"));
        };
        let read = match (receipt, transaction) {
            // The endpoint wants a rest: nothing is wrong with the transfer.
            (Err(error @ (ChainError::RateLimited { .. } | ChainError::QuotaUsed)), _)
            | (_, Err(error @ (ChainError::RateLimited { .. } | ChainError::QuotaUsed))) => return Err(error),
            (Ok(receipt), Ok(transaction)) => Evidence::read(hash, &receipt, &transaction),
            (Err(error), _) | (_, Err(error)) => Err(error),
        };
        evidence.insert(hash, read);
    }
    check_tip(client, last, &header)
}

/// Where transactions stand, in the order of the question. Who answered is asked last, as for a hit.
pub(crate) async fn inclusions(client: &EvmClient, hashes: &[Hash]) -> Result<Vec<Option<Inclusion>>, ChainError> {
    if hashes.is_empty() {
        return Ok(Vec::new());
    }
    let mut calls = Vec::with_capacity(hashes.len().saturating_mul(2).saturating_add(1));
    for hash in hashes {
        calls.push(Call { method: RECEIPT, params: json!([hash.0]) });
        calls.push(Call { method: TRANSACTION, params: json!([hash.0]) });
    }
    calls.push(Call { method: CHAIN_ID, params: json!([]) });
    let answers = client.rpc.grouped(&calls, 2, MAX_CALLS_PER_BATCH).await?;
    let Some((id, answers)) = answers.split_last() else {
        return Err(malformed(CHAIN_ID, "it is missing from the batch"));
    };
    client.check_id(id)?;
    let mut found = Vec::with_capacity(hashes.len());
    for (hash, pair) in hashes.iter().zip(answers.chunks(2)) {
        let [receipt, transaction] = pair else { return Err(malformed(RECEIPT, "it is missing from the batch")) };
        found.push(match Evidence::read(hash.0, receipt, transaction) {
            Ok(evidence) => Some(evidence.inclusion()?),
            Err(ChainError::TransactionMissing { .. }) => None,
            Err(error) => return Err(error),
        });
    }
    Ok(found)
}

/// Reads a transaction and, if it is of a type that we can encode, holds the node to its hash. A side chain's state-sync
/// transactions look like old ones but are signed by nobody; their hash has another origin.
pub(crate) fn envelope(method: &'static str, raw: &RawValue) -> Result<Envelope, ChainError> {
    let stated: Signature = parse(method, raw)?;
    let signed = |part: Option<U256>| part.is_some_and(|part| !part.is_zero());
    if !signed(stated.r) || !signed(stated.s) {
        return Ok(Envelope::Unknown);
    }
    let Ok(envelope) = serde_json::from_str::<TxEnvelope>(raw.get()) else { return Ok(Envelope::Unknown) };
    if keccak256(envelope.encoded_2718()) != stated.hash {
        return Err(untrue(method, format!("transaction {} does not hash to its own name", stated.hash)));
    }
    Ok(Envelope::Proven(Box::new(envelope)))
}

/// A transaction and its receipt, which agree with each other.
struct Evidence {
    receipt: Receipt,
    transaction: Transaction,
    /// Place of the transaction in its block.
    index: u64,
    block_hash: B256,
    succeeded: bool,
    /// What of the transaction's input is kept.
    input: Arc<[u8]>,
}

impl Evidence {
    fn read(tx_hash: B256, receipt: &RawValue, transaction: &RawValue) -> Result<Self, ChainError> {
        let missing = || ChainError::TransactionMissing { tx_hash: Hash(tx_hash) };
        if is_null(receipt) || is_null(transaction) {
            return Err(missing());
        }
        let mut receipt: Receipt = parse(RECEIPT, receipt)?;
        let raw = transaction;
        let transaction: Transaction = parse(TRANSACTION, raw)?;
        if receipt.transaction_hash != tx_hash || transaction.hash != tx_hash {
            return Err(untrue(RECEIPT, format!("asked for {tx_hash}, it sent another transaction")));
        }
        let block_hash = receipt.block_hash.filter(|hash| transaction.block_hash == Some(*hash)).ok_or_else(missing)?;
        let index = receipt.transaction_index.ok_or_else(|| malformed(RECEIPT, "it has no transaction index"))?;
        if receipt.from != transaction.from {
            return Err(untrue(RECEIPT, "receipt and transaction name different senders"));
        }
        if let Envelope::Proven(envelope) = envelope(TRANSACTION, raw)?
            && envelope
                .signature()
                .recover_address_from_prehash(&envelope.signature_hash())
                .is_ok_and(|signer| signer != transaction.from)
        {
            return Err(untrue(TRANSACTION, "its sender is not who signed it"));
        }
        let succeeded = receipt.succeeded()?;
        // The ordinal is the log's identity, so it must not hang on the order in which the node lists them.
        receipt.logs.sort_by_key(|log| log.log_index);
        if receipt.logs.windows(2).any(|pair| matches!(pair, [one, next] if one.log_index == next.log_index)) {
            return Err(untrue(RECEIPT, "two of its logs have one index"));
        }
        let input = transaction.input.get(..MAX_INPUT_BYTES).unwrap_or(&transaction.input).into();
        Ok(Self { receipt, transaction, index, block_hash, succeeded, input })
    }

    /// The hit as a fact; `None` where it turns out to be none.
    fn transfer(&self, hit: &Hit) -> Result<Option<ObservedTransfer>, ChainError> {
        if self.block_hash != hit.block.hash.0 || self.receipt.block_number != Some(hit.block.number) {
            return Err(ChainError::NotOnChain {
                number: hit.block.number,
                expected: hit.block.hash,
                found: Some(Hash(self.block_hash)),
            });
        }
        let (position, log_index, from, to, asset, value, sole) = match &hit.kind {
            Kind::Token { transfer, log } => {
                if transfer.is_padded {
                    return Err(untrue(RECEIPT, "an address topic of the log holds more than an address"));
                }
                if !self.succeeded {
                    return Err(untrue(RECEIPT, "a failed transaction has no logs, yet one was reported"));
                }
                let ordinal = self.ordinal(log)?;
                let sole = self.count(transfer) == 1;
                let asset = Asset::Token(AccountAddress(transfer.contract));
                (Position::Log(ordinal), log.log_index, transfer.from, transfer.to, asset, transfer.value, sole)
            }
            Kind::Native { to, value, .. } => {
                if self.transaction.to != Some(*to) || self.transaction.value != *value {
                    return Err(untrue(TRANSACTION, "it is not as its block shows it"));
                }
                if !self.succeeded {
                    return Ok(None);
                }
                (Position::Native, None, self.transaction.from, *to, Asset::Native, *value, true)
            }
        };
        let gas_price = self.receipt.effective_gas_price.or(self.transaction.gas_price);
        Ok(Some(ObservedTransfer {
            tx_hash: Hash(hit.tx_hash),
            position,
            log_index,
            block: hit.block,
            from: AccountAddress(from),
            to: AccountAddress(to),
            asset,
            units: Units(value),
            sender: AccountAddress(self.transaction.from),
            sender_nonce: self.transaction.nonce,
            gas_used: self.receipt.gas_used,
            gas_price: Units(gas_price.ok_or_else(|| malformed(RECEIPT, "it has no effective gas price"))?),
            extra_fee: Units(self.receipt.l1_fee.unwrap_or_default()),
            input: self.input.clone(),
            sole,
        }))
    }

    /// Where it stands, and what it does there.
    fn inclusion(&self) -> Result<Inclusion, ChainError> {
        let block_number = self.receipt.block_number.filter(|number| i64::try_from(*number).is_ok());
        let block_number = block_number.ok_or_else(|| malformed(RECEIPT, "it names no block number of 63 bits"))?;
        let mut transfers = Vec::new();
        if self.succeeded {
            let Transaction { from, to, value, .. } = self.transaction;
            if let Some(to) = to.filter(|_| !value.is_zero()) {
                let (from, to) = (AccountAddress(from), AccountAddress(to));
                let (position, asset, units) = (Position::Native, Asset::Native, Units(value));
                transfers.push(ShownTransfer { position, asset, from, to, units });
            }
            for (ordinal, log) in (0_u32..).zip(&self.receipt.logs) {
                let Some(TokenTransfer { contract, from, to, value, is_padded: false }) = transfer_of(log) else {
                    continue;
                };
                transfers.push(ShownTransfer {
                    position: Position::Log(ordinal),
                    asset: Asset::Token(AccountAddress(contract)),
                    from: AccountAddress(from),
                    to: AccountAddress(to),
                    units: Units(value),
                });
            }
        }
        Ok(Inclusion { block_number, block_hash: Hash(self.block_hash), succeeded: self.succeeded, transfers })
    }

    /// The log's place among the logs of its own transaction.
    fn ordinal(&self, log: &Log) -> Result<u32, ChainError> {
        let ordinal = self.receipt.logs.iter().position(|own| own.log_index == log.log_index && own.inner == log.inner);
        let ordinal = ordinal.ok_or_else(|| untrue(RECEIPT, "it does not hold the log that was reported of it"))?;
        u32::try_from(ordinal).map_err(|_| malformed(RECEIPT, "it has more logs than a block can hold"))
    }

    /// How many transfers of this token to this recipient the transaction holds, empty ones included: to call the only
    /// real one the only one would let a payer point two orders at one transaction.
    fn count(&self, transfer: &TokenTransfer) -> usize {
        let same = |other: &TokenTransfer| other.contract == transfer.contract && other.to == transfer.to;
        self.receipt.logs.iter().filter_map(transfer_of).filter(same).count()
    }
}

impl Receipt {
    fn succeeded(&self) -> Result<bool, ChainError> {
        match self.status {
            Some(0) => Ok(false),
            Some(1) => Ok(true),
            _ => Err(malformed(RECEIPT, "its status is neither 0 nor 1")),
        }
    }
}
