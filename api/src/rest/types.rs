//! What requests and answers look like. Descriptions here are the contract's words; rows never leave as they are.

use cryptopay_domain::order::{OrderSnapshot, TransferSnapshot};
use cryptopay_domain::webhook;
use poem_openapi::Object;
use poem_openapi::registry::{MetaSchema, MetaSchemaRef};
use poem_openapi::types::{ParseFromJSON, ParseResult, ToJSON, Type};
use serde_json::Value;
use std::borrow::Cow;

use crate::fields::LENIENT_INTEGER;

/// A number of the merchant's: 0 … 2^63−1, also understood as digits in a string or as a float without a fraction.
#[derive(Debug, Clone, Copy)]
pub struct Nonce(pub i64);

impl Type for Nonce {
    const IS_REQUIRED: bool = true;
    type RawValueType = i64;
    type RawElementValueType = i64;

    fn name() -> Cow<'static, str> {
        "nonce".into()
    }

    fn schema_ref() -> MetaSchemaRef {
        MetaSchemaRef::Inline(Box::new(MetaSchema {
            title: Some(LENIENT_INTEGER.to_owned()),
            minimum: Some(0.0),
            ..MetaSchema::new_with_format("integer", "int64")
        }))
    }

    fn as_raw_value(&self) -> Option<&i64> {
        Some(&self.0)
    }

    fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a i64> + 'a> {
        Box::new(std::iter::once(&self.0))
    }
}

impl ParseFromJSON for Nonce {
    fn parse_from_json(value: Option<Value>) -> ParseResult<Self> {
        i64::parse_from_json(value).map(Self).map_err(|error| error.propagate())
    }
}

impl ToJSON for Nonce {
    fn to_json(&self) -> Option<Value> {
        Some(self.0.into())
    }
}

/// A request for a payment order.
#[derive(Debug, Object)]
pub struct CreatePaymentOrder {
    /// Price as a plain decimal: greater than 0, below 10^15, at most the token's decimals.
    #[oai(validator(min_length = 1, max_length = 64))]
    pub amount: String,
    /// Symbol of a token or coin on that chain, in any case.
    #[oai(validator(min_length = 1, max_length = 32))]
    pub currency: String,
    /// Slug of the chain, in any case.
    #[oai(validator(min_length = 1, max_length = 32))]
    pub blockchain: String,
    /// A string that holds valid JSON, at most 8192 bytes; returned byte for byte.
    pub order_info: String,
    /// Your number for this order, unique among your orders: 0 … 2^63−1.
    pub nonce: Nonce,
    /// Gets this order's events, besides your registered endpoints: http or https, at most 2048 characters.
    pub webhook_url: Option<String>,
    /// Where the customer goes afterwards: http or https, at most 2048 characters, without a user name or control
    /// characters. In live mode https only.
    pub redirect_url: Option<String>,
    /// Until when it should be paid: RFC 3339, 1 minute to 30 days ahead; 2 hours if not said.
    pub expires_at: Option<String>,
}

/// A decision about an order.
#[derive(Debug, Object)]
pub struct ResolvePaymentOrder {
    /// `accept` or `reject`.
    pub decision: String,
    /// Why, for the audit log.
    #[oai(validator(max_length = 1000))]
    pub note: Option<String>,
}

/// An unmatched transfer for an order.
#[derive(Debug, Object)]
pub struct AllocateTransfer {
    /// Hash of the transaction.
    pub transaction_hash: String,
    /// Which transfer of the transaction, as `transfers[]` shows it; needed where there are several.
    pub position: Option<String>,
    /// How much of it; all that is left if not said.
    pub amount: Option<String>,
    /// Why, for the audit log.
    #[oai(validator(max_length = 1000))]
    pub note: Option<String>,
}

/// A transaction as lists show it.
#[derive(Debug, Clone, Object)]
pub struct TransactionSummary {
    /// Number of the transfer, for `after`. Several transfers may share one transaction.
    pub id: i64,
    /// Hash of the transaction.
    pub transaction_hash: String,
    /// Slug of the chain.
    pub blockchain: String,
    /// `pending`, `confirmed` or `failed`.
    pub status: String,
    /// How much was transferred.
    pub amount: String,
    /// Symbol.
    pub currency: String,
    /// When it was first seen: RFC 3339, UTC.
    pub created_at: String,
    /// Public id of the order that it pays, if any: in a list the one that was asked for, or else the first that has a
    /// share.
    pub order_id: Option<String>,
    /// How much of it belongs to no order: what can still be allocated. Only in lists of transactions.
    #[oai(skip_serializing_if_is_none)]
    pub unassigned_amount: Option<String>,
    /// Confirmations: 1 in the newest block.
    pub confirmations: u64,
}

impl TransactionSummary {
    /// From a snapshot.
    pub fn new(transfer: &TransferSnapshot, blockchain: &str, order_id: Option<String>) -> Self {
        Self {
            id: transfer.id.0,
            transaction_hash: transfer.transaction_hash.to_string(),
            blockchain: blockchain.to_owned(),
            status: transfer.status.to_string(),
            amount: transfer.amount.clone(),
            currency: transfer.currency.clone(),
            created_at: transfer.created_at.to_string(),
            order_id,
            unassigned_amount: None,
            confirmations: transfer.confirmations,
        }
    }
}

/// A payment order.
#[derive(Debug, Clone, Object)]
pub struct PaymentOrder {
    /// Number of the order.
    pub id: i64,
    /// Public id, `ORD-…`.
    pub order_id: String,
    /// Price, as it was sent.
    pub amount: String,
    /// Symbol.
    pub currency: String,
    /// Slug of the chain.
    pub blockchain: String,
    /// `pending`, `underpaid`, `confirming`, `confirmed`, `reorged`, `expired`, `canceled` or `failed`.
    pub status: String,
    /// Where to pay.
    pub receiving_address: String,
    /// Address of the payment page.
    pub payment_url: String,
    /// Relative address of the QR code.
    pub qr_code_url: String,
    /// Your JSON, byte for byte.
    pub order_info: String,
    /// Your number.
    pub nonce: i64,
    /// When it was created: RFC 3339, UTC.
    pub created_at: String,
    /// Until when it should be paid: RFC 3339, UTC.
    pub expires_at: String,
    /// The newest transfer that counts.
    pub transaction: Option<TransactionSummary>,
    /// The exact amount to send: up to 0.5 % below `amount` where orders share an address, so that the amount names the
    /// order; never above. Compare receipts with this, or just ship on `fulfillable`.
    pub pay_amount: String,
    /// Always true: `pay_amount` is this order's alone. Kept for older clients.
    pub exact_amount: bool,
    /// What has come and counts.
    pub amount_received: String,
    /// What completes the order.
    pub amount_remaining: String,
    /// Whether to ship.
    pub fulfillable: bool,
    /// `overpaid`, `late`, `extra_payment`, `wrong_asset`, `review`, `manual`, `finalized`.
    pub flags: Vec<String>,
    /// What became of late money: `accepted`, `review` or `rejected`.
    pub late_decision: Option<String>,
    /// Confirmations of the newest transfer that counts.
    pub confirmations: u64,
    /// Confirmations at which it counts as paid.
    pub required_confirmations: u32,
    /// This order's own webhook.
    pub webhook_url: Option<String>,
    /// Where the customer goes afterwards.
    pub redirect_url: Option<String>,
    /// When it was last changed: RFC 3339, UTC.
    pub updated_at: String,
    /// Raised by every change; ignore a version that you have seen.
    pub version: i64,
    /// When it was confirmed: RFC 3339, UTC.
    pub confirmed_at: Option<String>,
    /// Why it failed.
    pub failure_reason: Option<String>,
}

impl PaymentOrder {
    /// From a snapshot. `public_url` is the prefix of the payment page.
    pub fn new(order: &OrderSnapshot, public_url: &str) -> Self {
        let order_id = order.order_id.to_string();
        let transaction = order
            .transfer
            .as_ref()
            .map(|transfer| TransactionSummary::new(transfer, &order.blockchain, Some(order_id.clone())));
        Self {
            id: order.id.0,
            amount: order.amount.clone(),
            currency: order.currency.clone(),
            blockchain: order.blockchain.clone(),
            status: order.status.to_string(),
            receiving_address: order.receiving_address.to_string(),
            payment_url: format!("{public_url}/order/{order_id}"),
            qr_code_url: format!("/qr/{order_id}"),
            order_info: order.order_info.clone(),
            nonce: order.nonce,
            created_at: order.created_at.to_string(),
            expires_at: order.expires_at.to_string(),
            transaction,
            pay_amount: order.pay_amount.clone(),
            exact_amount: order.exact_amount,
            amount_received: order.amount_received.clone(),
            amount_remaining: order.amount_remaining.clone(),
            fulfillable: order.fulfillable,
            flags: order.flags.iter().map(ToString::to_string).collect(),
            late_decision: order.late_decision.map(|decision| decision.to_string()),
            confirmations: order.confirmations,
            required_confirmations: order.required_confirmations,
            webhook_url: order.webhook_url.clone(),
            redirect_url: order.redirect_url.clone(),
            updated_at: order.updated_at.to_string(),
            version: order.version,
            confirmed_at: order.confirmed_at.map(|time| time.to_string()),
            failure_reason: order.failure_reason.map(|reason| reason.to_string()),
            order_id,
        }
    }
}

/// An event of an order's history, or of the merchant's.
#[derive(Debug, Clone, Object)]
pub struct EventItem {
    /// Public id, `evt_…`.
    pub id: String,
    /// What happened.
    pub event: String,
    /// Order of visibility; null for the moment until the event is published.
    pub sequence: Option<i64>,
    /// Version of the order that it made.
    pub order_version: Option<i64>,
    /// What led to it.
    pub cause: String,
    /// When: RFC 3339, UTC.
    pub created_at: String,
    /// What a webhook says of it, as `data`: the state afterwards.
    pub data: poem_openapi::types::Any<Value>,
}

impl EventItem {
    /// From a row.
    pub fn new(event: &cryptopay_entity::event::Model) -> Self {
        Self {
            id: event.event_id.to_string(),
            event: event.event_type.to_string(),
            sequence: event.sequence,
            order_version: event.order_version,
            cause: event.cause.clone(),
            created_at: event.created_at.to_string(),
            data: poem_openapi::types::Any(data_of(event).unwrap_or_default()),
        }
    }
}

/// `data` of the webhook that tells of an event.
fn data_of(event: &cryptopay_entity::event::Model) -> serde_json::Result<Value> {
    if event.order_id.is_none() {
        let snapshot = serde_json::from_str(&event.snapshot)?;
        return Ok(Value::Object(webhook::plain_data(&event.event_id, &snapshot)));
    }
    let order: OrderSnapshot = serde_json::from_str(&event.snapshot)?;
    serde_json::to_value(webhook::order_data(event.event_type, &event.event_id, &order))
}
