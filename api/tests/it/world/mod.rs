//! A real node, real tokens on it, a shop that sells for them, and the gateway between.
//!
//! The node's chain stands in for Base in the registry: of another chain id, with tokens that were deployed a moment ago
//! and fewer confirmations. Its blocks come when a test mines them. Between gateway and node stands a proxy that can make
//! the node's answers wrong.

mod agreement;
mod clocks;
mod faults;
mod journey;
mod reorganisations;
mod standstill;
mod town;

use std::fs;
use std::sync::{Mutex, MutexGuard};

use cryptopay_domain::amount::Amount;
use cryptopay_test_support::{
    Address, Anvil, B256, FaultProxy, Payment, PostgresServer, RedisServer, TestDatabase, U256, WebhookReceiver,
};
use serde_json::{Value, json};

use crate::harness::{Installation, Process, Shop, WALLET, text};

/// Depth that confirms.
const CONFIRMATIONS: u64 = 3;
/// How many block hashes the gateway keeps.
const REORG_DEPTH: u32 = 64;
/// The id of the node's chain.
const CHAIN_ID: u64 = 770_071;

/// The parts around the gateway. Its processes are the test's own.
struct World {
    node: Anvil,
    proxy: FaultProxy,
    /// Six decimals, as most dollars have.
    usdc: Address,
    /// Eighteen decimals.
    dai: Address,
    db: TestDatabase,
    /// A server of its own, where a test wants to stop it.
    postgres: Option<Mutex<PostgresServer>>,
    redis: Mutex<RedisServer>,
    receiver: WebhookReceiver,
    installation: Installation,
}

impl World {
    /// A node with tokens, a database and a Redis, and the variables of the gateway's processes.
    async fn new() -> Self {
        Self::around(TestDatabase::postgres().await, None).await
    }

    /// The same in a server that the test may stop.
    async fn with_postgres() -> Self {
        let server = PostgresServer::start();
        Self::around(TestDatabase::postgres_in(&server).await, Some(Mutex::new(server))).await
    }

    async fn around(db: TestDatabase, postgres: Option<Mutex<PostgresServer>>) -> Self {
        let node = Anvil::start(CHAIN_ID).await;
        let proxy = FaultProxy::start(&node.url()).await;
        let usdc = node.token("USDC", 6).await;
        let dai = node.token("DAI", 18).await;
        // Customers with an account of their own.
        for customer in [1, 2].map(|number| node.account(number)) {
            node.send(&Payment::tokens(usdc, customer, units("100000", 6))).await;
            node.send(&Payment::tokens(dai, customer, units("100000", 18))).await;
        }
        node.mine(5).await;
        let installation = Installation::on(&db);
        let registry = installation.folder().join("chains.toml");
        fs::write(&registry, chains(usdc, dai)).unwrap();
        let redis = RedisServer::start();
        let installation = installation
            .with("CRYPTOPAY_CHAINS", &registry.display().to_string())
            .with("CRYPTOPAY_RPC_BASE", &proxy.url())
            .with("REDIS_URL", redis.url());
        let (redis, receiver) = (Mutex::new(redis), WebhookReceiver::start().await);
        Self { node, proxy, usdc, dai, db, postgres, redis, receiver, installation }
    }

    /// With a process that does everything, and a shop whose endpoint gets every event; its secret.
    async fn open() -> (Self, Process, Shop, String) {
        let world = Self::new().await;
        let process = world.installation.start().await;
        let shop = Shop::open(&process.client()).await;
        let secret = shop.listen(&world.receiver).await;
        (world, process, shop, secret)
    }

    fn redis(&self) -> MutexGuard<'_, RedisServer> {
        self.redis.lock().unwrap()
    }

    /// The server of [`with_postgres`](Self::with_postgres).
    fn postgres(&self) -> MutexGuard<'_, PostgresServer> {
        self.postgres.as_ref().unwrap().lock().unwrap()
    }

    /// What pays an order exactly.
    fn exactly(&self, order: &Value) -> Payment {
        self.of(order, text(&order["pay_amount"]))
    }

    /// A payment in an order's currency to its address.
    fn of(&self, order: &Value, amount: &str) -> Payment {
        let to = text(&order["receiving_address"]).parse().unwrap();
        match text(&order["currency"]) {
            "USDC" => Payment::tokens(self.usdc, to, units(amount, 6)),
            "DAI" => Payment::tokens(self.dai, to, units(amount, 18)),
            "ETH" => Payment::coins(to, units(amount, 18)),
            other => panic!("nobody has {other}"),
        }
    }

    /// Pays an order in the next block, which is mined.
    async fn pay(&self, order: &Value) -> B256 {
        let paid = self.node.send(&self.exactly(order)).await;
        self.node.mine(1).await;
        paid
    }
}

/// Base units of an amount.
fn units(amount: &str, decimals: u8) -> U256 {
    Amount::parse(amount).unwrap().to_units(decimals).unwrap().0
}

fn wallet() -> Address {
    WALLET.parse().unwrap()
}

/// An order for dollars of the chain's: `{"currency": "USDC", "amount": "100.00"}`.
fn costs(currency: &str, amount: &str) -> Value {
    json!({"currency": currency, "amount": amount})
}

fn chains(usdc: Address, dai: Address) -> String {
    format!(
        r#"
[[chain]]
slug = "base"
name = "Test node"
chain_id = {CHAIN_ID}
block_time_ms = 250
confirmations = {CONFIRMATIONS}
reorg_depth = {REORG_DEPTH}
native = {{ symbol = "ETH", decimals = 18 }}

  [[chain.token]]
  symbol = "USDC"
  address = "{usdc}"
  decimals = 6

  [[chain.token]]
  symbol = "DAI"
  address = "{dai}"
  decimals = 18
"#
    )
}
