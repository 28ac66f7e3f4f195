//! What a webhook says and how it is signed.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde::Serialize;
use serde_json::{Map, Value};
use sha2::Sha256;

use crate::address::{AccountAddress, Hash};
use crate::event::EventType;
use crate::ids::{DeliveryRef, EventRef, OrderId, OrderRef};
use crate::order::{FailureReason, LateStanding, OrderFlag, OrderSnapshot, OrderStatus};
use crate::time::Timestamp;

/// The body of a webhook. Serialised once per delivery and sent byte for byte on every attempt.
#[derive(Debug, Serialize)]
struct Body<'a, D> {
    event: EventType,
    data: D,
    timestamp: Timestamp,
    webhook_id: &'a DeliveryRef,
}

/// `data` of an event about an order.
#[derive(Debug, Serialize)]
pub struct OrderData<'a> {
    order_id: &'a OrderRef,
    transaction_hash: Option<Hash>,
    amount: &'a str,
    currency: &'a str,
    blockchain: &'a str,
    status: &'static str,
    confirmations: u64,
    block_number: Option<u64>,
    from_address: Option<AccountAddress>,
    to_address: Option<AccountAddress>,
    order_info: &'a str,
    created_at: Timestamp,
    confirmed_at: Option<Timestamp>,
    id: OrderId,
    nonce: i64,
    event_id: &'a EventRef,
    order_version: i64,
    order_status: OrderStatus,
    fulfillable: bool,
    pay_amount: &'a str,
    transfer_amount: Option<&'a str>,
    amount_received: &'a str,
    amount_remaining: &'a str,
    required_confirmations: u32,
    expires_at: Timestamp,
    flags: &'a [OrderFlag],
    late_decision: Option<LateStanding>,
    failure_reason: Option<FailureReason>,
}

/// The exact bytes of a webhook about an order.
pub fn order_body(
    event: EventType,
    event_id: &EventRef,
    webhook_id: &DeliveryRef,
    at: Timestamp,
    order: &OrderSnapshot,
) -> Result<String, serde_json::Error> {
    serde_json::to_string(&Body { event, data: order_data(event, event_id, order), timestamp: at, webhook_id })
}

/// What is said of an order when something happened to it.
pub fn order_data<'a>(event: EventType, event_id: &'a EventRef, order: &'a OrderSnapshot) -> OrderData<'a> {
    let transfer = order.transfer.as_ref();
    OrderData {
        order_id: &order.order_id,
        transaction_hash: transfer.map(|transfer| transfer.transaction_hash),
        amount: &order.amount,
        currency: &order.currency,
        blockchain: &order.blockchain,
        status: documented_status(event, order.status),
        confirmations: order.confirmations,
        block_number: transfer.map(|transfer| transfer.block_number),
        from_address: transfer.map(|transfer| transfer.from_address),
        to_address: transfer.map(|transfer| transfer.to_address),
        order_info: &order.order_info,
        created_at: order.created_at,
        confirmed_at: order.confirmed_at,
        id: order.id,
        nonce: order.nonce,
        event_id,
        order_version: order.version,
        order_status: order.status,
        fulfillable: order.fulfillable,
        pay_amount: &order.pay_amount,
        transfer_amount: transfer.map(|transfer| transfer.amount.as_str()),
        amount_received: &order.amount_received,
        amount_remaining: &order.amount_remaining,
        required_confirmations: order.required_confirmations,
        expires_at: order.expires_at,
        flags: &order.flags,
        late_decision: order.late_decision,
        failure_reason: order.failure_reason,
    }
}

/// The exact bytes of a webhook about something else, whose `data` is `snapshot` with the event's id.
pub fn plain_body(
    event: EventType,
    event_id: &EventRef,
    webhook_id: &DeliveryRef,
    at: Timestamp,
    snapshot: &Map<String, Value>,
) -> Result<String, serde_json::Error> {
    serde_json::to_string(&Body { event, data: plain_data(event_id, snapshot), timestamp: at, webhook_id })
}

/// What is said of something else than an order.
pub fn plain_data(event_id: &EventRef, snapshot: &Map<String, Value>) -> Map<String, Value> {
    let mut data = snapshot.clone();
    data.insert("event_id".into(), event_id.as_str().into());
    data
}

/// `data.status`: the documented word on the four documented events, else the order's status.
fn documented_status(event: EventType, status: OrderStatus) -> &'static str {
    match event {
        EventType::PaymentPending => "pending",
        EventType::PaymentConfirmed => "confirmed",
        EventType::PaymentFailed => "failed",
        EventType::OrderExpired => "expired",
        _ => status.as_str(),
    }
}

/// Prefix of a webhook secret.
pub const SECRET_PREFIX: &str = "whsec_";

/// A webhook secret from 32 bytes of a cryptographic random source.
pub fn secret_from_entropy(entropy: [u8; 32]) -> String {
    format!("{SECRET_PREFIX}{}", STANDARD.encode(entropy))
}

/// `X-Webhook-Signature`: lower-case hex HMAC-SHA256 of the body, keyed with all bytes of the secret's text.
pub fn signature(secret: &str, body: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(&hmac_sha256(secret.as_bytes(), &[body]))
}

/// One entry of `webhook-signature` as Standard Webhooks has it: keyed with the secret's decoded bytes.
/// `timestamp` is in Unix seconds.
pub fn standard_signature(secret: &str, id: &str, timestamp: i64, body: &[u8]) -> String {
    let encoded = secret.strip_prefix(SECRET_PREFIX).unwrap_or(secret);
    let key = STANDARD.decode(encoded).unwrap_or_else(|_| encoded.as_bytes().to_vec());
    let head = format!("{id}.{timestamp}.");
    format!("v1,{}", STANDARD.encode(hmac_sha256(&key, &[head.as_bytes(), body])))
}

fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    // HMAC takes keys of any length; the error type cannot occur.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return Vec::new() };
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_signature_matches_a_published_vector() {
        // RFC 4231, test case 2.
        assert_eq!(
            signature("Jefe", b"what do ya want for nothing?"),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    #[test]
    fn the_standard_signature_matches_the_specification() {
        // The example of the Standard Webhooks specification.
        let signature = standard_signature(
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }
}
