//! Filters and pages that mean nothing.

use cryptopay_test_support::{TestDatabase, on_both_databases};
use reqwest::Method;

use super::{World, rows};

/// Values that a parameter of this name never takes; none for text that may be anything.
fn wrong_values(parameter: &str) -> Option<&'static [&'static str]> {
    const NUMBERS: &[&str] = &["0", "-1", "x", "1.5", "1e3", "+", "%00"];
    Some(match parameter {
        "page" | "page_size" => NUMBERS,
        "status" => &["bogus", "pending,bogus", "pending;confirmed", "%00"],
        "blockchain" => &["dogechain", "8453", "%00"],
        "nonce" => &["x", "-1", "1.5", "99999999999999999999"],
        "order_id" => &["x", "ORD-", "ORD-%C3%A9aaaaaaaaaaa"],
        "created_after" | "created_before" => &["bogus", "2026-02-30T00:00:00Z", "2026-13-01T00:00:00Z", "yesterday"],
        "ordering" => &["amount", "created_at;--", "-id"],
        "matched" | "is_active" => &["maybe", "2"],
        "after" => &["x", "-1", "1.5", "99999999999999999999"],
        "wait" => &["x", "-1", "61", "1.5"],
        "event" => &["payment.paid", "*"],
        "search" | "currency" => &["%00", "a%00b"],
        _ => return None,
    })
}

on_both_databases!(every_wrong_filter_is_named_alone_and_together, async |db: TestDatabase| {
    let world = World::create(&db).await;
    let before = rows(&db).await;
    let client = &world.owner.client;
    let mut asked = 0;
    for operation in world.operations.iter().filter(|operation| operation.method == Method::GET) {
        let path = world.path(operation);
        let mut together = Vec::new();
        for parameter in &operation.query {
            let values =
                wrong_values(parameter).unwrap_or_else(|| panic!("what is wrong for {parameter} of {}?", operation.id));
            for value in values {
                let faults = client.get(&format!("{path}?{parameter}={value}")).await.faults();
                assert!(faults.iter().eq([parameter]), "{parameter}={value} of {}: {faults:?}", operation.id);
                asked += 1;
            }
            if let Some(value) = values.first() {
                together.push((parameter.clone(), *value));
            }
        }
        if !together.is_empty() {
            let query: Vec<String> = together.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let mut names: Vec<String> = together.into_iter().map(|(name, _)| name).collect();
            names.sort();
            assert_eq!(client.get(&format!("{path}?{}", query.join("&"))).await.faults(), names, "{}", operation.id);
        }
    }
    assert!(asked > 60, "{asked}");
    assert_eq!(rows(&db).await, before);
});

on_both_databases!(lists_have_the_documented_block_twice_and_pages_that_end, async |db: TestDatabase| {
    let world = World::create(&db).await;
    let client = &world.owner.client;
    for _ in 0..4 {
        world.owner.order(serde_json::json!({})).await;
    }
    for operation in world.operations.iter().filter(|operation| operation.query.iter().any(|name| name == "page")) {
        let path = world.path(operation);
        let answer = client.get(&format!("{path}?page_size=1000&nobody=knows")).await;
        let body = answer.clone().expect(200);
        for name in ["count", "next", "previous", "results"] {
            assert_eq!(body[name], body["data"][name], "{answer}");
        }
        assert!(body["count"].is_u64() && body["next"].is_null() && body["previous"].is_null(), "{answer}");
        client.get(&format!("{path}?page=999999")).await.error(404, "NOT_FOUND");
        for far in ["9007199254740992", "99999999999999999999"] {
            client.get(&format!("{path}?page={far}&page_size=100")).await.error(404, "NOT_FOUND");
            client.get(&format!("{path}?page_size={far}")).await.data(200);
        }
    }
    let page = client.get("/api/payment-orders/?page=2&page_size=2&currency=usdc").await.data(200);
    assert_eq!((&page["count"], page["results"].as_array().unwrap().len()), (&5.into(), 2), "{page}");
    assert_eq!(page["next"], "/api/payment-orders/?page=3&page_size=2&currency=usdc");
    assert_eq!(page["previous"], "/api/payment-orders/?page=1&page_size=2&currency=usdc");
    // As Python writes it.
    for flag in ["True", "true", "FALSE", "False"] {
        client.get(&format!("/api/transactions/?matched={flag}")).await.data(200);
    }
    // A short list that has one page has no place in it either.
    assert_eq!(client.get("/api/blockchains/?after=1&ordering=created_at").await.faults(), ["after", "ordering"]);
    // What no database would take as it is.
    for query in ["search=%25", "search=_", "search=%27", "search=%F0%9F%92%B8", "currency=%27%3B--"] {
        client.get(&format!("/api/payment-orders/?{query}")).await.data(200);
    }
});
