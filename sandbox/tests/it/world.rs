//! A database, a chain whose blocks are so far apart that none is due while a test runs, and what a wallet or a scanner
//! would ask it.

use std::sync::Arc;
use std::time::Duration;

use alloy::consensus::proofs::calculate_transaction_root;
use alloy::primitives::{Address, B256};
use alloy::providers::{DynProvider, Provider, ProviderBuilder};
use alloy::rpc::client::RpcClient;
use alloy::rpc::types::{Block, BlockNumberOrTag};
use cryptopay_chain::{EvmClient, Limits, built_in_registry};
use cryptopay_domain::address::{AccountAddress, Asset, Hash};
use cryptopay_domain::ids::{MerchantId, OrderId, OrderRef, WalletId};
use cryptopay_domain::order::{LatePolicy, OrderStatus};
use cryptopay_domain::reference::Reference;
use cryptopay_domain::registry::Chain;
use cryptopay_domain::time::Timestamp;
use cryptopay_domain::units::Units;
use cryptopay_entity::{chain_cursor, clock, payment_order};
use cryptopay_sandbox::{Paid, PayError, Payment, Scenario, SimulatedChain, advance_clock, pay};
use cryptopay_test_support::TestDatabase;
use sea_orm::{ActiveModelTrait, ConnectionTrait, DatabaseConnection, EntityTrait};

/// Seconds between blocks.
pub(crate) const BLOCK_TIME: u64 = 600;
pub(crate) const MERCHANT: MerchantId = MerchantId(1);

pub(crate) struct World {
    db: TestDatabase,
    pub(crate) chain: Arc<Chain>,
    pub(crate) node: DynProvider,
}

impl World {
    /// The chain "base" with its first block.
    pub(crate) async fn new(db: TestDatabase) -> Self {
        let mut chain = built_in_registry().unwrap().chain("base").unwrap().clone();
        chain.block_time = Duration::from_secs(BLOCK_TIME);
        let chain = Arc::new(chain);
        let simulated = SimulatedChain::new(db.connection().clone(), Arc::clone(&chain));
        let node = ProviderBuilder::new().connect_client(RpcClient::new(simulated, true)).erased();
        let world = Self { db, chain, node };
        assert_eq!(world.height().await, 0);
        world
    }

    pub(crate) fn db(&self) -> &DatabaseConnection {
        self.db.connection()
    }

    /// The gateway's own client, which believes nothing that it can check.
    pub(crate) fn client(&self) -> EvmClient {
        let simulated = SimulatedChain::new(self.db().clone(), Arc::clone(&self.chain));
        EvmClient::over(simulated, "simulated", Limits::default())
    }

    pub(crate) async fn height(&self) -> u64 {
        self.node.get_block_number().await.unwrap()
    }

    pub(crate) async fn block(&self, number: u64) -> Block {
        self.node.get_block_by_number(BlockNumberOrTag::Number(number)).full().await.unwrap().unwrap()
    }

    /// Lets the next block become due, and looks.
    pub(crate) async fn next_block(&self) -> u64 {
        advance_clock(self.db(), BLOCK_TIME).await.unwrap();
        self.height().await
    }

    pub(crate) async fn now(&self) -> Timestamp {
        clock::business_now(self.db()).await.unwrap()
    }

    pub(crate) fn usdc(&self) -> Asset {
        self.chain.token("USDC").unwrap().asset
    }

    /// An order for a hundred USDC that expires in a day. It is not in the database.
    pub(crate) async fn order(&self) -> payment_order::Model {
        let now = self.now().await;
        let expires_at = now.plus(Duration::from_secs(24 * 3600));
        payment_order::Model {
            id: OrderId(1),
            order_id: OrderRef::from_entropy([7; 8]),
            merchant_id: MERCHANT,
            nonce: 1,
            fingerprint: String::new(),
            chain: self.chain.slug.clone(),
            currency: "USDC".into(),
            asset: self.usdc(),
            decimals: 6,
            amount: "100".into(),
            pay_units: Units::new(100_000_000),
            wallet_id: WalletId(1),
            receiving_address: AccountAddress(Address::repeat_byte(0xa1)),
            reference: Reference([0x5e; 16]),
            order_info: "{}".into(),
            webhook_url: None,
            redirect_url: None,
            created_at: now,
            expires_at,
            in_time_until: expires_at.plus(Duration::from_secs(60)),
            late_until: expires_at.plus(Duration::from_secs(48 * 3600)),
            monitor_until: expires_at.plus(Duration::from_secs(72 * 3600)),
            required_confirmations: 12,
            late_policy: LatePolicy::Accept,
            scanned_height: 0,
            status: OrderStatus::Pending,
            fulfillable: false,
            flags: String::new(),
            late_decision: None,
            received_units: Units::ZERO,
            remainder_units: None,
            remainder_rounding: Units::ZERO,
            failure_reason: None,
            decision: None,
            decision_units: None,
            decided_at: None,
            generation: 1,
            announced_generation: 0,
            canceled_at: None,
            closed_at: None,
            displaced_at: None,
            confirmed_at: None,
            version: 1,
            updated_at: now,
        }
    }

    pub(crate) async fn pay(&self, order: &payment_order::Model, payment: Payment) -> Result<Paid, PayError> {
        pay(self.db(), &self.chain, order, payment).await
    }

    /// Pays by a scenario and otherwise as usual.
    pub(crate) async fn pay_by(&self, order: &payment_order::Model, scenario: Scenario) -> Paid {
        self.pay(order, Payment { scenario, ..Payment::default() }).await.unwrap()
    }

    /// The block that holds a transaction.
    pub(crate) async fn home(&self, hash: Hash) -> Option<(u64, B256)> {
        let receipt = self.node.get_transaction_receipt(hash.0).await.unwrap()?;
        Some((receipt.block_number.unwrap(), receipt.block_hash.unwrap()))
    }

    /// Does as if a scanner had verified the chain up to its head.
    pub(crate) async fn scanner_is_here(&self) {
        let height = i64::try_from(self.height().await).unwrap();
        chain_cursor::Entity::delete_many().exec(self.db()).await.unwrap();
        let now = self.now().await;
        let begun = chain_cursor::Entity::begin(self.db(), &self.chain.slug, height, Hash(B256::ZERO), now, now);
        assert!(begun.await.unwrap());
    }

    /// An order that is in the database. The merchant has to be.
    pub(crate) async fn store_order(&self) -> payment_order::Model {
        let wallet = "INSERT INTO merchant_wallet (id, merchant_id, chain, kind, address, label, is_active, dedicated, \
                      ownership, created_at, updated_at) VALUES (1, 1, 'base', 'address', \
                      '0x00000000000000000000000000000000000000a1', '', TRUE, FALSE, 'unproven', 0, 0)";
        self.db().execute_unprepared(wallet).await.unwrap();
        let row: payment_order::ActiveModel = self.order().await.into();
        row.reset_all().insert(self.db()).await.unwrap()
    }

    /// Does as if the gateway had given every order this status and announced a confirmation of this generation.
    pub(crate) async fn set_status(&self, status: OrderStatus, announced_generation: i64) {
        let (status, announced) = (status.as_str(), announced_generation);
        let change = format!("UPDATE payment_order SET status = '{status}', announced_generation = {announced}");
        self.db().execute_unprepared(&change).await.unwrap();
    }

    /// Stores the merchant, whose inbox it is.
    pub(crate) async fn store_merchant(&self) {
        let merchant = "INSERT INTO merchant (id, username, username_key, email, email_key, password_hash, shop_name, \
                        plan, payment_settings, created_at, updated_at) \
                        VALUES (1, 'shop', 'shop', 'a@b.example', 'a@b.example', '', 'Shop', 'standard', '{}', 0, 0)";
        self.db().execute_unprepared(merchant).await.unwrap();
    }
}

/// The root that the transactions of a full block have.
pub(crate) fn transactions_root(block: &Block) -> Option<B256> {
    let envelopes: Vec<_> = block.transactions.as_transactions()?.iter().map(|shown| shown.inner.inner()).collect();
    Some(calculate_transaction_root(&envelopes))
}
