//! What the databases do for a page: the rows of the page are read by the index that is meant, whatever the size of the
//! table and however deep the page lies; nothing is sorted that is not the page.

use std::sync::{Arc, Mutex};

use cryptopay_domain::event::EventType;
use cryptopay_domain::merchant::DeliveryState;
use cryptopay_domain::order::OrderStatus;
use cryptopay_domain::time::Timestamp;
use cryptopay_domain::transfer::TransactionStatus;
use cryptopay_entity::pages::{Place, Start, Window};
use cryptopay_entity::payment_order::{self, OrderFilter};
use cryptopay_entity::transfer::{self, TransferFilter};
use cryptopay_entity::webhook_delivery::{self, DeliveryFilter};
use cryptopay_test_support::{TestDatabase, on_both_databases};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement};

use crate::rows::{self, ENDPOINT, MERCHANT};

/// Rows of each table: enough for a planner that looks at them to prefer indexes.
const ROWS: u64 = 40_000;

/// A connection that remembers its statements.
struct Watched {
    connection: DatabaseConnection,
    all: Arc<Mutex<Vec<Statement>>>,
}

impl Watched {
    fn over(db: &TestDatabase) -> Self {
        let mut connection = db.connection().clone();
        let all = Arc::new(Mutex::new(Vec::new()));
        let seen = all.clone();
        connection.set_metric_callback(move |info| seen.lock().unwrap().push(info.statement.clone()));
        Self { connection, all }
    }

    /// How the last statement is run, in the database's own words.
    async fn plan(&self) -> String {
        let statement = self.all.lock().unwrap().last().cloned().unwrap();
        self.plan_of(statement).await
    }

    async fn plan_of(&self, statement: Statement) -> String {
        let explain = match statement.db_backend {
            DbBackend::Postgres => "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) ",
            _ => "EXPLAIN QUERY PLAN ",
        };
        let asked = Statement { sql: format!("{explain}{}", statement.sql), ..statement.clone() };
        let column = if statement.db_backend == DbBackend::Postgres { 0 } else { 3 };
        let rows = self.connection.query_all_raw(asked).await.unwrap();
        let lines: Vec<String> = rows.iter().map(|row| row.try_get_by_index(column).unwrap()).collect();
        format!("{}\n{}", statement.sql, lines.join("\n"))
    }
}

/// Page 1 and one far down, in both orders.
fn windows() -> Vec<Window> {
    let middle = Place { created_at: Timestamp::from_micros(2_000), id: 4_001 };
    let mut windows = Vec::new();
    for start in [Start::End, Start::Behind(middle)] {
        for oldest_first in [false, true] {
            windows.push(Window { start, oldest_first, skip: 0, limit: 21 });
        }
    }
    windows
}

/// The most rows that any step of a plan has seen, as PostgreSQL says after it has run it.
fn most_rows(plan: &str) -> u64 {
    // Newer versions say an average over all loops, with decimals.
    let after = |line: &str, word: &str| {
        let rest = line.split(word).nth(1)?;
        rest.split(|c: char| !c.is_ascii_digit()).next()?.parse::<u64>().ok()
    };
    let rows = |line: &str| after(line, "rows=").unwrap_or(0).saturating_mul(after(line, "loops=").unwrap_or(1));
    let removed = |line: &str| after(line, "Rows Removed by Filter: ").unwrap_or(0);
    plan.lines().map(|line| rows(line).max(removed(line))).max().unwrap_or(0)
}

/// Checks a plan: it uses one of these indexes, and no step touches more than `bound` rows.
#[track_caller]
fn check(plan: &str, what: &str, indexes: &[&str], bound: u64) {
    assert!(indexes.iter().any(|index| plan.contains(index)), "{what} uses none of {indexes:?}:\n{plan}");
    if plan.contains("actual rows=") {
        assert!(most_rows(plan) <= bound, "{what} touches {} rows:\n{plan}", most_rows(plan));
        assert!(!plan.contains("Seq Scan"), "{what} reads a table:\n{plan}");
    } else {
        let scans = plan.lines().filter(|line| line.starts_with("SCAN "));
        let whole: Vec<_> = scans.filter(|line| !line.contains("kind") && !line.contains("newest")).collect();
        assert!(whole.is_empty(), "{what} reads a table: {whole:?}\n{plan}");
    }
}

async fn filled(db: &TestDatabase) {
    rows::merchants(db).await;
    // Ten rows of one moment each.
    rows::orders(db, ROWS, "i / 10").await;
    rows::transfers(db, ROWS, "i / 10").await;
    rows::deliveries(db, ROWS, "i / 10").await;
    if db.connection().get_database_backend() == DbBackend::Postgres {
        rows::run(db, &["ANALYZE".to_owned()]).await;
    }
}

on_both_databases!(a_page_of_orders_is_a_seek_by_every_filter, async |db: TestDatabase| {
    filled(&db).await;
    let watched = Watched::over(&db);
    let is_sqlite = db.connection().get_database_backend() == DbBackend::Sqlite;
    let of = |filter: OrderFilter| filter;
    let all = OrderFilter::default;
    let moment = |micros| Some(Timestamp::from_micros(micros));
    let cases: Vec<(&str, OrderFilter, &[&str])> = vec![
        ("all", all(), &["payment_order_list"]),
        (
            "a status that is rare",
            of(OrderFilter { statuses: vec![OrderStatus::Pending], ..all() }),
            &["payment_order_status"],
        ),
        (
            "a status that most have",
            of(OrderFilter { statuses: vec![OrderStatus::Confirmed], ..all() }),
            &["payment_order_status", "payment_order_list"],
        ),
        (
            "several statuses",
            of(OrderFilter {
                statuses: vec![OrderStatus::Confirmed, OrderStatus::Pending, OrderStatus::Failed],
                ..all()
            }),
            &["payment_order_status"],
        ),
        ("a chain that is rare", of(OrderFilter { chain: Some("polygon".into()), ..all() }), &["payment_order_chain"]),
        (
            "a chain that most have",
            of(OrderFilter { chain: Some("base".into()), ..all() }),
            &["payment_order_chain", "payment_order_list"],
        ),
        (
            "a currency that is rare",
            of(OrderFilter { currency: Some("eth".into()), ..all() }),
            &["payment_order_currency"],
        ),
        (
            "a currency that most have",
            of(OrderFilter { currency: Some("usdc".into()), ..all() }),
            &["payment_order_currency", "payment_order_list"],
        ),
        (
            "a span of time",
            of(OrderFilter { created_after: moment(100), created_before: moment(3_900), ..all() }),
            &["payment_order_list"],
        ),
        ("a nonce", of(OrderFilter { nonce: Some(77), ..all() }), &["payment_order_nonce"]),
        (
            "an id",
            of(OrderFilter { order_id: "ORD-aaaaaaaaa777".parse().ok(), ..all() }),
            &["order_id_key", "sqlite_autoindex_payment_order"],
        ),
    ];
    for (what, filter, indexes) in &cases {
        for window in windows() {
            payment_order::Entity::list_owned(&watched.connection, MERCHANT, filter, window).await.unwrap();
            let plan = watched.plan().await;
            // The page, and for several statuses the page of each.
            check(&plan, what, indexes, 100);
            if is_sqlite && filter.statuses.len() < 2 && filter.nonce.is_none() && filter.order_id.is_none() {
                assert!(!plan.contains("TEMP B-TREE"), "{what} is sorted:\n{plan}");
            }
        }
    }
    // A search reads the newest orders and no more, batch by batch, by the list's index.
    for (search, found) in [("\"number\":39999}", 1), ("\"NUMBER\":2", 5_000), ("\"number\":1}", 0)] {
        watched.all.lock().unwrap().clear();
        let places = payment_order::Entity::search(&watched.connection, MERCHANT, &all(), search).await.unwrap();
        assert_eq!(places.len(), found, "{search}");
        let statements = watched.all.lock().unwrap().clone();
        assert_eq!(statements.len(), 20, "{search}");
        for statement in statements {
            check(&watched.plan_of(statement).await, "a search", &["payment_order_list"], 510);
        }
    }
    // Whole ids are found among all orders, by their own indexes.
    let (old, hash) = ("ORD-aaaaaaaaaaac", format!("0x{}", "ab".repeat(32)));
    assert_eq!(payment_order::Entity::search(&watched.connection, MERCHANT, &all(), old).await.unwrap().len(), 1);
    check(&watched.plan().await, "a search by id", &["order_id_key", "sqlite_autoindex_payment_order"], 100);
    assert_eq!(payment_order::Entity::search(&watched.connection, MERCHANT, &all(), "1").await.unwrap().len(), 4_169);
    check(&watched.plan().await, "a search by nonce", &["payment_order_nonce"], 100);
    assert!(payment_order::Entity::search(&watched.connection, MERCHANT, &all(), &hash).await.unwrap().is_empty());
});

on_both_databases!(a_page_of_transfers_is_a_seek_by_every_filter, async |db: TestDatabase| {
    filled(&db).await;
    let watched = Watched::over(&db);
    let all = TransferFilter::default;
    let list: &[&str] = &["merchant_transfer_list", "merchant_transfer_chain"];
    let cases: Vec<(&str, TransferFilter, &[&str], u64)> = vec![
        ("all", all(), list, 30),
        ("a chain", TransferFilter { chain: Some("base".into()), ..all() }, list, 30),
        ("matched", TransferFilter { matched: Some(true), ..all() }, list, 30),
        // All that wait are fewer than two pages, so that PostgreSQL may take them at once.
        ("waiting", TransferFilter { matched: Some(false), ..all() }, &["merchant_transfer_waiting"], 60),
        ("confirmed", TransferFilter { statuses: vec![TransactionStatus::Confirmed], ..all() }, list, 30),
        // The few of the whole table that are not settled.
        ("failed", TransferFilter { statuses: vec![TransactionStatus::Failed], ..all() }, &["transfer_unsettled"], 100),
        (
            "pending",
            TransferFilter { statuses: vec![TransactionStatus::Pending], ..all() },
            &["transfer_unsettled"],
            100,
        ),
    ];
    for (what, filter, indexes, bound) in &cases {
        for window in windows() {
            transfer::Entity::list_visible(&watched.connection, MERCHANT, filter, &[], window).await.unwrap();
            check(&watched.plan().await, what, indexes, *bound);
        }
    }
});

on_both_databases!(a_page_of_deliveries_is_a_seek_by_every_filter, async |db: TestDatabase| {
    filled(&db).await;
    let watched = Watched::over(&db);
    let all = DeliveryFilter::default;
    let rare = vec![EventType::OrderExpired, EventType::PaymentFailed];
    let mut cases: Vec<(&str, DeliveryFilter, &[&str])> = vec![
        ("all", all(), &["webhook_delivery_list"]),
        ("dead", DeliveryFilter { states: vec![DeliveryState::Dead], ..all() }, &["webhook_delivery_dead"]),
        ("delivered", DeliveryFilter { states: vec![DeliveryState::Delivered], ..all() }, &["webhook_delivery_list"]),
        ("an event", DeliveryFilter { events: vec![EventType::OrderExpired], ..all() }, &["webhook_delivery_type"]),
        ("several events", DeliveryFilter { events: rare, ..all() }, &["webhook_delivery_type"]),
    ];
    if db.connection().get_database_backend() == DbBackend::Postgres {
        // SQLite, which does not count its rows, walks the list for the few that are pending.
        let pending = DeliveryFilter { states: vec![DeliveryState::Pending], ..all() };
        cases.push(("pending", pending, &["webhook_delivery_due", "webhook_delivery_type"]));
    }
    for (what, filter, indexes) in &cases {
        for window in windows() {
            webhook_delivery::Entity::list_owned(&watched.connection, MERCHANT, ENDPOINT, filter, window)
                .await
                .unwrap();
            check(&watched.plan().await, what, indexes, 100);
        }
    }
});
