//! What the gateway sends by itself: one entry for each event, with the body and the headers of its webhook.

use cryptopay_domain::event::EventType;
use cryptopay_domain::order::OrderStatus;
use poem_openapi::Object;
use poem_openapi::registry::Registry;
use poem_openapi::types::Type;
use serde_json::{Map, Value, json};

use super::facts::{self, object};

/// A webhook about an order. The same bytes on every attempt.
#[derive(Debug, Object)]
pub struct OrderWebhook {
    /// What happened; the header `X-Webhook-Event` says it too.
    pub event: String,
    /// The order as it was then. Ignore an `order_version` below one that you have seen.
    pub data: OrderWebhookData,
    /// When it happened: RFC 3339, UTC.
    pub timestamp: String,
    /// Public id of the delivery, `wh_…`, the same on every attempt: take each only once.
    pub webhook_id: String,
}

/// An order, as webhooks tell of it.
#[derive(Debug, Object)]
pub struct OrderWebhookData {
    /// Public id of the order, `ORD-…`.
    pub order_id: String,
    /// Hash of the newest transaction that counts; null where none does, as with all fields of the transaction.
    pub transaction_hash: Option<String>,
    /// Price, as it was sent.
    pub amount: String,
    /// Symbol.
    pub currency: String,
    /// Slug of the chain.
    pub blockchain: String,
    /// `pending`, `confirmed`, `failed` or `expired` on `payment.pending`, `payment.confirmed`, `payment.failed` and
    /// `order.expired`; the order's status on all others.
    pub status: String,
    /// Confirmations of the transaction: 1 in the newest block.
    pub confirmations: u64,
    /// Height of the transaction's block.
    pub block_number: Option<u64>,
    /// Who paid.
    pub from_address: Option<String>,
    /// The wallet that was credited, not the token contract.
    pub to_address: Option<String>,
    /// Your JSON, byte for byte.
    pub order_info: String,
    /// When the order was created: RFC 3339, UTC.
    pub created_at: String,
    /// When the order was confirmed: RFC 3339, UTC.
    pub confirmed_at: Option<String>,
    /// Number of the order.
    pub id: i64,
    /// Your number.
    pub nonce: i64,
    /// Public id of the event, `evt_…`, the same for all your endpoints.
    pub event_id: String,
    /// Raised by every change of the order.
    pub order_version: i64,
    /// The order's status, on every event.
    pub order_status: String,
    /// Whether to ship.
    pub fulfillable: bool,
    /// The exact amount to send.
    pub pay_amount: String,
    /// How much the transaction brought.
    pub transfer_amount: Option<String>,
    /// What has come and counts.
    pub amount_received: String,
    /// What completes the order.
    pub amount_remaining: String,
    /// Confirmations at which it counts as paid.
    pub required_confirmations: u32,
    /// Until when the order should be paid: RFC 3339, UTC.
    pub expires_at: String,
    /// `overpaid`, `late`, `extra_payment`, `wrong_asset`, `review`, `manual`, `finalized`.
    pub flags: Vec<String>,
    /// What became of late money: `accepted`, `review` or `rejected`.
    pub late_decision: Option<String>,
    /// Why the order failed.
    pub failure_reason: Option<String>,
}

/// A webhook about a transfer to one of your addresses that fits no order.
#[derive(Debug, Object)]
pub struct TransferWebhook {
    /// `transfer.unmatched`.
    pub event: String,
    /// The transfer.
    pub data: TransferWebhookData,
    /// When it happened: RFC 3339, UTC.
    pub timestamp: String,
    /// Public id of the delivery, `wh_…`, the same on every attempt: take each only once.
    pub webhook_id: String,
}

/// A transfer that fits no order. `POST /api/payment-orders/{id}/allocations/` gives it to one.
#[derive(Debug, Object)]
pub struct TransferWebhookData {
    /// Hash of the transaction.
    pub transaction_hash: String,
    /// Which transfer of the transaction.
    pub position: String,
    /// Slug of the chain.
    pub blockchain: String,
    /// How much was transferred; null for a token that is not registered.
    pub amount: Option<String>,
    /// Symbol; null for a token that is not registered.
    pub currency: Option<String>,
    /// Height of the block.
    pub block_number: u64,
    /// Time of the block: RFC 3339, UTC.
    pub block_timestamp: String,
    /// Who paid.
    pub from_address: String,
    /// The wallet that was credited.
    pub to_address: String,
    /// Every order that came into question, and why it was not the one.
    pub candidates: Vec<MatchCandidate>,
    /// Public id of the event, `evt_…`.
    pub event_id: String,
}

/// An order that came into question for a transfer.
#[derive(Debug, Object)]
pub struct MatchCandidate {
    /// Public id of the order, `ORD-…`.
    pub order_id: String,
    /// What spoke for it, and why it won or lost.
    pub verdict: String,
}

/// A webhook that was asked for, to try an endpoint. Nothing has happened.
#[derive(Debug, Object)]
pub struct TestWebhook {
    /// `webhook.test`.
    pub event: String,
    /// What the test says.
    pub data: TestWebhookData,
    /// When it was asked for: RFC 3339, UTC.
    pub timestamp: String,
    /// Public id of the delivery, `wh_…`.
    pub webhook_id: String,
}

/// What a test says.
#[derive(Debug, Object)]
pub struct TestWebhookData {
    /// Number of the endpoint.
    pub endpoint_id: i64,
    /// That nothing has happened.
    pub message: String,
    /// Public id of the event, `evt_…`.
    pub event_id: String,
}

/// Adds the webhooks and their schemas.
pub(super) fn add(document: &mut Value) -> Result<(), serde_json::Error> {
    let mut registry = Registry::new();
    OrderWebhook::register(&mut registry);
    TransferWebhook::register(&mut registry);
    TestWebhook::register(&mut registry);
    let added = object(serde_json::to_value(&registry.schemas)?);
    if let Some(schemas) = document.pointer_mut("/components/schemas").and_then(Value::as_object_mut) {
        schemas.extend(added);
    }
    let webhooks: Map<String, Value> =
        EventType::ALL.iter().map(|event| (event.as_str().to_owned(), json!({"post": entry(*event)}))).collect();
    if let Some(root) = document.as_object_mut() {
        root.insert("webhooks".into(), webhooks.into());
    }
    Ok(())
}

/// What the fields of webhooks hold that no other schema has.
pub(super) fn fact(schema: &str, field: &str) -> Option<Map<String, Value>> {
    let statuses: Vec<&str> = OrderStatus::ALL.iter().map(|status| status.as_str()).collect();
    let fact = match (schema, field) {
        ("OrderWebhookData", "status" | "order_status") => json!({"enum": statuses, "examples": ["confirmed"]}),
        ("OrderWebhookData", "amount_remaining") => json!({"examples": ["0.00"]}),
        ("MatchCandidate", "verdict") => json!({"examples": ["another amount is due"]}),
        ("TransferWebhook", "event") => json!({"const": "transfer.unmatched", "examples": ["transfer.unmatched"]}),
        ("TestWebhook", "event") => json!({"const": "webhook.test", "examples": ["webhook.test"]}),
        ("TestWebhookData", "message") => json!({"examples": ["This is a test. Nothing has happened."]}),
        _ => return None,
    };
    Some(object(fact))
}

fn entry(event: EventType) -> Value {
    let schema = match event {
        EventType::TransferUnmatched => "TransferWebhook",
        EventType::WebhookTest => "TestWebhook",
        _ => "OrderWebhook",
    };
    let name: String = event.as_str().split(['.', '_']).map(capitalised).collect();
    let unasked = if EventType::DEFAULTS.contains(&event) { " Endpoints get it unless they choose." } else { "" };
    json!({
        "operationId": format!("on{name}"),
        "summary": summary(event),
        "description": format!(
            "Sent to endpoints that want `{event}`.{unasked} Check `X-Webhook-Signature` before anything else; answer 2xx within \
             15 s, and do the work afterwards. Any other answer is tried again for about three days."
        ),
        "tags": ["Webhooks"],
        "security": [],
        "parameters": headers(event),
        "requestBody": {
            "required": true,
            "content": {"application/json": {"schema": {"$ref": format!("#/components/schemas/{schema}")}}},
        },
        "responses": {
            "2XX": {"description": "Taken; it is not sent again. Redirects are not followed and count as failures."},
            "410": {"description": "Not wanted any more: three times over at least 10 minutes switch the endpoint off."},
            "429": {"description": "Later: `Retry-After` is honoured, up to an hour."},
            "503": {"description": "Later: `Retry-After` is honoured, up to an hour."},
        },
    })
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect()
}

const fn summary(event: EventType) -> &'static str {
    match event {
        EventType::OrderCreated => "An order was created",
        EventType::PaymentPending => "The first payment of an order is in a block",
        EventType::OrderUnderpaid => "Too little was paid",
        EventType::PaymentConfirmed => "An order is paid and deep enough: ship on `fulfillable`",
        EventType::OrderOverpaid => "More than was due was paid",
        EventType::OrderExtraPayment => "A further payment came after the order was paid in full",
        EventType::OrderLatePayment => "Money came after the deadline",
        EventType::OrderWrongAsset => "A payment came in another asset, or on another chain",
        EventType::OrderExpired => "The deadline passed without money",
        EventType::OrderCanceled => "You canceled an order",
        EventType::PaymentFailed => "A payment vanished before its confirmation, or the order failed",
        EventType::PaymentReorged => "A reorganisation of the chain took a confirmed payment back",
        EventType::OrderFinalized => "All that counts is beyond any reorganisation",
        EventType::OrderUpdated => "Anything else about an order changed",
        EventType::TransferUnmatched => "A transfer to one of your addresses fits no order",
        EventType::WebhookTest => "You asked for a test",
    }
}

fn headers(event: EventType) -> Value {
    let header = |name: &str, words: &str, schema: Value, example: Value, required: bool| json!({"name": name, "in": "header", "required": required, "description": words, "schema": schema, "example": example});
    let text = || json!({"type": "string"});
    let hex = || json!({"type": "string", "pattern": "^[0-9a-f]{64}$"});
    let seconds = || json!({"type": "integer", "format": "int64"});
    let delivery = facts::of_field("", "webhook_id", false)
        .and_then(|fact| fact.get("examples")?.get(0).cloned())
        .unwrap_or_default();
    let digest = "5d5f8d0e2d3b8f1a3cbb0f2f0f5ad1d7b1b0c7a6f0d5f5a0c4f2f5d1a6f0b9e3";
    json!([
        header(
            "X-Webhook-Signature",
            "HMAC-SHA256 of the raw body in lower-case hex. The key is the endpoint's secret, all of its characters.",
            hex(),
            digest.into(),
            true,
        ),
        header(
            "X-Webhook-Signature-Previous",
            "The same with the secret before the last rotation, for 24 hours after it.",
            hex(),
            digest.into(),
            false,
        ),
        header("X-Webhook-Id", "The body's `webhook_id`.", text(), delivery.clone(), true),
        header("X-Webhook-Event", "The body's `event`.", json!({"const": event.as_str()}), event.as_str().into(), true),
        header(
            "X-Webhook-Timestamp",
            "When this attempt was made, in Unix seconds.",
            seconds(),
            json!(1_769_860_800),
            true
        ),
        header(
            "X-Webhook-Attempt",
            "Which attempt this is, from 1.",
            json!({"type": "integer", "minimum": 1}),
            json!(1),
            true
        ),
        header("webhook-id", "As Standard Webhooks has it: the body's `webhook_id`.", text(), delivery, true),
        header(
            "webhook-timestamp",
            "As Standard Webhooks has it: when this attempt was made, in Unix seconds.",
            seconds(),
            json!(1_769_860_800),
            true,
        ),
        header(
            "webhook-signature",
            "As Standard Webhooks has it: `v1,` and the base64 of an HMAC-SHA256, one for each secret that is good, with \
             blanks between them. Its published libraries verify it.",
            text(),
            "v1,XV+NDi07jxo8uw8vD1rR17GwxqfwtfWgxPL10abwueM=".into(),
            true,
        ),
    ])
}
