//! Back to where the chain still agrees with what we hold.

use cryptopay_chain::{ChainError, Endpoint};
use cryptopay_domain::transfer::Block;
use cryptopay_entity::transact;
use cryptopay_entity::{chain_block, chain_cursor, clock};
use cryptopay_ledger::{Fence, Occasion};
use futures_util::future::BoxFuture;

use super::{ScanError, resync, signed_to_unsigned};
use crate::context::{ChainAccess, Context};

/// Headers that are compared at once.
const STRIDE: usize = 16;

/// Whether a block at or below our height is part of the chain that we hold.
pub(super) async fn is_on_our_chain(context: &Context, access: &ChainAccess, block: &Block) -> Result<bool, ScanError> {
    let number = i64::try_from(block.number).unwrap_or(i64::MAX);
    let ours = chain_block::Entity::numbered(&context.database, &access.chain.slug, [number]).await?;
    match ours.first() {
        Some(row) => Ok(row.hash == block.hash),
        // Below the window: an endpoint that far behind says nothing about our blocks.
        None => Ok(true),
    }
}

/// Refuses a chain that began anew: times only grow on one chain, so a lower block that is younger than the verified one is of
/// another. To be asked only where no kept block is known to be on the endpoint's chain.
pub(super) async fn refuse_reset(
    context: &Context,
    access: &ChainAccess,
    fence: &Fence,
    head: &Block,
) -> Result<(), ScanError> {
    let slug = access.chain.slug.as_str();
    let verified = chain_cursor::Entity::of(&context.database, slug).await?;
    let is_reset = head.number < signed_to_unsigned(fence.height)
        && verified.is_some_and(|verified| verified.hash == fence.hash && head.time > verified.block_time);
    let (chain, head, height) = (slug.to_owned(), head.number, fence.height);
    if is_reset { Err(ScanError::Reset { chain, head, height }) } else { Ok(()) }
}

/// Finds the newest block that both have and rewinds to it.
pub(super) async fn go_back(
    context: &Context,
    access: &ChainAccess,
    endpoint: &Endpoint,
    fence: &Fence,
    head: &Block,
) -> Result<(), ScanError> {
    let slug = access.chain.slug.as_str();
    let window = chain_block::Entity::window(&context.database, slug).await?;
    let candidates: Vec<&chain_block::Model> = window
        .iter()
        .filter(|row| row.number <= fence.height && signed_to_unsigned(row.number) <= head.number)
        .collect();
    for rows in candidates.chunks(STRIDE) {
        let (Some(newest), Some(oldest)) = (rows.first(), rows.last()) else { continue };
        let range = signed_to_unsigned(oldest.number)..=signed_to_unsigned(newest.number);
        let theirs = endpoint.ask(endpoint.client().blocks(range)).await?;
        let common = rows.iter().find_map(|row| {
            theirs.iter().find(|block| signed_to_unsigned(row.number) == block.number && row.hash == block.hash)
        });
        if let Some(ancestor) = common {
            if ancestor.hash == fence.hash {
                // Our newest block is on their chain, and yet the next one does not follow it: several nodes behind one
                // address, on different branches. Going back to where we are would only go in circles.
                return Err(ChainError::BrokenLink { number: ancestor.number.saturating_add(1) }.into());
            }
            return rewind(context, access, fence, ancestor).await;
        }
    }
    refuse_reset(context, access, fence, head).await?;
    resync::run(context, access, endpoint, fence, &window).await
}

/// Goes back to `ancestor`, where a reorganisation began, and puts in doubt what stood above it.
pub(super) async fn rewind(
    context: &Context,
    access: &ChainAccess,
    fence: &Fence,
    ancestor: &Block,
) -> Result<(), ScanError> {
    let slug = access.chain.slug.as_str();
    let depth = signed_to_unsigned(fence.height).saturating_sub(ancestor.number);
    crate::metrics::reorganised(slug);
    tracing::warn!(chain = slug, ancestor = ancestor.number, depth, "the chain has reorganised");
    let cause = format!("a reorganisation of {slug} after block {}", ancestor.number);
    go_back_to(context, access, fence, ancestor, &cause).await
}

/// Reads the chain again from block `number` on, which holds something else than was read: the chain is the same. Nothing to
/// do where the block below it is not held any more.
pub(super) async fn read_again(
    context: &Context,
    access: &ChainAccess,
    fence: &Fence,
    number: i64,
) -> Result<(), ScanError> {
    let slug = access.chain.slug.as_str();
    let below = chain_block::Entity::numbered(&context.database, slug, [number.saturating_sub(1)]).await?.pop();
    let Some(below) = below.filter(|below| below.number < fence.height) else {
        tracing::error!(chain = slug, block_number = number, "a block was misread that is too old to be read again");
        return Ok(());
    };
    tracing::error!(chain = slug, block_number = number, "a block was misread; the chain is read again from there");
    let cause = format!("block {number} of {slug} is read again");
    go_back_to(context, access, fence, &below.block(), &cause).await
}

fn go_back_to<'a>(
    context: &'a Context,
    access: &'a ChainAccess,
    fence: &'a Fence,
    ancestor: &'a Block,
    cause: &'a str,
) -> BoxFuture<'a, Result<(), ScanError>> {
    Box::pin(write_back(context, access, fence, ancestor, cause))
}

async fn write_back(
    context: &Context,
    access: &ChainAccess,
    fence: &Fence,
    ancestor: &Block,
    cause: &str,
) -> Result<(), ScanError> {
    let nudges = transact!(&context.database, |txn| {
        let now = clock::business_now(txn).await?;
        let seen_at = clock::database_now(txn).await?;
        let occasion = Occasion { registry: &context.registry, cause, now };
        cryptopay_ledger::rewind(txn, occasion, fence, &access.chain, ancestor, seen_at).await
    })?;
    context.queue.nudge(nudges);
    Ok(())
}
