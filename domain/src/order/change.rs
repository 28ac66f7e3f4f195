//! Which events a change makes, and what they do to an order's generation.

use crate::event::EventType;
use crate::order::{Derived, FailureReason, LateStanding, OrderFlag, OrderStatus};
use crate::units::Units;

/// What was last announced of an order: the columns of its row that the world has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announced {
    /// Status.
    pub status: OrderStatus,
    /// R.
    pub received: Units,
    /// Flags.
    pub flags: Vec<OrderFlag>,
    /// Lateness.
    pub late: Option<LateStanding>,
    /// Why it failed.
    pub failure_reason: Option<FailureReason>,
    /// Whether the order had closed.
    pub closed: bool,
    /// Generation.
    pub generation: u32,
    /// Generation whose confirmation was announced last; 0 for none.
    pub announced_generation: u32,
}

/// What a derivation changes. Without events nothing that the world can see has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Events to record, in order; each raises the order's version by one.
    pub events: Vec<EventType>,
    /// Generation afterwards.
    pub generation: u32,
    /// Announced generation afterwards.
    pub announced_generation: u32,
}

/// Compares what was announced with what now holds. `closed` says whether the order is closed now, `fresh_late` whether
/// a late transfer was allocated just now.
pub fn change(before: &Announced, after: &Derived, closed: bool, fresh_late: bool) -> Change {
    let mut events = Vec::new();
    let mut generation = before.generation;
    let mut announced_generation = before.announced_generation;
    let grew = after.received > before.received;
    let shrank = after.received < before.received;
    let moved_to = |status: OrderStatus| after.status == status && before.status != status;
    let closes = closed && !before.closed;

    // Also one that was in time and became late by being mined again.
    if fresh_late || (before.late.is_none() && after.late.is_some()) {
        events.push(EventType::OrderLatePayment);
    }
    if before.received.is_zero() && grew {
        events.push(EventType::PaymentPending);
    }
    if after.status == OrderStatus::Underpaid && (moved_to(OrderStatus::Underpaid) || grew || closes) {
        events.push(EventType::OrderUnderpaid);
    }
    let extra = after.has(OrderFlag::ExtraPayment);
    // One payment that is too large is an overpayment; further payments after a full one are extra. Both events are emitted
    // when both are news.
    let is_news = !extra || (after.overfilled && !before.flags.contains(&OrderFlag::Overpaid));
    if grew && !after.excess.is_zero() && is_news {
        events.push(EventType::OrderOverpaid);
    }
    if grew && extra {
        events.push(EventType::OrderExtraPayment);
    }
    if after.has(OrderFlag::WrongAsset) && !before.flags.contains(&OrderFlag::WrongAsset) {
        events.push(EventType::OrderWrongAsset);
    }
    if (shrank && announced_generation == 0 && after.status != OrderStatus::Failed) || moved_to(OrderStatus::Failed) {
        events.push(EventType::PaymentFailed);
    }
    if after.status == OrderStatus::Confirmed && announced_generation < generation {
        events.push(EventType::PaymentConfirmed);
        announced_generation = generation;
    }
    if moved_to(OrderStatus::Reorged) && announced_generation == generation {
        events.push(EventType::PaymentReorged);
        generation = generation.saturating_add(1);
    }
    if moved_to(OrderStatus::Expired) {
        events.push(EventType::OrderExpired);
    }
    if moved_to(OrderStatus::Canceled) && before.received.is_zero() {
        events.push(EventType::OrderCanceled);
    }
    if after.has(OrderFlag::Finalized) && !before.flags.contains(&OrderFlag::Finalized) {
        events.push(EventType::OrderFinalized);
    }
    // Closing is a change of its own, also where it changes no other column: a row is written only with an event, and an
    // order whose closing is never written would come up for closing for ever.
    let differs = after.status != before.status
        || after.received != before.received
        || after.flags != before.flags
        || after.late != before.late
        || after.failure_reason != before.failure_reason;
    if differs && events.is_empty() {
        events.push(EventType::OrderUpdated);
    }
    Change { events, generation, announced_generation }
}
