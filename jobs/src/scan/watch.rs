//! What is watched on a chain, and what happens while nothing is.

use std::cmp::Ordering;
use std::time::{Duration, Instant};

use cryptopay_chain::{Endpoint, Hurry};
use cryptopay_domain::address::{AccountAddress, Asset};
use cryptopay_domain::transfer::Block;
use cryptopay_entity::transact;
use cryptopay_entity::{chain_cursor, payment_order, receiving_address};
use cryptopay_ledger::{Fence, LedgerError};
use sea_orm::DbErr;

use super::ScanError;
use crate::context::{ChainAccess, Context};

/// Least patience with another endpoint.
const PATIENCE: Duration = Duration::from_secs(1);

/// Age of the list of unregistered tokens: another process may have an older registry while an operator exchanges them.
const UNREGISTERED_EVERY: Duration = Duration::from_secs(60);

/// What is watched on a chain.
pub(super) struct WatchList {
    pub(super) recipients: Vec<AccountAddress>,
    /// Whether an open order waits for the chain's own coin.
    pub(super) native: bool,
    /// Registered token contracts, and others that have open orders.
    pub(super) contracts: Vec<AccountAddress>,
}

impl WatchList {
    pub(super) async fn read(context: &Context, access: &ChainAccess, height: i64) -> Result<Self, ScanError> {
        let slug = access.chain.slug.as_str();
        let recipients = receiving_address::Entity::watched(&context.database, slug).await?;
        if recipients.is_empty() {
            return Ok(Self { recipients, native: false, contracts: Vec::new() });
        }
        let verified = chain_cursor::Entity::of(&context.database, slug)
            .await?
            .filter(|cursor| cursor.height >= height)
            .map(|cursor| cursor.block_time)
            .unwrap_or_default();
        let native = payment_order::Entity::native_is_watched(&context.database, slug, verified).await?;
        let mut contracts: Vec<AccountAddress> = access.chain.contracts().collect();
        for contract in unregistered(context, access).await? {
            let asset = Asset::Token(contract);
            if payment_order::Entity::is_asset_watched(&context.database, slug, asset, verified).await? {
                contracts.push(contract);
            }
        }
        Ok(Self { recipients, native, contracts })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.recipients.is_empty()
    }
}

/// Token contracts that have orders and left the registry. No order in them is new, so that the list is read once a minute.
async fn unregistered(context: &Context, access: &ChainAccess) -> Result<Vec<AccountAddress>, DbErr> {
    if let Some(known) = access.state.unregistered(UNREGISTERED_EVERY) {
        return Ok(known);
    }
    let assets = payment_order::Entity::assets_of(&context.database, &access.chain.slug).await?;
    let contracts: Vec<AccountAddress> = assets
        .into_iter()
        .filter(|asset| access.chain.token_of(*asset).is_none())
        .filter_map(|asset| match asset {
            Asset::Token(contract) => Some(contract),
            Asset::Native => None,
        })
        .collect();
    access.state.note_unregistered(contracts.clone());
    Ok(contracts)
}

/// Whether anything is watched, as far as it matters for when to look again. Whoever makes a quiet chain watched asks for
/// a scan, which reads anew; that the last address was let go can wait for the next block.
pub(super) async fn is_watched(context: &Context, access: &ChainAccess) -> Result<bool, DbErr> {
    if access.state.was_watched() {
        return Ok(true);
    }
    let watched = receiving_address::Entity::is_any_watched(&context.database, &access.chain.slug).await?;
    access.state.note_watched(watched);
    Ok(watched)
}

/// The block that an unwatched chain may skip to, or begin at: the newest one up to the head that another endpoint names as
/// well, where one is there. Nothing would lead back from a head that one endpoint has made up. `None` while they differ, or
/// another one may be able to say in a moment.
pub(super) async fn agreed(
    access: &ChainAccess,
    endpoint: &Endpoint,
    head: &Block,
) -> Result<Option<Block>, ScanError> {
    let (mut tried, mut contradicted) = (vec![endpoint.name().to_owned()], None);
    while let Some(other) = access.endpoints.untried(Instant::now(), &tried) {
        tried.push(other.name().to_owned());
        let Some(theirs) = newest_of(access, other, head.number).await else { continue };
        let ours = match theirs.number.cmp(&head.number) {
            Ordering::Equal => Some(*head),
            Ordering::Less => endpoint.ask(endpoint.client().block(theirs.number)).await?,
            // It came there while it was asked.
            Ordering::Greater => return Ok(None),
        };
        if let Some(ours) = ours.filter(|ours| ours.hash == theirs.hash) {
            if !access.state.are_disputes() {
                access.state.note_dispute(None);
            }
            return Ok(Some(ours));
        }
        contradicted = Some((other.name(), theirs.number));
    }
    if let Some((other, number)) = contradicted {
        let dispute = format!("{} and {other} name different blocks at height {number}", endpoint.name());
        tracing::error!(chain = access.chain.slug, dispute, "endpoints contradict each other");
        access.state.note_dispute(Some(dispute));
        return Ok(None);
    }
    Ok((!access.endpoints.is_another_near(Instant::now(), endpoint)).then_some(*head))
}

/// An endpoint's block at a height, or its newest one where it has not got there.
async fn newest_of(access: &ChainAccess, other: &Endpoint, number: u64) -> Option<Block> {
    let witness = access.endpoints.witness_soon(other, &[number], PATIENCE).await.ok()?;
    match witness.blocks.first().copied().flatten() {
        Some(block) => Some(block),
        None => access.endpoints.tip(other, None, Hurry::OthersWait).await.ok().map(|tip| tip.head.block),
    }
}

/// Moves the cursor of an unwatched chain to the head; `false` if something is watched by now.
pub(super) async fn skip(
    context: &Context,
    access: &ChainAccess,
    fence: &Fence,
    head: &Block,
) -> Result<bool, ScanError> {
    transact!(&context.database, |txn| {
        // The head was read before this; an address that is claimed now can only be paid in a later block.
        if receiving_address::Entity::is_any_watched(txn, &access.chain.slug).await? {
            return Ok(false);
        }
        cryptopay_ledger::skip_to(txn, fence, &access.chain, head).await?;
        Ok::<_, LedgerError>(true)
    })
    .map_err(ScanError::from)
}
