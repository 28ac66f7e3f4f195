//! `scan_chain`: from the cursor to the head, verified block by verified block.
//!
//! The head is read first and the watch list second, so that a list read after the head holds every address which a
//! block up to that head can pay. No RPC happens inside a transaction; each batch is one transaction, fenced by the
//! lease's epoch and the cursor's place.

mod reorg;
mod second_look;
mod window;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use cryptopay_chain::{ChainError, TransferQuery};
use cryptopay_domain::registry::FinalityTag;
use cryptopay_domain::time::Timestamp;
use cryptopay_domain::transfer::Block;
use cryptopay_entity::transact;
use cryptopay_entity::{chain_cursor, clock, payment_order, receiving_address};
use cryptopay_ledger::{Batch, Fence, LedgerError, Occasion};
use sea_orm::DbErr;

use crate::context::{ChainAccess, Context};

/// How long a lease on a chain lasts; renewed before every batch.
pub(crate) const LEASE: Duration = Duration::from_secs(3);
/// How often a chain is looked at on which nothing is watched.
const IDLE_POLL: Duration = Duration::from_secs(10);
/// How often a chain is looked at whose next block is due.
const POLL: Duration = Duration::from_millis(250);
/// The same, when the block is late by more than a block time.
const SLOW_POLL: Duration = Duration::from_secs(1);
/// Blocks that a range begins with.
const FIRST_SPAN: u64 = 200;
/// Most blocks in one range.
const MAX_SPAN: u64 = 2_000;
/// How old the block of a finality tag may be while it still says something.
const FRESH_FINALITY: Duration = Duration::from_secs(3600);

/// What is remembered of a chain between two scans; nothing is lost with it.
#[derive(Debug)]
pub(crate) struct ScanState {
    /// Blocks per range, adapted to what the endpoint answers.
    span: AtomicU64,
    /// Whether the endpoint has said that it is of this chain, and nothing has gone wrong since.
    identified: AtomicBool,
}

impl Default for ScanState {
    fn default() -> Self {
        Self { span: AtomicU64::new(FIRST_SPAN), identified: AtomicBool::new(false) }
    }
}

impl ScanState {
    fn span(&self) -> u64 {
        self.span.load(Ordering::Relaxed)
    }

    fn shrink(&self, limit: Option<u64>) {
        let halved = (self.span() / 2).max(1);
        self.span.store(limit.map_or(halved, |limit| limit.clamp(1, halved)), Ordering::Relaxed);
    }

    fn grow(&self) {
        let span = self.span();
        self.span.store(span.saturating_add(span / 8 + 1).min(MAX_SPAN), Ordering::Relaxed);
    }
}

/// Why a scan stopped early. The next one begins where the cursor stands.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScanError {
    /// The chain gave no usable answer.
    #[error("{0}")]
    Chain(#[from] ChainError),
    /// The ledger refused.
    #[error("{0}")]
    Ledger(#[from] LedgerError),
    /// The database failed.
    #[error("database: {0}")]
    Database(#[from] DbErr),
    /// The endpoint is of another chain.
    #[error(
        "the endpoint of {slug} is of the chain with id {found}, not {expected}: correct CRYPTOPAY_RPC_{} or the chain_id in the registry",
        .slug.to_uppercase()
    )]
    WrongChain {
        /// Which chain was asked for.
        slug: String,
        /// Its id in the registry.
        expected: u64,
        /// What the endpoint says.
        found: u64,
    },
    /// The chain has reorganised deeper than the window of hashes that is kept.
    #[error(
        "the chain has reorganised below block {oldest}, deeper than the {depth} blocks that are kept; credits are frozen: check the endpoint, then raise reorg_depth or move the cursor"
    )]
    TooDeep {
        /// Oldest block in the window.
        oldest: i64,
        /// Size of the window.
        depth: u32,
    },
}

/// What a scan came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scanned {
    /// Another process scans this chain.
    Elsewhere,
    /// Nothing on it is watched.
    Idle,
    /// At the head. The next block is expected at this time (business clock); now is the other.
    AtHead { next_block: Timestamp, now: Timestamp },
}

/// Runs one scan and says when to come again.
pub(crate) async fn run(context: &Context, access: &ChainAccess) -> Duration {
    match scan_chain(context, access).await {
        Ok(Scanned::Elsewhere) => SLOW_POLL,
        Ok(Scanned::Idle) => IDLE_POLL,
        Ok(Scanned::AtHead { next_block, now }) => next_poll(next_block, now, access.chain.block_time),
        Err(error) => {
            tracing::warn!(chain = access.chain.slug, %error, "scan stopped; it goes on from the cursor");
            crate::metrics::scan_failed(&access.chain.slug);
            note_problem(context, access, &error).await;
            // Whatever it was, the endpoint may be another one by now.
            access.state.identified.store(false, Ordering::Relaxed);
            match error {
                ScanError::Chain(error) => error.retry_after().unwrap_or(SLOW_POLL),
                ScanError::Ledger(LedgerError::Fenced) => POLL,
                ScanError::TooDeep { .. } | ScanError::WrongChain { .. } => IDLE_POLL,
                _ => SLOW_POLL,
            }
        }
    }
}

/// When to look again: at the expected time of the next block, then every 250 ms, then every second.
fn next_poll(next_block: Timestamp, now: Timestamp, block_time: Duration) -> Duration {
    if next_block > now {
        return next_block.since(now).clamp(Duration::from_millis(20), block_time.max(POLL));
    }
    if now.since(next_block) < block_time { POLL.min(block_time) } else { SLOW_POLL }
}

/// Reads everything between the cursor and the head.
pub(crate) async fn scan_chain(context: &Context, access: &ChainAccess) -> Result<Scanned, ScanError> {
    let slug = access.chain.slug.as_str();
    let database = &context.database;
    if chain_cursor::Entity::of(database, slug).await?.is_none() {
        identify(access).await?;
        let head = access.client.head().await?;
        let now = clock::database_now(database).await?;
        let height = i64::try_from(head.number).unwrap_or(i64::MAX);
        chain_cursor::Entity::begin(database, slug, height, head.hash, head.time, now).await?;
    }
    let Some(mut fence) = lease(context, access).await? else { return Ok(Scanned::Elsewhere) };
    if !access.state.identified.load(Ordering::Relaxed) {
        identify(access).await?;
    }
    let mut head = access.client.head().await?;
    let mut moved = false;
    let mut lagging = false;
    loop {
        if head.number == signed_to_unsigned(fence.height) && head.hash == fence.hash {
            break;
        }
        let watch = WatchList::read(context, access, fence.height).await?;
        if watch.is_empty() && head.number > signed_to_unsigned(fence.height) {
            // Nothing links the blocks that are skipped to ours, so the endpoint is asked who it is.
            identify(access).await?;
            if skip(context, access, &fence, &head).await? {
                return finish(context, access, &head, false).await.map(|_| Scanned::Idle);
            }
            continue;
        }
        if window::ensure(context, access, &fence).await? {
            match lease(context, access).await? {
                Some(renewed) => fence = renewed,
                None => return Ok(Scanned::Elsewhere),
            }
            continue;
        }
        match step(context, access, &mut fence, &head, &watch).await? {
            Step::Advanced => moved = true,
            Step::Lagging => {
                lagging = true;
                break;
            }
            Step::Reorganised => {
                reorg::go_back(context, access, &fence, &head).await?;
                moved = true;
            }
        }
        match lease(context, access).await? {
            Some(renewed) => fence = renewed,
            None => return Ok(Scanned::Elsewhere),
        }
        if signed_to_unsigned(fence.height) >= head.number {
            head = access.client.head().await?;
        }
    }
    if !lagging {
        second_look::run(context, access, fence.height).await?;
    }
    let watched = WatchList::read(context, access, fence.height).await?;
    let at_head = finish(context, access, &head, moved).await?;
    Ok(if watched.is_empty() { Scanned::Idle } else { at_head })
}

/// Asks the endpoint which chain it is of. An address that leads to another chain would credit the coins of that one.
async fn identify(access: &ChainAccess) -> Result<(), ScanError> {
    let (expected, found) = (access.chain.chain_id, access.client.chain_id().await?);
    if found != expected {
        return Err(ScanError::WrongChain { slug: access.chain.slug.clone(), expected, found });
    }
    access.state.identified.store(true, Ordering::Relaxed);
    Ok(())
}

/// What one step towards the head came to.
enum Step {
    Advanced,
    Lagging,
    Reorganised,
}

/// Reads one range, or finds out that there is none to read.
async fn step(
    context: &Context,
    access: &ChainAccess,
    fence: &mut Fence,
    head: &Block,
    watch: &WatchList,
) -> Result<Step, ScanError> {
    let height = signed_to_unsigned(fence.height);
    if head.number <= height {
        // A shorter chain: either the endpoint lags behind what we have verified, or those blocks are gone.
        return reorg::is_on_our_chain(context, access, head)
            .await
            .map(|ours| if ours { Step::Lagging } else { Step::Reorganised });
    }
    let to = head.number.min(height.saturating_add(access.state.span()));
    let from = height.saturating_add(1);
    let read = read_range(access, from, to, fence, watch).await;
    let (blocks, transfers) = match read {
        Ok(Some(found)) => found,
        Ok(None) => return Ok(Step::Reorganised),
        Err(ChainError::RangeTooLarge { limit }) if to > from => {
            access.state.shrink(limit);
            return Ok(Step::Advanced);
        }
        Err(error) => return Err(error.into()),
    };
    let final_height = final_height(context, access, head).await?;
    let batch =
        Batch { chain: &access.chain, blocks: &blocks, transfers: &transfers, head_height: head.number, final_height };
    let cause = format!("blocks {from} to {to} of {} were scanned", access.chain.slug);
    let nudges = transact!(&context.database, |txn| {
        let now = clock::business_now(txn).await?;
        let occasion = Occasion { registry: &context.registry, cause: &cause, now };
        cryptopay_ledger::record_batch(txn, occasion, fence, batch).await
    })?;
    if !transfers.is_empty() {
        tracing::info!(chain = access.chain.slug, from, to, transfers = transfers.len(), "transfers found");
        crate::metrics::transfers_found(&access.chain.slug, transfers.len());
    }
    access.state.grow();
    context.queue.nudge(nudges);
    Ok(Step::Advanced)
}

type Range = (Vec<Block>, Vec<cryptopay_domain::transfer::ObservedTransfer>);

/// Blocks and transfers of a range; `None` when it does not continue our chain.
async fn read_range(
    access: &ChainAccess,
    from: u64,
    to: u64,
    fence: &Fence,
    watch: &WatchList,
) -> Result<Option<Range>, ChainError> {
    let blocks = access.client.blocks(from..=to).await?;
    if blocks.first().is_none_or(|block| block.parent != fence.hash) {
        return Ok(None);
    }
    let query = TransferQuery {
        blocks: blocks.clone(),
        contracts: access.chain.contracts().collect(),
        recipients: watch.recipients.clone(),
        native: watch.native,
    };
    let transfers = if query.recipients.is_empty() { Vec::new() } else { access.client.transfers(&query).await? };
    Ok(Some((blocks, transfers)))
}

/// The height that the chain's finality tag vouches for, if the chain has one, something waits for it, and it is fresh.
async fn final_height(context: &Context, access: &ChainAccess, head: &Block) -> Result<Option<u64>, ScanError> {
    let Some(tag) = access.chain.finality else { return Ok(None) };
    if !cryptopay_ledger::has_work(&context.database, &access.chain).await? {
        return Ok(None);
    }
    let tagged = match access.client.tagged(tag).await {
        Ok(tagged) => tagged,
        // Depth still decides.
        Err(error) => {
            tracing::debug!(chain = access.chain.slug, %error, tag = ?tag, "no finality tag");
            None
        }
    };
    Ok(tagged.filter(|block| is_fresh(tag, block, head)).map(|block| block.number))
}

fn is_fresh(_tag: FinalityTag, block: &Block, head: &Block) -> bool {
    block.number <= head.number && head.time.since(block.time) <= FRESH_FINALITY
}

/// What is watched on a chain.
struct WatchList {
    recipients: Vec<cryptopay_domain::address::AccountAddress>,
    native: bool,
}

impl WatchList {
    async fn read(context: &Context, access: &ChainAccess, height: i64) -> Result<Self, ScanError> {
        let slug = access.chain.slug.as_str();
        let recipients = receiving_address::Entity::watched(&context.database, slug).await?;
        if recipients.is_empty() {
            return Ok(Self { recipients, native: false });
        }
        let verified = chain_cursor::Entity::of(&context.database, slug)
            .await?
            .filter(|cursor| cursor.height >= height)
            .map(|cursor| cursor.block_time)
            .unwrap_or_default();
        let native = payment_order::Entity::native_is_watched(&context.database, slug, verified).await?;
        Ok(Self { recipients, native })
    }

    fn is_empty(&self) -> bool {
        self.recipients.is_empty()
    }
}

/// Moves the cursor of an unwatched chain to the head; `false` if something is watched by now.
async fn skip(context: &Context, access: &ChainAccess, fence: &Fence, head: &Block) -> Result<bool, ScanError> {
    transact!(&context.database, |txn| {
        // The head was read before this; an address that is claimed now can only be paid in a later block.
        if !receiving_address::Entity::watched(txn, &access.chain.slug).await?.is_empty() {
            return Ok(false);
        }
        let now = clock::business_now(txn).await?;
        let occasion = Occasion { registry: &context.registry, cause: "nothing is watched", now };
        cryptopay_ledger::skip_to(txn, occasion, fence, &access.chain, head).await?;
        Ok::<_, LedgerError>(true)
    })
    .map_err(ScanError::from)
}

/// Takes or renews the lease; gives the fence from which this process may move the cursor.
async fn lease(context: &Context, access: &ChainAccess) -> Result<Option<Fence>, ScanError> {
    let slug = access.chain.slug.as_str();
    let leased = transact!(&context.database, |txn| {
        let now = clock::database_now(txn).await?;
        let epoch = chain_cursor::Entity::lease(txn, slug, &context.owner, now, now.plus(LEASE)).await?;
        let cursor = chain_cursor::Entity::of(txn, slug).await?;
        Ok::<_, DbErr>(epoch.zip(cursor))
    })?;
    Ok(leased.map(|(epoch, cursor)| Fence { epoch, height: cursor.height, hash: cursor.hash }))
}

async fn finish(context: &Context, access: &ChainAccess, head: &Block, moved: bool) -> Result<Scanned, ScanError> {
    if moved {
        context.queue.confirmations.push(access.chain.slug.clone());
    }
    let slug = access.chain.slug.as_str();
    let cursor = chain_cursor::Entity::of(&context.database, slug).await?;
    let recovered = cursor.as_ref().is_some_and(|cursor| cursor.health != "ok");
    if recovered {
        let now = clock::database_now(&context.database).await?;
        let height = i64::try_from(head.number).ok();
        chain_cursor::Entity::note_poll(&context.database, slug, height, "ok", None, now).await?;
    }
    let now = clock::business_now(&context.database).await?;
    Ok(Scanned::AtHead { next_block: head.time.plus(access.chain.block_time), now })
}

async fn note_problem(context: &Context, access: &ChainAccess, error: &ScanError) {
    let health = match error {
        ScanError::Chain(_) | ScanError::WrongChain { .. } => "unreachable",
        ScanError::TooDeep { .. } => "frozen",
        _ => return,
    };
    let slug = access.chain.slug.as_str();
    let noted = async {
        let now = clock::database_now(&context.database).await?;
        let problem = Some(error.to_string());
        chain_cursor::Entity::note_poll(&context.database, slug, None, health, problem, now).await
    };
    if let Err(error) = noted.await {
        tracing::warn!(chain = slug, %error, "the chain's problem could not be noted");
    }
}

fn signed_to_unsigned(height: i64) -> u64 {
    u64::try_from(height).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_is_looked_at_when_its_next_block_is_due_and_then_more_and_more_seldom() {
        let block_time = Duration::from_secs(2);
        let at = |secs| Timestamp::from_secs(secs);
        assert_eq!(next_poll(at(100), at(99), block_time), Duration::from_secs(1));
        assert_eq!(next_poll(at(100), at(101), block_time), POLL);
        assert_eq!(next_poll(at(100), at(103), block_time), SLOW_POLL);
    }

    #[test]
    fn ranges_halve_and_grow_back() {
        let state = ScanState::default();
        state.shrink(None);
        assert_eq!(state.span(), FIRST_SPAN / 2);
        state.shrink(Some(10));
        assert_eq!(state.span(), 10);
        state.grow();
        assert!(state.span() > 10);
        (0..20).for_each(|_| state.shrink(None));
        assert_eq!(state.span(), 1);
    }
}
