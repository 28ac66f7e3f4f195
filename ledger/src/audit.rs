//! Checks what is stored against the rules that must always hold. It changes nothing and can run at any time.
//!
//! Rows are read in pages, each page in one snapshot, so that changes which commit meanwhile are no discrepancies and
//! memory does not grow with the history. A deadline or a confirmation that the timers have not noticed yet is no
//! discrepancy either: it is work that waits. What is compared with the chain itself is left to the scanner.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use cryptopay_domain::event::EventType;
use cryptopay_domain::ids::{OrderId, TransferId};
use cryptopay_domain::order::{AllocationFact, ChainView, Derived, OrderStatus, derive};
use cryptopay_domain::reservation::ReservationKind;
use cryptopay_domain::units::Units;
use cryptopay_entity::txn::begin_snapshot;
use cryptopay_entity::{allocation, amount_reservation, event, event_counter, payment_order, removed_event, transfer};
use sea_orm::{
    ColumnTrait, Condition, DatabaseConnection, DatabaseTransaction, EntityTrait, ExprTrait, QueryFilter, QueryOrder,
    QuerySelect,
};
use serde_json::Value;

use crate::error::LedgerError;
use crate::rederive::{Facts, Share, history, terms};
use crate::view;

/// Orders or transfers that are read at once.
const PAGE: u64 = 100;
/// Events that are read at once.
const EVENT_PAGE: u64 = 2_000;
/// Most discrepancies that one run reports: so many have one cause.
const MOST: usize = 1_000;

/// A rule that must always hold. The numbers are those of the payment rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// 1: the live shares of a transfer are at most its amount, and the sum that the transfer remembers.
    Shares,
    /// 2: a generation has at most one confirmation and ends only with a reorganisation.
    Generations,
    /// 3: the stored order is what follows from the stored facts.
    Derivation,
    /// 5 and 10: a decimal amount of an address is reserved for one order only.
    Reservations,
    /// 8: versions and sequences have no gaps, and the last event tells the stored order.
    History,
}

/// What a discrepancy is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// An order.
    Order(OrderId),
    /// A transfer.
    Transfer(TransferId),
    /// An amount on an address.
    Amount {
        /// The address, as stored.
        address: String,
        /// The decimal amount.
        amount: String,
    },
    /// The numbering of all events.
    Sequences,
}

/// Something stored that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discrepancy {
    /// The rule.
    pub rule: Rule,
    /// Where.
    pub subject: Subject,
    /// What is wrong, in words for an operator.
    pub problem: String,
}

impl fmt::Display for Discrepancy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.subject {
            Subject::Order(order) => write!(f, "order {order}: {}", self.problem),
            Subject::Transfer(transfer) => write!(f, "transfer {transfer}: {}", self.problem),
            Subject::Amount { address, amount } => write!(f, "{amount} at {address}: {}", self.problem),
            Subject::Sequences => write!(f, "events: {}", self.problem),
        }
    }
}

/// Checks every transfer, order, reservation and event; gives what breaks a rule, at most the first thousand.
///
/// # Errors
///
/// When the database fails.
pub async fn check(database: &DatabaseConnection) -> Result<Vec<Discrepancy>, LedgerError> {
    let mut found = Vec::new();
    let mut after = Some(TransferId(0));
    while let Some(last) = after.filter(|_| found.len() < MOST) {
        let txn = begin_snapshot(database).await?;
        after = check_transfers(&txn, last, &mut found).await?;
        txn.rollback().await?;
    }
    let mut after = Some(OrderId(0));
    while let Some(last) = after.filter(|_| found.len() < MOST) {
        let txn = begin_snapshot(database).await?;
        after = check_orders(&txn, last, &mut found).await?;
        txn.rollback().await?;
    }
    let txn = begin_snapshot(database).await?;
    check_reservations(&txn, &mut found).await?;
    check_sequences(&txn, &mut found).await?;
    txn.rollback().await?;
    found.truncate(MOST);
    Ok(found)
}

async fn check_transfers(
    txn: &DatabaseTransaction,
    after: TransferId,
    found: &mut Vec<Discrepancy>,
) -> Result<Option<TransferId>, LedgerError> {
    let page = transfer::Entity::find()
        .filter(transfer::Column::Id.gt(after))
        .order_by_asc(transfer::Column::Id)
        .limit(PAGE)
        .all(txn)
        .await?;
    let mut shares: BTreeMap<TransferId, Vec<Units>> = BTreeMap::new();
    if !page.is_empty() {
        for row in allocation::Entity::of_transfers(txn, page.iter().map(|row| row.id)).await? {
            if row.reversed_at.is_none() {
                shares.entry(row.transfer_id).or_default().push(row.units);
            }
        }
    }
    for row in &page {
        let mut tell = |problem: String| {
            found.push(Discrepancy { rule: Rule::Shares, subject: Subject::Transfer(row.id), problem });
        };
        let live = shares.get(&row.id).map(Vec::as_slice).unwrap_or_default();
        let sum: Units = live.iter().copied().sum();
        if sum > row.units {
            tell(format!("{sum} units are allocated of {}", row.units));
        }
        if sum != row.allocated_units {
            tell(format!("it says that {} units are allocated, its live allocations hold {sum}", row.allocated_units));
        }
        if live.iter().any(|units| units.is_zero()) {
            tell("an allocation holds nothing".to_owned());
        }
    }
    Ok(page.last().filter(|_| is_full(page.len())).map(|row| row.id))
}

async fn check_orders(
    txn: &DatabaseTransaction,
    after: OrderId,
    found: &mut Vec<Discrepancy>,
) -> Result<Option<OrderId>, LedgerError> {
    let page = payment_order::Entity::find()
        .filter(payment_order::Column::Id.gt(after))
        .order_by_asc(payment_order::Column::Id)
        .limit(PAGE)
        .all(txn)
        .await?;
    if page.is_empty() {
        return Ok(None);
    }
    let ids: Vec<OrderId> = page.iter().map(|order| order.id).collect();
    let facts = Facts::load(txn, &page).await?;
    let reservations = amount_reservation::Entity::find()
        .filter(amount_reservation::Column::OrderId.is_in(ids.iter().copied()))
        .all(txn)
        .await?;
    let mut histories = histories(txn, &ids).await?;
    let last_events = last_events(txn, &page).await?;
    for order in &page {
        let mut problems = Vec::new();
        check_derivation(order, &facts, &mut problems);
        check_amounts(order, reservations.iter().filter(|row| row.order_id == order.id), &mut problems);
        let told = histories.remove(&order.id).unwrap_or_default();
        check_history(order, &told, last_events.get(&order.id), &mut problems)?;
        found.extend(problems.into_iter().map(|(rule, problem)| Discrepancy {
            rule,
            subject: Subject::Order(order.id),
            problem,
        }));
    }
    Ok(page.last().filter(|_| is_full(page.len())).map(|order| order.id))
}

/// Whether there may be a further page.
fn is_full(rows: usize) -> bool {
    u64::try_from(rows).unwrap_or(u64::MAX) >= PAGE
}

type Problems = Vec<(Rule, String)>;

fn check_derivation(order: &payment_order::Model, facts: &Facts, problems: &mut Problems) {
    let mut tell = |problem: String| problems.push((Rule::Derivation, problem));
    let shares = facts.shares(order.id, &BTreeSet::new());
    for share in &shares {
        let (allocation, transfer) = (share.allocation, share.transfer);
        if allocation.merchant_id != order.merchant_id {
            tell(format!("allocation {} belongs to merchant {}", allocation.id, allocation.merchant_id));
        }
        if (transfer.asset, transfer.chain.as_str()) != (order.asset, order.chain.as_str()) {
            tell(format!("transfer {} is of another asset or chain", transfer.id));
        }
    }
    let Ok(cursor) = facts.chain(&order.chain) else {
        return tell(format!("chain {} has no cursor", order.chain));
    };
    // Until its closing is written, an order is derived from a chain before its deadline.
    let block_time = match order.closed_at {
        Some(_) => cursor.block_time,
        None => std::cmp::min(cursor.block_time, order.in_time_until),
    };
    let chain = ChainView { block_time, ..cursor.view() };
    let noticed: Vec<AllocationFact> = shares.iter().map(|share| share.fact).collect();
    // Depth that `confirm` has not looked at yet counts for nothing.
    let unnoticed: Vec<AllocationFact> =
        noticed.iter().map(|fact| AllocationFact { vouched: false, ..*fact }).collect();
    let history = history(order, facts);
    let [now, before] = [noticed, unnoticed].map(|facts| derive(&terms(order), &history, &facts, &chain));
    if !(tells(order, &shares, &now) || tells(order, &shares, &before)) {
        tell(format!(
            "its row says {} with {} units received and flags \"{}\"; its facts say {} with {} and {:?}",
            order.status, order.received_units, order.flags, now.status, now.received, now.flags
        ));
    }
    let confirmed = order.status == OrderStatus::Confirmed;
    if confirmed != order.confirmed_at.is_some() {
        tell(format!(
            "it is {}, and it has {} of confirmation",
            order.status,
            if confirmed { "no time" } else { "a time" }
        ));
    }
    if confirmed != (order.announced_generation == order.generation) && order.status != OrderStatus::Failed {
        tell(format!(
            "it is {} in generation {}; generation {} was announced",
            order.status, order.generation, order.announced_generation
        ));
    }
}

/// Whether a row and its allocations say what was derived.
fn tells(order: &payment_order::Model, shares: &[Share<'_>], derived: &Derived) -> bool {
    order.status == derived.status
        && order.fulfillable == derived.fulfillable
        && order.flags() == derived.flags
        && order.late_decision == derived.late
        && order.received_units == derived.received
        && order.failure_reason == derived.failure_reason
        && (order.remainder_units.is_none() || (derived.payable && derived.status == OrderStatus::Underpaid))
        && shares.iter().zip(&derived.standings).all(|(share, standing)| share.allocation.counted == standing.counts)
}

fn check_amounts<'a>(
    order: &payment_order::Model,
    reservations: impl Iterator<Item = &'a amount_reservation::Model> + Clone,
    problems: &mut Problems,
) {
    let mut tell = |problem: String| problems.push((Rule::Reservations, problem));
    let place = (order.chain.as_str(), order.asset, order.receiving_address);
    if reservations.clone().any(|row| (row.chain.as_str(), row.asset, row.address) != place) {
        tell("it holds an amount elsewhere".to_owned());
    }
    let due = |row: &amount_reservation::Model| row.kind == ReservationKind::Due && row.units == order.pay_units;
    if !reservations.clone().any(due) {
        tell(format!("it asks for exactly {} units and never held them", order.pay_units));
    }
    let missing = order.pay_units.saturating_sub(order.received_units);
    if let Some(units) = order.remainder_units
        && !reservations.clone().any(|row| {
            row.released_at.is_none()
                && row.kind == ReservationKind::Remainder
                && (row.units, row.plain_units) == (units, missing)
        })
    {
        tell(format!("it asks for a remainder of {units} units and does not hold them"));
    }
}

/// An order's events in the order of their versions.
type Told = Vec<(i64, EventType)>;

async fn histories(txn: &DatabaseTransaction, orders: &[OrderId]) -> Result<BTreeMap<OrderId, Told>, LedgerError> {
    let mut histories: BTreeMap<OrderId, Told> = BTreeMap::new();
    let mut after: Option<(OrderId, i64)> = None;
    loop {
        let mut query = event::Entity::find()
            .select_only()
            .columns([event::Column::OrderId, event::Column::OrderVersion, event::Column::EventType])
            .filter(event::Column::OrderId.is_in(orders.iter().copied()))
            .order_by_asc(event::Column::OrderId)
            .order_by_asc(event::Column::OrderVersion)
            .limit(EVENT_PAGE);
        if let Some((order, version)) = after {
            let later =
                Condition::all().add(event::Column::OrderId.eq(order)).add(event::Column::OrderVersion.gt(version));
            query = query.filter(Condition::any().add(event::Column::OrderId.gt(order)).add(later));
        }
        let page: Vec<(OrderId, i64, EventType)> = query.into_tuple().all(txn).await?;
        let Some((order, version, _)) = page.last() else { return Ok(histories) };
        after = Some((*order, *version));
        for (order, version, event_type) in page {
            histories.entry(order).or_default().push((version, event_type));
        }
    }
}

async fn last_events(
    txn: &DatabaseTransaction,
    orders: &[payment_order::Model],
) -> Result<BTreeMap<OrderId, event::Model>, LedgerError> {
    let newest = orders.iter().fold(Condition::any(), |any, order| {
        any.add(event::Column::OrderId.eq(order.id).and(event::Column::OrderVersion.eq(order.version)))
    });
    let events = event::Entity::find().filter(newest).all(txn).await?;
    Ok(events.into_iter().filter_map(|event| event.order_id.map(|order| (order, event))).collect())
}

fn check_history(
    order: &payment_order::Model,
    told: &[(i64, EventType)],
    last: Option<&event::Model>,
    problems: &mut Problems,
) -> Result<(), LedgerError> {
    if !(1..=order.version).eq(told.iter().map(|(version, _)| *version)) {
        problems.push((Rule::History, format!("its {} events are not versions 1 to {}", told.len(), order.version)));
    }
    if !matches!(told.first(), Some((_, EventType::OrderCreated))) {
        problems.push((Rule::History, "its history does not begin with its creation".to_owned()));
    }
    // Confirmations and reorganisations take turns, and the row counts them.
    let mut confirmations = 0_i64;
    let mut generation = 1_i64;
    for (version, event_type) in told {
        match event_type {
            EventType::PaymentConfirmed => confirmations = confirmations.saturating_add(1),
            EventType::PaymentReorged => generation = generation.saturating_add(1),
            _ => continue,
        }
        if confirmations != generation && confirmations.saturating_add(1) != generation {
            problems.push((Rule::Generations, format!("version {version} is {event_type} out of turn")));
            break;
        }
    }
    if (order.generation, order.announced_generation) != (generation, confirmations) {
        problems.push((
            Rule::Generations,
            format!(
                "it is in generation {} and announced {}; its events say {generation} and {confirmations}",
                order.generation, order.announced_generation
            ),
        ));
    }
    let Some(last) = last else { return Ok(()) };
    let differing = differing(order, last)?;
    if !differing.is_empty() {
        problems.push((Rule::History, format!("its last event tells another {}", differing.join(", "))));
    }
    Ok(())
}

/// The fields in which an order's last event differs from its row. The newest transfer and its confirmations are of the
/// moment when the event was made; `exact_amount` was false in some events of an older version.
fn differing(order: &payment_order::Model, last: &event::Model) -> Result<Vec<String>, LedgerError> {
    let corrupt = |error: serde_json::Error| LedgerError::Corrupt(format!("event {}: {error}", last.event_id));
    let row = serde_json::to_value(view::snapshot(order, None)).map_err(corrupt)?;
    let told: Value = serde_json::from_str(&last.snapshot).map_err(corrupt)?;
    let (Value::Object(row), Value::Object(told)) = (row, told) else { return Ok(vec!["form".to_owned()]) };
    let names: BTreeSet<&String> = row.keys().chain(told.keys()).collect();
    Ok(names
        .into_iter()
        .filter(|name| {
            !matches!(name.as_str(), "transfer" | "confirmations" | "exact_amount") && row.get(*name) != told.get(*name)
        })
        .cloned()
        .collect())
}

async fn check_reservations(txn: &DatabaseTransaction, found: &mut Vec<Discrepancy>) -> Result<(), LedgerError> {
    use amount_reservation::Column;
    // Amounts that are held or cool down, over all chains and assets of an address.
    let twice: Vec<(String, String, i64)> = amount_reservation::Entity::find()
        .select_only()
        .columns([Column::Address, Column::Amount])
        .column_as(Column::Id.count(), "holders")
        .filter(Column::FreedAt.is_null())
        .group_by(Column::Address)
        .group_by(Column::Amount)
        .having(Column::Id.count().gt(1))
        .limit(PAGE)
        .into_tuple()
        .all(txn)
        .await?;
    found.extend(twice.into_iter().map(|(address, amount, holders)| Discrepancy {
        rule: Rule::Reservations,
        subject: Subject::Amount { address, amount },
        problem: format!("reserved {holders} times"),
    }));
    Ok(())
}

async fn check_sequences(txn: &DatabaseTransaction, found: &mut Vec<Discrepancy>) -> Result<(), LedgerError> {
    use event::Column;
    let numbers: Option<(i64, Option<i64>, Option<i64>)> = event::Entity::find()
        .select_only()
        .column_as(Column::Sequence.count(), "numbered")
        .column_as(Column::Sequence.min(), "first")
        .column_as(Column::Sequence.max(), "last")
        .into_tuple()
        .one(txn)
        .await?;
    let given_out = event_counter::Entity::peek(txn).await?;
    let Some((numbered, Some(first), Some(last))) = numbers else { return Ok(()) };
    let removed = removed_event::Entity::count_between(txn, first, last).await?;
    let removed_since = removed_event::Entity::count_between(txn, last, given_out).await?;
    let mut tell = |problem| found.push(Discrepancy { rule: Rule::History, subject: Subject::Sequences, problem });
    if last.saturating_sub(first).saturating_add(1) != numbered.saturating_add(removed) {
        tell(format!("{numbered} events are numbered {first} to {last}, and {removed} of that were removed"));
    }
    if last.saturating_add(removed_since) != given_out {
        tell(format!(
            "the last number is {last}, {removed_since} after it were removed, and the counter says {given_out}"
        ));
    }
    Ok(())
}
