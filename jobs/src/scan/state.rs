//! What is remembered of a chain between two scans; nothing is lost with it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cryptopay_domain::address::{AccountAddress, Hash};
use cryptopay_domain::ids::TransferId;
use tokio::time::Instant;

/// Longest wait for a second endpoint's word on blocks whose headers prove nothing: a payment is seen so much later.
const LONGEST_WAIT: Duration = Duration::from_secs(4);
/// After so long without a wait the next one is another, and as long. One that is always farther behind than that costs it
/// once, and not at every block.
const ANOTHER_WAIT: Duration = Duration::from_secs(10);

/// Memory of one process about one chain.
#[derive(Debug, Default)]
pub(crate) struct ScanState {
    /// Whether something was watched when the list was last read.
    watched: AtomicBool,
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    /// When this process last took or renewed the lease.
    leased_at: Option<Instant>,
    /// When a look was last heard of that the database answers.
    alive_at: Option<Instant>,
    /// Since when no endpoint has shown a block that is as new as what is verified.
    behind_since: Option<Instant>,
    /// When the problem's words were last written.
    noted_at: Option<Instant>,
    /// A reorganisation below the window: the block that is told of there, and how often in a row.
    depth: Option<(i64, Hash, u32)>,
    /// What endpoints contradict each other about.
    dispute: Option<String>,
    /// Blocks that one endpoint has named and another one has not: no single word settles that.
    disputed: BTreeSet<(i64, Hash)>,
    /// Since when another endpoint's word is waited for, about blocks that one alone has named.
    unvouched: BTreeMap<(i64, Hash), Instant>,
    /// Since when nobody has shown transfers that were read in a block.
    unshown: BTreeMap<TransferId, Instant>,
    /// Whose word was taken last for what a block holds, since its header proves nothing and nobody else could be asked.
    unchecked: Option<(Instant, String)>,
    /// Since when a second opinion is waited for, and when it was last.
    awaited: Option<(Instant, Instant)>,
    /// Contracts whose decimals have been compared.
    compared: BTreeSet<AccountAddress>,
    compared_at: Option<Instant>,
    /// Token contracts that have orders and left the registry, with the time of the look-up.
    unregistered: Option<(Instant, Vec<AccountAddress>)>,
}

impl ScanState {
    pub(super) fn note_lease(&self, at: Option<Instant>) {
        let mut memory = self.memory();
        memory.leased_at = at;
        memory.alive_at = at.or(memory.alive_at);
    }

    /// A look gets on, slowly as it may be.
    pub(super) fn note_alive(&self) {
        self.memory().alive_at = Some(Instant::now());
    }

    pub(crate) fn alive_at(&self) -> Option<Instant> {
        self.memory().alive_at
    }

    pub(super) fn was_leased_within(&self, age: Duration) -> bool {
        self.memory().leased_at.is_some_and(|at| at.elapsed() < age)
    }

    pub(super) fn note_watched(&self, watched: bool) {
        self.watched.store(watched, Ordering::Relaxed);
    }

    pub(super) fn was_watched(&self) -> bool {
        self.watched.load(Ordering::Relaxed)
    }

    /// Whether no endpoint has been up to date for longer than `bearable`.
    pub(super) fn is_behind(&self, behind: bool, bearable: Duration) -> bool {
        let mut memory = self.memory();
        if !behind {
            memory.behind_since = None;
            return false;
        }
        memory.behind_since.get_or_insert_with(Instant::now).elapsed() > bearable
    }

    /// Whether words that changed may be written already.
    pub(super) fn may_note(&self, every: Duration) -> bool {
        self.memory().noted_at.is_none_or(|at| at.elapsed() >= every)
    }

    pub(super) fn note_written(&self) {
        self.memory().noted_at = Some(Instant::now());
    }

    /// How often in a row the chain has been seen with this other block below the window.
    pub(super) fn count_depth(&self, number: i64, theirs: Hash) -> u32 {
        let mut memory = self.memory();
        let times = match memory.depth {
            Some((known, hash, times)) if (known, hash) == (number, theirs) => times.saturating_add(1),
            _ => 1,
        };
        memory.depth = Some((number, theirs, times));
        times
    }

    pub(super) fn forget_depth(&self) {
        self.memory().depth = None;
    }

    pub(crate) fn note_dispute(&self, dispute: Option<String>) {
        self.memory().dispute = dispute;
    }

    pub(super) fn dispute(&self) -> Option<String> {
        self.memory().dispute.clone()
    }

    pub(crate) fn remember_disputes(&self, blocks: impl IntoIterator<Item = (i64, Hash)>) {
        self.memory().disputed.extend(blocks);
    }

    /// Keeps only those that still `matter`.
    pub(crate) fn forget_disputes(&self, matter: impl Fn(&(i64, Hash)) -> bool) {
        self.memory().disputed.retain(matter);
    }

    pub(crate) fn is_disputed(&self, block: &(i64, Hash)) -> bool {
        self.memory().disputed.contains(block)
    }

    pub(crate) fn are_disputes(&self) -> bool {
        !self.memory().disputed.is_empty()
    }

    /// Of all blocks that one endpoint alone has named while another may be able to say: those for which it is still waited
    /// for, at the `longest`.
    pub(crate) fn await_vouching(
        &self,
        blocks: impl IntoIterator<Item = (i64, Hash)>,
        longest: Duration,
    ) -> BTreeSet<(i64, Hash)> {
        let (mut memory, now) = (self.memory(), Instant::now());
        let known = std::mem::take(&mut memory.unvouched);
        memory.unvouched = blocks.into_iter().map(|block| (block, known.get(&block).copied().unwrap_or(now))).collect();
        let waits = |since: &Instant| now.saturating_duration_since(*since) < longest;
        memory.unvouched.iter().filter(|(_, since)| waits(since)).map(|(block, _)| *block).collect()
    }

    /// Of all transfers that everybody who was asked has not shown: those of which that has been so for the `longest`. A node
    /// that has a block may be without its receipts for a moment.
    pub(crate) fn long_unshown(
        &self,
        transfers: impl IntoIterator<Item = TransferId>,
        longest: Duration,
    ) -> Vec<TransferId> {
        let (mut memory, now) = (self.memory(), Instant::now());
        let known = std::mem::take(&mut memory.unshown);
        memory.unshown = transfers.into_iter().map(|id| (id, known.get(&id).copied().unwrap_or(now))).collect();
        let is_long = |since: &Instant| now.saturating_duration_since(*since) >= longest;
        memory.unshown.iter().filter(|(_, since)| is_long(since)).map(|(id, _)| *id).collect()
    }

    /// Does as if this much time had passed since the first of those was waited for.
    pub(crate) fn pass(&self, time: Duration) {
        let mut memory = self.memory();
        let memory = &mut *memory;
        for since in memory.unvouched.values_mut().chain(memory.unshown.values_mut()) {
            *since = since.checked_sub(time).unwrap_or(*since);
        }
    }

    /// Whether a second endpoint that has nothing to say yet may be waited for a moment longer.
    pub(super) fn may_await_opinion(&self) -> bool {
        let (mut memory, now) = (self.memory(), Instant::now());
        let since = match memory.awaited {
            Some((since, last)) if now.saturating_duration_since(last) < ANOTHER_WAIT => since,
            _ => now,
        };
        memory.awaited = Some((since, now));
        now.saturating_duration_since(since) < LONGEST_WAIT
    }

    /// A second endpoint has said something.
    pub(super) fn note_opinion(&self) {
        self.memory().awaited = None;
    }

    pub(super) fn note_unchecked(&self, endpoint: &str) {
        self.memory().unchecked = Some((Instant::now(), endpoint.to_owned()));
    }

    /// Whose word alone counted for some block of late.
    pub(super) fn unchecked(&self, of_late: Duration) -> Option<String> {
        self.memory().unchecked.as_ref().filter(|(at, _)| at.elapsed() < of_late).map(|(_, endpoint)| endpoint.clone())
    }

    pub(super) fn is_compared(&self, contract: AccountAddress) -> bool {
        self.memory().compared.contains(&contract)
    }

    pub(super) fn note_compared(&self, contract: AccountAddress) {
        self.memory().compared.insert(contract);
    }

    /// Whether it is time to compare what could not be compared before.
    pub(super) fn may_compare(&self, every: Duration) -> bool {
        let mut memory = self.memory();
        let due = memory.compared_at.is_none_or(|at| at.elapsed() >= every);
        if due {
            memory.compared_at = Some(Instant::now());
        }
        due
    }

    /// Token contracts that have orders and left the registry, if they were looked up within `age`.
    pub(super) fn unregistered(&self, age: Duration) -> Option<Vec<AccountAddress>> {
        let memory = self.memory();
        memory.unregistered.as_ref().filter(|(at, _)| at.elapsed() < age).map(|(_, contracts)| contracts.clone())
    }

    pub(super) fn note_unregistered(&self, contracts: Vec<AccountAddress>) {
        self.memory().unregistered = Some((Instant::now(), contracts));
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_lag_counts_once_it_has_lasted_a_wait_ends_and_what_went_unchecked_is_forgotten_in_time() {
        let state = ScanState::default();
        let bearable = Duration::from_secs(5);
        assert!(!state.is_behind(true, bearable));
        tokio::time::advance(bearable).await;
        assert!(!state.is_behind(true, bearable), "not longer than that");
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(state.is_behind(true, bearable));
        assert!(!state.is_behind(false, bearable) && !state.is_behind(true, bearable), "it begins anew");

        for _ in 0..4 {
            assert!(state.may_await_opinion());
            tokio::time::advance(LONGEST_WAIT / 4).await;
        }
        assert!(!state.may_await_opinion(), "it has been waited for long enough");
        tokio::time::advance(ANOTHER_WAIT / 2).await;
        assert!(!state.may_await_opinion(), "and not again at every block");
        tokio::time::advance(ANOTHER_WAIT).await;
        assert!(state.may_await_opinion());
        tokio::time::advance(LONGEST_WAIT).await;
        state.note_opinion();
        assert!(state.may_await_opinion(), "it came; the next is another one");

        state.note_unchecked("https://one.example");
        assert_eq!(state.unchecked(bearable).as_deref(), Some("https://one.example"));
        tokio::time::advance(bearable).await;
        assert_eq!(state.unchecked(bearable), None);
    }
}
