//! Builds a block: the header that commits to its transactions and receipts, and the place of each transaction in it.
//!
//! Pure but for the salt. Every block has one, so that no two blocks are ever the same, not even the first ones of two
//! chains or an empty block and the one that replaces it.

use alloy::consensus::proofs::{calculate_receipt_root, calculate_transaction_root};
use alloy::consensus::{Eip658Value, Header, Receipt, ReceiptEnvelope, ReceiptWithBloom, TxEnvelope};
use alloy::primitives::{B256, Bloom, Bytes, Log, logs_bloom};
use alloy::rpc::types::Header as RpcHeader;
use cryptopay_domain::address::Hash;
use cryptopay_domain::time::Timestamp;
use cryptopay_entity::{sandbox_block, sandbox_transaction};

use crate::chain::transaction::BASE_FEE;
use crate::error::{SimulationError, column, read, unsigned, written};

/// Gas that a block may use, unless its transactions need more: there is no gas market here, a block takes what waits.
const GAS_LIMIT: u64 = 60_000_000;

/// What a block is made of.
pub(crate) struct Draft<'a> {
    pub(crate) chain: &'a str,
    pub(crate) number: i64,
    /// Hash of the block below; zero for the first.
    pub(crate) parent: Hash,
    pub(crate) time: Timestamp,
    /// In their order in the block.
    pub(crate) transactions: &'a [sandbox_transaction::Model],
}

/// A block and where each of its transactions stands in it.
pub(crate) struct Built {
    pub(crate) row: sandbox_block::Model,
    pub(crate) places: Vec<sandbox_transaction::Place>,
}

/// Builds a block.
pub(crate) fn build(draft: &Draft<'_>) -> Result<Built, SimulationError> {
    let mut envelopes = Vec::with_capacity(draft.transactions.len());
    let mut receipts = Vec::with_capacity(draft.transactions.len());
    let mut places = Vec::with_capacity(draft.transactions.len());
    let mut bloom = Bloom::ZERO;
    let (mut gas, mut logs_before) = (0_u64, 0_usize);
    for (index, transaction) in draft.transactions.iter().enumerate() {
        let logs: Vec<Log> = read("list of logs", &transaction.logs)?;
        gas = gas.saturating_add(unsigned(transaction.gas_used)?);
        places.push(sandbox_transaction::Place {
            id: transaction.id,
            block_number: draft.number,
            tx_index: column(index)?,
            first_log_index: column(logs_before)?,
            cumulative_gas: column(gas)?,
        });
        logs_before = logs_before.saturating_add(logs.len());
        envelopes.push(read::<TxEnvelope>("transaction", &transaction.transaction_json)?);
        let receipt = receipt(gas, logs);
        bloom.accrue_bloom(receipt.logs_bloom());
        receipts.push(receipt);
    }
    let header = Header {
        parent_hash: draft.parent.0,
        transactions_root: calculate_transaction_root(&envelopes),
        receipts_root: calculate_receipt_root(&receipts),
        logs_bloom: bloom,
        number: unsigned(draft.number)?,
        gas_limit: gas.max(GAS_LIMIT),
        gas_used: gas,
        timestamp: unsigned(draft.time.as_secs())?,
        extra_data: Bytes::from(rand::random::<[u8; 16]>()),
        state_root: B256::ZERO,
        base_fee_per_gas: Some(BASE_FEE),
        ..Header::default()
    };
    let shown = RpcHeader::new(header);
    let row = sandbox_block::Model {
        chain: draft.chain.to_owned(),
        number: draft.number,
        hash: Hash(shown.hash),
        header: written("header", &shown)?,
        block_time: draft.time,
    };
    Ok(Built { row, places })
}

/// The receipt of a transaction that succeeded, as the receipts trie holds it. All transactions here are of type 2, which
/// every dialect of receipts encodes in the same way.
pub(crate) fn receipt<L: AsRef<Log>>(cumulative_gas_used: u64, logs: Vec<L>) -> ReceiptEnvelope<L> {
    let logs_bloom = logs_bloom(logs.iter().map(AsRef::as_ref));
    let receipt = Receipt { status: Eip658Value::Eip658(true), cumulative_gas_used, logs };
    ReceiptEnvelope::Eip1559(ReceiptWithBloom { receipt, logs_bloom })
}
