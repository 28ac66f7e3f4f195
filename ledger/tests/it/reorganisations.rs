//! When the chain changes its mind, before and after a confirmation.

use cryptopay_domain::event::EventType::{
    OrderExtraPayment, OrderLatePayment, OrderUnderpaid, OrderUpdated, PaymentConfirmed, PaymentFailed, PaymentPending,
    PaymentReorged,
};
use cryptopay_domain::order::{Decision, LatePolicy};
use cryptopay_domain::transfer::TransferState;
use cryptopay_domain::units::Units;
use cryptopay_test_support::{TestDatabase, on_both_databases};
use std::slice::from_ref;
use std::time::Duration;

use crate::fake_chain::{GENESIS, Payment, address};
use crate::world::{Ask, World};

on_both_databases!(a_payment_mined_again_before_its_confirmation_never_falls_back, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let order = world.order(Ask::default()).await;
    let payment = world.pay_exactly(&order);
    let first = world.receive(from_ref(&payment)).await;
    let gone = world.reorganise(1).await;
    assert_eq!(gone.as_slice(), from_ref(&payment));
    assert_eq!(world.state(&payment).await, TransferState::Missing);
    assert_eq!(world.said(order.id).await, "confirming 99999200");

    let second = world.receive(from_ref(&payment)).await;
    assert_ne!(first.hash, second.hash);
    assert_eq!(world.state(&payment).await, TransferState::Included);
    assert_eq!(world.transfers(payment.tx_hash).await[0].block_hash, second.hash);
    world.deepen().await;
    assert_eq!(world.said(order.id).await, "confirmed 99999200");
    assert_eq!(world.events(order.id).await, [PaymentPending, PaymentConfirmed]);
    world.audit().await;
});

on_both_databases!(
    a_payment_that_vanishes_before_its_confirmation_leaves_the_order_pending,
    async |db: TestDatabase| {
        let mut world = World::new(db).await;
        let order = world.order(Ask::default()).await;
        let payment = world.pay_exactly(&order);
        world.receive(from_ref(&payment)).await;
        world.reorganise(1).await;
        world.settle().await;
        assert_eq!(world.state(&payment).await, TransferState::Orphaned);
        assert_eq!(world.said(order.id).await, "pending 0");
        assert_eq!(world.events(order.id).await, [PaymentPending, PaymentFailed]);
        world.audit().await;

        // It was only late: included again, it is the same payment of the same order.
        world.receive(from_ref(&payment)).await;
        world.deepen().await;
        assert_eq!(world.said(order.id).await, "confirmed 99999200");
        let events = [PaymentPending, PaymentFailed, PaymentPending, PaymentConfirmed];
        assert_eq!(world.events(order.id).await, events);
        assert_eq!(world.allocations(order.id).await.len(), 1);
        world.audit().await;
    }
);

on_both_databases!(
    a_transaction_that_is_carried_out_anew_with_another_result_is_not_counted_twice,
    async |db: TestDatabase| {
        let mut world = World::new(db).await;
        let order = world.order(Ask::default()).await;
        let payment = world.pay_exactly(&order);
        world.receive(from_ref(&payment)).await;
        world.reorganise(1).await;
        assert_eq!(world.said(order.id).await, "confirming 99999200");
        // The same transaction, through another pool, and with one log more before it.
        let anew = Payment { from: address(0xbee), ordinal: 1, ..payment.clone() };
        world.receive(from_ref(&anew)).await;
        let states: Vec<_> = world.transfers(payment.tx_hash).await.iter().map(|row| row.state).collect();
        assert_eq!(states, [TransferState::Orphaned, TransferState::Included]);
        assert_eq!(world.said(order.id).await, "confirming 99999200", "and not twice as much");
        world.deepen().await;
        assert_eq!(world.said(order.id).await, "confirmed 99999200");
        assert_eq!(world.events(order.id).await, [PaymentPending, PaymentConfirmed]);
        world.audit().await;
    }
);

on_both_databases!(what_is_mined_again_past_the_deadline_is_told_to_be_late, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let order = world.order(Ask { late_policy: LatePolicy::Review, ..Ask::default() }).await;
    let payment = world.pay_exactly(&order);
    world.receive(from_ref(&payment)).await;
    world.reorganise(1).await;
    world.mine_at(order.in_time_until.plus(Duration::from_secs(1)), from_ref(&payment));
    world.scan().await;
    let events = world.events(order.id).await;
    assert_eq!(events.iter().filter(|event| **event == OrderLatePayment).count(), 1, "{events:?}");
    assert!(world.said(order.id).await.contains("late,review"), "{}", world.said(order.id).await);
    world.audit().await;
});

on_both_databases!(a_confirmed_payment_mined_in_another_block_starts_a_new_generation, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let order = world.order(Ask::default()).await;
    let payment = world.pay_exactly(&order);
    world.receive(from_ref(&payment)).await;
    world.deepen().await;
    let first = world.row(order.id).await;

    world.chain.fork(3);
    world.mine_empty(2);
    world.receive(from_ref(&payment)).await;
    let reorged = world.row(order.id).await;
    assert_eq!(world.said(order.id).await, "reorged review 99999200");
    assert!(!reorged.fulfillable && reorged.confirmed_at.is_none());
    assert_eq!((reorged.generation, reorged.announced_generation), (2, 1));
    world.audit().await;

    world.deepen().await;
    let again = world.row(order.id).await;
    assert_eq!(world.said(order.id).await, "confirmed 99999200");
    assert_eq!((again.generation, again.announced_generation), (2, 2));
    assert!(again.confirmed_at > first.confirmed_at);
    assert_eq!(world.events(order.id).await, [PaymentPending, PaymentConfirmed, PaymentReorged, PaymentConfirmed]);
    world.audit().await;
});

on_both_databases!(a_short_reorganisation_above_a_confirmed_payment_changes_nothing, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let order = world.order(Ask::default()).await;
    let payment = world.pay_exactly(&order);
    world.receive(&[payment]).await;
    world.deepen().await;
    world.reorganise(2).await;
    world.settle().await;
    assert_eq!(world.said(order.id).await, "confirmed 99999200");
    assert_eq!(world.events(order.id).await, [PaymentPending, PaymentConfirmed]);
    world.audit().await;
});

on_both_databases!(a_confirmed_payment_stays_confirmed_while_it_is_only_missing, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let order = world.order(Ask::default()).await;
    let payment = world.pay_exactly(&order);
    let block = world.receive(from_ref(&payment)).await;
    world.deepen().await;
    world.reorganise(3).await;
    assert_eq!(world.state(&payment).await, TransferState::Missing);
    assert_eq!(world.said(order.id).await, "confirmed 99999200");
    world.audit().await;

    world.orphan_missing().await;
    assert_eq!(world.said(order.id).await, "reorged review 0");
    assert_eq!(world.events(order.id).await, [PaymentPending, PaymentConfirmed, PaymentReorged]);
    assert_eq!(world.transfers(payment.tx_hash).await[0].block_hash, block.hash);
    world.audit().await;
});

on_both_databases!(a_double_spent_payment_is_taken_back_and_its_successor_pays_instead, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let order = world.order(Ask::default()).await;
    let payment = world.pay_exactly(&order);
    world.receive(from_ref(&payment)).await;
    world.deepen().await;

    // Same sender, same count, other receiver: nothing of it is ours.
    world.reorganise(3).await;
    world.settle().await;
    assert_eq!(world.said(order.id).await, "reorged review 0");

    // The sender pays after all, with another transaction of the same count.
    let other = Payment { nonce: payment.nonce, ..world.pay_exactly(&order) };
    world.receive(&[other]).await;
    assert_eq!(world.said(order.id).await, "reorged review 99999200");
    world.deepen().await;
    assert_eq!(world.said(order.id).await, "confirmed 99999200");
    assert_eq!(
        world.events(order.id).await,
        [PaymentPending, PaymentConfirmed, PaymentReorged, PaymentPending, PaymentConfirmed]
    );
    assert_eq!(world.state(&payment).await, TransferState::Orphaned);
    world.audit().await;
});

on_both_databases!(a_taken_back_payment_in_its_old_block_is_counted_anew, async |db: TestDatabase| {
    // Confirmed by one payment, taken back, confirmed by a second; then the chain returns to the first branch. What was
    // announced of the first payment then is no word for it now.
    let mut world = World::new(db).await;
    let order = world.order(Ask::default()).await;
    let first = world.pay_exactly(&order);
    world.receive(from_ref(&first)).await;
    world.deepen().await;
    let branch: Vec<_> = (1..=3).map(|above| world.chain.block(GENESIS + above).unwrap()).collect();
    world.reorganise(3).await;
    world.settle().await;
    let second = world.pay_exactly(&order);
    world.receive(from_ref(&second)).await;
    world.deepen().await;
    assert_eq!(world.said(order.id).await, "confirmed 99999200");

    // Back to the old branch, only its first block has come yet.
    world.chain.fork(usize::MAX);
    world.chain.append(branch[0], from_ref(&first));
    world.scan().await;
    world.orphan_missing().await;
    assert_eq!(world.state(&first).await, TransferState::Included);
    assert_eq!(world.state(&second).await, TransferState::Missing, "its height is not scanned again yet");
    world.chain.append(branch[1], &[]);
    world.scan().await;
    let gone = world.transfers(second.tx_hash).await[0].id;
    world.give_up(&[gone]).await;
    assert_eq!(world.said(order.id).await, "reorged review 99999200", "two confirmations are one short");
    world.chain.append(branch[2], &[]);
    world.settle().await;
    assert_eq!(world.said(order.id).await, "confirmed 99999200");
    world.audit().await;
});

on_both_databases!(a_short_payment_that_vanishes_leaves_what_is_still_there, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let order = world.order(Ask::default()).await;
    let first = world.pay_by_button(&order, Units::new(60_000_000));
    let second = world.pay_by_button(&order, Units::new(39_999_200));
    world.receive(&[first]).await;
    let asked = world.row(order.id).await.remainder_units;
    assert!(asked.is_some());
    world.receive(&[second]).await;
    assert_eq!(world.said(order.id).await, "confirming 99999200");
    world.reorganise(1).await;
    world.settle().await;
    assert_eq!(world.said(order.id).await, "underpaid 60000000");
    assert_eq!(world.row(order.id).await.remainder_units, asked);
    assert_eq!(
        world.events(order.id).await,
        [PaymentPending, OrderUnderpaid, OrderUpdated, OrderUnderpaid, PaymentFailed]
    );
    world.audit().await;
});

on_both_databases!(an_extra_payment_that_vanishes_leaves_the_order_confirmed, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let order = world.order(Ask::default()).await;
    let payment = world.pay_exactly(&order);
    world.receive(&[payment]).await;
    world.deepen().await;
    let extra = world.pay_exactly(&order);
    world.receive(&[extra]).await;
    world.reorganise(1).await;
    world.settle().await;
    assert_eq!(world.said(order.id).await, "confirmed 99999200");
    assert_eq!(world.events(order.id).await, [PaymentPending, PaymentConfirmed, OrderExtraPayment, OrderUpdated]);
    world.audit().await;
});

on_both_databases!(a_transaction_mined_again_with_other_contents_is_another_transfer, async |db: TestDatabase| {
    // A contract that pays out of its own state may pay another amount on another branch.
    let mut world = World::new(db).await;
    let order = world.order(Ask::default()).await;
    let payment = world.pay_exactly(&order);
    let other = Payment { units: Units::new(5), ..payment.clone() };
    world.receive(from_ref(&payment)).await;
    world.chain.fork(1);
    world.mine_empty(1);
    world.receive(&[other]).await;
    let replaced = world.transfers(payment.tx_hash).await[0].id;
    world.give_up(&[replaced]).await;
    assert_eq!(world.said(order.id).await, "pending 0");
    assert_eq!(world.inbox(world.merchant).await, [(payment.tx_hash, vec![])]);

    // And back: the first contents are the first transfer, with its allocation, not a third one.
    world.chain.fork(2);
    world.mine_empty(2);
    world.receive(from_ref(&payment)).await;
    let rows = world.transfers(payment.tx_hash).await;
    let rows: Vec<_> = rows.iter().map(|row| (row.generation, row.units, row.state)).collect();
    assert_eq!(rows[0], (0, order.pay_units, TransferState::Included));
    assert_eq!((rows.len(), rows[1].0, rows[1].1), (2, 1, Units::new(5)));
    world.deepen().await;
    assert_eq!(world.said(order.id).await, "confirmed 99999200");
    assert_eq!(world.allocations(order.id).await.len(), 1);
    world.audit().await;
});

on_both_databases!(an_accepted_payment_is_taken_back_like_any_other, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let order = world.order(Ask::default()).await;
    let short = world.pay_by_button(&order, Units::new(60_000_000));
    world.mine_at(order.in_time_until, &[short]);
    world.close(&order).await;
    world.resolve(order.id, Decision::Accept).await.unwrap();
    world.deepen().await;
    assert_eq!(world.said(order.id).await, "confirmed manual 60000000");
    let height = world.cursor().await.height - GENESIS;
    world.reorganise(u32::try_from(height).unwrap()).await;
    world.settle().await;
    assert_eq!(world.said(order.id).await, "reorged review,manual 0");
    assert_eq!(world.events(order.id).await.last(), Some(&PaymentReorged));
    world.audit().await;
});

on_both_databases!(
    a_closed_order_stays_closed_when_the_chain_goes_back_before_its_deadline,
    async |db: TestDatabase| {
        let mut world = World::new(db).await;
        let order = world.order(Ask::default()).await;
        world.mine_empty(2);
        world.close(&order).await;
        assert_eq!(world.said(order.id).await, "expired 0");
        world.chain.fork(2);
        world.mine_empty(3);
        world.settle().await;
        assert_eq!(world.said(order.id).await, "expired 0");
        world.audit().await;
        // A payment in time is a payment in time, also of an order that has closed.
        let payment = world.pay_exactly(&order);
        world.receive(&[payment]).await;
        world.deepen().await;
        assert_eq!(world.said(order.id).await, "confirmed 99999200");
        world.audit().await;
    }
);
