//! What `scripts/bench` needs and no other program does:
//!
//! ```text
//! bench bare                 the least server that can answer with an order: the web framework, a pool, one query
//! bench audit                the ledger's own check of everything stored; prints what is wrong
//! bench match <how many>     matches single transfers with open orders; prints how long each took
//! ```
//!
//! Each reads `DATABASE_URL`, which is a throwaway PostgreSQL.

use std::error::Error;
use std::io::Write;
use std::time::{Duration, Instant};

use cryptopay_domain::address::{AccountAddress, Hash};
use cryptopay_domain::order::OrderStatus;
use cryptopay_domain::registry::Registry;
use cryptopay_domain::transfer::{Block, ObservedTransfer, Position};
use cryptopay_domain::units::Units;
use cryptopay_entity::{allocation, chain_cursor, clock, payment_order, transact};
use cryptopay_ledger::{Batch, Fence, Nudges, Occasion, record_batch};
use poem::listener::{Acceptor, Listener, TcpListener};
use poem::web::{Data, Json, Path};
use poem::{EndpointExt, Route, Server, get, handler};
use sea_orm::sqlx::{self, PgPool};
use sea_orm::{
    ColumnTrait, ConnectOptions, Database, DatabaseConnection, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
};
use serde_json::{Value, json};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// The chain that everything happens on.
const SLUG: &str = "base";

#[tokio::main]
async fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    #[expect(clippy::disallowed_methods, reason = "what only a bench runs has no configuration of its own")]
    let url = std::env::var("DATABASE_URL")?;
    match (arguments.next().as_deref(), arguments.next()) {
        (Some("bare"), None) => bare(&url).await,
        (Some("audit"), None) => audit(&open(&url).await?).await,
        (Some("match"), Some(count)) => match_transfers(&open(&url).await?, count.parse()?).await,
        _ => Err("bare, audit or match <how many>".into()),
    }
}

fn say(line: impl std::fmt::Display) -> Outcome<()> {
    Ok(writeln!(std::io::stdout(), "{line}")?)
}

async fn open(url: &str) -> Outcome<DatabaseConnection> {
    let mut options = ConnectOptions::new(url);
    options.sqlx_logging(false).max_connections(2);
    Ok(Database::connect(options).await?)
}

/// Serves `/<order_id>` on a free port, which it prints.
async fn bare(url: &str) -> Outcome<()> {
    let pool = sqlx::postgres::PgPoolOptions::new().max_connections(32).connect(url).await?;
    let listener = TcpListener::bind("127.0.0.1:0").into_acceptor().await?;
    for address in listener.local_addr().iter().filter_map(|address| address.as_socket_addr()) {
        say(format!("serves on {address}"))?;
    }
    let routes = Route::new().at("/:order_id", get(show)).data(pool);
    Ok(Server::new_with_acceptor(listener).run(routes).await?)
}

/// As much of an order as a tuple holds.
type Row = (i64, String, String, String, String, String, String, String, i64, i64, i64, String, bool, String, i64, i64);

#[handler]
async fn show(Data(pool): Data<&PgPool>, Path(order_id): Path<String>) -> poem::Result<Json<Value>> {
    let sql = "SELECT id, order_id, amount, currency, chain, status, receiving_address, order_info, nonce, created_at, \
               expires_at, pay_units, fulfillable, flags, required_confirmations, version FROM payment_order \
               WHERE order_id = $1";
    let row: Row = sqlx::query_as(sql).bind(order_id).fetch_one(pool).await.map_err(poem::error::NotFound)?;
    Ok(Json(json!({"success": true, "data": {
        "id": row.0, "order_id": row.1, "amount": row.2, "currency": row.3, "blockchain": row.4, "status": row.5,
        "receiving_address": row.6, "order_info": row.7, "nonce": row.8, "created_at": row.9, "expires_at": row.10,
        "pay_units": row.11, "fulfillable": row.12, "flags": row.13, "required_confirmations": row.14, "version": row.15,
    }})))
}

async fn audit(database: &DatabaseConnection) -> Outcome<()> {
    let found = cryptopay_ledger::audit::check(database).await?;
    for discrepancy in &found {
        say(discrepancy)?;
    }
    if found.is_empty() { Ok(()) } else { Err(format!("{} discrepancies", found.len()).into()) }
}

/// Matches `count` transfers, one block and one transaction each, with as many open orders spread over all there are.
async fn match_transfers(database: &DatabaseConnection, count: u64) -> Outcome<()> {
    let registry = Registry::parse(include_str!("../../chains.toml"))?;
    let chain = registry.chain(SLUG).ok_or("the chain")?;
    let now = clock::database_now(database).await?;
    let until = now.plus(Duration::from_secs(3600));
    let epoch = chain_cursor::Entity::lease(database, SLUG, "bench", now, until).await?.ok_or("somebody scans")?;
    let mut took = Vec::new();
    for (index, order) in open_orders(database, count).await?.into_iter().enumerate() {
        let cursor = chain_cursor::Entity::of(database, SLUG).await?.ok_or("the chain was never scanned")?;
        let fence = Fence { epoch, height: cursor.height, hash: cursor.hash };
        let block = Block {
            number: u64::try_from(cursor.height)?.saturating_add(1),
            hash: unlike_any_other()?,
            parent: cursor.hash,
            time: cursor.block_time.plus(Duration::from_millis(1)),
        };
        let payer: AccountAddress = format!("0x{:040x}", index.saturating_add(0xffff)).parse()?;
        let transfer = ObservedTransfer {
            tx_hash: unlike_any_other()?,
            position: Position::Log(0),
            log_index: Some(0),
            block,
            from: payer,
            to: order.receiving_address,
            asset: order.asset,
            units: order.pay_units,
            sender: payer,
            sender_nonce: 0,
            gas_used: 60_000,
            gas_price: Units::new(1_000_000_000),
            extra_fee: Units::ZERO,
            input: [].into(),
            sole: true,
        };
        let batch = Batch {
            chain,
            blocks: &[block],
            transfers: std::slice::from_ref(&transfer),
            unverifiable: &[],
            head_height: block.number,
            final_height: None,
        };
        let began = Instant::now();
        // Nobody waits for the nudges: no worker runs.
        let _nudges: Nudges = transact!(database, |txn| {
            let occasion = Occasion { registry: &registry, cause: "bench", now: clock::business_now(txn).await? };
            record_batch(txn, occasion, &fence, batch).await
        })?;
        took.push(began.elapsed().as_micros());
        let paid = payment_order::Entity::find_by_id(order.id).one(database).await?.ok_or("the order is gone")?;
        let shares = allocation::Entity::find().filter(allocation::Column::OrderId.eq(order.id)).all(database).await?;
        if paid.status != OrderStatus::Confirming || shares.len() != 1 {
            return Err(format!("order {} is {} by {} shares", order.order_id, paid.status, shares.len()).into());
        }
    }
    took.sort_unstable();
    let at = |percent: usize| took.get(took.len().saturating_mul(percent) / 100).copied().unwrap_or_default();
    say(json!({"matched": took.len(), "p50_us": at(50), "p90_us": at(90)}))
}

/// Open orders in no order of theirs.
async fn open_orders(database: &DatabaseConnection, count: u64) -> Outcome<Vec<payment_order::Model>> {
    let orders = payment_order::Entity::find()
        .filter(payment_order::Column::Status.eq(OrderStatus::Pending))
        .order_by_asc(payment_order::Column::OrderId)
        .limit(count);
    Ok(orders.all(database).await?)
}

fn unlike_any_other() -> Outcome<Hash> {
    Ok(format!("0x{:064x}", rand::random::<u128>()).parse()?)
}
