//! An address changes hands: whoever has signed with it takes it from a merchant who only claimed it.
//!
//! Orders that still wait for money there fail, for what comes belongs to somebody else. What was paid before stays
//! recorded and counts: an order that was paid in full goes on to its confirmation. From the same transaction on nothing
//! is matched to any order of the displaced merchant on that address, and its amounts cool, so that a payment on its way
//! is not taken for one of the owner's customers.

use std::collections::BTreeSet;

use cryptopay_domain::address::AccountAddress;
use cryptopay_domain::ids::{MerchantId, OrderId, WalletId};
use cryptopay_domain::merchant::Ownership;
use cryptopay_domain::order::{FailureReason, OrderStatus};
use cryptopay_domain::reservation::COOL_DOWN;
use cryptopay_domain::time::Timestamp;
use cryptopay_entity::{amount_reservation, chain_cursor, merchant_wallet, payment_order, receiving_address};
use sea_orm::DatabaseTransaction;

use crate::error::{LedgerError, Refusal};
use crate::nudges::Nudges;
use crate::rederive::{Occasion, rederive};

/// Who takes which address.
#[derive(Debug, Clone, Copy)]
pub struct Claimant<'a> {
    /// Slug of the chain.
    pub chain: &'a str,
    /// The address.
    pub address: AccountAddress,
    /// 0 in live mode.
    pub realm: i64,
    /// The owner.
    pub merchant: MerchantId,
    /// The owner's wallet.
    pub wallet: WalletId,
}

/// What became of the merchant who had the address.
#[derive(Debug)]
pub struct TakenOver {
    /// That merchant's wallet, disputed and inactive now; `None` if it was removed before.
    pub wallet: Option<merchant_wallet::Model>,
    /// That merchant's orders that failed.
    pub failed: usize,
    /// To be sent after commit.
    pub nudges: Nudges,
}

/// Moves a claim from the merchant who holds it to the proven owner. The caller has locked both merchants, in the order
/// of their ids. `None` if `from` does not hold it any more.
///
/// # Errors
/// [`Refusal::AddressProven`] if the holder has proven its ownership as well.
pub async fn take_over(
    txn: &DatabaseTransaction,
    occasion: Occasion<'_>,
    from: MerchantId,
    to: Claimant<'_>,
) -> Result<Option<TakenOver>, LedgerError> {
    // The cursor is locked, as by everything that locks several orders: a scan locks them block by block, not by id.
    let cursor = chain_cursor::Entity::lock(txn, to.chain).await?;
    let verified = cursor.map_or(occasion.now, |cursor| cursor.block_time);
    let held = receiving_address::Entity::lock_held(txn, to.chain, to.address, to.realm).await?;
    let Some(held) = held.filter(|held| held.merchant_id == from) else { return Ok(None) };
    if held.proven_at.is_some() {
        return Err(Refusal::AddressProven.into());
    }
    // Before the orders are read: an order on its way into the database holds a lock on this wallet.
    let wallet = dispute_wallet(txn, occasion, from, to).await?;
    receiving_address::Entity::release(txn, held.id, verified).await?;
    let claimed =
        receiving_address::Entity::claim(txn, to.chain, to.address, to.realm, to.merchant, to.wallet, occasion.now);
    if !claimed.await? {
        return Err(LedgerError::LostGuard);
    }
    receiving_address::Entity::prove(txn, to.merchant, to.chain, to.address, occasion.now).await?;

    let ids = payment_order::Entity::watched_on(txn, from, to.chain, to.address, verified).await?;
    let orders = payment_order::Entity::lock(txn, &ids).await?;
    let is_open = |order: &payment_order::Model| {
        order.closed_at.is_none() && order.canceled_at.is_none() && verified <= order.in_time_until
    };
    let open: Vec<OrderId> = orders.iter().filter(|order| is_open(order)).map(|order| order.id).collect();
    payment_order::Entity::displace(txn, open, occasion.now).await?;
    let nudges = rederive(txn, occasion, &ids, &BTreeSet::new()).await?;
    // Derived first: the remainder of a short payment is looked up among what is held.
    release_amounts(txn, &orders, verified.plus(COOL_DOWN), verified).await?;

    let failed = payment_order::Entity::lock(txn, &ids).await?;
    let by_this = |order: &&payment_order::Model| {
        order.status == OrderStatus::Failed && order.failure_reason == Some(FailureReason::AddressClaimedByOwner)
    };
    Ok(Some(TakenOver { wallet, failed: failed.iter().filter(by_this).count(), nudges }))
}

async fn dispute_wallet(
    txn: &DatabaseTransaction,
    occasion: Occasion<'_>,
    from: MerchantId,
    to: Claimant<'_>,
) -> Result<Option<merchant_wallet::Model>, LedgerError> {
    let found = merchant_wallet::Entity::with_address(txn, from, to.chain, to.address).await?;
    let Some(mut wallet) = found else { return Ok(None) };
    wallet.is_active = false;
    wallet.ownership = Ownership::Disputed;
    wallet.updated_at = occasion.now;
    merchant_wallet::Entity::change(txn, &wallet).await?;
    Ok(Some(wallet))
}

/// Releases the amounts of the displaced orders. All of them cool down.
async fn release_amounts(
    txn: &DatabaseTransaction,
    orders: &[payment_order::Model],
    cools_until: Timestamp,
    verified: Timestamp,
) -> Result<(), LedgerError> {
    let held = amount_reservation::Entity::held_by_any(txn, orders.iter().map(|order| order.id)).await?;
    amount_reservation::Entity::release(txn, held.iter().map(|row| row.id), verified, cools_until).await?;
    Ok(())
}
