//! From the cursor towards the head: ranges are read ahead, and each is committed in a transaction of its own.

use std::time::Instant;

use cryptopay_chain::{ChainError, Endpoint, Tip};
use cryptopay_domain::transfer::{Block, ObservedTransfer, UnverifiableTransfer};
use cryptopay_entity::clock;
use cryptopay_entity::transact;
use cryptopay_ledger::{Batch, Fence, LedgerError, Occasion};
use futures_util::future::BoxFuture;

use super::ahead::{Ahead, Range, Source};
use super::health::{Seen, note_backlog};
use super::lease::{is_due, keeping_the_lease, lease};
use super::watch::WatchList;
use super::{Latest, ScanError, Step, final_height, reorg, signed_to_unsigned};
use crate::context::{ChainAccess, Context};

/// Transfers that are written in one transaction, unless a single block holds more.
const MOST_TRANSFERS: usize = 500;

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
        if ours {
            reorg::refuse_reset(context, access, fence, &tip.head).await?;
        }
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
            Err(ScanError::Chain(error)) => return narrow(access, endpoint, error),
            Err(error) => return Err(error),
        };
        if range.blocks.first().is_none_or(|block| block.parent != fence.hash) {
            return Ok(Step::Reorganised);
        }
        latest.check(endpoint, &range.blocks)?;
        for part in parts(&range) {
            if is_due(access) {
                match lease(context, access).await? {
                    Some(renewed) if (renewed.height, renewed.hash) == (fence.height, fence.hash) => *fence = renewed,
                    Some(_) => return Err(LedgerError::Fenced.into()),
                    None => return Ok(Step::Elsewhere),
                }
            }
            if let Some(last) = commit(context, access, fence, tip, part).await? {
                *fence = Fence { height: i64::try_from(last.number).unwrap_or(i64::MAX), hash: last.hash, ..*fence };
            }
            access.state.note_alive();
        }
        endpoint.batch_size.answered(u64::try_from(range.blocks.len()).unwrap_or(u64::MAX), Instant::now());
        seen.moved = true;
        note_backlog(context, access, seen, fence.height, tip.head.number).await?;
    }
}

/// Narrows the next query where the failed one was over several blocks. A silent endpoint may be away altogether: another
/// one takes over where one can, and a fault of the provider (5xx) is given a rest.
fn narrow(access: &ChainAccess, endpoint: &Endpoint, error: ChainError) -> Result<Step, ScanError> {
    let ChainError::RangeFailed { blocks, limit, cause } = &error else { return Err(error.into()) };
    let now = Instant::now();
    endpoint.batch_size.failed(*blocks, *limit, now);
    tracing::info!(
        chain = access.chain.slug,
        endpoint = endpoint.name(),
        blocks,
        next_blocks = endpoint.batch_size.blocks(),
        error = %cause,
        "a query over several blocks failed; the next one is narrower"
    );
    let is_fault = matches!(**cause, ChainError::Unavailable { .. });
    if is_fault || (cause.is_silence() && access.endpoints.second(now, endpoint).is_some()) {
        endpoint.refused(&error);
        return Err(error.into());
    }
    Ok(Step::Narrowed)
}

/// Some blocks of a range, and the transfers in them.
#[derive(Clone, Copy)]
struct Part<'a> {
    blocks: &'a [Block],
    transfers: &'a [ObservedTransfer],
    unverifiable: &'a [UnverifiableTransfer],
}

/// A range in parts of whole blocks with so few transfers that writing each takes a moment: dust costs its sender little,
/// and a look that shows no sign of life for too long is given up, to begin with the same range again.
fn parts(range: &Range) -> Vec<Part<'_>> {
    let (mut blocks, mut transfers) = (range.blocks.as_slice(), range.transfers.as_slice());
    let mut unverifiable = range.unverifiable.as_slice();
    let mut parts = Vec::new();
    while !blocks.is_empty() {
        let cut = match transfers.get(MOST_TRANSFERS) {
            Some(next) => blocks.partition_point(|block| block.number < next.block.number).max(1),
            None => blocks.len(),
        };
        let (these, later) = blocks.split_at(cut);
        let last = these.last().map_or(0, |block| block.number);
        let (here, above) = transfers.split_at(transfers.partition_point(|transfer| transfer.block.number <= last));
        let reported = unverifiable.partition_point(|reported| reported.block.number <= last);
        let (aside, unread) = unverifiable.split_at(reported);
        parts.push(Part { blocks: these, transfers: here, unverifiable: aside });
        (blocks, transfers, unverifiable) = (later, above, unread);
    }
    parts
}

/// Writes a part of a range; gives its last block. On the heap, as the reading is.
fn commit<'a>(
    context: &'a Context,
    access: &'a ChainAccess,
    fence: &'a Fence,
    tip: &'a Tip,
    part: Part<'a>,
) -> BoxFuture<'a, Result<Option<Block>, ScanError>> {
    Box::pin(write(context, access, fence, tip, part))
}

async fn write(
    context: &Context,
    access: &ChainAccess,
    fence: &Fence,
    tip: &Tip,
    part: Part<'_>,
) -> Result<Option<Block>, ScanError> {
    let Part { blocks, transfers, unverifiable } = part;
    let (Some(first), Some(last)) = (blocks.first(), blocks.last()) else { return Ok(None) };
    let batch = Batch {
        chain: &access.chain,
        blocks,
        transfers,
        unverifiable,
        head_height: tip.head.number,
        final_height: final_height(tip),
    };
    let cause = format!("blocks {} to {} of {} were scanned", first.number, last.number, access.chain.slug);
    let nudges = transact!(&context.database, |txn| {
        let now = clock::business_now(txn).await?;
        let occasion = Occasion { registry: &context.registry, cause: &cause, now };
        cryptopay_ledger::record_batch(txn, occasion, fence, batch).await
    })?;
    if !transfers.is_empty() {
        let transfers = transfers.len();
        tracing::info!(chain = access.chain.slug, from = first.number, to = last.number, transfers, "transfers found");
        crate::metrics::transfers_found(&access.chain.slug, transfers);
    }
    if !unverifiable.is_empty() {
        let transfers = unverifiable.len();
        tracing::warn!(
            chain = access.chain.slug,
            from = first.number,
            to = last.number,
            transfers,
            "transfers set aside"
        );
        crate::metrics::transfers_set_aside(&access.chain.slug, transfers);
    }
    context.queue.nudge(nudges);
    Ok(Some(*last))
}

#[cfg(test)]
mod tests {
    use cryptopay_domain::address::{AccountAddress, Asset, Hash};
    use cryptopay_domain::time::Timestamp;
    use cryptopay_domain::transfer::Position;
    use cryptopay_domain::units::Units;

    use super::*;

    fn block(number: u64) -> Block {
        Block { number, hash: Hash([0; 32].into()), parent: Hash([0; 32].into()), time: Timestamp::default() }
    }

    fn dust(number: u64) -> ObservedTransfer {
        ObservedTransfer {
            tx_hash: Hash([0; 32].into()),
            position: Position::Log(0),
            log_index: None,
            block: block(number),
            from: AccountAddress([0; 20].into()),
            to: AccountAddress([0; 20].into()),
            asset: Asset::Native,
            units: Units::new(1),
            sender: AccountAddress([0; 20].into()),
            sender_nonce: 0,
            gas_used: 0,
            gas_price: Units::ZERO,
            extra_fee: Units::ZERO,
            input: [].into(),
            sole: true,
        }
    }

    /// The blocks of each part, and how many transfers are in them, for transfers in the blocks from 0 on.
    fn cut(transfers: &[usize]) -> Vec<(usize, usize)> {
        let numbers = || (0_u64..).zip(transfers);
        let range = Range {
            blocks: numbers().map(|(number, _)| block(number)).collect(),
            transfers: numbers().flat_map(|(number, count)| std::iter::repeat_n(dust(number), *count)).collect(),
            unverifiable: Vec::new(),
        };
        let parts = parts(&range);
        for Part { blocks, transfers, .. } in &parts {
            let within = blocks[0].number..=blocks[blocks.len() - 1].number;
            assert!(transfers.iter().all(|transfer| within.contains(&transfer.block.number)));
        }
        parts.iter().map(|part| (part.blocks.len(), part.transfers.len())).collect()
    }

    #[test]
    fn a_range_is_written_in_whole_blocks_with_few_transfers_at_once() {
        let most = MOST_TRANSFERS;
        assert_eq!(cut(&[]), []);
        assert_eq!(cut(&[0, 0, 0]), [(3, 0)]);
        assert_eq!(cut(&[1, 0, most - 1, 0]), [(4, most)]);
        assert_eq!(cut(&[1, 0, most, 0]), [(2, 1), (2, most)]);
        assert_eq!(cut(&[most, most, most]), [(1, most); 3]);
        assert_eq!(cut(&[0, 5 * most, 0, 1]), [(1, 0), (1, 5 * most), (2, 1)]);
        assert_eq!(cut(&[3 * most]), [(1, 3 * most)]);
    }
}
