//! What a developer does to the sandbox besides paying: the node's faults, the faucet, the inbox's moods.

use cryptopay_test_support::{ReceivedRequest, TestDatabase, on_both_databases};
use reqwest::Method;
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
