//! Transactions and receipts, by hash.

use alloy::primitives::B256;
use alloy::rpc::types::{Transaction, TransactionReceipt};
use cryptopay_domain::address::Hash;
use cryptopay_entity::txn::begin_snapshot;
use cryptopay_entity::{sandbox_block, sandbox_transaction};

use super::{Node, RpcError, views};
use crate::SimulationError;

/// A transaction, mined or waiting. One that a reorganisation dropped is unknown.
pub(super) async fn by_hash(node: Node<'_>, hash: B256) -> Result<Option<Transaction>, RpcError> {
    let Some((row, home)) = find(node, hash).await? else { return Ok(None) };
    Ok(Some(views::transaction(&row, home.as_ref())?))
}

/// The receipt of a mined transaction.
pub(super) async fn receipt(node: Node<'_>, hash: B256) -> Result<Option<TransactionReceipt>, RpcError> {
    let Some((row, Some(home))) = find(node, hash).await? else { return Ok(None) };
    Ok(Some(views::receipt(&row, &home)?))
}

async fn find(
    node: Node<'_>,
    hash: B256,
) -> Result<Option<(sandbox_transaction::Model, Option<views::Home>)>, RpcError> {
    let slug = &node.chain.slug;
    let snapshot = begin_snapshot(node.database).await?;
    let found = sandbox_transaction::Entity::with_hash(&snapshot, slug, Hash(hash)).await?;
    let is_sent = |row: &sandbox_transaction::Model| row.dropped_at.is_none() && row.replaces.is_none();
    let Some(row) = found.filter(is_sent) else { return Ok(None) };
    let Some(number) = row.block_number.filter(|number| node.shows(*number)) else { return Ok(Some((row, None))) };
    let block = sandbox_block::Entity::at(&snapshot, slug, number).await?;
    snapshot.commit().await?;
    let block = block.ok_or(SimulationError::Incomplete("transaction"))?;
    Ok(Some((row, Some(views::Home::of(&block)?))))
}
