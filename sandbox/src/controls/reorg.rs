//! Reorganises a chain.

use cryptopay_domain::registry::Chain;
use cryptopay_entity::sandbox_transaction::Displaced;
use cryptopay_entity::transact;
use cryptopay_entity::txn::Restart;
use sea_orm::{DatabaseConnection, DbErr};

use crate::SimulationError;
use crate::chain::mining::lock;
use crate::chain::replacing::{Fate, deepest, replace, top};
use crate::error::unsigned;

/// Most blocks that are replaced at once.
pub const MAX_REORG_DEPTH: u32 = 10_000;

/// What becomes of the transactions in the replaced blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepTransactions {
    /// They are in the new blocks too: one block higher, at the same time, in reverse order.
    Yes,
    /// They are gone for good.
    No,
}

/// The blocks that are new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reorganised {
    /// Height of the first.
    pub from: u64,
    /// Height of the last: one more than the head before.
    pub to: u64,
}

/// Why nothing was reorganised.
#[derive(Debug, thiserror::Error)]
pub enum ReorgError {
    /// None, or too many.
    #[error("Enter a depth from 1 to {MAX_REORG_DEPTH}.")]
    DepthOutOfRange,
    /// The chain is younger than that, or has forgotten such old blocks.
    #[error(
        "At most the newest {deepest} blocks of this chain can be replaced. Enter a smaller depth, or mine some blocks first."
    )]
    TooDeep {
        /// How many can be.
        deepest: u32,
    },
    /// The chain itself.
    #[error(transparent)]
    Simulation(#[from] SimulationError),
}

impl From<DbErr> for ReorgError {
    fn from(error: DbErr) -> Self {
        SimulationError::from(error).into()
    }
}

impl Restart for ReorgError {
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Simulation(error) if error.is_conflict())
    }
}

/// Replaces the newest `depth` blocks by `depth` + 1 others, in one transaction. The first block of a chain stays.
///
/// # Errors
/// [`ReorgError::DepthOutOfRange`] or [`ReorgError::TooDeep`].
pub async fn reorg(
    database: &DatabaseConnection,
    chain: &Chain,
    depth: u32,
    keep: KeepTransactions,
) -> Result<Reorganised, ReorgError> {
    if !(1..=MAX_REORG_DEPTH).contains(&depth) {
        return Err(ReorgError::DepthOutOfRange);
    }
    transact!(database, |txn| {
        let locked = lock(txn, chain).await?;
        let Some(top) = top(txn, &locked.head, i64::from(depth)).await? else {
            return Err(ReorgError::TooDeep { deepest: deepest(txn, &locked.head, MAX_REORG_DEPTH).await? });
        };
        let newest = replace(txn, top, |_| match keep {
            KeepTransactions::Yes => Fate::Stays,
            KeepTransactions::No => Fate::Leaves(Displaced::Dropped(locked.now)),
        })
        .await?;
        let to = unsigned(newest.number)?;
        Ok(Reorganised { from: to.saturating_sub(u64::from(depth)), to })
    })
}
