//! `/metrics` as a scraper reads it.

use std::collections::{BTreeMap, BTreeSet};

use cryptopay_test_support::{PostgresServer, TestDatabase, TestRedis, WebhookReceiver, block_on, on_both_databases};
use serde_json::json;

use crate::harness::{Client, Installation, LIMIT, Shop, Subscription, eventually, raw, text, told};

/// Every sample by its name and labels, in a text that must be well-formed: each family with its type and words.
async fn scrape(client: &Client) -> BTreeMap<String, f64> {
    let answer = client.get("/metrics").await;
    assert_eq!(answer.status, 200, "{answer}");
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let body = String::from_utf8(answer.bytes).unwrap();
    let mut samples = BTreeMap::new();
    let mut explained = BTreeSet::new();
    let mut typed = BTreeSet::new();
    for line in body.lines().filter(|line| !line.is_empty()) {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            assert!(explained.insert(rest.split(' ').next().unwrap().to_owned()), "twice: {line}");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            assert!(typed.insert(rest.split(' ').next().unwrap().to_owned()), "twice: {line}");
        } else {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            assert_eq!(samples.insert(sample.to_owned(), value.parse().unwrap()), None, "twice: {line}");
        }
    }
    assert_eq!(explained, typed, "each metric is described");
    samples
}

on_both_databases!(a_payment_shows_in_the_metrics, async |db: TestDatabase| {
    let process = Installation::on(&db).start().await;
    let receiver = WebhookReceiver::start().await;
    let shop = Shop::open(&process.client()).await;
    shop.listen(&receiver).await;
    let order = shop.order(json!({})).await;
    let mut live = Subscription::open(&shop.client, text(&order["order_id"]), Some("0")).await;
    live.next().await;
    shop.pay(&order, json!({})).await;
    shop.mine(13).await;
    receiver.wait_until(LIMIT, |journal| told(journal, "payment.confirmed", &order).len() == 1).await;
    process.client().get("/no/such/path").await;

    let positive = [
        "cryptopay_build_info{version=\"0.1.0\",role=\"all\",mode=\"sandbox\"}",
        "cryptopay_database_up",
        "cryptopay_orders_created_total{chain=\"base\"}",
        "cryptopay_transfers_found_total{chain=\"base\"}",
        "cryptopay_graphql_sockets",
        "cryptopay_job_runs_total{job=\"scan_chain\"}",
        "cryptopay_job_runs_total{job=\"confirm_payments\"}",
        "cryptopay_job_runs_total{job=\"deliver_webhooks\"}",
        "cryptopay_job_seconds_count{job=\"scan_chain\"}",
        "cryptopay_job_seconds_bucket{job=\"scan_chain\",le=\"30\"}",
        "cryptopay_queue_length{job=\"scan_chain\"}",
        "cryptopay_webhook_attempts_total{answer=\"2xx\"}",
        "cryptopay_webhook_deliveries_total{outcome=\"delivered\"}",
        "cryptopay_webhook_attempt_seconds_count",
        "cryptopay_event_sequence",
        "cryptopay_chain_head_height{chain=\"base\"}",
        "cryptopay_chain_verified_height{chain=\"base\"}",
        "cryptopay_chain_healthy{chain=\"base\"}",
        "cryptopay_rpc_calls_total{endpoint=\"simulated base\",method=\"eth_getLogs\"}",
        "cryptopay_rpc_request_seconds_count{endpoint=\"simulated base\"}",
        "cryptopay_http_requests_total{route=\"/api/payment-orders\",method=\"POST\",status=\"2xx\"}",
        "cryptopay_http_requests_total{route=\"other\",method=\"GET\",status=\"4xx\"}",
        "cryptopay_http_request_seconds_count{route=\"/api/payment-orders\"}",
        "process_resident_memory_bytes",
        "process_cpu_seconds",
        "process_open_fds",
    ];
    let samples = eventually("everything that has happened", async || {
        let samples = scrape(&process.client()).await;
        let missing: Vec<&str> =
            positive.into_iter().filter(|name| samples.get(*name).is_none_or(|value| *value <= 0.0)).collect();
        eprintln!("missing: {missing:?}");
        missing.is_empty().then_some(samples)
    })
    .await;
    for (name, value) in [
        ("cryptopay_chain_frozen{chain=\"base\"}", 0.0),
        ("cryptopay_webhook_deliveries{state=\"held\"}", 0.0),
        ("cryptopay_orders_created_total{chain=\"base\"}", 1.0),
        ("cryptopay_transfers_found_total{chain=\"base\"}", 1.0),
        ("cryptopay_graphql_sockets", 1.0),
    ] {
        assert_eq!(samples.get(name), Some(&value), "{name}");
    }
    let behind = samples["cryptopay_chain_lag_blocks{chain=\"base\"}"];
    assert!((0.0..100.0).contains(&behind), "{behind}");
    // Whatever was paid and whoever was told: none of it is a label.
    let order_id = text(&order["order_id"]);
    assert!(samples.keys().all(|sample| !sample.contains(order_id) && !sample.contains("127.0.0.1")), "{samples:?}");

    drop(live);
    eventually("the socket's end", async || {
        (scrape(&process.client()).await["cryptopay_graphql_sockets"] == 0.0).then_some(())
    })
    .await;
});

#[test]
fn what_came_through_a_proxy_is_told_that_there_is_no_such_route() {
    block_on(async {
        let process = Installation::bare().start().await;
        for header in ["X-Forwarded-For: 203.0.113.9", "Forwarded: for=203.0.113.9", "Via: 1.1 proxy"] {
            let request = format!("GET /metrics HTTP/1.1\r\nHost: x\r\n{header}\r\nConnection: close\r\n\r\n");
            let answer = raw(process.base(), request.as_bytes()).await;
            assert!(answer.starts_with("HTTP/1.1 404") && !answer.contains("cryptopay_"), "{answer}");
        }
    });
}

#[test]
fn a_worker_tells_its_own_part() {
    block_on(async {
        let (db, redis) = (TestDatabase::postgres().await, TestRedis::new());
        let shared = Installation::on(&db).with("REDIS_URL", redis.url()).with("CRYPTOPAY_KEY_PREFIX", redis.prefix());
        let mut worker = shared.launch(["serve", "--role", "worker"]);
        let client = worker.banner().await;
        eventually("a scan that shows", async || {
            let samples = scrape(&client).await;
            let scans = samples.get("cryptopay_job_runs_total{job=\"scan_chain\"}").copied().unwrap_or_default();
            let is_whole = samples.contains_key("cryptopay_queue_length{job=\"deliver_webhooks\"}")
                && samples.contains_key("cryptopay_build_info{version=\"0.1.0\",role=\"worker\",mode=\"sandbox\"}");
            (scans > 0.0 && is_whole).then_some(())
        })
        .await;
    });
}

#[test]
fn timers_that_fail_are_counted() {
    block_on(async {
        let mut server = PostgresServer::start();
        let db = TestDatabase::postgres_in(&server).await;
        let process = Installation::on(&db).with("CRYPTOPAY_LOG", "info").start().await;
        let failures = async || {
            let samples = scrape(&process.client()).await;
            ["sweep", "expire_orders", "publish_events"].map(|timer| {
                let name = format!("cryptopay_timer_failures_total{{timer=\"{timer}\"}}");
                samples.get(&name).copied().unwrap_or_default()
            })
        };
        assert_eq!(failures().await, [0.0; 3]);
        server.crash();
        eventually("timers that fail", async || failures().await.iter().all(|failed| *failed > 0.0).then_some(()))
            .await;
        assert!(process.log().contains("a timer failed; it runs again"), "{process:?}");
        server.start_again();
        eventually("timers that work", async || process.log().contains("the timer works again").then_some(())).await;
    });
}

#[test]
fn a_database_that_is_away_is_said_and_nothing_old_passes_for_new() {
    block_on(async {
        let db = TestDatabase::postgres().await;
        let away = format!("{}_away", db.url());
        let mut process = Installation::bare().with("DATABASE_URL", &away).launch(["serve"]);
        let client = process.banner().await;
        let samples = scrape(&client).await;
        assert_eq!(samples.get("cryptopay_database_up"), Some(&0.0));
        assert!(!samples.keys().any(|sample| sample.starts_with("cryptopay_chain_")), "{samples:?}");
    });
}
