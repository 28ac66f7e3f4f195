//! What fields and parameters hold, beyond the type that the generator knows: the form of a string, the words that it can
//! be, and an example that goes with the others into one story: an order of 100 USDC on Base, paid by one transaction.
//!
//! A field is looked up as `Schema.field`, then by its name alone.

use cryptopay_domain::event::EventType;
use cryptopay_domain::matching::Method;
use cryptopay_domain::merchant::{DeliveryState, EndpointScope, Ownership, Plan, WalletKind};
use cryptopay_domain::order::{Decision, FailureReason, LateStanding, OrderFlag, OrderStatus};
use cryptopay_domain::transfer::{TransactionStatus, TransferState};
use cryptopay_sandbox::{FaultKind, Scenario};
use serde_json::{Map, Value, json};

use crate::error::ErrorCode;

pub(super) const ORDER: &str = "ORD-k3vq7xw2m5ab";
pub(super) const WALLET: &str = "0x52908400098527886E0F7030069857D2E4169EE7";
pub(super) const CUSTOMER: &str = "0x8617E340B3D01FA5F11F306F4090FD50E238070D";
pub(super) const TRANSACTION: &str = "0x7f1c2f0e5b1d7c6a3f6f1f9a0cdeed0d6c1c8b6f7a1f3f7b1f0e2a9c4d5b6e01";
const USDC: &str = "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913";
const FAUCET: &str = "0x1594286049Aeb9B06A3bdaebbd90F4B782117Bd7";
const DELIVERY: &str = "wh_4hq2xk7mvz5c3wnybd6ufa2t";
const EVENT: &str = "evt_b7wq5mzk3xvhc2ydn4ufa6te";
const API_KEY: &str = "sk_test_YOUR_API_KEY";
const ACCESS: &str = "YOUR_ACCESS_TOKEN";
const REFRESH: &str = "YOUR_REFRESH_TOKEN";
const SECRET: &str = "whsec_YOUR_WEBHOOK_SECRET";

const AMOUNT: &str = r"^[0-9]+(\.[0-9]+)?$";
const ADDRESS: &str = "^0x[0-9a-fA-F]{40}$";
/// The same with an optional short name of its chain before it (EIP-3770).
const OWN_ADDRESS: &str = "^([-a-zA-Z0-9]{1,20}:)?0x[0-9a-fA-F]{40}$";
const HASH: &str = "^0x[0-9a-fA-F]{64}$";
const ORDER_ID: &str = "^ORD-[a-z2-7]{12}$";
const DELIVERY_ID: &str = "^wh_[a-z2-7]{24}$";
const EVENT_ID: &str = "^evt_[a-z2-7]{24}$";
const WEB: &str = "^[hH][tT][tT][pP][sS]?://";

type Fact = Map<String, Value>;

/// What a field of a schema holds.
pub(super) fn of_field(schema: &str, field: &str, is_request: bool) -> Option<Fact> {
    special(schema, field).or_else(|| if is_request { asked(field) } else { None }).or_else(|| usual(field))
}

/// A value that a field of a request can have.
pub(crate) fn example_of(schema: &str, field: &str) -> Option<Value> {
    let mut fact = of_field(schema, field, true)?;
    match fact.remove("examples") {
        Some(examples) => examples.get(0).filter(|example| !example.is_null()).cloned(),
        // Times to come have no example in the document: one that is sent as it stands would be over one day.
        None if fact.get("format").is_some_and(|format| format == "date-time") => Some(json!("2999-12-31T12:00:00Z")),
        None => None,
    }
}

/// What a parameter of a path holds, type and all.
pub(super) fn of_parameter(path: &str, name: &str) -> Option<Fact> {
    Some(match name {
        "page" => with(counted(1), "default", json!(1)),
        "page_size" => with(counted(20), "default", json!(20)),
        "after" if path == "/api/events/" => whole(0, Some(i64::MAX), json!(0)),
        "after" if path == "/api/payment-orders/" => order_or_number(),
        "after" if path.ends_with("/deliveries/") => text(DELIVERY_ID, DELIVERY),
        "after" if path.ends_with("/events/") => text(EVENT_ID, EVENT),
        "after" => whole(1, Some(i64::MAX), json!(7)),
        "wait" => with(whole(0, Some(60), json!(10)), "default", json!(0)),
        "nonce" => whole(0, Some(i64::MAX), json!(1_766_000_000_000_i64)),
        "is_active" | "matched" => object(json!({"type": "boolean", "examples": [true]})),
        "ordering" => object(json!({
            "type": "string", "enum": ["created_at", "-created_at"], "default": "-created_at", "examples": ["created_at"],
        })),
        "status" if path.starts_with("/api/payment-orders/") => several(names(OrderStatus::ALL)),
        "status" if path.starts_with("/api/transactions/") => several(names(TransactionStatus::ALL)),
        "status" => several(names(DeliveryState::ALL)),
        "event" if path.starts_with("/api/sandbox/") => object(json!({
            "type": "string", "enum": names(EventType::ALL), "examples": ["payment.confirmed"],
        })),
        "event" => several(names(EventType::ALL)),
        "Idempotency-Key" => object(json!({
            "type": "string", "minLength": 1, "maxLength": 255, "pattern": r"^[\x21-\x7e]+$",
        })),
        "format" => object(json!({"type": "string", "enum": ["svg", "png"], "default": "svg", "examples": ["svg"]})),
        "content" => object(json!({
            "type": "string", "enum": ["address", "uri"], "default": "address", "examples": ["address"],
        })),
        "Last-Event-ID" => object(json!({"type": "string", "examples": ["42"]})),
        "order_id" if path.starts_with("/api/transactions/") => order_or_number(),
        "order_id" => text(ORDER_ID, ORDER),
        "id" if path.contains("/payment-orders/") => order_or_number(),
        "id" if path.contains("/webhook-deliveries/") => text(DELIVERY_ID, DELIVERY),
        "id" => whole(1, Some(i64::MAX), json!(7)),
        "hash" => text(HASH, TRANSACTION),
        "slug" | "blockchain" => text("^[a-zA-Z0-9-]+$", "base"),
        "currency" => object(json!({"type": "string", "examples": ["USDC"]})),
        "search" => object(json!({"type": "string", "examples": ["Premium Plan"]})),
        "created_after" | "created_before" => {
            object(json!({"type": "string", "format": "date-time", "examples": ["2026-01-31T00:00:00Z"]}))
        }
        _ => return None,
    })
}

/// Fields whose name means something else elsewhere.
fn special(schema: &str, field: &str) -> Option<Fact> {
    let fact = match (schema, field) {
        ("WebhookEndpoint", "state") => {
            json!({"enum": ["healthy", "failing", "open", "disabled"], "examples": ["healthy"]})
        }
        ("WebhookEndpoint", "url") => json!({"format": "uri", "examples": ["https://shop.example/hooks/cryptopay"]}),
        ("WebhookEndpoint", "scope") => json!({"enum": names(EndpointScope::ALL), "examples": ["merchant"]}),
        ("WebhookDelivery", "status") => json!({"enum": names(DeliveryState::ALL), "examples": ["delivered"]}),
        ("WebhookDelivery", "id") => json!({"pattern": DELIVERY_ID, "examples": [DELIVERY]}),
        ("WebhookAttempt" | "WebhookTest", "status") | ("WebhookDelivery", "last_status") => {
            json!({"minimum": 100, "maximum": 999, "examples": [200]})
        }
        ("ChangePaymentSettings", "confirmations") => json!({
            "additionalProperties": {"type": ["integer", "null"], "format": "int64", "minimum": 1},
            "examples": [{"base": 12}],
        }),
        ("PaymentSettings", "confirmations") => json!({"examples": [{"base": 12}]}),
        ("WebhookReplay", "next_after") => json!({"pattern": DELIVERY_ID, "examples": [null]}),
        ("ReplayWebhookDeliveries", "after") => json!({"pattern": DELIVERY_ID, "examples": [DELIVERY]}),
        ("ReplayWebhookDeliveries", "status") => {
            json!({"pattern": "^(dead|delivered)(,(dead|delivered))*$", "examples": ["dead"]})
        }
        ("ReplayWebhookDeliveries", "since") => json!({"format": "date-time", "examples": ["2026-01-31T00:00:00Z"]}),
        ("ReplayWebhookDeliveries", "until") => json!({"format": "date-time", "examples": ["2026-02-01T00:00:00Z"]}),
        ("PaymentClaim", "pays") => {
            json!({"enum": ["this_order", "another_order", "nobody"], "examples": ["this_order"]})
        }
        ("WebhookAttempt" | "WebhookTest", "error") => json!({"examples": [null]}),
        ("EventItem", "id") => json!({"pattern": EVENT_ID, "examples": [EVENT]}),
        ("EventItem", "data") => json!({"type": "object", "examples": [{"order_id": ORDER, "status": "confirmed"}]}),
        ("Match", "evidence") => json!({
            "type": "object",
            "examples": [{"candidates": [{"order_id": ORDER, "verdict": "the amount is this order's alone"}]}],
        }),
        ("Transaction" | "TransactionSummary" | "TransactionTransfer" | "PaymentClaim", "status") => {
            json!({"enum": names(TransactionStatus::ALL), "examples": ["confirmed"]})
        }
        ("Transaction" | "TransactionTransfer" | "PaymentClaim", "state") => {
            json!({"enum": names(TransferState::ALL), "examples": ["final"]})
        }
        ("PaymentOrder" | "PaymentPageStatus", "status") | ("SimulatedPayment", "order_status") => {
            json!({"enum": names(OrderStatus::ALL), "examples": ["pending"]})
        }
        ("PaymentOrder", "transaction") => json!({"examples": [null]}),
        ("PaymentOrder", "flags" | "late_decision" | "failure_reason" | "confirmed_at") => return unset(field),
        ("PaymentOrder" | "PaymentPageStatus", "amount_received") => json!({"pattern": AMOUNT, "examples": ["0.00"]}),
        ("PaymentOrder" | "PaymentPageStatus", "confirmations") => json!({"examples": [0]}),
        ("PaymentOrder" | "PaymentPageStatus", "fulfillable") => json!({"examples": [false]}),
        ("PaymentPageStatus", "transaction_hash") => json!({"pattern": HASH, "examples": [null]}),
        ("PaymentPageStatus", "amount_overpaid") => json!({"pattern": AMOUNT, "examples": [null]}),
        ("PaymentPageStatus", "paid_at") => json!({"format": "date-time", "examples": [null]}),
        ("PaymentPageStatus", "explorer_url") => json!({"format": "uri", "examples": [null]}),
        ("CreateWallet" | "ChangeWallet", "address") => json!({"pattern": OWN_ADDRESS, "examples": [WALLET]}),
        ("BlockchainToken", "address") => json!({"pattern": ADDRESS, "examples": [USDC]}),
        ("Blockchain", "name") => json!({"examples": ["Base"]}),
        ("Blockchain", "problem") => json!({"examples": [null]}),
        ("BreakNode", "kind") => json!({"enum": names(&FaultKind::ALL), "examples": ["down"]}),
        ("BreakNode", "seconds") => json!({"examples": [60]}),
        ("NodeFaultState", "kind") => json!({"enum": names(&FaultKind::ALL), "examples": ["down"]}),
        ("NodeFaultState", "until") => json!({"format": "date-time", "examples": ["2026-01-31T12:01:00Z"]}),
        ("AskFaucet" | "FaucetPayment", "address" | "to_address") => {
            json!({"pattern": ADDRESS, "examples": [CUSTOMER]})
        }
        ("FaucetPayment", "from_address") => json!({"pattern": ADDRESS, "examples": [FAUCET]}),
        ("ChangeInbox" | "InboxAnswers", "status") => json!({"minimum": 200, "maximum": 599, "examples": [503]}),
        ("DeletedThings", _) => json!({"minimum": 0, "examples": [1]}),
        ("InboxMessage", "body") => json!({"examples": ["{\"event\":\"payment.confirmed\",\"data\":{}}"]}),
        ("InboxMessage", "headers") => {
            json!({"type": "object", "examples": [{"x-webhook-event": "payment.confirmed"}]})
        }
        ("CreateApiKey", "expires_at") | ("CreatePaymentOrder", "expires_at") => json!({"format": "date-time"}),
        ("CreateWebhookEndpoint" | "ChangeWebhookEndpoint", "events") => {
            let names: Vec<&str> = names(EventType::ALL).into_iter().chain(["*"]).collect();
            json!({"enum": names, "examples": ["payment.confirmed"]})
        }
        ("CreateWebhookEndpoint" | "ChangeWebhookEndpoint", "description") => json!({"examples": ["Warehouse"]}),
        ("CreatedApiKey", "secret") => json!({"examples": [API_KEY]}),
        (_, "created_by") => json!({"examples": [null]}),
        ("Verify", "token") => json!({"examples": [ACCESS]}),
        ("Error", "success") => json!({"const": false, "examples": [false]}),
        ("ErrorBody", "message") => json!({"examples": ["There is no such order."]}),
        _ => return super::webhooks::fact(schema, field),
    };
    Some(object(fact))
}

/// What an order has not, or not yet.
fn unset(field: &str) -> Option<Fact> {
    let fact = match field {
        "flags" => json!({"enum": names(OrderFlag::ALL), "examples": [[]]}),
        "late_decision" => json!({"enum": names(LateStanding::ALL), "examples": [null]}),
        "failure_reason" => json!({"enum": names(FailureReason::ALL), "examples": [null]}),
        _ => json!({"format": "date-time", "examples": [null]}),
    };
    Some(object(fact))
}

/// Fields of requests that are understood in more forms than they are answered in.
fn asked(field: &str) -> Option<Fact> {
    let fact = match field {
        // A number above 2^53 cannot be a number in every language.
        "nonce" => json!({
            "type": ["integer", "string"], "minimum": 0, "pattern": r"^[0-9]{1,19}(\.0)?$", "examples": [1_766_000_000_000_i64],
        }),
        "webhook_url" | "url" => {
            json!({"pattern": WEB, "maxLength": 2048, "examples": ["https://shop.example/hooks/cryptopay"]})
        }
        "redirect_url" => json!({"pattern": WEB, "maxLength": 2048, "examples": ["https://shop.example/thanks"]}),
        "scenario" => json!({
            "enum": names(&Scenario::ALL), "examples": ["exact"],
        }),
        "decision" => json!({"enum": names(Decision::ALL), "examples": ["accept"]}),
        "from" => json!({"pattern": ADDRESS, "examples": [CUSTOMER]}),
        "note" => json!({"examples": ["Agreed with the customer by telephone."]}),
        "password" | "current_password" => json!({"format": "password", "examples": ["correct-horse-battery"]}),
        "new_password" => json!({"format": "password", "examples": ["unicorn-teapot-gravel"]}),
        "blocks" => json!({"examples": [12]}),
        "depth" => json!({"examples": [1]}),
        "seconds" => json!({"examples": [3_600]}),
        "delay_seconds" => json!({"examples": [0]}),
        "with_reference" => json!({"examples": [false]}),
        "confirm" | "keep_transactions" => json!({"examples": [true]}),
        _ => return None,
    };
    Some(object(fact))
}

/// Fields that mean the same wherever they stand.
fn usual(field: &str) -> Option<Fact> {
    let fact = match field {
        "success" => json!({"const": true, "examples": [true]}),
        "message" => json!({"examples": ["Success"]}),
        "created_at" | "started_at" => json!({"format": "date-time", "examples": ["2026-01-31T12:00:00Z"]}),
        "updated_at" | "timestamp" | "now" | "received_at" | "delivered_at" | "last_used_at" | "last_success_at"
        | "block_timestamp" | "confirmed_at" => json!({"format": "date-time", "examples": ["2026-01-31T12:00:30Z"]}),
        "last_failure_at" | "next_attempt_at" | "previous_signs_until" => {
            json!({"format": "date-time", "examples": [null]})
        }
        "expires_at" => json!({"format": "date-time", "examples": ["2026-01-31T14:00:00Z"]}),
        "id" | "endpoint_id" => json!({"minimum": 1, "examples": [7]}),
        "order_id" => json!({"pattern": ORDER_ID, "examples": [ORDER]}),
        "delivery_id" | "webhook_id" => json!({"pattern": DELIVERY_ID, "examples": [DELIVERY]}),
        "event_id" => json!({"pattern": EVENT_ID, "examples": [EVENT]}),
        "transaction_hash" | "transaction_hashes" => json!({"pattern": HASH, "examples": [TRANSACTION]}),
        "address" | "receiving_address" | "to_address" => json!({"pattern": ADDRESS, "examples": [WALLET]}),
        "from_address" => json!({"pattern": ADDRESS, "examples": [CUSTOMER]}),
        "amount" | "amount_remaining" | "amount_received" | "transfer_amount" => {
            json!({"pattern": AMOUNT, "examples": ["100.00"]})
        }
        "unassigned_amount" => json!({"pattern": AMOUNT, "examples": ["0.00"]}),
        "pay_amount" => json!({"pattern": AMOUNT, "examples": ["100.00"]}),
        "transaction_fee" => json!({"pattern": AMOUNT, "examples": ["0.00000009"]}),
        "gas_price" => json!({"pattern": "^[0-9]+$", "examples": ["1500000"]}),
        "gas_used" => json!({"minimum": 0, "examples": [60_000]}),
        "currency" | "symbol" => json!({"examples": ["USDC"]}),
        "blockchain" | "slug" => json!({"examples": ["base"]}),
        "network" | "exchange_name" => json!({"examples": ["Base"]}),
        "chain_id" => json!({"examples": [8_453]}),
        "order_info" => json!({"examples": ["{\"product\": \"Premium Plan\"}"]}),
        "nonce" => json!({"minimum": 0, "examples": [1_766_000_000_000_i64]}),
        "payment_url" => json!({"format": "uri", "examples": [format!("https://pay.example/order/{ORDER}")]}),
        "qr_code_url" => json!({"format": "uri-reference", "examples": [format!("/qr/{ORDER}")]}),
        "webhook_url" | "url" => json!({"format": "uri", "examples": ["https://shop.example/hooks/cryptopay"]}),
        "redirect_url" => json!({"format": "uri", "examples": ["https://shop.example/thanks"]}),
        "explorer" => json!({"format": "uri", "examples": ["https://basescan.org"]}),
        "confirmations" | "required_confirmations" => json!({"examples": [12]}),
        "delay_seconds" => json!({"minimum": 0, "maximum": 60, "examples": [0]}),
        "confirms_in_seconds" => json!({"examples": [24]}),
        "block_time_ms" => json!({"examples": [2_000]}),
        "block_number" | "scanned_height" | "head_height" | "to_block" => {
            json!({"minimum": 0, "examples": [36_000_012]})
        }
        "from_block" => json!({"examples": [36_000_001]}),
        "lag" | "queued" => json!({"examples": [0]}),
        "health" => json!({
            "enum": ["ok", "starting", "lagging", "stalled", "frozen", "reset", "unreachable"], "examples": ["ok"],
        }),
        "log_index" => json!({"minimum": 0, "examples": [17]}),
        "position" => json!({"examples": ["0"]}),
        "unverifiable_reason" => json!({"examples": [null]}),
        "method" => json!({"enum": names(Method::ALL), "examples": ["exact_amount"]}),
        "exact_amount" | "fulfillable" | "is_active" | "payable" | "simulated" | "signature_valid" | "delivered" => {
            json!({"examples": [true]})
        }
        "default_expiry_seconds" => json!({"minimum": 60, "maximum": 2_592_000, "examples": [7_200]}),
        "tolerance_bps" => json!({"examples": [0]}),
        "tolerance_max" => json!({"examples": ["0.00"]}),
        "challenge" => json!({"examples": ["The text to sign, as it is in the answer"]}),
        "signature" => json!({"pattern": "^0x[0-9a-fA-F]*$", "examples": [format!("0x{}1b", "5c".repeat(64))]}),
        "known" => json!({"examples": [true]}),
        "dedicated" | "native" | "chain_behind" => json!({"examples": [false]}),
        "decimals" | "amount_decimals" => json!({"examples": [6]}),
        "aliases" => json!({"examples": [[]]}),
        "flags" => return unset("flags"),
        "late_decision" => return unset("late_decision"),
        "failure_reason" => return unset("failure_reason"),
        "version" | "order_version" | "attempts" | "attempt" => json!({"minimum": 0, "examples": [1]}),
        "sequence" | "next_after" => json!({"minimum": 0, "examples": [42]}),
        "cause" => json!({"examples": ["seen in a block"]}),
        "event" | "events" => json!({"examples": ["payment.confirmed"]}),
        "kind" => json!({"enum": names(WalletKind::ALL), "examples": ["address"]}),
        "ownership" => json!({"enum": names(Ownership::ALL), "examples": ["unproven"]}),
        "label" => json!({"examples": ["Till"]}),
        "name" => json!({"examples": ["Till"]}),
        "description" => json!({"examples": ["Warehouse"]}),
        "disabled_reason" | "dead_reason" | "last_error" => json!({"examples": [null]}),
        "duration_ms" => json!({"minimum": 0, "examples": [83]}),
        "response" => json!({"examples": ["ok"]}),
        "secret" => json!({"examples": [SECRET]}),
        "prefix" => json!({"examples": ["sk_test_YOUR"]}),
        "username" => json!({"examples": ["your-username"]}),
        "email" => json!({"format": "email", "examples": ["you@shop.example"]}),
        "password" => json!({"format": "password", "examples": ["correct-horse-battery"]}),
        "shop_name" => json!({"examples": ["Your shop"]}),
        "plan" => json!({"enum": names(Plan::ALL), "examples": ["standard"]}),
        "requests_per_hour" => json!({"minimum": 0, "examples": [1_000]}),
        "access" => json!({"examples": [ACCESS]}),
        "refresh" => json!({"examples": [REFRESH]}),
        "token_type" => json!({"const": "Bearer", "examples": ["Bearer"]}),
        "expires_in" => json!({"examples": [86_400]}),
        "count" => json!({"examples": [1]}),
        "next" | "previous" => json!({"format": "uri-reference", "examples": [null]}),
        "code" => json!({
            "enum": ErrorCode::ALL.iter().map(|code| code.as_str()).collect::<Vec<_>>(), "examples": ["NOT_FOUND"],
        }),
        _ => return None,
    };
    Some(object(fact))
}

/// A closed set of words.
fn names<T: Copy + Into<&'static str>>(all: &[T]) -> Vec<&'static str> {
    all.iter().map(|word| (*word).into()).collect()
}

fn several(words: Vec<&'static str>) -> Fact {
    let example: Vec<&str> = words.iter().take(2).copied().collect();
    object(json!({"type": "array", "items": {"type": "string", "enum": words}, "examples": [example]}))
}

fn order_or_number() -> Fact {
    text("^([0-9]{1,19}|ORD-[a-z2-7]{12})$", ORDER)
}

fn text(pattern: &str, example: &str) -> Fact {
    object(json!({"type": "string", "pattern": pattern, "examples": [example]}))
}

fn whole(least: i64, most: Option<i64>, example: Value) -> Fact {
    let mut fact = object(json!({"type": "integer", "format": "int64", "minimum": least, "examples": [example]}));
    if let Some(most) = most {
        fact.insert("maximum".into(), most.into());
    }
    fact
}

/// A number from 1, however large: past the end of every list is past the end.
fn counted(example: u64) -> Fact {
    object(json!({"type": "integer", "minimum": 1, "examples": [example]}))
}

fn with(mut fact: Fact, keyword: &str, value: Value) -> Fact {
    fact.insert(keyword.into(), value);
    fact
}

pub(super) fn object(value: Value) -> Fact {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
