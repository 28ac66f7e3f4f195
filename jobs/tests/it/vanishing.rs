//! A database that vanishes without a word: nothing is answered, and nothing is closed.

use std::sync::Arc;
use std::time::Duration;

use cryptopay_domain::order::OrderStatus;
use cryptopay_entity::database_error::ErrorClass;
use cryptopay_entity::pool;
use cryptopay_jobs::{Deadlines, Workers};
use cryptopay_test_support::{TcpProxy, TestDatabase, block_on};
use sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DatabaseTransaction, DbBackend, Statement,
    TransactionTrait,
};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::world::{Ask, PATIENCE, World};

/// More than the jobs that may claim at once.
const ENDPOINTS: usize = 4;

/// Each of them hangs: a scan, two timers at least, and as many claims as there may be.
const CONNECTIONS: u32 = 6;

/// As the binary connects, through the proxy.
async fn connect(url: &str, proxy: &TcpProxy) -> DatabaseConnection {
    let mut url: Url = url.parse().unwrap();
    url.set_port(Some(proxy.address().port())).unwrap();
    let mut options = ConnectOptions::new(url);
    options
        .max_connections(CONNECTIONS)
        .acquire_timeout(Duration::from_secs(3))
        .sqlx_logging(false)
        .map_sqlx_postgres_pool_opts(pool::without_the_dead);
    Database::connect(options).await.unwrap()
}

/// How many statements wait for a lock.
async fn waiting(connection: &impl ConnectionTrait) -> i64 {
    let sql = "SELECT COUNT(*) AS waiting FROM pg_stat_activity \
               WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let row = connection.query_one_raw(Statement::from_string(DbBackend::Postgres, sql)).await.unwrap().unwrap();
    row.try_get("", "waiting").unwrap()
}

/// A transaction that holds these tables. The lock takes all of them at once or none: a transaction that waits for the second
/// table with the first one in hand can close a cycle with a worker.
async fn locked(database: &DatabaseConnection) -> DatabaseTransaction {
    const LOCK: &str =
        "LOCK TABLE chain_cursor, webhook_delivery, webhook_endpoint, event IN ACCESS EXCLUSIVE MODE NOWAIT";
    loop {
        let held = database.begin().await.unwrap();
        match held.execute_unprepared(LOCK).await {
            Ok(_) => return held,
            Err(error) => assert_eq!(ErrorClass::of(&error), ErrorClass::LockTimeout, "{error}"),
        }
        held.rollback().await.unwrap();
        tokio::task::yield_now().await;
    }
}

#[test]
fn a_database_that_vanished_without_a_word_keeps_nothing_from_going_on() {
    block_on(async {
        let database = TestDatabase::postgres().await;
        let url: Url = database.url().parse().unwrap();
        let upstream = url.socket_addrs(|| None).unwrap()[0];
        let proxy = TcpProxy::start(upstream).await;
        let behind = connect(database.url(), &proxy).await;

        // The world goes on by another way; only the workers lose their database.
        let world = World::unseen(database, Duration::from_secs(1)).await;
        let endpoints = [("node".to_owned(), world.node())];
        let mut context = world.through(behind).process_with("worker", endpoints, Vec::new());
        Arc::get_mut(&mut context).unwrap().deadlines =
            Deadlines { step: Duration::from_secs(2), record: Duration::from_secs(1), silence: Duration::from_secs(2) };
        let stop = CancellationToken::new();
        let workers = tokio::spawn(Workers::run(context.clone(), stop.clone()));
        world.wait_for_a_cursor().await;
        let merchant = world.merchant().await;
        for number in 0..ENDPOINTS {
            world
                .endpoint(&merchant, &world.receiver.url(&format!("/{number}")), "order.created,payment.confirmed")
                .await;
        }
        let order = world.order(&merchant, Ask::default()).await;
        world.receiver.wait_for(ENDPOINTS, PATIENCE).await;

        let (paid, nudges) = world.order_with_nudges(&merchant, Ask { amount: "3.00", ..Ask::default() }).await;
        world.pay(&paid).await;
        // It vanishes in the midst of something on every connection.
        let held = tokio::time::timeout(PATIENCE, locked(&world.db)).await.expect("the tables are never free");
        context.queue.nudge(nudges);
        let in_the_midst = async {
            while waiting(&held).await < i64::from(CONNECTIONS) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, in_the_midst).await.expect("too little is going on");
        proxy.vanish();
        held.rollback().await.unwrap();
        proxy.come_back();

        // Both events of each endpoint, found by the sweep, a scan and a confirmation.
        world.receiver.wait_for(3 * ENDPOINTS, PATIENCE).await;
        assert_eq!(world.status(&paid).await, OrderStatus::Confirmed);
        assert_eq!(world.status(&order).await, OrderStatus::Pending);
        stop.cancel();
        workers.await.unwrap();
        world.audit().await;
    });
}
