//! What can stand in the way of a change.

use cryptopay_domain::order::OrderStatus;
use cryptopay_domain::registry::{Chain, Token};
use cryptopay_entity::txn::Restart;
use sea_orm::DbErr;

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The database failed.
    #[error("database: {0}")]
    Database(#[from] DbErr),
    /// The cursor has moved or belongs to somebody else: this scanner woke up too late. Nothing was written.
    #[error("the chain's cursor was moved by another scanner")]
    Fenced,
    /// A row changed between reading and writing; the transaction is tried again.
    #[error("a row changed in between")]
    LostGuard,
    /// A rule says no. Nothing was written.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Stored data contradicts itself.
    #[error("stored data contradicts itself: {0}")]
    Corrupt(String),
}

impl Restart for LedgerError {
    fn is_conflict(&self) -> bool {
        match self {
            Self::Database(error) => error.is_conflict(),
            Self::LostGuard => true,
            Self::Fenced | Self::Refused(_) | Self::Corrupt(_) => false,
        }
    }
}

/// A rule that forbids what was asked. The words go to the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such order of this merchant.
    #[error("No such payment order.")]
    OrderNotFound,
    /// No such transfer that this merchant may allocate.
    #[error("No transfer of this transaction to one of your addresses is known.")]
    TransferNotFound,
    /// The merchant has used this nonce.
    #[error("This nonce is already used by {order_id}. Every order needs its own.")]
    NonceUsed {
        /// The order that has it.
        order_id: String,
    },
    /// No amount near the price is free at the receiving address.
    #[error(
        "No amount near this price is free at your receiving address: open and recent orders hold all of them. Add another wallet address for this blockchain, or wait until orders are over."
    )]
    NoFreeAmount,
    /// No amount that can be shown lies close enough below the price.
    #[error("Too small: on an address that orders share, no amount close below it is left for an order of its own.")]
    PriceTooSmall,
    /// The chain has no verified height yet.
    #[error("The gateway has not seen a block of this chain yet. Try again in a few seconds.")]
    ChainNotReady,
    /// The token's contract contradicts the registry.
    #[error(
        "{symbol} on {chain} takes no new orders: its contract says {contract} decimals, this gateway's registry {registry}. The operator has to correct the registry."
    )]
    TokenDisabled {
        /// Token.
        symbol: String,
        /// Slug.
        chain: String,
        /// Decimals that the contract says.
        contract: i64,
        /// Decimals in the registry.
        registry: u8,
    },
    /// Money has come, or the order is over.
    #[error("An order can be canceled only while nothing has been received; this one is {status}.")]
    NotCancelable {
        /// Its status.
        status: OrderStatus,
    },
    /// Nothing to decide.
    #[error("There is nothing to decide about this order; it is {status}.")]
    NoDecisionDue {
        /// Its status.
        status: OrderStatus,
    },
    /// Accepting needs money.
    #[error("Nothing has been received that could be accepted.")]
    NothingToAccept,
    /// The transfer is in another asset or on another chain.
    #[error("The transfer is not in the order's asset on the order's blockchain.")]
    AssetMismatch,
    /// The order has a share of this transfer.
    #[error(
        "{share} of this transfer is already allocated to this order. Leave amount out to add the {left} that is left, or allocate that to another order."
    )]
    AlreadyAllocated {
        /// What the order has of it, as people read it.
        share: String,
        /// What no order has, as people read it.
        left: String,
    },
    /// Less is left than was asked for.
    #[error("Only {left} of this transfer is left to allocate.")]
    NotEnoughLeft {
        /// What is left, as people read it.
        left: String,
    },
    /// Which one?
    #[error("This transaction holds several transfers to you; name one with position: {positions}.")]
    PositionNeeded {
        /// The positions to choose from.
        positions: String,
    },
    /// The transaction is known, and has nothing to this merchant at the position that was named.
    #[error("This transaction holds no transfer to you at this position. It holds: {positions}.")]
    NoSuchPosition {
        /// The positions to choose from.
        positions: String,
    },
    /// A proven owner is never displaced.
    #[error(
        "Another merchant of this gateway has proven to own this address. Whoever runs the gateway can tell you more; use another address meanwhile."
    )]
    AddressProven,
    /// Not in a block.
    #[error("The transfer is not in a block at the moment; try again when it is.")]
    TransferNotIncluded,
    /// The order failed or was rejected.
    #[error("The order is {status}; money cannot be allocated to it.")]
    OrderOver {
        /// Its status.
        status: OrderStatus,
    },
}

impl Refusal {
    /// The refusal of a token whose contract says `contract` decimals.
    pub fn token_disabled(chain: &Chain, token: &Token, contract: i64) -> Self {
        Self::TokenDisabled {
            symbol: token.symbol.clone(),
            chain: chain.slug.clone(),
            contract,
            registry: token.decimals,
        }
    }
}
