//! Orders as they are shown, made from rows.

use std::collections::BTreeMap;

use cryptopay_domain::ids::OrderId;
use cryptopay_domain::order::ChainView;
use cryptopay_entity::{allocation, chain_cursor, payment_order, transfer};
use sea_orm::ConnectionTrait;

use super::OrderView;
use crate::error::ApiError;

/// Orders as they are answered with: three statements for their transfers, however many orders, and none while nothing
/// was received.
///
/// # Errors
/// Only failures of the database.
pub async fn views(
    connection: &impl ConnectionTrait,
    orders: Vec<payment_order::Model>,
) -> Result<Vec<OrderView>, ApiError> {
    let newest = newest_payments(connection, &orders).await?;
    let mut chains: BTreeMap<String, ChainView> = BTreeMap::new();
    if !newest.is_empty() {
        for cursor in chain_cursor::Entity::list(connection).await? {
            let view = cursor.view();
            chains.insert(cursor.chain, view);
        }
    }
    let view = |order: &payment_order::Model| {
        let payment = newest.get(&order.id).map(|transfer| {
            let chain = chains.get(&order.chain).copied().unwrap_or_default();
            cryptopay_ledger::payment(transfer, order, &chain)
        });
        cryptopay_ledger::snapshot(order, payment)
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

/// The newest transfer that counts, of each order that has one. Where nothing was received nothing counts.
///
/// # Errors
/// Only failures of the database.
pub(crate) async fn newest_payments(
    connection: &impl ConnectionTrait,
    orders: &[payment_order::Model],
) -> Result<BTreeMap<OrderId, transfer::Model>, ApiError> {
    let paid: Vec<_> = orders.iter().filter(|order| !order.received_units.is_zero()).map(|order| order.id).collect();
    if paid.is_empty() {
        return Ok(BTreeMap::new());
    }
    let mut shares = allocation::Entity::live_of_orders(connection, paid).await?;
    shares.retain(|share| share.counted);
    let rows = transfer::Entity::by_ids(connection, shares.iter().map(|share| share.transfer_id)).await?;
    let rows: BTreeMap<_, _> = rows.into_iter().map(|row| (row.id, row)).collect();
    let mut of_orders: BTreeMap<OrderId, Vec<&transfer::Model>> = BTreeMap::new();
    for share in &shares {
        of_orders.entry(share.order_id).or_default().extend(rows.get(&share.transfer_id));
    }
    let newest = |(order, transfers)| Some((order, cryptopay_ledger::newest(transfers)?.clone()));
    Ok(of_orders.into_iter().filter_map(newest).collect())
}
