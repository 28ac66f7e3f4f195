//! A merchant, customers on a simulated chain, and the processes that watch it.
//!
//! Blocks of that chain are so far apart that none is due while a test runs: there are those that a test mines.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cryptopay_chain::{ChainClient, EvmClient, Heads, Limits};
use cryptopay_domain::address::AccountAddress;
use cryptopay_domain::amount::Amount;
use cryptopay_domain::event::EventFilter;
use cryptopay_domain::ids::{EndpointId, MerchantId, OrderId, WalletId};
use cryptopay_domain::merchant::{EndpointScope, Ownership, Plan, WalletKind};
use cryptopay_domain::order::{LatePolicy, OrderSnapshot, OrderStatus};
use cryptopay_domain::registry::{Chain, FinalityTag, ReceiptEncoding, Registry};
use cryptopay_domain::time::Timestamp;
use cryptopay_domain::webhook::secret_from_entropy;
use cryptopay_entity::webhook_endpoint::NewEndpoint;
use cryptopay_entity::{
    chain_block, chain_cursor, clock, merchant, merchant_wallet, payment_order, receiving_address, sandbox_block,
    timer_lease, transact, transfer, webhook_attempt, webhook_delivery, webhook_endpoint,
};
use cryptopay_jobs::webhooks::Claims;
use cryptopay_jobs::webhooks::client::{ClientPolicy, WebhookClient};
use cryptopay_jobs::{ChainAccess, Context, Deadlines, Events, Queue, Redis, SigningSecrets, Workers};
use cryptopay_ledger::{LedgerError, NewOrder, Nudges, Prospect};
use cryptopay_sandbox::{KeepTransactions, Paid, Payment, SimulatedChain, advance_clock, mine, pay, reorg};
use cryptopay_test_support::{Parts, ReceivedRequest, WebhookReceiver};
use sea_orm::ActiveValue::{NotSet, Set};
use sea_orm::sea_query::Expr;
use sea_orm::{ActiveModelTrait, ColumnTrait, DatabaseConnection, EntityTrait, QueryFilter, QueryOrder};

use crate::tampered::Tampered;

/// The chain that everything happens on.
pub(crate) const SLUG: &str = "base";
/// Depth that confirms.
pub(crate) const REQUIRED: u32 = 3;
/// How many block hashes are kept, and how deep is final.
pub(crate) const REORG_DEPTH: u32 = 16;
/// Time between blocks that are mined by the clock: longer than all retries of a webhook.
const BLOCK_TIME: Duration = Duration::from_secs(40 * 24 * 3600);
/// Still longer than a test takes.
const QUICK_BLOCK_TIME: Duration = Duration::from_secs(600);
/// Longest that something is waited for which another task does; only a failing test waits that long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

const CHAINS: &str = r#"
[[chain]]
slug = "base"
name = "Base"
chain_id = 8453
block_time_ms = 2000
confirmations = 3
reorg_depth = 16
native = { symbol = "ETH", decimals = 18 }

  [[chain.token]]
  symbol = "USDC"
  address = "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"
  decimals = 6

[[chain]]
slug = "polygon"
name = "Polygon"
chain_id = 137
block_time_ms = 2000
confirmations = 3
reorg_depth = 16
native = { symbol = "POL", decimals = 18 }
"#;

/// The chains of these tests.
pub(crate) fn registry() -> Registry {
    Registry::parse(CHAINS).unwrap()
}

/// The secrets of these tests rest in the clear.
#[derive(Debug)]
struct PlainSecrets;

impl SigningSecrets for PlainSecrets {
    fn open(&self, endpoint: &webhook_endpoint::Model, now: Timestamp) -> Result<Vec<String>, String> {
        let previous = endpoint.previous_secret.clone();
        let previous = previous.filter(|_| endpoint.previous_secret_until.is_some_and(|until| until > now));
        Ok(std::iter::once(endpoint.secret.clone()).chain(previous).collect())
    }
}

/// A merchant with a wallet of their own and the implicit endpoint.
#[derive(Debug, Clone)]
pub(crate) struct Merchant {
    pub(crate) id: MerchantId,
    pub(crate) wallet: WalletId,
    pub(crate) address: AccountAddress,
    /// Of the implicit endpoint.
    pub(crate) own_secret: String,
}

/// What an order asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask<'a> {
    pub(crate) symbol: &'a str,
    pub(crate) amount: &'a str,
    pub(crate) webhook_url: Option<&'a str>,
}

impl Default for Ask<'_> {
    fn default() -> Self {
        Self { symbol: "USDC", amount: "100.00", webhook_url: None }
    }
}

/// The chain and the database: what merchants and customers use. Cheap to clone, for what happens in the midst of a job.
#[derive(Clone)]
pub(crate) struct Town {
    pub(crate) db: DatabaseConnection,
    /// Address and prefix of the Redis that processes share, if they do.
    pub(crate) redis: Option<(String, String)>,
    pub(crate) registry: Arc<Registry>,
    /// As the jobs and the simulation know it.
    pub(crate) chain: Arc<Chain>,
    made: Arc<AtomicU64>,
}

/// A town with a gateway process, and the merchant's server.
pub(crate) struct World {
    town: Town,
    pub(crate) receiver: WebhookReceiver,
    pub(crate) client: Arc<Tampered>,
    pub(crate) context: Arc<Context>,
    /// After what uses it.
    _parts: Parts,
}

impl Deref for World {
    type Target = Town;

    fn deref(&self) -> &Town {
        &self.town
    }
}

impl World {
    /// A chain of some blocks, verified to its head, on which nothing is watched yet.
    pub(crate) async fn new(parts: impl Into<Parts>) -> Self {
        Self::with_blocks_every(BLOCK_TIME, parts).await
    }

    /// The same with another time between blocks; longer than the test takes.
    async fn with_blocks_every(block_time: Duration, parts: impl Into<Parts>) -> Self {
        let world = Self::unseen(parts, block_time).await;
        world.mine(5).await;
        world.drain().await;
        world
    }

    /// The same with a merchant whose endpoint gets these events (comma-separated).
    pub(crate) async fn with_shop(parts: impl Into<Parts>, events: &str) -> (Self, Shop) {
        Self::new(parts).await.open_shop(events).await
    }

    /// The same on a chain where what takes some blocks is over before the gateway forgives a lie.
    pub(crate) async fn with_shop_and_quick_blocks(parts: impl Into<Parts>, events: &str) -> (Self, Shop) {
        Self::with_blocks_every(QUICK_BLOCK_TIME, parts).await.open_shop(events).await
    }

    async fn open_shop(self, events: &str) -> (Self, Shop) {
        let world = self;
        let merchant = world.merchant().await;
        let endpoint = world.endpoint(&merchant, &world.receiver.url("/hook"), events).await;
        // Something is watched from here on, and the window of hashes is there.
        world.mine(1).await;
        world.drain().await;
        (world, Shop { merchant, endpoint })
    }

    /// A chain that nobody has looked at.
    pub(crate) async fn unseen(parts: impl Into<Parts>, block_time: Duration) -> Self {
        let parts: Parts = parts.into();
        let mut town = Town::new(&parts, registry());
        Arc::make_mut(&mut town.chain).block_time = block_time;
        let client = Arc::new(Tampered::over(town.node()));
        let context = town.process("first", client.clone());
        Self { town, receiver: WebhookReceiver::start().await, client, context, _parts: parts }
    }

    /// Long enough after the last time for a sole endpoint to have rested.
    pub(crate) async fn drain(&self) {
        let endpoints = &self.context.chains[SLUG].endpoints;
        if !endpoints.are_several() {
            endpoints.pass(Duration::from_secs(4));
        }
        Workers::drain(&self.context).await;
    }

    /// Waits for other endpoints as long as they are waited for, and goes on.
    pub(crate) async fn be_patient(&self) {
        self.context.chains[SLUG].pass(self.chain.block_time * 10);
        self.drain().await;
    }

    /// A further process with an endpoint of its own.
    pub(crate) fn another(&self, owner: &str) -> (Arc<Context>, Arc<Tampered>) {
        let client = Arc::new(Tampered::over(self.node()));
        (self.process(owner, client.clone()), client)
    }

    /// The process is replaced by one that reads the chain through several endpoints.
    pub(crate) async fn use_several(&mut self, count: usize) -> Vec<Arc<Tampered>> {
        let clients: Vec<_> = (0..count).map(|_| Arc::new(Tampered::over(self.node()))).collect();
        self.context = self.process_over("with several", &clients);
        self.client = clients[0].clone();
        self.expire_leases().await;
        clients
    }

    /// What has arrived so far of an event.
    pub(crate) fn told(&self, event: &str) -> Vec<ReceivedRequest> {
        let journal = self.receiver.journal();
        journal.into_iter().filter(|request| request.header("x-webhook-event") == Some(event)).collect()
    }

    /// The names of all events that have arrived, in order.
    pub(crate) fn events(&self) -> Vec<String> {
        let journal = self.receiver.journal();
        journal.iter().map(|request| request.header("x-webhook-event").unwrap().to_owned()).collect()
    }

    /// From now on the chain has a tag that counts.
    pub(crate) async fn use_finality_tag(&mut self) {
        let mut chain = (*self.town.chain).clone();
        chain.finality = Some(FinalityTag::Safe);
        self.town.chain = Arc::new(chain);
        self.restart("with finality").await;
    }

    /// From now on the chain is one of another kind.
    pub(crate) async fn use_receipts(&mut self, receipts: ReceiptEncoding) {
        let mut chain = (*self.town.chain).clone();
        chain.receipts = receipts;
        self.town.chain = Arc::new(chain);
        self.restart("of another kind").await;
    }

    /// Does as if the jobs' process had gone without a word, and its leases had run out.
    pub(crate) async fn restart(&mut self, owner: &str) {
        (self.context, self.client) = self.another(owner);
        self.expire_leases().await;
    }
}

/// A merchant who has registered an endpoint.
#[derive(Debug, Clone)]
pub(crate) struct Shop {
    pub(crate) merchant: Merchant,
    pub(crate) endpoint: webhook_endpoint::Model,
}

impl Town {
    /// On the chain of this registry.
    pub(crate) fn new(parts: &Parts, registry: Registry) -> Self {
        let chain = Arc::new(registry.chain(SLUG).unwrap().clone());
        Self {
            db: parts.database.connection().clone(),
            redis: parts.redis.as_ref().map(|redis| (redis.url().to_owned(), redis.prefix().to_owned())),
            registry: Arc::new(registry),
            chain,
            made: Arc::new(AtomicU64::new(0)),
        }
    }

    /// The same with another way to the database.
    pub(crate) fn through(&self, db: DatabaseConnection) -> Self {
        Self { db, ..self.clone() }
    }

    /// The same with a Redis that processes share.
    pub(crate) fn over_redis(&self, url: &str, prefix: &str) -> Self {
        Self { redis: Some((url.to_owned(), prefix.to_owned())), ..self.clone() }
    }

    /// The simulated chain's own node.
    pub(crate) fn node(&self) -> Arc<dyn ChainClient> {
        let simulated = SimulatedChain::new(self.db.clone(), self.chain.clone());
        Arc::new(EvmClient::over(simulated, "simulated", Limits::default()))
    }

    fn process(&self, owner: &str, client: Arc<Tampered>) -> Arc<Context> {
        self.process_over(owner, &[client])
    }

    fn process_over(&self, owner: &str, clients: &[Arc<Tampered>]) -> Arc<Context> {
        let named = |(number, client): (usize, &Arc<Tampered>)| {
            (format!("endpoint {}", number + 1), client.clone() as Arc<dyn ChainClient>)
        };
        self.process_with(owner, clients.iter().enumerate().map(named), Vec::new())
    }

    /// A process that reads the chain through these endpoints.
    pub(crate) fn process_with(
        &self,
        owner: &str,
        endpoints: impl IntoIterator<Item = (String, Arc<dyn ChainClient>)>,
        heads: Vec<Heads>,
    ) -> Arc<Context> {
        let access = ChainAccess::over((*self.chain).clone(), endpoints, heads);
        let policy = ClientPolicy { allow: vec!["127.0.0.0/8".parse().unwrap()], https_only: false };
        Arc::new(Context {
            database: self.db.clone(),
            registry: self.registry.clone(),
            chains: BTreeMap::from([(SLUG.to_owned(), access)]),
            queue: self.queue(),
            events: Events::embedded(),
            claims: Claims::default(),
            webhooks: WebhookClient::new(policy).unwrap(),
            secrets: Arc::new(PlainSecrets),
            owner: owner.to_owned(),
            deadlines: Deadlines::default(),
        })
    }

    fn queue(&self) -> Queue {
        let redis = self.redis.as_ref().map(|(url, prefix)| Redis::new(url, prefix).unwrap());
        redis.map_or_else(Queue::embedded, Queue::shared)
    }

    fn next(&self) -> u64 {
        self.made.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) async fn now(&self) -> Timestamp {
        clock::business_now(&self.db).await.unwrap()
    }

    // What merchants do.

    pub(crate) async fn merchant(&self) -> Merchant {
        let number = self.next();
        let now = self.now().await;
        let name = format!("merchant{number}");
        let merchant = merchant::ActiveModel {
            id: NotSet,
            username: Set(name.clone()),
            username_key: Set(name.clone()),
            email: Set(format!("{name}@example.com")),
            email_key: Set(format!("{name}@example.com")),
            password_hash: Set("-".to_owned()),
            shop_name: Set("Shop".to_owned()),
            plan: Set(Plan::Standard),
            limit_override: Set(None),
            payment_settings: Set("{}".to_owned()),
            created_at: Set(now),
            updated_at: Set(now),
        };
        let id = merchant.insert(&self.db).await.unwrap().id;
        let address: AccountAddress = format!("{:#042x}", 0xa11c_e000_u64 + number).parse().unwrap();
        let wallet = merchant_wallet::ActiveModel {
            id: NotSet,
            merchant_id: Set(id),
            chain: Set(SLUG.to_owned()),
            kind: Set(WalletKind::Address),
            address: Set(Some(address)),
            label: Set("till".to_owned()),
            is_active: Set(true),
            dedicated: Set(false),
            ownership: Set(Ownership::Unproven),
            created_at: Set(now),
            updated_at: Set(now),
            deleted_at: Set(None),
        };
        let wallet = wallet.insert(&self.db).await.unwrap().id;
        assert!(receiving_address::Entity::claim(&self.db, SLUG, address, 0, id, wallet, now).await.unwrap());
        let own = self.add_endpoint(id, EndpointScope::Order, None, EventFilter::default()).await;
        Merchant { id, wallet, address, own_secret: own.secret }
    }

    /// Registers an endpoint for these events (comma-separated).
    pub(crate) async fn endpoint(&self, merchant: &Merchant, url: &str, events: &str) -> webhook_endpoint::Model {
        self.add_endpoint(merchant.id, EndpointScope::Merchant, Some(url), events.parse().unwrap()).await
    }

    async fn add_endpoint(
        &self,
        merchant: MerchantId,
        scope: EndpointScope,
        url: Option<&str>,
        events: EventFilter,
    ) -> webhook_endpoint::Model {
        let number = u8::try_from(self.next() % 251).unwrap();
        let new = NewEndpoint {
            merchant,
            scope,
            url: url.map(str::to_owned),
            events,
            description: String::new(),
            is_active: true,
            secret: secret_from_entropy([number; 32]),
        };
        webhook_endpoint::Entity::add(&self.db, new, self.now().await).await.unwrap()
    }

    pub(crate) async fn order(&self, merchant: &Merchant, ask: Ask<'_>) -> payment_order::Model {
        self.order_with_nudges(merchant, ask).await.0
    }

    /// Creates an order as the operation of the API does.
    pub(crate) async fn order_with_nudges(&self, merchant: &Merchant, ask: Ask<'_>) -> (payment_order::Model, Nudges) {
        let chain = self.registry.chain(SLUG).unwrap();
        let token = chain.token(ask.symbol).unwrap();
        let amount = Amount::parse(ask.amount).unwrap();
        let number = self.next();
        let price = amount.to_units(token.decimals).unwrap();
        let created: Result<_, LedgerError> = transact!(&self.db, |txn| {
            let prospect = Prospect::read(txn, merchant.id, (chain, token), price, number).await?;
            let now = prospect.known.place.now;
            let cursor = chain_cursor::Entity::of(txn, SLUG).await?.expect("no order before the chain is seen");
            let new = NewOrder {
                merchant: merchant.id,
                nonce: i64::try_from(number).unwrap(),
                fingerprint: number.to_string(),
                chain,
                token,
                price,
                amount: amount.clone(),
                order_info: r#"{"basket":17}"#.to_owned(),
                webhook_url: ask.webhook_url.map(str::to_owned),
                redirect_url: None,
                expires_at: now.plus(Duration::from_secs(900)),
                required_confirmations: chain.confirmations,
                late_policy: LatePolicy::default_for(token),
            };
            let nothing_kept = |_: &OrderSnapshot| Ok::<_, LedgerError>(((), None));
            let (order, (), nudges) =
                cryptopay_ledger::create_order(txn, new, cursor.height, prospect, nothing_kept).await?;
            Ok((order, nudges))
        });
        created.unwrap()
    }

    /// Takes every wallet away, as far as watching goes.
    pub(crate) async fn unwatch_everything(&self) {
        receiving_address::Entity::update_many()
            .col_expr(receiving_address::Column::ReleasedAt, Expr::value(Some(self.now().await)))
            .exec(&self.db)
            .await
            .unwrap();
    }

    /// Another depth for an order, as a merchant's settings would have it.
    pub(crate) async fn require(&self, order: &payment_order::Model, confirmations: i64) {
        payment_order::Entity::update_many()
            .col_expr(payment_order::Column::RequiredConfirmations, Expr::value(confirmations))
            .filter(payment_order::Column::Id.eq(order.id))
            .exec(&self.db)
            .await
            .unwrap();
    }

    /// Gives an endpoint a new secret. The one that it had signs beside it for another day, or for no longer.
    pub(crate) async fn rotate(&self, endpoint: &webhook_endpoint::Model, secret: &str, keep_previous: bool) {
        let until =
            if keep_previous { self.now().await.plus(Duration::from_secs(86_400)) } else { Timestamp::from_secs(1) };
        let rotated = webhook_endpoint::ActiveModel {
            id: Set(endpoint.id),
            secret: Set(secret.to_owned()),
            previous_secret: Set(Some(endpoint.secret.clone())),
            previous_secret_until: Set(Some(until)),
            ..Default::default()
        };
        rotated.update(&self.db).await.unwrap();
    }

    // What customers and the chain do.

    /// Sends what is due; it waits for the next block.
    pub(crate) async fn pay(&self, order: &payment_order::Model) -> Paid {
        let order = self.row(order.id).await;
        pay(&self.db, &self.chain, &order, Payment::default()).await.unwrap()
    }

    pub(crate) async fn mine(&self, blocks: u32) {
        mine(&self.db, &self.chain, blocks).await.unwrap();
    }

    pub(crate) async fn reorganise(&self, depth: u32, keep: KeepTransactions) {
        reorg(&self.db, &self.chain, depth, keep).await.unwrap();
    }

    pub(crate) async fn advance(&self, seconds: u64) {
        advance_clock(&self.db, seconds).await.unwrap();
    }

    pub(crate) async fn height(&self) -> u64 {
        let newest = sandbox_block::Entity::newest(&self.db, SLUG).await.unwrap().unwrap();
        u64::try_from(newest.number).unwrap()
    }

    // What passes that no test waits for.

    /// Every lease has run out.
    pub(crate) async fn expire_leases(&self) {
        self.stamp_leases(Timestamp::from_secs(1)).await;
    }

    /// Every lease on a chain or timer lasts until then.
    pub(crate) async fn stamp_leases(&self, over: Timestamp) {
        chain_cursor::Entity::update_many()
            .col_expr(chain_cursor::Column::LeaseUntil, Expr::value(over))
            .exec(&self.db)
            .await
            .unwrap();
        timer_lease::Entity::update_many()
            .col_expr(timer_lease::Column::LeaseUntil, Expr::value(over))
            .exec(&self.db)
            .await
            .unwrap();
    }

    /// Every claim on a delivery has run out.
    pub(crate) async fn expire_claims(&self) {
        webhook_delivery::Entity::update_many()
            .col_expr(webhook_delivery::Column::LeaseUntil, Expr::value(Some(Timestamp::from_secs(1))))
            .filter(webhook_delivery::Column::LeaseUntil.is_not_null())
            .exec(&self.db)
            .await
            .unwrap();
    }

    /// A poll has passed since transfers went missing.
    pub(crate) async fn let_doubts_age(&self) {
        transfer::Entity::update_many()
            .col_expr(transfer::Column::MissingSince, Expr::value(Some(Timestamp::from_secs(1))))
            .filter(transfer::Column::MissingSince.is_not_null())
            .exec(&self.db)
            .await
            .unwrap();
    }

    // What can be seen.

    /// Waits for the first process to have seen the chain; the database is all that tells.
    pub(crate) async fn wait_for_a_cursor(&self) {
        let seen = async {
            while chain_cursor::Entity::of(&self.db, SLUG).await.unwrap().is_none() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, seen).await.expect("nobody has looked at the chain");
    }

    /// Waits for an order to get there; the database is all that tells.
    pub(crate) async fn wait_for(&self, order: &payment_order::Model, status: OrderStatus) {
        let reached = async {
            while self.status(order).await != status {
                tokio::task::yield_now().await;
            }
        };
        assert!(tokio::time::timeout(PATIENCE, reached).await.is_ok(), "it is never {status:?}");
    }

    pub(crate) async fn cursor(&self) -> chain_cursor::Model {
        chain_cursor::Entity::of(&self.db, SLUG).await.unwrap().unwrap()
    }

    pub(crate) async fn cursor_height(&self) -> u64 {
        u64::try_from(self.cursor().await.height).unwrap()
    }

    /// The window of block hashes, newest first.
    pub(crate) async fn window(&self) -> Vec<chain_block::Model> {
        chain_block::Entity::window(&self.db, SLUG).await.unwrap()
    }

    pub(crate) async fn row(&self, order: OrderId) -> payment_order::Model {
        payment_order::Entity::find_by_id(order).one(&self.db).await.unwrap().unwrap()
    }

    pub(crate) async fn status(&self, order: &payment_order::Model) -> OrderStatus {
        self.row(order.id).await.status
    }

    pub(crate) async fn transfers(&self) -> Vec<transfer::Model> {
        transfer::Entity::find().order_by_asc(transfer::Column::Id).all(&self.db).await.unwrap()
    }

    pub(crate) async fn deliveries(&self, endpoint: EndpointId) -> Vec<webhook_delivery::Model> {
        webhook_delivery::Entity::find()
            .filter(webhook_delivery::Column::EndpointId.eq(endpoint))
            .order_by_asc(webhook_delivery::Column::Id)
            .all(&self.db)
            .await
            .unwrap()
    }

    /// The only delivery of an endpoint.
    pub(crate) async fn delivery(&self, endpoint: EndpointId) -> webhook_delivery::Model {
        let deliveries = self.deliveries(endpoint).await;
        assert_eq!(deliveries.len(), 1, "{deliveries:?}");
        deliveries.into_iter().next().unwrap()
    }

    pub(crate) async fn attempts(&self) -> Vec<webhook_attempt::Model> {
        webhook_attempt::Entity::find().order_by_asc(webhook_attempt::Column::Id).all(&self.db).await.unwrap()
    }

    /// Asks the checker, and whether the cursor stands on a block of the chain.
    pub(crate) async fn audit(&self) {
        let found = cryptopay_ledger::audit::check(&self.db).await.unwrap();
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found, Vec::<String>::new());
        let cursor = self.cursor().await;
        let block = sandbox_block::Entity::at(&self.db, SLUG, cursor.height).await.unwrap();
        assert_eq!(block.map(|block| block.hash), Some(cursor.hash), "the cursor stands on the chain");
    }
}
