//! What creating an order costs PostgreSQL.

use cryptopay_test_support::{TestDatabase, block_on};
use sea_orm::{ConnectionTrait, DbBackend, Statement};
use serde_json::json;

use crate::harness::{Installation, Shop};

/// What an order depends on is read, and its rows are written: in one transaction, without its BEGIN and COMMIT.
const STATEMENTS: usize = 2;
/// What an idempotency key adds: it is taken. The answer is written with the order.
const FOR_A_KEY: usize = 1;

/// What the server has logged so far. It logs a statement before it executes it.
async fn server_log(db: &TestDatabase) -> String {
    let text = "SELECT pg_read_file('server.log') AS text";
    let row = db.connection().query_one_raw(Statement::from_string(DbBackend::Postgres, text)).await;
    row.expect("the throwaway server logs to server.log").unwrap().try_get("", "text").unwrap()
}

/// The statements of one connection between BEGIN and COMMIT, for each transaction that came to a COMMIT.
fn transactions(log: &str) -> Vec<Vec<String>> {
    let mut open: std::collections::BTreeMap<&str, Vec<String>> = std::collections::BTreeMap::new();
    let mut committed = Vec::new();
    for line in log.lines() {
        // `2026-01-31 23:59:59.000 UTC [4711] LOG:  execute sqlx_s_1: SELECT 1`, or `LOG:  statement: BEGIN`.
        let Some((head, rest)) = line.split_once("] LOG:  ") else { continue };
        let Some((_, process)) = head.rsplit_once('[') else { continue };
        let Some((_, sql)) =
            rest.split_once(": ").filter(|(kind, _)| *kind == "statement" || kind.starts_with("execute"))
        else {
            continue;
        };
        match sql.split_whitespace().next().unwrap_or_default() {
            "BEGIN" | "START" => drop(open.insert(process, Vec::new())),
            "COMMIT" => committed.extend(open.remove(process)),
            "ROLLBACK" => drop(open.remove(process)),
            _ => {
                if let Some(statements) = open.get_mut(process) {
                    statements.push(sql.to_owned());
                }
            }
        }
    }
    committed
}

#[test]
fn creating_an_order_takes_2_statements_and_a_third_with_an_idempotency_key() {
    block_on(async {
        let db = TestDatabase::postgres().await;
        let process = Installation::on(&db).start().await;
        let shop = Shop::open(&process.client()).await;
        shop.order(json!({})).await;
        let name = db.url().rsplit('/').next().unwrap().split('?').next().unwrap();
        let logged = format!("ALTER DATABASE {name} SET log_statement = 'all'");
        db.connection().execute_unprepared(&logged).await.unwrap();
        drop(process);

        // New connections log; the process has a pool of them.
        let process = Installation::on(&db).start().await;
        let shop = Shop::open(&process.client()).await;
        let before = server_log(&db).await.len();
        let order = shop.order(json!({})).await;
        let log = server_log(&db).await.split_off(before);
        let took = creating(&log);
        assert_eq!(took.len(), 1, "{order}\n{log}");
        eprintln!("creating an order took {} statements:\n{}", took[0].len(), took[0].join("\n"));
        assert_eq!(took[0].len(), STATEMENTS, "{:#?}", took[0]);

        let before = server_log(&db).await.len();
        let keyed = reqwest::Client::new()
            .post(format!("{}/api/payment-orders/", process.base()))
            .bearer_auth(shop.client.token())
            .header("Idempotency-Key", "one")
            .json(&shop.request());
        assert_eq!(keyed.send().await.unwrap().status(), 201);
        let log = server_log(&db).await.split_off(before);
        let took = creating(&log);
        assert_eq!(took.len(), 1, "{log}");
        eprintln!("with a key: {}", took[0].len());
        assert_eq!(took[0].len(), STATEMENTS + FOR_A_KEY, "{:#?}", took[0]);
        assert!(!log.contains("SELECT \"idempotency_key\""), "nothing is asked before the key is taken");
    });
}

/// The transactions that created an order.
fn creating(log: &str) -> Vec<Vec<String>> {
    let creates = |sql: &String| sql.contains("INSERT INTO \"payment_order\"");
    transactions(log).into_iter().filter(|statements| statements.iter().any(creates)).collect()
}
