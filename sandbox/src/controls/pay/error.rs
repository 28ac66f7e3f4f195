//! Why nothing was paid.

use cryptopay_entity::txn::Restart;
use sea_orm::DbErr;

use crate::SimulationError;

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
    /// One unit has no halves.
    #[error("This amount is the smallest that there is, and cannot be split. Enter a greater one.")]
    AmountNotDivisible,
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
    /// No other token has so many decimals, or so large amounts.
    #[error(
        "No other token of {chain} can be paid by the number {amount}. Enter an amount with at most {decimals} decimals."
    )]
    AmountFitsNoOtherToken {
        /// The chain's name.
        chain: String,
        /// The number.
        amount: String,
        /// Most decimals that another token has.
        decimals: u8,
    },
    /// The chain has one token.
    #[error(
        "No token but {currency} is registered on {chain}, so there is no wrong one. Create an order on another chain."
    )]
    NoOtherToken {
        /// The chain's name.
        chain: String,
        /// Symbol of the only one.
        currency: String,
    },
    /// A contract that passes coins on leaves no logs.
    #[error(
        "{currency} is the chain's own coin. A contract that passes coins on leaves no logs, so such payments are not seen. \
         Create an order for a token."
    )]
    BatchOfCoins {
        /// Symbol of the coin.
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
    #[error(
        "This order is confirmed by the first block that holds its payment, so nothing can happen before that. Ask for more \
         confirmations with PUT /api/settings/payments/, and create another order."
    )]
    ConfirmsAtOnce,
    /// There is no reorganisation after the confirmation.
    #[error(
        "This order is confirmed by {required} blocks, and {depth} blocks are beyond any reorganisation here. Ask for fewer \
         confirmations with PUT /api/settings/payments/, and create another order."
    )]
    FinalWhenConfirmed {
        /// How many blocks confirm it.
        required: i64,
        /// How many are final.
        depth: u32,
    },
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
