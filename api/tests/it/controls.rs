//! What a developer does to the sandbox besides paying: the node's faults, the faucet, the inbox's moods, a new beginning.

use cryptopay_domain::order::OrderStatus;
use cryptopay_entity::audit_log;
use cryptopay_test_support::{ReceivedRequest, TestDatabase, WebhookReceiver, on_both_databases};
use reqwest::Method;
use sea_orm::EntityTrait;
use serde_json::{Value, json};

use crate::harness::{Installation, LIMIT, Shop, WALLET, eventually, text, told};
use crate::scenarios::{open, until_told};

on_both_databases!(payments_are_found_once_the_node_is_well_again, async |db: TestDatabase| {
    let (_process, receiver, shop) = open(&db).await;
    let fault = async |kind: &str, seconds: u32| {
        let body = json!({"kind": kind, "seconds": seconds});
        shop.client.post("/api/sandbox/blockchains/base/fault/", body).await
    };
    for kind in ["down", "lagging", "empty_logs", "stale_finalized"] {
        let begun = fault(kind, 3_600).await;
        let message = text(&begun.body["message"]).to_owned();
        assert!(message.contains("whole instance") && message.contains("\"seconds\": 0"), "{message}");
        let begun = begun.data(200);
        assert_eq!((&begun["blockchain"], &begun["kind"]), (&json!("base"), &json!(kind)));
        assert!(begun["until"].is_string());
        let order = shop.order(json!({})).await;
        shop.pay(&order, json!({"confirm": true})).await;
        if kind == "down" {
            eventually("a chain that cannot be reached", async || {
                let chain = shop.client.get("/api/blockchains/base/").await.data(200);
                (chain["health"] == "unreachable").then_some(())
            })
            .await;
            assert_eq!(shop.look(&order).await["status"], "pending");
        }
        assert!(fault(kind, 0).await.data(200)["until"].is_null());
        let webhook = until_told(&receiver, "payment.confirmed", &order).await;
        assert_eq!(webhook["data"]["fulfillable"], true, "{kind}");
        for never in ["payment.failed", "payment.reorged"] {
            assert!(told(&receiver.journal(), never, &order).is_empty(), "{kind}: {never}");
        }
    }
    // By the test clock as well.
    fault("down", 60).await.data(200);
    let order = shop.order(json!({})).await;
    shop.pay(&order, json!({"confirm": true})).await;
    shop.client.post("/api/sandbox/clock/advance/", json!({"seconds": 61})).await.data(200);
    until_told(&receiver, "payment.confirmed", &order).await;
});

on_both_databases!(the_faucet_sends_what_a_wallet_sees_like_any_other_transfer, async |db: TestDatabase| {
    let (_process, receiver, shop) = open(&db).await;
    let ask = async |amount: &str| {
        let body = json!({"blockchain": "Base", "address": WALLET, "currency": "usdc", "amount": amount});
        shop.client.post("/api/sandbox/faucet/", body).await
    };
    let given = ask("7.50").await.data(201);
    assert_eq!(
        (&given["amount"], &given["currency"], &given["blockchain"]),
        (&json!("7.50"), &json!("USDC"), &json!("base"))
    );
    assert_eq!(given["to_address"].as_str().unwrap().to_lowercase(), WALLET);
    shop.mine(1).await;
    let is_it = |webhook: &ReceivedRequest| {
        webhook.header("X-Webhook-Event") == Some("transfer.unmatched")
            && webhook.json()["data"]["transaction_hash"] == given["transaction_hash"]
    };
    let journal = receiver.wait_until(LIMIT, |journal| journal.iter().any(is_it)).await;
    let webhook = journal.iter().find(|webhook| is_it(webhook)).unwrap().json();
    assert_eq!(
        (&webhook["data"]["amount"], &webhook["data"]["from_address"]),
        (&json!("7.50"), &given["from_address"])
    );

    // The exact amount of an order is a payment, whoever sends it.
    let order = shop.order(json!({})).await;
    ask(text(&order["pay_amount"])).await.data(201);
    shop.mine(13).await;
    until_told(&receiver, "payment.confirmed", &order).await;

    let body = json!({"blockchain": "base", "address": given["from_address"], "currency": "ETH", "amount": "1"});
    assert_eq!(shop.client.post("/api/sandbox/faucet/", body).await.faults(), ["address"]);
    let body = json!({"blockchain": "x", "address": "0x1", "currency": "DOGE", "amount": "-1"});
    assert_eq!(
        shop.client.post("/api/sandbox/faucet/", body).await.faults(),
        ["address", "amount", "blockchain", "currency"]
    );
});

on_both_databases!(the_inbox_answers_as_its_owner_says_and_deliveries_are_tried_again, async |db: TestDatabase| {
    let process = Installation::on(&db).start().await;
    let shop = Shop::open(&process.client()).await;
    let change = async |body: Value| shop.client.send(Method::PATCH, "/api/sandbox/webhook-inbox/", Some(body)).await;
    let answer = change(json!({"status": 503, "nobody": 1})).await;
    assert!(text(&answer.body["message"]).ends_with("Ignored: nobody"), "{answer}");
    assert_eq!(answer.data(200), json!({"status": 503, "delay_seconds": 0}));
    assert_eq!(change(json!({"status": 99, "delay_seconds": 61})).await.faults(), ["delay_seconds", "status"]);
    shop.order(json!({})).await;

    let endpoints = shop.client.get("/api/webhook-endpoints/").await.data(200);
    let is_inbox = |endpoint: &&Value| endpoint["url"].as_str().is_some_and(|url| url.contains("/sandbox/inbox/"));
    let inbox = endpoints["results"].as_array().unwrap().iter().find(is_inbox).unwrap();
    let deliveries = format!("/api/webhook-endpoints/{}/deliveries/", inbox["id"]);
    let tried = async |answer: u64| {
        eventually("a delivery that was answered", async || {
            let list = shop.client.get(&deliveries).await.data(200);
            let first = &list["results"][0];
            (first["last_status"] == answer).then(|| first.clone())
        })
        .await
    };
    let failed = tried(503).await;
    assert_eq!((&failed["status"], &failed["attempts"]), (&json!("pending"), &json!(1)));
    assert_eq!(change(json!({"status": 204})).await.data(200)["status"], 204);
    shop.client.post("/api/sandbox/clock/advance/", json!({"seconds": 60})).await.data(200);
    let delivered = tried(204).await;
    assert_eq!((&delivered["status"], &delivered["attempts"]), (&json!("delivered"), &json!(2)));
    let messages = shop.client.get("/api/sandbox/webhook-inbox/?event=order.created").await.data(200);
    assert_eq!(messages["count"], 2, "what arrives is kept, whatever is answered");
});

/// How many there are of everything that lists show.
async fn listed(shop: &Shop) -> Vec<(&'static str, Value)> {
    let mut counts = Vec::new();
    for list in [
        "/api/payment-orders/",
        "/api/transactions/",
        "/api/merchant-wallets/",
        "/api/webhook-endpoints/",
        "/api/api-keys/",
        "/api/sandbox/webhook-inbox/",
    ] {
        counts.push((list, shop.client.get(list).await.data(200)["count"].clone()));
    }
    counts
}

on_both_databases!(a_merchant_begins_anew_and_nobody_else_notices, async |db: TestDatabase| {
    let (process, receiver, shop) = open(&db).await;
    let neighbour = Shop::open(&process.client()).await;
    let others = WebhookReceiver::start().await;
    neighbour.listen(&others).await;
    let settings = json!({"default_expiry_seconds": 900});
    shop.client.send(Method::PUT, "/api/settings/payments/", Some(settings)).await.data(200);
    let his = neighbour.order(json!({})).await;
    neighbour.pay(&his, json!({"confirm": true})).await;
    let request = shop.request();
    let first = shop.client.post("/api/payment-orders/", request.clone()).await.data(201);
    shop.pay(&first, json!({"confirm": true})).await;
    until_told(&receiver, "payment.confirmed", &first).await;
    until_told(&others, "payment.confirmed", &his).await;
    // Paid, and in no block yet: it must not pay whoever asks for the same amount next.
    let waiting = shop.order(json!({})).await;
    shop.pay(&waiting, json!({"scenario": "exact"})).await;
    let key = shop.client.post("/api/api-keys/", json!({"name": "till"})).await.data(201);
    let secret = |endpoints: &Value| {
        let is_inbox = |endpoint: &&Value| endpoint["url"].as_str().is_some_and(|url| url.contains("/sandbox/inbox/"));
        let list = endpoints["results"].as_array().unwrap();
        list.iter().find(is_inbox).map(|endpoint| endpoint["id"].clone())
    };
    let endpoint = secret(&shop.client.get("/api/webhook-endpoints/").await.data(200)).unwrap();
    let path = format!("/api/webhook-endpoints/{endpoint}/secret/");
    let signs = shop.client.get(&path).await.data(200);
    // Messages keep arriving in the inbox, the last list.
    let before = listed(&neighbour).await[..5].to_vec();

    let answer = shop.client.post("/api/sandbox/reset/", json!({"nobody": 1})).await;
    assert!(text(&answer.body["message"]).ends_with("Ignored: nobody"), "{answer}");
    let deleted = answer.data(200);
    assert_eq!((&deleted["orders"], &deleted["wallets"], &deleted["endpoints"]), (&json!(2), &json!(1), &json!(1)));
    assert_eq!(
        listed(&shop).await.into_iter().take(5).map(|(_, count)| count).collect::<Vec<_>>(),
        [json!(0), json!(0), json!(0), json!(2), json!(1)],
        "the implicit endpoint and the inbox's, and the key; what was on its way may still arrive in the inbox"
    );
    assert_eq!(shop.client.get("/api/settings/payments/").await.data(200)["default_expiry_seconds"], 7_200);
    assert_eq!(shop.client.get("/api/events/").await.data(200)["results"], json!([]));
    shop.client.with_token(text(&key["secret"])).get("/api/auth/me/").await.data(200);
    process.client().get(&format!("/order/{}/status", text(&first["order_id"]))).await.error(404, "NOT_FOUND");
    assert_eq!(listed(&neighbour).await[..5], before);
    assert_eq!(neighbour.look(&his).await["status"], OrderStatus::Confirmed.as_str());
    let log = audit_log::Entity::find().all(db.connection()).await.unwrap();
    assert_eq!(log.iter().filter(|line| line.action == "sandbox.reset").count(), 1);

    // All over again, with the same nonce and the same secret.
    shop.client.post("/api/payment-orders/", request.clone()).await.error(400, "VALIDATION_ERROR");
    shop.client.post("/api/merchant-wallets/", json!({"blockchain": "base", "address": WALLET})).await.data(201);
    let again = shop.client.post("/api/payment-orders/", request).await.data(201);
    assert_eq!(again["nonce"], first["nonce"]);
    shop.mine(13).await;
    assert_eq!(shop.client.get(&path).await.data(200), signs);
    shop.pay(&again, json!({"scenario": "underpay", "confirm": true})).await;
    shop.until(&again, "underpaid").await;
    let seen = shop.client.get("/api/transactions/").await.data(200);
    assert_eq!(seen["count"], 1, "what was on its way is gone: {seen}");
    shop.pay(&again, json!({"confirm": true})).await;
    let path =
        format!("/api/sandbox/webhook-inbox/?event=payment.confirmed&order_id={}&wait=30", text(&again["order_id"]));
    let inbox = shop.client.get(&path).await.data(200);
    assert_eq!(inbox["results"][0]["signature_valid"], true);
    assert_eq!(cryptopay_ledger::audit::check(db.connection()).await.unwrap(), []);
});

on_both_databases!(only_who_may_manage_begins_anew, async |db: TestDatabase| {
    let process = Installation::on(&db).start().await;
    let shop = Shop::open(&process.client()).await;
    let order = shop.order(json!({})).await;
    let key = shop.client.post("/api/api-keys/", json!({"name": "till", "scopes": ["read", "write"]})).await.data(201);
    let writer = shop.client.with_token(text(&key["secret"]));
    writer.post("/api/sandbox/reset/", json!({})).await.error(403, "PERMISSION_DENIED");
    writer
        .post("/api/sandbox/blockchains/base/fault/", json!({"kind": "down", "seconds": 9}))
        .await
        .error(403, "PERMISSION_DENIED");
    assert_eq!(shop.look(&order).await["status"], "pending");
});

on_both_databases!(the_payment_page_of_a_sandbox_pays_by_a_button, async |db: TestDatabase| {
    let (process, receiver, shop) = open(&db).await;
    let nobody = process.client();
    let order = shop.order(json!({})).await;
    let page = format!("/order/{}", text(&order["order_id"]));
    let shown = String::from_utf8(nobody.get(&page).await.bytes).unwrap();
    assert!(shown.contains("id=\"simulate\""));
    // As the page's script sends it: without a body.
    let sent = nobody.send(Method::POST, &format!("{page}/simulate"), None).await.data(201);
    assert_eq!(sent["order_status"], "pending");
    shop.mine(13).await;
    let webhook = until_told(&receiver, "payment.confirmed", &order).await;
    assert_eq!(webhook["data"]["transaction_hash"], sent["transaction_hash"]);
    let error = nobody.post(&format!("{page}/simulate"), json!({})).await.error(400, "INVALID_STATE");
    assert!(text(&error["message"]).contains("confirmed"), "{error}");
    nobody.post("/order/ORD-aaaaaaaaaaaa/simulate", json!({})).await.error(404, "NOT_FOUND");
    assert_eq!(shop.look(&order).await["amount_received"], order["pay_amount"]);
});
