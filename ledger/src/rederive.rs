//! The one path on which an order changes: lock, read the facts, derive, write the row, its events and deliveries.

use std::collections::{BTreeMap, BTreeSet};

use cryptopay_domain::address::Hash;
use cryptopay_domain::event::EventType;
use cryptopay_domain::ids::{AllocationId, OrderId, TransferId};
use cryptopay_domain::order::{
    AllocationFact, Announced, Change, Derived, History, OrderStatus, Standing, Terms, Windows, change, derive,
};
use cryptopay_domain::registry::Registry;
use cryptopay_domain::time::Timestamp;
use cryptopay_domain::units::Units;
use cryptopay_entity::{allocation, amount_reservation, chain_block, chain_cursor, payment_order, transfer};
use sea_orm::ActiveValue::{Set, Unchanged};
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter};

use crate::error::LedgerError;
use crate::nudges::Nudges;
use crate::outbox::{self, Endpoints, NewEvent, Subject};
use crate::remainder;
use crate::view::{self, unsigned};

/// Why and when orders are derived again.
#[derive(Debug, Clone, Copy)]
pub struct Occasion<'a> {
    /// Chains and tokens.
    pub registry: &'a Registry,
    /// What led to it, for the events.
    pub cause: &'a str,
    /// Business time of this transaction.
    pub now: Timestamp,
}

/// Derives orders again from the facts in the database. `fresh` are allocations made in this transaction.
pub(crate) async fn rederive(
    txn: &DatabaseTransaction,
    occasion: Occasion<'_>,
    orders: &BTreeSet<OrderId>,
    fresh: &BTreeSet<AllocationId>,
) -> Result<Nudges, LedgerError> {
    let mut nudges = Nudges::default();
    let orders = payment_order::Entity::lock(txn, orders).await?;
    if orders.is_empty() {
        return Ok(nudges);
    }
    let facts = Facts::load(txn, &orders).await?;
    let endpoints = Endpoints::of(txn, orders.iter().map(|order| order.merchant_id).collect::<BTreeSet<_>>()).await?;
    for order in orders {
        // A payment on the wrong chain can touch an order of a chain that was just reset. It is derived with its first block.
        let Some(view) = facts.cursors.get(&order.chain) else { continue };
        let (shares, history) = (facts.shares(order.id, fresh), history(&order, &facts));
        rederive_one(txn, occasion, order, view, (shares, history), &endpoints, &mut nudges).await?;
    }
    Ok(nudges)
}

/// An allocation with its transfer and what is known of both.
pub(crate) struct Share<'a> {
    pub(crate) allocation: &'a allocation::Model,
    pub(crate) transfer: &'a transfer::Model,
    pub(crate) fact: AllocationFact,
    pub(crate) fresh: bool,
}

async fn rederive_one(
    txn: &DatabaseTransaction,
    occasion: Occasion<'_>,
    mut order: payment_order::Model,
    chain: &chain_cursor::Model,
    (shares, mut history): (Vec<Share<'_>>, History),
    endpoints: &Endpoints,
    nudges: &mut Nudges,
) -> Result<(), LedgerError> {
    let before = announced(&order);
    let chain_view = chain.view();
    if order.closed_at.is_none() && chain.block_time > order.in_time_until {
        order.closed_at = Some(occasion.now);
        history.closed_at = order.closed_at;
    }
    let terms = terms(&order);
    let facts: Vec<AllocationFact> = shares.iter().map(|share| share.fact).collect();
    let derived = derive(&terms, &history, &facts, &chain_view);
    let fresh_late =
        shares.iter().zip(&derived.standings).any(|(share, standing)| share.fresh && standing.late.is_some());
    let change = change(&before, &derived, order.closed_at.is_some(), fresh_late);
    note_standings(txn, &shares, &derived, &change).await?;
    if change.events.is_empty() {
        // Closing an order that is paid, or over already, changes nothing that anybody sees.
        if order.closed_at.is_some() && !before.closed {
            payment_order::Entity::update_many()
                .col_expr(payment_order::Column::ClosedAt, Expr::value(order.closed_at))
                .filter(payment_order::Column::Id.eq(order.id))
                .exec(txn)
                .await?;
        }
        return Ok(());
    }

    let guard = order.version;
    order.version = guard.saturating_add(i64::try_from(change.events.len()).unwrap_or(i64::MAX));
    order.updated_at = occasion.now;
    order.generation = i64::from(change.generation);
    order.announced_generation = i64::from(change.announced_generation);
    apply(&mut order, &derived, change.events.contains(&EventType::PaymentConfirmed), occasion.now);
    order.remainder_units = remainder::hold(txn, occasion, &order, &derived).await?;
    if let Some(excess) = order.remainder_units.and_then(|units| units.checked_sub(derived.remaining)) {
        order.remainder_rounding = order.remainder_rounding.max(excess);
    }
    write(txn, &order, guard).await?;

    let newest = view::newest(
        shares.iter().zip(&derived.standings).filter(|(_, standing)| standing.counts).map(|(share, _)| share.transfer),
    );
    let last = view::snapshot(&order, newest.map(|newest| view::payment(newest, &order, &chain_view)));
    let confirmation = change.events.iter().position(|event| *event == EventType::PaymentConfirmed);
    for (index, event_type) in change.events.iter().enumerate() {
        let version = guard.saturating_add(i64::try_from(index).unwrap_or(i64::MAX)).saturating_add(1);
        let snapshot = match confirmation {
            Some(at) if index < at => last.before_confirmation(version),
            _ => last.at_version(version),
        };
        let new = NewEvent {
            merchant: order.merchant_id,
            event_type: *event_type,
            subject: Subject::Order(&snapshot),
            cause: occasion.cause,
            now: occasion.now,
        };
        outbox::record(txn, endpoints, new, nudges).await?;
    }
    Ok(())
}

/// Remembers how allocations stood: whether they counted, and in which block they were deep when that was announced.
async fn note_standings(
    txn: &DatabaseTransaction,
    shares: &[Share<'_>],
    derived: &Derived,
    change: &Change,
) -> Result<(), LedgerError> {
    for (share, standing) in shares.iter().zip(&derived.standings) {
        let announced_block = announced_block(share, standing, derived.status, change);
        if standing.counts == share.allocation.counted && announced_block == share.allocation.announced_block {
            continue;
        }
        allocation::Entity::update_many()
            .col_expr(allocation::Column::Counted, Expr::value(standing.counts))
            .col_expr(allocation::Column::AnnouncedBlock, Expr::value(announced_block))
            .filter(allocation::Column::Id.eq(share.allocation.id))
            .exec(txn)
            .await?;
    }
    Ok(())
}

fn announced_block(share: &Share<'_>, standing: &Standing, status: OrderStatus, change: &Change) -> Option<Hash> {
    if status == OrderStatus::Confirmed && standing.deep && share.transfer.state.is_in_block() {
        return Some(share.transfer.block_hash);
    }
    // A new announcement speaks for what is deep now; what an earlier one spoke for has to be counted anew.
    share.allocation.announced_block.filter(|_| !change.events.contains(&EventType::PaymentConfirmed))
}

async fn write(txn: &DatabaseTransaction, order: &payment_order::Model, guard: i64) -> Result<(), LedgerError> {
    let row = payment_order::ActiveModel {
        id: Unchanged(order.id),
        status: Set(order.status),
        fulfillable: Set(order.fulfillable),
        flags: Set(order.flags.clone()),
        late_decision: Set(order.late_decision),
        received_units: Set(order.received_units),
        remainder_units: Set(order.remainder_units),
        remainder_rounding: Set(order.remainder_rounding),
        failure_reason: Set(order.failure_reason),
        generation: Set(order.generation),
        announced_generation: Set(order.announced_generation),
        closed_at: Set(order.closed_at),
        confirmed_at: Set(order.confirmed_at),
        canceled_at: Set(order.canceled_at),
        decision: Set(order.decision),
        decision_units: Set(order.decision_units),
        decided_at: Set(order.decided_at),
        version: Set(order.version),
        updated_at: Set(order.updated_at),
        ..Default::default()
    };
    let done = payment_order::Entity::update_many()
        .set(row)
        .filter(payment_order::Column::Id.eq(order.id))
        .filter(payment_order::Column::Version.eq(guard))
        .exec(txn)
        .await?;
    if done.rows_affected == 1 { Ok(()) } else { Err(LedgerError::LostGuard) }
}

fn apply(order: &mut payment_order::Model, derived: &Derived, confirms: bool, now: Timestamp) {
    order.status = derived.status;
    order.fulfillable = derived.fulfillable;
    order.flags = derived.flags.iter().map(|flag| flag.as_str()).collect::<Vec<_>>().join(",");
    order.late_decision = derived.late;
    order.received_units = derived.received;
    order.failure_reason = derived.failure_reason;
    if confirms {
        order.confirmed_at = Some(now);
    } else if derived.status != OrderStatus::Confirmed {
        order.confirmed_at = None;
    }
}

fn announced(order: &payment_order::Model) -> Announced {
    Announced {
        status: order.status,
        received: order.received_units,
        flags: order.flags(),
        late: order.late_decision,
        failure_reason: order.failure_reason,
        closed: order.closed_at.is_some(),
        generation: small(order.generation),
        announced_generation: small(order.announced_generation),
    }
}

/// What an order asks for, from its row.
pub(crate) fn terms(order: &payment_order::Model) -> Terms {
    Terms {
        due: order.pay_units,
        windows: Windows {
            expires_at: order.expires_at,
            in_time_until: order.in_time_until,
            late_until: order.late_until,
            monitor_until: order.monitor_until,
        },
        required_confirmations: small(order.required_confirmations),
        late_policy: order.late_policy,
    }
}

/// Facts about an order besides money that counts.
pub(crate) fn history(order: &payment_order::Model, facts: &Facts) -> History {
    History {
        canceled_at: order.canceled_at,
        closed_at: order.closed_at,
        decision: order.decision.map(|decision| (decision, order.decision_units.unwrap_or_default())),
        lost_address: order.displaced_at.is_some(),
        wrong_asset: facts.wrong_asset.contains(&order.id),
        rounding: facts.rounding.get(&order.id).copied().unwrap_or_default(),
        generation: small(order.generation),
        announced_generation: small(order.announced_generation),
    }
}

fn small(stored: i64) -> u32 {
    u32::try_from(stored).unwrap_or(u32::MAX)
}

/// Everything that deriving some orders needs, read in a fixed number of statements.
pub(crate) struct Facts {
    allocations: Vec<allocation::Model>,
    transfers: BTreeMap<TransferId, transfer::Model>,
    cursors: BTreeMap<String, chain_cursor::Model>,
    vouched: BTreeSet<(String, i64, Hash)>,
    wrong_asset: BTreeSet<OrderId>,
    /// By how much the remainders that were paid lie above what was missing.
    rounding: BTreeMap<OrderId, Units>,
}

impl Facts {
    pub(crate) async fn load(txn: &DatabaseTransaction, orders: &[payment_order::Model]) -> Result<Self, LedgerError> {
        let allocations = allocation::Entity::live_of_orders(txn, orders.iter().map(|order| order.id)).await?;
        let mut transfers = BTreeMap::new();
        let ids: BTreeSet<TransferId> = allocations.iter().map(|allocation| allocation.transfer_id).collect();
        if !ids.is_empty() {
            for transfer in transfer::Entity::by_ids(txn, ids).await? {
                transfers.insert(transfer.id, transfer);
            }
        }
        let mut cursors = BTreeMap::new();
        let mut vouched = BTreeSet::new();
        for chain in orders.iter().map(|order| &order.chain).collect::<BTreeSet<_>>() {
            if let Some(cursor) = chain_cursor::Entity::of(txn, chain).await? {
                cursors.insert(chain.clone(), cursor);
            }
            let numbers: BTreeSet<i64> =
                transfers.values().filter(|transfer| transfer.chain == *chain).map(|t| t.block_number).collect();
            if numbers.is_empty() {
                continue;
            }
            for block in chain_block::Entity::numbered(txn, chain, numbers).await? {
                if block.vouched_by.is_some() {
                    vouched.insert((chain.clone(), block.number, block.hash));
                }
            }
        }
        let wrong_asset = transfer::Entity::wrong_asset_among(txn, orders.iter().map(|order| order.id)).await?;
        let mut rounding: BTreeMap<OrderId, Units> = BTreeMap::new();
        let rounded = orders.iter().filter(|order| !order.remainder_rounding.is_zero()).map(|order| order.id);
        for row in amount_reservation::Entity::remainders_of(txn, rounded).await? {
            let is_paid =
                |allocation: &allocation::Model| (allocation.order_id, allocation.units) == (row.order_id, row.units);
            if allocations.iter().any(is_paid) {
                let sum = rounding.entry(row.order_id).or_default();
                *sum = sum.saturating_add(row.units.saturating_sub(row.plain_units));
            }
        }
        Ok(Self { allocations, transfers, cursors, vouched, wrong_asset, rounding })
    }

    pub(crate) fn chain(&self, chain: &str) -> Result<&chain_cursor::Model, LedgerError> {
        self.cursors.get(chain).ok_or_else(|| LedgerError::Corrupt(format!("chain {chain} has orders but no cursor")))
    }

    pub(crate) fn shares(&self, order: OrderId, fresh: &BTreeSet<AllocationId>) -> Vec<Share<'_>> {
        self.allocations
            .iter()
            .filter(|allocation| allocation.order_id == order)
            .filter_map(|allocation| {
                let transfer = self.transfers.get(&allocation.transfer_id)?;
                Some(Share {
                    allocation,
                    transfer,
                    fact: self.fact(allocation, transfer),
                    fresh: fresh.contains(&allocation.id),
                })
            })
            .collect()
    }

    fn fact(&self, allocation: &allocation::Model, transfer: &transfer::Model) -> AllocationFact {
        AllocationFact {
            units: allocation.units,
            state: transfer.state,
            block_number: unsigned(transfer.block_number),
            block_time: transfer.block_time,
            index: transfer.log_index.map_or(u64::MAX, unsigned),
            ships: allocation.method.ships(),
            vouched: self.vouched.contains(&(transfer.chain.clone(), transfer.block_number, transfer.block_hash)),
            late_accepted: allocation.late_accepted,
            counted: allocation.counted,
            announced_here: allocation.announced_block == Some(transfer.block_hash),
        }
    }
}

/// The facts of one order, for callers that judge before they change: its allocations' transfers and the derivation.
pub(crate) async fn judge(
    txn: &DatabaseTransaction,
    order: &payment_order::Model,
) -> Result<(Derived, Vec<(AllocationFact, allocation::Model)>), LedgerError> {
    let facts = Facts::load(txn, std::slice::from_ref(order)).await?;
    let cursor = facts.chain(&order.chain)?;
    let shares = facts.shares(order.id, &BTreeSet::new());
    let list: Vec<AllocationFact> = shares.iter().map(|share| share.fact).collect();
    let derived = derive(&terms(order), &history(order, &facts), &list, &cursor.view());
    let pairs = shares.iter().map(|share| (share.fact, share.allocation.clone())).collect();
    Ok((derived, pairs))
}
