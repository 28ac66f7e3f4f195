//! A reorganisation below every hash that is kept.
//!
//! One endpoint's word is not enough to take back what was final: until a second endpoint tells of the same block below the
//! window, or several looks in a row have (where there is only one endpoint), credits are frozen. Then the chain is read
//! again from the last block of which something is known that is still the chain's. What stood above it is put in doubt
//! like after any other reorganisation, and found again or given up.

use std::time::Instant;

use cryptopay_chain::{ChainError, Endpoint};
use cryptopay_domain::transfer::Block;
use cryptopay_entity::{chain_block, transfer};
use cryptopay_ledger::Fence;

use super::{ScanError, reorg, signed_to_unsigned};
use crate::context::{ChainAccess, Context};

/// Looks that have to tell of the same block where no second endpoint can be asked.
const LOOKS: u32 = 4;
/// Blocks with payments that are compared at once, and how many times as many are looked through for one that stands.
const COMPARED: u64 = 100;
const PAGES: u32 = 50;

/// Freezes the chain, or goes back to where it can be read from again.
pub(super) async fn run(
    context: &Context,
    access: &ChainAccess,
    endpoint: &Endpoint,
    fence: &Fence,
    window: &[chain_block::Model],
) -> Result<(), ScanError> {
    // Where no window could be read yet, the cursor is all that is known.
    let (oldest, ours) = window.last().map_or((fence.height, fence.hash), |row| (row.number, row.hash));
    let number = signed_to_unsigned(oldest);
    let theirs = endpoint.ask(endpoint.client().block(number)).await?;
    let Some(theirs) = theirs.filter(|theirs| theirs.hash != ours) else {
        // It does not know, or has thought better of it.
        return Err(ChainError::BlockMissing { number }.into());
    };
    if !is_agreed(access, endpoint, oldest, &theirs, ours).await? {
        return Err(ScanError::TooDeep { oldest, depth: access.chain.reorg_depth });
    }
    let from = resume_at(context, access, endpoint, window.last(), number).await?;
    tracing::error!(
        chain = access.chain.slug,
        window_from = oldest,
        resumed_at = from.number,
        "a reorganisation below every kept block is agreed on; the chain is read again from there"
    );
    access.state.forget_depth();
    reorg::rewind(context, access, fence, &from).await
}

/// Whether somebody else tells of the same block. One who still tells of ours shows the first to be on a branch alone.
async fn is_agreed(
    access: &ChainAccess,
    endpoint: &Endpoint,
    oldest: i64,
    theirs: &Block,
    ours: cryptopay_domain::address::Hash,
) -> Result<bool, ScanError> {
    let looks = access.state.count_depth(oldest, theirs.hash);
    if let Some(second) = access.endpoints.second(Instant::now(), endpoint)
        && let Ok(witness) = access.endpoints.witness(second, &[theirs.number]).await
        && let Some(named) = witness.blocks.first().copied().flatten()
    {
        if named.hash == ours {
            let what = format!("its block {} is not the one that {} and we hold", theirs.number, second.name());
            endpoint.contradicted(what.clone());
            return Err(ChainError::Untrue { method: "eth_getBlockByNumber", what }.into());
        }
        return Ok(named.hash == theirs.hash);
    }
    Ok(looks >= LOOKS)
}

/// The newest block that is known to be the chain's still; below it nothing has changed. Where the change goes back beyond
/// anything that is known, as far below what it has moved as the window is deep.
async fn resume_at(
    context: &Context,
    access: &ChainAccess,
    endpoint: &Endpoint,
    oldest: Option<&chain_block::Model>,
    number: u64,
) -> Result<Block, ScanError> {
    let below = number.saturating_sub(1);
    if let Some(oldest) = oldest
        && let Some(block) = endpoint.ask(endpoint.client().block(below)).await?
        && block.hash == oldest.parent
    {
        return Ok(block);
    }
    let (mut lowest_moved, mut standing, mut before) = (number, 0, i64::try_from(number).unwrap_or(i64::MAX));
    for _ in 0..PAGES {
        let page = transfer::Entity::blocks_below(&context.database, &access.chain.slug, before, COMPARED).await?;
        let Some((last, _)) = page.last() else { break };
        access.state.note_alive();
        before = *last;
        let numbers: Vec<u64> = page.iter().map(|(number, _)| signed_to_unsigned(*number)).collect();
        let theirs = access.endpoints.witness(endpoint, &numbers).await?.blocks;
        let stands =
            page.iter().zip(&theirs).find(|((_, ours), theirs)| theirs.is_some_and(|block| block.hash == *ours));
        if let Some(((number, _), _)) = stands {
            standing = signed_to_unsigned(*number);
            lowest_moved = numbers.iter().copied().filter(|number| *number > standing).min().unwrap_or(lowest_moved);
            break;
        }
        lowest_moved = numbers.iter().copied().min().unwrap_or(lowest_moved).min(lowest_moved);
    }
    let from = standing.max(lowest_moved.saturating_sub(1).saturating_sub(u64::from(access.chain.reorg_depth)));
    let block = endpoint.ask(endpoint.client().block(from)).await?;
    Ok(block.ok_or(ChainError::BlockMissing { number: from })?)
}
