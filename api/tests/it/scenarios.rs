//! What customers and chains do besides paying exactly and in time.

use cryptopay_test_support::{TestDatabase, WebhookReceiver, on_both_databases};
use serde_json::{Value, json};

use crate::harness::{Answer, Installation, LIMIT, Process, Shop, text, told};

/// A shop, the receiver of all its webhooks, and the process that serves it.
async fn open(db: &TestDatabase) -> (Process, WebhookReceiver, Shop) {
    let process = Installation::on(db).start().await;
    let receiver = WebhookReceiver::start().await;
    let shop = Shop::open(&process.client()).await;
    shop.listen(&receiver).await;
    (process, receiver, shop)
}

async fn until_told(receiver: &WebhookReceiver, event: &str, order: &Value) -> Value {
    let journal = receiver.wait_until(LIMIT, |journal| !told(journal, event, order).is_empty()).await;
    told(&journal, event, order)[0].json()
}

/// The seconds in `{"seconds": 61}` of a message that says by how much to advance the test clock.
fn seconds_named(message: &str) -> u64 {
    assert!(message.contains("/api/sandbox/clock/advance/"), "{message}");
    let (_, rest) = message.split_once("\"seconds\": ").unwrap();
    rest.split(|letter: char| !letter.is_ascii_digit()).next().unwrap().parse().unwrap()
}

on_both_databases!(an_order_is_canceled_while_nothing_has_come_and_never_after, async |db: TestDatabase| {
    let (_process, receiver, shop) = open(&db).await;
    let cancel = async |order: &Value| -> Answer {
        shop.client.post(&format!("/api/payment-orders/{}/cancel/", order["id"]), json!({})).await
    };
    let order = shop.order(json!({})).await;
    let canceled = cancel(&order).await.data(200);
    assert_eq!((&canceled["status"], &canceled["fulfillable"]), (&json!("canceled"), &json!(false)));
    until_told(&receiver, "order.canceled", &order).await;
    cancel(&order).await.error(400, "INVALID_STATE");

    let order = shop.order(json!({})).await;
    shop.pay(&order, json!({})).await;
    shop.mine(1).await;
    until_told(&receiver, "payment.pending", &order).await;
    cancel(&order).await.error(400, "INVALID_STATE");
    assert_eq!(shop.look(&order).await["status"], "confirming");
});

on_both_databases!(a_short_payment_is_topped_up_by_the_remainder, async |db: TestDatabase| {
    let (_process, receiver, shop) = open(&db).await;
    let order = shop.order(json!({})).await;
    shop.pay(&order, json!({"scenario": "underpay"})).await;
    shop.mine(1).await;
    let webhook = until_told(&receiver, "order.underpaid", &order).await;
    assert_eq!((&webhook["data"]["status"], &webhook["data"]["fulfillable"]), (&json!("underpaid"), &json!(false)));
    let short = shop.look(&order).await;
    assert_eq!((&short["status"], &short["amount_received"]), (&json!("underpaid"), &json!("50.00")));
    assert_eq!(short["amount_remaining"], "50.00");

    shop.pay(&order, json!({"confirm": true})).await;
    until_told(&receiver, "payment.confirmed", &order).await;
    let paid = shop.look(&order).await;
    assert_eq!((&paid["amount_received"], &paid["amount_remaining"]), (&json!("100.00"), &json!("0.00")));
    assert_eq!((&paid["status"], &paid["flags"]), (&json!("confirmed"), &json!([])));
});

on_both_databases!(late_money_is_told_and_accepted_for_a_token, async |db: TestDatabase| {
    let (_process, receiver, shop) = open(&db).await;
    let order = shop.order(json!({})).await;
    let path = format!("/api/sandbox/payment-orders/{}/pay/", text(&order["order_id"]));
    let refused = shop.client.post(&path, json!({"scenario": "late"})).await.error(400, "INVALID_STATE");
    let seconds = seconds_named(text(&refused["message"]));
    shop.client.post("/api/sandbox/clock/advance/", json!({"seconds": seconds})).await.data(200);
    let webhook = until_told(&receiver, "order.expired", &order).await;
    assert_eq!(webhook["data"]["status"], "expired");

    shop.pay(&order, json!({"scenario": "late", "confirm": true})).await;
    until_told(&receiver, "order.late_payment", &order).await;
    let webhook = until_told(&receiver, "payment.confirmed", &order).await;
    assert_eq!(
        (&webhook["data"]["fulfillable"], &webhook["data"]["late_decision"]),
        (&json!(true), &json!("accepted"))
    );
    let order = shop.look(&order).await;
    assert_eq!((&order["status"], &order["flags"]), (&json!("confirmed"), &json!(["late"])));
});

on_both_databases!(
    a_reorganisation_before_confirmation_takes_the_payment_back_for_a_while,
    async |db: TestDatabase| {
        let (_process, receiver, shop) = open(&db).await;
        let order = shop.order(json!({})).await;
        let path = format!("/api/sandbox/payment-orders/{}/pay/", text(&order["order_id"]));
        let answer = shop.client.post(&path, json!({"scenario": "reorg_before_confirmation"})).await;
        let seconds = seconds_named(text(&answer.body["message"]));
        let paid = answer.data(201);
        until_told(&receiver, "payment.pending", &order).await;
        let webhook = until_told(&receiver, "payment.failed", &order).await;
        assert_eq!(
            (&webhook["data"]["status"], &webhook["data"]["order_status"]),
            (&json!("failed"), &json!("pending"))
        );

        shop.client.post("/api/sandbox/clock/advance/", json!({"seconds": seconds})).await.data(200);
        shop.mine(13).await;
        let webhook = until_told(&receiver, "payment.confirmed", &order).await;
        assert_eq!(webhook["data"]["transaction_hash"], paid["transaction_hash"]);
        assert_eq!(told(&receiver.journal(), "payment.confirmed", &order).len(), 1);
        let order = shop.look(&order).await;
        assert_eq!((&order["status"], &order["amount_received"]), (&json!("confirmed"), &json!("100.00")));
    }
);
