//! Gives test tokens away: a transfer like any other, from one address that everybody knows.

use cryptopay_domain::address::{AccountAddress, Hash};
use cryptopay_domain::registry::{Chain, Token};
use cryptopay_domain::units::Units;
use cryptopay_entity::sandbox_transaction::Sent;
use cryptopay_entity::txn::Restart;
use cryptopay_entity::{sandbox_transaction, transact};
use sea_orm::{DatabaseConnection, DbErr};

use crate::SimulationError;
use crate::chain::mining::lock;
use crate::chain::transaction::{Payer, Terms, Tip, Transfer, sign};
use crate::error::{column, unsigned, written};

/// Tokens that were sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Given {
    /// Hash of the transaction, which waits for the next block.
    pub tx_hash: Hash,
    /// The faucet's address, the same on every chain.
    pub from: AccountAddress,
}

/// Why nothing was given.
#[derive(Debug, thiserror::Error)]
pub enum FaucetError {
    /// The faucet would give to itself.
    #[error("This is the address of the faucet itself. Enter another one.")]
    ToItself,
    /// Nothing.
    #[error("Enter an amount greater than 0.")]
    AmountNotPositive,
    /// The chain itself.
    #[error(transparent)]
    Simulation(#[from] SimulationError),
}

impl From<DbErr> for FaucetError {
    fn from(error: DbErr) -> Self {
        SimulationError::from(error).into()
    }
}

impl Restart for FaucetError {
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Simulation(error) if error.is_conflict())
    }
}

/// Sends tokens, or the chain's own coin, from the faucet to an address.
///
/// # Errors
/// [`FaucetError`] says what to do instead. [`FaucetError::Simulation`] is ours.
pub async fn give(
    database: &DatabaseConnection,
    chain: &Chain,
    token: &Token,
    to: AccountAddress,
    units: Units,
) -> Result<Given, FaucetError> {
    let faucet = Payer::named("faucet")?;
    if faucet.address() == to {
        return Err(FaucetError::ToItself);
    }
    if units.is_zero() {
        return Err(FaucetError::AmountNotPositive);
    }
    transact!(database, |txn| {
        let locked = lock(txn, chain).await?;
        let nonce = sandbox_transaction::Entity::next_nonce(txn, &chain.slug, faucet.address()).await?;
        let terms = Terms { chain_id: chain.chain_id, nonce: unsigned(nonce)?, tip: Tip::Usual };
        let signed = sign(&faucet, terms, &Transfer { asset: token.asset, to, units, reference: None })?;
        let sent = Sent {
            chain: chain.slug.clone(),
            tx_hash: signed.hash,
            sender: faucet.address(),
            sender_nonce: nonce,
            transaction_json: written("transaction", &signed.envelope)?,
            gas_used: column(signed.gas_used)?,
            logs: written("list of logs", &signed.logs)?,
            not_before: locked.now,
            vanish_below_depth: None,
            pays_order: None,
            vanish_confirmed: false,
            replaces: None,
        };
        sandbox_transaction::Entity::send(txn, sent).await?;
        Ok(Given { tx_hash: signed.hash, from: faucet.address() })
    })
}
