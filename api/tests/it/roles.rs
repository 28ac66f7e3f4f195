//! Processes of one role each, on PostgreSQL and Redis: what they refuse, that they work together, and what they make of
//! a Redis that forgets, goes away and comes back.

use std::time::{Duration, Instant};

use cryptopay_test_support::{RedisServer, TestDatabase, TestRedis, WebhookReceiver, block_on, free_port};
use reqwest::Method;
use sea_orm::{ConnectionTrait, DatabaseConnection};
use serde_json::{Value, json};

use crate::harness::{Client, Installation, LIMIT, Process, Shop, Subscription, eventually, is_signed, text, told};

/// Service is back this soon after its parts are.
const BACK_WITHIN: Duration = Duration::from_secs(5);
/// As the contract says it, for a machine that does much else meanwhile.
const SANE: Duration = Duration::from_secs(10);

fn on_redis(db: &TestDatabase, url: &str, prefix: &str) -> Installation {
    Installation::on(db).with("REDIS_URL", url).with("CRYPTOPAY_KEY_PREFIX", prefix)
}

async fn readiness(process: &Process) -> (u16, Value) {
    let answer = process.client().get("/readyz").await;
    (answer.status, answer.body)
}

#[test]
fn a_role_of_its_own_is_refused_without_what_processes_share() {
    block_on(async {
        let postgres = ("DATABASE_URL", "postgres://u:hunter2@127.0.0.1:1/x");
        let redis = ("REDIS_URL", "redis://:hunter2@127.0.0.1:1");
        for role in ["api", "worker"] {
            for (variables, named) in
                [(vec![], "DATABASE_URL"), (vec![redis], "DATABASE_URL"), (vec![postgres], "REDIS_URL")]
            {
                let installation =
                    variables.iter().fold(Installation::bare(), |all, (name, value)| all.with(name, value));
                let ended = installation.run(["serve", "--role", role]).await;
                assert_eq!((ended.code(), ended.stdout.as_str()), (2, ""), "{ended:?}");
                assert!(ended.stderr.starts_with(&format!("{named}: ")), "{ended:?}");
                assert!(ended.stderr.contains("use --role all") && !ended.stderr.contains("hunter2"), "{ended:?}");
            }
        }
    });
}

#[test]
fn an_order_made_at_one_process_is_worked_on_by_another_and_followed_at_a_third() {
    block_on(async {
        let (db, redis) = (TestDatabase::postgres().await, TestRedis::new());
        let installation = on_redis(&db, redis.url(), redis.prefix());
        let (worker, first, second) =
            tokio::join!(installation.start_as("worker"), installation.start_as("api"), installation.start_as("api"));
        let receiver = WebhookReceiver::start().await;
        let shop = Shop::open(&first.client()).await;
        let secret = shop.listen(&receiver).await;
        let order = shop.order(json!({})).await;
        let mut live = Subscription::open(&shop.client.at(second.base()), text(&order["order_id"]), Some("0")).await;
        assert_eq!(live.next().await["event"], "ORDER_CREATED");
        shop.pay(&order, json!({})).await;
        shop.mine(13).await;
        let seen = live.until("PAYMENT_CONFIRMED").await;
        assert_eq!(seen.last().unwrap()["order"]["status"], "CONFIRMED");
        let journal = receiver.wait_until(LIMIT, |journal| told(journal, "payment.confirmed", &order).len() == 1).await;
        assert!(journal.iter().all(|webhook| is_signed(webhook, &secret)));
        assert!(redis.keys().iter().all(|key| key.starts_with(redis.prefix())));

        // How long an API process' commit takes to reach a subscriber at the other one and the merchant.
        let mut took = Vec::new();
        for _ in 0..5 {
            let started = Instant::now();
            let order = shop.order(json!({})).await;
            receiver.wait_until(LIMIT, |journal| told(journal, "order.created", &order).len() == 1).await;
            took.push(started.elapsed());
        }
        took.sort_unstable();
        eprintln!("order asked for -> webhook's first byte, over Redis: median {:?}, worst {:?}", took[2], took[4]);
        assert!(took[4] < SANE, "{took:?}");

        // The worker is no API, and says so.
        for (method, path) in [(Method::GET, "/"), (Method::GET, "/api/blockchains/"), (Method::POST, "/graphql")] {
            let answer = worker.client().send(method, path, None).await;
            let error = answer.error(404, "NOT_FOUND");
            assert!(error.to_string().contains("worker role"), "{error}");
        }
        assert_eq!(worker.client().get("/healthz").await.status, 200);
        assert_eq!(readiness(&worker).await.1["role"], "worker");
        for process in [worker, first, second] {
            let ended = process.terminate().await;
            assert_eq!(ended.code(), 0, "{ended:?}");
        }
        let left: Vec<String> =
            redis.keys().into_iter().filter(|key| key.contains("workers") || key.contains("worker:")).collect();
        assert!(left.is_empty(), "a worker that stops takes itself off the list: {left:?}");
    });
}

#[test]
fn redis_may_be_away_at_start_and_later_and_nothing_is_lost() {
    block_on(async {
        let (db, mut redis) = (TestDatabase::postgres().await, RedisServer::start());
        let installation = on_redis(&db, redis.url(), "ours:");
        redis.stop();
        let mut worker = installation.launch(["serve", "--role", "worker"]);
        worker.banner().await;
        let api = installation.start_as("api").await;
        let (status, body) = readiness(&api).await;
        assert_eq!(status, 200, "requests do not need Redis: {body}");
        assert!(text(&body["degraded"][0]).starts_with("Redis is away"), "{body}");
        eventually("a worker without a queue is not ready", async || {
            let (status, body) = readiness(&worker).await;
            (status == 503 && text(&body["reasons"][0]).starts_with("Redis is away")).then_some(())
        })
        .await;

        redis.restart();
        let receiver = WebhookReceiver::start().await;
        let shop = Shop::open(&api.client()).await;
        shop.listen(&receiver).await;
        for round in 0..2 {
            redis.stop();
            // Committed while nobody can be told.
            let order = shop.order(json!({})).await;
            shop.pay(&order, json!({})).await;
            shop.mine(13).await;
            redis.restart();
            let returned = Instant::now();
            eventually("ready again", async || {
                let (one, other) = tokio::join!(readiness(&api), readiness(&worker));
                (one.0 == 200 && other.0 == 200 && one.1["degraded"] == json!([])).then_some(())
            })
            .await;
            let ready = returned.elapsed();
            receiver.wait_until(LIMIT, |journal| !told(journal, "payment.confirmed", &order).is_empty()).await;
            eprintln!("round {round}: ready after {ready:?}, webhook after {:?}", returned.elapsed());
            assert!(ready < BACK_WITHIN && returned.elapsed() < SANE, "{ready:?}, {:?}", returned.elapsed());
            assert_eq!(told(&receiver.journal(), "payment.confirmed", &order).len(), 1);
        }
        let lines = worker.log().lines().filter(|line| line.contains("WARN") || line.contains("ERROR")).count();
        assert!(lines < 60, "the log is flooded: {lines} lines\n{worker:?}");
        for process in [worker, api] {
            assert_eq!(process.terminate().await.code(), 0);
        }
    });
}

/// A process that does everything does its jobs through Redis too, where that is set: other processes may share it.
#[test]
fn a_process_that_does_everything_is_not_ready_without_its_redis_and_still_answers() {
    block_on(async {
        let (db, mut redis) = (TestDatabase::postgres().await, RedisServer::start());
        let all = on_redis(&db, redis.url(), "ours:").start().await;
        let receiver = WebhookReceiver::start().await;
        let shop = Shop::open(&all.client()).await;
        shop.listen(&receiver).await;
        redis.stop();
        let reasons = eventually("not ready", async || {
            let (status, body) = readiness(&all).await;
            (status == 503).then_some(body)
        })
        .await;
        assert!(text(&reasons["reasons"][0]).contains("no jobs can be taken"), "{reasons}");
        // Whoever asks it all the same is served, and what they commit is done when Redis is back.
        let order = shop.order(json!({})).await;
        shop.pay(&order, json!({})).await;
        shop.mine(13).await;
        assert_eq!(receiver.journal().len(), 0);
        redis.restart();
        receiver.wait_until(LIMIT, |journal| told(journal, "payment.confirmed", &order).len() == 1).await;
        eventually("ready again", async || (readiness(&all).await.0 == 200).then_some(())).await;
    });
}

/// As in containers: each process on an address of its own, and a public one that leads nowhere from there.
#[test]
fn the_webhook_inbox_is_reached_also_where_the_public_address_is_not() {
    block_on(async {
        let (db, redis) = (TestDatabase::postgres().await, TestRedis::new());
        let at = |address: &str| {
            on_redis(&db, redis.url(), redis.prefix())
                .with("CRYPTOPAY_BIND", address)
                // Of no network at all (RFC 5737).
                .with("CRYPTOPAY_PUBLIC_URL", "http://192.0.2.1:8080")
                .with("CRYPTOPAY_WEBHOOK_ALLOW", "10.0.0.0/8")
                .with("CRYPTOPAY_SECRET", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
        };
        let address = format!("127.0.0.2:{}", free_port());
        let [api, worker] = [at(&address), at("127.0.0.3:0")];
        let (_api, _worker) = (api.launch(["serve", "--role", "api"]), worker.launch(["serve", "--role", "worker"]));
        let client = Client::new(&format!("http://{address}"));
        eventually("an API", async || {
            let asked = client.try_send(Method::GET, "/readyz", Vec::new(), "").await;
            asked.is_ok_and(|answer| answer.status == 200).then_some(())
        })
        .await;
        let shop = Shop::open(&client).await;
        let order = shop.order(json!({})).await;
        shop.pay(&order, json!({})).await;
        shop.mine(13).await;
        let told = shop.client.get("/api/sandbox/webhook-inbox/?event=payment.confirmed&wait=30").await.data(200);
        assert_eq!(told["count"], 1, "{told}");
        assert_eq!(told["results"][0]["signature_valid"], true, "{told}");
    });
}

#[test]
fn workers_that_are_killed_while_redis_forgets_everything_lose_and_repeat_nothing() {
    const ORDERS: usize = 12;
    block_on(async {
        let (db, redis) = (TestDatabase::postgres().await, RedisServer::start());
        let installation = on_redis(&db, redis.url(), "ours:");
        let (api, one, two) = tokio::join!(
            installation.start_as("api"),
            installation.start_as("worker"),
            installation.start_as("worker")
        );
        let receiver = WebhookReceiver::start().await;
        let shop = Shop::open(&api.client()).await;
        let secret = shop.listen(&receiver).await;
        let mut workers = vec![one, two];
        let mut orders = Vec::new();
        for number in 0..ORDERS {
            let order = shop.order(json!({})).await;
            shop.pay(&order, json!({})).await;
            shop.mine(1).await;
            orders.push(order);
            if number % 2 == 0 {
                redis.flush();
            }
            if number % 4 == 3 {
                workers.remove(0).kill_9();
                workers.push(installation.start_as("worker").await);
            }
        }
        shop.mine(13).await;
        for order in &orders {
            shop.until(order, "confirmed").await;
        }
        // A claim that died with its worker is taken over after 30 s.
        let all = |journal: &[cryptopay_test_support::ReceivedRequest]| {
            orders.iter().all(|order| !told(journal, "payment.confirmed", order).is_empty())
        };
        let journal = receiver.wait_until(Duration::from_secs(90), all).await;
        for order in &orders {
            let told = told(&journal, "payment.confirmed", order);
            let ids: std::collections::BTreeSet<_> = told.iter().map(|webhook| webhook.header("webhook-id")).collect();
            assert_eq!(ids.len(), 1, "{order}");
            assert!(told.iter().all(|webhook| is_signed(webhook, &secret)));
            assert_eq!(shop.look(order).await["fulfillable"], true);
        }
        for process in workers.into_iter().chain([api]) {
            assert_eq!(process.terminate().await.code(), 0);
        }
    });
}

#[test]
fn one_process_may_do_everything_over_redis_and_on_sqlite_too() {
    block_on(async {
        let redis = TestRedis::new();
        for db in [TestDatabase::sqlite().await, TestDatabase::postgres().await] {
            let process = on_redis(&db, redis.url(), redis.prefix()).start().await;
            let receiver = WebhookReceiver::start().await;
            let shop = Shop::open(&process.client()).await;
            shop.listen(&receiver).await;
            let order = shop.order(json!({})).await;
            shop.pay(&order, json!({})).await;
            shop.mine(13).await;
            receiver.wait_until(LIMIT, |journal| told(journal, "payment.confirmed", &order).len() == 1).await;
            assert_eq!(process.terminate().await.code(), 0);
        }
    });
}

#[test]
fn a_database_that_goes_away_later_is_noticed_and_used_again_within_seconds() {
    block_on(async {
        let (db, redis, admin) = (TestDatabase::postgres().await, TestRedis::new(), TestDatabase::postgres().await);
        let installation = on_redis(&db, redis.url(), redis.prefix());
        let (api, worker) = tokio::join!(installation.start_as("api"), installation.start_as("worker"));
        let shop = Shop::open(&api.client()).await;
        let name = db.url().rsplit('/').next().unwrap();
        let execute = async |statement: String| {
            DatabaseConnection::execute_unprepared(admin.connection(), &statement).await.unwrap();
        };
        execute(format!("ALTER DATABASE \"{name}\" ALLOW_CONNECTIONS false")).await;
        execute(format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")).await;
        for process in [&api, &worker] {
            let body = eventually("not ready", async || {
                let (status, body) = readiness(process).await;
                (status == 503).then_some(body)
            })
            .await;
            assert!(text(&body["reasons"][0]).starts_with("the database"), "{body}");
            assert!(!body.to_string().contains(name), "no word of what the database said: {body}");
        }
        execute(format!("ALTER DATABASE \"{name}\" ALLOW_CONNECTIONS true")).await;
        let returned = Instant::now();
        eventually("ready again", async || {
            let (one, other) = tokio::join!(readiness(&api), readiness(&worker));
            (one.0 == 200 && other.0 == 200).then_some(())
        })
        .await;
        assert!(returned.elapsed() < BACK_WITHIN, "{:?}", returned.elapsed());
        let order = shop.order(json!({})).await;
        shop.pay(&order, json!({})).await;
        shop.mine(13).await;
        shop.until(&order, "confirmed").await;
        for process in [worker, api] {
            assert_eq!(process.terminate().await.code(), 0);
        }
    });
}
