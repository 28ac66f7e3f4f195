//! Reads several ranges at once and hands them out in order. How many, and how wide, is the endpoint's to bear.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use cryptopay_chain::{ChainError, Endpoint, Header, TransferQuery};
use cryptopay_domain::transfer::{Block, ObservedTransfer};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;

use super::watch::WatchList;
use crate::context::ChainAccess;

/// Ranges of so few blocks are waited for as long as a tip is, and not as long as a backfill, where others could answer.
const SMALL: u64 = 8;
/// Least patience with such a range.
const PATIENCE: Duration = Duration::from_secs(1);

/// A range that was read.
pub(super) struct Range {
    pub(super) blocks: Vec<Block>,
    pub(super) transfers: Vec<ObservedTransfer>,
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
    reading: FuturesOrdered<BoxFuture<'a, Result<Range, ChainError>>>,
}

impl<'a> Ahead<'a> {
    /// Ranges from block `from` on.
    pub(super) fn new(source: Source<'a>, from: u64) -> Self {
        Self { source, next: from, reading: FuturesOrdered::new() }
    }

    /// The next range; `None` beyond the head. After an error nothing more should be asked for.
    pub(super) async fn next(&mut self) -> Option<Result<Range, ChainError>> {
        let span = &self.source.endpoint.span;
        while self.next <= self.source.head.number && self.reading.len() < span.ahead() {
            let to = self.source.head.number.min(self.next.saturating_add(span.blocks().saturating_sub(1)));
            self.reading.push_back(Box::pin(read(self.source, self.next, to)));
            self.next = to.saturating_add(1);
        }
        self.reading.next().await
    }
}

async fn read(source: Source<'_>, from: u64, to: u64) -> Result<Range, ChainError> {
    let Source { access, endpoint, .. } = source;
    let reading = async {
        let small = to.saturating_sub(from) < SMALL;
        if small && access.endpoints.second(Instant::now(), endpoint).is_some() {
            let patience = endpoint.patience(PATIENCE);
            let late = |_| Err(ChainError::TimedOut { after: patience });
            return tokio::time::timeout(patience, search(source, from, to)).await.unwrap_or_else(late);
        }
        search(source, from, to).await
    };
    endpoint.ask(reading).await
}

async fn search(source: Source<'_>, from: u64, to: u64) -> Result<Range, ChainError> {
    let Source { access, endpoint, watch, head } = source;
    // The newest block came with the question for it.
    let headers =
        if from == to && to == head.number { vec![head.clone()] } else { endpoint.client().blocks(from..=to).await? };
    let blocks = headers.iter().map(|header| header.block).collect();
    if watch.recipients.is_empty() {
        return Ok(Range { blocks, transfers: Vec::new() });
    }
    let query = TransferQuery {
        blocks: headers,
        contracts: access.chain.contracts().collect(),
        recipients: watch.recipients.clone(),
        native: watch.native,
    };
    let mut found = endpoint.client().search(&query).await?;
    if found.left_out > 0 && access.endpoints.are_several() {
        endpoint.contradicted(format!("it left out {} logs that its headers speak of", found.left_out));
    }
    if !found.unproven.is_empty() && !ask_another(source, &query, &found.unproven, &mut found.transfers).await {
        access.state.note_unchecked(endpoint.name());
    }
    Ok(Range { blocks, transfers: found.transfers })
}

/// Asks another endpoint about the blocks in which there may be more, where one may be asked: all of them in one question.
/// What it finds beyond the first answer is as proven as that, and counts. `false` if nobody could say more.
async fn ask_another(
    source: Source<'_>,
    query: &TransferQuery,
    doubtful: &[u64],
    found: &mut Vec<ObservedTransfer>,
) -> bool {
    let Source { access, endpoint, .. } = source;
    let (Some(first), Some(last)) = (doubtful.iter().min(), doubtful.iter().max()) else { return true };
    let Some(second) = access.endpoints.second(Instant::now(), endpoint) else { return false };
    let blocks = query.blocks.iter().filter(|block| (first..=last).contains(&&block.number)).cloned().collect();
    let question = TransferQuery { blocks, native: false, ..query.clone() };
    let answer = match second.ask(second.client().search(&question)).await {
        Ok(answer) => answer,
        Err(error) => {
            tracing::debug!(chain = access.chain.slug, endpoint = second.name(), %error, "no second opinion");
            return false;
        }
    };
    let known: BTreeSet<_> = found.iter().map(|transfer| (transfer.tx_hash, transfer.position)).collect();
    let more: Vec<ObservedTransfer> = answer
        .transfers
        .into_iter()
        .filter(|transfer| !known.contains(&(transfer.tx_hash, transfer.position)))
        .collect();
    if more.is_empty() {
        return true;
    }
    endpoint.contradicted(format!("it left out {} transfers that {} holds", more.len(), second.name()));
    found.extend(more);
    found.sort_by_key(|transfer| (transfer.block.number, transfer.log_index.unwrap_or(u64::MAX)));
    true
}
