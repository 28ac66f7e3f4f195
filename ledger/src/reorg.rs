//! When the chain changes its mind.
//!
//! A transfer above the common ancestor becomes `missing` at once and `orphaned` only when a second look agrees; scanning
//! the new branch includes it again if it is there.

use std::collections::BTreeSet;

use cryptopay_domain::ids::TransferId;
use cryptopay_domain::registry::Chain;
use cryptopay_domain::time::Timestamp;
use cryptopay_domain::transfer::{Block, TransferState};
use cryptopay_entity::{chain_block, chain_cursor, clock, transfer};
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter};

use crate::error::LedgerError;
use crate::nudges::Nudges;
use crate::record::{Fence, orders_of};
use crate::rederive::{Occasion, rederive};
use crate::view::signed;

/// Moves the cursor back to `ancestor` and puts every transfer above it in doubt. `seen_at` is the database's clock.
pub async fn rewind(
    txn: &DatabaseTransaction,
    occasion: Occasion<'_>,
    fence: &Fence,
    chain: &Chain,
    ancestor: &Block,
    seen_at: Timestamp,
) -> Result<Nudges, LedgerError> {
    use chain_cursor::Column;
    let height = signed(ancestor.number);
    let moved = chain_cursor::Entity::update_many()
        .col_expr(Column::Height, Expr::value(height))
        .col_expr(Column::Hash, Expr::value(ancestor.hash))
        .col_expr(Column::BlockTime, Expr::value(ancestor.time))
        .col_expr(Column::UpdatedAt, clock::database_now_expr(txn))
        .filter(Column::Chain.eq(chain.slug.as_str()))
        .filter(Column::LeaseEpoch.eq(fence.epoch))
        .filter(Column::Height.eq(fence.height))
        .filter(Column::Hash.eq(fence.hash))
        .exec(txn)
        .await?;
    if moved.rows_affected != 1 {
        return Err(LedgerError::Fenced);
    }
    chain_block::Entity::drop_above(txn, &chain.slug, height).await?;
    let doubted: Vec<TransferId> =
        transfer::Entity::above(txn, &chain.slug, height).await?.into_iter().map(|row| row.id).collect();
    // What was final is as doubtful: this goes back as far as the window reaches, or farther.
    for state in [TransferState::Included, TransferState::Final] {
        let missing = TransferState::Missing;
        transfer::Entity::set_state(txn, doubted.clone(), state, missing, Some(seen_at), occasion.now).await?;
    }
    // A report never counted: the new branch brings it again, or not.
    let (aside, orphaned) = (TransferState::Unverifiable, TransferState::Orphaned);
    transfer::Entity::set_state(txn, doubted.clone(), aside, orphaned, None, occasion.now).await?;
    let orders = orders_of(txn, doubted).await?;
    rederive(txn, occasion, &orders, &BTreeSet::new()).await
}

/// What a second look at transfers in doubt has shown.
#[derive(Debug, Clone, Default)]
pub struct SecondLook {
    /// The chain holds these, in these blocks, although reading them has not shown them.
    pub found: Vec<(TransferId, Block)>,
    /// Nobody shows these.
    pub gone: Vec<TransferId>,
}

/// Takes transfers out of doubt that a second look has found, and gives up those that it has not found either. Only ones that
/// are still missing are touched; how far the new branch is scanned does not matter, so that a payment which is gone is known
/// to be gone without a new block.
pub async fn settle_doubts(
    txn: &DatabaseTransaction,
    occasion: Occasion<'_>,
    chain: &Chain,
    seen: &SecondLook,
) -> Result<Nudges, LedgerError> {
    let SecondLook { found, gone } = seen;
    chain_cursor::Entity::lock(txn, &chain.slug).await?;
    for (id, block) in found {
        transfer::Entity::reinstate(txn, *id, block, occasion.now).await?;
    }
    let (missing, orphaned) = (TransferState::Missing, TransferState::Orphaned);
    transfer::Entity::set_state(txn, gone.clone(), missing, orphaned, None, occasion.now).await?;
    let settled = found.iter().map(|(id, _)| *id).chain(gone.iter().copied()).collect();
    let orders = orders_of(txn, settled).await?;
    rederive(txn, occasion, &orders, &BTreeSet::new()).await
}

/// Puts transfers in doubt that nobody shows any more where they were read, without a reorganisation: a second look decides.
/// What is final stays. `seen_at` is the database's clock.
pub async fn doubt(
    txn: &DatabaseTransaction,
    occasion: Occasion<'_>,
    chain: &Chain,
    unshown: Vec<TransferId>,
    seen_at: Timestamp,
) -> Result<Nudges, LedgerError> {
    chain_cursor::Entity::lock(txn, &chain.slug).await?;
    let (included, missing) = (TransferState::Included, TransferState::Missing);
    transfer::Entity::set_state(txn, unshown.clone(), included, missing, Some(seen_at), occasion.now).await?;
    let orders = orders_of(txn, unshown).await?;
    rederive(txn, occasion, &orders, &BTreeSet::new()).await
}
