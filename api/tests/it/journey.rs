//! The main job from a merchant's registration to the signed webhook, told by somebody who only has the documentation.

use cryptopay_test_support::{ReceivedRequest, TestDatabase, WebhookReceiver, on_both_databases};
use serde_json::{Value, json};

use crate::harness::{
    Client, Installation, LIMIT, Process, Shop, Subscription, WALLET, eventually, is_signed, is_stamp, text, told,
};

on_both_databases!(an_order_is_paid_confirmed_and_told_to_the_merchant, async |db: TestDatabase| {
    let process = Installation::on(&db).start().await;
    let receiver = WebhookReceiver::start().await;
    let shop = Shop::open(&process.client()).await;
    let secret = shop.listen(&receiver).await;

    let order = shop.order(json!({"redirect_url": "https://shop.example/thanks?a=1"})).await;
    assert_new(&order, &process);
    let cursor = shop.client.graphql("{ eventCursor }", json!({})).await["eventCursor"].clone();
    let mut live = Subscription::open(&shop.client, text(&order["order_id"]), Some(text(&cursor))).await;
    assert_page(&process.client(), &order).await;

    let paid = shop.pay(&order, json!({})).await;
    assert_eq!((&paid["order_status"], paid["transaction_hash"].as_str().unwrap().len()), (&json!("pending"), 66));
    shop.mine(1).await;
    let seen = live.until("PAYMENT_PENDING").await;
    let pending = seen.last().unwrap();
    assert_eq!(pending["order"]["status"], "CONFIRMING");
    assert_eq!(pending["order"]["fulfillable"], false);
    receiver.wait_until(LIMIT, |journal| told(journal, "payment.pending", &order).len() == 1).await;
    assert_transaction(&shop, &order, &paid, "pending").await;

    shop.mine(12).await;
    let seen = live.until("PAYMENT_CONFIRMED").await;
    assert_eq!(seen.last().unwrap()["order"]["status"], "CONFIRMED");
    assert_eq!(seen.last().unwrap()["order"]["fulfillable"], true);
    let journal = receiver.wait_until(LIMIT, |journal| told(journal, "payment.confirmed", &order).len() == 1).await;
    assert!(journal.iter().all(|webhook| is_signed(webhook, &secret)));
    assert_told(told(&journal, "payment.confirmed", &order)[0], &order, &paid);
    assert_transaction(&shop, &order, &paid, "confirmed").await;

    let confirmed = shop.look(&order).await;
    assert_eq!((&confirmed["status"], &confirmed["fulfillable"]), (&json!("confirmed"), &json!(true)));
    assert_eq!(confirmed["amount_received"], order["pay_amount"]);
    assert_eq!(confirmed["amount_remaining"], "0.00");
    assert_eq!(confirmed["transaction"]["transaction_hash"], paid["transaction_hash"]);
    assert!(is_stamp(&confirmed["confirmed_at"]), "{confirmed}");
    assert_eq!(shop.event_names(&order).await, ["order.created", "payment.pending", "payment.confirmed"]);
    let page = process.client().get(&format!("/order/{}/status", text(&order["order_id"]))).await.data(200);
    assert_eq!((&page["status"], &page["payable"]), (&json!("confirmed"), &json!(false)));
});

on_both_databases!(a_subscription_that_reconnects_gets_what_it_missed_once_and_goes_on, async |db: TestDatabase| {
    let process = Installation::on(&db).start().await;
    let shop = Shop::open(&process.client()).await;
    let order = shop.order(json!({})).await;
    let order_id = text(&order["order_id"]);
    let mut live = Subscription::open(&shop.client, order_id, Some("0")).await;
    assert_eq!(live.next().await["event"], "ORDER_CREATED");
    shop.pay(&order, json!({})).await;
    shop.mine(1).await;
    let last_seen = live.until("PAYMENT_PENDING").await.last().unwrap()["sequence"].clone();
    drop(live);

    shop.mine(12).await;
    shop.until(&order, "confirmed").await;
    let mut live = Subscription::open(&shop.client, order_id, Some(text(&last_seen))).await;
    let missed = live.until("PAYMENT_CONFIRMED").await;
    shop.pay(&order, json!({"amount": "1.00", "with_reference": true})).await;
    shop.mine(1).await;
    let followed = live.until("ORDER_EXTRA_PAYMENT").await;

    let got: Vec<Value> = missed.into_iter().chain(followed).collect();
    let sequence = |update: &Value| text(&update["sequence"]).parse::<i64>().unwrap();
    let sequences: Vec<i64> = got.iter().map(sequence).collect();
    let events = eventually("all events numbered", async || {
        let events = shop.events(&order).await;
        events.iter().all(|event| event["sequence"].is_i64()).then_some(events)
    })
    .await;
    let wanted: Vec<i64> = events.iter().map(|event| event["sequence"].as_i64().unwrap()).collect();
    let after: i64 = text(&last_seen).parse().unwrap();
    // A confirmation count may repeat a snapshot with its sequence; nothing else may repeat.
    let mut distinct = sequences.clone();
    distinct.dedup();
    assert_eq!(distinct, wanted.into_iter().filter(|sequence| *sequence > after).collect::<Vec<_>>());
    let versions: Vec<i64> = got.iter().map(|update| update["order"]["version"].as_i64().unwrap()).collect();
    assert!(versions.is_sorted(), "{versions:?}");
});

on_both_databases!(a_socket_without_a_good_token_is_closed_with_4403, async |db: TestDatabase| {
    let process = Installation::on(&db).start().await;
    for payload in [json!({}), json!({"Authorization": "Bearer junk"}), json!({"token": "sk_test_junk"})] {
        let mut socket = Subscription::connect(process.base()).await;
        socket.say(json!({"type": "connection_init", "payload": payload})).await;
        let closed = socket.hear().await.unwrap_err();
        assert!(closed.starts_with("4403"), "{closed}");
    }
});

/// The documented fields of a new order.
fn assert_new(order: &Value, process: &Process) {
    assert_eq!(order["status"], "pending");
    assert_eq!(order["amount"], "100.00");
    assert!(text(&order["pay_amount"]).starts_with("99.9"), "a little below the price: {order}");
    assert_eq!(text(&order["receiving_address"]).to_lowercase(), WALLET);
    assert_eq!(order["payment_url"], format!("{}/order/{}", process.base(), text(&order["order_id"])));
    assert_eq!(order["qr_code_url"], format!("/qr/{}", text(&order["order_id"])));
    assert_eq!(order["order_info"], "{\"product\": \"Premium Plan\"}");
    assert!(order["id"].is_i64() && order["nonce"].is_i64() && order["transaction"].is_null(), "{order}");
    assert!(is_stamp(&order["created_at"]) && is_stamp(&order["expires_at"]), "{order}");
    assert_eq!((&order["fulfillable"], &order["exact_amount"]), (&json!(false), &json!(true)));
}

/// What the customer sees, and what nobody but the merchant may see.
async fn assert_page(public: &Client, order: &Value) {
    let id = text(&order["order_id"]);
    let page = public.get(&format!("/order/{id}")).await;
    let html = String::from_utf8(page.bytes.clone()).unwrap();
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")), "{page}");
    for shown in [text(&order["pay_amount"]), text(&order["receiving_address"]), "USDC", "Base", "noindex"] {
        assert!(html.contains(shown), "{shown} is missing: {html}");
    }
    assert!(!html.contains("Premium Plan") && !html.contains("@example.com"), "{html}");
    assert_eq!(page.header("referrer-policy"), Some("no-referrer"));
    assert!(page.header("content-security-policy").unwrap().contains("frame-ancestors 'none'"));

    let status = public.get(&format!("/order/{id}/status")).await;
    assert!(!String::from_utf8_lossy(&status.bytes).contains("Premium Plan"), "{status}");
    let status = status.data(200);
    assert_eq!((&status["status"], &status["pay_amount"]), (&json!("pending"), &order["pay_amount"]));
    assert_eq!(status["redirect_url"], "https://shop.example/thanks?a=1");

    for address in [format!("/qr/{id}"), format!("/qr/{id}?format=svg&content=uri")] {
        let svg = public.get(&address).await;
        assert_eq!((svg.status, svg.header("content-type")), (200, Some("image/svg+xml")), "{svg}");
        assert!(String::from_utf8_lossy(&svg.bytes).contains("<svg"));
    }
    let png = public.get(&format!("/qr/{id}?format=png")).await;
    assert_eq!((png.status, png.header("content-type")), (200, Some("image/png")));
    assert!(png.bytes.starts_with(b"\x89PNG\r\n\x1a\n"));
    assert_eq!(public.get(&format!("/qr/{id}?format=gif&content=x")).await.faults(), ["content", "format"]);
    assert_eq!(public.get("/order/ORD-aaaaaaaaaaaa").await.status, 404);
    public.get("/qr/ORD-aaaaaaaaaaaa").await.error(404, "NOT_FOUND");
}

/// The documented body and headers of a webhook.
fn assert_told(webhook: &ReceivedRequest, order: &Value, paid: &Value) {
    let body = webhook.json();
    let data = &body["data"];
    assert_eq!((webhook.method.as_str(), webhook.path.as_str()), ("POST", "/hook"));
    assert_eq!(webhook.header("content-type"), Some("application/json"));
    for name in ["order_id", "amount", "currency", "blockchain", "order_info", "created_at", "id", "nonce"] {
        assert_eq!(data[name], order[name], "{name}");
    }
    assert_eq!(data["transaction_hash"], paid["transaction_hash"]);
    assert_eq!((&data["status"], &data["order_status"]), (&json!("confirmed"), &json!("confirmed")));
    assert_eq!((&data["fulfillable"], &data["transfer_amount"]), (&json!(true), &order["pay_amount"]));
    assert_eq!(data["to_address"], order["receiving_address"]);
    assert!(data["confirmations"].as_u64().unwrap() >= 12 && data["block_number"].is_u64(), "{body}");
    assert!(text(&data["from_address"]).starts_with("0x") && is_stamp(&data["confirmed_at"]), "{body}");
    assert!(text(&data["event_id"]).starts_with("evt_") && data["order_version"].is_i64(), "{body}");
    assert!(is_stamp(&body["timestamp"]) && text(&body["webhook_id"]).starts_with("wh_"), "{body}");
    for (header, wanted) in [
        ("X-Webhook-Id", text(&body["webhook_id"])),
        ("webhook-id", text(&body["webhook_id"])),
        ("X-Webhook-Event", "payment.confirmed"),
        ("X-Webhook-Attempt", "1"),
    ] {
        assert_eq!(webhook.header(header), Some(wanted), "{header}");
    }
    let sent_at = webhook.header("X-Webhook-Timestamp").unwrap();
    assert!(sent_at.parse::<i64>().is_ok() && webhook.header("webhook-timestamp") == Some(sent_at));
    assert!(webhook.header("webhook-signature").unwrap().starts_with("v1,"));
}

/// The payment in the list of transactions and by itself.
async fn assert_transaction(shop: &Shop, order: &Value, paid: &Value, status: &str) {
    let order_id = text(&order["order_id"]);
    let hash = text(&paid["transaction_hash"]);
    let list = shop.client.get(&format!("/api/transactions/?order_id={order_id}&status={status}")).await.data(200);
    assert_eq!(list["count"], 1, "{list}");
    let item = &list["results"][0];
    assert_eq!((&item["transaction_hash"], &item["order_id"]), (&paid["transaction_hash"], &order["order_id"]));
    assert_eq!((&item["amount"], &item["currency"]), (&order["pay_amount"], &json!("USDC")));

    let detail = shop.client.get(&format!("/api/transactions/{hash}/")).await.data(200);
    assert_eq!((&detail["status"], &detail["blockchain"]), (&json!(status), &json!("base")));
    for name in ["id", "order_id", "amount", "currency"] {
        assert_eq!(detail["payment_order"][name], order[name], "{name}");
    }
    assert_eq!(detail["to_address"], order["receiving_address"]);
    assert_eq!(detail["match"]["method"], "exact_amount");
    assert_eq!(detail["transfers"].as_array().unwrap().len(), 1);
    assert!(detail["gas_used"].is_u64() && is_stamp(&detail["block_timestamp"]), "{detail}");
    for decimal in ["gas_price", "transaction_fee", "amount"] {
        assert!(text(&detail[decimal]).bytes().all(|b| b.is_ascii_digit() || b == b'.'), "{detail}");
    }
}
