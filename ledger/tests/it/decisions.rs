//! What people decide, and what they may not: other merchants' orders and money are never theirs.

use cryptopay_domain::event::EventType::{
    OrderLatePayment, OrderUnderpaid, OrderUpdated, PaymentConfirmed, PaymentPending,
};
use cryptopay_domain::order::{Decision, LateStanding};
use cryptopay_domain::units::Units;
use cryptopay_entity::receiving_address;
use cryptopay_ledger::{Assignment, Refusal, nonce_owner};
use cryptopay_test_support::{TestDatabase, on_both_databases};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, sea_query::Expr};
use std::slice::from_ref;

use crate::fake_chain::{BLOCK_TIME, Payment};
use crate::world::{Ask, World, all_of, refusal};

on_both_databases!(an_unmatched_transfer_is_assigned_in_parts_and_never_beyond_its_amount, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let first = world.order(Ask::default()).await;
    let second = world.order(Ask { amount: "30", ..Ask::default() }).await;
    let third = world.order(Ask { amount: "20", ..Ask::default() }).await;
    let payment = world.transfer(Units::new(119_999_200));
    world.receive(from_ref(&payment)).await;
    assert_eq!(world.inbox(world.merchant).await, [(payment.tx_hash, vec![])]);

    let part = |units: u128| Assignment { units: Some(Units::new(units)), ..all_of(&payment) };
    assert!(matches!(refusal(world.assign(first.id, part(120_000_001)).await), Refusal::NotEnoughLeft { .. }));
    assert!(matches!(refusal(world.assign(first.id, part(0)).await), Refusal::NotEnoughLeft { .. }));
    world.assign(first.id, part(99_999_200)).await.unwrap();
    assert_eq!(world.said(first.id).await, "confirming 99999200");
    // What may be the same request once more is not added.
    let twice = Refusal::AlreadyAllocated { share: "99.9992".to_owned(), left: "20.00".to_owned() };
    assert_eq!(refusal(world.assign(first.id, part(5_000_000)).await), twice);
    let left = Refusal::NotEnoughLeft { left: "20.00".to_owned() };
    assert_eq!(refusal(world.assign(second.id, part(20_000_001)).await), left);
    world.assign(second.id, part(15_000_000)).await.unwrap();
    world.assign(third.id, all_of(&payment)).await.unwrap();
    assert_eq!(world.said(second.id).await, "underpaid 15000000");
    assert_eq!(world.said(third.id).await, "underpaid 5000000");
    let row = &world.transfers(payment.tx_hash).await[0];
    assert_eq!(row.allocated_units, row.units);
    world.audit().await;

    world.deepen().await;
    assert_eq!(world.said(first.id).await, "confirmed 99999200");
    assert_eq!(world.events(first.id).await, [PaymentPending, PaymentConfirmed]);
    assert_eq!(world.events(second.id).await, [PaymentPending, OrderUnderpaid]);
    // A reorganisation takes every share back at once.
    world.reorganise(3).await;
    world.settle().await;
    assert_eq!(world.said(first.id).await, "reorged review 0");
    assert_eq!(world.said(second.id).await, "pending 0");
    assert_eq!(refusal(world.assign(second.id, all_of(&payment)).await), Refusal::TransferNotFound);
    world.audit().await;
});

on_both_databases!(money_assigned_by_hand_is_never_too_late, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let order = world.order(Ask::default()).await;
    world.close(&order).await;
    let payment = world.transfer(Units::new(100_000_001));
    world.receive(from_ref(&payment)).await;
    world.assign(order.id, all_of(&payment)).await.unwrap();
    assert_eq!(world.said(order.id).await, "confirming overpaid,late 100000001");
    world.deepen().await;
    assert_eq!(world.said(order.id).await, "confirmed overpaid,late 100000001");
    assert!(world.events(order.id).await.contains(&OrderLatePayment));
    world.audit().await;
});

on_both_databases!(one_of_several_transfers_has_to_be_named, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let order = world.order(Ask::default()).await;
    let one = world.transfer(Units::new(60_000_000));
    let other = Payment { ordinal: 4, units: Units::new(39_999_200), ..one.clone() };
    world.receive(&[one.clone(), other]).await;
    let needed = Refusal::PositionNeeded { positions: "0, 4".to_owned() };
    assert_eq!(refusal(world.assign(order.id, all_of(&one)).await), needed);
    for position in ["0", "4"] {
        let named = Assignment { position: Some(position.parse().unwrap()), ..all_of(&one) };
        world.assign(order.id, named).await.unwrap();
    }
    let elsewhere = Refusal::NoSuchPosition { positions: "0, 4".to_owned() };
    let native = Assignment { position: Some("native".parse().unwrap()), ..all_of(&one) };
    assert_eq!(refusal(world.assign(order.id, native).await), elsewhere);
    assert_eq!(world.events(order.id).await, [PaymentPending, OrderUnderpaid, OrderUpdated]);
    assert_eq!(world.said(order.id).await, "confirming 99999200");
    world.audit().await;
});

on_both_databases!(what_does_not_fit_the_order_is_not_assigned, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let order = world.order(Ask::default()).await;
    let wrong = Payment { asset: world.asset("cbBTC"), ..world.transfer(order.pay_units) };
    let missing = world.transfer(Units::new(11));
    world.receive(from_ref(&wrong)).await;
    // 99,999,200 units of eight decimals are another decimal amount.
    assert_eq!(world.said(order.id).await, "pending 0", "the right units of the wrong token");
    assert_eq!(world.inbox(world.merchant).await, [(wrong.tx_hash, vec![])]);
    assert_eq!(refusal(world.assign(order.id, all_of(&wrong)).await), Refusal::AssetMismatch);

    world.receive(from_ref(&missing)).await;
    world.reorganise(1).await;
    assert_eq!(refusal(world.assign(order.id, all_of(&missing)).await), Refusal::TransferNotIncluded);
    let unknown = world.transfer(Units::new(1));
    assert_eq!(refusal(world.assign(order.id, all_of(&unknown)).await), Refusal::TransferNotFound);

    world.receive(from_ref(&missing)).await;
    world.close(&order).await;
    let late = world.pay_exactly(&order);
    world.mine_at(order.late_until.plus(BLOCK_TIME), &[late]);
    world.settle().await;
    world.resolve(order.id, Decision::Reject).await.unwrap();
    assert!(matches!(refusal(world.assign(order.id, all_of(&missing)).await), Refusal::OrderOver { .. }));
    world.audit().await;
});

on_both_databases!(other_merchants_orders_and_transfers_are_not_there, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let mine = world.order(Ask::default()).await;
    let stranger = world.another_merchant().await;
    let theirs = world.try_order(stranger, Ask::default()).await.unwrap();
    assert_eq!(theirs.pay_units, mine.pay_units, "another address has its own amounts");
    let payment = world.transfer(Units::new(5));
    let short = world.pay_by_button(&mine, Units::new(60_000_000));
    world.receive(&[payment.clone(), short]).await;
    world.close(&mine).await;

    assert_eq!(refusal(world.cancel(theirs.id).await), Refusal::OrderNotFound);
    assert_eq!(refusal(world.resolve(theirs.id, Decision::Accept).await), Refusal::OrderNotFound);
    assert_eq!(refusal(world.assign(theirs.id, all_of(&payment)).await), Refusal::OrderNotFound);
    let as_stranger = world.assign_as(stranger.id, theirs.id, all_of(&payment)).await;
    assert_eq!(refusal(as_stranger), Refusal::TransferNotFound);
    let as_stranger = world.assign_as(stranger.id, mine.id, all_of(&payment)).await;
    assert_eq!(refusal(as_stranger), Refusal::OrderNotFound);
    assert_eq!(world.inbox(stranger).await, []);
    assert_eq!(world.said(theirs.id).await, "expired 0");
    world.audit().await;
});

on_both_databases!(who_held_an_address_before_has_no_say_over_what_came_after, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let owner = world.merchant;
    // A squatter registered the owner's address first and lost it to the proof.
    let squatter = world.another_merchant().await;
    let held = receiving_address::Entity::update_many()
        .col_expr(receiving_address::Column::Address, Expr::value(owner.address))
        .col_expr(receiving_address::Column::ReleasedAt, Expr::value(Some(world.now)))
        .filter(receiving_address::Column::MerchantId.eq(squatter.id));
    held.exec(world.db()).await.unwrap();
    let order = world.try_order(squatter, Ask::default()).await.unwrap();
    let payment = world.transfer(Units::new(5));
    world.receive(from_ref(&payment)).await;
    assert_eq!(world.inbox(squatter).await, []);
    let taken = world.assign_as(squatter.id, order.id, all_of(&payment)).await;
    assert_eq!(refusal(taken), Refusal::TransferNotFound);
    let mine = world.order(Ask::default()).await;
    world.assign(mine.id, all_of(&payment)).await.unwrap();
    world.audit().await;
});

on_both_databases!(a_nonce_is_used_once_by_each_merchant, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let ask = Ask { nonce: Some(42), ..Ask::default() };
    let order = world.order(ask).await;
    let again = world.try_order(world.merchant, Ask { amount: "5", ..ask }).await;
    assert!(matches!(refusal(again), Refusal::NonceUsed { .. }));
    let owner = nonce_owner(world.db(), world.merchant.id, 42).await.unwrap();
    assert_eq!(owner, Refusal::NonceUsed { order_id: order.order_id.to_string() });
    let stranger = world.another_merchant().await;
    world.try_order(stranger, ask).await.unwrap();
    world.audit().await;
});

on_both_databases!(an_accepting_decision_about_nothing_is_refused, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let order = world.order(Ask::default()).await;
    let payment = world.pay_exactly(&order);
    world.receive(&[payment]).await;
    world.deepen().await;
    world.reorganise(3).await;
    world.settle().await;
    assert_eq!(refusal(world.resolve(order.id, Decision::Accept).await), Refusal::NothingToAccept);
    world.resolve(order.id, Decision::Reject).await.unwrap();
    assert_eq!(world.said(order.id).await, "failed manual 0");
    world.audit().await;
});

on_both_databases!(money_on_a_canceled_order_that_is_rejected_asks_for_nothing_more, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let order = world.order(Ask::default()).await;
    let payment = world.pay_exactly(&order);
    world.cancel(order.id).await.unwrap();
    world.receive(&[payment]).await;
    world.settle().await;
    assert_eq!(world.said(order.id).await, "canceled late,review 0");
    world.resolve(order.id, Decision::Reject).await.unwrap();
    assert_eq!(world.said(order.id).await, "failed late,manual 0");
    assert_eq!(world.row(order.id).await.late_decision, Some(LateStanding::Rejected));
    world.audit().await;
});

on_both_databases!(all_that_is_left_is_added_to_the_share_that_an_order_has, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let order = world.order(Ask::default()).await;
    let payment = world.transfer(Units::new(61_370_000));
    world.receive(from_ref(&payment)).await;
    let part = Assignment { units: Some(Units::new(20_500_000)), ..all_of(&payment) };
    world.assign(order.id, part.clone()).await.unwrap();
    assert_eq!(world.said(order.id).await, "underpaid 20500000");
    assert!(matches!(refusal(world.assign(order.id, part).await), Refusal::AlreadyAllocated { .. }));
    world.assign(order.id, all_of(&payment)).await.unwrap();
    assert_eq!(world.said(order.id).await, "underpaid 61370000");
    assert_eq!(world.events(order.id).await, [PaymentPending, OrderUnderpaid, OrderUnderpaid]);
    let nothing = Refusal::NotEnoughLeft { left: "0.00".to_owned() };
    assert_eq!(refusal(world.assign(order.id, all_of(&payment)).await), nothing);
    world.audit().await;
});
