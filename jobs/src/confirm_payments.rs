//! `confirm_payments`: asks the chain once more for the blocks that hold payments which are deep enough, and confirms
//! those whose hash is still the same.
//!
//! Where a second endpoint is healthy, both have to name the same hash: one endpoint's branch confirms nothing, however
//! deep it is. One that lags or stumbles is waited for. What they contradict each other about waits until two agree, also
//! while one of them is away; with a third one, two against one decide, and the one is trusted less.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use cryptopay_chain::{ChainError, Endpoint, Witness};
use cryptopay_domain::address::Hash;
use cryptopay_domain::registry::Chain;
use cryptopay_entity::clock;
use cryptopay_entity::transact;
use cryptopay_ledger::{LedgerError, Occasion};

use crate::context::{ChainAccess, Context};

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
    if let Err(error) = confirm_payments(context, access).await {
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

async fn confirm_payments(context: &Context, access: &ChainAccess) -> Result<(), ConfirmError> {
    let (database, chain) = (&context.database, &access.chain);
    let Some(wanted) = context.deadlines.step(due(context, chain)).await? else { return Ok(()) };
    if wanted.is_empty() {
        access.state.note_dispute(None);
    }
    let (checked, vouched_by) = check(access, wanted).await?;
    let cause = format!("payments on {} are deep enough", chain.slug);
    let confirming = async {
        transact!(database, |txn| {
            let now = clock::business_now(txn).await?;
            let occasion = Occasion { registry: &context.registry, cause: &cause, now };
            cryptopay_ledger::confirm(txn, occasion, chain, &checked, &vouched_by).await
        })
    };
    context.queue.nudge(context.deadlines.step::<_, LedgerError>(confirming).await?);
    Ok(())
}

type Blocks = BTreeSet<(i64, Hash)>;

/// Those of the blocks that the chain still names by the same hash, and who says so.
async fn check(access: &ChainAccess, wanted: Blocks) -> Result<(Blocks, String), ChainError> {
    let numbers: Vec<u64> = wanted.iter().filter_map(|(number, _)| u64::try_from(*number).ok()).collect();
    let Some(first) = access.endpoints.choose(Instant::now(), &[]).filter(|_| !numbers.is_empty()) else {
        return Ok((BTreeSet::new(), String::new()));
    };
    let named = Named::by(access.endpoints.witness(first, &numbers).await?);
    access.state.forget_disputes(|block| wanted.contains(block));
    let held: Blocks = wanted.into_iter().filter(|block| named.holds(block)).collect();
    let other = match access.endpoints.second(Instant::now(), first) {
        Some(second) => {
            let witness = access.endpoints.witness_soon(second, &numbers, PATIENCE).await;
            witness.ok().map(|witness| (second, Named::by(witness)))
        }
        None => None,
    };
    let Some((second, other)) = other else {
        // One that is between two attempts, and no more, is waited for as one is that lags.
        let near = access.endpoints.is_another_near(Instant::now(), first);
        let held = without_awaited(access, held, |_| near);
        return Ok((undisputed(access, held, &Named::default()), "asked again".to_owned()));
    };
    let disputed: Blocks = held.iter().filter(|block| other.knows(block) && !other.holds(block)).copied().collect();
    let dispute = disputed.first().map(|(number, _)| {
        format!("{} and {} name different blocks at height {number}; payments wait", first.name(), second.name())
    });
    let held: Blocks = held.into_iter().filter(|block| !disputed.contains(block)).collect();
    if let Some(dispute) = &dispute {
        tracing::error!(chain = access.chain.slug, dispute, "endpoints contradict each other");
        decide(access, [(first, &named), (second, &other)], &numbers).await;
    }
    access.state.remember_disputes(disputed);
    // One that is not there yet says nothing. It may be there in a moment: a branch that the first one has made up can be as
    // deep as it likes. If it is not, it is no healthy second endpoint for that block.
    let held = without_awaited(access, held, |block| !other.knows(block));
    let agreed = undisputed(access, held, &other);
    if dispute.is_some() || !access.state.are_disputes() {
        access.state.note_dispute(dispute);
    }
    Ok((agreed, format!("asked again, {}", second.name())))
}

/// How long an endpoint may be silent about a block: as long as the real chain takes to get to where another one says that it
/// is, which has a head as far above the block as confirms it.
fn longest_wait(chain: &Chain) -> Duration {
    chain.block_time.saturating_mul(chain.confirmations.saturating_add(3)).max(LEAST_WAIT)
}

/// Without the blocks about which another endpoint is `silent` that may speak soon.
fn without_awaited(access: &ChainAccess, held: Blocks, silent: impl Fn(&(i64, Hash)) -> bool) -> Blocks {
    let silent = held.iter().copied().filter(silent);
    let awaited = access.state.await_vouching(silent, longest_wait(&access.chain));
    if let Some((number, _)) = awaited.first() {
        tracing::debug!(chain = access.chain.slug, block_number = number, "payments wait for a second endpoint");
    }
    held.into_iter().filter(|block| !awaited.contains(block)).collect()
}

/// Without what was disputed before and the `other` endpoint does not settle.
fn undisputed(access: &ChainAccess, held: Blocks, other: &Named) -> Blocks {
    access.state.forget_disputes(|block| !other.holds(block));
    held.into_iter().filter(|block| !access.state.is_disputed(block)).collect()
}

/// With a third endpoint, two against one say whom to trust less.
async fn decide(access: &ChainAccess, parties: [(&Endpoint, &Named); 2], numbers: &[u64]) {
    let [(first, ours), (second, theirs)] = parties;
    let now = Instant::now();
    let third = access.endpoints.iter().find(|endpoint| {
        endpoint.is_usable(now) && endpoint.name() != first.name() && endpoint.name() != second.name()
    });
    let Some(third) = third else { return };
    let Ok(judge) = access.endpoints.witness_soon(third, numbers, PATIENCE).await.map(Named::by) else { return };
    for (number, hash) in &ours.0 {
        let Some(other) = theirs.0.get(number).filter(|other| *other != hash) else { continue };
        let what =
            |by: &Endpoint| format!("its block {number} is not the one that {} and {} hold", by.name(), third.name());
        match judge.0.get(number) {
            Some(named) if named == hash => return second.contradicted(what(first)),
            Some(named) if named == other => return first.contradicted(what(second)),
            _ => {}
        }
    }
}

/// What an endpoint names at some heights.
#[derive(Default)]
struct Named(BTreeMap<i64, Hash>);

impl Named {
    fn by(witness: Witness) -> Self {
        let blocks = witness.blocks.into_iter().flatten();
        Self(blocks.filter_map(|block| Some((i64::try_from(block.number).ok()?, block.hash))).collect())
    }

    fn holds(&self, (number, hash): &(i64, Hash)) -> bool {
        self.0.get(number) == Some(hash)
    }

    fn knows(&self, (number, _): &(i64, Hash)) -> bool {
        self.0.contains_key(number)
    }
}
