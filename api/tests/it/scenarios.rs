//! What customers and chains do besides paying exactly and in time.

use cryptopay_test_support::{ReceivedRequest, TestDatabase, WebhookReceiver, on_both_databases};
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Installation, LIMIT, Process, Shop, text, told};

/// A shop, the receiver of all its webhooks, and the process that serves it.
pub(crate) async fn open(db: &TestDatabase) -> (Process, WebhookReceiver, Shop) {
    let process = Installation::on(db).start().await;
    let receiver = WebhookReceiver::start().await;
    let shop = Shop::open(&process.client()).await;
    shop.listen(&receiver).await;
    (process, receiver, shop)
}

pub(crate) async fn until_told(receiver: &WebhookReceiver, event: &str, order: &Value) -> Value {
    let journal = receiver.wait_until(LIMIT, |journal| !told(journal, event, order).is_empty()).await;
    told(&journal, event, order)[0].json()
}

/// The seconds in `{"seconds": 61}` of a message that says by how much to advance the test clock.
pub(crate) fn seconds_named(message: &str) -> u64 {
    assert!(message.contains("/api/sandbox/clock/advance/"), "{message}");
    let (_, rest) = message.split_once("\"seconds\": ").unwrap();
    rest.split(|letter: char| !letter.is_ascii_digit()).next().unwrap().parse().unwrap()
}

/// Millionths of an amount.
fn units(amount: &Value) -> i64 {
    let (whole, fraction) = text(amount).split_once('.').unwrap();
    format!("{whole}{fraction:0<6}").parse().unwrap()
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
    assert_eq!(short["status"], "underpaid");
    let completed = units(&short["amount_received"]) + units(&short["amount_remaining"]);
    let excess = completed - units(&short["pay_amount"]);
    assert!((0..=250_000).contains(&excess), "the remainder completes the order: {short}");

    shop.pay(&order, json!({"confirm": true})).await;
    until_told(&receiver, "payment.confirmed", &order).await;
    let paid = shop.look(&order).await;
    assert_eq!(paid["amount_remaining"], "0.00");
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

on_both_databases!(a_customer_who_pays_twice_has_overpaid, async |db: TestDatabase| {
    let (_process, receiver, shop) = open(&db).await;
    let order = shop.order(json!({})).await;
    let paid = shop.pay(&order, json!({"scenario": "twice", "confirm": true})).await;
    let hashes = paid["transaction_hashes"].as_array().unwrap();
    assert_eq!((hashes.len(), &hashes[0]), (2, &paid["transaction_hash"]));
    let twice = 2 * units(&order["pay_amount"]);
    until_told(&receiver, "payment.confirmed", &order).await;
    until_told(&receiver, "order.extra_payment", &order).await;
    let order = shop.look(&order).await;
    assert_eq!((&order["status"], units(&order["amount_received"])), (&json!("confirmed"), twice));
    assert_eq!(order["flags"], json!(["overpaid", "extra_payment"]));
    assert_eq!(told(&receiver.journal(), "payment.confirmed", &order).len(), 1);
});

on_both_databases!(two_halves_make_a_whole, async |db: TestDatabase| {
    let (_process, receiver, shop) = open(&db).await;
    let order = shop.order(json!({})).await;
    let paid = shop.pay(&order, json!({"scenario": "split", "confirm": true})).await;
    until_told(&receiver, "payment.confirmed", &order).await;
    let paid_for = shop.look(&order).await;
    assert_eq!((&paid_for["status"], &paid_for["amount_received"]), (&json!("confirmed"), &order["pay_amount"]));
    assert_eq!(paid_for["flags"], json!([]));
    for hash in paid["transaction_hashes"].as_array().unwrap() {
        let transaction = shop.client.get(&format!("/api/transactions/{}/", text(hash))).await.data(200);
        assert!(text(&transaction["amount"]).starts_with("49.9"), "{transaction}");
        assert_eq!(transaction["payment_order"]["id"], order["id"]);
    }
});

on_both_databases!(another_token_pays_nothing_and_is_told_of, async |db: TestDatabase| {
    let (_process, receiver, shop) = open(&db).await;
    let order = shop.order(json!({})).await;
    let paid = shop.pay(&order, json!({"scenario": "wrong_token", "confirm": true})).await;
    let is_unmatched = |webhook: &ReceivedRequest| webhook.header("X-Webhook-Event") == Some("transfer.unmatched");
    let journal = receiver.wait_until(LIMIT, |journal| journal.iter().any(is_unmatched)).await;
    let webhook = journal.iter().find(|webhook| is_unmatched(webhook)).unwrap().json();
    assert_eq!(webhook["data"]["transaction_hash"], paid["transaction_hash"]);
    assert_eq!(webhook["data"]["amount"], order["pay_amount"]);
    assert_ne!(webhook["data"]["currency"], order["currency"]);
    assert_eq!(webhook["data"]["candidates"][0]["order_id"], order["order_id"]);
    let flagged = until_told(&receiver, "order.wrong_asset", &order).await;
    assert_eq!(flagged["data"]["flags"], json!(["wrong_asset"]));
    let order = shop.look(&order).await;
    assert_eq!((&order["status"], &order["amount_received"]), (&json!("pending"), &json!("0.00")));
});

on_both_databases!(an_order_is_paid_by_one_of_several_transfers_of_a_transaction, async |db: TestDatabase| {
    let (_process, receiver, shop) = open(&db).await;
    for with_reference in [true, false] {
        let order = shop.order(json!({})).await;
        let how = json!({"scenario": "batch", "with_reference": with_reference, "confirm": true});
        let paid = shop.pay(&order, how).await;
        until_told(&receiver, "payment.confirmed", &order).await;
        let path = format!("/api/transactions/{}/", text(&paid["transaction_hash"]));
        let transaction = shop.client.get(&path).await.data(200);
        assert_eq!(transaction["payment_order"]["id"], order["id"]);
        assert_eq!(transaction["transfers"].as_array().unwrap().len(), 1, "the others are none of ours");
        assert_eq!(transaction["transfers"][0]["position"], "1");
        let method = if with_reference { "reference" } else { "exact_amount" };
        assert_eq!(transaction["match"]["method"], method);
    }
});

on_both_databases!(a_scenario_that_is_impossible_says_how_to_mend_that, async |db: TestDatabase| {
    let (_process, _receiver, shop) = open(&db).await;
    let settings = json!({"confirmations": {"base": 1}});
    shop.client.send(Method::PUT, "/api/settings/payments/", Some(settings)).await.data(200);
    let hasty = shop.order(json!({})).await;
    let coins = shop.order(json!({"currency": "ETH", "amount": "0.05"})).await;
    let settings = json!({"confirmations": {"base": 100_000}});
    let patience = shop.client.send(Method::PUT, "/api/settings/payments/", Some(settings)).await;
    let path = |order: &Value| format!("/api/sandbox/payment-orders/{}/pay/", text(&order["order_id"]));
    for (order, scenario) in
        [(&hasty, "replaced"), (&hasty, "double_spend"), (&hasty, "reorg_before_confirmation"), (&coins, "batch")]
    {
        let error = shop.client.post(&path(order), json!({"scenario": scenario})).await.error(400, "INVALID_STATE");
        assert!(text(&error["message"]).contains("reate "), "{scenario}: {error}");
    }
    for scenario in ["split", "wrong_token"] {
        let body = json!({"scenario": scenario, "amount": "0.000000000000000001"});
        assert_eq!(shop.client.post(&path(&coins), body).await.faults(), ["amount"]);
    }
    if patience.status == 200 {
        let patient = shop.order(json!({})).await;
        let body = json!({"scenario": "reorg_after_confirmation"});
        let error = shop.client.post(&path(&patient), body).await.error(400, "INVALID_STATE");
        assert!(text(&error["message"]).contains("fewer confirmations"), "{error}");
    }
    for scenario in ["replaced", "double_spend", "reorg_before_confirmation"] {
        let body = json!({"scenario": scenario, "confirm": true});
        assert_eq!(shop.client.post(&path(&hasty), body).await.faults(), ["confirm"]);
    }
});
