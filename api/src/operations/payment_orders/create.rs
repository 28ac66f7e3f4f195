//! Creating an order: judged as far as it goes without a transaction, then once more and for good inside it.

use cryptopay_domain::ids::MerchantId;
use cryptopay_entity::merchant_wallet::PayingPlace;
use cryptopay_entity::{clock, merchant_wallet, payment_order, transact};
use cryptopay_ledger::{LedgerError, Nudges, Prospect, Refusal};
use sea_orm::{ConnectionTrait, DbErr};

use super::OrderView;
use super::request::{CreateRequest, judge_expiry, judge_wallet};
use crate::app::App;
use crate::error::ApiError;
use crate::fields::Fields;
use crate::operations::blockchains;
use crate::operations::once::{Once, Outcome};
use crate::operations::settings;
use crate::operations::stop::Stop;
use crate::principal::Principal;

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
    once.answered(app, create_anew(app, principal, fields, &once)).await
}

async fn create_anew(
    app: &App,
    principal: &Principal,
    fields: Fields,
    once: &Once<OrderView>,
) -> Result<Outcome<OrderView>, ApiError> {
    let merchant = principal.merchant_id();
    let settings = settings::of(&principal.merchant)?;
    let mut fields = fields;
    let request = CreateRequest::parse(app, &mut fields);
    let Some(request) = request else {
        // What needs the database to be judged is judged too, so that every fault is named at once.
        let place = match fields.text("blockchain").and_then(|slug| app.chain(slug)) {
            Some(chain) => merchant_wallet::Entity::paying_place(app.database(), merchant, &chain.slug).await?,
            None => PayingPlace {
                now: clock::business_now(app.database()).await?,
                wallet_id: None,
                address: None,
                height: None,
                block_time: None,
                contract_decimals: None,
            },
        };
        judge_expiry(&mut fields, place.now, &settings);
        judge_nonce(app.database(), merchant, &mut fields).await?;
        if !fields.is_faulty("blockchain") && fields.value("blockchain").is_some() {
            judge_wallet(&mut fields, &place);
        }
        return Err(fields.faulty());
    };
    let created = transact!(app.database(), |txn| {
        if let Some(given) = once.begin(app, txn).await? {
            return Ok((given, Nudges::default()));
        }
        let coin = (request.chain, request.token);
        let prospect = Prospect::read(txn, merchant, coin, request.price, request.seed).await?;
        let place = &prospect.known.place;
        let mut judged = fields.clone();
        let expires_at = judge_expiry(&mut judged, place.now, &settings);
        let has_wallet = judge_wallet(&mut judged, place);
        let Some(expires_at) = expires_at.filter(|_| has_wallet) else {
            judge_nonce(txn, merchant, &mut judged).await?;
            return Err(CreateError::Faulty(judged.faulty()));
        };
        let Some(scanned_height) = place.height else {
            return Err(LedgerError::from(Refusal::ChainNotReady).into());
        };
        if let Some(said) = place.contract_decimals.filter(|said| *said != i64::from(request.token.decimals)) {
            return Err(LedgerError::from(Refusal::token_disabled(request.chain, request.token, said)).into());
        }
        let new = request.order(merchant, expires_at, &settings);
        let answer = |order: &OrderView| {
            let (answer, kept) = once.answer(app, order).map_err(CreateError::Faulty)?;
            Ok::<_, CreateError>((Outcome::First(order.clone(), answer), kept))
        };
        let (_, outcome, nudges) = cryptopay_ledger::create_order(txn, new, scanned_height, prospect, answer).await?;
        Ok((outcome, nudges))
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
            let used = cryptopay_ledger::nonce_owner(app.database(), merchant, request.nonce).await?;
            Err(ApiError::field("nonce", nonce_problem(app.database(), merchant, &used).await?))
        }
        Err(CreateError::Ledger(LedgerError::Refused(refusal @ Refusal::ChainNotReady))) => {
            let reason = blockchains::closed_because(app, request.chain).await?;
            let plain = ApiError::from(refusal);
            Err(match reason {
                Some(reason) => {
                    let message = format!("{} takes no orders at the moment: {reason}.", request.chain.name);
                    ApiError { message, ..plain }
                }
                None => plain,
            })
        }
        Err(error) => Err(error.into_answer()),
    }
}

/// Names the order that has the nonce already. Where nothing else is wrong with a request, the constraint finds it.
async fn judge_nonce(
    connection: &impl ConnectionTrait,
    merchant: MerchantId,
    fields: &mut Fields,
) -> Result<(), DbErr> {
    let Some(nonce) = fields.integer("nonce") else { return Ok(()) };
    if let Some(owner) = payment_order::Entity::find_by_nonce(connection, merchant, nonce).await? {
        let used = Refusal::NonceUsed { order_id: owner.order_id.to_string() };
        fields.fault("nonce", nonce_problem(connection, merchant, &used).await?);
    }
    Ok(())
}

/// The words for a used nonce: the order that has it, and a number that is free.
async fn nonce_problem(
    connection: &impl ConnectionTrait,
    merchant: MerchantId,
    used: &Refusal,
) -> Result<String, DbErr> {
    let highest = payment_order::Entity::highest_nonce(connection, merchant).await?;
    let free = highest.and_then(|nonce| nonce.checked_add(1));
    Ok(free.map_or_else(|| used.to_string(), |free| format!("{used} Send another number, such as {free}.")))
}

/// Why an order was not created, or nothing assigned to it.
#[derive(Debug)]
pub(super) enum CreateError {
    Ledger(LedgerError),
    Faulty(ApiError),
}

impl CreateError {
    pub(super) fn into_answer(self) -> ApiError {
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

impl From<DbErr> for CreateError {
    fn from(error: DbErr) -> Self {
        Self::Ledger(error.into())
    }
}

impl cryptopay_entity::txn::Restart for CreateError {
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Ledger(error) if error.is_conflict())
    }
}
