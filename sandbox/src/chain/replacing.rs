//! Takes the newest blocks of a chain away and puts others in their place, one more than before, as a node does that
//! learns of a heavier fork.
//!
//! A transaction that stays on the chain stands one block higher afterwards, in a block of the same time as before (so
//! that it is neither earlier nor later), in reverse order (so that its logs have other indexes).

use std::collections::BTreeMap;
use std::time::Duration;

use cryptopay_domain::ids::OrderId;
use cryptopay_domain::order::OrderStatus;
use cryptopay_domain::registry::Chain;
use cryptopay_domain::time::Timestamp;
use cryptopay_entity::sandbox_transaction::Displaced;
use cryptopay_entity::{chain_cursor, payment_order, sandbox_block, sandbox_transaction};
use sea_orm::{DatabaseTransaction, DbErr, EntityTrait};

use crate::chain::block::{Draft, build};
use crate::chain::mining::{Locked, add};
use crate::error::SimulationError;

/// How long no block is mined because the scanner has not yet seen a transaction that is to vanish.
const PATIENCE: Duration = Duration::from_secs(60);
/// How many block times a vanished transaction stays away, long enough for the scanner to miss it.
const AWAY_BLOCKS: u32 = 3;
/// And at least this long.
const AWAY_AT_LEAST: Duration = Duration::from_secs(5);

/// The newest blocks of a chain, all of them at hand.
pub(crate) struct Top {
    /// The block below, which stays.
    parent: sandbox_block::Model,
    /// Times of the blocks above it, ascending.
    times: Vec<Timestamp>,
}

/// What becomes of a transaction in a replaced block.
pub(crate) enum Fate {
    /// It is in the new blocks too.
    Stays,
    /// It is not.
    Leaves(Displaced),
}

/// What there was to do about transactions that are to vanish.
pub(crate) enum Vanishing {
    /// Nothing.
    Nothing,
    /// The scanner has not seen one of them yet, so no block is mined.
    Awaited,
    /// One has just vanished; this is the newest block now.
    Done(sandbox_block::Model),
}

/// How long a transaction that vanished waits before it is mined again.
pub(crate) fn away(chain: &Chain) -> Duration {
    chain.block_time.saturating_mul(AWAY_BLOCKS).max(AWAY_AT_LEAST)
}

/// The newest `depth` blocks; `None` where the chain does not reach that deep, or has forgotten such blocks.
pub(crate) async fn top(
    txn: &DatabaseTransaction,
    head: &sandbox_block::Model,
    depth: i64,
) -> Result<Option<Top>, SimulationError> {
    let parent = head.number.saturating_sub(depth);
    let Some(parent) = sandbox_block::Entity::at(txn, &head.chain, parent).await? else { return Ok(None) };
    let above = parent.number.saturating_add(1)..=head.number;
    let times = sandbox_block::Entity::times(txn, &head.chain, above).await?;
    let complete = i64::try_from(times.len()) == Ok(depth);
    Ok(complete.then(|| Top { parent, times: times.into_iter().map(|(_, time)| time).collect() }))
}

/// How many of the newest blocks can be replaced, at most `most`.
pub(crate) async fn deepest(
    txn: &DatabaseTransaction,
    head: &sandbox_block::Model,
    most: u32,
) -> Result<u32, SimulationError> {
    let range = head.number.saturating_sub(i64::from(most)).max(0)..=head.number;
    let kept = sandbox_block::Entity::times(txn, &head.chain, range).await?;
    let unbroken = kept.iter().rev().zip((0..=head.number).rev()).take_while(|((number, _), wanted)| number == wanted);
    Ok(u32::try_from(unbroken.count()).unwrap_or(most).saturating_sub(1))
}

/// Replaces blocks by as many others and one more; the newest block.
pub(crate) async fn replace(
    txn: &DatabaseTransaction,
    top: Top,
    fate: impl Fn(&sandbox_transaction::Model) -> Fate + Sync,
) -> Result<sandbox_block::Model, SimulationError> {
    let Top { parent, times } = top;
    let first = parent.number.checked_add(1).ok_or(SimulationError::OutOfRange)?;
    let mut staying: BTreeMap<i64, Vec<sandbox_transaction::Model>> = BTreeMap::new();
    for transaction in sandbox_transaction::Entity::in_blocks(txn, &parent.chain, first..=i64::MAX).await? {
        match fate(&transaction) {
            Fate::Stays => {
                let number = transaction.block_number.ok_or(SimulationError::Incomplete("transaction"))?;
                staying.entry(number.saturating_add(1)).or_default().insert(0, transaction);
            }
            Fate::Leaves(after) => sandbox_transaction::Entity::displace(txn, transaction.id, after).await?,
        }
    }
    sandbox_block::Entity::remove_from(txn, &parent.chain, first).await?;

    let mut newest = parent.clone();
    let mut rows = Vec::with_capacity(times.len().saturating_add(1));
    let mut places = Vec::new();
    for time in std::iter::once(parent.block_time).chain(times) {
        let number = newest.number.checked_add(1).ok_or(SimulationError::OutOfRange)?;
        let transactions = staying.remove(&number).unwrap_or_default();
        let draft = Draft { chain: &parent.chain, number, parent: newest.hash, time, transactions: &transactions };
        let built = build(&draft)?;
        newest = built.row.clone();
        rows.push(built.row);
        places.extend(built.places);
    }
    add(txn, rows).await?;
    for place in places {
        sandbox_transaction::Entity::place(txn, place).await?;
    }
    tracing::info!(chain = newest.chain, from = first, to = newest.number, "simulated chain reorganised");
    Ok(newest)
}

/// Lets a transaction that is to vanish do so: as soon as the scanner has seen it in its block (until then no further block
/// is mined, so that it cannot be confirmed meanwhile), or once it has confirmed its order, as the plan is. Gives up where
/// nobody scans, or where it lies too deep. What vanishes comes back later, or what replaces it does.
pub(crate) async fn settle_vanishing(
    txn: &DatabaseTransaction,
    chain: &Chain,
    Locked { head, now }: &Locked,
) -> Result<Vanishing, SimulationError> {
    let vanishing = sandbox_transaction::Entity::vanishing(txn, &chain.slug).await?;
    if vanishing.is_empty() {
        return Ok(Vanishing::Nothing);
    }
    let seen = chain_cursor::Entity::of(txn, &chain.slug).await?.map_or(-1, |cursor| cursor.height);
    let mut awaited = false;
    for transaction in vanishing {
        let (Some(number), Some(below_depth)) = (transaction.block_number, transaction.vanish_below_depth) else {
            return Err(SimulationError::Incomplete("transaction"));
        };
        let depth = head.number.saturating_sub(number).saturating_add(1);
        let in_time = depth < below_depth;
        let is_ripe = match transaction.pays_order {
            Some(order) if transaction.vanish_confirmed => is_confirmed(txn, order).await?,
            _ => Some(seen >= number),
        };
        if in_time && is_ripe == Some(true) {
            if let Some(top) = top(txn, head, depth).await? {
                let back_at = now.plus(away(chain));
                let replaced = sandbox_transaction::Entity::send_replacement(txn, transaction.id, back_at).await?;
                let newest = replace(txn, top, |other| match other.id == transaction.id {
                    false => Fate::Stays,
                    true if replaced => Fate::Leaves(Displaced::Dropped(*now)),
                    true => Fate::Leaves(Displaced::WaitsUntil(back_at)),
                });
                return Ok(Vanishing::Done(newest.await?));
            }
        } else if in_time && is_ripe == Some(false) && transaction.vanish_confirmed {
            // Blocks have to go on, or it is never confirmed.
            continue;
        } else if in_time && is_ripe == Some(false) && *now < head.block_time.plus(PATIENCE) {
            awaited = true;
            continue;
        }
        sandbox_transaction::Entity::stay(txn, transaction.id).await?;
    }
    Ok(if awaited { Vanishing::Awaited } else { Vanishing::Nothing })
}

/// Whether an order is confirmed, and that was announced; `None` for one that is no more.
async fn is_confirmed(txn: &DatabaseTransaction, order: OrderId) -> Result<Option<bool>, DbErr> {
    let order = payment_order::Entity::find_by_id(order).one(txn).await?;
    Ok(order.map(|order| order.status == OrderStatus::Confirmed && order.announced_generation == order.generation))
}
