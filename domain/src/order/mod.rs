//! The promise to a merchant: what an order asks for, when, and what becomes of it.
//!
//! `derive` is the one place that decides a status; `change` says which events a change of status makes; `snapshot` is
//! how the world sees an order at one version.

mod change;
mod derive;
mod snapshot;

#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::registry::{Chain, Token};
use crate::text::words;
use crate::time::Timestamp;
use crate::units::Units;

pub use change::{Announced, Change, change};
pub use derive::{AllocationFact, ChainView, Derived, History, LateStanding, OrderFlag, Standing, derive};
pub use snapshot::{OrderSnapshot, TransferSnapshot};

words! {
    /// The status of an order. Derived, never set.
    OrderStatus {
        /// Waiting for money.
        Pending = "pending",
        /// Some money came, not enough.
        Underpaid = "underpaid",
        /// Enough money is in blocks that are not deep enough yet.
        Confirming = "confirming",
        /// Enough money, deep enough.
        Confirmed = "confirmed",
        /// Was confirmed; a chain reorganisation took the money back.
        Reorged = "reorged",
        /// Closed without money.
        Expired = "expired",
        /// The merchant took it back before any money came.
        Canceled = "canceled",
        /// It cannot complete.
        Failed = "failed",
    }
}

words! {
    /// Why an order failed.
    FailureReason {
        /// The operator rejected the payment.
        Rejected = "rejected",
        /// All money came late and the merchant's policy rejects late money.
        LatePaymentRejected = "late_payment_rejected",
        /// The receiving address was claimed by its proven owner.
        AddressClaimedByOwner = "address_claimed_by_owner",
    }
}

words! {
    /// What happens to money that comes after the deadline.
    LatePolicy {
        /// It counts.
        Accept = "accept",
        /// It waits for the merchant's decision.
        Review = "review",
        /// It does not count, and the order fails.
        Reject = "reject",
    }
}

impl LatePolicy {
    /// The policy of a merchant who has set none. A stablecoin keeps its price over the late window; other assets do not.
    pub fn default_for(token: &Token) -> Self {
        if token.stable.is_some() { Self::Accept } else { Self::Review }
    }
}

words! {
    /// What the operator decided about an order that needs a decision.
    Decision {
        /// Short, late or reviewed money counts.
        Accept = "accept",
        /// The order fails.
        Reject = "reject",
    }
}

/// How long after `expires_at` a payment is still in time: clocks differ, and a block is stamped before it is full.
pub const GRACE: Duration = Duration::from_secs(60);
/// Late window of stablecoins.
pub const LATE_WINDOW_STABLE: Duration = Duration::from_secs(24 * 3600);
/// Late window of every other asset: its price moves.
pub const LATE_WINDOW: Duration = Duration::from_secs(2 * 3600);

/// The deadlines of an order. All of them are compared with block times, never with a wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windows {
    /// What the customer is told.
    pub expires_at: Timestamp,
    /// A payment in a block up to this time is in time.
    pub in_time_until: Timestamp,
    /// End of the late window.
    pub late_until: Timestamp,
    /// Nothing is matched in blocks after this time.
    pub monitor_until: Timestamp,
}

impl Windows {
    /// The deadlines of an order that expires at `expires_at`.
    pub fn new(expires_at: Timestamp, token: &Token, chain: &Chain) -> Self {
        let late_window = if token.stable.is_some() { LATE_WINDOW_STABLE } else { LATE_WINDOW };
        let in_time_until = expires_at.plus(GRACE);
        let late_until = in_time_until.plus(late_window);
        let monitor_until = late_until.plus(chain.block_time.saturating_mul(chain.reorg_depth));
        Self { expires_at, in_time_until, late_until, monitor_until }
    }
}

/// What an order asks for; fixed at creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// What to pay, in base units.
    pub due: Units,
    /// Deadlines.
    pub windows: Windows,
    /// Depth that confirms.
    pub required_confirmations: u32,
    /// What happens to late money.
    pub late_policy: LatePolicy,
}
