//! From the cursor towards the head: ranges are read ahead, and each is committed in a transaction of its own.

use cryptopay_chain::{ChainError, Endpoint, Tip};
use cryptopay_domain::transfer::Block;
use cryptopay_entity::clock;
use cryptopay_entity::transact;
use cryptopay_ledger::{Batch, Fence, LedgerError, Occasion};

use super::ahead::{Ahead, Range, Source};
use super::health::{Seen, note_backlog};
use super::lease::{is_due, keeping_the_lease, lease};
use super::watch::WatchList;
use super::{Latest, ScanError, Step, final_height, reorg, signed_to_unsigned};
use crate::context::{ChainAccess, Context};

/// Where a step leads, and through whom.
#[derive(Clone, Copy)]
pub(super) struct Way<'a> {
    pub(super) endpoint: &'a Endpoint,
    pub(super) tip: &'a Tip,
    pub(super) watch: &'a WatchList,
    pub(super) latest: Latest,
}

/// Reads up to the head, or finds out that there is nothing to read.
pub(super) async fn advance(
    context: &Context,
    access: &ChainAccess,
    way: Way<'_>,
    fence: &mut Fence,
    seen: &mut Seen,
) -> Result<Step, ScanError> {
    let Way { endpoint, tip, watch, latest } = way;
    let height = signed_to_unsigned(fence.height);
    if tip.head.number <= height {
        // A shorter chain: either the endpoint lags behind what we have verified, or those blocks are gone.
        let ours = reorg::is_on_our_chain(context, access, &tip.head).await?;
        return Ok(if ours { Step::Lagging } else { Step::Reorganised });
    }
    let source = Source { access, endpoint, watch, head: &tip.head };
    let mut ahead = Ahead::new(source, height.saturating_add(1));
    loop {
        let Some(read) = keeping_the_lease(context, access, &seen.stop, ahead.next()).await else {
            return Ok(Step::Stopped);
        };
        let Some(read) = read else { return Ok(Step::Advanced) };
        let range = match read {
            Ok(range) => range,
            Err(ScanError::Chain(ChainError::RangeTooLarge { limit })) if endpoint.span.blocks() > 1 => {
                endpoint.span.shrink(limit);
                return Ok(Step::Advanced);
            }
            Err(error) => {
                if let ScanError::Chain(too_large @ ChainError::RangeTooLarge { .. }) = &error {
                    // There is no smaller question: an endpoint that refuses this one is no use for now.
                    endpoint.refused(too_large);
                }
                return Err(error);
            }
        };
        if range.blocks.first().is_none_or(|block| block.parent != fence.hash) {
            return Ok(Step::Reorganised);
        }
        latest.check(endpoint, &range.blocks)?;
        if is_due(access) {
            match lease(context, access).await? {
                Some(renewed) if (renewed.height, renewed.hash) == (fence.height, fence.hash) => *fence = renewed,
                Some(_) => return Err(LedgerError::Fenced.into()),
                None => return Ok(Step::Elsewhere),
            }
        }
        if let Some(last) = commit(context, access, fence, tip, &range).await? {
            *fence = Fence { height: i64::try_from(last.number).unwrap_or(i64::MAX), hash: last.hash, ..*fence };
        }
        endpoint.span.grow();
        seen.moved = true;
        note_backlog(context, access, seen, fence.height, tip.head.number).await?;
    }
}

/// Writes a range; gives its last block.
async fn commit(
    context: &Context,
    access: &ChainAccess,
    fence: &Fence,
    tip: &Tip,
    range: &Range,
) -> Result<Option<Block>, ScanError> {
    let (Some(first), Some(last)) = (range.blocks.first(), range.blocks.last()) else { return Ok(None) };
    let batch = Batch {
        chain: &access.chain,
        blocks: &range.blocks,
        transfers: &range.transfers,
        head_height: tip.head.number,
        final_height: final_height(tip),
    };
    let cause = format!("blocks {} to {} of {} were scanned", first.number, last.number, access.chain.slug);
    let nudges = transact!(&context.database, |txn| {
        let now = clock::business_now(txn).await?;
        let occasion = Occasion { registry: &context.registry, cause: &cause, now };
        cryptopay_ledger::record_batch(txn, occasion, fence, batch).await
    })?;
    if !range.transfers.is_empty() {
        let transfers = range.transfers.len();
        tracing::info!(chain = access.chain.slug, from = first.number, to = last.number, transfers, "transfers found");
        crate::metrics::transfers_found(&access.chain.slug, transfers);
    }
    context.queue.nudge(nudges);
    Ok(Some(*last))
}
