//! One test for each rule of the derivation.

use super::book::{
    BLOCK, Book, DEEP, IN_TIME_UNTIL, LATE_UNTIL, SHALLOW, announced_once, at, closed, history, in_state, open, order,
    paid, paid_at, terms, under, with,
};
use crate::event::EventType;
use crate::order::{
    AllocationFact, ChainView, Decision, FailureReason, History, LatePolicy, LateStanding, OrderFlag, OrderStatus,
    Terms, derive,
};
use crate::transfer::TransferState;
use crate::units::Units;

fn lone(units: u128) -> AllocationFact {
    AllocationFact { ships: false, ..paid(units) }
}

fn canceled() -> History {
    History { canceled_at: Some(at(400)), ..history() }
}

// Row 1: the operator decided.

#[test]
fn a_rejection_fails_the_order_whatever_else_holds() {
    let history = History { decision: Some((Decision::Reject, Units::new(100))), ..announced_once() };
    let derived = with(history, &[paid(100)], open(DEEP));
    assert_eq!((derived.status, derived.failure_reason), (OrderStatus::Failed, Some(FailureReason::Rejected)));
    assert!(!derived.fulfillable && !derived.payable && !derived.decision_due && derived.has(OrderFlag::Manual));
}

#[test]
fn a_rejection_is_named_before_any_other_reason_to_fail() {
    let history = History { decision: Some((Decision::Reject, Units::ZERO)), lost_address: true, ..history() };
    assert_eq!(with(history, &[], open(9)).failure_reason, Some(FailureReason::Rejected));
}

#[test]
fn a_rejection_answers_for_late_money_and_nothing_waits_any_more() {
    let decision = Some((Decision::Reject, Units::new(100)));
    for (history, secs) in [
        (History { decision, ..history() }, IN_TIME_UNTIL + 1),
        (History { decision, ..history() }, LATE_UNTIL + 1),
        (History { decision, ..canceled() }, 500),
    ] {
        for late_policy in [LatePolicy::Accept, LatePolicy::Review, LatePolicy::Reject] {
            let terms = Terms { late_policy, ..terms() };
            let derived = derive(&terms, &history, &[paid_at(100, secs)], &closed(DEEP));
            assert_eq!(derived.failure_reason, Some(FailureReason::Rejected), "{late_policy} {secs}");
            assert_eq!((derived.late, derived.received), (Some(LateStanding::Rejected), Units::ZERO));
            assert!(!derived.decision_due && !derived.has(OrderFlag::Review), "{late_policy} {secs}");
        }
    }
}

#[test]
fn an_accepting_decision_settles_for_what_had_come_once_that_is_deep() {
    let history = History { decision: Some((Decision::Accept, Units::new(60))), ..history() };
    assert_eq!(with(history, &[paid(60)], closed(SHALLOW)).status, OrderStatus::Confirming);
    let derived = with(history, &[paid(60)], closed(DEEP));
    assert_eq!(derived.status, OrderStatus::Confirmed);
    assert!(derived.has(OrderFlag::Manual) && !derived.decision_due && !derived.has(OrderFlag::Review));
    assert_eq!(derived.remaining, Units::new(40), "what the customer owed stays visible");
}

#[test]
fn an_accepting_decision_never_asks_for_more_than_is_due() {
    let history = History { decision: Some((Decision::Accept, Units::new(500))), ..history() };
    assert_eq!(with(history, &[paid(100)], open(DEEP)).status, OrderStatus::Confirmed);
}

#[test]
fn an_accepted_order_is_taken_back_by_a_reorganisation_like_any_other() {
    let mut book = Book::new(terms());
    book.pay(60);
    book.chain = closed(20);
    book.settle();
    assert_eq!(book.status(), OrderStatus::Underpaid);
    book.decide(Decision::Accept);
    assert_eq!(book.settle(), [EventType::PaymentConfirmed]);
    book.mark(0, TransferState::Missing);
    assert_eq!(book.settle(), []);
    book.mark(0, TransferState::Orphaned);
    book.settle();
    assert_eq!(book.status(), OrderStatus::Reorged);
}

#[test]
fn accepting_nothing_at_all_confirms_nothing() {
    for base in [history(), announced_once(), History { generation: 2, ..announced_once() }] {
        let history = History { decision: Some((Decision::Accept, Units::ZERO)), ..base };
        for facts in [vec![], vec![in_state(TransferState::Orphaned)]] {
            assert!(!with(history, &facts, closed(DEEP)).fulfillable, "{history:?}");
        }
    }
}

// Row 2: it cannot complete.

fn displaced() -> History {
    History { lost_address: true, ..history() }
}

#[test]
fn an_order_that_waits_for_money_at_an_address_of_somebody_else_fails_for_good() {
    for (facts, received) in [(vec![], 0), (vec![paid(40)], 40)] {
        for chain in [open(DEEP), closed(DEEP)] {
            let derived = with(displaced(), &facts, chain);
            let reason = Some(FailureReason::AddressClaimedByOwner);
            assert_eq!((derived.status, derived.failure_reason), (OrderStatus::Failed, reason));
            assert_eq!(derived.received, Units::new(received), "what came stays recorded");
            assert!(!derived.fulfillable && !derived.payable && !derived.decision_due);
            assert_eq!(derived.has(OrderFlag::Review), received > 0);
        }
    }
}

#[test]
fn an_order_that_was_paid_in_full_before_its_address_was_claimed_goes_on() {
    let confirming = with(displaced(), &[paid(100)], open(SHALLOW));
    assert_eq!((confirming.status, confirming.failure_reason), (OrderStatus::Confirming, None));
    let confirmed = with(displaced(), &[paid(100)], open(DEEP));
    assert_eq!((confirmed.status, confirmed.fulfillable), (OrderStatus::Confirmed, true));
    assert!(confirmed.has(OrderFlag::Review), "the money is in a wallet of somebody else");
    // The money vanishes before it was confirmed: nothing more can come.
    let gone = with(displaced(), &[in_state(TransferState::Orphaned)], open(DEEP));
    assert_eq!(gone.failure_reason, Some(FailureReason::AddressClaimedByOwner));
    let announced = History { lost_address: true, ..announced_once() };
    assert_eq!(with(announced, &[in_state(TransferState::Orphaned)], open(DEEP)).status, OrderStatus::Reorged);
}

#[test]
fn a_canceled_order_stays_canceled_whoever_owns_its_address() {
    let history = History { lost_address: true, ..canceled() };
    assert_eq!(with(history, &[], open(DEEP)).status, OrderStatus::Canceled);
}

#[test]
fn rejected_late_money_and_nothing_else_fails_the_order() {
    let derived = under(LatePolicy::Reject, &[paid_at(100, IN_TIME_UNTIL + 1)], closed(DEEP));
    assert_eq!(derived.status, OrderStatus::Failed);
    assert_eq!(derived.failure_reason, Some(FailureReason::LatePaymentRejected));
    assert_eq!(derived.received, Units::ZERO);
}

#[test]
fn rejected_late_money_beside_money_in_time_leaves_the_order_underpaid() {
    let facts = [paid(40), paid_at(60, IN_TIME_UNTIL + 1)];
    let derived = under(LatePolicy::Reject, &facts, closed(DEEP));
    assert_eq!((derived.status, derived.received), (OrderStatus::Underpaid, Units::new(40)));
}

#[test]
fn late_money_that_waits_for_a_decision_keeps_the_order_from_failing() {
    let facts = [paid_at(50, IN_TIME_UNTIL + 1), paid_at(50, LATE_UNTIL + 1)];
    let derived = under(LatePolicy::Reject, &facts, closed(DEEP));
    assert_eq!(derived.status, OrderStatus::Expired);
    assert_eq!(derived.late, Some(LateStanding::Review));
    assert!(derived.decision_due);
}

#[test]
fn late_money_that_is_gone_neither_fails_the_order_nor_waits_for_a_decision() {
    for policy in [LatePolicy::Accept, LatePolicy::Review, LatePolicy::Reject] {
        let gone = AllocationFact { state: TransferState::Orphaned, ..paid_at(100, IN_TIME_UNTIL + 1) };
        let derived = under(policy, &[gone], closed(DEEP));
        assert_eq!(derived.status, OrderStatus::Expired, "{policy}");
        assert!(derived.flags.is_empty() && !derived.decision_due && derived.late.is_none(), "{policy}");
    }
}

#[test]
fn rejected_late_money_that_is_only_missing_keeps_the_order_failed() {
    let blip = AllocationFact { state: TransferState::Missing, ..paid_at(100, IN_TIME_UNTIL + 1) };
    assert_eq!(under(LatePolicy::Reject, &[blip], closed(DEEP)).status, OrderStatus::Failed);
}

// Row 3: enough deep money.

#[test]
fn enough_deep_money_confirms_and_may_be_fulfilled() {
    let derived = order(&[paid(100)], open(DEEP));
    assert_eq!(derived.status, OrderStatus::Confirmed);
    assert!(derived.fulfillable && !derived.payable && derived.flags.is_empty());
}

#[test]
fn one_unit_short_is_not_enough() {
    assert_eq!(order(&[paid(99)], open(DEEP)).status, OrderStatus::Underpaid);
    assert_eq!(order(&[paid(99), paid(1)], open(DEEP)).status, OrderStatus::Confirmed);
}

#[test]
fn one_confirmation_short_is_not_deep() {
    assert_eq!(order(&[paid(100)], open(SHALLOW)).status, OrderStatus::Confirming);
}

#[test]
fn the_whole_amount_has_to_be_deep() {
    let facts = [paid(60), AllocationFact { block_number: BLOCK + 1, ..paid(40) }];
    assert_eq!(order(&facts, open(DEEP)).status, OrderStatus::Confirming);
    assert_eq!(order(&facts, open(DEEP + 1)).status, OrderStatus::Confirmed);
}

#[test]
fn the_finality_tag_counts_as_depth_for_the_blocks_it_covers() {
    let tagged = |final_height| ChainView { final_height: Some(final_height), ..open(BLOCK) };
    assert_eq!(order(&[paid(100)], tagged(BLOCK)).status, OrderStatus::Confirmed);
    assert_eq!(order(&[paid(100)], tagged(BLOCK - 1)).status, OrderStatus::Confirming);
}

#[test]
fn the_finality_tag_does_not_reach_above_the_verified_height() {
    let chain = ChainView { final_height: Some(BLOCK + 50), ..open(BLOCK - 1) };
    assert_eq!(order(&[paid(100)], chain).status, OrderStatus::Confirming);
}

#[test]
fn a_block_above_the_verified_height_is_never_deep_even_if_no_confirmations_are_asked_for() {
    let terms = Terms { required_confirmations: 0, ..terms() };
    let status = |height| derive(&terms, &history(), &[paid(100)], &open(height)).status;
    assert_eq!(status(BLOCK - 1), OrderStatus::Confirming);
    assert_eq!(status(BLOCK), OrderStatus::Confirmed);
}

#[test]
fn depth_and_the_tag_count_only_for_a_block_whose_hash_was_named_again() {
    let unvouched = AllocationFact { vouched: false, ..paid(100) };
    for chain in [open(DEEP + 100), ChainView { final_height: Some(DEEP), ..open(DEEP) }] {
        assert_eq!(order(&[unvouched], chain).status, OrderStatus::Confirming);
        assert_eq!(order(&[paid(100)], chain).status, OrderStatus::Confirmed);
    }
    let last = AllocationFact { state: TransferState::Final, ..unvouched };
    assert_eq!(order(&[last], open(DEEP)).status, OrderStatus::Confirmed);
}

#[test]
fn an_announced_payment_does_not_fall_when_its_block_is_no_longer_vouched_for() {
    let mut book = Book::confirmed(vec![paid(100)]);
    book.facts[0].vouched = false;
    assert_eq!(book.settle(), []);
}

#[test]
fn a_final_transfer_is_deep_at_any_height() {
    let derived = order(&[in_state(TransferState::Final)], open(0));
    assert_eq!(derived.status, OrderStatus::Confirmed);
    assert!(derived.has(OrderFlag::Finalized));
}

#[test]
fn evidence_that_may_not_ship_never_confirms_and_waits_for_a_decision() {
    let derived = order(&[lone(100)], open(DEEP + 100));
    assert_eq!(derived.status, OrderStatus::Confirming);
    assert!(derived.decision_due && derived.has(OrderFlag::Review) && !derived.fulfillable);
    assert_eq!((derived.received, derived.confirmed), (Units::new(100), Units::ZERO));
}

#[test]
fn evidence_that_may_not_ship_does_not_fill_up_evidence_that_may() {
    assert_eq!(order(&[paid(99), lone(1)], open(DEEP)).status, OrderStatus::Confirming);
    let derived = order(&[paid(100), lone(1)], open(DEEP));
    assert_eq!(derived.status, OrderStatus::Confirmed);
    assert!(!derived.decision_due, "a confirmed order has nothing left to decide");
}

#[test]
fn a_deadline_or_a_cancellation_does_not_undo_deep_money() {
    assert_eq!(order(&[paid(100)], closed(DEEP)).status, OrderStatus::Confirmed);
    let accepted = AllocationFact { late_accepted: true, ..paid(100) };
    assert_eq!(with(canceled(), &[accepted], closed(DEEP)).status, OrderStatus::Confirmed);
}

// Row 4: a confirmation was announced, and the money is short.

#[test]
fn a_confirmed_order_stays_confirmed_while_only_missing_is_the_cause() {
    let mut book = Book::confirmed(vec![paid(100)]);
    book.mark(0, TransferState::Missing);
    assert_eq!(book.settle(), []);
    assert!(book.derived().fulfillable);
    assert_eq!(book.derived().confirmed, Units::ZERO, "but what is missing is not deep in any block");
}

#[test]
fn a_confirmed_order_is_reorged_when_its_money_is_gone() {
    let mut book = Book::confirmed(vec![paid(100)]);
    book.mark(0, TransferState::Orphaned);
    assert_eq!(book.settle(), [EventType::PaymentReorged]);
    let derived = book.derived();
    assert_eq!(derived.status, OrderStatus::Reorged);
    assert!(!derived.fulfillable && !derived.payable && derived.decision_due && derived.has(OrderFlag::Review));
}

#[test]
fn missing_money_does_not_excuse_orphaned_money() {
    let mut book = Book::confirmed(vec![paid(60), paid(60)]);
    book.mark(0, TransferState::Missing);
    book.mark(1, TransferState::Orphaned);
    assert_eq!(book.settle(), [EventType::PaymentReorged]);
}

#[test]
fn a_reorged_order_is_not_confirmed_by_money_that_is_missing() {
    let mut book = Book::confirmed(vec![paid(60), paid(60)]);
    book.mark(0, TransferState::Missing);
    book.mark(1, TransferState::Orphaned);
    book.settle();
    book.include_elsewhere(1, BLOCK + 1);
    book.chain = open(DEEP + 10);
    book.settle();
    assert_eq!(book.status(), OrderStatus::Reorged, "60 of 100 are deep, the rest is missing");
    book.mark(0, TransferState::Included);
    assert_eq!(book.settle(), [EventType::PaymentConfirmed]);
}

#[test]
fn a_short_reorganisation_above_a_confirmed_payment_changes_nothing() {
    let mut book = Book::confirmed(vec![paid(100)]);
    for height in [SHALLOW, BLOCK, BLOCK - 1] {
        book.chain = open(height);
        assert_eq!(book.settle(), [], "{height}");
        assert_eq!(book.status(), OrderStatus::Confirmed);
    }
}

#[test]
fn a_short_reorganisation_above_an_unannounced_payment_takes_its_depth() {
    let facts = [paid(100)];
    assert_eq!(order(&facts, open(DEEP)).status, OrderStatus::Confirmed);
    assert_eq!(order(&facts, open(SHALLOW)).status, OrderStatus::Confirming);
}

#[test]
fn an_extra_payment_does_not_inherit_the_depth_of_an_announced_one() {
    let mut book = Book::confirmed(vec![paid(100)]);
    book.pay(100);
    book.settle();
    book.mark(0, TransferState::Orphaned);
    book.settle();
    assert_eq!(book.status(), OrderStatus::Reorged, "the other 100 are not deep yet");
    book.chain.height += 2;
    assert_eq!(book.settle(), [EventType::PaymentConfirmed]);
}

#[test]
fn money_found_again_in_its_own_block_while_missing_needs_no_second_count() {
    let mut book = Book::confirmed(vec![paid(100)]);
    book.mark(0, TransferState::Missing);
    book.settle();
    book.mark(0, TransferState::Included);
    book.chain = open(BLOCK);
    assert_eq!(book.settle(), []);
}

#[test]
fn money_found_again_in_its_own_block_after_it_was_taken_back_counts_anew() {
    let mut book = Book::confirmed(vec![paid(100)]);
    book.mark(0, TransferState::Orphaned);
    book.settle();
    book.mark(0, TransferState::Included);
    book.chain = open(BLOCK);
    book.settle();
    assert_eq!(book.status(), OrderStatus::Reorged, "one confirmation on a chain that has just turned around twice");
    book.chain = open(DEEP);
    assert_eq!(book.settle(), [EventType::PaymentConfirmed]);
}

#[test]
fn money_mined_again_in_another_block_is_reorged_until_it_is_deep_again() {
    let mut book = Book::confirmed(vec![paid(100)]);
    book.include_elsewhere(0, 13);
    book.chain = open(13);
    assert_eq!(book.settle(), [EventType::PaymentReorged]);
    assert_eq!((book.status(), book.derived().received), (OrderStatus::Reorged, Units::new(100)));
    book.chain = open(14);
    assert_eq!(book.settle(), []);
    book.chain = open(15);
    assert_eq!(book.settle(), [EventType::PaymentConfirmed]);
    assert_eq!((book.history.generation, book.history.announced_generation), (2, 2));
}

#[test]
fn a_reorged_order_stays_reorged_after_its_deadline_and_with_part_of_the_money() {
    let history = History { generation: 2, ..announced_once() };
    assert_eq!(with(history, &[], closed(DEEP)).status, OrderStatus::Reorged);
    assert_eq!(with(history, &[paid(50)], closed(DEEP)).status, OrderStatus::Reorged);
}

// Rows 5 and 6: enough money, some money.

#[test]
fn enough_money_that_is_not_deep_is_confirming() {
    let derived = order(&[paid(100)], open(BLOCK));
    assert_eq!(derived.status, OrderStatus::Confirming);
    assert!(!derived.payable && !derived.decision_due && derived.flags.is_empty());
}

#[test]
fn money_that_is_gone_is_no_money() {
    let fact = AllocationFact { counted: true, ..in_state(TransferState::Orphaned) };
    assert_eq!(order(&[fact], open(DEEP)).status, OrderStatus::Pending);
}

#[test]
fn missing_money_counts_only_if_it_counted_before_and_is_never_deep() {
    let missing = |counted| AllocationFact { counted, ..in_state(TransferState::Missing) };
    assert_eq!(order(&[missing(true)], open(DEEP)).status, OrderStatus::Confirming);
    assert_eq!(order(&[missing(false)], open(DEEP)).status, OrderStatus::Pending);
}

#[test]
fn a_short_payment_is_underpaid_and_payable_while_the_order_is_open() {
    let derived = order(&[paid(60)], open(DEEP));
    assert_eq!((derived.status, derived.remaining), (OrderStatus::Underpaid, Units::new(40)));
    assert!(derived.payable && !derived.decision_due);
}

#[test]
fn a_short_payment_needs_a_decision_after_the_order_closed() {
    let derived = order(&[paid(60)], closed(DEEP));
    assert_eq!(derived.status, OrderStatus::Underpaid);
    assert!(!derived.payable && derived.decision_due && derived.has(OrderFlag::Review));
}

// Rows 7 to 9: no money.

#[test]
fn a_canceled_order_is_canceled_also_after_its_deadline() {
    for chain in [open(9), closed(99)] {
        let derived = with(canceled(), &[], chain);
        assert_eq!(derived.status, OrderStatus::Canceled);
        assert!(!derived.payable && !derived.decision_due);
    }
}

#[test]
fn money_on_a_canceled_order_waits_for_a_decision_whatever_the_policy() {
    for policy in [LatePolicy::Accept, LatePolicy::Review, LatePolicy::Reject] {
        for secs in [500, IN_TIME_UNTIL + 1, LATE_UNTIL + 1] {
            let terms = Terms { late_policy: policy, ..terms() };
            let derived = derive(&terms, &canceled(), &[paid_at(100, secs)], &closed(DEEP));
            assert_eq!(derived.status, OrderStatus::Canceled, "{policy} {secs}");
            assert_eq!(derived.late, Some(LateStanding::Review), "{policy} {secs}");
            assert!(derived.decision_due && derived.has(OrderFlag::Late) && derived.has(OrderFlag::Review));
        }
    }
}

#[test]
fn a_canceled_order_can_be_accepted_after_all() {
    let mut book = Book::new(terms());
    book.history.canceled_at = Some(at(400));
    book.settle();
    book.pay(100);
    book.chain.height += 5;
    book.settle_with(true);
    assert_eq!(book.status(), OrderStatus::Canceled);
    book.decide(Decision::Accept);
    assert_eq!(book.settle(), [EventType::PaymentPending, EventType::PaymentConfirmed]);
}

#[test]
fn a_canceled_order_is_never_payable_even_when_some_of_its_money_was_accepted() {
    let accepted = AllocationFact { late_accepted: true, ..paid(60) };
    let derived = with(canceled(), &[accepted], open(DEEP));
    assert_eq!(derived.status, OrderStatus::Underpaid);
    assert!(!derived.payable);
}

#[test]
fn an_order_without_money_expires_when_a_block_past_the_deadline_is_verified_not_before() {
    let chain = |secs| ChainView { block_time: at(secs), ..open(9) };
    assert_eq!(order(&[], chain(IN_TIME_UNTIL)).status, OrderStatus::Pending);
    assert!(order(&[], chain(IN_TIME_UNTIL)).payable);
    assert_eq!(order(&[], chain(IN_TIME_UNTIL + 1)).status, OrderStatus::Expired);
    assert!(!order(&[], chain(IN_TIME_UNTIL + 1)).payable);
}

#[test]
fn a_closed_order_stays_closed_when_the_chain_steps_back() {
    let history = History { closed_at: Some(at(IN_TIME_UNTIL + 1)), ..history() };
    assert_eq!(with(history, &[], open(9)).status, OrderStatus::Expired);
}

#[test]
fn an_order_without_anything_is_pending_and_payable() {
    let derived = order(&[], open(9));
    assert_eq!(derived.status, OrderStatus::Pending);
    assert!(derived.payable && !derived.fulfillable && derived.flags.is_empty() && !derived.decision_due);
}

// Flags that no status decides.

#[test]
fn a_payment_in_a_wrong_asset_is_flagged_and_counts_for_nothing() {
    let history = History { wrong_asset: true, ..history() };
    for (facts, status) in [(vec![], OrderStatus::Pending), (vec![paid(100)], OrderStatus::Confirmed)] {
        let derived = with(history, &facts, open(DEEP));
        assert_eq!((derived.status, derived.has(OrderFlag::WrongAsset)), (status, true));
    }
}

#[test]
fn the_rounding_of_a_remainder_is_no_overpayment() {
    let history = History { rounding: Units::new(2), ..history() };
    for (topped_up, excess) in [(40, 0), (41, 0), (42, 0), (43, 3)] {
        let derived = with(history, &[paid(60), AllocationFact { index: 7, ..paid(topped_up) }], open(DEEP));
        assert_eq!((derived.status, derived.excess), (OrderStatus::Confirmed, Units::new(excess)), "{topped_up}");
        assert_eq!((derived.has(OrderFlag::Overpaid), derived.overfilled), (excess > 0, excess > 0), "{topped_up}");
    }
}
