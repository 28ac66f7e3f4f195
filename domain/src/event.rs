//! The names of events, and which of them an endpoint gets unasked.

use crate::text::words;

words! {
    /// Something that happened to an order or a merchant.
    EventType {
        /// An order was created.
        OrderCreated = "order.created",
        /// The first counting transfer is in a block.
        PaymentPending = "payment.pending",
        /// Some money came, not enough; or the order closed short.
        OrderUnderpaid = "order.underpaid",
        /// Enough money, deep enough; once per generation.
        PaymentConfirmed = "payment.confirmed",
        /// More came than was due.
        OrderOverpaid = "order.overpaid",
        /// A further payment came after the order was paid in full.
        OrderExtraPayment = "order.extra_payment",
        /// Money came after the deadline.
        OrderLatePayment = "order.late_payment",
        /// A payment came in another asset, or on another chain. It does not count.
        OrderWrongAsset = "order.wrong_asset",
        /// Closed without money.
        OrderExpired = "order.expired",
        /// The merchant took the order back.
        OrderCanceled = "order.canceled",
        /// A payment vanished before its confirmation, or the order failed.
        PaymentFailed = "payment.failed",
        /// A reorganisation took a confirmed payment back.
        PaymentReorged = "payment.reorged",
        /// All that counts is beyond any reorganisation.
        OrderFinalized = "order.finalized",
        /// Any other change: totals, flags, a status without an event of its own.
        OrderUpdated = "order.updated",
        /// A transfer that fits no order.
        TransferUnmatched = "transfer.unmatched",
        /// Sent on request, to try an endpoint.
        WebhookTest = "webhook.test",
    }
}

impl EventType {
    /// What an endpoint gets that did not choose.
    pub const DEFAULTS: &'static [Self] = &[
        Self::PaymentPending,
        Self::PaymentConfirmed,
        Self::PaymentFailed,
        Self::OrderExpired,
        Self::OrderUnderpaid,
        Self::OrderLatePayment,
        Self::OrderWrongAsset,
        Self::PaymentReorged,
        Self::TransferUnmatched,
    ];
}

/// Which events an endpoint wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventFilter {
    /// Every event, also ones that are added later.
    All,
    /// These.
    Only(Vec<EventType>),
}

/// What is wrong with a list of event names. The words go to the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEventFilter {
    /// A name that is no event.
    #[error("Unknown event \"{name}\". Known: *, {known}.")]
    Unknown {
        /// The name as sent, cut.
        name: String,
        /// All names.
        known: String,
    },
    /// No name at all.
    #[error("Name at least one event, or \"*\" for all.")]
    Empty,
}

impl Default for EventFilter {
    fn default() -> Self {
        Self::Only(EventType::DEFAULTS.to_vec())
    }
}

impl EventFilter {
    /// Parses names as clients send them; `*` means all.
    pub fn parse<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, InvalidEventFilter> {
        let mut events = Vec::new();
        let mut all = false;
        for name in names {
            if name == "*" {
                all = true;
                continue;
            }
            let event = name.parse::<EventType>().map_err(|unknown| InvalidEventFilter::Unknown {
                name: name.chars().take(64).collect(),
                known: unknown.allowed,
            })?;
            if !events.contains(&event) {
                events.push(event);
            }
        }
        match (all, events.is_empty()) {
            (true, _) => Ok(Self::All),
            (false, true) => Err(InvalidEventFilter::Empty),
            (false, false) => Ok(Self::Only(events)),
        }
    }

    /// The names, as they are shown and stored.
    pub fn names(&self) -> Vec<&'static str> {
        match self {
            Self::All => vec!["*"],
            Self::Only(events) => events.iter().map(|event| event.as_str()).collect(),
        }
    }

    /// Whether an endpoint with this filter gets `event`.
    pub fn wants(&self, event: EventType) -> bool {
        match self {
            Self::All => true,
            Self::Only(events) => events.contains(&event),
        }
    }
}

impl std::fmt::Display for EventFilter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.names().join(","))
    }
}

impl std::str::FromStr for EventFilter {
    type Err = InvalidEventFilter;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text.split(',').filter(|name| !name.is_empty()))
    }
}
