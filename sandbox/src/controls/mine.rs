//! Mines blocks now.

use cryptopay_domain::registry::Chain;
use cryptopay_entity::transact;
use cryptopay_entity::txn::Restart;
use sea_orm::{DatabaseConnection, DbErr};

use crate::SimulationError;
use crate::chain::mining::{Locked, lock, mine_blocks};
use crate::chain::replacing::{Vanishing, settle_vanishing};
use crate::error::unsigned;

/// Most blocks of one call.
pub const MAX_MINED_BLOCKS: u32 = 10_000;

/// The blocks that were mined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mined {
    /// Height of the first.
    pub from: u64,
    /// Height of the last.
    pub to: u64,
}

/// Why nothing was mined.
#[derive(Debug, thiserror::Error)]
pub enum MineError {
    /// None, or too many.
    #[error("Enter a number of blocks from 1 to {MAX_MINED_BLOCKS}.")]
    BlocksOutOfRange,
    /// The chain itself.
    #[error(transparent)]
    Simulation(#[from] SimulationError),
}

impl From<DbErr> for MineError {
    fn from(error: DbErr) -> Self {
        SimulationError::from(error).into()
    }
}

impl Restart for MineError {
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Simulation(error) if error.is_conflict())
    }
}

/// Mines `blocks` blocks now, due or not. Transactions that wait go into the first. All are stamped with business time,
/// or with the time of the block before if that is later, never beyond: payments do not become late by mining.
///
/// # Errors
/// [`MineError::BlocksOutOfRange`] for none or more than [`MAX_MINED_BLOCKS`].
pub async fn mine(database: &DatabaseConnection, chain: &Chain, blocks: u32) -> Result<Mined, MineError> {
    if !(1..=MAX_MINED_BLOCKS).contains(&blocks) {
        return Err(MineError::BlocksOutOfRange);
    }
    transact!(database, |txn| {
        let mut locked = lock(txn, chain).await?;
        if let Vanishing::Done(head) = settle_vanishing(txn, chain, &locked).await? {
            locked = Locked { head, ..locked };
        }
        let newest = mine_blocks(txn, chain, &locked, blocks).await?;
        Ok(Mined { from: unsigned(locked.head.number)?.saturating_add(1), to: unsigned(newest.number)? })
    })
}
