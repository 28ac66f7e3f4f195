//! Pays an order as a customer would: with a transaction of its own, sent to the simulated chain.

use cryptopay_domain::address::{AccountAddress, Hash};
use cryptopay_domain::amount::format_units;
use cryptopay_domain::registry::{Chain, Token};
use cryptopay_domain::time::Timestamp;
use cryptopay_domain::units::Units;
use cryptopay_entity::sandbox_transaction::Sent;
use cryptopay_entity::txn::Restart;
use cryptopay_entity::{payment_order, sandbox_transaction, transact};
use sea_orm::{DatabaseConnection, DatabaseTransaction, DbErr};

use crate::chain::mining::{Locked, lock, mine_blocks};
use crate::chain::replacing::away;
use crate::chain::transaction::{Payer, Transfer, sign};
use crate::error::{column, unsigned, written};
use crate::{Scenario, SimulationError};

/// How to pay. The default is what is due, from the customer of the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Payment {
    /// In which way.
    pub scenario: Scenario,
    /// How much, in base units, instead of what the scenario would choose.
    pub amount: Option<Units>,
    /// From whom. Without it, every order has a payer of its own, whose signature is real; nobody has the key of an address
    /// that is named here, and the signature is one that no key can have made.
    pub from: Option<AccountAddress>,
    /// Whether the transaction carries the order's reference; see [`Scenario::has_reference_by_default`].
    pub with_reference: Option<bool>,
}

/// A payment that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paid {
    /// Hash of the transaction.
    pub tx_hash: Hash,
    /// Who pays.
    pub from: AccountAddress,
    /// How much, in base units.
    pub units: Units,
    /// The block that holds it already; `None` while it waits for the next.
    pub block_number: Option<u64>,
    /// About how long it takes to be confirmed if nobody mines, in seconds of business time.
    pub confirms_in_seconds: u64,
    /// What happens next, and how to hasten it, for people.
    pub message: String,
}

/// Why nothing was paid.
#[derive(Debug, thiserror::Error)]
pub enum PayError {
    /// The order is on another chain.
    #[error("This order is to be paid on {wanted}, not on {given}.")]
    WrongChain {
        /// Slug of the order's chain.
        wanted: String,
        /// Slug of the chain that was given.
        given: String,
    },
    /// What the order asks for is not in the registry any more.
    #[error("{currency} is no longer registered on this chain, so it cannot be paid with.")]
    AssetNotRegistered {
        /// What the order calls it.
        currency: String,
    },
    /// It is paid.
    #[error("Nothing is due on this order any more. Enter an amount to pay all the same.")]
    NothingDue,
    /// Nothing, or a fraction of nothing.
    #[error("Enter an amount greater than 0.")]
    AmountNotPositive,
    /// Not an underpayment.
    #[error("To underpay, enter less than the {due} {currency} that are due.")]
    AmountNotBelowDue {
        /// What is due, as people write it.
        due: String,
        /// Symbol.
        currency: String,
    },
    /// Not an overpayment.
    #[error("To overpay, enter more than the {due} {currency} that are due.")]
    AmountNotAboveDue {
        /// What is due, as people write it.
        due: String,
        /// Symbol.
        currency: String,
    },
    /// The recipient would pay itself.
    #[error("The payer is the order's own receiving address. Enter another one, or none.")]
    PayerIsRecipient,
    /// Too early for a late payment.
    #[error(
        "This order can still be paid in time. To pay late, first POST /api/sandbox/clock/advance/ with \
         {{\"seconds\": {advance_seconds}}}, or wait as long."
    )]
    StillInTime {
        /// By how much to advance the clock.
        advance_seconds: u64,
    },
    /// There is no time before the confirmation.
    #[error("This order is confirmed by the first block that holds its payment, so nothing can happen before that.")]
    ConfirmsAtOnce,
    /// The chain itself.
    #[error(transparent)]
    Simulation(#[from] SimulationError),
}

impl From<DbErr> for PayError {
    fn from(error: DbErr) -> Self {
        SimulationError::from(error).into()
    }
}

impl Restart for PayError {
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Simulation(error) if error.is_conflict())
    }
}

/// Sends a payment of `order`, which is on `chain`. It waits for the next block, but for
/// [`Scenario::ReorgBeforeConfirmation`], which goes like this:
///
/// 1. The payment's block is mined at once, and one more if the payment is not confirmed by that.
/// 2. No further block is mined until the scanner has verified the payment's block (for a minute at most; then the
///    chain goes on, and the scenario ends as a plain payment; so it does if somebody mines until it is confirmed).
/// 3. When the next block is due after that, the payment's block and all above are replaced by as many without it, and
///    one more. Other transactions stay.
/// 4. The same transaction waits for three block times, five seconds at least, and is mined again with the next block.
///
/// # Errors
/// [`PayError`] says what to do instead. [`PayError::Simulation`] is ours.
pub async fn pay(
    database: &DatabaseConnection,
    chain: &Chain,
    order: &payment_order::Model,
    payment: Payment,
) -> Result<Paid, PayError> {
    if order.chain != chain.slug {
        return Err(PayError::WrongChain { wanted: order.chain.clone(), given: chain.slug.clone() });
    }
    let token =
        chain.token_of(order.asset).ok_or_else(|| PayError::AssetNotRegistered { currency: order.currency.clone() })?;
    if payment.scenario == Scenario::ReorgBeforeConfirmation && order.required_confirmations < 2 {
        return Err(PayError::ConfirmsAtOnce);
    }
    let payer = match payment.from {
        Some(address) => Payer::Impersonated(address),
        None => Payer::named(order.order_id.as_str())?,
    };
    if payer.address() == order.receiving_address {
        return Err(PayError::PayerIsRecipient);
    }
    transact!(database, |txn| { send(txn, chain, order, payment, token, &payer).await })
}

async fn send(
    txn: &DatabaseTransaction,
    chain: &Chain,
    order: &payment_order::Model,
    payment: Payment,
    token: &Token,
    payer: &Payer,
) -> Result<Paid, PayError> {
    let locked = lock(txn, chain).await?;
    let not_before = earliest(order, payment.scenario, locked.now)?;
    let units = units(payment, due(order), token)?;
    let nonce = sandbox_transaction::Entity::next_nonce(txn, &chain.slug, payer.address()).await?;
    let with_reference = payment.with_reference.unwrap_or(payment.scenario.has_reference_by_default());
    let signed = sign(
        payer,
        &Transfer {
            chain_id: chain.chain_id,
            nonce: unsigned(nonce)?,
            asset: order.asset,
            to: order.receiving_address,
            units,
            reference: with_reference.then_some(order.reference),
        },
    )?;
    let vanishes = payment.scenario == Scenario::ReorgBeforeConfirmation;
    let sent = Sent {
        chain: chain.slug.clone(),
        tx_hash: signed.hash,
        sender: payer.address(),
        sender_nonce: nonce,
        transaction_json: written("transaction", &signed.envelope)?,
        gas_used: column(signed.gas_used)?,
        logs: written("list of logs", &signed.logs)?,
        not_before,
        vanish_below_depth: vanishes.then_some(order.required_confirmations),
    };
    sandbox_transaction::Entity::send(txn, sent).await?;
    let mut block_number = None;
    if vanishes {
        let blocks = if order.required_confirmations > 2 { 2 } else { 1 };
        mine_blocks(txn, chain, &locked, blocks).await?;
        let mined = sandbox_transaction::Entity::with_hash(txn, &chain.slug, signed.hash).await?;
        block_number = mined.and_then(|row| row.block_number).map(unsigned).transpose()?;
    }
    let confirms_in_seconds = confirms_in_seconds(chain, order, payment.scenario);
    Ok(Paid {
        tx_hash: signed.hash,
        from: payer.address(),
        units,
        block_number,
        confirms_in_seconds,
        message: message(chain, order, payment.scenario, &locked, confirms_in_seconds),
    })
}

/// What would complete the order now: its amount, or the remainder that is held for it.
fn due(order: &payment_order::Model) -> Units {
    let missing = order.pay_units.saturating_sub(order.received_units);
    match order.remainder_units {
        // A value above what is missing, where that itself was not free.
        Some(held) if !missing.is_zero() => held.max(missing),
        _ => missing,
    }
}

fn units(payment: Payment, due: Units, token: &Token) -> Result<Units, PayError> {
    let chosen = match (payment.amount, payment.scenario) {
        (Some(amount), _) => amount,
        (None, _) if due.is_zero() => return Err(PayError::NothingDue),
        (None, Scenario::Underpay) => Units(due.0 >> 1),
        (None, Scenario::Overpay) => due.saturating_add(tenth(due)),
        (None, Scenario::Exact | Scenario::Late | Scenario::ReorgBeforeConfirmation) => due,
    };
    let words = || (format_units(due, token.decimals), token.symbol.clone());
    match payment.scenario {
        _ if chosen.is_zero() => Err(PayError::AmountNotPositive),
        Scenario::Underpay if chosen >= due => {
            let (due, currency) = words();
            Err(PayError::AmountNotBelowDue { due, currency })
        }
        Scenario::Overpay if chosen <= due => {
            let (due, currency) = words();
            Err(PayError::AmountNotAboveDue { due, currency })
        }
        _ => Ok(chosen),
    }
}

/// A tenth, but something.
fn tenth(units: Units) -> Units {
    let ten = Units::new(10).0;
    Units(units.0.checked_div(ten).unwrap_or_default()).max(Units::new(1))
}

/// The earliest time of the block that may hold the payment. Block times are whole seconds, so the first late one is the
/// first whole second after the deadline.
fn earliest(order: &payment_order::Model, scenario: Scenario, now: Timestamp) -> Result<Timestamp, PayError> {
    if scenario != Scenario::Late {
        return Ok(now);
    }
    let seconds = u64::try_from(order.in_time_until.as_secs().saturating_add(1)).unwrap_or(0);
    let earliest = Timestamp::from_secs(seconds);
    if now < earliest {
        let wait = earliest.since(now);
        return Err(PayError::StillInTime { advance_seconds: whole_seconds(wait) });
    }
    Ok(earliest)
}

fn confirms_in_seconds(chain: &Chain, order: &payment_order::Model, scenario: Scenario) -> u64 {
    let blocks = u32::try_from(order.required_confirmations).unwrap_or(u32::MAX);
    let confirming = chain.block_time.saturating_mul(blocks);
    let detour = match scenario {
        Scenario::ReorgBeforeConfirmation => chain.block_time.saturating_add(away(chain)),
        _ => Default::default(),
    };
    whole_seconds(confirming.saturating_add(detour))
}

/// Rounded up.
fn whole_seconds(duration: std::time::Duration) -> u64 {
    duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0))
}

fn message(
    chain: &Chain,
    order: &payment_order::Model,
    scenario: Scenario,
    locked: &Locked,
    confirms_in_seconds: u64,
) -> String {
    let Chain { name, slug, .. } = chain;
    let blocks = order.required_confirmations;
    if scenario == Scenario::ReorgBeforeConfirmation {
        let away = whole_seconds(away(chain));
        return format!(
            "The payment is in a block of {name}. As soon as the gateway has seen it there, a reorganisation takes that \
             block away; {away} s later the same transaction is mined again, and then confirmed by {blocks} blocks. To \
             hasten that, wait for the order to fall back, POST /api/sandbox/clock/advance/ with {{\"seconds\": {away}}}, \
             then POST /api/sandbox/blockchains/{slug}/mine/."
        );
    }
    let late = if locked.now > order.monitor_until {
        " The gateway no longer looks for payments of this order."
    } else if locked.now > order.in_time_until {
        " The order's deadline is over, so the payment is late."
    } else {
        ""
    };
    format!(
        "The payment goes into the next block of {name} and is confirmed by {blocks} blocks, in about \
         {confirms_in_seconds} s. To hasten that, POST /api/sandbox/blockchains/{slug}/mine/.{late}"
    )
}
