//! How a chain is, in one word and, where that is not `ok`, in a sentence. Written when it changes, and not at every look.

use std::time::{Duration, Instant};

use cryptopay_domain::time::Timestamp;
use cryptopay_domain::transfer::Block;
use cryptopay_entity::{chain_cursor, chain_start, clock};
use sea_orm::DbErr;
use tokio_util::sync::CancellationToken;

use super::{ScanError, signed_to_unsigned};
use crate::context::{ChainAccess, Context};

/// Blocks that may be unread while a chain is still well.
const BEARABLE_BLOCKS: u64 = 20;
/// How long an endpoint may show less than what is verified: those behind one address are not always alike.
const BEARABLE_LAG: Duration = Duration::from_secs(5);
/// How long no block may come on a chain, at least, before it is said to stand still.
const STALLED_AFTER: Duration = Duration::from_secs(30);
/// How long it is said that blocks went unchecked. Longer than between two of them on any chain where this happens.
const UNCHECKED_FOR: Duration = Duration::from_secs(600);
/// What mends most of what a chain's only endpoint does.
const ADD_ANOTHER: &str = "add the URL of another provider to this chain's CRYPTOPAY_RPC_ variable";
/// How often words that change while the state does not are written.
const WORDS_EVERY: Duration = Duration::from_secs(10);

/// Health of a chain that began anew.
const RESET: &str = "reset";

/// What one look at a chain has seen so far.
pub(super) struct Seen {
    /// As the database has it.
    health: String,
    problem: Option<String>,
    /// Whether the cursor has moved, and nobody was told yet.
    pub(super) moved: bool,
    /// Whether the cursor went back: what stood above it was put in doubt by this very look.
    pub(super) went_back: bool,
    /// Whether the endpoint's head is below what is verified.
    pub(super) behind: bool,
    /// Nothing more is begun after it.
    pub(super) stop: CancellationToken,
}

impl Seen {
    /// At the beginning of a look.
    pub(super) fn new(cursor: chain_cursor::Model, stop: CancellationToken) -> Self {
        let (health, problem) = (cursor.health, cursor.problem);
        Self { health, problem, moved: false, went_back: false, behind: false, stop }
    }
}

/// Notes how the chain is after a look that went well. `now` is the business clock; a chain that is skipped over does not
/// need it.
pub(super) async fn note(
    context: &Context,
    access: &ChainAccess,
    seen: &Seen,
    head: &Block,
    now: Option<Timestamp>,
) -> Result<(), DbErr> {
    let block_time = access.chain.block_time;
    let stalled_after = block_time.saturating_mul(10).max(STALLED_AFTER);
    let (health, problem) = if access.state.is_behind(seen.behind, bearable_lag(access)) {
        let words = "no endpoint shows a block as new as the verified ones: check that they are in sync";
        ("lagging", Some(words.to_owned()))
    } else if now.is_some_and(|now| now.since(head.time) > stalled_after && now > head.time) {
        let words = format!("block {} is the newest, and no other came since its time", head.number);
        ("stalled", Some(words))
    } else {
        let unchecked = access.state.unchecked(UNCHECKED_FOR).map(|endpoint| {
            format!(
                "the word of {endpoint} alone counts for blocks whose headers prove nothing, such as very full ones: what \
                 it leaves out of them is not found; {ADD_ANOTHER}"
            )
        });
        let problems = [access.state.dispute(), access.endpoints.faults(Instant::now()), unchecked];
        ("ok", problems.into_iter().flatten().next())
    };
    write(context, access, seen, (health, problem), Some(head.number)).await
}

/// How long no endpoint may have shown a block as new as the verified ones.
pub(super) fn bearable_lag(access: &ChainAccess) -> Duration {
    access.chain.block_time.saturating_mul(3).max(BEARABLE_LAG)
}

/// Notes that there is much to read, while it is read.
pub(super) async fn note_backlog(
    context: &Context,
    access: &ChainAccess,
    seen: &mut Seen,
    height: i64,
    head: u64,
) -> Result<(), DbErr> {
    let unread = head.saturating_sub(signed_to_unsigned(height));
    if unread <= BEARABLE_BLOCKS.max(u64::from(access.chain.confirmations)) {
        return Ok(());
    }
    let words = format!("about {} blocks are still to be read", unread.next_multiple_of(1_000));
    write(context, access, seen, ("lagging", Some(words.clone())), Some(head)).await?;
    (seen.health, seen.problem) = ("lagging".to_owned(), Some(words));
    Ok(())
}

/// Notes why a look at the chain came to nothing.
pub(super) async fn note_failure(context: &Context, access: &ChainAccess, error: &ScanError) {
    crate::metrics::scan_failed(&access.chain.slug);
    let health = match error {
        ScanError::Chain(_) => "unreachable",
        ScanError::TooDeep { .. } => "frozen",
        ScanError::Reset { .. } => RESET,
        _ => return,
    };
    let problem = match error {
        ScanError::Chain(_) if !access.endpoints.are_several() => {
            format!("{error}; the chain waits for this endpoint, its only one: {ADD_ANOTHER}")
        }
        _ => error.to_string(),
    };
    let slug = access.chain.slug.as_str();
    let noted = async {
        let Some(cursor) = chain_cursor::Entity::of(&context.database, slug).await? else {
            return note_start(context, access, problem).await;
        };
        // A chain that was reset stays so until a look that goes well, or until the operator restarts it.
        if cursor.health == RESET && health != RESET {
            return Ok(());
        }
        write(context, access, &Seen::new(cursor, CancellationToken::new()), (health, Some(problem)), None).await
    };
    if let Err(error) = noted.await {
        tracing::warn!(chain = slug, %error, "the chain's problem could not be noted");
    }
}

/// Notes why a chain without a cursor cannot start.
async fn note_start(context: &Context, access: &ChainAccess, problem: String) -> Result<(), DbErr> {
    let slug = access.chain.slug.as_str();
    let known = chain_start::Entity::problem_of(&context.database, slug).await?;
    if known.as_ref() == Some(&problem) || (known.is_some() && !access.state.may_note(WORDS_EVERY)) {
        return Ok(());
    }
    let now = clock::database_now(&context.database).await?;
    chain_start::Entity::note(&context.database, slug, problem, now).await?;
    access.state.note_written();
    Ok(())
}

async fn write(
    context: &Context,
    access: &ChainAccess,
    seen: &Seen,
    (health, problem): (&'static str, Option<String>),
    head: Option<u64>,
) -> Result<(), DbErr> {
    let words_only = seen.health == health;
    if words_only && (seen.problem == problem || !access.state.may_note(WORDS_EVERY)) {
        return Ok(());
    }
    if !words_only {
        let (from, to) = (seen.health.as_str(), health);
        tracing::info!(chain = access.chain.slug, from, to, problem = problem.as_deref(), "the chain's health changed");
    }
    let now = clock::database_now(&context.database).await?;
    let head = head.and_then(|head| i64::try_from(head).ok());
    chain_cursor::Entity::note_poll(&context.database, &access.chain.slug, head, health, problem, now).await?;
    access.state.note_written();
    Ok(())
}
