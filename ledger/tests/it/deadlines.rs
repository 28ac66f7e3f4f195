//! Late money, closing and cooling: all by the time of verified blocks.

use std::collections::BTreeSet;
use std::slice::from_ref;
use std::time::Duration;

use cryptopay_domain::event::EventType::{
    OrderCanceled, OrderExpired, OrderLatePayment, OrderUnderpaid, PaymentConfirmed, PaymentFailed, PaymentPending,
};
use cryptopay_domain::order::{Decision, FailureReason, LatePolicy, LateStanding};
use cryptopay_domain::reservation::COOL_DOWN;
use cryptopay_domain::units::Units;
use cryptopay_entity::payment_order;
use cryptopay_ledger::Refusal;
use cryptopay_test_support::{TestDatabase, on_both_databases};

use crate::fake_chain::BLOCK_TIME;
use crate::world::{Ask, World, refusal};

on_both_databases!(a_payment_in_the_last_block_of_the_grace_is_in_time, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let order = world.order(Ask::default()).await;
    let payment = world.pay_exactly(&order);
    world.mine_at(order.in_time_until, &[payment]);
    world.settle().await;
    world.close(&order).await;
    world.deepen().await;
    assert_eq!(world.said(order.id).await, "confirmed 99999200");
    assert_eq!(world.events(order.id).await, [PaymentPending, PaymentConfirmed]);
    assert!(world.row(order.id).await.closed_at.is_some(), "closing a paid order is no event");
    world.audit().await;
});

on_both_databases!(a_payment_one_block_late_is_treated_as_the_merchant_wants, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let mut orders = Vec::new();
    for late_policy in [LatePolicy::Accept, LatePolicy::Review, LatePolicy::Reject] {
        orders.push(world.order(Ask { late_policy, ..Ask::default() }).await);
    }
    let payments: Vec<_> = orders.iter().map(|order| world.pay_exactly(order)).collect();
    world.mine_at(orders[0].in_time_until.plus(BLOCK_TIME), &payments);
    world.settle().await;
    world.deepen().await;
    let [accepted, reviewed, rejected] = [0, 1, 2].map(|index| orders[index].id);
    assert_eq!(world.said(accepted).await, format!("confirmed late {}", orders[0].pay_units));
    assert_eq!(world.events(accepted).await, [OrderLatePayment, PaymentPending, PaymentConfirmed]);
    assert_eq!(world.said(reviewed).await, "expired late,review 0");
    assert_eq!(world.events(reviewed).await, [OrderLatePayment, OrderExpired]);
    assert_eq!(world.row(reviewed).await.late_decision, Some(LateStanding::Review));
    assert_eq!(world.said(rejected).await, "failed late 0");
    assert_eq!(world.row(rejected).await.failure_reason, Some(FailureReason::LatePaymentRejected));
    assert_eq!(world.events(rejected).await, [OrderLatePayment, PaymentFailed]);
    world.audit().await;

    world.resolve(reviewed, Decision::Accept).await.unwrap();
    assert!(world.said(reviewed).await.starts_with("confirmed late,manual"));
    assert!(world.row(reviewed).await.fulfillable);
    assert_eq!(
        refusal(world.resolve(rejected, Decision::Accept).await).to_string(),
        "There is nothing to decide about this order; it is failed."
    );
    world.audit().await;
});

on_both_databases!(money_after_the_late_window_waits_for_the_merchant_whatever_the_policy, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let order = world.order(Ask::default()).await;
    let payment = world.pay_exactly(&order);
    world.close(&order).await;
    world.mine_at(order.late_until.plus(BLOCK_TIME), &[payment]);
    world.settle().await;
    assert_eq!(world.said(order.id).await, "expired late,review 0");
    world.resolve(order.id, Decision::Reject).await.unwrap();
    assert_eq!(world.said(order.id).await, "failed late,manual 0");
    assert_eq!(world.events(order.id).await, [OrderExpired, OrderLatePayment, PaymentFailed]);
    world.audit().await;
});

on_both_databases!(a_payment_in_time_that_we_see_late_is_in_time_and_nobody_elses, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let order = world.order(Ask::default()).await;
    let payment = world.pay_exactly(&order);
    // The scanner stands still while the customer pays and the deadline passes.
    world.mine(&[payment]);
    world.mine_at(order.monitor_until.plus(Duration::from_secs(3_600)), &[]);
    world.mine_empty(3);
    world.pass_deadlines().await;
    assert_eq!(world.said(order.id).await, "pending 0", "no block past the deadline is verified");
    // The next customer of the same price does not get the same amount, however late it is.
    let next = world.order(Ask::default()).await;
    assert_ne!(next.pay_units, order.pay_units);
    let next_payment = world.pay_exactly(&next);
    world.mine(&[next_payment]);
    world.settle().await;
    world.deepen().await;
    assert_eq!(world.said(order.id).await, "confirmed 99999200");
    let events = world.events(order.id).await;
    assert_eq!(events.iter().filter(|event| **event == OrderExpired).count(), 0, "{events:?}");
    assert_eq!(world.said(next.id).await, format!("confirmed {}", next.pay_units));
    world.audit().await;
});

on_both_databases!(an_order_without_money_expires_only_after_a_block_past_its_deadline, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let order = world.order(Ask::default()).await;
    world.mine_at(order.in_time_until, &[]);
    world.settle().await;
    world.now = order.monitor_until;
    world.pass_deadlines().await;
    assert_eq!(world.said(order.id).await, "pending 0");
    world.mine_empty(1);
    world.settle().await;
    assert_eq!(world.said(order.id).await, "expired 0");
    assert_eq!(world.events(order.id).await, [OrderExpired]);
    world.pass_deadlines().await;
    assert_eq!(world.events(order.id).await, [OrderExpired]);
    assert!(matches!(refusal(world.cancel(order.id).await), Refusal::NotCancelable { .. }));
    world.audit().await;
});

on_both_databases!(an_order_that_closes_short_waits_for_a_decision, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let order = world.order(Ask::default()).await;
    let short = world.pay_by_button(&order, Units::new(99_000_000));
    world.receive(&[short]).await;
    assert!(matches!(refusal(world.resolve(order.id, Decision::Accept).await), Refusal::NoDecisionDue { .. }));
    world.close(&order).await;
    assert_eq!(world.said(order.id).await, "underpaid review 99000000");
    assert_eq!(world.row(order.id).await.remainder_units, None);
    world.resolve(order.id, Decision::Accept).await.unwrap();
    world.deepen().await;
    assert_eq!(world.said(order.id).await, "confirmed manual 99000000");
    let events = world.events(order.id).await;
    assert_eq!(events[..3], [PaymentPending, OrderUnderpaid, OrderUnderpaid]);
    assert_eq!(events.last(), Some(&PaymentConfirmed));
    world.audit().await;
});

on_both_databases!(money_on_a_canceled_order_waits_for_the_merchant_whatever_the_policy, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let order = world.order(Ask::default()).await;
    world.cancel(order.id).await.unwrap();
    assert_eq!(world.said(order.id).await, "canceled 0");
    assert!(matches!(refusal(world.cancel(order.id).await), Refusal::NotCancelable { .. }));
    let payment = world.pay_exactly(&order);
    world.receive(&[payment]).await;
    assert_eq!(world.said(order.id).await, "canceled late,review 0");
    world.deepen().await;
    assert_eq!(world.events(order.id).await, [OrderCanceled, OrderLatePayment]);
    world.audit().await;
    world.resolve(order.id, Decision::Accept).await.unwrap();
    world.confirm().await;
    assert_eq!(world.said(order.id).await, "confirmed late,manual 99999200");
    world.audit().await;
});

on_both_databases!(any_allocation_refuses_the_cancellation_also_one_that_is_missing, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let order = world.order(Ask { late_policy: LatePolicy::Review, ..Ask::default() }).await;
    let payment = world.pay_exactly(&order);
    world.receive(&[payment]).await;
    assert!(matches!(refusal(world.cancel(order.id).await), Refusal::NotCancelable { .. }));
    world.reorganise(1).await;
    assert!(matches!(refusal(world.cancel(order.id).await), Refusal::NotCancelable { .. }));
    world.orphan_missing().await;
    assert_eq!(world.said(order.id).await, "pending 0");
    assert!(matches!(refusal(world.cancel(order.id).await), Refusal::NotCancelable { .. }));
    world.audit().await;
});

on_both_databases!(more_paid_orders_than_one_pass_handles_do_not_keep_others_open, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let mut payments = Vec::new();
    for number in 0..205 {
        let expires_in = Duration::from_secs(600);
        let order = world.order(Ask { expires_in, seed: number * 17, ..Ask::default() }).await;
        payments.push(world.pay_exactly(&order));
    }
    let unpaid = world.order(Ask { expires_in: Duration::from_secs(700), ..Ask::default() }).await;
    world.receive(&payments).await;
    world.deepen().await;
    world.close(&unpaid).await;
    assert_eq!(world.said(unpaid.id).await, "expired 0");
    world.audit().await;
});

/// Three orders of a price that has nine amounts: one that was paid, one that is short, one that was not paid.
async fn cooled_orders(world: &mut World) -> [payment_order::Model; 3] {
    let ask = Ask { amount: "0.00001", ..Ask::default() };
    let [paid, short, unpaid] = [world.order(ask).await, world.order(ask).await, world.order(ask).await];
    let payments = [world.pay_exactly(&paid), world.pay_by_button(&short, Units::new(3))];
    world.receive(&payments).await;
    world.deepen().await;
    assert!(world.said(short.id).await.starts_with("underpaid"));
    world.mine_at(unpaid.monitor_until.plus(BLOCK_TIME), &[]);
    world.settle().await;
    let orders = [paid, short, unpaid];
    for order in &orders {
        assert_eq!(world.held(order.id).await, []);
    }
    orders
}

on_both_databases!(a_cooling_amount_of_any_order_is_ambiguous_and_not_reused, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let old = cooled_orders(&mut world).await;
    for order in &old {
        let late = world.transfer(order.pay_units);
        world.receive(from_ref(&late)).await;
        let unmatched = world.inbox(world.merchant).await;
        let (hash, named) = unmatched.last().unwrap();
        assert_eq!((*hash, named.contains(&order.order_id.to_string())), (late.tx_hash, true));
    }
    // Three amounts and one remainder of nine cool.
    let ask = Ask { amount: "0.00001", ..Ask::default() };
    let mut amounts: BTreeSet<_> = old.iter().map(|order| order.pay_units).collect();
    for _ in 0..5 {
        assert!(amounts.insert(world.order(ask).await.pay_units));
    }
    assert_eq!(refusal(world.try_order(world.merchant, ask).await), Refusal::NoFreeAmount);
    world.audit().await;
});

on_both_databases!(a_cooled_amount_is_handed_out_again_after_a_week, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let old = cooled_orders(&mut world).await;
    let released = world.cursor().await.block_time;
    world.mine_at(released.plus(COOL_DOWN).plus(BLOCK_TIME), &[]);
    world.settle().await;
    let stray = world.transfer(old[2].pay_units);
    world.receive(from_ref(&stray)).await;
    assert_eq!(world.inbox(world.merchant).await.last(), Some(&(stray.tx_hash, vec![])), "no order asks for it");
    let ask = Ask { amount: "0.00001", ..Ask::default() };
    let mut amounts = BTreeSet::new();
    for _ in 0..9 {
        amounts.insert(world.order(ask).await.pay_units);
    }
    assert_eq!(amounts, (1..=9).map(Units::new).collect());
    world.audit().await;
});

on_both_databases!(accepting_late_money_covers_what_is_there_and_not_what_comes_back, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let order = world.order(Ask { late_policy: LatePolicy::Review, ..Ask::default() }).await;
    world.close(&order).await;
    let first = world.pay_by_button(&order, Units::new(70_000_000));
    let second = world.pay_by_button(&order, Units::new(60_000_000));
    world.receive(from_ref(&first)).await;
    world.reorganise(1).await;
    world.settle().await;
    world.receive(from_ref(&second)).await;
    world.resolve(order.id, Decision::Accept).await.unwrap();
    assert_eq!(world.said(order.id).await, "confirming late,manual 60000000");
    // The merchant has not seen this one when deciding: it waits like any other late money.
    world.receive(from_ref(&first)).await;
    assert_eq!(world.said(order.id).await, "confirming late,review,manual 60000000");
    world.deepen().await;
    assert_eq!(world.said(order.id).await, "confirmed late,review,manual 60000000");
    world.audit().await;
});
