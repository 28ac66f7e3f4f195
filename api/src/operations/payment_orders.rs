//! Payment orders: create, look, cancel, decide, assign.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cryptopay_domain::address::{AccountAddress, Asset, Hash};
use cryptopay_domain::amount::Amount;
use cryptopay_domain::ids::{OrderId, OrderRef, WalletId};
use cryptopay_domain::order::{Decision, LatePolicy, OrderSnapshot};
use cryptopay_domain::registry::{Chain, Token};
use cryptopay_domain::time::Timestamp;
use cryptopay_domain::transfer::Position;
use cryptopay_entity::merchant_wallet::PayingPlace;
use cryptopay_entity::payment_order::OrderFilter;
use cryptopay_entity::{allocation, chain_cursor, clock, event, merchant_wallet, payment_order, transact, transfer};
use cryptopay_jobs::webhooks::client::{ClientPolicy, check_url};
use cryptopay_ledger::{Assignment, LedgerError, NewOrder, Nudges, Occasion, Refusal, Scanned};
use sea_orm::{ConnectionTrait, EntityTrait};
use serde_json::json;
use sha2::{Digest, Sha256};

pub use super::audit::by_principal as audit;
use super::once::{Once, Outcome};
use super::stop::Stop;
use crate::app::App;
use crate::error::ApiError;
use crate::fields::Fields;
use crate::principal::Principal;

/// How long an order is open unless the request says otherwise.
pub const DEFAULT_EXPIRY: Duration = Duration::from_secs(2 * 3600);
/// Shortest time an order may be open.
const MIN_EXPIRY: Duration = Duration::from_secs(60);
/// Longest time an order may be open.
const MAX_EXPIRY: Duration = Duration::from_secs(30 * 24 * 3600);
/// Largest `order_info`, in bytes.
pub const MAX_ORDER_INFO_BYTES: usize = 8 * 1024;
/// Longest `redirect_url`, in characters.
pub const MAX_URL_CHARS: usize = 2_048;

/// An order as it is answered with: its snapshot now.
pub type OrderView = OrderSnapshot;

/// Creates an order.
///
/// # Errors
/// Every faulty field at once; `SERVICE_UNAVAILABLE` while the chain has no verified height, or the token's contract
/// contradicts the registry.
pub async fn create(
    app: &App,
    principal: &Principal,
    fields: Fields,
    once: Once<OrderView>,
) -> Result<Outcome<OrderView>, ApiError> {
    if let Some(given) = once.given(app).await? {
        return Ok(given);
    }
    let merchant = principal.merchant_id();
    let mut fields = fields;
    let request = CreateRequest::parse(app, &mut fields);
    let Some(request) = request else {
        // What needs the database to be judged is judged too, so that every fault is named at once.
        let place = match fields.text("blockchain").and_then(|slug| app.chain(slug)) {
            Some(chain) => merchant_wallet::Entity::paying_place(app.database(), merchant, &chain.slug, None).await?,
            None => PayingPlace {
                now: clock::business_now(app.database()).await?,
                wallet_id: None,
                address: None,
                height: None,
                block_time: None,
                contract_decimals: None,
            },
        };
        judge_expiry(&mut fields, place.now);
        if !fields.is_faulty("blockchain") && fields.value("blockchain").is_some() {
            judge_wallet(&mut fields, &place);
        }
        return Err(fields.faulty());
    };
    let created = transact!(app.database(), |txn| {
        if let Some(given) = once.begin(app, txn).await? {
            return Ok((given, Nudges::default()));
        }
        let contract = match request.token.asset {
            Asset::Token(contract) => Some(contract),
            Asset::Native => None,
        };
        let place = merchant_wallet::Entity::paying_place(txn, merchant, &request.chain.slug, contract).await?;
        let mut judged = fields.clone();
        let expires_at = judge_expiry(&mut judged, place.now);
        let paid_to = judge_wallet(&mut judged, &place);
        let (Some(expires_at), Some((wallet, address))) = (expires_at, paid_to) else {
            return Err(CreateError::Faulty(judged.faulty()));
        };
        let (Some(height), Some(block_time)) = (place.height, place.block_time) else {
            return Err(LedgerError::from(Refusal::ChainNotReady).into());
        };
        if let Some(said) = place.contract_decimals.filter(|said| *said != i64::from(request.token.decimals)) {
            return Err(LedgerError::from(Refusal::token_disabled(request.chain, request.token, said)).into());
        }
        let new = request.order(merchant, wallet, address, expires_at);
        let scanned = Scanned { height, block_time };
        let (order, nudges) = cryptopay_ledger::create_order(txn, new, scanned, place.now).await?;
        let view = cryptopay_ledger::snapshot(&order, None, height);
        Ok((once.keep(app, txn, view).await?, nudges))
    });
    match created {
        Ok((outcome, nudges)) => {
            app.context.queue.nudge(nudges);
            if let Outcome::First(order, _) = &outcome {
                crate::metrics::order_created(&order.blockchain);
            }
            Ok(outcome)
        }
        Err(CreateError::Ledger(LedgerError::Refused(Refusal::NonceUsed { .. }))) => {
            Err(cryptopay_ledger::nonce_owner(app.database(), merchant, request.nonce).await?.into())
        }
        Err(error) => Err(error.into_answer()),
    }
}

/// Why an order was not created, or nothing assigned to it.
#[derive(Debug)]
enum CreateError {
    Ledger(LedgerError),
    Faulty(ApiError),
}

impl CreateError {
    fn into_answer(self) -> ApiError {
        match self {
            Self::Ledger(error) => error.into(),
            Self::Faulty(error) => error,
        }
    }
}

impl From<Stop> for CreateError {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Database(error) => error.into(),
            Stop::Answer(error) => Self::Faulty(*error),
        }
    }
}

impl From<LedgerError> for CreateError {
    fn from(error: LedgerError) -> Self {
        Self::Ledger(error)
    }
}

impl From<sea_orm::DbErr> for CreateError {
    fn from(error: sea_orm::DbErr) -> Self {
        Self::Ledger(error.into())
    }
}

impl cryptopay_entity::txn::Restart for CreateError {
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Ledger(error) if error.is_conflict())
    }
}

/// A request whose fields are fine by themselves.
struct CreateRequest<'a> {
    chain: &'a Chain,
    token: &'a Token,
    amount: Amount,
    price: cryptopay_domain::units::Units,
    order_info: String,
    nonce: i64,
    webhook_url: Option<String>,
    redirect_url: Option<String>,
    fingerprint: String,
    seed: u64,
}

impl<'a> CreateRequest<'a> {
    /// Parses and judges what needs no database. `None` after a fault.
    fn parse(app: &'a App, fields: &mut Fields) -> Option<Self> {
        let chain = parse_chain(app, fields);
        let token = parse_token(app, chain, fields);
        let amount = parse_amount(fields, token);
        let order_info = parse_order_info(fields);
        let nonce = fields.integer("nonce");
        let webhook_url = parse_webhook_url(app, fields);
        let redirect_url = parse_redirect_url(fields);
        // Whether it lies in the right span depends on the time; whether it is a time at all does not.
        let _: Option<Timestamp> = fields.parsed("expires_at");
        fields.finish().ok()?;
        let (amount, price) = amount?;
        let mut request = Self {
            chain: chain?,
            token: token?,
            amount,
            price,
            order_info: order_info?,
            nonce: nonce?,
            webhook_url,
            redirect_url,
            fingerprint: String::new(),
            seed: rand::random(),
        };
        request.fingerprint = request.fingerprint(fields.text("expires_at"));
        Some(request)
    }

    fn fingerprint(&self, expires_at: Option<&str>) -> String {
        let parsed = json!([
            self.chain.slug,
            self.token.symbol,
            self.amount.as_str(),
            self.order_info,
            self.nonce,
            self.webhook_url,
            self.redirect_url,
            expires_at,
        ]);
        data_encoding::HEXLOWER.encode(&Sha256::digest(parsed.to_string()))
    }

    fn order(
        &self,
        merchant: cryptopay_domain::ids::MerchantId,
        wallet: WalletId,
        address: AccountAddress,
        expires_at: Timestamp,
    ) -> NewOrder<'a> {
        NewOrder {
            merchant,
            nonce: self.nonce,
            fingerprint: self.fingerprint.clone(),
            chain: self.chain,
            token: self.token,
            amount: self.amount.clone(),
            price: self.price,
            wallet,
            address,
            order_info: self.order_info.clone(),
            webhook_url: self.webhook_url.clone(),
            redirect_url: self.redirect_url.clone(),
            expires_at,
            required_confirmations: self.chain.confirmations,
            late_policy: LatePolicy::default_for(self.token.asset),
            seed: self.seed,
        }
    }
}

/// A chain by its slug, in any case; the fault names the known ones.
pub fn parse_chain<'a>(app: &'a App, fields: &mut Fields) -> Option<&'a Chain> {
    let slug = fields.text("blockchain")?;
    let chain = app.chain(slug);
    if chain.is_none() {
        let known: Vec<&str> = app.context.registry.chains().iter().map(|chain| chain.slug.as_str()).collect();
        fields.fault("blockchain", format!("Unknown blockchain. Known: {}.", known.join(", ")));
    }
    chain
}

fn parse_token<'a>(app: &'a App, chain: Option<&'a Chain>, fields: &mut Fields) -> Option<&'a Token> {
    let symbol = fields.text("currency")?.to_owned();
    let Some(chain) = chain else {
        // Without its chain a symbol can still be wrong everywhere.
        if !app.context.registry.chains().iter().any(|chain| chain.token(&symbol).is_some()) {
            fields.fault("currency", "Unknown currency on every blockchain.");
        }
        return None;
    };
    let token = chain.token(&symbol);
    if token.is_none() {
        let known: Vec<&str> = chain.assets().map(|token| token.symbol.as_str()).collect();
        fields.fault("currency", format!("Unknown currency on {}. Known: {}.", chain.slug, known.join(", ")));
    }
    token
}

fn parse_amount(fields: &mut Fields, token: Option<&Token>) -> Option<(Amount, cryptopay_domain::units::Units)> {
    let text = fields.text("amount")?.to_owned();
    let amount = fields.ok("amount", Amount::parse(&text))?;
    let token = token?;
    let price = fields.ok("amount", amount.to_units(token.decimals))?;
    Some((amount, price))
}

fn parse_order_info(fields: &mut Fields) -> Option<String> {
    let text = fields.text("order_info")?.to_owned();
    if text.len() > MAX_ORDER_INFO_BYTES {
        fields.fault("order_info", "Must have at most 8192 bytes.");
        return None;
    }
    if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(&text) {
        fields.fault("order_info", format!("Must be a string that holds valid JSON, such as \"{{}}\": {error}."));
        return None;
    }
    Some(text)
}

fn parse_webhook_url(app: &App, fields: &mut Fields) -> Option<String> {
    let text = fields.text("webhook_url")?.to_owned();
    let checked = check_url(&text, &webhook_policy(app));
    fields.ok("webhook_url", checked).map(|url| url.to_string())
}

/// What webhooks may be sent to in this deployment.
pub fn webhook_policy(app: &App) -> ClientPolicy {
    ClientPolicy { allow: app.config.webhook_allow.clone(), https_only: !app.is_sandbox() }
}

fn parse_redirect_url(fields: &mut Fields) -> Option<String> {
    let text = fields.text("redirect_url")?.to_owned();
    let valid = text.chars().count() <= MAX_URL_CHARS
        && url::Url::parse(&text).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    if !valid {
        fields.fault("redirect_url", "Enter an http or https URL of at most 2048 characters.");
        return None;
    }
    Some(text)
}

fn judge_expiry(fields: &mut Fields, now: Timestamp) -> Option<Timestamp> {
    let Some(text) = fields.text("expires_at") else {
        return (!fields.is_faulty("expires_at")).then(|| now.plus(DEFAULT_EXPIRY));
    };
    let expires_at: Timestamp = text.parse().ok()?;
    if expires_at < now.plus(MIN_EXPIRY) || expires_at > now.plus(MAX_EXPIRY) {
        fields.fault("expires_at", "Must lie between 1 minute and 30 days ahead.");
        return None;
    }
    Some(expires_at)
}

fn judge_wallet(fields: &mut Fields, place: &PayingPlace) -> Option<(WalletId, AccountAddress)> {
    let found = place.wallet_id.zip(place.address);
    if found.is_none() {
        fields.fault(
            "blockchain",
            "You have no active wallet on this blockchain. Add one with POST /api/merchant-wallets/.",
        );
    }
    found
}

/// A merchant's order by its number or its `ORD-…`.
///
/// # Errors
/// `NOT_FOUND`, also for an id that is none.
pub async fn find(app: &App, principal: &Principal, id: &str) -> Result<payment_order::Model, ApiError> {
    let merchant = principal.merchant_id();
    let found = if let Ok(order_id) = id.parse::<OrderRef>() {
        payment_order::Entity::find_owned_by_ref(app.database(), merchant, &order_id).await?
    } else if let Some(number) = super::number(id) {
        payment_order::Entity::find_owned(app.database(), merchant, OrderId(number)).await?
    } else {
        None
    };
    found.ok_or_else(|| ApiError::not_found("payment order"))
}

/// One order.
///
/// # Errors
/// `NOT_FOUND`.
pub async fn get(app: &App, principal: &Principal, id: &str) -> Result<OrderView, ApiError> {
    let order = find(app, principal, id).await?;
    one_view(app.database(), order).await
}

/// A page of orders and how many there are in all.
///
/// # Errors
/// Only failures of the database.
pub async fn list(
    app: &App,
    principal: &Principal,
    filter: &OrderFilter,
    oldest_first: bool,
    offset: u64,
    limit: u64,
) -> Result<(u64, Vec<OrderView>), ApiError> {
    let merchant = principal.merchant_id();
    let count = payment_order::Entity::count_owned(app.database(), merchant, filter).await?;
    let orders =
        payment_order::Entity::list_owned(app.database(), merchant, filter, oldest_first, offset, limit).await?;
    Ok((count, views(app.database(), orders).await?))
}

/// Takes an order back.
///
/// # Errors
/// `INVALID_STATE` once money has come.
pub async fn cancel(app: &App, principal: &Principal, id: &str) -> Result<OrderView, ApiError> {
    let order = find(app, principal, id).await?;
    let nudges = transact!(app.database(), |txn| {
        let now = clock::business_now(txn).await?;
        let occasion = Occasion { registry: &app.context.registry, cause: "canceled by the merchant", now };
        let nudges = cryptopay_ledger::cancel(txn, occasion, principal.merchant_id(), order.id).await?;
        audit(txn, principal, "order.cancel", order.order_id.as_str(), json!({}), now).await?;
        Ok::<Nudges, LedgerError>(nudges)
    })?;
    app.context.queue.nudge(nudges);
    get(app, principal, id).await
}

/// Decides about an order that needs a decision.
///
/// # Errors
/// Faulty fields; `INVALID_STATE` when nothing is to be decided.
pub async fn resolve(app: &App, principal: &Principal, id: &str, mut fields: Fields) -> Result<OrderView, ApiError> {
    let order = find(app, principal, id).await?;
    let decision: Option<Decision> = fields.parsed("decision");
    fields.finish()?;
    let decision = decision.ok_or_else(|| fields.faulty())?;
    let note = fields.text("note").unwrap_or_default().to_owned();
    let cause = format!("{decision}ed by the merchant");
    let nudges = transact!(app.database(), |txn| {
        let now = clock::business_now(txn).await?;
        let occasion = Occasion { registry: &app.context.registry, cause: &cause, now };
        let nudges = cryptopay_ledger::resolve(txn, occasion, principal.merchant_id(), order.id, decision).await?;
        let details = json!({"decision": decision, "note": note});
        audit(txn, principal, "order.resolve", order.order_id.as_str(), details, now).await?;
        Ok::<Nudges, LedgerError>(nudges)
    })?;
    app.context.queue.nudge(nudges);
    get(app, principal, id).await
}

/// Assigns an unmatched transfer to an order.
///
/// # Errors
/// Faulty fields; `INVALID_STATE`.
pub async fn assign(
    app: &App,
    principal: &Principal,
    id: &str,
    mut fields: Fields,
    once: Once<OrderView>,
) -> Result<Outcome<OrderView>, ApiError> {
    if let Some(given) = once.given(app).await? {
        return Ok(given);
    }
    let order = find(app, principal, id).await?;
    let tx_hash: Option<Hash> = fields.text("transaction_hash").map(str::to_lowercase).and_then(|text| {
        let parsed = text.parse().map_err(|_| "Enter a transaction hash: 0x and 64 hexadecimal digits.");
        fields.ok("transaction_hash", parsed)
    });
    let position: Option<Position> = fields.parsed("position");
    let units = match fields.text("amount").map(str::to_owned) {
        Some(text) => fields
            .ok("amount", Amount::parse(&text))
            .and_then(|amount| fields.ok("amount", amount.to_units(cryptopay_ledger::decimals(order.decimals)))),
        None => None,
    };
    fields.finish()?;
    let tx_hash = tx_hash.ok_or_else(|| fields.faulty())?;
    let note = fields.text("note").unwrap_or_default().to_owned();
    let evidence = json!({"method": "manual", "by": principal.actor(), "note": note}).to_string();
    let assignment = Assignment { tx_hash, position, units, evidence };
    let (outcome, nudges) = transact!(app.database(), |txn| {
        if let Some(given) = once.begin(app, txn).await? {
            return Ok((given, Nudges::default()));
        }
        let now = clock::business_now(txn).await?;
        let occasion = Occasion { registry: &app.context.registry, cause: "assigned by the merchant", now };
        let merchant = principal.merchant_id();
        let nudges = cryptopay_ledger::assign(txn, occasion, merchant, order.id, assignment.clone()).await?;
        let details = json!({"transaction_hash": tx_hash, "note": note});
        audit(txn, principal, "order.allocate", order.order_id.as_str(), details, now).await?;
        let assigned = payment_order::Entity::find_owned(txn, merchant, order.id).await?;
        let assigned = assigned.ok_or_else(|| LedgerError::from(Refusal::OrderNotFound))?;
        let view = one_view(txn, assigned).await.map_err(CreateError::Faulty)?;
        Ok::<_, CreateError>((once.keep(app, txn, view).await?, nudges))
    })
    .map_err(CreateError::into_answer)?;
    app.context.queue.nudge(nudges);
    Ok(outcome)
}

/// The history of an order, oldest first.
///
/// # Errors
/// `NOT_FOUND`.
pub async fn history(app: &App, principal: &Principal, id: &str) -> Result<Vec<event::Model>, ApiError> {
    let order = find(app, principal, id).await?;
    Ok(event::Entity::of_order(app.database(), principal.merchant_id(), order.id).await?)
}

/// Orders as they are answered with: two statements for their transfers, however many orders.
///
/// # Errors
/// Only failures of the database.
pub async fn views(
    connection: &impl ConnectionTrait,
    orders: Vec<payment_order::Model>,
) -> Result<Vec<OrderView>, ApiError> {
    let mut transfers: BTreeMap<OrderId, Vec<transfer::Model>> = BTreeMap::new();
    let mut heights: BTreeMap<String, i64> = BTreeMap::new();
    if !orders.is_empty() {
        let allocations = allocation::Entity::live_of_orders(connection, orders.iter().map(|order| order.id)).await?;
        let counted: Vec<_> = allocations.into_iter().filter(|row| row.counted).collect();
        let ids: BTreeSet<_> = counted.iter().map(|row| row.transfer_id).collect();
        let rows = if ids.is_empty() { Vec::new() } else { transfer::Entity::by_ids(connection, ids).await? };
        for row in counted {
            if let Some(found) = rows.iter().find(|transfer| transfer.id == row.transfer_id) {
                transfers.entry(row.order_id).or_default().push(found.clone());
            }
        }
        for cursor in chain_cursor::Entity::find().all(connection).await? {
            heights.insert(cursor.chain, cursor.height);
        }
    }
    let view = |order: &payment_order::Model| {
        let newest = transfers.get(&order.id).and_then(cryptopay_ledger::newest);
        cryptopay_ledger::snapshot(order, newest, heights.get(&order.chain).copied().unwrap_or_default())
    };
    Ok(orders.iter().map(view).collect())
}

/// One order as it is answered with.
///
/// # Errors
/// Only failures of the database.
pub async fn one_view(connection: &impl ConnectionTrait, order: payment_order::Model) -> Result<OrderView, ApiError> {
    let mut views = views(connection, vec![order]).await?;
    views.pop().ok_or_else(|| ApiError::internal("an order without a view"))
}
