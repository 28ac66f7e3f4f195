//! Transfers that were set aside without evidence: their blocks are read again, until the evidence holds.
//!
//! A recheck disturbs nothing: its failures are no failures of the endpoint, and it asks for a few blocks at a time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cryptopay_chain::{ChainError, Endpoint, Search, TransferQuery};
use cryptopay_domain::address::Asset;
use cryptopay_domain::registry::ReceiptEncoding;
use cryptopay_domain::time::Timestamp;
use cryptopay_domain::transfer::Position;
use cryptopay_entity::{clock, transact, transfer};
use cryptopay_ledger::{Occasion, Rechecked};
use futures_util::future::BoxFuture;

use super::{POLL, ScanError, signed_to_unsigned};
use crate::context::{ChainAccess, Context};
use crate::vouching::{BlockId, block_of};

/// Most reports of one recheck.
const BATCH: u64 = 20;
/// Longest wait for one block of one endpoint.
const PATIENCE: Duration = Duration::from_secs(5);
/// Reason of a transfer whose log the verified bloom filter of its block excludes.
const DENIED: &str = "the header of its block denies it";
/// Longest pause between two rechecks of a report.
const MAX_PAUSE: Duration = Duration::from_secs(3_600);

/// Rechecks the reports that are due, on the endpoint in use and on another one. On the heap, as what is seldom needed.
pub(super) fn run<'a>(
    context: &'a Context,
    access: &'a ChainAccess,
    endpoint: &'a Endpoint,
) -> BoxFuture<'a, Result<(), ScanError>> {
    Box::pin(recheck(context, access, endpoint))
}

async fn recheck(context: &Context, access: &ChainAccess, endpoint: &Endpoint) -> Result<(), ScanError> {
    let slug = access.chain.slug.as_str();
    let rows = transfer::Entity::unverifiable(&context.database, slug, BATCH).await?;
    if rows.is_empty() {
        return Ok(());
    }
    let (now, business_now) =
        (clock::database_now(&context.database).await?, clock::business_now(&context.database).await?);
    let mut blocks: BTreeMap<BlockId, Vec<transfer::Model>> = BTreeMap::new();
    for row in rows {
        if is_due(&row, now, business_now) {
            blocks.entry(block_of(&row)).or_default().push(row);
        } else if pause(&row, business_now) <= POLL {
            context.queue.scan_after(slug, POLL);
        }
    }
    let mut rechecked = Rechecked::default();
    for (block, rows) in blocks {
        let mut open = rows;
        let second = access.endpoints.second(Instant::now(), endpoint);
        for endpoint in [Some(endpoint), second].into_iter().flatten() {
            open = read(access, endpoint, &block, open, &mut rechecked).await;
        }
        rechecked.unverifiable.extend(
            open.into_iter().map(|row| (row.id, row.unverifiable_reason.unwrap_or_else(|| "it was not reread".into()))),
        );
    }
    if rechecked.verified.is_empty() && rechecked.unverifiable.is_empty() {
        return Ok(());
    }
    let cause = format!("a recheck of {slug}");
    let nudges = transact!(&context.database, |txn| {
        let now = clock::business_now(txn).await?;
        let occasion = Occasion { registry: &context.registry, cause: &cause, now };
        cryptopay_ledger::settle_reports(txn, occasion, &access.chain, &rechecked).await
    })?;
    if !rechecked.verified.is_empty() {
        let transfers = rechecked.verified.len();
        tracing::info!(chain = slug, transfers, "transfers that had been set aside are verified");
        crate::metrics::transfers_found(slug, transfers);
    }
    context.queue.nudge(nudges);
    Ok(())
}

/// Time between two rechecks: a quarter of the report's age, at least a poll.
fn pause(row: &transfer::Model, business_now: Timestamp) -> Duration {
    (business_now.since(row.created_at) / 4).clamp(POLL, MAX_PAUSE)
}

/// A check of the future is of a time before the clock was set back.
fn is_due(row: &transfer::Model, now: Timestamp, business_now: Timestamp) -> bool {
    row.rechecked_at.is_none_or(|at| at <= now.minus(pause(row, business_now)) || at > now)
}

/// Reads a block of reports again; returns the rows without evidence still, with the latest reason.
async fn read(
    access: &ChainAccess,
    endpoint: &Endpoint,
    block: &BlockId,
    rows: Vec<transfer::Model>,
    rechecked: &mut Rechecked,
) -> Vec<transfer::Model> {
    if rows.is_empty() {
        return rows;
    }
    let found = match tokio::time::timeout(PATIENCE, search(access, endpoint, block, &rows)).await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => {
            tracing::debug!(chain = access.chain.slug, endpoint = endpoint.name(), %error, "a recheck failed");
            return rows;
        }
        Err(_) => return rows,
    };
    let mut open = Vec::new();
    for mut row in rows {
        let is_native = row.position == Position::Native;
        let verified = found.transfers.iter().find(|transfer| {
            transfer.tx_hash == row.tx_hash
                && (transfer.position == Position::Native) == is_native
                && transfer.log_index.and_then(|index| i64::try_from(index).ok()) == row.log_index
                && (transfer.asset, transfer.to, transfer.units) == (row.asset, row.to_address, row.units)
        });
        if let Some(verified) = verified {
            // The filters of Polygon's headers leave out what its state sync mints.
            let is_denied = access.chain.receipts != ReceiptEncoding::Bor
                && found.denied.contains(&(verified.tx_hash, verified.position));
            if !is_denied {
                rechecked.verified.push(verified.clone());
                continue;
            }
            row.unverifiable_reason = Some(DENIED.to_owned());
            open.push(row);
            continue;
        }
        let again = found.unverifiable.iter().find(|reported| {
            (reported.tx_hash, reported.position) == (row.tx_hash, row.position) && reported.units == row.units
        });
        if again.is_none() {
            let (endpoint, tx_hash) = (endpoint.name(), row.tx_hash.to_string());
            tracing::debug!(chain = access.chain.slug, endpoint, tx_hash, "a transfer set aside is reported no longer");
        }
        // Merchants see the reason, so it does not name the endpoint.
        let reason =
            again.map_or_else(|| "the endpoint reports it no longer".to_owned(), |reported| reported.reason.clone());
        row.unverifiable_reason = Some(reason);
        open.push(row);
    }
    open
}

async fn search(
    access: &ChainAccess,
    endpoint: &Endpoint,
    (number, hash): &BlockId,
    rows: &[transfer::Model],
) -> Result<Search, ChainError> {
    let number = signed_to_unsigned(*number);
    let blocks = endpoint.client().blocks(number..=number).await?;
    let found = blocks.first().map(|header| header.hash);
    if found != Some(*hash) {
        return Err(ChainError::NotOnChain { number, expected: *hash, found });
    }
    let contracts = rows.iter().filter_map(|row| match row.asset {
        Asset::Token(contract) => Some(contract),
        Asset::Native => None,
    });
    let query = TransferQuery {
        blocks,
        contracts: contracts.collect(),
        recipients: rows.iter().map(|row| row.to_address).collect(),
        native: rows.iter().any(|row| row.asset == Asset::Native),
    };
    let answered = endpoint.client().search(&query).await?;
    tracing::trace!(chain = access.chain.slug, block_number = number, "a block of reports was read again");
    Ok(answered)
}
