//! What people decide about an order: cancel it, accept or reject what came, assign a transfer to it.

use std::collections::BTreeSet;

use cryptopay_domain::address::Hash;
use cryptopay_domain::amount::format_units;
use cryptopay_domain::ids::{AllocationId, MerchantId, OrderId};
use cryptopay_domain::matching::Method;
use cryptopay_domain::order::{Decision, OrderStatus};
use cryptopay_domain::transfer::{Position, TransferState};
use cryptopay_domain::units::Units;
use cryptopay_entity::{allocation, merchant_transfer, payment_order, receiving_address, transfer};
use sea_orm::ActiveValue::{NotSet, Set};
use sea_orm::sea_query::Expr;
use sea_orm::{ActiveModelTrait, ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter, SqlErr};

use crate::error::{LedgerError, Refusal};
use crate::nudges::Nudges;
use crate::rederive::{Occasion, judge, rederive};
use crate::view::decimals;

/// Takes an order back, while nothing has been received.
pub async fn cancel(
    txn: &DatabaseTransaction,
    occasion: Occasion<'_>,
    merchant: MerchantId,
    order: OrderId,
) -> Result<Nudges, LedgerError> {
    let order = lock_owned(txn, merchant, order).await?;
    let refused = Refusal::NotCancelable { status: order.status };
    if order.status != OrderStatus::Pending || allocation::Entity::exists_for(txn, order.id).await? {
        return Err(refused.into());
    }
    payment_order::Entity::update_many()
        .col_expr(payment_order::Column::CanceledAt, Expr::value(Some(occasion.now)))
        .filter(payment_order::Column::Id.eq(order.id))
        .exec(txn)
        .await?;
    rederive(txn, occasion, &BTreeSet::from([order.id]), &BTreeSet::new()).await
}

/// Decides about an order that needs a decision.
pub async fn resolve(
    txn: &DatabaseTransaction,
    occasion: Occasion<'_>,
    merchant: MerchantId,
    order: OrderId,
    decision: Decision,
) -> Result<Nudges, LedgerError> {
    let order = lock_owned(txn, merchant, order).await?;
    let (derived, facts) = judge(txn, &order).await?;
    if !derived.decision_due {
        return Err(Refusal::NoDecisionDue { status: order.status }.into());
    }
    // What is gone was not there to be decided about; should it come back, it waits for a decision of its own.
    let present = |state: TransferState| state.is_in_block() || state == TransferState::Missing;
    let present: Vec<_> = facts.iter().filter(|(fact, _)| present(fact.state)).collect();
    let came: Units = present.iter().map(|(fact, _)| fact.units).sum();
    if decision == Decision::Accept {
        if came.is_zero() {
            return Err(Refusal::NothingToAccept.into());
        }
        allocation::Entity::accept_late(txn, present.iter().map(|(_, allocation)| allocation.id)).await?;
    }
    let row = payment_order::ActiveModel {
        decision: Set(Some(decision)),
        decision_units: Set(Some(came)),
        decided_at: Set(Some(occasion.now)),
        ..Default::default()
    };
    payment_order::Entity::update_many().set(row).filter(payment_order::Column::Id.eq(order.id)).exec(txn).await?;
    rederive(txn, occasion, &BTreeSet::from([order.id]), &BTreeSet::new()).await
}

/// Which transfer to assign, and how much of it.
#[derive(Debug, Clone)]
pub struct Assignment {
    /// Transaction.
    pub tx_hash: Hash,
    /// Which transfer of it, where there are several.
    pub position: Option<Position>,
    /// How much, in base units; all that is left if not said.
    pub units: Option<Units>,
    /// Who decides and why, as JSON.
    pub evidence: String,
}

/// Assigns (a part of) a transfer to an order by hand.
pub async fn assign(
    txn: &DatabaseTransaction,
    occasion: Occasion<'_>,
    merchant: MerchantId,
    order: OrderId,
    assignment: Assignment,
) -> Result<Nudges, LedgerError> {
    let target = payment_order::Entity::find_owned(txn, merchant, order).await?.ok_or(Refusal::OrderNotFound)?;
    // The transfer is locked before the order, as everywhere.
    let row = find_transfer(txn, merchant, &target, &assignment).await?;
    let order = lock_owned(txn, merchant, order).await?;
    if matches!(order.status, OrderStatus::Failed) {
        return Err(Refusal::OrderOver { status: order.status }.into());
    }
    if row.asset != order.asset || row.chain != order.chain {
        return Err(Refusal::AssetMismatch.into());
    }
    if !row.state.is_in_block() {
        return Err(Refusal::TransferNotIncluded.into());
    }
    let left = row.unassigned_units();
    let readable = |units| format_units(units, decimals(order.decimals));
    let units = assignment.units.unwrap_or(left);
    let share = allocation::Entity::live_share(txn, row.id, order.id).await?;
    // Whoever names an amount a second time may only be repeating a request whose answer was lost. "All that is left"
    // means the same however often it is said.
    if let Some(share) = share.as_ref().filter(|_| assignment.units.is_some() && !left.is_zero()) {
        return Err(Refusal::AlreadyAllocated { share: readable(share.units), left: readable(left) }.into());
    }
    if units.is_zero() || units > left {
        return Err(Refusal::NotEnoughLeft { left: readable(left) }.into());
    }
    let allocated = row.allocated_units.checked_add(units).ok_or(LedgerError::LostGuard)?;
    // A transfer that belongs to orders in full was meant for no other one.
    let wrong_asset = row.wrong_asset_order_id.filter(|_| allocated < row.units);
    let taken = transfer::Entity::update_many()
        .col_expr(transfer::Column::AllocatedUnits, Expr::value(allocated))
        .col_expr(transfer::Column::WrongAssetOrderId, Expr::value(wrong_asset))
        .col_expr(transfer::Column::Version, Expr::value(row.version.saturating_add(1)))
        .filter(transfer::Column::Id.eq(row.id))
        .filter(transfer::Column::Version.eq(row.version))
        .exec(txn)
        .await?;
    if taken.rows_affected != 1 {
        return Err(LedgerError::LostGuard);
    }
    let touched = BTreeSet::from_iter([order.id].into_iter().chain(row.wrong_asset_order_id));
    let row = transfer::Model { allocated_units: allocated, ..row };
    let allocation = match share {
        Some(share) => {
            let grown = share.units.checked_add(units).ok_or(LedgerError::LostGuard)?;
            allocation::Entity::grow(txn, share.id, grown, assignment.evidence).await?;
            share.id
        }
        None => insert_share(txn, occasion, &order, &row, units, assignment.evidence).await?,
    };
    merchant_transfer::Entity::show_allocated(txn, &row, merchant).await?;
    merchant_transfer::Entity::hide_from_others(txn, row.id, merchant).await?;
    rederive(txn, occasion, &touched, &BTreeSet::from([allocation])).await
}

async fn insert_share(
    txn: &DatabaseTransaction,
    occasion: Occasion<'_>,
    order: &payment_order::Model,
    row: &transfer::Model,
    units: Units,
    evidence: String,
) -> Result<AllocationId, LedgerError> {
    let allocation = allocation::ActiveModel {
        id: NotSet,
        transfer_id: Set(row.id),
        order_id: Set(order.id),
        merchant_id: Set(order.merchant_id),
        units: Set(units),
        method: Set(Method::Manual),
        evidence: Set(evidence),
        // Whoever assigns a transfer by hand has seen when it came.
        late_accepted: Set(true),
        counted: Set(false),
        announced_block: Set(None),
        created_at: Set(occasion.now),
        reversed_at: Set(None),
    };
    let inserted = allocation.insert(txn).await.map_err(|error| match error.sql_err() {
        // Somebody else was quicker; the next look sees that share.
        Some(SqlErr::UniqueConstraintViolation(_)) => LedgerError::LostGuard,
        _ => error.into(),
    })?;
    Ok(inserted.id)
}

async fn find_transfer(
    txn: &DatabaseTransaction,
    merchant: MerchantId,
    order: &payment_order::Model,
    assignment: &Assignment,
) -> Result<transfer::Model, LedgerError> {
    let mut mine = Vec::new();
    for row in transfer::Entity::of_transactions(txn, &order.chain, [assignment.tx_hash]).await? {
        let came = receiving_address::Entity::belonged_to(txn, merchant, &row.chain, row.to_address, row.block_time);
        // In the sandbox merchants may share an address: what one of them was paid is not there for the others.
        if came.await? && !allocation::Entity::is_anothers(txn, merchant, row.id).await? {
            mine.push(row);
        }
    }
    mine.retain(|row| !row.state.is_without_effect());
    let positions = mine.iter().map(|row| row.position.to_string()).collect::<Vec<_>>().join(", ");
    match assignment.position {
        Some(position) => {
            mine.retain(|row| row.position == position);
            if mine.is_empty() && !positions.is_empty() {
                return Err(Refusal::NoSuchPosition { positions }.into());
            }
        }
        None if mine.len() > 1 => return Err(Refusal::PositionNeeded { positions }.into()),
        None => {}
    }
    mine.into_iter().max_by_key(|row| row.generation).ok_or_else(|| Refusal::TransferNotFound.into())
}

async fn lock_owned(
    txn: &DatabaseTransaction,
    merchant: MerchantId,
    order: OrderId,
) -> Result<payment_order::Model, LedgerError> {
    let locked = payment_order::Entity::lock(txn, &BTreeSet::from([order])).await?;
    locked.into_iter().find(|order| order.merchant_id == merchant).ok_or_else(|| Refusal::OrderNotFound.into())
}
