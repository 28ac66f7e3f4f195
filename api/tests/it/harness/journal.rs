//! What a receiver has in its journal, as far as it is true of every journal.

use std::collections::{BTreeMap, BTreeSet};

use cryptopay_domain::webhook::signature;
use cryptopay_test_support::ReceivedRequest;
use serde_json::Value;

use super::text;

/// The webhooks of one event about one order.
pub(crate) fn told<'a>(journal: &'a [ReceivedRequest], event: &str, order: &Value) -> Vec<&'a ReceivedRequest> {
    journal.iter().filter(|webhook| is_about(webhook, event, order)).collect()
}

fn is_about(webhook: &ReceivedRequest, event: &str, order: &Value) -> bool {
    // The header first: a journal holds thousands, and reading them all again and again is what would take longest.
    webhook.header("X-Webhook-Event") == Some(event) && webhook.json()["data"]["order_id"] == order["order_id"]
}

/// Whether this event about this order has arrived. Reads each webhook of a journal that grows once.
pub(crate) fn once_told(event: &str, order: &Value) -> impl FnMut(&[ReceivedRequest]) -> bool {
    let (mut read, mut found) = (0, false);
    move |journal| {
        found = found || journal[read..].iter().any(|webhook| is_about(webhook, event, order));
        read = journal.len();
        found
    }
}

/// Whether all of these events have arrived. Reads each webhook of a journal that grows once.
pub(crate) fn once_all_told(mut events: BTreeSet<String>) -> impl FnMut(&[ReceivedRequest]) -> bool {
    let mut read = 0;
    move |journal| {
        for webhook in &journal[read..] {
            events.remove(text(&webhook.json()["data"]["event_id"]));
        }
        read = journal.len();
        events.is_empty()
    }
}

/// Whether a webhook is signed with this secret as the contract says.
pub(crate) fn is_signed(request: &ReceivedRequest, secret: &str) -> bool {
    request.header("X-Webhook-Signature") == Some(signature(secret, &request.body).as_str())
}

/// Under what id a webhook was sent.
pub(crate) fn id_of(webhook: &ReceivedRequest) -> String {
    text(&webhook.json()["webhook_id"]).to_owned()
}

/// A repeat has the same id and bytes; an event has one id only.
pub(crate) fn assert_repeats_are_the_same(journal: &[ReceivedRequest]) {
    let mut bodies: BTreeMap<String, &[u8]> = BTreeMap::new();
    let mut ids: BTreeMap<String, String> = BTreeMap::new();
    for webhook in journal {
        let id = id_of(webhook);
        assert_eq!(webhook.header("X-Webhook-Id"), Some(id.as_str()));
        assert_eq!(*bodies.entry(id.clone()).or_insert(&webhook.body), webhook.body, "{id} has two bodies");
        let event = text(&webhook.json()["data"]["event_id"]).to_owned();
        assert_eq!(*ids.entry(event.clone()).or_insert_with(|| id.clone()), id, "{event} was told under two ids");
    }
}

/// Versions of an order in its history: all of them, each once, in order.
pub(crate) fn assert_no_gaps(order: &Value, history: &[Value]) {
    let versions: Vec<i64> = history.iter().map(|event| event["order_version"].as_i64().unwrap()).collect();
    assert_eq!(versions, (1..=order["version"].as_i64().unwrap()).collect::<Vec<_>>(), "{order}");
}
