use std::time::Duration;

use cryptopay_test_support::{TestDatabase, on_both_databases};
use futures_util::StreamExt;
use poem::http::StatusCode;
use poem::{Endpoint, Request, Response};
use serde_json::Value;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::operations::shop::{Shop, body, get};

/// Long enough for a slow machine; a stream that says nothing fails.
const SOON: Duration = Duration::from_secs(20);

/// The messages of a stream, as they come.
struct Messages {
    bytes: futures_util::stream::BoxStream<'static, Result<Vec<u8>, std::io::Error>>,
}

impl Messages {
    fn of(response: Response) -> Self {
        assert_eq!(response.content_type(), Some("text/event-stream"));
        let stream = response.into_body().into_bytes_stream();
        Self { bytes: stream.map(|chunk| chunk.map(|bytes| bytes.to_vec())).boxed() }
    }

    /// The next message: its id and its data. `None` at the end.
    async fn next(&mut self) -> Option<(i64, Value)> {
        loop {
            let chunk = timeout(SOON, self.bytes.next()).await.expect("the stream should say something")?.unwrap();
            let text = String::from_utf8(chunk).unwrap();
            let line = |name: &str| text.lines().find_map(|line| line.strip_prefix(name).map(str::to_owned));
            if let Some(data) = line("data: ") {
                return Some((line("id: ").unwrap().parse().unwrap(), serde_json::from_str(&data).unwrap()));
            }
        }
    }
}

async fn follow(shop: &Shop, order_id: &str, last_seen: Option<i64>) -> Response {
    let mut request = Request::builder().uri(format!("/order/{order_id}/events").parse().unwrap());
    if let Some(last) = last_seen {
        request = request.header("Last-Event-ID", last.to_string());
    }
    shop.routes().call(request.finish()).await.unwrap()
}

/// Passes numbered events on, until the test ends.
fn run_live(shop: &Shop) -> tokio_util::sync::DropGuard {
    let stop = CancellationToken::new();
    let app = &shop.app;
    tokio::spawn(app.live.clone().run(app.database().clone(), app.context.events.clone(), stop.clone()));
    stop.drop_guard()
}

on_both_databases!(the_status_shows_what_a_customer_needs_and_nothing_private, async |db: TestDatabase| {
    let mut shop = Shop::new(&db).await;
    let (anna, hers) = shop.merchant("anna").await;
    let order = shop.order(&anna).await;
    let path = format!("/order/{}/status", order.order_id);
    let text = body(get(&shop.app, &path).await).await.to_string();
    assert!(!text.contains("private") && !text.contains("example.com"), "{text}");
    let status = body(get(&shop.app, &path).await).await;
    let data = &status["data"];
    assert_eq!(data["status"], "pending");
    assert_eq!((&data["shop_name"], &data["network"]), (&"anna".into(), &"Base".into()));
    assert_eq!((&data["payable"], &data["fulfillable"]), (&true.into(), &false.into()));
    assert_eq!(data["receiving_address"], hers.to_string());
    assert_eq!((&data["transaction_hash"], &data["explorer_url"]), (&Value::Null, &Value::Null));

    let paid = shop.transfer(hers, order.pay_units);
    shop.receive("base", &[paid]).await;
    let status = body(get(&shop.app, &path).await).await;
    let data = &status["data"];
    assert_eq!((&data["status"], &data["payable"]), (&"confirming".into(), &false.into()));
    assert_eq!((&data["confirmations"], &data["transaction_hash"]), (&1.into(), &paid.tx_hash.to_string().into()));
    assert_eq!(data["explorer_url"], Value::Null, "no explorer knows what was simulated");
    for unknown in ["ORD-aaaaaaaaaaaa", "1", "x"] {
        let answer = get(&shop.app, &format!("/order/{unknown}/status")).await;
        assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    }
});

on_both_databases!(the_page_is_html_with_a_policy_of_its_own, async |db: TestDatabase| {
    let mut shop = Shop::new(&db).await;
    let (anna, hers) = shop.merchant("anna").await;
    let order = shop.order(&anna).await;
    let mut policies = Vec::new();
    for _ in 0..2 {
        let page = get(&shop.app, &format!("/order/{}", order.order_id)).await;
        assert_eq!((page.status(), page.content_type()), (StatusCode::OK, Some("text/html; charset=utf-8")));
        policies.push(page.header("Content-Security-Policy").unwrap().to_owned());
        let html = page.into_body().into_string().await.unwrap();
        assert!(html.contains(&hers.to_string()) && !html.contains("private"));
    }
    assert_ne!(policies[0], policies[1]);
    let unknown = get(&shop.app, "/order/ORD-aaaaaaaaaaaa").await;
    assert_eq!((unknown.status(), unknown.content_type()), (StatusCode::NOT_FOUND, Some("text/html; charset=utf-8")));
    assert!(unknown.header("Content-Security-Policy").is_some());
});

on_both_databases!(a_qr_code_is_drawn_as_it_is_asked_for, async |db: TestDatabase| {
    let mut shop = Shop::new(&db).await;
    let (anna, _) = shop.merchant("anna").await;
    let order = shop.order(&anna).await;
    let of = |query: &str| format!("/qr/{}{query}", order.order_id);
    for (query, kind, begins) in
        [("", "image/svg+xml", &b"<svg"[..]), ("?format=png&content=uri", "image/png", &b"\x89PNG"[..])]
    {
        let code = get(&shop.app, &of(query)).await;
        assert_eq!((code.status(), code.content_type()), (StatusCode::OK, Some(kind)));
        assert!(code.header("Cache-Control").is_some());
        assert!(code.into_body().into_vec().await.unwrap().starts_with(begins));
    }
    let faults = body(get(&shop.app, &of("?format=gif&content=all")).await).await;
    assert_eq!(faults["error"]["code"], "VALIDATION_ERROR");
    assert_eq!(faults["error"]["details"].as_object().unwrap().len(), 2);
    assert_eq!(get(&shop.app, "/qr/ORD-aaaaaaaaaaaa").await.status(), StatusCode::NOT_FOUND);
});

on_both_databases!(a_stream_tells_what_is_then_each_event_then_each_confirmation, async |db: TestDatabase| {
    let mut shop = Shop::new(&db).await;
    let (anna, hers) = shop.merchant("anna").await;
    let order = shop.order(&anna).await;
    shop.publish().await;
    let _live = run_live(&shop);
    let mut messages = Messages::of(follow(&shop, order.order_id.as_str(), None).await);
    let (created, first) = messages.next().await.unwrap();
    assert_eq!((&first["status"], first.get("order_info")), (&"pending".into(), None));

    let paid = shop.transfer(hers, order.pay_units);
    shop.receive("base", &[paid]).await;
    shop.publish().await;
    let (pending, second) = messages.next().await.unwrap();
    assert!(pending > created);
    assert_eq!((&second["status"], &second["confirmations"]), (&"confirming".into(), &1.into()));
    // Confirmations make no event; the stream sees them by itself.
    shop.mine("base", 2).await;
    let mut third = Value::Null;
    while third["confirmations"] != 3 {
        let (same, grown) = messages.next().await.unwrap();
        assert_eq!((same, &grown["status"]), (pending, &"confirming".into()));
        third = grown;
    }

    // Whoever was cut off gets what came since, whoever has seen it all the current state.
    let mut resumed = Messages::of(follow(&shop, order.order_id.as_str(), Some(created)).await);
    assert_eq!(resumed.next().await.unwrap(), (pending, third.clone()));
    let mut resumed = Messages::of(follow(&shop, order.order_id.as_str(), Some(pending)).await);
    assert_eq!(resumed.next().await.unwrap(), (pending, third));
});

on_both_databases!(a_stream_ends_with_the_orders_windows, async |db: TestDatabase| {
    let mut shop = Shop::new(&db).await;
    let (anna, _) = shop.merchant("anna").await;
    let order = shop.order(&anna).await;
    shop.publish().await;
    cryptopay_sandbox::advance_clock(shop.app.database(), 40 * 24 * 3600).await.unwrap();
    shop.mine("base", 1).await;
    let mut messages = Messages::of(follow(&shop, order.order_id.as_str(), None).await);
    let (last, status) = messages.next().await.unwrap();
    assert_eq!(status["payable"], false);
    assert_eq!(messages.next().await, None);
    let again = follow(&shop, order.order_id.as_str(), Some(last)).await;
    assert_eq!(again.status(), StatusCode::NO_CONTENT, "a browser does not come again");
});
