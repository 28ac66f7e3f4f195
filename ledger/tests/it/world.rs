//! A merchant, a customer's chain and the ledger between them, with all that a gateway process does done by hand.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use cryptopay_domain::address::{AccountAddress, Asset, Hash};
use cryptopay_domain::amount::Amount;
use cryptopay_domain::ids::{EndpointId, MerchantId, OrderId, TransferId, WalletId};
use cryptopay_domain::order::{Decision, LatePolicy, OrderSnapshot};
use cryptopay_domain::registry::{Chain, Registry};
use cryptopay_domain::time::Timestamp;
use cryptopay_domain::transfer::Block;
use cryptopay_domain::units::Units;
use cryptopay_entity::idempotency_key::Answered;
use cryptopay_entity::{allocation, chain_block, chain_cursor, payment_order, transact, transfer};
use cryptopay_ledger::{
    self as ledger, Assignment, Batch, Checked, Fence, LedgerError, NewOrder, Nudges, Occasion, Refusal, SecondLook,
};
use cryptopay_test_support::TestDatabase;
use sea_orm::ActiveValue::{NotSet, Set};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, DatabaseConnection, DatabaseTransaction, DbBackend, EntityTrait, QueryFilter,
};

use crate::fake_chain::{BLOCK_TIME, FakeChain, Payment, address};
use crate::seed::seed_merchant;

/// The chain that everything happens on, unless a test says otherwise.
pub(crate) const SLUG: &str = "base";
/// Amount of the first order of [`Ask::default`], in units. The price of the order is 100.00.
pub(crate) const PAY: u128 = 99_999_200;
/// Depth that orders ask for, unless a test says otherwise.
pub(crate) const REQUIRED: u32 = 3;
/// Who scans.
const OWNER: &str = "scanner";

/// A merchant with one wallet, the implicit endpoint and one that gets every event.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Merchant {
    pub(crate) id: MerchantId,
    pub(crate) wallet: WalletId,
    pub(crate) address: AccountAddress,
    pub(crate) own_urls: EndpointId,
    pub(crate) everything: EndpointId,
}

/// Where the endpoint that gets every event lives.
pub(crate) const EVERYTHING_URL: &str = "https://shop.example/hooks";

/// What an order asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask<'a> {
    pub(crate) symbol: &'a str,
    pub(crate) amount: &'a str,
    pub(crate) expires_in: Duration,
    pub(crate) required: u32,
    pub(crate) late_policy: LatePolicy,
    pub(crate) webhook_url: Option<&'a str>,
    pub(crate) nonce: Option<i64>,
    pub(crate) seed: u64,
}

impl Default for Ask<'_> {
    fn default() -> Self {
        Self {
            symbol: "USDC",
            amount: "100.00",
            expires_in: Duration::from_secs(900),
            required: REQUIRED,
            late_policy: LatePolicy::Accept,
            webhook_url: None,
            nonce: None,
            seed: 7,
        }
    }
}

/// Ends a transaction that was not to be committed.
const CRASH: &str = "the process ended here";

/// All of it.
pub(crate) struct World {
    database: Arc<TestDatabase>,
    pub(crate) registry: Registry,
    pub(crate) chain: FakeChain,
    pub(crate) slug: &'static str,
    pub(crate) merchant: Merchant,
    pub(crate) now: Timestamp,
    /// How far the chain's finality tag lies behind its tip, where it has one.
    pub(crate) final_lag: Option<u64>,
    /// The next transaction does all its work and is then lost; it is tried again afterwards.
    pub(crate) crash_next: Cell<bool>,
    made: u64,
}

impl World {
    pub(crate) async fn new(database: impl Into<Arc<TestDatabase>>) -> Self {
        Self::on(database, SLUG).await
    }

    pub(crate) async fn on(database: impl Into<Arc<TestDatabase>>, slug: &'static str) -> Self {
        let database = database.into();
        let registry = Registry::parse(include_str!("../../../chains.toml")).unwrap();
        let chain = FakeChain::new();
        let tip = chain.tip();
        let connection = database.connection();
        let number = i64::try_from(tip.number).unwrap();
        assert!(chain_cursor::Entity::begin(connection, slug, number, tip.hash, tip.time, tip.time).await.unwrap());
        chain_block::Entity::append(connection, slug, &[tip], number).await.unwrap();
        let merchant = seed_merchant(connection, slug, 1, tip.time).await;
        Self {
            database,
            registry,
            chain,
            slug,
            merchant,
            now: tip.time,
            final_lag: None,
            crash_next: Cell::new(false),
            made: 1,
        }
    }

    pub(crate) fn db(&self) -> &DatabaseConnection {
        self.database.connection()
    }

    pub(crate) fn is_postgres(&self) -> bool {
        self.db().get_database_backend() == DbBackend::Postgres
    }

    pub(crate) fn settings(&self) -> &Chain {
        self.registry.chain(self.slug).unwrap()
    }

    pub(crate) fn asset(&self, symbol: &str) -> Asset {
        self.settings().token(symbol).unwrap().asset
    }

    pub(crate) fn occasion<'a>(&'a self, cause: &'a str) -> Occasion<'a> {
        Occasion { registry: &self.registry, cause, now: self.now }
    }

    pub(crate) async fn another_merchant(&mut self) -> Merchant {
        self.made += 1;
        seed_merchant(self.db(), self.slug, self.made, self.now).await
    }

    /// One transaction of the gateway: tried again after it was lost, if this one is to be lost.
    pub(crate) async fn transact<T>(
        &self,
        work: impl AsyncFn(&DatabaseTransaction) -> Result<T, LedgerError>,
    ) -> Result<T, LedgerError> {
        if self.crash_next.take() {
            let lost: Result<(), LedgerError> = transact!(self.db(), |txn| {
                work(txn).await?;
                Err(LedgerError::Corrupt(CRASH.to_owned()))
            });
            assert!(lost.is_err());
        }
        transact!(self.db(), |txn| { work(txn).await })
    }

    // What merchants and operators do.

    pub(crate) async fn order(&mut self, ask: Ask<'_>) -> payment_order::Model {
        self.try_order(self.merchant, ask).await.unwrap()
    }

    pub(crate) async fn try_order(
        &mut self,
        merchant: Merchant,
        ask: Ask<'_>,
    ) -> Result<payment_order::Model, LedgerError> {
        self.made += 1;
        let nonce = ask.nonce.unwrap_or(i64::try_from(self.made).unwrap());
        self.transact(async |txn| Ok(self.create(txn, merchant, ask, nonce).await?.0)).await
    }

    /// Creates an order in an open transaction, as the operation of the API does.
    pub(crate) async fn create(
        &self,
        txn: &DatabaseTransaction,
        merchant: Merchant,
        ask: Ask<'_>,
        nonce: i64,
    ) -> Result<(payment_order::Model, Nudges), LedgerError> {
        let (order, _, nudges) = self.create_for(txn, merchant, ask, nonce, None).await?;
        Ok((order, nudges))
    }

    /// Creates an order for a request with an idempotency key, if it has one; the answer is the amount to pay.
    pub(crate) async fn create_for(
        &self,
        txn: &DatabaseTransaction,
        merchant: Merchant,
        ask: Ask<'_>,
        nonce: i64,
        key: Option<&str>,
    ) -> Result<(payment_order::Model, String, Nudges), LedgerError> {
        let chain = self.settings();
        let token = chain.token(ask.symbol).unwrap();
        let amount = Amount::parse(ask.amount).unwrap();
        let price = amount.to_units(token.decimals).unwrap();
        let mut prospect = ledger::Prospect::read(txn, merchant.id, (chain, token), price, ask.seed).await?;
        prospect.known.place.now = self.now;
        let cursor = chain_cursor::Entity::of(txn, self.slug).await?.unwrap();
        let new = NewOrder {
            merchant: merchant.id,
            nonce,
            fingerprint: format!("{ask:?}"),
            chain,
            token,
            price,
            amount,
            order_info: r#"{"basket":17}"#.to_owned(),
            webhook_url: ask.webhook_url.map(str::to_owned),
            redirect_url: None,
            expires_at: self.now.plus(ask.expires_in),
            required_confirmations: ask.required,
            late_policy: ask.late_policy,
        };
        let answer = |order: &OrderSnapshot| {
            let (merchant, body) = (merchant.id, order.pay_amount.clone());
            let kept = key.map(|key| Answered { merchant, key: key.to_owned(), status: 201, body: body.clone() });
            Ok((body, kept))
        };
        ledger::create_order(txn, new, cursor.height, prospect, answer).await
    }

    pub(crate) async fn cancel(&self, order: OrderId) -> Result<(), LedgerError> {
        self.transact(async |txn| {
            ledger::cancel(txn, self.occasion("canceled by the merchant"), self.merchant.id, order).await
        })
        .await
        .map(drop)
    }

    pub(crate) async fn resolve(&self, order: OrderId, decision: Decision) -> Result<(), LedgerError> {
        self.transact(async |txn| {
            ledger::resolve(txn, self.occasion("decided by the merchant"), self.merchant.id, order, decision).await
        })
        .await
        .map(drop)
    }

    pub(crate) async fn assign(&self, order: OrderId, assignment: Assignment) -> Result<(), LedgerError> {
        self.assign_as(self.merchant.id, order, assignment).await
    }

    pub(crate) async fn assign_as(
        &self,
        merchant: MerchantId,
        order: OrderId,
        assignment: Assignment,
    ) -> Result<(), LedgerError> {
        self.transact(async |txn| {
            ledger::assign(txn, self.occasion("assigned by hand"), merchant, order, assignment.clone()).await
        })
        .await
        .map(drop)
    }

    // What customers do.

    /// A transaction with one transfer of these units to the merchant, in the order's asset.
    pub(crate) fn pay(&mut self, order: &payment_order::Model, units: Units) -> Payment {
        Payment { asset: order.asset, to: order.receiving_address, ..self.transfer(units) }
    }

    /// A transaction that pays exactly what the order asks for.
    pub(crate) fn pay_exactly(&mut self, order: &payment_order::Model) -> Payment {
        self.pay(order, order.pay_units)
    }

    /// A transaction that carries the order's reference, as the wallet button makes it.
    pub(crate) fn pay_by_button(&mut self, order: &payment_order::Model, units: Units) -> Payment {
        let call = [vec![0xa9, 0x05, 0x9c, 0xbb], vec![0; 64], order.reference.calldata()].concat();
        Payment { input: call.into(), ..self.pay(order, units) }
    }

    /// A transfer of USDC to the merchant that says nothing more.
    pub(crate) fn transfer(&mut self, units: Units) -> Payment {
        self.made += 1;
        Payment {
            tx_hash: self.chain.next_hash(),
            ordinal: 0,
            from: address(0xc0ffee),
            to: self.merchant.address,
            asset: self.settings().tokens[0].asset,
            units,
            input: [].into(),
            nonce: self.made,
        }
    }

    // What the chain does.

    pub(crate) fn mine(&mut self, payments: &[Payment]) -> Block {
        let block = self.chain.mine(payments);
        self.now = self.now.max(block.time);
        block
    }

    pub(crate) fn mine_empty(&mut self, blocks: u32) {
        for _ in 0..blocks {
            self.mine(&[]);
        }
    }

    /// A block of this time, which must lie ahead.
    pub(crate) fn mine_at(&mut self, time: Timestamp, payments: &[Payment]) -> Block {
        assert!(time > self.chain.tip().time, "blocks go forward");
        let block = self.chain.mine_at(time, payments);
        self.now = self.now.max(time);
        block
    }

    // What the jobs do.

    /// Takes or renews the lease and gives the right to move the cursor from where it is.
    pub(crate) async fn fence(&self) -> Fence {
        self.fence_of(OWNER, Timestamp::from_secs(1)).await.expect("nobody else scans")
    }

    pub(crate) async fn fence_of(&self, owner: &str, now: Timestamp) -> Option<Fence> {
        let until = now.plus(Duration::from_secs(3));
        let epoch = chain_cursor::Entity::lease(self.db(), self.slug, owner, now, until).await.unwrap()?;
        let cursor = self.cursor().await;
        Some(Fence { epoch, height: cursor.height, hash: cursor.hash })
    }

    pub(crate) async fn cursor(&self) -> chain_cursor::Model {
        chain_cursor::Entity::of(self.db(), self.slug).await.unwrap().unwrap()
    }

    /// Records all blocks above the cursor in one batch, after going back to the common ancestor where there is a fork.
    pub(crate) async fn scan(&self) {
        self.go_back().await;
        let fence = self.fence().await;
        self.transact(async |txn| self.record(txn, &fence).await).await.map(drop).unwrap();
    }

    /// Records all blocks above the fence in an open transaction.
    pub(crate) async fn record(&self, txn: &DatabaseTransaction, fence: &Fence) -> Result<Nudges, LedgerError> {
        let (blocks, transfers) = self.chain.above(fence.height);
        let batch = Batch {
            chain: self.settings(),
            blocks: &blocks,
            transfers: &transfers,
            unverifiable: &[],
            head_height: self.chain.tip().number,
            final_height: self.final_lag.and_then(|lag| self.chain.tip().number.checked_sub(lag)),
        };
        ledger::record_batch(txn, self.occasion("seen in a block"), fence, batch).await
    }

    /// Goes back to the newest block of the window that the chain still has.
    pub(crate) async fn go_back(&self) {
        let fence = self.fence().await;
        if self.chain.block(fence.height).is_some_and(|block| block.hash == fence.hash) {
            return;
        }
        let window = chain_block::Entity::window(self.db(), self.slug).await.unwrap();
        let ancestor = window
            .iter()
            .filter_map(|held| self.chain.block(held.number).filter(|block| block.hash == held.hash))
            .next()
            .expect("the fork begins inside the window");
        self.transact(async |txn| {
            let occasion = self.occasion("the chain was reorganised");
            ledger::rewind(txn, occasion, &fence, self.settings(), &ancestor, self.now).await
        })
        .await
        .map(drop)
        .unwrap();
    }

    /// The second look: what is missing and stands in no block any more is given up.
    pub(crate) async fn orphan_missing(&self) {
        self.give_up(&self.missing().await).await;
    }

    /// Gives transfers up, as the second look does with what it has not found.
    pub(crate) async fn give_up(&self, gone: &[TransferId]) {
        let occasion = self.occasion("not found a second time");
        let seen = SecondLook { gone: gone.to_vec(), ..SecondLook::default() };
        let work = async |txn: &DatabaseTransaction| ledger::settle_doubts(txn, occasion, self.settings(), &seen).await;
        self.transact(work).await.map(drop).unwrap();
    }

    pub(crate) async fn missing(&self) -> Vec<TransferId> {
        let alive: BTreeSet<Hash> = self.chain.transactions().map(|payment| payment.tx_hash).collect();
        let missing = transfer::Entity::missing(self.db(), self.slug, 1_000).await.unwrap();
        let scanned = self.cursor().await.height;
        missing
            .into_iter()
            .filter(|row| !alive.contains(&row.tx_hash) && row.block_number <= scanned)
            .map(|row| row.id)
            .collect()
    }

    /// Confirms what is deep enough and whose blocks the chain still names.
    pub(crate) async fn confirm(&self) {
        let wanted = ledger::blocks_to_check(self.db(), self.settings()).await.unwrap();
        let named = |(number, hash): &(i64, Hash)| self.chain.block(*number).is_some_and(|block| block.hash == *hash);
        let asked = ledger::transfers_to_check(self.db(), self.settings(), &wanted, |_| false).await.unwrap();
        let checked = Checked {
            blocks: asked.blocks.into_iter().filter(named).collect(),
            transfers: asked.transfers.iter().map(|row| row.id).collect(),
        };
        let occasion = self.occasion("deep enough");
        self.transact(async |txn| ledger::confirm(txn, occasion, self.settings(), &checked, "a second endpoint").await)
            .await
            .map(drop)
            .unwrap();
    }

    /// Passes deadlines until there is none left.
    pub(crate) async fn pass_deadlines(&self) {
        for _ in 0..100 {
            let occasion = self.occasion("its deadline passed");
            let passed = self.transact(async |txn| ledger::pass_deadlines(txn, occasion, self.settings()).await).await;
            let passed = passed.unwrap();
            if !passed.more {
                return;
            }
        }
        panic!("deadlines never end");
    }

    /// Everything that is due.
    pub(crate) async fn settle(&self) {
        self.scan().await;
        self.orphan_missing().await;
        self.confirm().await;
        self.pass_deadlines().await;
    }

    /// Mines these payments and scans.
    pub(crate) async fn receive(&mut self, payments: &[Payment]) -> Block {
        let block = self.mine(payments);
        self.settle().await;
        block
    }

    /// Mines as many blocks as confirm what stands in the tip, and confirms.
    pub(crate) async fn deepen(&mut self) {
        self.mine_empty(REQUIRED - 1);
        self.settle().await;
    }

    /// Moves the chain past an order's deadline and passes it.
    pub(crate) async fn close(&mut self, order: &payment_order::Model) {
        self.mine_at(order.in_time_until.plus(BLOCK_TIME), &[]);
        self.settle().await;
    }

    /// Replaces the newest `depth` blocks by `depth` empty ones and one more; gives the payments that are gone.
    pub(crate) async fn reorganise(&mut self, depth: u32) -> Vec<Payment> {
        let gone = self.chain.fork(usize::try_from(depth).unwrap());
        self.mine_empty(depth + 1);
        self.scan().await;
        gone.into_iter().flatten().collect()
    }

    /// Stores as many more transfers like this one, with allocations like its own.
    pub(crate) async fn multiply(&mut self, payment: &Payment, times: usize) {
        let row = self.transfers(payment.tx_hash).await.remove(0);
        let shares = allocation::Entity::of_transfers(self.db(), [row.id]).await.unwrap();
        let mut copies = Vec::new();
        for _ in 0..times {
            let copy = transfer::ActiveModel { id: NotSet, tx_hash: Set(self.chain.next_hash()), ..row.clone().into() };
            copies.push(copy.reset_all());
        }
        for copy in &mut copies {
            copy.id = NotSet;
        }
        transfer::Entity::insert_many(copies).exec_without_returning(self.db()).await.unwrap();
        let Some(share) = shares.first() else { return };
        let known =
            transfer::Entity::find().filter(transfer::Column::Units.eq(row.units)).all(self.db()).await.unwrap();
        let copies = known.iter().filter(|copy| copy.id != row.id).map(|copy| {
            let mut copy = allocation::ActiveModel { transfer_id: Set(copy.id), ..share.clone().into() }.reset_all();
            copy.id = NotSet;
            copy
        });
        allocation::Entity::insert_many(copies).exec_without_returning(self.db()).await.unwrap();
    }
}

/// The rule that refused.
pub(crate) fn refusal<T: std::fmt::Debug>(outcome: Result<T, LedgerError>) -> Refusal {
    match outcome {
        Err(LedgerError::Refused(refusal)) => refusal,
        other => panic!("expected a refusal, not {other:?}"),
    }
}

/// Hands a transaction's transfer in full to an order.
pub(crate) fn all_of(payment: &Payment) -> Assignment {
    Assignment { tx_hash: payment.tx_hash, position: None, units: None, evidence: r#"{"by":"operator"}"#.to_owned() }
}
