//! A clean slate for one merchant of the sandbox: orders, payments, events, deliveries, wallets and endpoints are deleted as
//! if they had never been.
//!
//! What other merchants have stays, also where they share an address or a transfer. The numbers of the deleted events are
//! noted, so that the sequence can still be checked for gaps. Whoever works on something of this merchant meanwhile waits, and
//! then finds it gone: scans and confirmations at the cursor, who decides at the order, whoever writes a row of the
//! merchant's at the account, whoever delivers at the delivery.

use std::collections::BTreeMap;

use cryptopay_domain::ids::{EndpointId, MerchantId, TransferId};
use cryptopay_domain::units::Units;
use cryptopay_entity::{
    allocation, amount_reservation, chain_cursor, event, event_counter, idempotency_key, merchant, merchant_transfer,
    merchant_wallet, payment_order, receiving_address, removed_event, transfer, webhook_attempt, webhook_breaker,
    webhook_delivery, webhook_endpoint,
};
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter};

use crate::error::LedgerError;

/// What is gone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Deleted {
    /// Orders.
    pub orders: u64,
    /// Transfers that only this merchant saw.
    pub transfers: u64,
    /// Events.
    pub events: u64,
    /// Webhook deliveries.
    pub deliveries: u64,
    /// Wallets.
    pub wallets: u64,
    /// Webhook endpoints.
    pub endpoints: u64,
}

/// Deletes everything of a merchant but the account with its logins, its API keys, and these endpoints. The caller has locked
/// the account.
pub async fn reset(
    txn: &DatabaseTransaction,
    merchant: MerchantId,
    kept: &[EndpointId],
) -> Result<Deleted, LedgerError> {
    // In the one order of locks; the account last, since whoever holds the others may be about to write rows of it.
    chain_cursor::Entity::lock_all(txn).await?;
    let transfers = transfer::Entity::lock_of_merchant(txn, merchant).await?;
    let owned = payment_order::Entity::lock_owned(txn, merchant).await?;
    merchant::Entity::lock_out(txn, merchant).await?;

    webhook_delivery::Entity::unclaim_owned(txn, merchant).await?;
    webhook_attempt::Entity::delete_owned(txn, merchant).await?;
    let deliveries = webhook_delivery::Entity::delete_owned(txn, merchant).await?;
    webhook_breaker::Entity::delete_owned(txn, merchant).await?;
    let endpoints = webhook_endpoint::Entity::delete_owned_but(txn, merchant, kept).await?;

    allocation::Entity::delete_owned(txn, merchant).await?;
    merchant_transfer::Entity::delete_owned(txn, merchant).await?;
    // Nobody numbers events while the counter is locked.
    event_counter::Entity::last(txn).await?;
    removed_event::Entity::note(txn, merchant).await?;
    let events = event::Entity::delete_owned(txn, merchant).await?;
    let gone = transfer::Entity::delete_unseen(txn, transfers.iter().copied()).await?;
    share_again(txn, transfers).await?;
    transfer::Entity::forget_wrong_asset(txn, owned).await?;

    amount_reservation::Entity::delete_owned(txn, merchant).await?;
    let orders = payment_order::Entity::delete_owned(txn, merchant).await?;
    receiving_address::Entity::delete_owned(txn, merchant).await?;
    let wallets = merchant_wallet::Entity::delete_owned(txn, merchant).await?;
    idempotency_key::Entity::delete_owned(txn, merchant).await?;
    Ok(Deleted { orders, transfers: gone, events, deliveries, wallets, endpoints })
}

/// Corrects what transfers that others see as well remember of their live shares.
async fn share_again(txn: &DatabaseTransaction, transfers: Vec<TransferId>) -> Result<(), LedgerError> {
    let kept = transfer::Entity::numbered(txn, transfers).await?;
    if kept.is_empty() {
        return Ok(());
    }
    let mut shares: BTreeMap<TransferId, Units> = BTreeMap::new();
    for row in allocation::Entity::of_transfers(txn, kept.iter().map(|row| row.id)).await? {
        if row.reversed_at.is_none() {
            let sum = shares.entry(row.transfer_id).or_default();
            *sum = sum.saturating_add(row.units);
        }
    }
    for row in kept {
        let allocated = shares.get(&row.id).copied().unwrap_or_default();
        if allocated != row.allocated_units {
            transfer::Entity::update_many()
                .col_expr(transfer::Column::AllocatedUnits, Expr::value(allocated))
                .col_expr(transfer::Column::Version, Expr::value(row.version.saturating_add(1)))
                .filter(transfer::Column::Id.eq(row.id))
                .exec(txn)
                .await?;
        }
    }
    Ok(())
}
