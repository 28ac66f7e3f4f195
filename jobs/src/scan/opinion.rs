//! Second opinions: what another endpoint says of blocks for which the first one's own answers prove too little.
//!
//! Nobody looks at a block again once the cursor has passed it. So where another endpoint is configured and merely behind, or
//! between two attempts, the range waits for it a moment; one word is taken when the others are really away.

use std::collections::BTreeSet;
use std::time::Instant;

use cryptopay_chain::{ChainError, Endpoint, Search, TransferQuery};
use cryptopay_domain::registry::ReceiptEncoding;
use cryptopay_domain::transfer::ObservedTransfer;

use super::ScanError;
use super::ahead::{PATIENCE, SMALL, Source};
use crate::context::ChainAccess;

/// What the others say.
pub(super) enum Opinion<'a> {
    /// Their transfers in the blocks in question.
    Given {
        /// Who says so.
        by: &'a Endpoint,
        /// What it found.
        transfers: Vec<ObservedTransfer>,
    },
    /// One could say something in a moment.
    Awaited,
    /// There is nobody to ask.
    None,
}

/// Asks the other endpoints, one after the other until one answers, about the blocks in which there may be more, or less: all
/// of them in one question where that endpoint takes so many.
pub(super) async fn ask_another<'a>(
    source: Source<'a>,
    query: &TransferQuery,
    doubtful: impl Iterator<Item = u64>,
) -> Opinion<'a> {
    let Source { access, endpoint, .. } = source;
    let doubtful: BTreeSet<u64> = doubtful.collect();
    let (Some(first), Some(last)) = (doubtful.first(), doubtful.last()) else { return Opinion::None };
    let blocks = query.blocks.iter().filter(|block| (first..=last).contains(&&block.number)).cloned().collect();
    let question = TransferQuery { blocks, native: false, ..query.clone() };
    let (mut tried, mut behind) = (vec![endpoint.name().to_owned()], false);
    while let Some(other) = access.endpoints.untried(Instant::now(), &tried) {
        tried.push(other.name().to_owned());
        match ask(other, &question).await {
            Ok(Some(transfers)) => return Opinion::Given { by: other, transfers },
            Ok(None) => behind = true,
            Err(error) => {
                tracing::debug!(chain = access.chain.slug, endpoint = other.name(), %error, "no second opinion");
            }
        }
    }
    if behind || access.endpoints.is_another_near(Instant::now(), endpoint) { Opinion::Awaited } else { Opinion::None }
}

/// What an endpoint finds; `None` where it has not got there yet, which is no fault of it.
async fn ask(other: &Endpoint, question: &TransferQuery) -> Result<Option<Vec<ObservedTransfer>>, ChainError> {
    let mut found = Vec::new();
    let mut left = question.blocks.as_slice();
    while !left.is_empty() {
        let width = usize::try_from(other.batch_size.blocks()).unwrap_or(usize::MAX).min(left.len());
        let Some((part, later)) = left.split_at_checked(width) else { break };
        let question = TransferQuery { blocks: part.to_vec(), ..question.clone() };
        let asking = async {
            match other.client().search(&question).await {
                Err(error) if error.is_not_there_yet() => Ok(None),
                answer => answer.map(Some),
            }
        };
        // Somebody waits at the tip; a backfill takes its time.
        let blocks = u64::try_from(part.len()).unwrap_or(u64::MAX);
        let patience = (blocks <= SMALL).then_some(PATIENCE);
        match other.ask_range(blocks, patience, asking).await {
            Ok(Some(answer)) => {
                other.batch_size.answered(blocks, Instant::now());
                found.extend(answer.transfers);
            }
            Ok(None) => return Ok(None),
            Err(ChainError::RangeFailed { blocks, limit, cause }) => {
                other.batch_size.failed(blocks, limit, Instant::now());
                if cause.is_silence() {
                    other.refused(&cause);
                    return Err(*cause);
                }
                continue;
            }
            Err(error) => return Err(error),
        }
        left = later;
    }
    Ok(Some(found))
}

/// Whether transfers count that the verified headers of their blocks deny. A filter never denies what is there, so that one
/// endpoint's word for it is a lie, unless another one tells of the very same: then the filters of this chain are not what
/// they are elsewhere, and are not relied on. Polygon's filters leave out what its state sync mints, which is known.
///
/// # Errors
/// The range is refused, or waits for the second endpoint.
pub(super) fn judge_denied(
    source: Source<'_>,
    found: &Search,
    denied: &BTreeSet<u64>,
    opinion: &Opinion<'_>,
) -> Result<(), ScanError> {
    let Source { access, endpoint, .. } = source;
    let Some(number) = denied.first().copied() else { return Ok(()) };
    let told_again = |theirs: &[ObservedTransfer]| {
        let ours = found.transfers.iter().filter(|ours| found.denied.contains(&(ours.tx_hash, ours.position)));
        ours.into_iter().all(|ours| theirs.iter().any(|theirs| is_same(ours, theirs)))
    };
    let known_to_happen = access.chain.receipts == ReceiptEncoding::Bor;
    match opinion {
        Opinion::Given { transfers, .. } if told_again(transfers) => {
            access.endpoints.iter().for_each(|endpoint| endpoint.client().distrust_blooms(number));
            return Ok(());
        }
        Opinion::Awaited if access.state.may_await_opinion() => return Err(ScanError::Awaited),
        Opinion::Awaited | Opinion::None if known_to_happen => return Ok(()),
        Opinion::Given { .. } | Opinion::Awaited | Opinion::None => {}
    }
    Err(refuse(access, endpoint, number))
}

fn refuse(access: &ChainAccess, endpoint: &Endpoint, number: u64) -> ScanError {
    let what = format!("it tells of a log in block {number} that the block's own header denies");
    tracing::error!(chain = access.chain.slug, endpoint = endpoint.name(), block_number = number, "a log is refused");
    let error = ChainError::Untrue { method: "eth_getLogs", what };
    endpoint.refused(&error);
    error.into()
}

fn is_same(ours: &ObservedTransfer, theirs: &ObservedTransfer) -> bool {
    let of = |transfer: &ObservedTransfer| {
        (transfer.tx_hash, transfer.position, transfer.block.hash, transfer.asset, transfer.to, transfer.units)
    };
    of(ours) == of(theirs)
}
