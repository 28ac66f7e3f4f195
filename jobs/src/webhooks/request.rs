//! The headers of one attempt. They differ between attempts; the body never does.

use cryptopay_domain::time::Timestamp;
use cryptopay_domain::webhook::{signature, standard_signature};
use cryptopay_entity::webhook_delivery;

/// Headers of an attempt at `now`, signed with the current secret and, while a rotation lasts, the previous one.
pub(super) fn headers(
    delivery: &webhook_delivery::Model,
    secrets: &[String],
    now: Timestamp,
) -> Vec<(&'static str, String)> {
    let body = delivery.body.as_bytes();
    let id = delivery.delivery_id.as_str();
    let timestamp = now.as_secs();
    let standard: Vec<String> = secrets.iter().map(|secret| standard_signature(secret, id, timestamp, body)).collect();
    let mut headers = vec![
        ("X-Webhook-Id", id.to_owned()),
        ("X-Webhook-Event", delivery.event_type.to_string()),
        ("X-Webhook-Timestamp", timestamp.to_string()),
        ("X-Webhook-Attempt", delivery.attempts.to_string()),
        ("webhook-id", id.to_owned()),
        ("webhook-timestamp", timestamp.to_string()),
        ("webhook-signature", standard.join(" ")),
    ];
    let mut documented = secrets.iter().map(|secret| signature(secret, body));
    if let Some(current) = documented.next() {
        headers.push(("X-Webhook-Signature", current));
    }
    if let Some(previous) = documented.next() {
        headers.push(("X-Webhook-Signature-Previous", previous));
    }
    headers
}
