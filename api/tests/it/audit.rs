//! What the operator reads of who did what.

use cryptopay_test_support::{TestDatabase, on_both_databases};
use serde_json::{Value, json};

use crate::harness::{Installation, Shop, raw, text};

on_both_databases!(the_operator_reads_who_did_what_and_from_where, async |db: TestDatabase| {
    let installation = Installation::on(&db).with("CRYPTOPAY_TRUSTED_PROXIES", "127.0.0.0/8");
    let process = installation.start().await;
    let shop = Shop::register(&process.client()).await;
    Shop::register(&process.client()).await;
    let name = text(&shop.client.get("/api/auth/me/").await.data(200)["username"]).to_owned();
    // Somebody behind the proxy.
    let wrong = json!({"username": name, "password": "wrong-horse-battery"}).to_string();
    let request = format!(
        "POST /api/auth/login HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 198.51.100.7, 203.0.113.9\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{wrong}",
        wrong.len()
    );
    assert!(raw(process.base(), request.as_bytes()).await.starts_with("HTTP/1.1 401"));
    shop.client.post("/api/api-keys/", json!({"name": "till"})).await.data(201);
    assert_eq!(installation.run(["merchant", "set-plan", &name, "premium"]).await.code(), 0);

    let shown = installation.run(["merchant", "audit", &name, "--json"]).await;
    let lines: Vec<Value> = serde_json::from_str(&shown.stdout).unwrap_or_else(|error| panic!("{error}: {shown:?}"));
    let told: Vec<[&str; 3]> = lines
        .iter()
        .map(|line| [text(&line["actor"]), text(&line["action"]), line["address"].as_str().unwrap_or("nowhere")])
        .collect();
    assert_eq!(
        told,
        [
            ["operator", "merchant.set_plan", "nowhere"],
            ["merchant", "api_key.create", "127.0.0.1"],
            ["somebody", "login.fail", "203.0.113.9"],
            ["registration", "merchant.create", "127.0.0.1"],
        ]
    );
    assert_eq!(lines[1]["details"]["name"], "till");

    let table = installation.run(["merchant", "audit", "--limit", "2"]).await.stdout;
    let rows: Vec<&str> = table.lines().collect();
    assert_eq!(rows.len(), 3, "{table}");
    assert!(rows[0].starts_with("WHEN") && rows[1].contains("merchant.set_plan"), "{table}");
    let unknown = installation.run(["merchant", "audit", "nobody.at.all"]).await;
    assert_eq!((unknown.code(), unknown.stderr.trim()), (1, "There is no such merchant."));
});
