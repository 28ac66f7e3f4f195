//! How the process starts, refuses to start, and ends.

use std::net::{Ipv4Addr, TcpListener};

use cryptopay_test_support::{TestDatabase, WebhookReceiver, block_on, on_both_databases};
use sea_orm::{ConnectionTrait, Database};
use serde_json::json;

use crate::harness::{Ended, Installation, LIMIT, Shop, eventually, is_signed, told};

const SECRET: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const OTHER_SECRET: &str = "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=";
/// Variables of a live gateway that lacks nothing. The node is never asked: something else is wrong in each case.
const LIVE: [(&str, &str); 4] = [
    ("CRYPTOPAY_MODE", "live"),
    ("CRYPTOPAY_SECRET", SECRET),
    ("CRYPTOPAY_PUBLIC_URL", "https://pay.example.com"),
    ("CRYPTOPAY_RPC_BASE", "http://127.0.0.1:9"),
];

/// One line on standard error that names what is wrong and says how to mend it, and status 2.
#[track_caller]
fn assert_refused(ended: &Ended, name: &str) {
    assert_eq!(ended.code(), 2, "{name}: {ended:?}");
    assert_eq!(ended.stderr.lines().count(), 1, "{name}: {ended:?}");
    assert!(ended.stderr.starts_with(&format!("{name}: ")) && ended.stderr.contains("; "), "{name}: {ended:?}");
    assert!(!ended.stderr.contains("hunter2"), "{name}: {ended:?}");
}

#[test]
fn a_wrong_variable_is_named_in_one_line_with_status_2() {
    let long = "10.0.0.0/8,".repeat(300);
    let cases = [
        ("CRYPTOPAY_BIND", "localhost"),
        ("CRYPTOPAY_BIND", "127.0.0.1:99999"),
        ("CRYPTOPAY_BIND", "192.0.2.1:80"),
        ("CRYPTOPAY_PUBLIC_URL", "pay.example.com"),
        ("CRYPTOPAY_PUBLIC_URL", "https://shop:hunter2@pay.example.com"),
        ("CRYPTOPAY_MODE", "production"),
        ("CRYPTOPAY_DATA_DIR", "/dev/null"),
        ("DATABASE_URL", "mysql://root:hunter2@localhost/pay"),
        ("DATABASE_URL", "sqlite::memory:"),
        ("DATABASE_URL", "data/cryptopay.db"),
        ("REDIS_URL", "hunter2"),
        ("CRYPTOPAY_KEY_PREFIX", "crypto pay"),
        ("CRYPTOPAY_SECRET", "hunter2"),
        ("CRYPTOPAY_SECRET", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
        ("CRYPTOPAY_SECRET_PREVIOUS", "hunter2"),
        ("CRYPTOPAY_REGISTRATION", "yes"),
        ("CRYPTOPAY_CHAINS", "/nowhere/chains.toml"),
        ("CRYPTOPAY_RPC_BASE", "ftp://node.example/hunter2"),
        ("CRYPTOPAY_RPC_BASE", "wss://node.example/hunter2"),
        ("CRYPTOPAY_RPC_DOGE", "https://node.example/hunter2"),
        ("CRYPTOPAY_WEBHOOK_ALLOW", "10.0.0.0/99"),
        ("CRYPTOPAY_TRUSTED_PROXIES", "nginx"),
        ("CRYPTOPAY_TRUSTED_PROXIES", &long),
        ("CRYPTOPAY_CORS_ORIGINS", "shop.example"),
        ("CRYPTOPAY_LOG", "info,=debug=="),
        ("CRYPTOPAY_LOG_FORMAT", "xml"),
        ("REDIS_URL", "http://cache"),
    ];
    block_on(async {
        for (name, value) in cases {
            assert_refused(&Installation::bare().with(name, value).run(["serve"]).await, name);
        }
    });
}

#[test]
fn live_mode_refuses_what_is_missing_or_only_for_trying() {
    let cases = [
        ("CRYPTOPAY_SECRET", ""),
        ("CRYPTOPAY_PUBLIC_URL", ""),
        ("CRYPTOPAY_RPC_BASE", ""),
        ("CRYPTOPAY_WEBHOOK_ALLOW", "127.0.0.0/8"),
        ("CRYPTOPAY_SECRET_PREVIOUS", SECRET),
    ];
    block_on(async {
        for (name, value) in cases {
            let live = LIVE.iter().fold(Installation::bare(), |live, (name, value)| live.with(name, value));
            let named = if name == "CRYPTOPAY_RPC_BASE" { "CRYPTOPAY_RPC_<SLUG>" } else { name };
            assert_refused(&live.with(name, value).run(["serve"]).await, named);
        }
    });
}

#[test]
fn a_registry_file_that_cannot_be_understood_is_refused() {
    block_on(async {
        let installation = Installation::bare();
        let path = installation.folder().join("chains.toml");
        std::fs::write(&path, "[[chain]]\nslug = \"base\"\n").unwrap();
        let installation = installation.with("CRYPTOPAY_CHAINS", path.to_str().unwrap());
        assert_refused(&installation.run(["serve"]).await, "CRYPTOPAY_CHAINS");
    });
}

#[test]
fn a_port_that_is_taken_is_named() {
    block_on(async {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let ended = Installation::bare().with("CRYPTOPAY_BIND", &address).run(["serve"]).await;
        assert_refused(&ended, "CRYPTOPAY_BIND");
        assert!(ended.stderr.contains(&address), "{ended:?}");
    });
}

#[test]
fn no_command_starts_with_wrong_words() {
    block_on(async {
        for words in [["serve", "--role=boss"], ["export", "wsdl"], ["migrate", "sideways"]] {
            let ended = Installation::bare().run(words).await;
            assert_eq!((ended.code(), ended.stdout.as_str()), (2, ""), "{ended:?}");
        }
    });
}

on_both_databases!(a_schema_that_is_newer_than_the_binary_is_refused, async |db: TestDatabase| {
    let newer = "INSERT INTO seaql_migrations (version, applied_at) VALUES ('m20991231_000001_from_the_future', 1)";
    db.connection().execute_unprepared(newer).await.unwrap();
    let installation = Installation::on(&db);
    assert_refused(&installation.run(["serve"]).await, "DATABASE_URL");
    for command in ["up", "down", "status"] {
        let ended = installation.run(["migrate", command]).await;
        assert_ne!(ended.code(), 0, "{command}: {ended:?}");
        assert!(ended.stderr.contains("m20991231_000001_from_the_future"), "{command}: {ended:?}");
    }
});

on_both_databases!(live_mode_refuses_the_database_of_a_sandbox, async |db: TestDatabase| {
    let process = Installation::on(&db).start().await;
    assert_eq!(process.terminate().await.code(), 0);
    let live = LIVE.iter().fold(Installation::on(&db), |live, (name, value)| live.with(name, value));
    let ended = live.run(["serve"]).await;
    // Chains that are not served are named before.
    let last = ended.stderr.lines().last().unwrap_or_default();
    assert_eq!(ended.code(), 2, "{ended:?}");
    assert!(last.starts_with("DATABASE_URL: ") && last.ends_with("; give live mode an empty database"), "{ended:?}");
    let ended = live.run(["doctor"]).await;
    assert_eq!(ended.code(), 1, "{ended:?}");
    assert!(ended.stdout.contains("simulated chains of sandbox mode"), "{ended:?}");
});

on_both_databases!(sigterm_ends_the_process_with_0_and_the_next_one_goes_on, async |db: TestDatabase| {
    let installation = Installation::on(&db);
    let process = installation.start().await;
    let receiver = WebhookReceiver::start().await;
    let shop = Shop::open(&process.client()).await;
    let secret = shop.listen(&receiver).await;
    let order = shop.order(json!({})).await;
    shop.pay(&order, json!({})).await;
    let ended = process.terminate().await;
    assert_eq!(ended.code(), 0, "{ended:?}");

    // The token, the webhook's secret and the payment that waits are still good.
    let process = installation.start().await;
    let shop = shop.at(process.base());
    shop.mine(13).await;
    let journal = receiver.wait_until(LIMIT, |journal| !told(journal, "payment.confirmed", &order).is_empty()).await;
    assert!(journal.iter().all(|webhook| is_signed(webhook, &secret)));
    assert_eq!(process.terminate().await.code(), 0);
});

on_both_databases!(
    another_secret_lets_nobody_in_with_an_old_token_unless_it_knows_the_old_one,
    async |db: TestDatabase| {
        let first = Installation::on(&db).with("CRYPTOPAY_SECRET", SECRET);
        let process = first.start().await;
        let shop = Shop::register(&process.client()).await;
        assert_eq!(process.terminate().await.code(), 0);

        let other = first.with("CRYPTOPAY_SECRET", OTHER_SECRET);
        let process = other.start().await;
        let me = shop.client.at(process.base()).get("/api/auth/me/").await;
        me.error(401, "TOKEN_INVALID");
        assert_eq!(process.terminate().await.code(), 0);

        let rotated = other.with("CRYPTOPAY_SECRET_PREVIOUS", SECRET);
        let process = rotated.start().await;
        shop.client.at(process.base()).get("/api/auth/me/").await.data(200);
    }
);

#[test]
fn a_database_that_is_away_is_waited_for_and_used_within_5_seconds_of_its_return() {
    block_on(async {
        // Nothing is there at first; then the file's folder can be written to.
        let db = TestDatabase::postgres().await;
        let away = format!("{}_away", db.url());
        let mut process = Installation::bare().with("DATABASE_URL", &away).launch(["serve"]);
        let client = process.banner().await;
        let answer = eventually("not ready, with a reason", async || {
            let answer = client.get("/readyz").await;
            (answer.status == 503 && answer.body["reasons"][0].is_string()).then_some(answer)
        })
        .await;
        assert_eq!(answer.body["status"], "not ready", "{answer}");
        client.get("/api/blockchains/").await.error(503, "SERVICE_UNAVAILABLE");
        assert_eq!(client.get("/healthz").await.status, 200);

        let name = away.rsplit('/').next().unwrap();
        db.connection().execute_unprepared(&format!("CREATE DATABASE \"{name}\"")).await.unwrap();
        let started = tokio::time::Instant::now();
        eventually("ready", async || (client.get("/readyz").await.status == 200).then_some(())).await;
        assert!(started.elapsed().as_secs() < 10, "{:?}", started.elapsed());
        client.get("/api/blockchains/").await.data(200);
        assert_eq!(process.terminate().await.code(), 0);
        db.connection().execute_unprepared(&format!("DROP DATABASE \"{name}\" WITH (FORCE)")).await.unwrap();
    });
}

#[test]
fn migrations_go_up_down_and_up_again_from_the_command_line() {
    block_on(async {
        let installation = Installation::bare();
        for (command, says) in [
            ("up", "up to date"),
            ("status", "applied"),
            ("down", "taken back"),
            ("status", "pending"),
            ("up", "up to date"),
        ] {
            let ended = installation.run(["migrate", command]).await;
            assert_eq!(ended.code(), 0, "{command}: {ended:?}");
            assert!(ended.stdout.contains(says), "{command}: {ended:?}");
        }
        let file = installation.folder().join("cryptopay.db");
        Database::connect(format!("sqlite://{}", file.display())).await.unwrap().ping().await.unwrap();
    });
}

on_both_databases!(a_gateway_that_says_it_is_ready_takes_orders_on_every_simulated_chain, async |db: TestDatabase| {
    let process = Installation::on(&db).start().await;
    let chains = process.client().get("/api/blockchains/").await.data(200)["results"].clone();
    assert!(chains.as_array().is_some_and(|chains| chains.len() > 2), "{chains}");
    for chain in chains.as_array().unwrap() {
        assert!(chain["scanned_height"].is_u64(), "{chain}");
    }
});
