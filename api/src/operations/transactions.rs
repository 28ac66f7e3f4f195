//! Transactions: transfers as the chain shows them, and the orders that they pay.
//!
//! A merchant sees the transfers that its orders have a share of, and those that belong to nobody but came to an address
//! that it held when they were recorded. Statuses and confirmations go by the verified heights, read once per request.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use cryptopay_domain::address::Hash;
use cryptopay_domain::amount::format_units;
use cryptopay_domain::ids::{OrderId, OrderRef, TransferId};
use cryptopay_domain::matching::Method;
use cryptopay_domain::order::{ChainView, TransferSnapshot};
use cryptopay_domain::transfer::Position;
use cryptopay_domain::units::Units;
use cryptopay_entity::transfer::{ChainDepth, TransferFilter};
use cryptopay_entity::{allocation, chain_cursor, payment_order, transfer};
use sea_orm::{ConnectionTrait, DbErr};

use super::counts::Span;
use super::pages::{Asked, ListPage};
use crate::app::App;
use crate::error::ApiError;
use crate::principal::Principal;

/// Decimals of every native coin that is not registered any more: all EVM chains count in wei.
const WEI_DECIMALS: u8 = 18;

/// A transfer with the order that it pays.
#[derive(Debug, Clone)]
pub struct TransferView {
    /// The stored fact.
    pub transfer: transfer::Model,
    /// The same as it is shown, at the verified height.
    pub shown: TransferSnapshot,
    /// The order that was asked about, or else the first of the merchant's orders that has a share of it.
    pub order: Option<payment_order::Model>,
    /// Every share that the merchant's orders have of it, oldest first.
    pub shares: Vec<ShareView>,
    /// What of it belongs to no order.
    pub unassigned: String,
    /// How it found its order.
    pub method: Option<Method>,
    /// Why it was matched or not, as JSON.
    pub evidence: String,
}

/// What an order has of a transfer.
#[derive(Debug, Clone)]
pub struct ShareView {
    /// Public id of the order.
    pub order_id: OrderRef,
    /// How much of the transfer is this order's.
    pub amount: String,
    /// How it found this order.
    pub method: Method,
}

/// A transaction with every transfer in it that the merchant may see.
#[derive(Debug, Clone)]
pub struct TransactionView {
    /// The first transfer by position: the transaction's own value, then its logs.
    pub first: TransferView,
    /// All of them, the first included.
    pub transfers: Vec<TransferView>,
    /// What the transaction cost its sender, in the chain's native coin.
    pub fee: String,
}

/// A page of transfers.
///
/// # Errors
/// `NOT_FOUND` past the end; a fault of `after`.
pub async fn list(
    app: &App,
    principal: &Principal,
    filter: &TransferFilter,
    asked: &Asked,
) -> Result<ListPage<TransferView>, ApiError> {
    let (database, merchant) = (app.database(), principal.merchant_id());
    let depths = depths(app, database).await?;
    let place = match asked.after.as_deref().and_then(super::number) {
        Some(id) => transfer::Entity::find_visible(database, merchant, TransferId(id)).await?.map(|row| row.place()),
        None => None,
    };
    let count = count(app, principal, filter, &depths).await?;
    let read = |window| transfer::Entity::list_visible(database, merchant, filter, &depths, window);
    let mut page = asked.page(count, place, read, |row| row.id.to_string()).await?;
    let views = views(app, principal, std::mem::take(&mut page.rows), filter.order, &depths).await?;
    Ok(page.with(views))
}

async fn count(
    app: &App,
    principal: &Principal,
    filter: &TransferFilter,
    depths: &[ChainDepth],
) -> Result<u64, ApiError> {
    let (database, merchant) = (app.database(), principal.merchant_id());
    // In the sandbox an address may have several holders, and what one of them is given the others see no longer.
    if !filter.is_lasting() || app.is_sandbox() {
        return Ok(transfer::Entity::count_visible(database, merchant, filter, depths).await?);
    }
    let list = format!("transfers {merchant} {filter:?}");
    let counted = app.counts.of(database, list, |span: Span| {
        let part = TransferFilter {
            created_after: span.after(filter.created_after),
            created_before: span.before(filter.created_before),
            ..filter.clone()
        };
        async move { transfer::Entity::count_visible(database, merchant, &part, depths).await }
    });
    Ok(counted.await?)
}

/// One transaction by its hash; `blockchain` is needed only where several chains have it.
///
/// # Errors
/// `NOT_FOUND`, also for a text that is no hash; a fault of `blockchain` where it has to be named.
pub async fn get(
    app: &App,
    principal: &Principal,
    hash: &str,
    blockchain: Option<&str>,
) -> Result<TransactionView, ApiError> {
    let not_found = || ApiError::not_found("transaction");
    let hash: Hash = hash.to_lowercase().parse().map_err(|_| not_found())?;
    let mut rows = transfer::Entity::visible_with_hash(app.database(), principal.merchant_id(), hash).await?;
    if let Some(slug) = blockchain {
        rows.retain(|row| row.chain.eq_ignore_ascii_case(slug));
    }
    let chains: BTreeSet<&str> = rows.iter().map(|row| row.chain.as_str()).collect();
    if chains.len() > 1 {
        let known = chains.into_iter().collect::<Vec<_>>().join(", ");
        let problem = format!("Several blockchains have a transaction with this hash. Name one of: {known}.");
        return Err(ApiError::field("blockchain", problem));
    }
    let depths = depths(app, app.database()).await?;
    let transfers = views(app, principal, current(rows), None, &depths).await?;
    let first = transfers.first().cloned().ok_or_else(not_found)?;
    Ok(TransactionView { fee: fee(app, &first.transfer), first, transfers })
}

/// How deep each chain is verified.
async fn depths(app: &App, connection: &impl ConnectionTrait) -> Result<Vec<ChainDepth>, ApiError> {
    let cursors = chain_cursor::Entity::list(connection).await?;
    let depth = |cursor: chain_cursor::Model| ChainDepth {
        // Nothing on a chain that is not served any more becomes confirmed by depth.
        confirmations: app.chain(&cursor.chain).map_or(u32::MAX, |chain| chain.confirmations),
        seen: cursor.view(),
        chain: cursor.chain,
    };
    Ok(cursors.into_iter().map(depth).collect())
}

/// What stands in a transaction by now, by position: of one place that was mined again with other contents, the newest.
fn current(rows: Vec<transfer::Model>) -> Vec<transfer::Model> {
    let mut by_place: BTreeMap<(bool, Position), transfer::Model> = BTreeMap::new();
    for row in rows {
        let place = (row.position != Position::Native, row.position);
        let newer = by_place.get(&place).is_none_or(|known| known.generation < row.generation);
        if newer {
            by_place.insert(place, row);
        }
    }
    by_place.into_values().collect()
}

async fn views(
    app: &App,
    principal: &Principal,
    rows: Vec<transfer::Model>,
    asked: Option<OrderId>,
    depths: &[ChainDepth],
) -> Result<Vec<TransferView>, ApiError> {
    let ids: Vec<_> = rows.iter().map(|row| row.id).collect();
    let mut shares: BTreeMap<TransferId, Vec<Share>> = BTreeMap::new();
    if !ids.is_empty() {
        let merchant = principal.merchant_id();
        for (share, order) in allocation::Entity::live_with_orders(app.database(), merchant, ids).await? {
            shares.entry(share.transfer_id).or_default().push((share, order));
        }
    }
    let mut views = Vec::with_capacity(rows.len());
    for row in rows {
        let shares = shares.remove(&row.id).unwrap_or_default();
        let asset = match shares.first() {
            Some((_, order)) => (order.currency.clone(), cryptopay_ledger::decimals(order.decimals)),
            None => currency_of(app, &row).await?,
        };
        views.push(view(row, asset, shares, asked, depths));
    }
    Ok(views)
}

/// An order's share of a transfer, with the order.
type Share = (allocation::Model, payment_order::Model);

fn view(
    row: transfer::Model,
    (currency, decimals): (String, u8),
    shares: Vec<Share>,
    asked: Option<OrderId>,
    depths: &[ChainDepth],
) -> TransferView {
    let unassigned = format_units(row.unassigned_units(), decimals);
    let parts = shares.iter().map(|(share, order)| ShareView {
        order_id: order.order_id.clone(),
        amount: format_units(share.units, decimals),
        method: share.method,
    });
    let parts = parts.collect();
    let named = shares.iter().position(|(share, _)| Some(share.order_id) == asked).unwrap_or(0);
    let share = shares.into_iter().nth(named);
    let depth = depths.iter().find(|depth| depth.chain == row.chain);
    let chain = depth.map_or_else(ChainView::default, |depth| depth.seen);
    let shown = match &share {
        Some((_, order)) => cryptopay_ledger::payment(&row, order, &chain),
        None => {
            let required = depth.map_or(u32::MAX, |depth| depth.confirmations);
            cryptopay_ledger::transfer_snapshot(&row, &currency, decimals, required, &chain)
        }
    };
    let (method, evidence, order) = match share {
        Some((share, order)) => (Some(share.method), share.evidence, Some(order)),
        None => (None, row.evidence.clone(), None),
    };
    TransferView { shown, order, shares: parts, unassigned, method, evidence, transfer: row }
}

/// Symbol and decimals of a transfer's asset. An asset that left the registry has those of its orders; any other goes by its
/// contract, in base units.
pub(super) async fn currency_of(app: &App, row: &transfer::Model) -> Result<(String, u8), DbErr> {
    if let Some(token) = app.chain(&row.chain).and_then(|chain| chain.token_of(row.asset)) {
        return Ok((token.symbol.clone(), token.decimals));
    }
    let ordered = payment_order::Entity::asset_as_ordered(app.database(), &row.chain, row.asset).await?;
    Ok(ordered.map_or_else(
        || (row.asset.to_string(), 0),
        |(symbol, decimals)| (symbol, cryptopay_ledger::decimals(decimals)),
    ))
}

/// Gas × price and what the chain's receipt adds, as people read it.
fn fee(app: &App, row: &transfer::Model) -> String {
    let gas = Units::new(u128::try_from(row.gas_used).unwrap_or_default());
    let fee = Units(gas.0.saturating_mul(row.gas_price.0)).saturating_add(row.extra_fee);
    let decimals = app.chain(&row.chain).map_or(WEI_DECIMALS, |chain| chain.native.decimals);
    format_units(fee, decimals)
}
