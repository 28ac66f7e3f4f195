//! A development chain that began anew: everything of its former life is given up.

use std::collections::BTreeSet;

use cryptopay_domain::ids::TransferId;
use cryptopay_domain::registry::Chain;
use cryptopay_domain::transfer::TransferState;
use cryptopay_entity::{chain_block, chain_cursor, transfer};
use sea_orm::DatabaseTransaction;

use crate::error::LedgerError;
use crate::nudges::Nudges;
use crate::record::orders_of;
use crate::rederive::{Occasion, rederive};

/// Health of a chain that the scan has found to have begun anew.
const RESET: &str = "reset";

/// Gives up every transfer of a chain that was reset, derives its orders again, and deletes its cursor: the next scan begins
/// at the newest block. `None`, and nothing is changed, for a chain that was not reset.
pub async fn restart_chain(
    txn: &DatabaseTransaction,
    occasion: Occasion<'_>,
    chain: &Chain,
) -> Result<Option<Nudges>, LedgerError> {
    let cursor = chain_cursor::Entity::lock(txn, &chain.slug).await?;
    if cursor.is_none_or(|cursor| cursor.health != RESET) {
        return Ok(None);
    }
    let gone: Vec<TransferId> =
        transfer::Entity::not_orphaned(txn, &chain.slug).await?.into_iter().map(|row| row.id).collect();
    for state in [TransferState::Included, TransferState::Final, TransferState::Missing, TransferState::Unverifiable] {
        transfer::Entity::set_state(txn, gone.clone(), state, TransferState::Orphaned, None, occasion.now).await?;
    }
    let orders = orders_of(txn, gone).await?;
    let nudges = rederive(txn, occasion, &orders, &BTreeSet::new()).await?;
    // Height 0 is a block like any other.
    chain_block::Entity::drop_above(txn, &chain.slug, -1).await?;
    chain_cursor::Entity::delete(txn, &chain.slug).await?;
    Ok(Some(nudges))
}
