//! Signing secrets that change while webhooks are sent, and deliveries that are sent once more.

use cryptopay_test_support::{Answer, ReceivedRequest, TestDatabase, WebhookReceiver, on_both_databases};
use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

use crate::harness::{Installation, LIMIT, Shop, eventually, is_signed, text};

/// Whether the public library of Standard Webhooks takes a webhook for one that was signed with this secret.
fn library_takes(webhook: &ReceivedRequest, secret: &str) -> bool {
    let mut headers = HeaderMap::new();
    for (name, value) in &webhook.headers {
        headers.insert(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
    }
    standardwebhooks::Webhook::new(secret).unwrap().verify(&webhook.body, &headers).is_ok()
}

/// The signature that the secret before makes, where it signs too.
fn is_signed_before(webhook: &ReceivedRequest, secret: &str) -> bool {
    let expected = cryptopay_domain::webhook::signature(secret, &webhook.body);
    webhook.header("X-Webhook-Signature-Previous") == Some(expected.as_str())
}

/// The registered endpoint of a shop.
async fn endpoint(shop: &Shop) -> String {
    let endpoints = shop.client.get("/api/webhook-endpoints/").await.data(200);
    let endpoints = endpoints["results"].as_array().unwrap().clone();
    let registered = endpoints.iter().find(|endpoint| endpoint["scope"] == "merchant").unwrap();
    format!("/api/webhook-endpoints/{}", registered["id"])
}

/// The next webhook, of an order that is made for it.
async fn next(shop: &Shop, receiver: &WebhookReceiver) -> ReceivedRequest {
    let order = shop.order(json!({})).await;
    let about = |request: &&ReceivedRequest| request.json()["data"]["order_id"] == order["order_id"];
    let journal = receiver.wait_until(LIMIT, |journal| journal.iter().any(|request| about(&request))).await;
    journal.iter().find(about).unwrap().clone()
}

on_both_databases!(a_rotation_leaves_no_webhook_that_its_receiver_cannot_verify, async |db: TestDatabase| {
    let process = Installation::on(&db).start().await;
    let receiver = WebhookReceiver::start().await;
    let shop = Shop::open(&process.client()).await;
    let first = shop.listen(&receiver).await;
    let endpoint = endpoint(&shop).await;
    let shown = shop.client.get(&format!("{endpoint}/secret/")).await.data(200);
    assert_eq!((&shown["secret"], &shown["previous_signs_until"]), (&json!(first), &Value::Null));

    let rotated = shop.client.send(Method::POST, &format!("{endpoint}/rotate-secret/"), None).await;
    assert!(text(&rotated.body["message"]).contains("Until "), "{rotated}");
    let rotated = rotated.data(200);
    let second = text(&rotated["secret"]).to_owned();
    assert!(second != first && second.starts_with("whsec_"));
    assert_eq!(shop.client.get(&format!("{endpoint}/secret/")).await.data(200), rotated);
    let webhook = next(&shop, &receiver).await;
    assert!(library_takes(&webhook, &first) && library_takes(&webhook, &second), "{webhook:?}");
    assert!(is_signed(&webhook, &second) && is_signed_before(&webhook, &first), "{webhook:?}");

    // Once more within the day: the two newest sign, the oldest stops.
    let third = shop.client.send(Method::POST, &format!("{endpoint}/rotate-secret/"), None).await;
    assert!(text(&third.body["message"]).contains("stopped at once"), "{third}");
    let third = text(&third.data(200)["secret"]).to_owned();
    let webhook = next(&shop, &receiver).await;
    assert!(!library_takes(&webhook, &first), "{webhook:?}");
    assert!(library_takes(&webhook, &second) && library_takes(&webhook, &third), "{webhook:?}");
    assert!(is_signed(&webhook, &third) && is_signed_before(&webhook, &second), "{webhook:?}");

    // A day later, by the sandbox's clock, it is over.
    shop.client.post("/api/sandbox/clock/advance/", json!({"seconds": 24 * 3600})).await.data(200);
    shop.wait_for_chain().await;
    let webhook = next(&shop, &receiver).await;
    assert!(!library_takes(&webhook, &second) && library_takes(&webhook, &third), "{webhook:?}");
    assert!(is_signed(&webhook, &third) && webhook.header("X-Webhook-Signature-Previous").is_none(), "{webhook:?}");
    let shown = shop.client.get(&format!("{endpoint}/secret/")).await.data(200);
    assert_eq!((&shown["secret"], &shown["previous_signs_until"]), (&json!(third), &Value::Null));
});

on_both_databases!(what_was_given_up_is_replayed_with_the_same_ids, async |db: TestDatabase| {
    let process = Installation::on(&db).start().await;
    let receiver = WebhookReceiver::start().await;
    let shop = Shop::open(&process.client()).await;
    shop.listen(&receiver).await;
    let endpoint = endpoint(&shop).await;
    let replay = format!("{endpoint}/replay/");
    let webhook = next(&shop, &receiver).await;
    let id = webhook.header("webhook-id").unwrap().to_owned();
    let deliveries = format!("{endpoint}/deliveries/");
    eventually("the delivery being recorded", async || {
        let page = shop.client.get(&format!("{deliveries}?status=delivered")).await.data(200);
        (page["count"] == 1).then_some(())
    })
    .await;

    // Nothing was given up; what was delivered goes out again only where that is said.
    let queued = shop.client.send(Method::POST, &replay, None).await.data(200);
    assert_eq!((&queued["queued"], &queued["next_after"]), (&json!(0), &Value::Null));
    let none = json!({"status": "dead,delivered", "until": "2020-01-01T00:00:00Z"});
    assert_eq!(shop.client.post(&replay, none).await.data(200)["queued"], 0);
    receiver.answer_always(Answer::status(200));
    let queued = shop.client.post(&replay, json!({"status": "delivered", "since": "2020-01-01T00:00:00Z"})).await;
    assert_eq!(queued.data(200)["queued"], 1);
    let again = |request: &&ReceivedRequest| request.header("webhook-id") == Some(&id);
    let journal = receiver.wait_until(LIMIT, |journal| journal.iter().filter(again).count() == 2).await;
    assert!(journal.iter().filter(again).all(|request| request.body == webhook.body));

    // What was made while the endpoint was away is kept, and replayed once it is back.
    shop.client.send(Method::PATCH, &endpoint, Some(json!({"is_active": false}))).await.data(200);
    shop.client.post(&replay, json!({})).await.error(400, "INVALID_STATE");
    shop.client.post(&format!("{endpoint}/test/"), json!({})).await;
    let body = json!({"is_active": true});
    shop.client.send(Method::PATCH, &endpoint, Some(body)).await.data(200);
    assert_eq!(shop.client.post(&replay, json!({"status": "dead"})).await.data(200)["next_after"], Value::Null);
});
