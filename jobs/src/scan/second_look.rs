//! Transfers that a reorganisation has put in doubt, and that the new branch did not bring back, and such as no endpoint shows
//! where they were read: a fresh query, at least one poll later, decides whether they are gone. It needs no new block.

use std::time::{Duration, Instant};

use cryptopay_chain::{Endpoint, Inclusion};
use cryptopay_domain::transfer::Block;
use cryptopay_entity::transact;
use cryptopay_entity::{chain_block, chain_cursor, clock, transfer};
use cryptopay_ledger::{Fence, Occasion, SecondLook};
use futures_util::future::BoxFuture;

use super::{POLL, ScanError, reorg, signed_to_unsigned};
use crate::context::{ChainAccess, Context};
use crate::vouching::{block_of, makes};

/// Transfers looked at in one scan.
const BATCH: u64 = 100;
/// Least patience with another endpoint: the next look asks again.
const PATIENCE: Duration = Duration::from_secs(2);

/// Looks again for every transfer that has been missing for a poll, once the new branch is verified past its height (up to
/// the fence): before that nobody can know whether the branch holds it. Not to be asked of an endpoint that lags. Another
/// endpoint is asked where one is as far. If it is on another branch, nobody can say which is the chain's: the transfers stay
/// in doubt.
///
/// On the heap, as what is seldom needed: a look would take as much more of its thread's stack.
pub(super) fn run<'a>(
    context: &'a Context,
    access: &'a ChainAccess,
    endpoint: &'a Endpoint,
    fence: &'a Fence,
) -> BoxFuture<'a, Result<(), ScanError>> {
    Box::pin(look_again(context, access, endpoint, fence))
}

async fn look_again(
    context: &Context,
    access: &ChainAccess,
    endpoint: &Endpoint,
    fence: &Fence,
) -> Result<(), ScanError> {
    let slug = access.chain.slug.as_str();
    let missing = transfer::Entity::missing(&context.database, slug, BATCH).await?;
    if missing.is_empty() {
        return Ok(());
    }
    let now = clock::database_now(&context.database).await?;
    // One of the future is of a time before the clock was set back.
    let is_ripe = |since| since <= now.minus(POLL) || since > now;
    let (ripe, fresh): (Vec<_>, Vec<_>) = missing.into_iter().partition(|row| row.missing_since.is_none_or(is_ripe));
    if !fresh.is_empty() {
        // Too early for a second look: come back when it is time, with or without a new block.
        context.queue.scan_after(slug, POLL);
    }
    let (mut seen, mut misread) = (SecondLook::default(), None);
    let ripe: Vec<_> = ripe.into_iter().filter(|row| row.block_number <= fence.height).collect();
    if ripe.is_empty() {
        return Ok(());
    }
    let Some(witness) = another(access, endpoint, fence).await else { return Ok(()) };
    for row in ripe {
        let inclusion = witness.ask(witness.client().inclusion(row.tx_hash)).await?;
        match look(context, access, witness, &row, inclusion).await? {
            Look::Gone => {
                if stands(context, &row).await? {
                    misread = misread.into_iter().chain([row.block_number]).min();
                }
                seen.gone.push(row.id);
            }
            Look::Found(block) => seen.found.push((row.id, block)),
            Look::Undecided => {}
        }
    }
    settled(context, access, &seen).await?;
    if let Some(number) = misread {
        // Whoever has added or altered something there may have left out as much.
        reorg::read_again(context, access, fence, number).await?;
        context.queue.scan_after(slug, POLL);
    }
    Ok(())
}

/// Whether the block that a transfer was read in is the chain's still, as far as the window reaches: then no reorganisation has
/// removed it.
async fn stands(context: &Context, row: &transfer::Model) -> Result<bool, ScanError> {
    let ours = chain_block::Entity::numbered(&context.database, &row.chain, [row.block_number]).await?;
    Ok(ours.iter().any(|block| (block.number, block.hash) == block_of(row)))
}

/// Another endpoint that holds the newest verified block; the one in use where the others are away or have no block there.
/// `None` while another one names a different block, or may be able to say in a moment.
async fn another<'a>(access: &'a ChainAccess, endpoint: &'a Endpoint, fence: &Fence) -> Option<&'a Endpoint> {
    let alone = || (!access.endpoints.is_another_near(Instant::now(), endpoint)).then_some(endpoint);
    let Some(second) = access.endpoints.second(Instant::now(), endpoint) else { return alone() };
    let witness = access.endpoints.witness_soon(second, &[signed_to_unsigned(fence.height)], PATIENCE).await;
    let Ok(witness) = witness else { return alone() };
    match witness.blocks.first().copied().flatten() {
        Some(block) if block.hash == fence.hash => Some(second),
        Some(block) => {
            tracing::warn!(
                chain = access.chain.slug,
                endpoint = second.name(),
                block_number = block.number,
                "an endpoint names another block than the verified one; what a reorganisation has removed stays in doubt"
            );
            None
        }
        None => Some(endpoint),
    }
}

/// What a second look at a transfer has shown.
enum Look {
    Gone,
    Found(Block),
    Undecided,
}

/// A transaction that no block holds is gone. One that stands in a block which we have scanned, and makes the transfer no
/// more, has become another one, also where that block has left the window. One that still makes it there was overlooked:
/// nobody reads that block again. One in a block that is still to be scanned will come back by itself.
async fn look(
    context: &Context,
    access: &ChainAccess,
    witness: &Endpoint,
    row: &transfer::Model,
    inclusion: Option<Inclusion>,
) -> Result<Look, ScanError> {
    let Some(inclusion) = inclusion else { return Ok(Look::Gone) };
    let slug = access.chain.slug.as_str();
    let number = i64::try_from(inclusion.block_number).unwrap_or(i64::MAX);
    let cursor = chain_cursor::Entity::of(&context.database, slug).await?;
    if cursor.is_none_or(|cursor| cursor.height < number) {
        return Ok(Look::Undecided);
    }
    let ours = chain_block::Entity::numbered(&context.database, slug, [number]).await?.pop();
    let is_scanned = match &ours {
        Some(block) => block.hash == inclusion.block_hash,
        None => chain_block::Entity::oldest(&context.database, slug).await?.is_some_and(|oldest| number < oldest),
    };
    if !is_scanned {
        return Ok(Look::Undecided);
    }
    let rows = transfer::Entity::held_of(&context.database, slug, row.tx_hash).await?;
    if !inclusion.succeeded || !makes(&inclusion, row, rows.iter()) {
        return Ok(Look::Gone);
    }
    let block = match ours {
        Some(ours) => Some(ours.block()),
        None => witness.ask(witness.client().block(inclusion.block_number)).await?,
    };
    Ok(block.filter(|block| block.hash == inclusion.block_hash).map_or(Look::Undecided, Look::Found))
}

fn settled<'a>(
    context: &'a Context,
    access: &'a ChainAccess,
    seen: &'a SecondLook,
) -> BoxFuture<'a, Result<(), ScanError>> {
    Box::pin(settle(context, access, seen))
}

/// Writes down what was seen.
async fn settle(context: &Context, access: &ChainAccess, seen: &SecondLook) -> Result<(), ScanError> {
    let slug = access.chain.slug.as_str();
    let (found, gone) = (seen.found.len(), seen.gone.len());
    if found == 0 && gone == 0 {
        return Ok(());
    }
    let cause = format!("a second look at {slug}");
    let nudges = transact!(&context.database, |txn| {
        let now = clock::business_now(txn).await?;
        let occasion = Occasion { registry: &context.registry, cause: &cause, now };
        cryptopay_ledger::settle_doubts(txn, occasion, &access.chain, seen).await
    })?;
    if found > 0 {
        tracing::warn!(chain = slug, transfers = found, "transfers stand in blocks whose reading did not show them");
    }
    if gone > 0 {
        crate::metrics::transfers_gone(slug, gone);
        tracing::warn!(chain = slug, transfers = gone, "transfers are gone");
    }
    context.queue.nudge(nudges);
    Ok(())
}
