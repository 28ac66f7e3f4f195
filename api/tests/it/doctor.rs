//! `cryptopay doctor` on parts that are as they should be, and on each that is not.

use std::sync::Arc;

use cryptopay_test_support::{TestDatabase, TestRedis, block_on, free_port};
use futures_util::{SinkExt, StreamExt};
use sea_orm::ConnectionTrait;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{Ended, Installation};

const USDC: &str = "0x833589fcd6edb6e08f4c7c32d4f71b54bda02913";
/// Base's chain id.
const BASE: u64 = 8453;
const SECRET: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

type Reply = Result<Value, (i64, &'static str)>;

/// What a node answers to a method and its parameters.
type Script = Arc<dyn Fn(&str, &Value) -> Reply + Send + Sync>;

/// A node of Base with a thousand blocks, the newest made now.
fn honest(method: &str, params: &Value) -> Reply {
    Ok(match method {
        "eth_chainId" => json!(format!("{BASE:#x}")),
        "eth_getBlockByNumber" => match params[0].as_str().unwrap() {
            "safe" | "finalized" => block(900),
            "latest" => block(1_000),
            number => block(u64::from_str_radix(&number[2..], 16).unwrap()),
        },
        "eth_getLogs" | "eth_getBlockReceipts" => json!([]),
        "eth_call" => {
            let decimals = if params[0]["to"].as_str().unwrap().eq_ignore_ascii_case(USDC) { 6 } else { 8 };
            json!(format!("0x{decimals:064x}"))
        }
        _ => return Err((-32601, "the method does not exist/is not available")),
    })
}

/// With a hash that nobody can compute again.
fn block(number: u64) -> Value {
    let age_secs = (1_000 - number) * 2;
    json!({
        "number": format!("{number:#x}"), "hash": format!("0x{number:064x}"),
        "timestamp": format!("{:#x}", now_secs() - age_secs),
    })
}

#[expect(clippy::disallowed_methods, reason = "a node's newest block is as old as it says by the real clock")]
fn now_secs() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

/// A node that answers by a script; its address.
async fn node(script: impl Fn(&str, &Value) -> Reply + Send + Sync + 'static) -> String {
    serve(true, Arc::new(script)).await
}

async fn serve(takes_batches: bool, script: Script) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let script = script.clone();
            tokio::spawn(async move { answer(takes_batches, &script, &mut BufReader::new(stream)).await });
        }
    });
    format!("http://{address}/v2/hunter2hunter2")
}

/// One request, one answer, and the connection is closed.
async fn answer(takes_batches: bool, script: &Script, stream: &mut BufReader<TcpStream>) -> Option<()> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok().filter(|read| *read > 0)?;
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    let one = |call: &Value| match script(call["method"].as_str().unwrap(), &call["params"]) {
        Ok(result) => json!({"jsonrpc": "2.0", "id": call["id"], "result": result}),
        Err((code, message)) => {
            json!({"jsonrpc": "2.0", "id": call["id"], "error": {"code": code, "message": message}})
        }
    };
    let (status, text) = match serde_json::from_slice(&body).ok()? {
        Value::Array(_) if !takes_batches => ("413 Too Large", String::new()),
        Value::Array(calls) => ("200 OK", json!(calls.iter().map(one).collect::<Vec<_>>()).to_string()),
        call => ("200 OK", one(&call).to_string()),
    };
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", text.len());
    stream.get_mut().write_all(format!("{head}{text}").as_bytes()).await.ok()?;
    stream.get_mut().shutdown().await.ok()
}

/// A socket that takes subscriptions, or does not.
async fn socket(takes: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
        let question = socket.next().await.unwrap().unwrap();
        assert!(question.to_text().unwrap().contains("newHeads"));
        let answer = match takes {
            true => json!({"jsonrpc": "2.0", "id": 1, "result": "0x1"}),
            false => json!({"jsonrpc": "2.0", "id": 1, "error": {"code": -32601, "message": "no notifications"}}),
        };
        socket.send(Message::text(answer.to_string())).await.unwrap();
        // Until the other side goes.
        while socket.next().await.is_some_and(|message| message.is_ok()) {}
    });
    format!("ws://{address}/v2/hunter2hunter2")
}

/// Live, so that nothing is forgiven; with a SQLite file, which is only a warning.
fn live() -> Installation {
    Installation::bare()
        .with("CRYPTOPAY_MODE", "live")
        .with("CRYPTOPAY_SECRET", SECRET)
        .with("CRYPTOPAY_PUBLIC_URL", "https://pay.example.com")
}

async fn of_base(urls: &str) -> Ended {
    live().with("CRYPTOPAY_RPC_BASE", urls).run(["doctor"]).await
}

/// The report has this line, with these words and this mend below it, and nothing secret.
#[track_caller]
fn assert_found(ended: &Ended, line: &[&str], mend: &str) {
    let lines: Vec<&str> = ended.stdout.lines().collect();
    let at = lines.iter().position(|found| line.iter().all(|words| found.contains(words)));
    let at = at.unwrap_or_else(|| panic!("no line with {line:?}: {}", ended.stdout));
    assert!(lines.get(at + 1).is_some_and(|below| below.contains(mend)), "{line:?}, {mend}: {}", ended.stdout);
    assert!(!ended.stdout.contains("hunter2") && !ended.stderr.contains("hunter2"), "{ended:?}");
}

#[test]
fn with_nothing_set_nothing_is_wrong_and_nothing_is_made() {
    block_on(async {
        let installation = Installation::bare();
        let ended = installation.run(["doctor"]).await;
        assert_eq!(ended.code(), 0, "{ended:?}");
        assert!(ended.stdout.contains("simulated") && ended.stdout.ends_with("Nothing is wrong.\n"), "{ended:?}");
        assert_eq!(std::fs::read_dir(installation.folder()).unwrap().count(), 0, "it has made files");
    });
}

#[test]
fn two_good_nodes_and_a_socket_are_found_good() {
    block_on(async {
        let (one, other) = (node(honest).await, node(honest).await);
        // Another host by name, and so another provider.
        let urls = format!("{one},{},{}", other.replace("127.0.0.1", "localhost"), socket(true).await);
        let ended = of_base(&urls).await;
        assert_eq!(ended.code(), 0, "{ended:?}");
        for line in [
            "2 endpoints show the same block 988",
            "1001 blocks at once",
            "50 calls at once",
            "USDC, cbBTC: decimals as registered",
            "told of, subscribed in",
            "100 blocks below the newest",
        ] {
            assert!(ended.stdout.contains(line), "{line}: {}", ended.stdout);
        }
        assert!(!ended.stdout.contains("WRONG") && !ended.stdout.contains("hunter2"), "{}", ended.stdout);
    });
}

#[test]
fn each_fault_of_a_node_is_named_with_its_mend_and_ends_with_1() {
    block_on(async {
        let wrong_chain = node(|method, params| match method {
            "eth_chainId" => Ok(json!("0x1")),
            _ => honest(method, params),
        });
        assert_fault(&wrong_chain.await, &["chain id", "1, not 8453"], "CRYPTOPAY_RPC_BASE").await;

        let dead = format!("http://127.0.0.1:{}/v2/hunter2hunter2", free_port());
        assert_fault(&dead, &["reachable", "cannot be reached"], "CRYPTOPAY_RPC_BASE").await;

        let old = node(|method, params| match (method, params[0].as_str()) {
            ("eth_getBlockByNumber", Some("latest")) => Ok(block(500)),
            _ => honest(method, params),
        });
        assert_fault(&old.await, &["newest block", "block 500, 16 min old"], "caught up").await;

        let mute = node(|method, params| match method {
            "eth_getLogs" => Err((-32601, "the method eth_getLogs does not exist/is not available")),
            _ => honest(method, params),
        });
        assert_fault(&mute.await, &["eth_getLogs", "does not offer"], "another plan or provider").await;

        let strange = node(|method, params| match method {
            "eth_call" => Ok(json!(format!("0x{:064x}", 18))),
            _ => honest(method, params),
        });
        assert_fault(&strange.await, &["tokens", "USDC has 18 decimals, but 6"], "CRYPTOPAY_CHAINS").await;

        let empty = node(|method, params| match method {
            "eth_call" => Ok(json!("0x")),
            _ => honest(method, params),
        });
        assert_fault(&empty.await, &["tokens", "does not say its decimals"], "contract's address").await;

        let deaf = format!("{},{}", node(honest).await, socket(false).await);
        assert_fault(&deaf, &["new heads", "no notifications"], "CRYPTOPAY_RPC_BASE").await;

        let fork = node(|method, params| match params[0].as_str() {
            Some(number) if method == "eth_getBlockByNumber" && number.starts_with("0x") => {
                let mut other = honest(method, params)?;
                other["hash"] = json!(format!("0x{}", "ab".repeat(32)));
                Ok(other)
            }
            _ => honest(method, params),
        });
        let both = format!("{},{}", node(honest).await, fork.await);
        assert_fault(&both, &["agreement", "another block 988"], "block explorer").await;
    });
}

async fn assert_fault(urls: &str, line: &[&str], mend: &str) {
    let ended = of_base(urls).await;
    assert_eq!(ended.code(), 1, "{ended:?}");
    assert_found(&ended, &[&["WRONG"], line].concat(), mend);
    assert_eq!(ended.stderr, "", "the report says it all");
}

#[test]
fn what_is_only_weak_is_a_warning_and_ends_with_0() {
    block_on(async {
        let narrow = node(|method, params| {
            let at = |name: &str| u64::from_str_radix(&params[0][name].as_str().unwrap()[2..], 16).unwrap();
            match method {
                "eth_getLogs" if at("toBlock") - at("fromBlock") >= 50 => {
                    Err((-32602, "block range is too large, max is 50 blocks"))
                }
                "eth_getBlockReceipts" => {
                    Err((-32601, "the method eth_getBlockReceipts does not exist/is not available"))
                }
                _ => honest(method, params),
            }
        });
        let ended = of_base(&narrow.await).await;
        assert_eq!(ended.code(), 0, "{ended:?}");
        assert_found(&ended, &["warn", "eth_getLogs", "50 blocks at once"], "another plan or provider");
        assert_found(&ended, &["warn", "endpoints", "one only"], "another provider");
        assert!(ended.stdout.contains("eth_getBlockReceipts is not offered"), "{}", ended.stdout);

        let single = serve(false, Arc::new(honest)).await;
        let ended = of_base(&single).await;
        assert_eq!(ended.code(), 0, "{ended:?}");
        assert_found(&ended, &["warn", "batches", "one by one"], "many requests");
    });
}

#[test]
fn a_database_and_a_redis_that_are_away_are_named_without_their_passwords() {
    block_on(async {
        let (database, redis) = (free_port(), free_port());
        let ended = Installation::bare()
            .with("DATABASE_URL", &format!("postgres://shop:hunter2hunter2@127.0.0.1:{database}/pay"))
            .with("REDIS_URL", &format!("redis://:hunter2hunter2@127.0.0.1:{redis}/0"))
            .run(["doctor"])
            .await;
        assert_eq!(ended.code(), 1, "{ended:?}");
        assert_found(&ended, &["WRONG", "reachable", &format!("127.0.0.1:{database}")], "start PostgreSQL");
        assert_found(&ended, &["WRONG", "reachable", &format!("127.0.0.1:{redis}")], "start Redis");
    });
}

#[test]
fn a_postgres_is_told_in_full_and_a_wrong_password_or_a_newer_schema_is_found() {
    block_on(async {
        let db = TestDatabase::postgres().await;
        let installation = Installation::on(&db);
        let ended = installation.run(["doctor", "--json"]).await;
        assert_eq!(ended.code(), 0, "{ended:?}");
        let report: Value = serde_json::from_str(&ended.stdout).unwrap();
        let found = |what: &str| {
            let checks = report["checks"].as_array().unwrap().iter();
            let check = checks.filter(|check| check["subject"] == "database").find(|check| check["what"] == what);
            check.unwrap_or_else(|| panic!("no {what}: {report}")).clone()
        };
        assert!(found("reachable")["found"].as_str().unwrap().starts_with("PostgreSQL "));
        assert_eq!((&found("schema")["verdict"], &found("clocks")["verdict"]), (&json!("good"), &json!("good")));
        // The server of the tests is switched to be quick.
        assert_eq!(found("durability")["verdict"], "warning");

        let newer = "INSERT INTO seaql_migrations (version, applied_at) VALUES ('m20991231_000001_from_the_future', 1)";
        db.connection().execute_unprepared(newer).await.unwrap();
        let ended = installation.run(["doctor"]).await;
        assert_eq!(ended.code(), 1, "{ended:?}");
        assert_found(&ended, &["WRONG", "schema", "m20991231_000001_from_the_future"], "restore a backup");

        let mut url = url::Url::parse(db.url()).unwrap();
        url.set_password(Some("hunter2hunter2")).unwrap();
        let ended = Installation::bare().with("DATABASE_URL", url.as_str()).run(["doctor"]).await;
        assert_eq!(ended.code(), 1, "{ended:?}");
        assert_found(&ended, &["WRONG", "reachable", "password"], "check user and password");
    });
}

#[test]
fn a_redis_is_told_in_full_and_leaves_nothing_behind() {
    block_on(async {
        let redis = TestRedis::new();
        let with_redis =
            Installation::bare().with("REDIS_URL", redis.url()).with("CRYPTOPAY_KEY_PREFIX", redis.prefix());
        let ended = with_redis.run(["doctor", "--json"]).await;
        assert_eq!(ended.code(), 0, "{ended:?}");
        let report: Value = serde_json::from_str(&ended.stdout).unwrap();
        let checks = report["checks"].as_array().unwrap().iter().filter(|check| check["subject"] == "redis");
        let good: Vec<&str> =
            checks.filter(|check| check["verdict"] == "good").map(|check| check["what"].as_str().unwrap()).collect();
        assert_eq!(good, ["reachable", "latency", "eviction", "writes", "messages"], "{report}");
        assert_eq!(redis.keys(), Vec::<String>::new());
    });
}

#[test]
fn a_secret_that_does_not_open_what_is_stored_is_found() {
    block_on(async {
        let first = Installation::bare();
        let process = first.start().await;
        crate::harness::Shop::register(&process.client()).await;
        assert_eq!(process.terminate().await.code(), 0);
        assert_eq!(first.run(["doctor"]).await.code(), 0);
        let ended = first.with("CRYPTOPAY_SECRET", SECRET).run(["doctor"]).await;
        assert_eq!(ended.code(), 1, "{ended:?}");
        assert_found(&ended, &["WRONG", "secret", "do not open with CRYPTOPAY_SECRET"], "CRYPTOPAY_SECRET_PREVIOUS");
    });
}

#[test]
fn wrong_configuration_ends_with_2_as_with_every_command() {
    block_on(async {
        let ended = Installation::bare().with("CRYPTOPAY_RPC_BASE", "ftp://node.example/hunter2").run(["doctor"]).await;
        assert_eq!((ended.code(), ended.stdout.as_str()), (2, ""), "{ended:?}");
        assert!(ended.stderr.starts_with("CRYPTOPAY_RPC_BASE: ") && !ended.stderr.contains("hunter2"), "{ended:?}");
    });
}
