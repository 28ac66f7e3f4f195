//! What a person or a test does to the simulated chains and the test clock. Only in sandbox mode; what is done
//! to a chain or the clock acts on the whole instance.

pub mod faucet;
pub mod fault;
pub mod inbox;
pub mod reset;
#[cfg(test)]
mod tests;

use cryptopay_domain::address::{AccountAddress, Hash, parse_receiving_address};
use cryptopay_domain::amount::Amount;
use cryptopay_domain::order::OrderStatus;
use cryptopay_domain::registry::Chain;
use cryptopay_domain::time::Timestamp;
use cryptopay_domain::units::Units;
use cryptopay_entity::payment_order;
use cryptopay_sandbox::{
    ClockError, KeepTransactions, MineError, Mined, Paid, PayError, Payment, ReorgError, Reorganised, Scenario,
    SimulationError,
};

use super::blockchains::is_simulated;
use super::payment_orders;
use crate::app::App;
use crate::error::{ApiError, ErrorCode};
use crate::fields::Fields;
use crate::principal::Principal;

/// What every control that is not one order's says of itself.
const WHOLE_INSTANCE: &str = "This acts on the whole instance, for every merchant.";

/// A simulated payment that was sent.
#[derive(Debug, Clone)]
pub struct Sent {
    /// Hash of the transaction; of the first, where there are several.
    pub transaction_hash: Hash,
    /// Hashes of all, the first among them.
    pub transaction_hashes: Vec<Hash>,
    /// Status of the order at the moment: the gateway has not seen the payment yet.
    pub order_status: OrderStatus,
    /// About how long the confirmation takes if nobody mines.
    pub confirms_in_seconds: u64,
    /// What happens next, and how to hasten it.
    pub message: String,
}

/// Refuses what only the sandbox has, as if it did not exist.
///
/// # Errors
/// `NOT_FOUND` in live mode.
pub fn require(app: &App) -> Result<(), ApiError> {
    if app.is_sandbox() {
        return Ok(());
    }
    Err(ApiError::new(ErrorCode::NotFound, "There is no such route; /docs/ lists them."))
}

/// Pays an order as a customer would.
///
/// # Errors
/// Faulty fields; `INVALID_STATE` with what to do first.
pub async fn pay(app: &App, principal: &Principal, id: &str, mut fields: Fields) -> Result<Sent, ApiError> {
    require(app)?;
    let order = payment_orders::find(app, principal, id).await?;
    let chain = simulated(app, &order.chain)?;
    let wish = Wish::parse(&order, &mut fields)?;
    let paid = cryptopay_sandbox::pay(app.database(), chain, &order, wish.payment).await.map_err(refused)?;
    let mut sent = Sent::of(&paid, order.status);
    if wish.confirm {
        let blocks = u32::try_from(order.required_confirmations).unwrap_or(u32::MAX);
        let mined = cryptopay_sandbox::mine(app.database(), chain, blocks).await.map_err(|error| match error {
            MineError::BlocksOutOfRange => ApiError::invalid_state(error.to_string()),
            MineError::Simulation(error) => broken(error),
        })?;
        sent.confirms_in_seconds = 0;
        sent.message = format!(
            "What was sent is in block {} of {}, and {blocks} blocks confirm it. The gateway reads them now.",
            mined.from, chain.name
        );
        if !paid.outcome.is_empty() {
            sent.message = format!("{} {}", sent.message, paid.outcome);
        }
    }
    app.context.queue.scan(&chain.slug);
    sent.order_status = payment_orders::find(app, principal, id).await?.status;
    sent.message = fields.message(&sent.message);
    Ok(sent)
}

/// Pays an order exactly, for whoever has its page.
///
/// # Errors
/// `INVALID_STATE` with what to do instead.
pub(super) async fn pay_as_customer(
    app: &App,
    order: &payment_order::Model,
    fields: &Fields,
) -> Result<Sent, ApiError> {
    let chain = simulated(app, &order.chain)?;
    let paid = cryptopay_sandbox::pay(app.database(), chain, order, Payment::default()).await.map_err(refused)?;
    app.context.queue.scan(&chain.slug);
    Ok(Sent { message: fields.message(&paid.message), ..Sent::of(&paid, order.status) })
}

impl Sent {
    fn of(paid: &Paid, order_status: OrderStatus) -> Self {
        Self {
            transaction_hash: paid.tx_hash,
            transaction_hashes: std::iter::once(paid.tx_hash).chain(paid.further.iter().copied()).collect(),
            order_status,
            confirms_in_seconds: paid.confirms_in_seconds,
            message: paid.message.clone(),
        }
    }
}

/// How an order is to be paid.
struct Wish {
    payment: Payment,
    confirm: bool,
}

impl Wish {
    fn parse(order: &payment_order::Model, fields: &mut Fields) -> Result<Self, ApiError> {
        let word = fields.trimmed("scenario").map(str::to_lowercase);
        let scenario = match word.map(|word| word.parse::<Scenario>()) {
            Some(parsed) => fields.ok("scenario", parsed).unwrap_or_default(),
            None => Scenario::default(),
        };
        let amount = fields.text("amount").map(str::to_owned).and_then(|text| {
            let amount = fields.ok("amount", Amount::parse(&text))?;
            fields.ok::<Units, _>("amount", amount.to_units(cryptopay_ledger::decimals(order.decimals)))
        });
        let from = fields.text("from").map(parse_receiving_address);
        let from: Option<AccountAddress> = from.and_then(|parsed| fields.ok("from", parsed));
        let confirm = fields.flag("confirm").unwrap_or(false);
        if confirm && scenario.vanishes_unconfirmed() {
            fields.fault("confirm", "This scenario's blocks are mined step by step; leave confirm out.");
        }
        fields.finish()?;
        let with_reference = fields.flag("with_reference");
        Ok(Self { payment: Payment { scenario, amount, from, with_reference }, confirm })
    }
}

/// Mines blocks on a simulated chain.
///
/// # Errors
/// `NOT_FOUND`; faulty fields; `INVALID_STATE` for a chain that is not simulated.
pub async fn mine(app: &App, slug: &str, fields: &Fields) -> Result<(Mined, String), ApiError> {
    require(app)?;
    let chain = named(app, slug)?;
    fields.finish()?;
    let blocks = fields.integer("blocks").unwrap_or(i64::from(chain.confirmations));
    // What no number of blocks is, is out of range too.
    let blocks = u32::try_from(blocks).unwrap_or(0);
    let mined = cryptopay_sandbox::mine(app.database(), chain, blocks).await.map_err(|error| match error {
        MineError::BlocksOutOfRange => ApiError::field("blocks", error.to_string()),
        MineError::Simulation(error) => broken(error),
    })?;
    app.context.queue.scan(&chain.slug);
    let message = format!("{} mined blocks {} to {}. {WHOLE_INSTANCE}", chain.name, mined.from, mined.to);
    Ok((mined, fields.message(&message)))
}

/// Replaces the newest blocks of a simulated chain.
///
/// # Errors
/// As [`mine`].
pub async fn reorg(app: &App, slug: &str, fields: &Fields) -> Result<(Reorganised, String), ApiError> {
    require(app)?;
    let chain = named(app, slug)?;
    fields.finish()?;
    let depth = fields.integer("depth").and_then(|depth| u32::try_from(depth).ok()).unwrap_or(0);
    let keep = match fields.flag("keep_transactions") {
        Some(false) => KeepTransactions::No,
        Some(true) | None => KeepTransactions::Yes,
    };
    let done = cryptopay_sandbox::reorg(app.database(), chain, depth, keep).await.map_err(|error| match error {
        ReorgError::DepthOutOfRange | ReorgError::TooDeep { .. } => ApiError::field("depth", error.to_string()),
        ReorgError::Simulation(error) => broken(error),
    })?;
    app.context.queue.scan(&chain.slug);
    let message = format!("{} has other blocks from {} to {} now. {WHOLE_INSTANCE}", chain.name, done.from, done.to);
    Ok((done, fields.message(&message)))
}

/// Moves the test clock; business time afterwards.
///
/// # Errors
/// A fault of `seconds`.
pub async fn advance_clock(app: &App, fields: &Fields) -> Result<(Timestamp, String), ApiError> {
    require(app)?;
    fields.finish()?;
    let seconds = fields.integer("seconds").and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(0);
    let now = cryptopay_sandbox::advance_clock(app.database(), seconds).await.map_err(|error| match error {
        ClockError::SecondsOutOfRange => ApiError::field("seconds", error.to_string()),
        ClockError::TooFarAhead { .. } => ApiError::invalid_state(error.to_string()),
        ClockError::Database(error) => error.into(),
    })?;
    for chain in app.context.registry.chains().iter().filter(|chain| is_simulated(app, chain)) {
        app.context.queue.scan(&chain.slug);
    }
    let message =
        format!("The test clock shows {now}. {WHOLE_INSTANCE} Tokens, leases and rate limits keep the real clock.");
    Ok((now, fields.message(&message)))
}

fn named<'a>(app: &'a App, slug: &str) -> Result<&'a Chain, ApiError> {
    let chain = app.chain(slug).ok_or_else(|| ApiError::not_found("blockchain"))?;
    simulated(app, &chain.slug)
}

fn simulated<'a>(app: &'a App, slug: &str) -> Result<&'a Chain, ApiError> {
    app.chain(slug).filter(|chain| is_simulated(app, chain)).ok_or_else(|| {
        let variable = slug.to_uppercase().replace('-', "_");
        ApiError::invalid_state(format!(
            "{slug} is no simulated chain here. Without CRYPTOPAY_RPC_{variable} (and rpc_urls) it would be."
        ))
    })
}

/// A field's fault where another value would help, else a state that forbids it.
fn refused(error: PayError) -> ApiError {
    match error {
        PayError::AmountNotPositive
        | PayError::AmountNotDivisible
        | PayError::AmountNotBelowDue { .. }
        | PayError::AmountNotAboveDue { .. }
        | PayError::AmountFitsNoOtherToken { .. } => ApiError::field("amount", error.to_string()),
        PayError::PayerIsRecipient => ApiError::field("from", error.to_string()),
        PayError::NothingDue
        | PayError::WrongChain { .. }
        | PayError::AssetNotRegistered { .. }
        | PayError::StillInTime { .. }
        | PayError::NoOtherToken { .. }
        | PayError::BatchOfCoins { .. }
        | PayError::ConfirmsAtOnce
        | PayError::FinalWhenConfirmed { .. } => ApiError::invalid_state(error.to_string()),
        PayError::Simulation(error) => broken(error),
    }
}

fn broken(error: SimulationError) -> ApiError {
    match error {
        SimulationError::Database(error) => error.into(),
        SimulationError::Overtaken(_) => ApiError::unavailable(error),
        other => ApiError::internal(other),
    }
}
