//! The window of block hashes below a cursor that has just begun, or has skipped ahead while nothing was watched: without
//! it the first reorganisation would find nothing to go back to.

use std::time::{Duration, Instant};

use cryptopay_chain::Endpoint;
use cryptopay_domain::transfer::Block;
use cryptopay_entity::{chain_block, chain_cursor, transact};
use cryptopay_ledger::{Fence, LedgerError};

use super::{ScanError, health, reorg, signed_to_unsigned, watch};
use crate::context::{ChainAccess, Context};

/// Least patience with whoever is asked for the cursor's block.
const PATIENCE: Duration = Duration::from_secs(1);

/// Reads the headers below the cursor where they are not held yet. If the cursor's own block is no longer on the chain,
/// goes back to the oldest of them, and puts in doubt what stands above it, if anything does.
/// Says whether it has moved the cursor.
pub(super) async fn ensure(
    context: &Context,
    access: &ChainAccess,
    endpoint: &Endpoint,
    fence: &Fence,
) -> Result<bool, ScanError> {
    let slug = access.chain.slug.as_str();
    let height = signed_to_unsigned(fence.height);
    let held = chain_block::Entity::newest(&context.database, slug, 2).await?.len();
    // A chain's very first block has nothing below it, but it too has to be held.
    if held > 1 || (height == 0 && held > 0) {
        return Ok(false);
    }
    let from = height.saturating_sub(u64::from(access.chain.reorg_depth));
    let blocks: Vec<Block> = match endpoint.client().blocks(from..=height).await {
        Ok(headers) => headers.into_iter().map(|header| header.block).collect(),
        Err(error) => {
            // A node that has pruned them, or lags. The next scan asks again; meanwhile only depth is at risk.
            tracing::debug!(chain = slug, %error, "the headers below the cursor cannot be read yet");
            return Ok(false);
        }
    };
    if blocks.last().is_some_and(|block| block.hash == fence.hash) {
        let keep_from = i64::try_from(from).unwrap_or(0);
        transact!(&context.database, |txn| {
            // Read without the lock: by now another scanner may be on another branch.
            let cursor = chain_cursor::Entity::lock(txn, slug).await?;
            if cursor.is_none_or(|cursor| {
                (cursor.lease_epoch, cursor.height, cursor.hash) != (fence.epoch, fence.height, fence.hash)
            }) {
                return Err(LedgerError::Fenced);
            }
            chain_block::Entity::append(txn, slug, &blocks, keep_from).await?;
            Ok(())
        })?;
        return Ok(false);
    }
    let Some(oldest) = blocks.first() else { return Ok(false) };
    tracing::warn!(chain = slug, block = oldest.number, "the chain has reorganised while nothing was watched");
    reorg::rewind(context, access, fence, oldest).await?;
    Ok(true)
}

/// Brings a cursor back that has skipped to a block which nobody knows: a head that was made up, or of another chain. Nothing
/// below it is held, so that no branch can be found. When no endpoint has shown a block as new for longer than a lag
/// lasts, and those that may be asked do not hold that one, the chain is read from their head. Says whether it has moved
/// the cursor.
pub(super) async fn start_again(
    context: &Context,
    access: &ChainAccess,
    endpoint: &Endpoint,
    fence: &Fence,
    head: &Block,
) -> Result<bool, ScanError> {
    let slug = access.chain.slug.as_str();
    let height = signed_to_unsigned(fence.height);
    if head.number >= height || !access.state.is_behind(true, health::bearable_lag(access)) {
        return Ok(false);
    }
    if chain_block::Entity::newest(&context.database, slug, 2).await?.len() > 1 {
        return Ok(false);
    }
    for other in access.endpoints.iter().filter(|endpoint| endpoint.is_usable(Instant::now())) {
        let Ok(witness) = access.endpoints.witness_soon(other, &[height], PATIENCE).await else { return Ok(false) };
        if witness.blocks.first().copied().flatten().is_some_and(|block| block.hash == fence.hash) {
            return Ok(false);
        }
    }
    let Some(block) = watch::agreed(access, endpoint, head).await? else { return Ok(false) };
    tracing::error!(
        chain = slug,
        block_number = height,
        resumed_at = block.number,
        "no endpoint knows the block that the chain was skipped to; it is read from their head"
    );
    reorg::rewind(context, access, fence, &block).await?;
    Ok(true)
}
