//! Limits as merchants meet them: over several processes that share a Redis, and while it is away.

use std::time::{Duration, Instant};

use cryptopay_test_support::{Parts, RedisServer, TestDatabase, block_on, on_both_sets_of_parts};
use serde_json::json;

use crate::harness::{Answer, Client, Installation, Shop, eventually, raw};

/// Within what time the contract wants a new plan to count everywhere.
const PLAN_WITHIN: Duration = Duration::from_secs(1);

fn on(parts: &Parts) -> Installation {
    let installation = Installation::on(&parts.database);
    match &parts.redis {
        Some(redis) => installation.with("REDIS_URL", redis.url()).with("CRYPTOPAY_KEY_PREFIX", redis.prefix()),
        None => installation,
    }
}

fn number(answer: &Answer, name: &str) -> u64 {
    answer.header(name).unwrap_or_else(|| panic!("no {name}: {answer}")).parse().unwrap()
}

fn limit(answer: &Answer) -> u64 {
    number(answer, "x-ratelimit-limit")
}

async fn me(client: &Client) -> Answer {
    client.get("/api/auth/me/").await
}

/// Asks of each in turn until somebody refuses; how often they did not, within one hour.
async fn accepted(clients: &[Client]) -> u64 {
    loop {
        let (mut accepted, mut hours) = (0, std::collections::BTreeSet::new());
        let refused = loop {
            let mut refused = None;
            for client in clients {
                let answer = me(client).await;
                hours.insert(number(&answer, "x-ratelimit-reset"));
                match answer.status {
                    200 => accepted += 1,
                    _ => refused = Some(answer),
                }
            }
            if let Some(refused) = refused {
                break refused;
            }
        };
        assert!((1..=3_600).contains(&number(&refused, "retry-after")), "{refused}");
        assert_eq!(number(&refused, "x-ratelimit-remaining"), 0);
        refused.error(429, "RATE_LIMITED");
        // An hour that turned meanwhile has given twice.
        if hours.len() == 1 {
            return accepted;
        }
    }
}

on_both_sets_of_parts!(a_new_plan_counts_within_a_second_in_every_process, async |parts: Parts| {
    let installation = on(&parts);
    let first = installation.start().await;
    let (shop, name) = Shop::limited(&first.client()).await;
    let mut clients = vec![shop.client.clone()];
    let second = if parts.redis.is_some() { Some(installation.start_as("api").await) } else { None };
    clients.extend(second.as_ref().map(|process| shop.client.at(process.base())));
    for client in &clients {
        assert_eq!(limit(&me(client).await), 1_000);
    }
    for (words, expected) in [
        (vec!["premium"], 5_000),
        (vec!["enterprise", "--limit", "77000"], 77_000),
        (vec!["standard"], 1_000),
        (vec!["standard", "--limit", "20"], 20),
    ] {
        let ended = installation.run(["merchant", "set-plan", &name].into_iter().chain(words)).await;
        assert_eq!(ended.code(), 0, "{ended:?}");
        let changed = Instant::now();
        for client in &clients {
            assert_eq!(limit(&me(client).await), expected);
        }
        eprintln!("a new plan counts {:?} after it was set", changed.elapsed());
        // What is asked of a loaded machine is not its speed: the first answer after the change has the new limit.
        assert!(changed.elapsed() < PLAN_WITHIN * 10);
    }
    let already = (clients.len() * 5) as u64;
    assert_eq!(accepted(&clients).await, 20 - already, "all processes hold the limit together");
    let query = json!({"query": "{ me { id } }"});
    let refused = clients[0].post("/graphql", query).await;
    assert_eq!((refused.status, &refused.body["errors"][0]["extensions"]["code"]), (429, &json!("RATE_LIMITED")));
    for process in [Some(first), second].into_iter().flatten() {
        assert_eq!(process.terminate().await.code(), 0);
    }
});

#[test]
fn without_redis_each_process_holds_the_limit_by_itself_and_no_request_fails_for_it() {
    block_on(async {
        let (db, mut redis) = (TestDatabase::postgres().await, RedisServer::start());
        let installation = Installation::on(&db).with("REDIS_URL", redis.url());
        let (first, second) = tokio::join!(installation.start_as("api"), installation.start_as("api"));
        let (shop, name) = Shop::limited(&first.client()).await;
        let clients = [shop.client.clone(), shop.client.at(second.base())];
        let ended = installation.run(["merchant", "set-plan", &name, "standard", "--limit", "15"]).await;
        assert_eq!(ended.code(), 0, "{ended:?}");
        assert_eq!(accepted(&clients).await, 15);
        redis.stop();
        for client in &clients {
            assert_eq!(accepted(std::slice::from_ref(client)).await, 15);
        }
        for process in [&first, &second] {
            let metrics = process.client().get("/metrics").await;
            let text = String::from_utf8(metrics.bytes).unwrap();
            assert!(text.contains("\ncryptopay_rate_limit_local_total "), "{text}");
            let said = || process.log().lines().filter(|line| line.contains("Redis cannot count")).count();
            eventually("says so", async || (said() > 0).then_some(())).await;
            assert_eq!(said(), 1, "{process:?}");
        }
        redis.restart();
        let returned = Instant::now();
        for client in &clients {
            eventually("counts in Redis again", async || (me(client).await.status == 200).then_some(())).await;
        }
        eprintln!("counted together again {:?} after Redis was back", returned.elapsed());
        assert!(returned.elapsed() < Duration::from_secs(10), "{:?}", returned.elapsed());
        for process in [first, second] {
            assert_eq!(process.terminate().await.code(), 0);
        }
    });
}

#[test]
fn a_trusted_proxy_tells_who_the_client_is_and_a_refused_body_is_read_on() {
    block_on(async {
        let process = Installation::bare().with("CRYPTOPAY_TRUSTED_PROXIES", "127.0.0.0/8").start().await;
        let ask = async |from: &str, body: &str| {
            let length = body.len();
            let head = "POST /api/auth/token/verify/ HTTP/1.1\r\nHost: x\r\nConnection: close";
            let request = format!("{head}\r\nX-Forwarded-For: {from}\r\nContent-Length: {length}\r\n\r\n{body}");
            raw(process.base(), request.as_bytes()).await
        };
        let mut asked = 0;
        let refused = loop {
            let answer = ask("198.51.100.9, 203.0.113.7", &"x".repeat(700_000 * usize::from(asked >= 600))).await;
            if answer.starts_with("HTTP/1.1 429") {
                break answer;
            }
            asked += 1;
            // An hour that turns meanwhile gives another six hundred.
            assert!(asked <= 1_200, "{answer}");
        };
        assert!(asked >= 600, "{asked}");
        assert!(refused.contains("RATE_LIMITED") && refused.contains("retry-after: "), "{refused}");
        assert!(ask("203.0.113.8", "").await.starts_with("HTTP/1.1 400"));
    });
}
