//! Blocks, by height, tag or hash.

use alloy::eips::BlockId;
use alloy::primitives::{B256, U64};
use alloy::rpc::types::{Block, BlockNumberOrTag, TransactionReceipt};
use cryptopay_domain::address::Hash;
use cryptopay_entity::txn::begin_snapshot;
use cryptopay_entity::{sandbox_block, sandbox_transaction};
use sea_orm::{ConnectionTrait, DbErr};

use super::{Fault, Node, RpcError, views};
use crate::chain::mining;
use crate::error::{column, unsigned};

/// How a block is named.
#[derive(Clone, Copy)]
enum Name {
    Number(i64),
    Hash(Hash),
}

pub(super) async fn newest_number(node: Node<'_>) -> Result<U64, RpcError> {
    // A block that is due is mined, also where the node does not show it.
    let head = mining::head(node.database, node.chain).await?;
    Ok(U64::from(unsigned(node.newest(head.number))?))
}

pub(super) async fn by_number(node: Node<'_>, tag: BlockNumberOrTag, full: bool) -> Result<Option<Block>, RpcError> {
    if tag.is_latest() || tag.is_pending() {
        let head = mining::head(node.database, node.chain).await?;
        let name = Name::Number(node.newest(head.number));
        let row = if node.shows(head.number) { Some(head) } else { find(node.database, node, name).await? };
        return show(node, row, name, full).await;
    }
    let name = Name::Number(resolve(node, tag).await?);
    show(node, find(node.database, node, name).await?, name, full).await
}

pub(super) async fn by_hash(node: Node<'_>, hash: B256, full: bool) -> Result<Option<Block>, RpcError> {
    let name = Name::Hash(Hash(hash));
    show(node, find(node.database, node, name).await?, name, full).await
}

pub(super) async fn receipts(node: Node<'_>, block: BlockId) -> Result<Option<Vec<TransactionReceipt>>, RpcError> {
    let name = match block {
        BlockId::Hash(hash) => Name::Hash(Hash(hash.block_hash)),
        BlockId::Number(tag) => Name::Number(resolve(node, tag).await?),
    };
    let snapshot = begin_snapshot(node.database).await?;
    let Some(row) = find(&snapshot, node, name).await? else { return Ok(None) };
    let held = sandbox_transaction::Entity::in_blocks(&snapshot, &node.chain.slug, row.number..=row.number).await?;
    snapshot.commit().await?;
    let home = views::Home::of(&row)?;
    Ok(Some(held.iter().map(|transaction| views::receipt(transaction, &home)).collect::<Result<_, _>>()?))
}

/// The height that a tag stands for. Asking for one that hangs on the head mines a block if one is due.
pub(super) async fn resolve(node: Node<'_>, tag: BlockNumberOrTag) -> Result<i64, RpcError> {
    let below_head = match tag {
        // Beyond what a column holds there is no block either.
        BlockNumberOrTag::Number(number) => return Ok(i64::try_from(number).unwrap_or(i64::MAX)),
        BlockNumberOrTag::Earliest => {
            let oldest = sandbox_block::Entity::oldest(node.database, &node.chain.slug).await?;
            return Ok(oldest.map_or(0, |block| block.number));
        }
        BlockNumberOrTag::Latest | BlockNumberOrTag::Pending => 0,
        BlockNumberOrTag::Safe => node.chain.confirmations,
        BlockNumberOrTag::Finalized => node.chain.reorg_depth,
    };
    let head = mining::head(node.database, node.chain).await?;
    match node.fault.and_then(Fault::tags_stand_at) {
        Some(number) if below_head > 0 => Ok(number),
        _ => Ok(node.newest(head.number).saturating_sub(column(below_head)?).max(0)),
    }
}

/// Shows a block that was just read. Where it holds transactions, block and transactions are read together, so that a
/// reorganisation cannot come between them.
async fn show(
    node: Node<'_>,
    row: Option<sandbox_block::Model>,
    name: Name,
    full: bool,
) -> Result<Option<Block>, RpcError> {
    let Some(row) = row else { return Ok(None) };
    let header = views::header(&row)?;
    if views::is_empty(&header) {
        return Ok(Some(views::block(&row, header, &[], full)?));
    }
    let snapshot = begin_snapshot(node.database).await?;
    let Some(row) = find(&snapshot, node, name).await? else { return Ok(None) };
    let held = sandbox_transaction::Entity::in_blocks(&snapshot, &node.chain.slug, row.number..=row.number).await?;
    snapshot.commit().await?;
    Ok(Some(views::block(&row, views::header(&row)?, &held, full)?))
}

async fn find(
    connection: &impl ConnectionTrait,
    node: Node<'_>,
    name: Name,
) -> Result<Option<sandbox_block::Model>, DbErr> {
    let found = match name {
        Name::Number(number) => sandbox_block::Entity::at(connection, &node.chain.slug, number).await?,
        Name::Hash(hash) => sandbox_block::Entity::with_hash(connection, &node.chain.slug, hash).await?,
    };
    Ok(found.filter(|block| node.shows(block.number)))
}
