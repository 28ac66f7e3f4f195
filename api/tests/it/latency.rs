//! How long it takes from a block that can be seen to the webhook about it. Printed, for people to compare with the
//! contract's 400 ms on a machine that does nothing else; a test only makes sure that it is no matter of seconds.

use std::time::Duration;

use chrono::{DateTime, Utc};
use cryptopay_test_support::{TestDatabase, TestRedis, WebhookReceiver, block_on, on_both_databases};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::harness::{Installation, LIMIT, Process, Shop, told};

const ROUNDS: usize = 5;
/// Commits of which it is known when the worker began.
const COMMITS: usize = 40;
/// No measurement: what no loaded machine should exceed.
const SANE: Duration = Duration::from_secs(5);

on_both_databases!(a_block_that_can_be_seen_is_told_soon, async |db: TestDatabase| {
    let process = Installation::on(&db).start().await;
    let receiver = WebhookReceiver::start().await;
    let shop = Shop::open(&process.client()).await;
    shop.listen(&receiver).await;
    let mut took = Vec::new();
    for _ in 0..ROUNDS {
        let order = shop.order(json!({})).await;
        shop.pay(&order, json!({})).await;
        // From before the block exists, so that the truth is a little better.
        let started = Instant::now();
        shop.mine(1).await;
        receiver.wait_until(LIMIT, |journal| !told(journal, "payment.pending", &order).is_empty()).await;
        took.push(started.elapsed());
    }
    took.sort_unstable();
    eprintln!("block visible to webhook's first byte: median {:?}, worst {:?}", took[ROUNDS / 2], took[ROUNDS - 1]);
    assert!(took[ROUNDS - 1] < SANE, "{took:?}");
});

/// When a process logged this about webhooks, and about which queue of them.
fn logged(process: &Process, message: &str) -> Vec<(DateTime<Utc>, String)> {
    let lines = process.log();
    let read = |line: &str| -> Option<(DateTime<Utc>, String)> {
        let line: Value = serde_json::from_str(line).ok()?;
        let fields = &line["fields"];
        let matches = fields["message"] == message && fields["job"] == "deliver_webhooks";
        let at = DateTime::parse_from_rfc3339(line["timestamp"].as_str()?).ok()?.to_utc();
        matches.then(|| (at, fields["key"].as_str().unwrap_or_default().to_owned()))
    };
    lines.lines().filter_map(read).collect()
}

/// From an API process' commit to the worker that begins its job, through Redis. Both say when in their logs, by one
/// clock. The contract has half of them within 60 ms on a machine that does nothing else.
#[test]
fn what_one_process_commits_another_begins_to_work_on_soon() {
    block_on(async {
        let (db, redis) = (TestDatabase::postgres().await, TestRedis::new());
        let installation = Installation::on(&db)
            .with("REDIS_URL", redis.url())
            .with("CRYPTOPAY_KEY_PREFIX", redis.prefix())
            .with("CRYPTOPAY_LOG", "warn,cryptopay_jobs::queue=debug")
            .with("CRYPTOPAY_LOG_FORMAT", "json");
        let (worker, api) = tokio::join!(installation.start_as("worker"), installation.start_as("api"));
        let receiver = WebhookReceiver::start().await;
        let shop = Shop::open(&api.client()).await;
        shop.listen(&receiver).await;
        for _ in 0..COMMITS {
            let order = shop.order(json!({})).await;
            receiver.wait_until(LIMIT, |journal| !told(journal, "order.created", &order).is_empty()).await;
        }
        let begun = logged(&worker, "a job begins");
        let mut waited: Vec<Duration> = logged(&api, "committed")
            .into_iter()
            .filter_map(|(at, key)| {
                let (began, _) = begun.iter().find(|(began, worked_on)| *began >= at && *worked_on == key)?;
                (*began - at).to_std().ok()
            })
            .collect();
        assert!(waited.len() >= COMMITS, "{} of {COMMITS}", waited.len());
        waited.sort_unstable();
        let [half, most, all] = [waited.len() / 2, waited.len() * 9 / 10, waited.len() - 1].map(|at| waited[at]);
        eprintln!("commit -> a worker begins, over Redis and two processes: p50 {half:?}, p90 {most:?}, worst {all:?}");
        assert!(half < SANE / 5 && all < SANE, "{waited:?}");
    });
}
