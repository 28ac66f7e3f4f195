//! Transfers that a reorganisation has put in doubt, and that the new branch did not bring back: a fresh query, at least
//! one poll later, decides whether they are gone. It needs no new block.

use cryptopay_chain::Inclusion;
use cryptopay_domain::ids::TransferId;
use cryptopay_entity::transact;
use cryptopay_entity::{chain_block, chain_cursor, clock, transfer};
use cryptopay_ledger::Occasion;

use super::{POLL, ScanError};
use crate::context::{ChainAccess, Context};

/// Transfers looked at in one scan.
const BATCH: u64 = 100;

/// Looks again for every transfer that has been missing for a poll, once the new branch is verified past its height (up to
/// `height`): before that nobody can know whether the branch holds it. Not to be asked of an endpoint that lags.
pub(super) async fn run(context: &Context, access: &ChainAccess, height: i64) -> Result<(), ScanError> {
    let slug = access.chain.slug.as_str();
    let now = clock::database_now(&context.database).await?;
    let missing = transfer::Entity::missing(&context.database, slug, now.minus(POLL), BATCH).await?;
    if missing.is_empty() {
        let doubted = transfer::Entity::missing(&context.database, slug, now, 1).await?;
        if !doubted.is_empty() {
            // Too early for a second look: come back when it is time, with or without a new block.
            context.queue.scan_after(slug, POLL);
        }
        return Ok(());
    }
    let mut gone = Vec::new();
    for row in missing.iter().filter(|row| row.block_number <= height) {
        let inclusion = access.client.inclusion(row.tx_hash).await?;
        if is_gone(context, access, inclusion).await? {
            gone.push(row.id);
        }
    }
    if gone.is_empty() {
        return Ok(());
    }
    orphan(context, access, gone).await
}

/// A transaction that no block holds is gone. One that stands in a block which we have scanned, without its transfer
/// having come back, has become another one. One in a block that is still to be scanned will come back by itself.
async fn is_gone(context: &Context, access: &ChainAccess, inclusion: Option<Inclusion>) -> Result<bool, ScanError> {
    let Some(inclusion) = inclusion else { return Ok(true) };
    let slug = access.chain.slug.as_str();
    let number = i64::try_from(inclusion.block_number).unwrap_or(i64::MAX);
    let cursor = chain_cursor::Entity::of(&context.database, slug).await?;
    if cursor.is_none_or(|cursor| cursor.height < number) {
        return Ok(false);
    }
    let ours = chain_block::Entity::numbered(&context.database, slug, [number]).await?;
    Ok(ours.first().is_some_and(|block| block.hash == inclusion.block_hash))
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
