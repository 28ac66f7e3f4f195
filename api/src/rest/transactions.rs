//! `/api/transactions/`.

use cryptopay_domain::transfer::TransferState;
use cryptopay_entity::transfer::{self, TransferFilter};
use poem::Request;
use poem::web::Data;
use poem_openapi::param::{Path, Query};
use poem_openapi::types::Any;
use poem_openapi::{Object, OpenApi};
use serde_json::Value;

use super::Tag;
use super::envelope::{Answer, Listed, Success};
use super::pages::{ListQuery, is_number};
use super::types::TransactionSummary;
use crate::app::App;
use crate::error::{ApiError, ErrorCode};
use crate::operations::payment_orders;
use crate::operations::transactions::{self, ShareView, TransactionView, TransferView};
use crate::principal::{Principal, Reader};

/// The routes.
#[derive(Debug)]
pub struct Transactions;

/// A transaction. Its own fields are those of its first transfer to you.
#[derive(Debug, Clone, Object)]
pub struct Transaction {
    /// Hash of the transaction.
    pub transaction_hash: String,
    /// The first order that it pays; null while it fits none. `transfers` name every order that has a share.
    pub payment_order: Option<PaidOrder>,
    /// Slug of the chain.
    pub blockchain: String,
    /// Height of the block.
    pub block_number: u64,
    /// Time of the block: RFC 3339, UTC.
    pub block_timestamp: String,
    /// Confirmations: 1 in the newest block.
    pub confirmations: u64,
    /// `pending`, `confirmed` or `failed`.
    pub status: String,
    /// Who paid.
    pub from_address: String,
    /// The wallet that was credited, not the token contract.
    pub to_address: String,
    /// Gas used by the transaction.
    pub gas_used: i64,
    /// Price of a unit of gas, in wei.
    pub gas_price: String,
    /// What the transaction cost its sender, in the chain's native coin.
    pub transaction_fee: String,
    /// How much was transferred.
    pub amount: String,
    /// Symbol.
    pub currency: String,
    /// How much of it belongs to no order: what can still be allocated.
    pub unassigned_amount: String,
    /// Index of the log in its block; null for the native coin.
    pub log_index: Option<i64>,
    /// `included`, `final`, `missing`, `orphaned` or `unverifiable`.
    pub state: String,
    /// The fault of the evidence while `state` is `unverifiable`; null otherwise. Such a transfer pays no order. It is checked
    /// again until its evidence holds; until then its gas and fee are shown as 0.
    pub unverifiable_reason: Option<String>,
    /// How it found its order, or why it found none.
    #[oai(rename = "match")]
    pub matched_by: Match,
    /// Every transfer of the transaction to you.
    pub transfers: Vec<TransactionTransfer>,
    /// When it was first seen: RFC 3339, UTC.
    pub created_at: String,
}

/// The order that a transfer pays.
#[derive(Debug, Clone, Object)]
pub struct PaidOrder {
    /// Number of the order.
    pub id: i64,
    /// Public id, `ORD-…`.
    pub order_id: String,
    /// Price, as it was sent.
    pub amount: String,
    /// Symbol.
    pub currency: String,
}

/// How a transfer found its order.
#[derive(Debug, Clone, Object)]
pub struct Match {
    /// `reference`, `exact_amount` or `manual`; null while it fits no order.
    pub method: Option<String>,
    /// What was considered, and why each candidate won or lost.
    pub evidence: Any<Value>,
}

/// One transfer of a transaction.
#[derive(Debug, Clone, Object)]
pub struct TransactionTransfer {
    /// Place in the transaction: ordinal of the log in the transaction's receipt, or `native`. While the transfer cannot be
    /// verified, `index:` with the log's index in its block.
    pub position: String,
    /// Index of the log in its block; null for the native coin.
    pub log_index: Option<i64>,
    /// How much was transferred.
    pub amount: String,
    /// Symbol.
    pub currency: String,
    /// Who paid.
    pub from_address: String,
    /// The wallet that was credited.
    pub to_address: String,
    /// `pending`, `confirmed` or `failed`.
    pub status: String,
    /// `included`, `final`, `missing`, `orphaned` or `unverifiable`.
    pub state: String,
    /// The fault of the evidence while `state` is `unverifiable`; null otherwise. Such a transfer pays no order. It is checked
    /// again until its evidence holds; until then its gas and fee are shown as 0.
    pub unverifiable_reason: Option<String>,
    /// The first order that it pays; null while it fits none.
    pub payment_order: Option<PaidOrder>,
    /// Every order that has a share of it, oldest share first.
    pub shares: Vec<TransferShare>,
    /// How much of it belongs to no order: what can still be allocated.
    pub unassigned_amount: String,
    /// How it found its order, or why it found none.
    #[oai(rename = "match")]
    pub matched_by: Match,
}

/// What an order has of a transfer.
#[derive(Debug, Clone, Object)]
pub struct TransferShare {
    /// Public id of the order.
    pub order_id: String,
    /// How much of the transfer is this order's.
    pub amount: String,
    /// `reference`, `exact_amount` or `manual`.
    pub method: String,
}

#[OpenApi(prefix_path = "/api/transactions", tag = "Tag::Transactions")]
impl Transactions {
    /// List transactions
    ///
    /// Transfers to your orders, and transfers to your wallets that fit no order. Newest first. A transfer of which only a
    /// part was allocated stays among the unmatched ones; `unassigned_amount` is what is left.
    #[oai(path = "/", method = "get", operation_id = "listTransactions")]
    #[expect(clippy::too_many_arguments, reason = "each parameter is documented by its own")]
    async fn list(
        &self,
        app: Data<&App>,
        auth: Reader,
        request: &Request,
        /// Page, from 1
        page: Query<Option<String>>,
        /// Items on a page, at most 100; 20 if not said
        page_size: Query<Option<String>>,
        /// Instead of `page`: number of the item before the page. Costs the same however deep
        after: Query<Option<String>>,
        /// `created_at` or `-created_at`, which is the default
        ordering: Query<Option<String>>,
        /// Slug of a chain
        blockchain: Query<Option<String>>,
        /// `pending`, `confirmed`, `failed`; several comma-separated
        status: Query<Option<String>>,
        /// Number of an order, or its `ORD-…`
        order_id: Query<Option<String>>,
        /// `true`: all of it belongs to orders; `false`: something of it waits for one
        matched: Query<Option<String>>,
    ) -> Answer<Listed<TransactionSummary>> {
        // Documented above; read below, where every fault is collected.
        let _ = (page, page_size, after, ordering, blockchain, status, order_id, matched);
        let mut query = ListQuery::of(request);
        let asked = query.asked(is_number);
        let transfers = match filter(&app, &auth.0, &mut query).await? {
            Some(filter) => transactions::list(&app, &auth.0, &filter, &asked).await?,
            // An order that is nobody's, or somebody else's, has nothing to show.
            None => asked.page(0, None, |_| async { Ok(Vec::new()) }, |_| String::new()).await?,
        };
        Ok(Listed(query.answer(transfers.map(summary))))
    }

    /// Get a transaction
    ///
    /// With every transfer in it that came to you, and how each found its order.
    #[oai(path = "/:hash/", method = "get", operation_id = "getTransaction")]
    async fn get(
        &self,
        app: Data<&App>,
        auth: Reader,
        request: &Request,
        /// Hash of the transaction
        hash: Path<String>,
        /// Slug of the chain, where one hash exists on two chains
        blockchain: Query<Option<String>>,
    ) -> Answer<Success<Transaction>> {
        let _ = blockchain;
        let mut query = ListQuery::of(request);
        let chain = query.chain(&app);
        query.finish()?;
        let transaction = transactions::get(&app, &auth.0, &hash, chain.as_deref()).await?;
        Ok(Success(Transaction::new(&transaction), "Success".to_owned()))
    }
}

/// What is asked for; `None` if it is about an order that the merchant does not have.
async fn filter(app: &App, principal: &Principal, query: &mut ListQuery) -> Answer<Option<TransferFilter>> {
    let mut filter = TransferFilter {
        chain: query.chain(app),
        statuses: query.words("status"),
        order: None,
        matched: query.flag("matched"),
        created_after: None,
        created_before: None,
    };
    let order = query.get("order_id").map(str::to_owned);
    if order.as_deref().is_some_and(|id| !payment_orders::is_id(id)) {
        query.fault("order_id", "Must be an order's number, or its public id: ORD- and twelve characters.");
    }
    query.finish()?;
    if let Some(id) = order {
        match payment_orders::find(app, principal, &id).await {
            Ok(order) => filter.order = Some(order.id),
            Err(ApiError { code: ErrorCode::NotFound, .. }) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    Ok(Some(filter))
}

fn reason_of(transfer: &transfer::Model) -> Option<String> {
    transfer.unverifiable_reason.clone().filter(|_| transfer.state == TransferState::Unverifiable)
}

fn summary(view: &TransferView) -> TransactionSummary {
    let order_id = view.order.as_ref().map(|order| order.order_id.to_string());
    TransactionSummary {
        unassigned_amount: Some(view.unassigned.clone()),
        ..TransactionSummary::new(&view.shown, &view.transfer.chain, order_id)
    }
}

impl Transaction {
    /// From a transaction as its merchant may see it.
    pub fn new(view: &TransactionView) -> Self {
        let TransferView { transfer, shown, .. } = &view.first;
        Self {
            transaction_hash: shown.transaction_hash.to_string(),
            payment_order: PaidOrder::of(&view.first),
            blockchain: transfer.chain.clone(),
            block_number: shown.block_number,
            block_timestamp: shown.block_timestamp.to_string(),
            confirmations: shown.confirmations,
            status: shown.status.to_string(),
            from_address: shown.from_address.to_string(),
            to_address: shown.to_address.to_string(),
            gas_used: transfer.gas_used,
            gas_price: transfer.gas_price.to_string(),
            transaction_fee: view.fee.clone(),
            amount: shown.amount.clone(),
            currency: shown.currency.clone(),
            unassigned_amount: view.first.unassigned.clone(),
            log_index: transfer.log_index,
            state: shown.state.to_string(),
            unverifiable_reason: reason_of(transfer),
            matched_by: Match::of(&view.first),
            transfers: view.transfers.iter().map(TransactionTransfer::new).collect(),
            created_at: shown.created_at.to_string(),
        }
    }
}

impl TransactionTransfer {
    fn new(view: &TransferView) -> Self {
        let TransferView { transfer, shown, .. } = view;
        Self {
            position: transfer.position.to_string(),
            log_index: transfer.log_index,
            amount: shown.amount.clone(),
            currency: shown.currency.clone(),
            from_address: shown.from_address.to_string(),
            to_address: shown.to_address.to_string(),
            status: shown.status.to_string(),
            state: shown.state.to_string(),
            unverifiable_reason: reason_of(transfer),
            payment_order: PaidOrder::of(view),
            shares: view.shares.iter().map(TransferShare::new).collect(),
            unassigned_amount: view.unassigned.clone(),
            matched_by: Match::of(view),
        }
    }
}

impl TransferShare {
    fn new(share: &ShareView) -> Self {
        Self { order_id: share.order_id.to_string(), amount: share.amount.clone(), method: share.method.to_string() }
    }
}

impl PaidOrder {
    fn of(view: &TransferView) -> Option<Self> {
        view.order.as_ref().map(|order| Self {
            id: order.id.0,
            order_id: order.order_id.to_string(),
            amount: order.amount.clone(),
            currency: order.currency.clone(),
        })
    }
}

impl Match {
    fn of(view: &TransferView) -> Self {
        Self {
            method: view.method.map(|method| method.to_string()),
            evidence: Any(serde_json::from_str(&view.evidence).unwrap_or_default()),
        }
    }
}
