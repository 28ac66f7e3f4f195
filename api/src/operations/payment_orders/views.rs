//! Orders as they are shown, made from rows.

use std::collections::{BTreeMap, BTreeSet};

use cryptopay_domain::ids::OrderId;
use cryptopay_entity::{allocation, chain_cursor, payment_order, transfer};
use sea_orm::{ConnectionTrait, EntityTrait};

use super::OrderView;
use crate::error::ApiError;

/// Orders as they are answered with: two statements for their transfers, however many orders.
///
/// # Errors
/// Only failures of the database.
pub async fn views(
    connection: &impl ConnectionTrait,
    orders: Vec<payment_order::Model>,
) -> Result<Vec<OrderView>, ApiError> {
    let mut transfers: BTreeMap<OrderId, Vec<transfer::Model>> = BTreeMap::new();
    let mut heights: BTreeMap<String, i64> = BTreeMap::new();
    if !orders.is_empty() {
        let allocations = allocation::Entity::live_of_orders(connection, orders.iter().map(|order| order.id)).await?;
        let counted: Vec<_> = allocations.into_iter().filter(|row| row.counted).collect();
        let ids: BTreeSet<_> = counted.iter().map(|row| row.transfer_id).collect();
        let rows = if ids.is_empty() { Vec::new() } else { transfer::Entity::by_ids(connection, ids).await? };
        for row in counted {
            if let Some(found) = rows.iter().find(|transfer| transfer.id == row.transfer_id) {
                transfers.entry(row.order_id).or_default().push(found.clone());
            }
        }
        for cursor in chain_cursor::Entity::find().all(connection).await? {
            heights.insert(cursor.chain, cursor.height);
        }
    }
    let view = |order: &payment_order::Model| {
        let newest = transfers.get(&order.id).and_then(cryptopay_ledger::newest);
        cryptopay_ledger::snapshot(order, newest, heights.get(&order.chain).copied().unwrap_or_default())
    };
    Ok(orders.iter().map(view).collect())
}

/// One order as it is answered with.
///
/// # Errors
/// Only failures of the database.
pub async fn one_view(connection: &impl ConnectionTrait, order: payment_order::Model) -> Result<OrderView, ApiError> {
    let mut views = views(connection, vec![order]).await?;
    views.pop().ok_or_else(|| ApiError::internal("an order without a view"))
}
