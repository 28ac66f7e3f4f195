//! The window of block hashes below a cursor that has just begun, or has skipped ahead while nothing was watched: without
//! it the first reorganisation would find nothing to go back to.

use cryptopay_chain::Endpoint;
use cryptopay_domain::transfer::Block;
use cryptopay_entity::{chain_block, chain_cursor, clock, transact};
use cryptopay_ledger::{Fence, LedgerError, Occasion};

use super::{ScanError, signed_to_unsigned};
use crate::context::{ChainAccess, Context};

/// Reads the headers below the cursor where they are not held yet. If the cursor's own block is no longer on the chain,
/// moves the cursor to the oldest of them: nothing was watched between, so that nothing is credited twice.
/// Says whether it has moved the cursor.
pub(super) async fn ensure(
    context: &Context,
    access: &ChainAccess,
    endpoint: &Endpoint,
    fence: &Fence,
) -> Result<bool, ScanError> {
    let slug = access.chain.slug.as_str();
    let window = chain_block::Entity::window(&context.database, slug).await?;
    let height = signed_to_unsigned(fence.height);
    // A chain's very first block has nothing below it, but it too has to be held.
    if window.len() > 1 || (height == 0 && !window.is_empty()) {
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
    transact!(&context.database, |txn| {
        let now = clock::business_now(txn).await?;
        let occasion =
            Occasion { registry: &context.registry, cause: "a reorganisation while nothing was watched", now };
        cryptopay_ledger::skip_to(txn, occasion, fence, &access.chain, oldest).await
    })?;
    Ok(true)
}
