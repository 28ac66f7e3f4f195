//! Transfers that a reorganisation has put in doubt, and that the new branch did not bring back: a fresh query, at least
//! one poll later, decides whether they are gone. It needs no new block.

use std::time::{Duration, Instant};

use cryptopay_chain::{Endpoint, Inclusion};
use cryptopay_domain::ids::TransferId;
use cryptopay_entity::transact;
use cryptopay_entity::{chain_block, chain_cursor, clock, transfer};
use cryptopay_ledger::{Fence, Occasion};

use super::{POLL, ScanError, signed_to_unsigned};
use crate::context::{ChainAccess, Context};

/// Transfers looked at in one scan.
const BATCH: u64 = 100;
/// Least patience with another endpoint: the next look asks again.
const PATIENCE: Duration = Duration::from_secs(2);

/// Looks again for every transfer that has been missing for a poll, once the new branch is verified past its height (up to
/// the fence): before that nobody can know whether the branch holds it. Not to be asked of an endpoint that lags. Another
/// endpoint is asked where one is as far. If it is on another branch, nobody can say which is the chain's: the transfers stay
/// in doubt.
pub(super) async fn run(
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
    let ripe_before = clock::database_now(&context.database).await?.minus(POLL);
    let (ripe, fresh): (Vec<_>, Vec<_>) =
        missing.into_iter().partition(|row| row.missing_since.is_none_or(|since| since <= ripe_before));
    if !fresh.is_empty() {
        // Too early for a second look: come back when it is time, with or without a new block.
        context.queue.scan_after(slug, POLL);
    }
    let mut gone = Vec::new();
    let ripe: Vec<_> = ripe.into_iter().filter(|row| row.block_number <= fence.height).collect();
    if ripe.is_empty() {
        return Ok(());
    }
    let Some(witness) = another(access, endpoint, fence).await else { return Ok(()) };
    for row in ripe {
        let inclusion = witness.ask(witness.client().inclusion(row.tx_hash)).await?;
        if is_gone(context, access, inclusion).await? {
            gone.push(row.id);
        }
    }
    if gone.is_empty() {
        return Ok(());
    }
    orphan(context, access, gone).await
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

/// A transaction that no block holds is gone. One that stands in a block which we have scanned, without its transfer
/// having come back, has become another one, also where that block has left the window. One in a block that is still to be
/// scanned will come back by itself.
async fn is_gone(context: &Context, access: &ChainAccess, inclusion: Option<Inclusion>) -> Result<bool, ScanError> {
    let Some(inclusion) = inclusion else { return Ok(true) };
    let slug = access.chain.slug.as_str();
    let number = i64::try_from(inclusion.block_number).unwrap_or(i64::MAX);
    let cursor = chain_cursor::Entity::of(&context.database, slug).await?;
    if cursor.is_none_or(|cursor| cursor.height < number) {
        return Ok(false);
    }
    let ours = chain_block::Entity::numbered(&context.database, slug, [number]).await?;
    match ours.first() {
        Some(block) => Ok(block.hash == inclusion.block_hash),
        None => Ok(chain_block::Entity::oldest(&context.database, slug).await?.is_some_and(|oldest| number < oldest)),
    }
}

async fn orphan(context: &Context, access: &ChainAccess, gone: Vec<TransferId>) -> Result<(), ScanError> {
    crate::metrics::transfers_gone(&access.chain.slug, gone.len());
    tracing::warn!(chain = access.chain.slug, transfers = gone.len(), "transfers are gone after a reorganisation");
    let cause = format!("a second look at {} did not find the transfer", access.chain.slug);
    let nudges = transact!(&context.database, |txn| {
        let now = clock::business_now(txn).await?;
        let occasion = Occasion { registry: &context.registry, cause: &cause, now };
        cryptopay_ledger::orphan(txn, occasion, &access.chain, gone.clone()).await
    })?;
    context.queue.nudge(nudges);
    Ok(())
}
