//! Reads several ranges at once and hands them out in order. How many, and how wide, is the endpoint's to bear.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use cryptopay_chain::{ChainError, Endpoint, Header, Search, ShownTransfer, TransferQuery};
use cryptopay_domain::transfer::{Block, ObservedTransfer, Position, UnverifiableTransfer};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;

use super::ScanError;
use super::opinion::{self, Opinion};
use super::watch::WatchList;
use crate::context::ChainAccess;

/// Ranges of so few blocks are waited for as long as a tip is, and not as long as a backfill, where others could answer.
pub(super) const SMALL: u64 = 8;
/// Least patience with such a range.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);
/// Transactions by which it is judged whether an endpoint has left something out.
const COMPARED: usize = 20;

/// A range that was read.
pub(super) struct Range {
    pub(super) blocks: Vec<Block>,
    pub(super) transfers: Vec<ObservedTransfer>,
    /// Reported transfers without evidence that holds, in the order of their blocks.
    pub(super) unverifiable: Vec<UnverifiableTransfer>,
}

/// Where the ranges come from.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) access: &'a ChainAccess,
    pub(super) endpoint: &'a Endpoint,
    pub(super) watch: &'a WatchList,
    pub(super) head: &'a Header,
}

/// The ranges up to the head, in order.
pub(super) struct Ahead<'a> {
    source: Source<'a>,
    next: u64,
    reading: FuturesOrdered<BoxFuture<'a, Result<Range, ScanError>>>,
}

impl<'a> Ahead<'a> {
    /// Ranges from block `from` on.
    pub(super) fn new(source: Source<'a>, from: u64) -> Self {
        Self { source, next: from, reading: FuturesOrdered::new() }
    }

    /// The next range; `None` beyond the head. After an error nothing more should be asked for.
    pub(super) async fn next(&mut self) -> Option<Result<Range, ScanError>> {
        let size = &self.source.endpoint.batch_size;
        while self.next <= self.source.head.number && self.reading.len() < size.ahead() {
            let to = self.source.head.number.min(self.next.saturating_add(size.blocks().saturating_sub(1)));
            self.reading.push_back(Box::pin(read(self.source, self.next, to)));
            self.next = to.saturating_add(1);
        }
        self.reading.next().await
    }
}

/// Reads a range, with a second opinion where the first endpoint's own answers prove too little. Each endpoint is waited for
/// by itself: what the second does wrong is no fault of the first.
async fn read(source: Source<'_>, from: u64, to: u64) -> Result<Range, ScanError> {
    let Source { access, endpoint, .. } = source;
    let blocks = to.saturating_sub(from).saturating_add(1);
    let others = access.endpoints.second(Instant::now(), endpoint).is_some();
    let patience = (blocks <= SMALL && others).then_some(PATIENCE);
    let read = endpoint.ask_range(blocks, patience, search(source, from, to)).await;
    if read.is_err() && blocks == 1 {
        endpoint.batch_size.failed_for_one_block();
    }
    let (query, found) = read?;
    if found.left_out > 0 && access.endpoints.are_several() {
        endpoint.contradicted(format!("it left out {} logs that its headers speak of", found.left_out));
    }
    let blocks = query.blocks.iter().map(|header| header.block).collect();
    let denied = denied_blocks(&found);
    let reported = found.unverifiable.iter().map(|reported| reported.block.number);
    let doubtful: BTreeSet<u64> =
        found.unproven.iter().copied().chain(denied.iter().copied()).chain(reported).collect();
    if doubtful.is_empty() {
        return Ok(Range { blocks, transfers: found.transfers, unverifiable: Vec::new() });
    }
    let is_only_reported = found.unproven.is_empty() && denied.is_empty();
    let opinion = opinion::ask_another(source, &query, doubtful.into_iter()).await;
    opinion::judge_denied(source, &found, &denied, &opinion)?;
    let (mut transfers, mut unverifiable) = (found.transfers, found.unverifiable);
    match opinion {
        Opinion::Given { by, transfers: theirs } => {
            access.state.note_opinion();
            add_left_out(endpoint, by, theirs, &mut transfers).await;
        }
        // A recheck asks again.
        Opinion::Awaited | Opinion::None if is_only_reported => {}
        Opinion::Awaited if access.state.may_await_opinion() => return Err(ScanError::Awaited),
        Opinion::Awaited | Opinion::None => access.state.note_unchecked(endpoint.name()),
    }
    unverifiable.retain(|reported| !transfers.iter().any(|transfer| verifies(transfer, reported)));
    unverifiable.sort_by_key(|reported| (reported.block.number, reported.log_index));
    Ok(Range { blocks, transfers, unverifiable })
}

/// Reports whether a transfer with evidence is the reported one.
pub(super) fn verifies(transfer: &ObservedTransfer, reported: &UnverifiableTransfer) -> bool {
    let is_native = |position: Position| position == Position::Native;
    transfer.tx_hash == reported.tx_hash
        && transfer.block.hash == reported.block.hash
        && is_native(transfer.position) == is_native(reported.position)
        && transfer.log_index == reported.log_index
        && (transfer.asset, transfer.to, transfer.units) == (reported.asset, reported.to, reported.units)
}

/// What one endpoint says about a range.
async fn search(source: Source<'_>, from: u64, to: u64) -> Result<(TransferQuery, Search), ChainError> {
    let Source { endpoint, watch, head, .. } = source;
    // The newest block came with the question for it.
    let headers =
        if from == to && to == head.number { vec![head.clone()] } else { endpoint.client().blocks(from..=to).await? };
    let query = TransferQuery {
        blocks: headers,
        contracts: watch.contracts.clone(),
        recipients: watch.recipients.clone(),
        native: watch.native,
    };
    let found = if watch.recipients.is_empty() { Search::default() } else { endpoint.client().search(&query).await? };
    Ok((query, found))
}

/// Heights of the blocks of transfers that their own headers deny.
fn denied_blocks(found: &Search) -> BTreeSet<u64> {
    let is_denied = |transfer: &&ObservedTransfer| found.denied.contains(&(transfer.tx_hash, transfer.position));
    found.transfers.iter().filter(is_denied).map(|transfer| transfer.block.number).collect()
}

/// What the second endpoint tells beyond the first is as proven as that, and counts: it waits for both before it is confirmed.
/// That the first has left it out is shown by its own receipts alone. Else one word stands against one, and whoever makes up a
/// transfer would have the other in quarantine, and nobody left who denies it.
async fn add_left_out(
    endpoint: &Endpoint,
    second: &Endpoint,
    theirs: Vec<ObservedTransfer>,
    transfers: &mut Vec<ObservedTransfer>,
) {
    let known: BTreeSet<_> = transfers.iter().map(|transfer| (transfer.tx_hash, transfer.position)).collect();
    let more: Vec<ObservedTransfer> =
        theirs.into_iter().filter(|transfer| !known.contains(&(transfer.tx_hash, transfer.position))).collect();
    if more.is_empty() {
        return;
    }
    let (first, other, count) = (endpoint.name(), second.name(), more.len());
    tracing::warn!(
        endpoint = first,
        other,
        transfers = count,
        "another endpoint tells of transfers that this one left out"
    );
    if shows_one_of(endpoint, &more).await {
        endpoint.contradicted(format!("it left out {count} transfers that {other} holds"));
    }
    transfers.extend(more);
    transfers.sort_by_key(|transfer| (transfer.block.number, transfer.log_index.unwrap_or(u64::MAX)));
}

/// Whether an endpoint's own receipts show one of these, of the first few transactions.
async fn shows_one_of(endpoint: &Endpoint, transfers: &[ObservedTransfer]) -> bool {
    let hashes: BTreeSet<_> = transfers.iter().map(|transfer| transfer.tx_hash).collect();
    let hashes: Vec<_> = hashes.into_iter().take(COMPARED).collect();
    let Ok(found) = endpoint.ask_soon(PATIENCE, endpoint.client().inclusions(&hashes)).await else { return false };
    let is_shown = |transfer: &ObservedTransfer| {
        let at = hashes.iter().position(|hash| *hash == transfer.tx_hash);
        let inclusion = at.and_then(|at| found.get(at)).and_then(Option::as_ref);
        inclusion.is_some_and(|inclusion| {
            inclusion.block_hash == transfer.block.hash
                && inclusion.transfers.contains(&ShownTransfer {
                    position: transfer.position,
                    asset: transfer.asset,
                    from: transfer.from,
                    to: transfer.to,
                    units: transfer.units,
                })
        })
    };
    transfers.iter().any(is_shown)
}
