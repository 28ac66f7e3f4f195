//! Payments that a reorganisation takes away: what comes back, what something else comes for, and what is gone.

use cryptopay_test_support::{TestDatabase, WebhookReceiver, on_both_databases};
use serde_json::{Value, json};

use crate::harness::{Shop, text, told};
use crate::scenarios::{open, seconds_named, until_told};

/// Pays by a scenario in which the payment vanishes before it is confirmed, and waits until the gateway has told of that;
/// what was answered, and after how many seconds something else is mined.
async fn vanish(shop: &Shop, receiver: &WebhookReceiver, order: &Value, scenario: &str) -> (Value, u64) {
    let path = format!("/api/sandbox/payment-orders/{}/pay/", text(&order["order_id"]));
    let answer = shop.client.post(&path, json!({"scenario": scenario})).await;
    let seconds = seconds_named(text(&answer.body["message"]));
    let paid = answer.data(201);
    until_told(receiver, "payment.pending", order).await;
    let webhook = until_told(receiver, "payment.failed", order).await;
    assert_eq!((&webhook["data"]["status"], &webhook["data"]["order_status"]), (&json!("failed"), &json!("pending")));
    (paid, seconds)
}

/// What was to be mined after so many seconds is, and so are blocks enough to confirm it.
async fn go_on(shop: &Shop, seconds: u64) {
    shop.client.post("/api/sandbox/clock/advance/", json!({"seconds": seconds})).await.data(200);
    shop.mine(13).await;
}

on_both_databases!(
    a_reorganisation_before_confirmation_takes_the_payment_back_for_a_while,
    async |db: TestDatabase| {
        let (_process, receiver, shop) = open(&db).await;
        let order = shop.order(json!({})).await;
        let (paid, seconds) = vanish(&shop, &receiver, &order, "reorg_before_confirmation").await;
        go_on(&shop, seconds).await;
        let webhook = until_told(&receiver, "payment.confirmed", &order).await;
        assert_eq!(webhook["data"]["transaction_hash"], paid["transaction_hash"]);
        assert_eq!(told(&receiver.journal(), "payment.confirmed", &order).len(), 1);
        let order = shop.look(&order).await;
        assert_eq!((&order["status"], &order["amount_received"]), (&json!("confirmed"), &order["pay_amount"]));
    }
);

on_both_databases!(a_payment_that_another_transaction_replaces_counts_once, async |db: TestDatabase| {
    let (_process, receiver, shop) = open(&db).await;
    let order = shop.order(json!({})).await;
    let (paid, seconds) = vanish(&shop, &receiver, &order, "replaced").await;
    go_on(&shop, seconds).await;
    let webhook = until_told(&receiver, "payment.confirmed", &order).await;
    assert_ne!(webhook["data"]["transaction_hash"], paid["transaction_hash"]);
    let order = shop.look(&order).await;
    assert_eq!((&order["status"], &order["amount_received"]), (&json!("confirmed"), &order["pay_amount"]));
    assert_eq!(order["flags"], json!([]));
    let gone = shop.client.get(&format!("/api/transactions/{}/", text(&paid["transaction_hash"]))).await.data(200);
    assert_eq!((&gone["status"], &gone["state"]), (&json!("failed"), &json!("orphaned")));
});

on_both_databases!(a_payment_that_is_spent_elsewhere_pays_nothing, async |db: TestDatabase| {
    let (_process, receiver, shop) = open(&db).await;
    let order = shop.order(json!({})).await;
    let (paid, seconds) = vanish(&shop, &receiver, &order, "double_spend").await;
    go_on(&shop, seconds).await;
    // Whoever pays now is confirmed by blocks above the one that holds the other transaction.
    let again = shop.pay(&order, json!({"confirm": true})).await;
    let webhook = until_told(&receiver, "payment.confirmed", &order).await;
    assert_eq!(webhook["data"]["transaction_hash"], again["transaction_hash"]);
    let order = shop.look(&order).await;
    assert_eq!((&order["amount_received"], &order["flags"]), (&order["pay_amount"], &json!([])));
    let list = shop.client.get(&format!("/api/transactions/?order_id={}", text(&order["order_id"]))).await.data(200);
    let known: Vec<_> = list["results"].as_array().unwrap().iter().map(|one| &one["transaction_hash"]).collect();
    assert_eq!(known, [&again["transaction_hash"], &paid["transaction_hash"]], "the other one is none of ours");
});

on_both_databases!(
    a_reorganisation_after_confirmation_takes_it_back_and_it_is_confirmed_anew,
    async |db: TestDatabase| {
        let (_process, receiver, shop) = open(&db).await;
        let order = shop.order(json!({})).await;
        let path = format!("/api/sandbox/payment-orders/{}/pay/", text(&order["order_id"]));
        let answer = shop.client.post(&path, json!({"scenario": "reorg_after_confirmation"})).await;
        let seconds = seconds_named(text(&answer.body["message"]));
        let paid = answer.data(201);
        shop.mine(13).await;
        let first = until_told(&receiver, "payment.confirmed", &order).await;
        assert_eq!(first["data"]["fulfillable"], true);
        shop.mine(1).await;
        let webhook = until_told(&receiver, "payment.reorged", &order).await;
        assert_eq!(
            (&webhook["data"]["order_status"], &webhook["data"]["fulfillable"]),
            (&json!("reorged"), &json!(false))
        );

        go_on(&shop, seconds).await;
        let journal = receiver
            .wait_until(crate::harness::LIMIT, |journal| told(journal, "payment.confirmed", &order).len() == 2)
            .await;
        let second = told(&journal, "payment.confirmed", &order)[1].json();
        assert_ne!(second["webhook_id"], first["webhook_id"]);
        assert_eq!(second["data"]["transaction_hash"], paid["transaction_hash"]);
        let order = shop.look(&order).await;
        assert_eq!((&order["status"], &order["fulfillable"]), (&json!("confirmed"), &json!(true)));
        assert_eq!((&order["amount_received"], &order["flags"]), (&order["pay_amount"], &json!([])));
        let names = shop.event_names(&order).await;
        let told_of: Vec<_> = names.iter().filter_map(|name| name.strip_prefix("payment.")).collect();
        assert_eq!(told_of, ["pending", "confirmed", "reorged", "pending", "confirmed"]);
    }
);
