//! Which events each transition makes.

use super::book::{BLOCK, Book, DEEP, IN_TIME_UNTIL, LATE_UNTIL, at, closed, open, paid, paid_at, terms};
use crate::event::EventType::{
    self, OrderCanceled, OrderExpired, OrderExtraPayment, OrderFinalized, OrderLatePayment, OrderOverpaid,
    OrderUnderpaid, OrderUpdated, OrderWrongAsset, PaymentConfirmed, PaymentFailed, PaymentPending, PaymentReorged,
};
use crate::order::{AllocationFact, Decision, FailureReason, LatePolicy, OrderFlag, OrderStatus, Terms};
use crate::transfer::TransferState;
use crate::units::Units;

const NONE: [EventType; 0] = [];

fn order() -> Book {
    Book::new(terms())
}

fn order_under(late_policy: LatePolicy) -> Book {
    Book::new(Terms { late_policy, ..terms() })
}

#[test]
fn nothing_new_makes_no_event() {
    let mut book = order();
    assert_eq!(book.settle(), NONE);
    book.chain.height += 1;
    assert_eq!(book.settle(), NONE);
}

#[test]
fn an_exact_payment_is_pending_then_confirmed_and_depth_in_between_is_silent() {
    let mut book = order();
    book.pay(100);
    assert_eq!(book.settle(), [PaymentPending]);
    book.chain.height += 1;
    assert_eq!(book.settle(), NONE);
    book.chain.height += 1;
    assert_eq!(book.settle(), [PaymentConfirmed]);
    book.chain.height += 1;
    assert_eq!(book.settle(), NONE);
}

#[test]
fn a_payment_learned_when_it_is_already_deep_makes_both_events() {
    let mut book = order();
    book.facts.push(paid(100));
    book.chain = open(DEEP);
    assert_eq!(book.settle(), [PaymentPending, PaymentConfirmed]);
}

#[test]
fn a_payment_learned_when_it_is_already_final_makes_all_three() {
    let mut book = order();
    book.facts.push(AllocationFact { state: TransferState::Final, ..paid(100) });
    assert_eq!(book.settle(), [PaymentPending, PaymentConfirmed, OrderFinalized]);
    assert_eq!(book.settle(), NONE);
}

#[test]
fn a_short_payment_is_told_each_time_it_grows_and_a_top_up_at_least_as_an_update() {
    let mut book = order();
    book.pay(40);
    assert_eq!(book.settle(), [PaymentPending, OrderUnderpaid]);
    book.pay(40);
    assert_eq!(book.settle(), [OrderUnderpaid]);
    book.pay(20);
    assert_eq!(book.settle(), [OrderUpdated]);
    assert_eq!(book.status(), OrderStatus::Confirming);
    book.chain.height += 2;
    assert_eq!(book.settle(), [PaymentConfirmed]);
}

#[test]
fn closing_short_is_told_once() {
    let mut book = order();
    book.pay(40);
    book.settle();
    book.chain = closed(20);
    assert_eq!(book.settle(), [OrderUnderpaid]);
    assert_eq!(book.settle(), NONE);
}

#[test]
fn closing_without_money_is_an_expiry_told_once() {
    let mut book = order();
    book.chain = closed(20);
    assert_eq!(book.settle(), [OrderExpired]);
    assert_eq!(book.settle(), NONE);
}

#[test]
fn closing_an_order_that_is_paid_or_over_is_no_event() {
    let mut confirming = order();
    confirming.pay(100);
    confirming.settle();
    let mut canceled = order();
    canceled.history.canceled_at = Some(at(400));
    canceled.settle();
    for mut book in [Book::confirmed(vec![paid(100)]), confirming, canceled] {
        let status = book.status();
        book.chain.block_time = at(IN_TIME_UNTIL);
        assert_eq!(book.settle(), NONE, "{status}");
        book.chain.block_time = at(IN_TIME_UNTIL + 1);
        assert_eq!(book.settle(), NONE, "{status}");
        assert_eq!(book.status(), status);
    }
}

#[test]
fn payment_and_deadline_learned_at_once_make_no_expiry() {
    let mut book = order();
    book.facts.push(paid(100));
    book.chain = closed(DEEP);
    assert_eq!(book.settle(), [PaymentPending, PaymentConfirmed]);
}

#[test]
fn a_cancellation_is_told_once() {
    let mut book = order();
    book.history.canceled_at = Some(at(400));
    assert_eq!(book.settle(), [OrderCanceled]);
    assert_eq!(book.settle(), NONE);
}

#[test]
fn money_on_a_canceled_order_is_late_and_under_review() {
    let mut book = order();
    book.history.canceled_at = Some(at(400));
    book.settle();
    book.pay(100);
    assert_eq!(book.settle_with(true), [OrderLatePayment]);
    assert_eq!(book.status(), OrderStatus::Canceled);
}

#[test]
fn a_canceled_order_whose_accepted_money_is_gone_is_not_canceled_a_second_time() {
    let mut book = order();
    book.history.canceled_at = Some(at(400));
    book.settle();
    book.pay(100);
    book.settle_with(true);
    book.decide(Decision::Accept);
    book.settle();
    book.mark(0, TransferState::Orphaned);
    assert_eq!(book.settle(), [PaymentFailed]);
    assert_eq!(book.status(), OrderStatus::Canceled);
}

#[test]
fn one_payment_that_is_too_large_is_an_overpayment() {
    let mut book = order();
    book.pay(150);
    assert_eq!(book.settle(), [PaymentPending, OrderOverpaid]);
    book.chain.height += 2;
    assert_eq!(book.settle(), [PaymentConfirmed]);
}

#[test]
fn a_top_up_that_is_too_large_is_an_overpayment_too() {
    let mut book = order();
    book.pay(60);
    book.settle();
    book.pay(60);
    assert_eq!(book.settle(), [OrderOverpaid]);
}

#[test]
fn a_payment_on_a_full_order_is_extra_and_no_overpayment() {
    let mut book = Book::confirmed(vec![paid(100)]);
    book.pay(100);
    assert_eq!(book.settle(), [OrderExtraPayment]);
    book.pay(100);
    assert_eq!(book.settle(), [OrderExtraPayment]);
    assert_eq!(book.status(), OrderStatus::Confirmed);
}

#[test]
fn an_overpayment_and_an_extra_payment_learned_at_once_are_both_told() {
    let mut apart = order();
    apart.pay(150);
    let mut told = apart.settle();
    apart.pay(100);
    told.extend(apart.settle());

    let mut at_once = order();
    at_once.pay(150);
    at_once.pay(100);
    assert_eq!(at_once.settle(), told);
    assert_eq!(told, [PaymentPending, OrderOverpaid, OrderExtraPayment]);
}

#[test]
fn an_extra_payment_that_vanishes_is_no_failure_of_the_order() {
    let mut book = Book::confirmed(vec![paid(100)]);
    book.pay(100);
    book.settle();
    book.mark(1, TransferState::Orphaned);
    assert_eq!(book.settle(), [OrderUpdated]);
    assert_eq!(book.status(), OrderStatus::Confirmed);
}

#[test]
fn late_money_that_is_accepted_revives_an_expired_order() {
    let mut book = order();
    book.chain = closed(20);
    book.settle();
    book.facts.push(AllocationFact { block_number: 21, ..paid_at(100, IN_TIME_UNTIL + 1) });
    book.chain.height = 21;
    assert_eq!(book.settle_with(true), [OrderLatePayment, PaymentPending]);
    book.chain.height = 23;
    assert_eq!(book.settle(), [PaymentConfirmed]);
}

#[test]
fn late_money_under_review_is_told_and_counts_after_the_decision() {
    let mut book = order_under(LatePolicy::Review);
    book.chain = closed(20);
    book.settle();
    book.facts.push(paid_at(100, IN_TIME_UNTIL + 1));
    assert_eq!(book.settle_with(true), [OrderLatePayment]);
    assert_eq!(book.status(), OrderStatus::Expired);
    book.decide(Decision::Accept);
    assert_eq!(book.settle(), [PaymentPending, PaymentConfirmed]);
}

#[test]
fn late_money_that_is_rejected_fails_the_order() {
    let mut book = order_under(LatePolicy::Reject);
    book.chain = closed(20);
    book.settle();
    book.facts.push(paid_at(100, IN_TIME_UNTIL + 1));
    assert_eq!(book.settle_with(true), [OrderLatePayment, PaymentFailed]);
    assert_eq!(book.settle(), NONE);
}

#[test]
fn late_money_after_the_late_window_is_reviewed_even_under_a_rejecting_policy() {
    let mut book = order_under(LatePolicy::Reject);
    book.chain = closed(20);
    book.settle();
    book.facts.push(paid_at(100, LATE_UNTIL + 1));
    assert_eq!(book.settle_with(true), [OrderLatePayment]);
    assert_eq!(book.status(), OrderStatus::Expired);
}

#[test]
fn a_rejecting_decision_fails_the_order_once() {
    let mut book = order();
    book.pay(40);
    book.chain = closed(20);
    book.settle();
    book.decide(Decision::Reject);
    assert_eq!(book.settle(), [PaymentFailed]);
    assert_eq!(book.settle(), NONE);
    book.mark(0, TransferState::Orphaned);
    assert_eq!(book.settle(), [OrderUpdated]);
}

#[test]
fn an_outside_cause_fails_the_order_and_names_itself() {
    let mut book = order();
    book.history.lost_address = true;
    assert_eq!(book.settle(), [PaymentFailed]);
    assert_eq!(book.announced.failure_reason, Some(FailureReason::AddressClaimedByOwner));
    book.decide(Decision::Reject);
    assert_eq!(book.settle(), [OrderUpdated], "another reason is news");
}

#[test]
fn a_payment_that_vanishes_before_its_confirmation_failed() {
    let mut book = order();
    book.pay(100);
    book.settle();
    book.mark(0, TransferState::Missing);
    assert_eq!(book.settle(), NONE, "missing once is no news");
    book.mark(0, TransferState::Orphaned);
    assert_eq!(book.settle(), [PaymentFailed]);
    assert_eq!(book.status(), OrderStatus::Pending);
    book.include_elsewhere(0, 11);
    assert_eq!(book.settle(), [PaymentPending]);
}

#[test]
fn part_of_a_payment_that_vanishes_leaves_an_underpaid_order() {
    let mut book = order();
    book.pay(60);
    book.pay(40);
    book.settle();
    book.mark(1, TransferState::Orphaned);
    assert_eq!(book.settle(), [OrderUnderpaid, PaymentFailed]);
}

#[test]
fn a_vanished_payment_and_the_deadline_learned_at_once_make_both_events() {
    let mut book = order();
    book.pay(100);
    book.settle();
    book.mark(0, TransferState::Orphaned);
    book.chain = closed(20);
    assert_eq!(book.settle(), [PaymentFailed, OrderExpired]);
}

#[test]
fn an_order_that_is_reorged_twice_tells_each_generation_once() {
    let mut book = Book::confirmed(vec![paid(100)]);
    book.told.clear();
    let mut block = BLOCK;
    for _ in 0..2 {
        book.mark(0, TransferState::Orphaned);
        assert_eq!(book.settle(), [PaymentReorged]);
        assert_eq!(book.settle(), NONE);
        block += 10;
        book.include_elsewhere(0, block);
        book.chain = open(block);
        assert_eq!(book.settle(), [PaymentPending]);
        assert_eq!(book.status(), OrderStatus::Reorged);
        book.chain = open(block + 2);
        assert_eq!(book.settle(), [PaymentConfirmed]);
    }
    let generations: Vec<_> =
        book.told.iter().filter(|(event, _)| *event != PaymentPending).map(|told| (told.0, told.1)).collect();
    assert_eq!(generations, [(PaymentReorged, 1), (PaymentConfirmed, 2), (PaymentReorged, 2), (PaymentConfirmed, 3)]);
}

#[test]
fn rejecting_a_reorged_order_ends_no_generation() {
    let mut book = Book::confirmed(vec![paid(100)]);
    book.mark(0, TransferState::Orphaned);
    book.settle();
    book.decide(Decision::Reject);
    assert_eq!(book.settle(), [PaymentFailed]);
    assert_eq!((book.history.generation, book.history.announced_generation), (2, 1));
}

#[test]
fn an_order_that_failed_and_came_back_is_not_announced_again() {
    let mut book = Book::confirmed(vec![paid(100)]);
    book.decide(Decision::Reject);
    assert_eq!(book.settle(), [PaymentFailed]);
    book.history.decision = None;
    assert_eq!(book.settle(), [OrderUpdated]);
    assert_eq!(book.status(), OrderStatus::Confirmed);
}

#[test]
fn a_payment_in_a_wrong_asset_is_announced_when_it_appears() {
    let mut book = order();
    book.history.wrong_asset = true;
    assert_eq!(book.settle(), [OrderWrongAsset]);
    assert_eq!(book.settle(), NONE);
    book.history.wrong_asset = false;
    assert_eq!(book.settle(), [OrderUpdated], "the payment is gone");
}

#[test]
fn a_remainder_that_was_rounded_up_completes_without_an_overpayment() {
    let mut book = order();
    book.pay(60);
    book.settle();
    book.history.rounding = Units::new(2);
    book.pay(42);
    assert!(!book.settle().contains(&OrderOverpaid));
    book.pay(1);
    assert_eq!(book.settle(), [OrderExtraPayment], "a further payment is extra");
    assert!(book.derived().has(OrderFlag::Overpaid), "and more than rounding came");
}

#[test]
fn finality_is_told_once() {
    let mut book = Book::confirmed(vec![paid(100)]);
    book.mark(0, TransferState::Final);
    assert_eq!(book.settle(), [OrderFinalized]);
    assert_eq!(book.settle(), NONE);
}
