//! Deadlines. Nothing here looks at a wall clock: a deadline has passed when a block after it is verified.

use std::collections::BTreeSet;
use std::time::Duration;

use cryptopay_domain::registry::Chain;
use cryptopay_domain::reservation::COOL_DOWN;
use cryptopay_domain::time::Timestamp;
use cryptopay_entity::{amount_reservation, chain_cursor, payment_order, receiving_address};
use sea_orm::{ConnectionTrait, DatabaseTransaction};

use crate::error::LedgerError;
use crate::nudges::Nudges;
use crate::rederive::{Occasion, rederive};

/// Most rows that one pass handles; the next takes the rest.
const BATCH: u64 = 200;

/// What a pass over a chain's deadlines has done.
#[derive(Debug, Default)]
pub struct Passed {
    /// To be sent after commit.
    pub nudges: Nudges,
    /// Whether there may be more to do at once.
    pub more: bool,
}

/// Closes orders whose deadline a verified block has passed, and lets go of amounts that are no longer watched. The cursor
/// is locked, as by everything that locks several orders: a scan locks them block by block, not by id.
pub async fn pass_deadlines(
    txn: &DatabaseTransaction,
    occasion: Occasion<'_>,
    chain: &Chain,
) -> Result<Passed, LedgerError> {
    let Some(cursor) = chain_cursor::Entity::lock(txn, &chain.slug).await? else { return Ok(Passed::default()) };
    let due = payment_order::Entity::due_to_close(txn, &chain.slug, cursor.block_time, BATCH).await?;
    let full = |count: usize| u64::try_from(count).unwrap_or(u64::MAX) >= BATCH;
    let mut more = full(due.len());
    let nudges = rederive(txn, occasion, &due, &BTreeSet::new()).await?;

    let over = amount_reservation::Entity::due_for_release(txn, &chain.slug, cursor.block_time, BATCH).await?;
    more |= full(over.len());
    // The amounts of paid and short orders cool down like those of unpaid ones: a customer may pay a second time.
    let ids = over.iter().map(|row| row.id);
    amount_reservation::Entity::release(txn, ids, cursor.block_time, cursor.block_time.plus(COOL_DOWN)).await?;
    let cool = amount_reservation::Entity::due_to_free(txn, &chain.slug, cursor.block_time, BATCH).await?;
    more |= full(cool.len());
    amount_reservation::Entity::free(txn, cool, cursor.block_time).await?;
    Ok(Passed { nudges, more })
}

/// Reports whether `pass_deadlines` has anything to do: three index look-ups, no transaction.
pub async fn deadlines_due(connection: &impl ConnectionTrait, chain: &Chain) -> Result<bool, LedgerError> {
    let Some(cursor) = chain_cursor::Entity::of(connection, &chain.slug).await? else { return Ok(false) };
    let closing = payment_order::Entity::due_to_close(connection, &chain.slug, cursor.block_time, 1).await?;
    if !closing.is_empty() {
        return Ok(true);
    }
    let over = amount_reservation::Entity::due_for_release(connection, &chain.slug, cursor.block_time, 1).await?;
    if !over.is_empty() {
        return Ok(true);
    }
    let cool = amount_reservation::Entity::due_to_free(connection, &chain.slug, cursor.block_time, 1).await?;
    Ok(!cool.is_empty())
}

/// How long an address is watched at least after its wallet has changed: an order that read the wallet just before may
/// still be on its way into the database. No transaction lives nearly as long.
const SETTLING: Duration = Duration::from_secs(600);

/// Stops watching addresses that no wallet uses any more, once no order of theirs is watched by scanner time. `now` is
/// business time, which wallets are stamped with.
pub async fn release_addresses(txn: &DatabaseTransaction, chain: &Chain, now: Timestamp) -> Result<(), LedgerError> {
    let Some(cursor) = chain_cursor::Entity::of(txn, &chain.slug).await? else { return Ok(()) };
    for claim in receiving_address::Entity::unused(txn, &chain.slug, now.minus(SETTLING)).await? {
        let watched = payment_order::Entity::address_is_watched(
            txn,
            claim.merchant_id,
            &chain.slug,
            claim.address,
            cursor.block_time,
        )
        .await?;
        if !watched {
            receiving_address::Entity::release(txn, claim.id, cursor.block_time).await?;
        }
    }
    Ok(())
}
