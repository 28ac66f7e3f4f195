//! What the ledger does between two derivations, and handy values.

use crate::event::EventType;
use crate::order::{
    AllocationFact, Announced, ChainView, Decision, Derived, History, LatePolicy, OrderStatus, Terms, Windows, change,
    derive,
};
use crate::time::Timestamp;
use crate::transfer::TransferState;
use crate::units::Units;

pub(super) const IN_TIME_UNTIL: u64 = 1_000;
pub(super) const LATE_UNTIL: u64 = 2_000;
pub(super) const REQUIRED: u32 = 3;
/// The block of `paid`: with `REQUIRED` confirmations it is deep at height 12.
pub(super) const BLOCK: u64 = 10;
pub(super) const SHALLOW: u64 = 11;
pub(super) const DEEP: u64 = 12;

pub(super) fn at(secs: u64) -> Timestamp {
    Timestamp::from_secs(secs)
}

pub(super) fn terms() -> Terms {
    Terms {
        due: Units::new(100),
        windows: Windows {
            expires_at: at(IN_TIME_UNTIL - 60),
            in_time_until: at(IN_TIME_UNTIL),
            late_until: at(LATE_UNTIL),
            monitor_until: at(LATE_UNTIL + 1_000),
        },
        required_confirmations: REQUIRED,
        late_policy: LatePolicy::Accept,
    }
}

pub(super) fn history() -> History {
    History { generation: 1, ..History::default() }
}

/// A payment in time, in block 10, on evidence that ships.
pub(super) fn paid(units: u128) -> AllocationFact {
    AllocationFact {
        units: Units::new(units),
        state: TransferState::Included,
        block_number: BLOCK,
        block_time: at(500),
        index: 0,
        ships: true,
        vouched: true,
        late_accepted: false,
        counted: false,
        announced_here: false,
    }
}

/// A payment in a block of this time.
pub(super) fn paid_at(units: u128, secs: u64) -> AllocationFact {
    AllocationFact { block_time: at(secs), ..paid(units) }
}

/// The chain before the deadline.
pub(super) fn open(height: u64) -> ChainView {
    ChainView { height, block_time: at(600), final_height: None }
}

/// The chain past the deadline and past the late window.
pub(super) fn closed(height: u64) -> ChainView {
    ChainView { height, block_time: at(LATE_UNTIL + 500), final_height: None }
}

/// What follows for an order of 100 that nothing else happened to.
pub(super) fn order(facts: &[AllocationFact], chain: ChainView) -> Derived {
    derive(&terms(), &history(), facts, &chain)
}

/// The same with a history.
pub(super) fn with(history: History, facts: &[AllocationFact], chain: ChainView) -> Derived {
    derive(&terms(), &history, facts, &chain)
}

/// The same under a late policy.
pub(super) fn under(late_policy: LatePolicy, facts: &[AllocationFact], chain: ChainView) -> Derived {
    derive(&Terms { late_policy, ..terms() }, &history(), facts, &chain)
}

/// A payment of all that is due, in this state.
pub(super) fn in_state(state: TransferState) -> AllocationFact {
    AllocationFact { state, ..paid(100) }
}

/// The first generation's confirmation was announced.
pub(super) fn announced_once() -> History {
    History { announced_generation: 1, ..history() }
}

/// An order with its facts, kept as the ledger keeps them.
#[derive(Debug, Clone)]
pub(super) struct Book {
    pub(super) terms: Terms,
    pub(super) history: History,
    pub(super) facts: Vec<AllocationFact>,
    pub(super) chain: ChainView,
    pub(super) announced: Announced,
    /// Every event with the generation that it belongs to.
    pub(super) told: Vec<(EventType, u32)>,
}

impl Book {
    pub(super) fn new(terms: Terms) -> Self {
        let announced = Announced {
            status: OrderStatus::Pending,
            received: Units::ZERO,
            flags: Vec::new(),
            late: None,
            failure_reason: None,
            closed: false,
            generation: 1,
            announced_generation: 0,
        };
        Self { terms, history: history(), facts: Vec::new(), chain: open(9), announced, told: Vec::new() }
    }

    /// An order of 100 that was paid by these transfers and whose confirmation was announced.
    pub(super) fn confirmed(facts: Vec<AllocationFact>) -> Self {
        let mut book = Self::new(terms());
        book.facts = facts;
        book.chain = open(DEEP);
        assert!(book.settle().contains(&EventType::PaymentConfirmed), "{book:?}");
        book
    }

    pub(super) fn derived(&self) -> Derived {
        derive(&self.terms, &self.history, &self.facts, &self.chain)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.history.closed_at.is_some() || self.chain.block_time > self.terms.windows.in_time_until
    }

    /// Derives, records and returns the events.
    pub(super) fn settle(&mut self) -> Vec<EventType> {
        self.settle_with(false)
    }

    /// The same after a late transfer was allocated.
    pub(super) fn settle_with(&mut self, fresh_late: bool) -> Vec<EventType> {
        let derived = self.derived();
        let closed = self.is_closed();
        let change = change(&self.announced, &derived, closed, fresh_late);
        self.told.extend(change.events.iter().map(|event| (*event, self.announced.generation)));
        for (fact, standing) in self.facts.iter_mut().zip(&derived.standings) {
            fact.counted = standing.counts;
            if change.events.contains(&EventType::PaymentConfirmed) {
                fact.announced_here = standing.deep;
            }
        }
        if closed && self.history.closed_at.is_none() {
            self.history.closed_at = Some(self.chain.block_time);
        }
        self.history.generation = change.generation;
        self.history.announced_generation = change.announced_generation;
        self.announced = Announced {
            status: derived.status,
            received: derived.received,
            flags: derived.flags,
            late: derived.late,
            failure_reason: derived.failure_reason,
            closed,
            generation: change.generation,
            announced_generation: change.announced_generation,
        };
        change.events
    }

    /// A new transfer of this order, in the block after the newest verified one, which becomes verified.
    pub(super) fn pay(&mut self, units: u128) {
        self.chain.height += 1;
        let fact = AllocationFact { block_number: self.chain.height, block_time: self.chain.block_time, ..paid(units) };
        self.facts.push(fact);
    }

    pub(super) fn mark(&mut self, which: usize, state: TransferState) {
        self.facts[which].state = state;
    }

    /// The transaction is mined again, elsewhere.
    pub(super) fn include_elsewhere(&mut self, which: usize, block_number: u64) {
        let fact = &mut self.facts[which];
        *fact = AllocationFact { state: TransferState::Included, block_number, announced_here: false, ..*fact };
    }

    /// The operator decides, as `resolve/` has it.
    pub(super) fn decide(&mut self, decision: Decision) {
        let come: Vec<&mut AllocationFact> = self.facts.iter_mut().filter(|fact| fact.state.is_in_block()).collect();
        let units = come.iter().map(|fact| fact.units).sum();
        if decision == Decision::Accept {
            for fact in come {
                fact.late_accepted = true;
                fact.ships = true;
            }
        }
        self.history.decision = Some((decision, units));
    }

    pub(super) fn status(&self) -> OrderStatus {
        self.announced.status
    }
}
