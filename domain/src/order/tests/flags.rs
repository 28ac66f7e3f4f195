//! Lateness, flags and amounts at the end of all numbers.

use super::book::{
    BLOCK, DEEP, IN_TIME_UNTIL, LATE_UNTIL, announced_once, closed, history, in_state, open, order, paid, paid_at,
    terms, under, with,
};
use crate::order::{
    AllocationFact, ChainView, Decision, History, LatePolicy, LateStanding, OrderFlag, OrderStatus, Terms, derive,
};
use crate::transfer::TransferState;
use crate::units::Units;

#[test]
fn a_block_on_the_deadline_is_in_time_and_a_second_later_is_late() {
    let derived = order(&[paid_at(100, IN_TIME_UNTIL)], closed(DEEP));
    assert_eq!((derived.late, derived.status), (None, OrderStatus::Confirmed));
    let derived = order(&[paid_at(100, IN_TIME_UNTIL + 1)], closed(DEEP));
    assert_eq!((derived.late, derived.status), (Some(LateStanding::Accepted), OrderStatus::Confirmed));
    assert_eq!(derived.flags, [OrderFlag::Late]);
}

#[test]
fn the_policy_decides_up_to_the_end_of_the_late_window_and_the_merchant_after_it() {
    for (policy, inside) in [
        (LatePolicy::Accept, LateStanding::Accepted),
        (LatePolicy::Review, LateStanding::Review),
        (LatePolicy::Reject, LateStanding::Rejected),
    ] {
        for (secs, standing) in
            [(IN_TIME_UNTIL + 1, inside), (LATE_UNTIL, inside), (LATE_UNTIL + 1, LateStanding::Review)]
        {
            let derived = under(policy, &[paid_at(100, secs)], closed(DEEP));
            assert_eq!(derived.late, Some(standing), "{policy} {secs}");
            assert_eq!(derived.fulfillable, standing == LateStanding::Accepted, "{policy} {secs}");
        }
    }
}

#[test]
fn an_accepting_decision_makes_late_money_count_whenever_it_came() {
    for secs in [IN_TIME_UNTIL + 1, LATE_UNTIL + 1] {
        let accepted = AllocationFact { late_accepted: true, ..paid_at(100, secs) };
        let derived = under(LatePolicy::Review, &[accepted], closed(DEEP));
        assert_eq!((derived.late, derived.status), (Some(LateStanding::Accepted), OrderStatus::Confirmed));
        assert!(!derived.has(OrderFlag::Review));
    }
}

#[test]
fn late_money_that_comes_after_an_accepting_decision_needs_its_own() {
    let history = History { decision: Some((Decision::Accept, Units::new(60))), ..history() };
    let facts = [paid(60), paid_at(40, LATE_UNTIL + 1)];
    let derived = with(history, &facts, closed(DEEP));
    assert_eq!((derived.status, derived.received), (OrderStatus::Confirmed, Units::new(60)));
    assert_eq!(derived.late, Some(LateStanding::Review));
    assert!(derived.has(OrderFlag::Review));
}

#[test]
fn the_worst_standing_of_late_money_is_shown() {
    let facts = [
        AllocationFact { late_accepted: true, ..paid_at(10, IN_TIME_UNTIL + 1) },
        paid_at(10, IN_TIME_UNTIL + 2),
        paid_at(10, LATE_UNTIL + 1),
    ];
    assert_eq!(under(LatePolicy::Reject, &facts, closed(DEEP)).late, Some(LateStanding::Review));
    assert_eq!(under(LatePolicy::Reject, &facts[..2], closed(DEEP)).late, Some(LateStanding::Rejected));
    assert_eq!(under(LatePolicy::Reject, &facts[..1], closed(DEEP)).late, Some(LateStanding::Accepted));
}

#[test]
fn one_payment_that_is_too_large_is_overpaid_and_nothing_else() {
    let derived = order(&[paid(101)], open(DEEP));
    assert_eq!(derived.flags, [OrderFlag::Overpaid]);
    assert_eq!((derived.excess, derived.remaining), (Units::new(1), Units::ZERO));
    assert!(derived.overfilled);
}

#[test]
fn a_payment_on_a_full_order_is_extra() {
    let second = AllocationFact { block_number: BLOCK + 1, ..paid(100) };
    let derived = order(&[second, paid(100)], open(DEEP));
    assert_eq!(derived.flags, [OrderFlag::Overpaid, OrderFlag::ExtraPayment]);
    assert!(!derived.overfilled, "the first payment was exact");
}

#[test]
fn the_chains_order_decides_which_payment_is_extra_and_the_list_never_does() {
    let first = AllocationFact { index: 3, ..paid(60) };
    let second = AllocationFact { index: 7, ..paid(60) };
    for facts in [[first, second], [second, first]] {
        let derived = order(&facts, open(DEEP));
        assert!(derived.overfilled && !derived.has(OrderFlag::ExtraPayment));
    }
    let equal = [paid(100), paid(1)];
    let turned = [paid(1), paid(100)];
    assert_eq!(order(&equal, open(DEEP)).flags, order(&turned, open(DEEP)).flags);
}

#[test]
fn late_money_that_does_not_count_is_no_excess() {
    let derived = under(LatePolicy::Reject, &[paid(100), paid_at(50, IN_TIME_UNTIL + 1)], closed(DEEP));
    assert_eq!((derived.status, derived.excess), (OrderStatus::Confirmed, Units::ZERO));
    assert_eq!(derived.flags, [OrderFlag::Late]);
}

#[test]
fn an_order_is_finalized_when_it_is_confirmed_and_all_that_counts_is_final() {
    let last = in_state(TransferState::Final);
    assert!(order(&[last], open(DEEP)).has(OrderFlag::Finalized));
    assert!(!order(&[last, paid(1)], open(DEEP)).has(OrderFlag::Finalized));
    let part = AllocationFact { units: Units::new(60), ..last };
    assert!(!order(&[part], open(DEEP)).has(OrderFlag::Finalized), "underpaid for good is not finalized");
    let gone = in_state(TransferState::Orphaned);
    assert!(order(&[last, gone], open(DEEP)).has(OrderFlag::Finalized), "what is gone does not count");
}

#[test]
fn flags_are_sorted() {
    let late = AllocationFact { block_number: BLOCK + 1, ..paid_at(100, LATE_UNTIL + 1) };
    let facts = [paid(100), late, AllocationFact { block_number: BLOCK + 2, ..paid(7) }];
    let flags = order(&facts, closed(DEEP + 2)).flags;
    assert!(flags.is_sorted() && flags.len() == 4, "{flags:?}");
}

#[test]
fn amounts_at_the_end_of_all_numbers_neither_wrap_nor_panic() {
    let most = Units(alloy_primitives::U256::MAX);
    let all = AllocationFact { units: most, ..paid(0) };
    let derived = order(&[all, all], open(DEEP));
    assert_eq!((derived.status, derived.received), (OrderStatus::Confirmed, most));
    let terms = Terms { due: most, required_confirmations: u32::MAX, ..terms() };
    let derived = derive(&terms, &history(), &[all], &ChainView { height: u64::MAX, ..open(0) });
    assert_eq!((derived.status, derived.remaining, derived.excess), (OrderStatus::Confirmed, Units::ZERO, Units::ZERO));
    let above = AllocationFact { block_number: u64::MAX, ..all };
    assert_eq!(derive(&terms, &history(), &[above], &open(0)).status, OrderStatus::Confirming);
}

#[test]
fn nothing_due_is_never_confirmed() {
    let terms = Terms { due: Units::ZERO, ..terms() };
    for history in [history(), announced_once()] {
        assert!(!derive(&terms, &history, &[], &closed(DEEP)).fulfillable);
    }
}
