//! An order as the world sees it at one version: what events carry, webhooks send and subscriptions push.

use serde::{Deserialize, Serialize};

use crate::address::{AccountAddress, Hash};
use crate::ids::{OrderId, OrderRef, TransferId};
use crate::order::{FailureReason, LateStanding, OrderFlag, OrderStatus};
use crate::time::Timestamp;
use crate::transfer::{TransactionStatus, TransferState};

/// Everything about an order that its merchant may see, with amounts as people read them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderSnapshot {
    /// Number of the order.
    pub id: OrderId,
    /// Public id.
    pub order_id: OrderRef,
    /// Price, with the scale it was sent with.
    pub amount: String,
    /// Symbol.
    pub currency: String,
    /// Slug.
    pub blockchain: String,
    /// Status.
    pub status: OrderStatus,
    /// Where to pay.
    pub receiving_address: AccountAddress,
    /// The merchant's JSON, byte for byte.
    pub order_info: String,
    /// The merchant's number.
    pub nonce: i64,
    /// When it was created.
    pub created_at: Timestamp,
    /// Until when it should be paid.
    pub expires_at: Timestamp,
    /// The newest transfer that counts.
    pub transfer: Option<TransferSnapshot>,
    /// The exact amount to send.
    pub pay_amount: String,
    /// Always true: `pay_amount` is this order's alone. Kept for older clients.
    pub exact_amount: bool,
    /// What has come and counts.
    pub amount_received: String,
    /// What is still to be paid.
    pub amount_remaining: String,
    /// Whether to ship.
    pub fulfillable: bool,
    /// Flags.
    pub flags: Vec<OrderFlag>,
    /// What became of late money.
    pub late_decision: Option<LateStanding>,
    /// Confirmations of the newest transfer that counts, at this version.
    pub confirmations: u64,
    /// Depth that confirms.
    pub required_confirmations: u32,
    /// The order's own webhook.
    pub webhook_url: Option<String>,
    /// Where the customer goes afterwards.
    pub redirect_url: Option<String>,
    /// When this version was made.
    pub updated_at: Timestamp,
    /// Version.
    pub version: i64,
    /// When it was confirmed.
    pub confirmed_at: Option<Timestamp>,
    /// Why it failed.
    pub failure_reason: Option<FailureReason>,
}

/// A transfer at that version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferSnapshot {
    /// Number of the transfer.
    pub id: TransferId,
    /// Hash of the transaction.
    pub transaction_hash: Hash,
    /// Documented status.
    pub status: TransactionStatus,
    /// Stored state.
    pub state: TransferState,
    /// How much was transferred.
    pub amount: String,
    /// Symbol.
    pub currency: String,
    /// Block.
    pub block_number: u64,
    /// Time of the block.
    pub block_timestamp: Timestamp,
    /// Confirmations.
    pub confirmations: u64,
    /// Whose balance went down.
    pub from_address: AccountAddress,
    /// Whose balance went up.
    pub to_address: AccountAddress,
    /// When it was first seen.
    pub created_at: Timestamp,
}

impl OrderSnapshot {
    /// The same order at version `version`, one step before its confirmation: for events that were learned in the same
    /// moment as the confirmation but come before it, so that nobody ships on them.
    #[must_use]
    pub fn before_confirmation(&self, version: i64) -> Self {
        Self { status: OrderStatus::Confirming, fulfillable: false, confirmed_at: None, version, ..self.clone() }
    }

    /// The same order at another version.
    #[must_use]
    pub fn at_version(&self, version: i64) -> Self {
        Self { version, ..self.clone() }
    }
}
