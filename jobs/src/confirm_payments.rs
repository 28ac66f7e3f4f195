//! `confirm_payments`: asks the chain once more for the blocks that hold payments which are deep enough, and for the payments
//! in them, and confirms those whose hash is still the same and whose payments are shown.
//!
//! Where a second endpoint is healthy, both have to name the same hash and to show every payment that we hold there: one
//! endpoint's branch confirms nothing, however deep it is, nor does a payment that one endpoint has added to a block of the
//! chain. One that lags or stumbles is waited for. What they contradict each other about waits until two agree, also
//! while one of them is away; with a third one, two against one decide, and the one is trusted less. A payment that
//! everybody who was asked has not shown for as long as an endpoint is waited for is put in doubt.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use cryptopay_chain::{ChainError, Endpoint};
use cryptopay_domain::ids::TransferId;
use cryptopay_domain::registry::Chain;
use cryptopay_entity::clock;
use cryptopay_entity::transact;
use cryptopay_ledger::{Checked, LedgerError, Occasion, ToCheck};
use futures_util::future::BoxFuture;

use crate::context::{ChainAccess, Context};
use crate::scan;
use crate::vouching::{BlockId, Named, block_of};

/// Least patience with a second endpoint: payments wait meanwhile.
const PATIENCE: Duration = Duration::from_secs(2);
/// Shortest time for which an endpoint that lags or stumbles is waited for.
const LEAST_WAIT: Duration = Duration::from_secs(30);

/// Why nothing was confirmed this time. The next scan, or the sweep, tries again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfirmError {
    /// The chain gave no usable answer.
    #[error("{0}")]
    Chain(#[from] ChainError),
    /// The ledger refused.
    #[error("{0}")]
    Ledger(#[from] LedgerError),
}

/// Runs once; a failure is logged and left to the next run.
pub(crate) async fn run(context: &Context, access: &ChainAccess) {
    if let Err(error) = confirming(context, access).await {
        tracing::warn!(chain = access.chain.slug, %error, "confirming stopped; the next scan tries again");
    }
}

/// Whether something on a chain is deep enough and not confirmed, or final and not noted as such.
pub(crate) async fn is_due(context: &Context, chain: &Chain) -> Result<bool, LedgerError> {
    Ok(due(context, chain).await?.is_some())
}

/// The blocks to ask for; `None` if there is nothing to do at all.
async fn due(context: &Context, chain: &Chain) -> Result<Option<Blocks>, LedgerError> {
    let database = &context.database;
    let wanted = cryptopay_ledger::blocks_to_check(database, chain).await?;
    let is_any = !wanted.is_empty() || cryptopay_ledger::has_final(database, chain).await?;
    Ok(is_any.then_some(wanted))
}

/// On the heap: it is deep, and what calls it may be as well.
fn confirming<'a>(context: &'a Context, access: &'a ChainAccess) -> BoxFuture<'a, Result<(), ConfirmError>> {
    Box::pin(confirm_payments(context, access))
}

async fn confirm_payments(context: &Context, access: &ChainAccess) -> Result<(), ConfirmError> {
    let (database, chain) = (&context.database, &access.chain);
    let Some(wanted) = context.deadlines.step(due(context, chain)).await? else { return Ok(()) };
    if wanted.is_empty() {
        access.state.note_dispute(None);
    }
    access.state.forget_disputes(|block| wanted.contains(block));
    // What two contradict each other about is in nobody's way.
    let choosing =
        cryptopay_ledger::transfers_to_check(database, chain, &wanted, |block| access.state.is_disputed(block));
    let asked = context.deadlines.step(choosing).await?;
    let Answer { held, vouched_by, unshown } = check(access, &asked).await?;
    let cause = format!("payments on {} are deep enough", chain.slug);
    let checked = Checked { blocks: held, transfers: asked.transfers.iter().map(|row| row.id).collect() };
    let confirming = async {
        transact!(database, |txn| {
            let now = clock::business_now(txn).await?;
            let occasion = Occasion { registry: &context.registry, cause: &cause, now };
            cryptopay_ledger::confirm(txn, occasion, chain, &checked, &vouched_by).await
        })
    };
    context.queue.nudge(context.deadlines.step::<_, LedgerError>(confirming).await?);
    if !unshown.is_empty() {
        doubt(context, access, unshown).await?;
    }
    Ok(())
}

/// Puts payments in doubt that nobody shows.
fn doubt<'a>(
    context: &'a Context,
    access: &'a ChainAccess,
    unshown: Vec<TransferId>,
) -> BoxFuture<'a, Result<(), LedgerError>> {
    Box::pin(write_doubt(context, access, unshown))
}

async fn write_doubt(context: &Context, access: &ChainAccess, unshown: Vec<TransferId>) -> Result<(), LedgerError> {
    let chain = &access.chain;
    let transfers = unshown.len();
    tracing::error!(chain = chain.slug, transfers, "no endpoint shows transfers that were read in blocks of the chain");
    let cause = format!("no endpoint of {} shows the transfer where it was read", chain.slug);
    let doubting = async {
        transact!(&context.database, |txn| {
            let now = clock::business_now(txn).await?;
            let seen_at = clock::database_now(txn).await?;
            let occasion = Occasion { registry: &context.registry, cause: &cause, now };
            cryptopay_ledger::doubt(txn, occasion, chain, unshown.clone(), seen_at).await
        })
    };
    context.queue.nudge(context.deadlines.step::<_, LedgerError>(doubting).await?);
    context.queue.scan_after(&chain.slug, scan::POLL);
    Ok(())
}

type Blocks = BTreeSet<BlockId>;

/// What came of asking.
#[derive(Default)]
struct Answer {
    /// Blocks that the chain still names by the same hash, with all that we hold in them.
    held: Blocks,
    /// Who says so.
    vouched_by: String,
    /// Transfers that nobody has shown for too long.
    unshown: Vec<TransferId>,
}

async fn check(access: &ChainAccess, asked: &ToCheck) -> Result<Answer, ChainError> {
    let Some(first) = access.endpoints.choose(Instant::now(), &[]).filter(|_| !asked.blocks.is_empty()) else {
        return Ok(Answer::default());
    };
    let named = Named::by(access, first, asked, None).await?;
    let held: Blocks = asked.blocks.iter().copied().filter(|block| named.holds(block)).collect();
    let other = match access.endpoints.second(Instant::now(), first) {
        Some(second) => Named::by(access, second, asked, Some(PATIENCE)).await.ok().map(|other| (second, other)),
        None => None,
    };
    let Some((second, other)) = other else {
        return Ok(alone(access, first, &named, held));
    };
    let disputed: Blocks = asked.blocks.iter().copied().filter(|block| are_apart(&named, &other, block)).collect();
    let dispute = disputed.first().map(|block| in_words((first, &named), (second, &other), block));
    let held: Blocks = held.into_iter().filter(|block| !disputed.contains(block)).collect();
    if let Some(dispute) = &dispute {
        tracing::error!(chain = access.chain.slug, dispute, "endpoints contradict each other");
        decide(access, [(first, &named), (second, &other)], asked, &disputed).await;
    }
    access.state.remember_disputes(disputed);
    // One that is not there yet says nothing. It may be there in a moment: a branch that the first one has made up can be as
    // deep as it likes. If it is not, it is no healthy second endpoint for that block.
    let settled: Blocks = held.iter().copied().filter(|block| other.holds(block)).collect();
    let held = without_awaited(access, held, |block| !other.knows(block));
    let held = undisputed(access, held, &settled);
    if dispute.is_some() || !access.state.are_disputes() {
        access.state.note_dispute(dispute);
    }
    let by_neither = named.unshown().filter(|(block, id)| other.shows(block, *id) == Some(false)).map(|(_, id)| id);
    let unshown = access.state.long_unshown(by_neither, longest_wait(&access.chain));
    Ok(Answer { held, vouched_by: format!("asked again, {}", second.name()), unshown })
}

/// What one endpoint's word is good for while no other can be asked.
fn alone(access: &ChainAccess, first: &Endpoint, named: &Named, held: Blocks) -> Answer {
    // One that is between two attempts, and no more, is waited for as one is that lags.
    let near = access.endpoints.is_another_near(Instant::now(), first);
    let held = without_awaited(access, held, |_| near);
    let held = undisputed(access, held, &Blocks::new());
    let mut unshown = Vec::new();
    if !access.endpoints.are_several() {
        unshown = access.state.long_unshown(named.unshown().map(|(_, id)| id), longest_wait(&access.chain));
    } else if let Some(((number, _), _)) = named.unshown().next() {
        // Whoever has read it is away, or was: one word against one.
        let first = first.name();
        access.state.note_dispute(Some(format!(
            "{first} does not show a payment that was read in block {number}; it waits until another endpoint can be asked"
        )));
    }
    Answer { held, vouched_by: "asked again".to_owned(), unshown }
}

/// Whether two that have a block at its height do not say the same of it. Where the first names another one than ours, that is
/// a reorganisation, which the next scan sees.
fn are_apart(ours: &Named, theirs: &Named, block: &BlockId) -> bool {
    if !ours.names(block) || !theirs.knows(block) {
        return false;
    }
    !theirs.names(block) || !ours.unshown_in(block).eq(theirs.unshown_in(block))
}

fn in_words((first, _): (&Endpoint, &Named), (second, theirs): (&Endpoint, &Named), block: &BlockId) -> String {
    let (first, second, number) = (first.name(), second.name(), block.0);
    if theirs.names(block) {
        format!("{first} and {second} show different payments in block {number}; they wait")
    } else {
        format!("{first} and {second} name different blocks at height {number}; payments wait")
    }
}

/// How long an endpoint may be silent about a block: as long as the real chain takes to get to where another one says that it
/// is, which has a head as far above the block as confirms it.
fn longest_wait(chain: &Chain) -> Duration {
    chain.block_time.saturating_mul(chain.confirmations.saturating_add(3)).max(LEAST_WAIT)
}

/// Without the blocks about which another endpoint is `silent` that may speak soon.
fn without_awaited(access: &ChainAccess, held: Blocks, silent: impl Fn(&BlockId) -> bool) -> Blocks {
    let silent = held.iter().copied().filter(silent);
    let awaited = access.state.await_vouching(silent, longest_wait(&access.chain));
    if let Some((number, _)) = awaited.first() {
        tracing::debug!(chain = access.chain.slug, block_number = number, "payments wait for a second endpoint");
    }
    held.into_iter().filter(|block| !awaited.contains(block)).collect()
}

/// Without what was disputed before and is not `settled` by two that agree.
fn undisputed(access: &ChainAccess, held: Blocks, settled: &Blocks) -> Blocks {
    access.state.forget_disputes(|block| !settled.contains(block));
    held.into_iter().filter(|block| !access.state.is_disputed(block)).collect()
}

/// With a third endpoint, two against one say whom to trust less.
async fn decide(access: &ChainAccess, parties: [(&Endpoint, &Named); 2], asked: &ToCheck, disputed: &Blocks) {
    let [(first, ours), (second, theirs)] = parties;
    let now = Instant::now();
    let third = access.endpoints.iter().find(|endpoint| {
        endpoint.is_usable(now) && endpoint.name() != first.name() && endpoint.name() != second.name()
    });
    let Some(third) = third else { return };
    let blocks = disputed.clone();
    let transfers = asked.transfers.iter().filter(|row| blocks.contains(&block_of(row))).cloned().collect();
    let Ok(judge) = Named::by(access, third, &ToCheck { blocks, transfers }, Some(PATIENCE)).await else { return };
    for block in disputed {
        let number = block.0;
        let what =
            |by: &Endpoint| format!("its block {number} is not the one that {} and {} hold", by.name(), third.name());
        let (one, another, judged) = (ours.hash(number), theirs.hash(number), judge.hash(number));
        if one != another {
            match judged {
                Some(_) if judged == one => return second.contradicted(what(first)),
                Some(_) if judged == another => return first.contradicted(what(second)),
                _ => continue,
            }
        }
        let told_by_one = ours.unshown_in(block).chain(theirs.unshown_in(block)).find_map(|id| {
            let (one, another) = (ours.shows(block, id)?, theirs.shows(block, id)?);
            (one != another).then_some(())?;
            Some((one, judge.shows(block, id)?))
        });
        let Some((first_shows, third_shows)) = told_by_one else { continue };
        let (alone, by) = if first_shows == third_shows { (second, first) } else { (first, second) };
        return alone.contradicted(format!(
            "the payments that it shows in block {number} are not those that {} and {} show",
            by.name(),
            third.name()
        ));
    }
}
