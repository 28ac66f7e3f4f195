//! A merchant and customers on a real node, with a proxy before it that counts what is asked and can spoil the answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cryptopay_chain::{ChainClient, EvmClient, Heads, Limits};
use cryptopay_domain::address::AccountAddress;
use cryptopay_domain::order::OrderStatus;
use cryptopay_domain::registry::Registry;
use cryptopay_entity::{chain_cursor, payment_order, receiving_address};
use cryptopay_jobs::{Context, Workers};
use cryptopay_test_support::{
    Address, Anvil, Fault, FaultProxy, Parts, Payment, TestDatabase, U256, on_both_databases,
};
use sea_orm::ActiveValue::NotSet;
use sea_orm::{ActiveModelTrait, ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::world::{Ask, Merchant, PATIENCE, SLUG, Town};

const CHAIN_ID: u64 = 770_072;
/// Between blocks, as the registry has it: no test waits for the expected time of the next one.
const BLOCK_TIME: Duration = Duration::from_secs(600);

/// A town on a node's chain, and a process that reads it through the proxy alone.
pub(crate) struct NodeWorld {
    pub(crate) town: Town,
    pub(crate) node: Anvil,
    pub(crate) proxy: FaultProxy,
    pub(crate) usdc: Address,
    pub(crate) context: Arc<Context>,
    /// What the process and the test have asked the database so far.
    pub(crate) statements: Arc<AtomicU64>,
    /// After what uses it.
    _parts: Parts,
}

impl NodeWorld {
    /// A chain that has been looked at, on which a merchant is paid.
    pub(crate) async fn new(db: TestDatabase) -> (Self, Merchant) {
        let parts: Parts = db.into();
        let node = Anvil::start(CHAIN_ID).await;
        let usdc = node.token("USDC", 6).await;
        node.mine(5).await;
        let proxy = FaultProxy::start(&node.url()).await;
        let mut town = Town::new(&parts, registry(Some(usdc)));
        let statements = Arc::new(AtomicU64::new(0));
        let counted = statements.clone();
        town.db.set_metric_callback(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        let context = town.process_with("first", [endpoint("proxy", &proxy.url())], Vec::new());
        let world = Self { town, node, proxy, usdc, context, statements, _parts: parts };
        world.drain().await;
        let merchant = world.town.merchant().await;
        world.mine(1).await;
        world.drain().await;
        (world, merchant)
    }

    /// Watches so many addresses of a merchant, with the first one.
    pub(crate) async fn watch(&self, merchant: &Merchant, addresses: u64) {
        let held = receiving_address::Entity::find()
            .filter(receiving_address::Column::MerchantId.eq(merchant.id))
            .one(&self.town.db)
            .await
            .unwrap()
            .unwrap();
        let rows = (1..addresses).map(|number| {
            let row = receiving_address::Model { address: watched_address(number), ..held.clone() };
            receiving_address::ActiveModel { id: NotSet, ..row.into_active_model().reset_all() }
        });
        receiving_address::Entity::insert_many(rows).exec_without_returning(&self.town.db).await.unwrap();
    }

    /// The process is replaced by one that has a second endpoint: the node itself.
    pub(crate) async fn use_two(&mut self) {
        let endpoints = [endpoint("proxy", &self.proxy.url()), endpoint("node", &self.node.url())];
        self.context = self.town.process_with("with two", endpoints, Vec::new());
        self.town.expire_leases().await;
    }

    /// The process is replaced by one whose registry has no token.
    pub(crate) async fn restart_without_tokens(&mut self) {
        let registry = registry(None);
        self.town.chain = Arc::new(registry.chain(SLUG).unwrap().clone());
        self.town.registry = Arc::new(registry);
        self.restart().await;
    }

    /// The process is replaced by one that remembers nothing of the endpoint.
    pub(crate) async fn restart(&mut self) {
        self.context = self.town.process_with("again", [endpoint("proxy", &self.proxy.url())], Vec::new());
        self.town.expire_leases().await;
    }

    /// The process is replaced by one with two endpoints, which are one provider's.
    pub(crate) async fn use_two_behind_the_proxy(&mut self) {
        let url = self.proxy.url();
        self.context = self.town.process_with("two", [endpoint("one", &url), endpoint("two", &url)], Vec::new());
        self.town.expire_leases().await;
    }

    pub(crate) async fn mine(&self, blocks: u64) {
        self.node.mine(blocks).await;
    }

    /// Long enough after the last time for the endpoint to have rested.
    pub(crate) async fn drain(&self) {
        self.context.chains[SLUG].endpoints.pass(Duration::from_secs(4));
        Workers::drain(&self.context).await;
    }

    /// Sends what is due; it waits for the next block.
    pub(crate) async fn pay(&self, order: &payment_order::Model) {
        let to = format!("{:#x}", order.receiving_address.0).parse().unwrap();
        self.node.send(&Payment::tokens(self.usdc, to, order.pay_units.0)).await;
    }

    pub(crate) async fn cursor(&self) -> chain_cursor::Model {
        self.town.cursor().await
    }
}

/// An address of [`NodeWorld::watch`].
pub(crate) fn watched_address(number: u64) -> AccountAddress {
    format!("{:#042x}", 0xb0b0_0000_u64 + number).parse().unwrap()
}

fn endpoint(name: &str, url: &str) -> (String, Arc<dyn ChainClient>) {
    (name.to_owned(), Arc::new(EvmClient::http(&url.parse().unwrap(), Limits::default()).unwrap()))
}

fn registry(usdc: Option<Address>) -> Registry {
    let token = usdc.map(|usdc| format!("[[chain.token]]\nsymbol = \"USDC\"\naddress = \"{usdc}\"\ndecimals = 6\n"));
    let chains = format!(
        r#"
[[chain]]
slug = "{SLUG}"
name = "Test node"
chain_id = {CHAIN_ID}
block_time_ms = {}
confirmations = 3
reorg_depth = 16
native = {{ symbol = "ETH", decimals = 18 }}

{}
"#,
        BLOCK_TIME.as_millis(),
        token.unwrap_or_default()
    );
    Registry::parse(&chains).unwrap()
}

on_both_databases!(heads_over_a_socket_make_a_chain_be_looked_at_at_once, async |db: TestDatabase| {
    const BLOCKS: u32 = 5;
    // Without them a chain whose blocks come so seldom is looked at every ten seconds.
    const WITHOUT: Duration = Duration::from_secs(10);
    let (mut world, _) = NodeWorld::new(db).await;
    let heads = Heads::new(&world.proxy.ws_url().parse().unwrap()).unwrap();
    world.context = world.town.process_with("with heads", [endpoint("proxy", &world.proxy.url())], vec![heads]);
    world.town.expire_leases().await;
    let stop = CancellationToken::new();
    let workers = tokio::spawn(Workers::run(world.context.clone(), stop.clone()));
    let seen = async || {
        world.mine(1).await;
        let height = i64::try_from(world.node.height().await).unwrap();
        let started = Instant::now();
        while world.cursor().await.height < height {
            assert!(started.elapsed() < PATIENCE, "block {height} is not seen");
            sleep(Duration::from_millis(10)).await;
        }
        started.elapsed()
    };
    // The socket may be connected by now.
    seen().await;
    let mut took = Duration::ZERO;
    for _ in 0..BLOCKS {
        took += seen().await;
    }
    assert!(took < WITHOUT * BLOCKS / 4, "{BLOCKS} blocks were seen after {took:?}");
    stop.cancel();
    workers.await.unwrap();
});

/// So many others are paid in the next block that its filter says "perhaps" to one address in five.
async fn fill_the_next_block(world: &NodeWorld, payer: Address) {
    for group in 0..40_u64 {
        let shares: Vec<(Address, U256)> = (0..15)
            .map(|number| {
                (Address::left_padding_from(&(0xfeed_0000 + group * 15 + number).to_be_bytes()), U256::from(1))
            })
            .collect();
        world.node.send(&Payment::batch(payer, world.usdc, &shares)).await;
    }
}

on_both_databases!(what_a_sole_endpoint_keeps_back_stops_the_cursor_and_the_mend_is_named, async |db: TestDatabase| {
    let (world, merchant) = NodeWorld::new(db).await;
    let order = world.town.order(&merchant, Ask::default()).await;
    let before = world.cursor().await.height;
    world.proxy.inject([Fault::empty_logs()]);
    world.pay(&order).await;
    world.mine(2).await;
    for _ in 0..3 {
        world.drain().await;
        let cursor = world.cursor().await;
        assert_eq!((cursor.height, cursor.health.as_str()), (before, "unreachable"));
        let problem = cursor.problem.unwrap();
        let paid = before + 1;
        for word in [&format!("logs of block {paid} are not all"), "its only one", "another provider", "CRYPTOPAY_RPC_"]
        {
            assert!(problem.contains(word), "{word}: {problem}");
        }
    }
    assert_eq!(world.town.status(&order).await, OrderStatus::Pending);
    world.proxy.heal();
    world.drain().await;
    assert_eq!(world.town.status(&order).await, OrderStatus::Confirming);
    assert_eq!((world.cursor().await.health.as_str(), world.cursor().await.problem), ("ok", None));
});

on_both_databases!(that_a_sole_endpoints_word_alone_counts_for_full_blocks_is_said, async |db: TestDatabase| {
    let (mut world, merchant) = NodeWorld::new(db).await;
    // As a shop with wallets of many merchants has it: some of a hundred will be told "perhaps".
    world.watch(&merchant, 100).await;
    let payer = world.node.batch_payer(&[world.usdc]).await;
    world.drain().await;
    assert_eq!(world.cursor().await.problem, None);
    let order = world.town.order(&merchant, Ask::default()).await;
    world.pay(&order).await;
    fill_the_next_block(&world, payer).await;
    world.mine(1).await;
    world.drain().await;
    assert_eq!(world.town.status(&order).await, OrderStatus::Confirming);
    let cursor = world.cursor().await;
    let problem = cursor.problem.unwrap();
    for word in ["the word of proxy alone", "very full", "another provider", "CRYPTOPAY_RPC_"] {
        assert!(problem.contains(word), "{word}: {problem}");
    }
    assert_eq!(cursor.health, "ok");

    // With a second one what the first keeps back is found, and nothing is left to say but that.
    world.use_two().await;
    world.proxy.inject([Fault::empty_logs()]);
    let order = world.town.order(&merchant, Ask::default()).await;
    world.pay(&order).await;
    fill_the_next_block(&world, payer).await;
    world.mine(1).await;
    world.drain().await;
    assert_eq!(world.town.status(&order).await, OrderStatus::Confirming);
    let problem = world.cursor().await.problem.unwrap_or_default();
    assert!(!problem.contains("alone"), "{problem}");
});
