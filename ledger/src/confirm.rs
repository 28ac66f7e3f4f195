//! Payments that have become deep enough.

use std::collections::BTreeSet;

use cryptopay_domain::address::Hash;
use cryptopay_domain::ids::{OrderId, TransferId};
use cryptopay_domain::registry::Chain;
use cryptopay_domain::transfer::TransferState;
use cryptopay_entity::{allocation, chain_block, chain_cursor, payment_order, transfer};
use sea_orm::{ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, QueryFilter};

use crate::error::LedgerError;
use crate::nudges::Nudges;
use crate::record::orders_of;
use crate::rederive::{Occasion, rederive};

/// Most transfers that one pass looks at; the next pass takes the rest.
const BATCH: u64 = 1_000;

/// Blocks whose hash has to be named again before payments in them may be confirmed: ones that hold a transfer which is
/// deep enough for its order and was not announced there.
pub async fn blocks_to_check(
    connection: &impl ConnectionTrait,
    chain: &Chain,
) -> Result<BTreeSet<(i64, Hash)>, LedgerError> {
    let Some(cursor) = chain_cursor::Entity::of(connection, &chain.slug).await? else { return Ok(BTreeSet::new()) };
    let included = transfer::Entity::included_up_to(connection, &chain.slug, cursor.height, BATCH).await?;
    if included.is_empty() {
        return Ok(BTreeSet::new());
    }
    let allocations = allocation::Entity::of_transfers(connection, included.iter().map(|row| row.id)).await?;
    let waiting: Vec<&allocation::Model> = allocations.iter().filter(|row| row.reversed_at.is_none()).collect();
    let orders: BTreeSet<OrderId> = waiting.iter().map(|row| row.order_id).collect();
    if orders.is_empty() {
        return Ok(BTreeSet::new());
    }
    let orders = payment_order::Entity::find().filter(payment_order::Column::Id.is_in(orders)).all(connection).await?;
    let mut blocks = BTreeSet::new();
    for row in waiting {
        let Some(transfer) = included.iter().find(|transfer| transfer.id == row.transfer_id) else { continue };
        let Some(order) = orders.iter().find(|order| order.id == row.order_id) else { continue };
        let depth = cursor.height.saturating_sub(transfer.block_number).saturating_add(1);
        let tagged = cursor.final_height.is_some_and(|height| height >= transfer.block_number);
        let announced = row.announced_block == Some(transfer.block_hash);
        if !announced && (depth >= order.required_confirmations || tagged) {
            blocks.insert((transfer.block_number, transfer.block_hash));
        }
    }
    Ok(blocks)
}

/// Confirms what the blocks hold that were `checked`, and finalises what is beyond any reorganisation. The cursor is
/// locked: no scan moves it meanwhile.
pub async fn confirm(
    txn: &DatabaseTransaction,
    occasion: Occasion<'_>,
    chain: &Chain,
    checked: &BTreeSet<(i64, Hash)>,
    vouched_by: &str,
) -> Result<Nudges, LedgerError> {
    let Some(cursor) = chain_cursor::Entity::lock(txn, &chain.slug).await? else { return Ok(Nudges::default()) };
    let mut blocks = BTreeSet::new();
    for (number, hash) in checked {
        // A block that has left the window meanwhile, or was replaced in it, is vouched for by nobody.
        if chain_block::Entity::vouch(txn, &chain.slug, *number, *hash, vouched_by).await? {
            blocks.insert((*number, *hash));
        }
    }
    let included = transfer::Entity::included_up_to(txn, &chain.slug, cursor.height, BATCH).await?;
    let mut touched: Vec<TransferId> =
        included.iter().filter(|row| blocks.contains(&(row.block_number, row.block_hash))).map(|row| row.id).collect();
    let final_height = cursor.height.saturating_sub(i64::from(chain.reorg_depth)).saturating_add(1);
    let last_final: Vec<TransferId> =
        included.iter().filter(|row| row.block_number <= final_height).map(|row| row.id).collect();
    transfer::Entity::set_state(
        txn,
        last_final.clone(),
        TransferState::Included,
        TransferState::Final,
        None,
        occasion.now,
    )
    .await?;
    touched.extend(last_final);
    let orders = orders_of_if_any(txn, touched).await?;
    rederive(txn, occasion, &orders, &BTreeSet::new()).await
}

async fn orders_of_if_any(
    txn: &DatabaseTransaction,
    transfers: Vec<TransferId>,
) -> Result<BTreeSet<OrderId>, LedgerError> {
    if transfers.is_empty() { Ok(BTreeSet::new()) } else { orders_of(txn, transfers).await }
}

/// Whether a chain has transfers that may still change: what makes `confirm` worth calling.
pub async fn has_work(connection: &impl ConnectionTrait, chain: &Chain) -> Result<bool, LedgerError> {
    let some = transfer::Entity::included_up_to(connection, &chain.slug, i64::MAX, 1).await?;
    Ok(!some.is_empty())
}
