//! Stored rows as JSON-RPC shows them.

use alloy::consensus::transaction::Recovered;
use alloy::consensus::{EMPTY_ROOT_HASH, Transaction as _, TxEnvelope};
use alloy::primitives::{B256, Log};
use alloy::rpc::types::{Block, BlockTransactions, Header, Log as RpcLog, Transaction, TransactionReceipt};
use cryptopay_entity::{sandbox_block, sandbox_transaction};

use crate::chain::block::receipt as consensus_receipt;
use crate::chain::transaction::effective_gas_price;
use crate::error::{SimulationError, read, unsigned};

/// The block that holds a transaction, as its transactions name it.
pub(super) struct Home {
    number: u64,
    hash: B256,
    timestamp: u64,
}

impl Home {
    pub(super) fn of(row: &sandbox_block::Model) -> Result<Self, SimulationError> {
        Ok(Self { number: unsigned(row.number)?, hash: row.hash.0, timestamp: unsigned(row.block_time.as_secs())? })
    }
}

/// The header of a block.
pub(super) fn header(row: &sandbox_block::Model) -> Result<Header, SimulationError> {
    read("header", &row.header)
}

/// Whether a block holds no transaction, so that there is no need to look for any.
pub(super) fn is_empty(header: &Header) -> bool {
    header.inner.transactions_root == EMPTY_ROOT_HASH
}

/// A block with its transactions, whole or by hash.
pub(super) fn block(
    row: &sandbox_block::Model,
    header: Header,
    transactions: &[sandbox_transaction::Model],
    full: bool,
) -> Result<Block, SimulationError> {
    let transactions = if full {
        let home = Home::of(row)?;
        let shown = transactions.iter().map(|held| transaction(held, Some(&home)));
        BlockTransactions::Full(shown.collect::<Result<_, _>>()?)
    } else {
        BlockTransactions::Hashes(transactions.iter().map(|held| held.tx_hash.0).collect())
    };
    Ok(Block { header, uncles: Vec::new(), transactions, withdrawals: None })
}

/// A transaction, in its block or waiting.
pub(super) fn transaction(
    row: &sandbox_transaction::Model,
    home: Option<&Home>,
) -> Result<Transaction, SimulationError> {
    let envelope: TxEnvelope = read("transaction", &row.transaction_json)?;
    Ok(Transaction {
        effective_gas_price: home.map(|_| effective_gas_price(&envelope)),
        inner: Recovered::new_unchecked(envelope, row.sender.0),
        block_hash: home.map(|home| home.hash),
        block_number: home.map(|home| home.number),
        transaction_index: home.map(|_| index(row)).transpose()?,
        block_timestamp: home.map(|home| home.timestamp),
    })
}

/// The receipt of a mined transaction.
pub(super) fn receipt(row: &sandbox_transaction::Model, home: &Home) -> Result<TransactionReceipt, SimulationError> {
    let envelope: TxEnvelope = read("transaction", &row.transaction_json)?;
    let cumulative = row.cumulative_gas.ok_or(SimulationError::Incomplete("transaction"))?;
    Ok(TransactionReceipt {
        inner: consensus_receipt(unsigned(cumulative)?, logs(row, home)?),
        transaction_hash: row.tx_hash.0,
        transaction_index: Some(index(row)?),
        block_hash: Some(home.hash),
        block_number: Some(home.number),
        gas_used: unsigned(row.gas_used)?,
        effective_gas_price: effective_gas_price(&envelope),
        blob_gas_used: None,
        blob_gas_price: None,
        from: row.sender.0,
        to: envelope.to(),
        contract_address: None,
    })
}

/// The logs of a mined transaction.
pub(super) fn logs(row: &sandbox_transaction::Model, home: &Home) -> Result<Vec<RpcLog>, SimulationError> {
    let first = unsigned(row.first_log_index.ok_or(SimulationError::Incomplete("transaction"))?)?;
    let transaction_index = index(row)?;
    let logs: Vec<Log> = read("list of logs", &row.logs)?;
    let shown = (first..).zip(logs).map(|(log_index, inner)| RpcLog {
        inner,
        block_hash: Some(home.hash),
        block_number: Some(home.number),
        block_timestamp: Some(home.timestamp),
        transaction_hash: Some(row.tx_hash.0),
        transaction_index: Some(transaction_index),
        log_index: Some(log_index),
        removed: false,
    });
    Ok(shown.collect())
}

fn index(row: &sandbox_transaction::Model) -> Result<u64, SimulationError> {
    unsigned(row.tx_index.ok_or(SimulationError::Incomplete("transaction"))?)
}
