//! Values of the right type that mean nothing, or nothing that may be.

use cryptopay_test_support::{TestDatabase, on_both_databases};
use serde_json::{Value, json};

use super::{World, rows};

/// Operation, field, values.
fn cases() -> Vec<(&'static str, &'static str, Vec<Value>)> {
    let texts = |texts: &[&str]| texts.iter().map(|text| json!(text)).collect::<Vec<Value>>();
    let many = |text: &str, count: usize| json!(text.repeat(count));
    let url = |length: usize| json!(format!("https://shop.example/{}", "x".repeat(length - 21)));
    let with = |mut values: Vec<Value>, more: Vec<Value>| {
        values.extend(more);
        values
    };
    let amounts = texts(&[
        "1e5",
        "-1",
        "0",
        "0.00",
        "NaN",
        "Infinity",
        "",
        " ",
        "1,5",
        "1_000",
        "+1",
        "0x10",
        ".",
        "1..2",
        "--1",
        "١",
        "1.1234567",
        "1000000000000000",
        "100 USDC",
        "1 000",
    ]);
    let amounts = with(amounts, vec![many("9", 60), json!(format!("0.{}1", "0".repeat(59)))]);
    let addresses = texts(&[
        "",
        "0x",
        "0xA1",
        "00000000000000000000000000000000000000a1",
        "0x0000000000000000000000000000000000000000",
        "0x833589FCD6eDb6E08f4c7C32D4f71b54bdA02914",
        "0xg000000000000000000000000000000000000000",
        "vitalik.eth",
        "0x00000000000000000000000000000000000000a1a1",
        "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq",
    ]);
    let faucet_addresses = addresses.clone();
    let webhook_urls = texts(&[
        "",
        "shop.example",
        "ftp://shop.example/",
        "javascript:alert(1)",
        "http://",
        "https://user:pw@shop.example/",
        "http://t{/",
        "http://10.0.0.1/",
        "http://169.254.169.254/latest/meta-data",
        "http://[fd00::1]/",
        "http://192.168.1.1:8080/",
        "http://0.0.0.0/",
        "http://100.64.0.1/",
        "http://[::ffff:10.0.0.1]/",
        "http://2852039166/",
    ]);
    let webhook_urls = with(webhook_urls, vec![url(2_049)]);
    let events = vec![json!(["payment.paid"]), json!(["*", "payment.confirmd"]), json!([""]), json!([])];
    vec![
        ("createPaymentOrder", "amount", amounts.clone()),
        ("createPaymentOrder", "currency", texts(&["", "DOGE", "USD C", "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"])),
        ("createPaymentOrder", "blockchain", texts(&["", "dogechain", "8453", " base", "polygon"])),
        (
            "createPaymentOrder",
            "order_info",
            with(
                texts(&["", "{", "premium plan", "undefined", "{'a': 1}", "{\"a\":}", "NaN"]),
                vec![json!(format!("\"{}\"", "x".repeat(8_192)))],
            ),
        ),
        (
            "createPaymentOrder",
            "nonce",
            vec![
                json!(-1),
                json!(1.5),
                json!("one"),
                json!("-1"),
                json!(9_223_372_036_854_775_808_u64),
                json!(1e300),
                json!(""),
            ],
        ),
        ("createPaymentOrder", "webhook_url", webhook_urls.clone()),
        (
            "createPaymentOrder",
            "redirect_url",
            with(
                texts(&["", "shop.example", "javascript:alert(1)", "data:text/html,x", "//shop.example"]),
                vec![url(2_049)],
            ),
        ),
        (
            "createPaymentOrder",
            "expires_at",
            texts(&[
                "",
                "tomorrow",
                "2001-01-01T00:00:00Z",
                "2999-01-01T00:00:00Z",
                "2026-02-30T00:00:00Z",
                "2026-01-01",
                "1767225600",
                "99999-01-01T00:00:00Z",
            ]),
        ),
        (
            "createMerchantWallet",
            "address",
            with(
                addresses.clone(),
                texts(&["0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48", "0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48"]),
            ),
        ),
        ("createMerchantWallet", "blockchain", texts(&["", "dogechain"])),
        ("createMerchantWallet", "label", vec![many("x", 101)]),
        (
            "updateMerchantWallet",
            "address",
            with(
                addresses,
                texts(&["0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913", "0x833589fcd6edb6e08f4c7c32d4f71b54bda02913"]),
            ),
        ),
        ("updateMerchantWallet", "blockchain", texts(&["", "dogechain", "ethereum"])),
        ("createWebhookEndpoint", "url", webhook_urls.clone()),
        ("createWebhookEndpoint", "events", events.clone()),
        ("createWebhookEndpoint", "description", vec![many("x", 201)]),
        ("updateWebhookEndpoint", "url", webhook_urls),
        ("updateWebhookEndpoint", "events", events),
        (
            "register",
            "username",
            with(texts(&["", "ab", "with space", "säge", "a/b", "shop@example.com"]), vec![many("x", 65)]),
        ),
        ("register", "email", with(texts(&["", "a", "a@", "@b", "a b@c.d", "a@b@c.d"]), vec![many("x", 250)])),
        ("register", "password", with(texts(&["", "short", "password12", "1234567890"]), vec![many("x", 257)])),
        ("register", "shop_name", with(texts(&["", "   "]), vec![many("x", 121)])),
        ("createApiKey", "name", with(texts(&["", "  "]), vec![many("x", 101)])),
        ("createApiKey", "scopes", vec![json!([]), json!(["root"]), json!(["read", "READ"]), json!([""])]),
        ("createApiKey", "expires_at", texts(&["", "never", "2001-01-01T00:00:00Z"])),
        ("resolvePaymentOrder", "decision", texts(&["", "maybe", "accepted", "ACCEPTED"])),
        ("resolvePaymentOrder", "note", vec![many("x", 1_001)]),
        ("allocateTransfer", "transaction_hash", with(texts(&["", "0x", "junk"]), vec![many("ab", 32)])),
        ("claimPayment", "transaction_hash", with(texts(&["", "0x", "junk"]), vec![many("ab", 32)])),
        ("replayWebhookDeliveries", "since", texts(&["", "yesterday", "2026-02-30T00:00:00Z"])),
        ("replayWebhookDeliveries", "until", texts(&["", "tomorrow", "2025-01-01T00:00:00Z"])),
        ("replayWebhookDeliveries", "status", texts(&["", "pending", "dead,lost", "dead;delivered"])),
        ("replayWebhookDeliveries", "after", texts(&["", "1", "wh_1", "wh_aaaaaaaaaaaaaaaaaaaaaaaa"])),
        ("allocateTransfer", "amount", amounts.clone()),
        ("allocateTransfer", "position", texts(&["", "first", "-1", "1.5"])),
        ("simulatePayment", "scenario", texts(&["", "steal", "twice!"])),
        ("simulatePayment", "amount", amounts.clone()),
        ("breakNode", "kind", texts(&["", "haunted", "down,lagging"])),
        ("breakNode", "seconds", vec![json!(-1), json!(86_401), json!(9_223_372_036_854_775_808_u64)]),
        ("askFaucet", "blockchain", texts(&["", "dogechain", "8453"])),
        ("askFaucet", "address", faucet_addresses),
        ("askFaucet", "currency", texts(&["", "DOGE", "USD C"])),
        ("askFaucet", "amount", amounts),
        ("changeInbox", "status", vec![json!(-1), json!(0), json!(199), json!(600)]),
        ("changeInbox", "delay_seconds", vec![json!(-1), json!(61), json!(9_223_372_036_854_775_808_u64)]),
        ("simulatePayment", "from", texts(&["", "0x", "0x833589FCD6eDb6E08f4c7C32D4f71b54bdA02914"])),
        ("mineBlocks", "blocks", vec![json!(0), json!(-1), json!(10_001), json!(9_223_372_036_854_775_808_u64)]),
        ("reorganiseChain", "depth", vec![json!(0), json!(-1), json!(10_001)]),
        ("advanceClock", "seconds", vec![json!(0), json!(-1), json!(31_622_401), json!(9_223_372_036_854_775_807_u64)]),
    ]
}

on_both_databases!(a_value_that_may_not_be_is_refused_and_its_field_named, async |db: TestDatabase| {
    let world = World::create(&db).await;
    let before = rows(&db).await;
    let mut wrong = Vec::new();
    for (id, field, values) in cases() {
        let operation = world.operations.iter().find(|operation| operation.id == id).unwrap_or_else(|| panic!("{id}"));
        let path = world.path(operation);
        for value in values {
            let mut body = world.good_body(operation);
            body[field] = value;
            let answer = world.send(operation, &path, body).await;
            let shown = answer.to_string();
            let names_it = answer.status == 400
                && answer.body["error"]["code"] == "VALIDATION_ERROR"
                && answer.body["error"]["details"].as_object().is_some_and(|details| {
                    details.keys().any(|name| name == field || name.starts_with(&format!("{field}[")))
                });
            if !names_it {
                wrong.push(shown);
            }
        }
    }
    assert!(wrong.is_empty(), "{} were not refused as they should be:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(rows(&db).await, before);
});

/// Fields that others are judged by: what may be paid with, and where to, depends on the chain, an amount on its token, and
/// an end on its beginning. Where those mean nothing, nothing more can be said of the others.
const JUDGE_OF_OTHERS: [(&str, &str); 6] = [
    ("createPaymentOrder", "blockchain"),
    ("createPaymentOrder", "currency"),
    ("createMerchantWallet", "blockchain"),
    ("askFaucet", "blockchain"),
    ("askFaucet", "currency"),
    ("replayWebhookDeliveries", "since"),
];

on_both_databases!(every_wrong_value_of_every_operation_is_named_at_once, async |db: TestDatabase| {
    let world = World::create(&db).await;
    let before = rows(&db).await;
    let cases = cases();
    let mut tried = 0;
    for operation in world.with_body() {
        let wrong: Vec<_> = cases
            .iter()
            .filter(|(id, field, _)| *id == operation.id && !JUDGE_OF_OTHERS.contains(&(*id, *field)))
            .map(|(_, field, values)| (*field, values))
            .collect();
        let path = world.path(operation);
        let rounds = wrong.iter().map(|(_, values)| values.len()).max().unwrap_or_default();
        for round in 0..rounds {
            let mut body = world.good_body(operation);
            for (field, values) in &wrong {
                body[*field] = values[round % values.len()].clone();
            }
            let answer = world.send(operation, &path, body).await;
            let shown = answer.to_string();
            let faults = answer.faults();
            let is_named = |field: &str| faults.iter().any(|fault| fault.split('[').next() == Some(field));
            let unnamed: Vec<_> = wrong.iter().map(|(field, _)| *field).filter(|field| !is_named(field)).collect();
            assert!(unnamed.is_empty(), "{unnamed:?} of {}\n{shown}", operation.id);
            assert_eq!(faults.len(), wrong.len(), "{}: {faults:?}\n{shown}", operation.id);
            tried += 1;
        }
    }
    assert!(tried > 100, "{tried}");
    assert_eq!(rows(&db).await, before);
});

on_both_databases!(every_wrong_value_of_a_request_is_named_at_once, async |db: TestDatabase| {
    let world = World::create(&db).await;
    let before = rows(&db).await;
    let client = &world.owner.client;
    let order = json!({
        "amount": "1e5", "currency": "DOGE", "blockchain": "base", "order_info": "{", "nonce": -1,
        "webhook_url": "http://10.0.0.1/", "redirect_url": "javascript:alert(1)", "expires_at": "2001-01-01T00:00:00Z",
    });
    assert_eq!(
        client.post("/api/payment-orders/", order).await.faults(),
        ["amount", "currency", "expires_at", "nonce", "order_info", "redirect_url", "webhook_url"]
    );
    let order = json!({
        "amount": "-1", "currency": "USDC", "blockchain": "dogechain", "order_info": 5, "nonce": "x",
        "expires_at": "2999-01-01T00:00:00Z",
    });
    assert_eq!(
        client.post("/api/payment-orders/", order).await.faults(),
        ["amount", "blockchain", "expires_at", "nonce", "order_info"]
    );
    let wallet = json!({"blockchain": "dogechain", "address": "0x1", "label": 7, "is_active": "yes"});
    assert_eq!(
        client.post("/api/merchant-wallets/", wallet).await.faults(),
        ["address", "blockchain", "is_active", "label"]
    );
    let endpoint = json!({"url": "ftp://x", "events": ["paid"], "description": 1, "is_active": 0});
    assert_eq!(
        client.post("/api/webhook-endpoints/", endpoint).await.faults(),
        ["description", "events[0]", "is_active", "url"]
    );
    let account = json!({"username": "a b", "email": "a", "password": "short", "shop_name": ""});
    assert_eq!(
        client.post("/api/auth/register", account).await.faults(),
        ["email", "password", "shop_name", "username"]
    );
    assert_eq!(rows(&db).await, before);
});

on_both_databases!(what_is_taken_is_named, async |db: TestDatabase| {
    let world = World::create(&db).await;
    let client = &world.owner.client;
    let first = world.owner.request();
    let order = client.post("/api/payment-orders/", first.clone()).await.data(201);
    let error = client.post("/api/payment-orders/", first.clone()).await.error(400, "VALIDATION_ERROR");
    let problem = error["details"]["nonce"][0].as_str().unwrap();
    assert!(problem.contains(order["order_id"].as_str().unwrap()), "{problem}");
    // The number that the message suggests is free.
    let (_, suggested) = problem.rsplit_once("such as ").unwrap();
    let mut again = first;
    again["nonce"] = json!(suggested.trim_end_matches('.').parse::<i64>().unwrap());
    client.post("/api/payment-orders/", again).await.data(201);
    let before = rows(&db).await;
    // Beside whatever else is wrong, before and behind what only the database knows.
    for (field, value) in
        [("amount", json!("-1")), ("webhook_url", json!("nowhere")), ("blockchain", json!("dogechain"))]
    {
        let mut wrong = order_like(&order);
        wrong[field] = value;
        let faults = client.post("/api/payment-orders/", wrong).await.faults();
        assert_eq!(faults, if field < "nonce" { [field, "nonce"] } else { ["nonce", field] });
    }
    let keyed = reqwest::Client::new()
        .post(format!("{}/api/payment-orders/", client.base()))
        .bearer_auth(client.token())
        .header("Idempotency-Key", "two words")
        .json(&order_like(&order));
    let refused: Value = keyed.send().await.unwrap().json().await.unwrap();
    let faults: Vec<&String> = refused["error"]["details"].as_object().unwrap().keys().collect();
    assert_eq!(faults, ["Idempotency-Key", "nonce"]);

    let me = client.get("/api/auth/me/").await.data(200);
    let again = json!({
        "username": me["username"].as_str().unwrap().to_uppercase(), "email": me["email"].as_str().unwrap().to_uppercase(),
        "password": "correct-horse-battery", "shop_name": "Again",
    });
    assert_eq!(client.post("/api/auth/register", again).await.faults(), ["email", "username"]);
    let wrong = json!({"username": me["username"], "password": "correct-horse-batterx"});
    client.post("/api/auth/login", wrong).await.error(401, "INVALID_CREDENTIALS");
    let unknown = json!({"username": "nobody-at-all", "password": "correct-horse-batterx"});
    client.post("/api/auth/login", unknown).await.error(401, "INVALID_CREDENTIALS");
    // Failed logins are summed in a table of their own; nothing else is written.
    assert_eq!(rows(&db).await, before);
});

/// The request that made an order.
fn order_like(order: &Value) -> Value {
    let mut request = json!({});
    for field in ["amount", "currency", "blockchain", "order_info", "nonce"] {
        request[field] = order[field].clone();
    }
    request
}
