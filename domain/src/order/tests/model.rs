//! Random histories: after every step, what must always hold holds.

use alloy_primitives::U256;
use proptest::prelude::*;

use super::book::{Book, IN_TIME_UNTIL, at, history, open, paid, terms};
use crate::event::EventType;
use crate::order::{AllocationFact, ChainView, Decision, Derived, History, LatePolicy, OrderStatus, Terms, derive};
use crate::time::Timestamp;
use crate::transfer::{TransferState, confirmations};
use crate::units::Units;

/// Something that happens to an order or its chain. Transfers are named by a number that is taken modulo their count.
#[derive(Debug, Clone, Copy)]
enum Step {
    Pay { units: u128, ships: bool },
    Deepen { blocks: u64, secs: u64 },
    Rewind { blocks: u64 },
    Tag { below: Option<u64> },
    Miss(usize),
    Orphan(usize),
    FindInPlace(usize),
    IncludeElsewhere(usize),
    Vouch(usize),
    Finalize(usize),
    Cancel,
    PassDeadline,
    Decide(bool),
    LoseAddress(bool),
    WrongAsset(bool),
    Round(u128),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let which = 0usize..6;
    let step = prop_oneof![
        4 => (prop_oneof![Just(100u128), Just(60), Just(40), 1u128..150], prop::bool::weighted(0.85))
            .prop_map(|(units, ships)| Step::Pay { units, ships }),
        5 => (1u64..4, 0u64..200).prop_map(|(blocks, secs)| Step::Deepen { blocks, secs }),
        3 => (1u64..4).prop_map(|blocks| Step::Rewind { blocks }),
        1 => prop::option::of(0u64..4).prop_map(|below| Step::Tag { below }),
        3 => which.clone().prop_map(Step::Miss),
        3 => which.clone().prop_map(Step::Orphan),
        3 => which.clone().prop_map(Step::FindInPlace),
        3 => which.clone().prop_map(Step::IncludeElsewhere),
        6 => which.clone().prop_map(Step::Vouch),
        1 => which.prop_map(Step::Finalize),
        1 => Just(Step::Cancel),
        1 => Just(Step::PassDeadline),
        2 => prop::bool::weighted(0.8).prop_map(Step::Decide),
        1 => prop::bool::weighted(0.5).prop_map(Step::LoseAddress),
        1 => prop::bool::weighted(0.5).prop_map(Step::WrongAsset),
        1 => prop_oneof![Just(0u128), 1u128..50].prop_map(Step::Round),
    ];
    prop::collection::vec(step, 1..60)
}

/// Applies a step as far as it makes sense; returns whether a late transfer was allocated by it.
fn apply(book: &mut Book, step: Step) -> bool {
    let count = book.facts.len();
    let pick = |number: usize| number.checked_rem(count);
    match step {
        Step::Pay { units, ships } => {
            if count < 6 {
                book.pay(units);
                book.facts[count].ships = ships;
                book.facts[count].vouched = false;
                return book.chain.block_time > book.terms.windows.in_time_until || book.history.canceled_at.is_some();
            }
        }
        Step::Deepen { blocks, secs } => {
            book.chain.height += blocks;
            book.chain.block_time = book.chain.block_time.plus(std::time::Duration::from_secs(secs));
        }
        // The scanner found other blocks: its cursor goes back, and what stood above is missing.
        Step::Rewind { blocks } => {
            book.chain.height = book.chain.height.saturating_sub(blocks).max(1);
            book.chain.final_height = None;
            for fact in &mut book.facts {
                if fact.state == TransferState::Included && fact.block_number > book.chain.height {
                    fact.state = TransferState::Missing;
                }
            }
        }
        Step::Tag { below } => book.chain.final_height = below.map(|below| book.chain.height.saturating_sub(below)),
        Step::Miss(which) => change_state(book, pick(which), &[TransferState::Included], TransferState::Missing),
        Step::Orphan(which) => change_state(book, pick(which), &[TransferState::Missing], TransferState::Orphaned),
        Step::FindInPlace(which) => {
            if let Some(which) = pick(which) {
                book.chain.height = book.chain.height.max(book.facts[which].block_number);
            }
            let gone = [TransferState::Missing, TransferState::Orphaned];
            change_state(book, pick(which), &gone, TransferState::Included);
        }
        Step::IncludeElsewhere(which) => {
            if let Some(which) = pick(which).filter(|which| is_gone(&book.facts[*which])) {
                book.chain.height += 1;
                book.include_elsewhere(which, book.chain.height);
                book.facts[which].block_time = book.chain.block_time;
                book.facts[which].vouched = false;
            }
        }
        Step::Vouch(which) => {
            if let Some(which) = pick(which) {
                book.facts[which].vouched = true;
            }
        }
        Step::Finalize(which) => {
            if let Some(which) = pick(which).filter(|which| book.facts[*which].block_number <= book.chain.height) {
                change_state(book, Some(which), &[TransferState::Included], TransferState::Final);
            }
        }
        Step::Cancel => {
            if book.facts.is_empty() && book.history.canceled_at.is_none() {
                book.history.canceled_at = Some(book.chain.block_time);
            }
        }
        Step::PassDeadline => book.chain.block_time = book.chain.block_time.max(at(IN_TIME_UNTIL + 1)),
        Step::Decide(accept) => {
            if book.derived().decision_due {
                book.decide(if accept { Decision::Accept } else { Decision::Reject });
            }
        }
        Step::LoseAddress(lost) => book.history.lost_address = lost,
        Step::WrongAsset(wrong) => book.history.wrong_asset = wrong,
        Step::Round(units) => book.history.rounding = book.history.rounding.max(Units::new(units)),
    }
    false
}

fn is_gone(fact: &AllocationFact) -> bool {
    matches!(fact.state, TransferState::Missing | TransferState::Orphaned)
}

fn change_state(book: &mut Book, which: Option<usize>, from: &[TransferState], to: TransferState) {
    if let Some(which) = which.filter(|which| from.contains(&book.facts[*which].state)) {
        book.mark(which, to);
    }
}

/// Units in a block and deep by themselves, on evidence that ships, counted independently of `derive`.
fn deep_by_itself(book: &Book, derived: &Derived) -> Units {
    let deep = |fact: &AllocationFact| match fact.state {
        TransferState::Final => true,
        TransferState::Included if !fact.vouched => false,
        TransferState::Included => {
            confirmations(fact.block_number, book.chain.height) >= u64::from(book.terms.required_confirmations)
                || book.chain.final_height.is_some_and(|height| fact.block_number <= height)
        }
        _ => false,
    };
    let counting = |index: usize| derived.standings[index].counts;
    book.facts
        .iter()
        .enumerate()
        .filter(|(index, fact)| counting(*index) && fact.ships && deep(fact))
        .map(|(_, fact)| fact.units)
        .sum()
}

/// The same, with what an announced confirmation covers: transfers in their place or missing.
fn deep_or_covered(book: &Book, derived: &Derived) -> Units {
    let covered = |fact: &AllocationFact| {
        fact.announced_here && matches!(fact.state, TransferState::Included | TransferState::Missing)
    };
    let others = Book { facts: book.facts.iter().filter(|fact| !covered(fact)).copied().collect(), ..book.clone() };
    let standings = book.facts.iter().zip(&derived.standings).filter(|(fact, _)| !covered(fact)).map(|(_, s)| *s);
    let rest = deep_by_itself(&others, &Derived { standings: standings.collect(), ..derived.clone() });
    book.facts
        .iter()
        .filter(|fact| covered(fact) && fact.ships)
        .map(|fact| fact.units)
        .sum::<Units>()
        .saturating_add(rest)
}

fn settled(book: &Book) -> Units {
    match book.history.decision {
        Some((Decision::Accept, units)) => units.min(book.terms.due),
        _ => book.terms.due,
    }
}

fn without_standings(derived: Derived) -> Derived {
    Derived { standings: Vec::new(), ..derived }
}

fn consistent(terms: &Terms, derived: &Derived) -> Result<(), TestCaseError> {
    prop_assert_eq!(derived.fulfillable, derived.status == OrderStatus::Confirmed);
    prop_assert!(!derived.fulfillable || !derived.received.is_zero());
    prop_assert!(derived.confirmed <= derived.received);
    prop_assert!(derived.remaining.is_zero() || derived.excess.is_zero());
    let paid = derived.received.checked_add(derived.remaining);
    let excess = derived.received.saturating_sub(terms.due);
    prop_assert_eq!(paid, terms.due.checked_add(excess));
    prop_assert!(derived.excess == excess || derived.excess.is_zero());
    prop_assert_eq!(derived.failure_reason.is_some(), derived.status == OrderStatus::Failed);
    prop_assert!(derived.flags.is_sorted());
    Ok(())
}

/// Settles, and checks everything that must hold before, in between and after.
fn settle_and_check(book: &mut Book, fresh_late: bool, newest_block_time: Timestamp) -> Result<(), TestCaseError> {
    let before = book.announced.clone();
    let was = book.clone();
    let derived = book.derived();
    consistent(&book.terms, &derived)?;

    // Invariant 6: the order of the facts never matters.
    for turned in [was.facts.iter().rev().copied().collect::<Vec<_>>(), rotated(&was.facts)] {
        let other = derive(&was.terms, &was.history, &turned, &was.chain);
        prop_assert_eq!(without_standings(other), without_standings(derived.clone()));
    }

    let events = book.settle_with(fresh_late);

    // Invariant 3: nothing is confirmed without enough deep shipping units.
    if derived.status == OrderStatus::Confirmed {
        let first_in_generation = was.history.announced_generation < was.history.generation;
        let deep = if first_in_generation { deep_by_itself(&was, &derived) } else { deep_or_covered(&was, &derived) };
        prop_assert!(deep >= settled(&was), "{deep} deep of {} for {derived:?}", settled(&was));
    }
    prop_assert!(derived.status != OrderStatus::Reorged || was.history.announced_generation > 0);

    // Invariant 4: nothing closes before a block past the deadline is verified.
    if book.announced.closed || derived.status == OrderStatus::Expired {
        prop_assert!(newest_block_time > book.terms.windows.in_time_until);
    }
    prop_assert!(!(derived.payable && book.is_closed()));

    // Events exactly when something can be seen, or a late payment came.
    let seen = &book.announced;
    let differs = (before.status, before.received, &before.flags, before.late, before.failure_reason)
        != (seen.status, seen.received, &seen.flags, seen.late, seen.failure_reason);
    // Closing short asks for a decision, whether or not something else can be seen of it.
    let closed_short = !before.closed && seen.closed && seen.status == OrderStatus::Underpaid;
    prop_assert_eq!(
        !events.is_empty(),
        differs || fresh_late || closed_short,
        "{:?}: {:?} to {:?}",
        events,
        before,
        seen
    );

    // Invariant 2, one step of it: each event at most once; confirmations and generations go together.
    let distinct: std::collections::BTreeSet<_> = events.iter().collect();
    prop_assert_eq!(distinct.len(), events.len());
    let ended = events.contains(&EventType::PaymentReorged);
    prop_assert_eq!(book.history.generation, was.history.generation + u32::from(ended));
    prop_assert!(book.history.announced_generation <= book.history.generation);
    prop_assert_eq!(
        book.history.announced_generation != was.history.announced_generation,
        events.contains(&EventType::PaymentConfirmed)
    );

    // Invariant 6: once more changes nothing and tells nothing.
    prop_assert_eq!(book.derived(), derived);
    let settled_once = book.clone();
    prop_assert_eq!(book.settle(), []);
    prop_assert_eq!(&book.announced, &settled_once.announced);
    prop_assert_eq!(&book.facts, &settled_once.facts);
    Ok(())
}

fn rotated(facts: &[AllocationFact]) -> Vec<AllocationFact> {
    let mut turned = facts.to_vec();
    if !turned.is_empty() {
        turned.rotate_left(1);
    }
    turned
}

/// Invariant 2: confirmations and reorganisations take turns, one pair for each generation.
fn takes_turns(told: &[(EventType, u32)]) -> Result<(), TestCaseError> {
    let turns: Vec<_> = told
        .iter()
        .filter(|(event, _)| matches!(event, EventType::PaymentConfirmed | EventType::PaymentReorged))
        .copied()
        .collect();
    for (turn, generation) in turns.iter().zip((1u32..).flat_map(|n| [n, n])).map(|(turn, n)| (*turn, n)) {
        prop_assert_eq!(turn.1, generation, "{:?}", turns);
    }
    for pair in turns.chunks(2) {
        prop_assert_eq!(pair[0].0, EventType::PaymentConfirmed, "{:?}", turns);
        prop_assert!(pair.len() == 1 || pair[1].0 == EventType::PaymentReorged, "{:?}", turns);
    }
    Ok(())
}

fn any_state() -> impl Strategy<Value = TransferState> {
    prop::sample::select(TransferState::ALL)
}

fn any_units() -> impl Strategy<Value = Units> {
    prop_oneof![
        any::<[u64; 4]>().prop_map(|limbs| Units(U256::from_limbs(limbs))),
        (0u64..3).prop_map(|less| Units(U256::MAX - U256::from(less))),
        (0u128..3).prop_map(Units::new),
    ]
}

fn any_time() -> impl Strategy<Value = Timestamp> {
    any::<i64>().prop_map(Timestamp::from_micros)
}

prop_compose! {
    fn any_fact()(
        units in any_units(), state in any_state(), block_number: u64, block_time in any_time(), index: u64,
        ships: bool, vouched: bool, late_accepted: bool, counted: bool, announced_here: bool,
    ) -> AllocationFact {
        AllocationFact { units, state, block_number, block_time, index, ships, vouched, late_accepted, counted, announced_here }
    }
}

prop_compose! {
    fn any_history()(
        canceled_at in prop::option::of(any_time()), closed_at in prop::option::of(any_time()),
        decision in prop::option::of((prop::sample::select(Decision::ALL), any_units())),
        lost_address: bool, wrong_asset: bool, rounding in any_units(), generation: u32, announced_generation: u32,
    ) -> History {
        History { canceled_at, closed_at, decision, lost_address, wrong_asset, rounding, generation, announced_generation }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn every_random_history_keeps_the_invariants(
        steps in steps(), late_policy in prop::sample::select(LatePolicy::ALL), settle_each in prop::bool::weighted(0.7), starts_confirmed: bool,
    ) {
        let mut book = Book::new(Terms { late_policy, ..terms() });
        if starts_confirmed {
            for step in [Step::Pay { units: 60, ships: true }, Step::Pay { units: 60, ships: true }, Step::Vouch(0), Step::Vouch(1)] {
                apply(&mut book, step);
            }
            book.chain.height += 2;
            book.settle();
            prop_assert_eq!(book.status(), OrderStatus::Confirmed);
        }
        let mut newest = book.chain.block_time;
        let mut fresh_late = false;
        for (number, step) in steps.iter().enumerate() {
            fresh_late |= apply(&mut book, *step);
            newest = newest.max(book.chain.block_time);
            // A crash between two steps: the next derivation learns several things at once.
            if settle_each || number % 3 == 2 {
                settle_and_check(&mut book, std::mem::take(&mut fresh_late), newest)?;
            }
        }
        takes_turns(&book.told)?;
    }

    /// Invariant 7.
    #[test]
    fn a_reorganisation_followed_by_the_same_transactions_ends_as_if_there_had_been_none(
        payments in prop::collection::vec((prop_oneof![Just(100u128), 1u128..120], prop::bool::weighted(0.9)), 1..5),
        trouble in prop::collection::vec((0usize..6, 0u8..5, 1u64..4), 0..25),
    ) {
        let settled = |trouble: &[(usize, u8, u64)]| {
            let mut book = Book::new(terms());
            for (units, ships) in &payments {
                book.pay(*units);
                book.facts.last_mut().unwrap().ships = *ships;
                book.settle();
            }
            for (which, kind, blocks) in trouble {
                apply(&mut book, match kind {
                    0 => Step::Miss(*which),
                    1 => Step::Orphan(*which),
                    2 => Step::FindInPlace(*which),
                    3 => Step::Deepen { blocks: *blocks, secs: 0 },
                    _ => Step::Rewind { blocks: *blocks },
                });
                book.settle();
            }
            for which in 0..book.facts.len() {
                apply(&mut book, Step::IncludeElsewhere(which));
                apply(&mut book, Step::Vouch(which));
                book.settle();
            }
            book.chain.height += 100;
            book.settle();
            book
        };
        let (plain, troubled) = (settled(&[]), settled(&trouble));
        let (one, other) = (plain.derived(), troubled.derived());
        prop_assert_eq!((one.status, one.received, one.confirmed), (other.status, other.received, other.confirmed));
        prop_assert_eq!((one.remaining, one.excess), (other.remaining, other.excess));
        let announced = |book: &Book| book.history.announced_generation == book.history.generation;
        prop_assert_eq!(announced(&plain), announced(&troubled), "the last word about both is the same");
    }

    /// Whatever the rows hold, nothing panics, and the answer is consistent with itself.
    #[test]
    fn no_facts_however_extreme_break_the_derivation(
        facts in prop::collection::vec(any_fact(), 0..6), history in any_history(), due in any_units(),
        required_confirmations: u32, height: u64, block_time in any_time(), final_height: Option<u64>,
        late_policy in prop::sample::select(LatePolicy::ALL),
    ) {
        let terms = Terms { due, required_confirmations, late_policy, ..terms() };
        let chain = ChainView { height, block_time, final_height };
        let derived = derive(&terms, &history, &facts, &chain);
        prop_assert_eq!(derived.fulfillable, derived.status == OrderStatus::Confirmed);
        prop_assert!(derived.confirmed <= derived.received);
        prop_assert_eq!(derived.remaining, due.saturating_sub(derived.received));
        let excess = derived.received.saturating_sub(due);
        prop_assert_eq!(derived.excess, if excess > history.rounding { excess } else { Units::ZERO });
        prop_assert_eq!(derived.standings.len(), facts.len());
        prop_assert!(!derived.fulfillable || derived.standings.iter().any(|standing| standing.counts && standing.deep));
        let turned = derive(&terms, &history, &rotated(&facts), &chain);
        prop_assert_eq!(without_standings(turned), without_standings(derived));
    }

    /// More money in a block never takes a confirmation away.
    #[test]
    fn a_further_payment_never_takes_a_confirmation_away(units in 1u128.., late in 0u64..5_000, ships: bool) {
        let further = AllocationFact { ships, block_time: at(late), block_number: 12, ..paid(units) };
        let derived = derive(&terms(), &history(), &[paid(100), further], &open(12));
        prop_assert_eq!(derived.status, OrderStatus::Confirmed);
    }
}
