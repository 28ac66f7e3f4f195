//! What the page says, by what is going on. One table serves the server's first answer and the script in the page.

use cryptopay_domain::order::OrderStatus;
use serde_json::{Map, Value, json};

/// What is going on, as the customer sees it: the status, and where one status means two things, which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scene {
    Pending,
    /// The time to pay is over by the clock; the chain has not said so yet. Only the script can know.
    PendingOver,
    Underpaid,
    UnderpaidClosed,
    Confirming,
    Confirmed,
    Reorged,
    Expired,
    Canceled,
    Failed,
    /// Confirmed, but the shop should wait: something is being looked at once more.
    ConfirmedUnsettled,
}

impl Scene {
    const ALL: [Self; 11] = [
        Self::Pending,
        Self::PendingOver,
        Self::Underpaid,
        Self::UnderpaidClosed,
        Self::Confirming,
        Self::Confirmed,
        Self::ConfirmedUnsettled,
        Self::Reorged,
        Self::Expired,
        Self::Canceled,
        Self::Failed,
    ];

    /// The scene of an order.
    pub(super) fn of(status: OrderStatus, payable: bool, fulfillable: bool) -> Self {
        match status {
            OrderStatus::Pending => Self::Pending,
            OrderStatus::Underpaid if payable => Self::Underpaid,
            OrderStatus::Underpaid => Self::UnderpaidClosed,
            OrderStatus::Confirming => Self::Confirming,
            OrderStatus::Confirmed if fulfillable => Self::Confirmed,
            OrderStatus::Confirmed => Self::ConfirmedUnsettled,
            OrderStatus::Reorged => Self::Reorged,
            OrderStatus::Expired => Self::Expired,
            OrderStatus::Canceled => Self::Canceled,
            OrderStatus::Failed => Self::Failed,
        }
    }

    /// Reports whether the order ends here, as far as the customer can act on it. Late money may still change it.
    pub(super) fn is_end(self) -> bool {
        matches!(
            self,
            Self::Confirmed
                | Self::ConfirmedUnsettled
                | Self::UnderpaidClosed
                | Self::Expired
                | Self::Canceled
                | Self::Failed
        )
    }

    /// Its name in the page.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::PendingOver => "pending_over",
            Self::Underpaid => "underpaid",
            Self::UnderpaidClosed => "underpaid_closed",
            Self::Confirming => "confirming",
            Self::Confirmed => "confirmed",
            Self::ConfirmedUnsettled => "confirmed_unsettled",
            Self::Reorged => "reorged",
            Self::Expired => "expired",
            Self::Canceled => "canceled",
            Self::Failed => "failed",
        }
    }

    /// In a few words.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Pending => "Waiting for your payment",
            Self::PendingOver => "The time to pay is over",
            Self::Underpaid => "Part of the payment has arrived",
            Self::UnderpaidClosed => "The payment is incomplete",
            Self::Confirming => "Payment seen, being confirmed",
            Self::Confirmed | Self::ConfirmedUnsettled => "Payment confirmed",
            Self::Reorged => "The payment is being checked again",
            Self::Expired => "This order has expired",
            Self::Canceled => "This order was canceled",
            Self::Failed => "The payment failed",
        }
    }

    /// What it means and what to do.
    pub(super) fn hint(self) -> &'static str {
        match self {
            Self::Pending => "Send the amount to the address. This page updates itself.",
            Self::PendingOver => {
                "Do not send money now. If you have just sent it, it is still looked for: keep this page open."
            }
            Self::Underpaid => "Send the remaining amount to complete it.",
            Self::UnderpaidClosed => {
                "The time to pay is over. Please ask the shop what happens next; do not send more."
            }
            Self::Confirming => "Nothing more to do: the network is confirming your payment. You may leave this page.",
            Self::Confirmed => "Thank you. The shop has been told.",
            Self::ConfirmedUnsettled => "Thank you. The shop is looking at the payment once more.",
            Self::Reorged => {
                "The network took back its last blocks. Most payments return within minutes: do not pay twice."
            }
            Self::Expired => "Do not send money to this address any more. If you have already sent it, ask the shop.",
            Self::Canceled => "Do not send money. If you have already sent it, ask the shop.",
            Self::Failed => "Do not send more money. Please ask the shop.",
        }
    }

    /// The colour of the message.
    pub(super) fn tone(self) -> &'static str {
        match self {
            Self::Pending | Self::Confirming => "wait",
            Self::Confirmed | Self::ConfirmedUnsettled => "good",
            Self::Underpaid | Self::PendingOver | Self::Reorged => "warn",
            Self::UnderpaidClosed | Self::Expired | Self::Canceled | Self::Failed => "bad",
        }
    }
}

/// Every scene, for the script. Safe inside a `script` element.
pub(super) fn json() -> String {
    let scenes: Map<String, Value> = Scene::ALL
        .into_iter()
        .map(|scene| {
            let words = json!({"title": scene.title(), "hint": scene.hint(), "tone": scene.tone()});
            (scene.as_str().to_owned(), words)
        })
        .collect();
    Value::Object(scenes).to_string().replace('<', "\\u003c")
}
