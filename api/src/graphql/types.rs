//! Objects. Rows never leave as they are; descriptions are the contract's words.

use std::sync::Arc;

use async_graphql::{Context, ID, Object, SimpleObject};
use cryptopay_domain::order::{OrderSnapshot, TransferSnapshot};
use cryptopay_entity::{event, merchant};

use super::enums::{
    EventType, FailureReason, LateDecision, OrderFlag, OrderStatus, Plan, TransactionStatus, TransferState,
};
use super::failure::Failure;
use super::scalars::{Address, DateTime, Decimal, Hash, Json, Nonce, Sequence};
use super::snapshot::app;
use crate::error::ApiError;

/// A payment order at one version.
#[derive(Debug, Clone)]
pub(super) struct PaymentOrder(pub(super) Arc<OrderSnapshot>);

/// A payment order at one version.
#[Object]
impl PaymentOrder {
    /// Number of the order, as a string.
    async fn id(&self) -> ID {
        self.0.id.0.into()
    }

    /// Public id, `ORD-…`.
    async fn order_id(&self) -> &str {
        self.0.order_id.as_str()
    }

    /// Price in units of `currency`, with the scale it was sent with.
    async fn amount(&self) -> Decimal {
        Decimal(self.0.amount.clone())
    }

    /// Symbol of the token or coin.
    async fn currency(&self) -> &str {
        &self.0.currency
    }

    /// Slug of the chain.
    async fn blockchain(&self) -> &str {
        &self.0.blockchain
    }

    /// Where the order stands.
    async fn status(&self) -> OrderStatus {
        self.0.status.into()
    }

    /// Where to pay.
    async fn receiving_address(&self) -> Address {
        Address(self.0.receiving_address)
    }

    /// Absolute address of the payment page.
    async fn payment_url(&self, ctx: &Context<'_>) -> Result<String, Failure> {
        Ok(format!("{}/order/{}", app(ctx)?.public_url, self.0.order_id))
    }

    /// Relative address of the QR code.
    async fn qr_code_url(&self) -> String {
        format!("/qr/{}", self.0.order_id)
    }

    /// Your JSON, byte for byte.
    async fn order_info(&self) -> Json {
        Json(self.0.order_info.clone())
    }

    /// Your number.
    async fn nonce(&self) -> Nonce {
        Nonce(self.0.nonce)
    }

    /// When it was created.
    async fn created_at(&self) -> DateTime {
        DateTime(self.0.created_at)
    }

    /// Until when it should be paid.
    async fn expires_at(&self) -> DateTime {
        DateTime(self.0.expires_at)
    }

    /// The newest transfer that counts.
    async fn transaction(&self) -> Option<Transaction> {
        self.0.transfer.is_some().then(|| Transaction(Arc::clone(&self.0)))
    }

    /// The exact amount to send, in units of `currency`. Compare receipts with this, or just ship on `fulfillable`.
    async fn pay_amount(&self) -> Decimal {
        Decimal(self.0.pay_amount.clone())
    }

    /// Always true: `payAmount` is this order's alone. Kept for older clients.
    async fn exact_amount(&self) -> bool {
        self.0.exact_amount
    }

    /// What has come and counts, in units of `currency`.
    async fn amount_received(&self) -> Decimal {
        Decimal(self.0.amount_received.clone())
    }

    /// What completes the order, in units of `currency`.
    async fn amount_remaining(&self) -> Decimal {
        Decimal(self.0.amount_remaining.clone())
    }

    /// Whether to ship.
    async fn fulfillable(&self) -> bool {
        self.0.fulfillable
    }

    /// What is special about it.
    async fn flags(&self) -> Vec<OrderFlag> {
        self.0.flags.iter().copied().map(Into::into).collect()
    }

    /// What became of late money.
    async fn late_decision(&self) -> Option<LateDecision> {
        self.0.late_decision.map(Into::into)
    }

    /// Confirmations of the newest transfer that counts, in blocks: 1 in the newest block.
    async fn confirmations(&self) -> u64 {
        self.0.confirmations
    }

    /// Confirmations, in blocks, at which it counts as paid.
    async fn required_confirmations(&self) -> u32 {
        self.0.required_confirmations
    }

    /// This order's own webhook.
    async fn webhook_url(&self) -> Option<&str> {
        self.0.webhook_url.as_deref()
    }

    /// Where the customer goes afterwards.
    async fn redirect_url(&self) -> Option<&str> {
        self.0.redirect_url.as_deref()
    }

    /// When this version was made.
    async fn updated_at(&self) -> DateTime {
        DateTime(self.0.updated_at)
    }

    /// Raised by every change; ignore a version that you have seen.
    async fn version(&self) -> i64 {
        self.0.version
    }

    /// When it was confirmed.
    async fn confirmed_at(&self) -> Option<DateTime> {
        self.0.confirmed_at.map(DateTime)
    }

    /// Why it failed.
    async fn failure_reason(&self) -> Option<FailureReason> {
        self.0.failure_reason.map(Into::into)
    }
}

/// A transfer on a chain that pays an order.
#[derive(Debug, Clone)]
pub(super) struct Transaction(Arc<OrderSnapshot>);

impl Transaction {
    /// Made only where there is one.
    fn transfer(&self) -> Result<&TransferSnapshot, Failure> {
        Ok(self.0.transfer.as_ref().ok_or_else(|| ApiError::internal("a transaction without transfer"))?)
    }
}

/// A transfer on a chain that pays an order.
#[Object]
impl Transaction {
    /// Hash of the transaction.
    async fn transaction_hash(&self) -> Result<Hash, Failure> {
        Ok(Hash(self.transfer()?.transaction_hash))
    }

    /// Slug of the chain.
    async fn blockchain(&self) -> &str {
        &self.0.blockchain
    }

    /// Where it stands.
    async fn status(&self) -> Result<TransactionStatus, Failure> {
        Ok(self.transfer()?.status.into())
    }

    /// How much it can be relied on.
    async fn state(&self) -> Result<TransferState, Failure> {
        Ok(self.transfer()?.state.into())
    }

    /// How much was transferred, in units of `currency`.
    async fn amount(&self) -> Result<Decimal, Failure> {
        Ok(Decimal(self.transfer()?.amount.clone()))
    }

    /// Symbol of the token or coin.
    async fn currency(&self) -> Result<&str, Failure> {
        Ok(&self.transfer()?.currency)
    }

    /// Height of the block that holds it.
    async fn block_number(&self) -> Result<u64, Failure> {
        Ok(self.transfer()?.block_number)
    }

    /// Time of that block.
    async fn block_timestamp(&self) -> Result<DateTime, Failure> {
        Ok(DateTime(self.transfer()?.block_timestamp))
    }

    /// Confirmations, in blocks: 1 in the newest block.
    async fn confirmations(&self) -> Result<u64, Failure> {
        Ok(self.transfer()?.confirmations)
    }

    /// Whose balance went down.
    #[graphql(name = "fromAddress")]
    async fn payer(&self) -> Result<Address, Failure> {
        Ok(Address(self.transfer()?.from_address))
    }

    /// Whose balance went up: the wallet, not the token contract.
    async fn to_address(&self) -> Result<Address, Failure> {
        Ok(Address(self.transfer()?.to_address))
    }

    /// When it was first seen.
    async fn created_at(&self) -> Result<DateTime, Failure> {
        Ok(DateTime(self.transfer()?.created_at))
    }

    /// Public id of the order that it pays.
    async fn order_id(&self) -> &str {
        self.0.order_id.as_str()
    }
}

/// The merchant who asks.
#[derive(Debug, Clone, SimpleObject)]
pub(super) struct Merchant {
    /// Number of the account, as a string.
    id: ID,
    /// Name to log in with.
    username: String,
    /// E-mail address.
    email: String,
    /// What customers see.
    shop_name: String,
    /// Decides the request limit.
    plan: Plan,
    /// Requests that may be made in an hour: by API keys, and by logins as many again.
    requests_per_hour: i64,
    /// When the account was made.
    created_at: DateTime,
}

impl From<merchant::Model> for Merchant {
    fn from(row: merchant::Model) -> Self {
        Self {
            id: row.id.0.into(),
            username: row.username,
            email: row.email,
            shop_name: row.shop_name,
            plan: row.plan.into(),
            requests_per_hour: row.limit_override.unwrap_or_else(|| row.plan.requests_per_hour()),
            created_at: DateTime(row.created_at),
        }
    }
}

/// A change of an order, as it happened.
#[derive(Debug, Clone, SimpleObject)]
pub(super) struct OrderUpdate {
    /// Its place among all events: pass the last one you saw as `after` when you subscribe again.
    sequence: Sequence,
    /// What happened.
    event: EventType,
    /// When it happened.
    at: DateTime,
    /// The order as it was right after.
    order: PaymentOrder,
}

impl OrderUpdate {
    /// From a numbered event about an order.
    ///
    /// # Errors
    /// Only if what was stored cannot be read.
    pub(super) fn new(event: &event::Model, sequence: i64) -> Result<Self, Failure> {
        let order: OrderSnapshot = serde_json::from_str(&event.snapshot).map_err(ApiError::internal)?;
        Ok(Self {
            sequence: Sequence(sequence),
            event: event.event_type.into(),
            at: DateTime(event.created_at),
            order: PaymentOrder(Arc::new(order)),
        })
    }
}
