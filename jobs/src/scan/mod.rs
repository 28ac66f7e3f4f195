//! `scan_chain`: from the cursor to the head, verified block by verified block.
//!
//! The head is read first and the watch list second, so that a list read after the head holds every address which a
//! block up to that head can pay. No RPC happens inside a transaction; each batch is one transaction, fenced by the
//! lease's epoch and the cursor's place.
//!
//! One look at a chain is bound to one endpoint: its head, its headers, its logs. When that endpoint fails, lags or turns
//! out to be of another chain, the next one takes over in the same look.

mod ahead;
pub(crate) mod heads;
mod health;
mod lease;
mod opinion;
mod range;
mod recheck;
mod reorg;
mod resync;
mod second_look;
mod state;
mod tokens;
mod watch;
mod window;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use cryptopay_chain::{ChainError, Endpoint, Hurry, Tip};
use cryptopay_domain::registry::FinalityTag;
use cryptopay_domain::time::Timestamp;
use cryptopay_domain::transfer::Block;
use cryptopay_entity::{chain_cursor, chain_start, clock};
use cryptopay_ledger::{Fence, LedgerError};
use futures_util::future::BoxFuture;
use sea_orm::DbErr;
use tokio_util::sync::CancellationToken;

use crate::context::{ChainAccess, Context};
use health::Seen;
pub(crate) use lease::give_back;
use lease::{hold, lease};
use range::Way;
pub(crate) use state::ScanState;
use watch::WatchList;

/// How often a chain is looked at on which nothing is watched.
const IDLE_POLL: Duration = Duration::from_secs(10);
/// How often a chain is looked at whose next block is due.
pub(crate) const POLL: Duration = Duration::from_millis(250);
/// The same, when the block is late by more than a block time.
const SLOW_POLL: Duration = Duration::from_secs(1);
/// Longest pause after a failure, unless every endpoint asks for a longer one.
const MAX_PAUSE: Duration = Duration::from_secs(4);
/// How old the block of a finality tag may be while it still says something.
const FRESH_FINALITY: Duration = Duration::from_secs(3600);
/// How far ahead of business time a block may be stamped. Nodes refuse blocks a few seconds from the future; the rest is for a
/// database whose clock is wrong. A time beyond this would pass every deadline.
const MAX_AHEAD: Duration = Duration::from_secs(15 * 60);
/// How often an endpoint is asked for its newest block that is not the one in use.
const PROBE_EVERY: Duration = Duration::from_secs(60);
/// The same while the one in use shows no new block: another may have one.
const PROBE_LATE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

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
    /// Another endpoint is about to say whether what the first one told is all: nothing is wrong with either.
    #[error("a second endpoint is asked again in a moment about blocks whose headers prove too little")]
    Awaited,
    /// The chain began anew, as a development chain does that is started again: its newest block is below the verified one
    /// and younger than it, and none of the kept blocks is on it.
    #[error(
        "the chain was reset: its newest block {head} is younger than the verified block {height}. If this is a development chain, run `cryptopay chain restart {chain}`; until then it takes no orders"
    )]
    Reset {
        /// Slug.
        chain: String,
        /// Newest block of the endpoint.
        head: u64,
        /// Verified height.
        height: i64,
    },
    /// The chain has reorganised deeper than the window of hashes that is kept, and nobody has confirmed that yet.
    #[error(
        "the chain has reorganised below block {oldest}, deeper than the {depth} blocks that are kept; credits are frozen until a second endpoint or several looks agree: check the endpoints, or raise reorg_depth"
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
    /// Another endpoint has newer blocks.
    Passed,
    /// The process ends.
    Stopped,
}

/// Runs one scan and says when to come again. Every endpoint that may be asked gets its turn before it is given up.
///
/// After `stop` no further range is begun, and the next look is due at once: it is another process's.
pub(crate) async fn run(context: &Context, access: &ChainAccess, stop: &CancellationToken) -> Duration {
    let (mut tried, mut judged) = (Vec::new(), BTreeSet::new());
    let (mut failure, mut awaited, mut reset) = (None, false, None);
    while let Some(endpoint) = access.endpoints.choose(Instant::now(), &tried) {
        tried.push(endpoint.name().to_owned());
        let others = access.endpoints.are_left(Instant::now(), &tried);
        let hurry = if others { Hurry::OthersWait } else { Hurry::None };
        match scan_chain(context, access, endpoint, hurry, stop).await {
            Ok(Scanned::Elsewhere) => return SLOW_POLL,
            Ok(Scanned::Idle) => return IDLE_POLL,
            Ok(Scanned::Passed) => {}
            Ok(Scanned::Stopped) => return Duration::ZERO,
            Ok(Scanned::AtHead { next_block, now }) => return next_poll(next_block, now, access.chain.block_time),
            Err(ScanError::Awaited) => {
                tracing::debug!(
                    chain = access.chain.slug,
                    endpoint = endpoint.name(),
                    "a second endpoint is waited for"
                );
                awaited = true;
            }
            Err(ScanError::Chain(error)) => {
                tracing::warn!(
                    chain = access.chain.slug,
                    endpoint = endpoint.name(),
                    %error,
                    "a look at the chain stopped; it goes on from the cursor"
                );
                if let ChainError::HeaderHashMismatch { number, stated, .. } = error
                    && judged.insert(endpoint.name().to_owned())
                    && access.endpoints.judge_header(endpoint, number, stated).await
                {
                    tried.pop();
                }
                failure = Some(error);
            }
            // Another endpoint may have the chain still.
            Err(error @ ScanError::Reset { .. }) => reset = Some(error),
            Err(error) => return stopped(context, access, &error).await,
        }
    }
    if let Some(error) = reset {
        return stopped(context, access, &error).await;
    }
    if awaited {
        return POLL;
    }
    let pause = access.endpoints.wait(Instant::now());
    // Not one that may be asked now has answered; or none may be asked.
    let Some(error) = failure else { return pause.clamp(POLL, SLOW_POLL) };
    // Longer than usual only if no other endpoint can be asked sooner.
    let asked = error.retry_after().unwrap_or_default().min(pause);
    // A query that was too wide is no failure of the chain: the next one is narrower.
    if !error.is_about_width() {
        health::note_failure(context, access, &error.into()).await;
    }
    give_back(context, access).await;
    pause.clamp(POLL, MAX_PAUSE).max(asked)
}

/// Ends a look that no other endpoint can mend.
async fn stopped(context: &Context, access: &ChainAccess, error: &ScanError) -> Duration {
    tracing::warn!(chain = access.chain.slug, %error, "a look at the chain stopped; it goes on from the cursor");
    health::note_failure(context, access, error).await;
    match error {
        ScanError::Ledger(LedgerError::Fenced) => POLL,
        ScanError::TooDeep { .. } | ScanError::Reset { .. } => IDLE_POLL,
        _ => SLOW_POLL,
    }
}

/// When to look again: at the expected time of the next block, then every 250 ms, then every second.
fn next_poll(next_block: Timestamp, now: Timestamp, block_time: Duration) -> Duration {
    if next_block > now {
        return next_block.since(now).clamp(Duration::from_millis(20), block_time.max(POLL));
    }
    if now.since(next_block) < block_time { POLL.min(block_time) } else { SLOW_POLL }
}

/// Reads everything between the cursor and an endpoint's head.
async fn scan_chain(
    context: &Context,
    access: &ChainAccess,
    endpoint: &Endpoint,
    hurry: Hurry,
    stop: &CancellationToken,
) -> Result<Scanned, ScanError> {
    let slug = access.chain.slug.as_str();
    let cursor = match chain_cursor::Entity::of(&context.database, slug).await? {
        Some(cursor) => cursor,
        None => begin(context, access, endpoint, hurry).await?,
    };
    let Some(fence) = hold(context, access, &cursor).await? else { return Ok(Scanned::Elsewhere) };
    let mut seen = Seen::new(cursor, stop.clone());
    let scanned = read_up(context, access, (endpoint, hurry), fence, &mut seen).await;
    // What was committed counts, also when the look has failed afterwards or another process goes on.
    confirm_if_moved(context, slug, &mut seen);
    scanned
}

/// Wakes the confirmations of a chain whose cursor has moved.
fn confirm_if_moved(context: &Context, slug: &str, seen: &mut Seen) {
    if std::mem::take(&mut seen.moved) {
        context.queue.confirmations.push(slug.to_owned());
    }
}

/// The reading itself, by whoever holds the lease. On the heap: it is deep, and what calls it may be as well.
fn read_up<'a>(
    context: &'a Context,
    access: &'a ChainAccess,
    through: (&'a Endpoint, Hurry),
    fence: Fence,
    seen: &'a mut Seen,
) -> BoxFuture<'a, Result<Scanned, ScanError>> {
    Box::pin(read_on(context, access, through, fence, seen))
}

async fn read_on(
    context: &Context,
    access: &ChainAccess,
    (endpoint, hurry): (&Endpoint, Hurry),
    mut fence: Fence,
    seen: &mut Seen,
) -> Result<Scanned, ScanError> {
    let tag = wanted_tag(context, access).await?;
    let mut tip = access.endpoints.tip(endpoint, tag, hurry).await?;
    let mut asked = Instant::now();
    tokens::check(context, access, endpoint).await;
    let mut latest = Latest::at(context).await?;
    latest.check(endpoint, [&tip.head.block])?;
    loop {
        let (height, head) = (signed_to_unsigned(fence.height), &tip.head);
        if head.number == height && head.hash == fence.hash {
            break;
        }
        let watch = WatchList::read(context, access, fence.height).await?;
        access.state.note_watched(!watch.is_empty());
        if watch.is_empty() && head.number > height {
            // Nothing links the blocks that are skipped to ours; who the endpoint is came with its head, and where there is
            // another one it holds the block as well.
            let agreed = watch::agreed(access, endpoint, head).await?.filter(|block| block.number > height);
            let Some(block) = agreed else {
                health::note(context, access, seen, head, None).await?;
                return Ok(Scanned::Idle);
            };
            if watch::skip(context, access, &fence, &block).await? {
                health::note(context, access, seen, head, None).await?;
                return Ok(Scanned::Idle);
            }
            continue;
        }
        if window::ensure(context, access, endpoint, &fence).await? {
            seen.went_back = true;
            match lease(context, access).await? {
                Some(renewed) => fence = renewed,
                None => return Ok(Scanned::Elsewhere),
            }
            continue;
        }
        let way = Way { endpoint, tip: &tip, watch: &watch, latest };
        match range::advance(context, access, way, &mut fence, seen).await? {
            Step::Advanced => seen.moved = true,
            Step::Narrowed => {
                // An endpoint that does not answer this either is away.
                tip = access.endpoints.tip(endpoint, tag, hurry).await?;
                asked = Instant::now();
                latest = Latest::at(context).await?;
                latest.check(endpoint, [&tip.head.block])?;
            }
            Step::Lagging => {
                if window::start_again(context, access, endpoint, &fence, &tip.head).await? {
                    (seen.moved, seen.went_back) = (true, true);
                } else {
                    seen.behind = true;
                    break;
                }
            }
            Step::Reorganised => {
                reorg::go_back(context, access, endpoint, &fence, &tip.head).await?;
                (seen.moved, seen.went_back) = (true, true);
            }
            Step::Elsewhere => return Ok(Scanned::Elsewhere),
            Step::Stopped => return Ok(Scanned::Stopped),
        }
        match lease(context, access).await? {
            Some(renewed) => fence = renewed,
            None => return Ok(Scanned::Elsewhere),
        }
        if signed_to_unsigned(fence.height) >= tip.head.number && asked.elapsed() > access.chain.block_time {
            // Reading took so long that there must be more by now.
            tip = access.endpoints.tip(endpoint, tag, hurry).await?;
            asked = Instant::now();
            latest = Latest::at(context).await?;
            latest.check(endpoint, [&tip.head.block])?;
        }
    }
    if !seen.behind {
        if seen.went_back {
            // However long this look took: a second one is another one.
            context.queue.scan_after(&access.chain.slug, POLL);
        } else {
            second_look::run(context, access, endpoint, &fence).await?;
            recheck::run(context, access, endpoint).await?;
        }
        access.state.forget_depth();
    }
    confirm_if_moved(context, &access.chain.slug, seen);
    let now = clock::business_now(&context.database).await?;
    if look_elsewhere(access, endpoint, &tip, seen, now).await && hurry == Hurry::OthersWait {
        return Ok(Scanned::Passed);
    }
    health::note(context, access, seen, &tip.head, Some(now)).await?;
    if !watch::is_watched(context, access).await? {
        return Ok(Scanned::Idle);
    }
    Ok(Scanned::AtHead { next_block: tip.head.time.plus(access.chain.block_time), now })
}

/// Writes the first cursor of a chain whose node answers at once, so that orders are taken on it from the first moment on;
/// nothing if there is one. Should it fail, the first look at the chain does it.
pub async fn begin_at_once(context: &Context, access: &ChainAccess) {
    let begun = async {
        let known = chain_cursor::Entity::of(&context.database, &access.chain.slug).await?;
        if let (None, Some(endpoint)) = (known, access.endpoints.choose(Instant::now(), &[])) {
            begin(context, access, endpoint, Hurry::None).await?;
        }
        Ok::<(), ScanError>(())
    };
    if let Err(error) = begun.await {
        tracing::warn!(chain = access.chain.slug, %error, "no block of the chain could be read yet");
        health::note_failure(context, access, &error).await;
    }
}

/// Writes the first cursor of a chain, at its head: nothing links that to what we hold, so where there is another endpoint it
/// has to know the block as well.
async fn begin(
    context: &Context,
    access: &ChainAccess,
    endpoint: &Endpoint,
    hurry: Hurry,
) -> Result<chain_cursor::Model, ScanError> {
    let (database, slug) = (&context.database, access.chain.slug.as_str());
    let head = access.endpoints.tip(endpoint, None, hurry).await?.head.block;
    Latest::at(context).await?.check(endpoint, [&head])?;
    let first = watch::agreed(access, endpoint, &head).await?.ok_or(ScanError::Awaited)?;
    let now = clock::database_now(database).await?;
    let height = i64::try_from(first.number).unwrap_or(i64::MAX);
    chain_cursor::Entity::begin(database, slug, height, first.hash, first.time, now).await?;
    chain_start::Entity::forget(database, slug).await?;
    let begun = chain_cursor::Entity::of(database, slug).await?;
    begun.ok_or_else(|| DbErr::RecordNotFound(format!("the cursor of {slug}")).into())
}

/// The latest time that a block may be stamped with. Simulated blocks follow business time, and so does this.
#[derive(Debug, Clone, Copy)]
struct Latest(Timestamp);

impl Latest {
    async fn at(context: &Context) -> Result<Self, DbErr> {
        Ok(Self(clock::business_now(&context.database).await?.plus(MAX_AHEAD)))
    }

    /// Refuses blocks from the future. No lie is noted for it, since it may be the database's clock that is wrong.
    fn check<'a>(&self, endpoint: &Endpoint, blocks: impl IntoIterator<Item = &'a Block>) -> Result<(), ChainError> {
        let Some(block) = blocks.into_iter().find(|block| block.time > self.0) else { return Ok(()) };
        let ahead = block.time.since(self.0).saturating_add(MAX_AHEAD);
        let error = ChainError::FromTheFuture { number: block.number, ahead };
        endpoint.refused(&error);
        Err(error)
    }
}

/// What one step towards the head came to.
enum Step {
    Advanced,
    /// A query failed that may have been too wide; the next one is narrower.
    Narrowed,
    Lagging,
    Reorganised,
    Elsewhere,
    Stopped,
}

/// The finality tag that is worth asking for: if the chain has one, and something waits for it.
async fn wanted_tag(context: &Context, access: &ChainAccess) -> Result<Option<FinalityTag>, ScanError> {
    let Some(tag) = access.chain.finality else { return Ok(None) };
    Ok(cryptopay_ledger::has_work(&context.database, &access.chain).await?.then_some(tag))
}

/// The height that a fresh finality tag vouches for.
fn final_height(tip: &Tip) -> Option<u64> {
    let is_fresh = |block: &Block| block.number <= tip.head.number && tip.head.time.since(block.time) <= FRESH_FINALITY;
    tip.tagged.as_ref().filter(|block| is_fresh(block)).map(|block| block.number)
}

/// Looks at another endpoint now and then, and more often while this one shows no new block. Says whether the other one
/// has blocks that this one has not shown: then the next look is at that one.
async fn look_elsewhere(access: &ChainAccess, endpoint: &Endpoint, tip: &Tip, seen: &Seen, now: Timestamp) -> bool {
    let late = seen.behind || now > tip.head.time.plus(access.chain.block_time.saturating_mul(2)).plus(SLOW_POLL);
    let since = if late { access.chain.block_time.clamp(PROBE_LATE.0, PROBE_LATE.1) } else { PROBE_EVERY };
    let Some(other) = access.endpoints.unasked(Instant::now(), endpoint, since) else { return false };
    match access.endpoints.tip(other, None, Hurry::OthersWait).await {
        Ok(theirs) => late && theirs.head.number > tip.head.number,
        Err(error) => {
            tracing::warn!(chain = access.chain.slug, endpoint = other.name(), %error, "an endpoint does not answer");
            false
        }
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
}
