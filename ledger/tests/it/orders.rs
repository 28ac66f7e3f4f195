//! New orders: amounts of their own, deliveries, and what happens when a band of amounts is full.

use std::collections::BTreeSet;
use std::slice::from_ref;
use std::time::Duration;

use cryptopay_domain::event::EventType::{PaymentConfirmed, PaymentPending};
use cryptopay_domain::units::Units;
use cryptopay_entity::event;
use cryptopay_test_support::{TestDatabase, on_both_databases};

use crate::fake_chain::BLOCK_TIME;
use crate::world::{Ask, EVERYTHING_URL, World};

on_both_databases!(two_open_orders_of_one_price_get_two_amounts, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let first = world.order(Ask::default()).await;
    let second = world.order(Ask::default()).await;
    assert!(second.exact_amount && second.pay_units < first.pay_units);
    assert!(second.pay_units >= Units::new(99_500_000), "within half a percent");
    // The second payer rounds, and so pays the first order's amount: twice the first, never the second.
    let rounded = world.pay(&second, first.pay_units);
    world.receive(&[rounded]).await;
    assert_eq!(world.said(first.id).await, "confirming 100000000");
    assert_eq!(world.said(second.id).await, "pending 0");
    // From now on nobody gets the plain price.
    let third = world.order(Ask::default()).await;
    let amounts = BTreeSet::from([first.pay_units, second.pay_units, third.pay_units]);
    assert_eq!(amounts.len(), 3);
    let exact = world.pay_exactly(&second);
    world.receive(&[exact]).await;
    world.deepen().await;
    assert_eq!(world.said(second.id).await, format!("confirmed {}", second.pay_units));
    world.audit().await;
});

on_both_databases!(an_order_is_created_also_when_no_amount_is_left, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let ask = Ask { amount: "0.0004", ..Ask::default() };
    let mut orders = Vec::new();
    for _ in 0..4 {
        orders.push(world.order(ask).await);
    }
    let units: Vec<_> = orders.iter().map(|order| (order.pay_units, order.exact_amount)).collect();
    assert_eq!(units[0], (Units::new(400), true));
    assert_eq!(BTreeSet::from([units[1].0, units[2].0]), BTreeSet::from([Units::new(399), Units::new(398)]));
    assert_eq!(units[3], (Units::new(400), false));
    let last = &orders[3];
    assert_eq!(world.held(last.id).await, []);
    let button = world.pay_by_button(last, last.pay_units);
    world.receive(&[button]).await;
    world.deepen().await;
    assert_eq!(world.events(last.id).await, [PaymentPending, PaymentConfirmed]);
    assert_eq!(world.said(orders[0].id).await, "pending 0", "a reference is stronger than an amount");
    // A price of which half a percent is nothing has only itself.
    let tiny = Ask { amount: "0.000001", ..ask };
    assert!(world.order(tiny).await.exact_amount);
    assert!(!world.order(tiny).await.exact_amount);
    world.audit().await;
});

on_both_databases!(an_orders_own_webhook_gets_the_default_events_beside_the_endpoints, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let own = "https://other.example:8443/paid?basket=17";
    let order = world.order(Ask { webhook_url: Some(own), ..Ask::default() }).await;
    let same = world.order(Ask { webhook_url: Some(EVERYTHING_URL), amount: "50", ..Ask::default() }).await;
    let payments = [world.pay_exactly(&order), world.pay_exactly(&same)];
    world.receive(&payments).await;
    world.deepen().await;
    // `events` checks that each event has its deliveries and no more.
    assert_eq!(world.events(order.id).await, [PaymentPending, PaymentConfirmed]);
    assert_eq!(world.events(same.id).await, [PaymentPending, PaymentConfirmed]);
    let history = event::Entity::of_order(world.db(), world.merchant.id, order.id).await.unwrap();
    let deliveries = world.deliveries(&history[1]).await;
    let own_delivery = deliveries.iter().find(|delivery| delivery.url == own).unwrap();
    assert_eq!(own_delivery.origin, "https://other.example:8443");
    assert_eq!(own_delivery.endpoint_id, world.merchant.own_urls);
    let other = deliveries.iter().find(|delivery| delivery.url == EVERYTHING_URL).unwrap();
    assert_eq!((other.origin.as_str(), other.endpoint_id), ("", world.merchant.everything));
    assert_ne!(own_delivery.delivery_id, other.delivery_id);
    world.audit().await;
});

on_both_databases!(money_from_before_the_order_is_not_its_payment, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let early = world.transfer(Units::new(100_000_000));
    world.receive(from_ref(&early)).await;
    let order = world.order(Ask::default()).await;
    assert_eq!(order.pay_units, early.units);
    // The same height again on another branch, which mines the same and something else anew, but before the order.
    let other = world.transfer(Units::new(100_000_000));
    world.chain.fork(1);
    world.mine_at(order.created_at.minus(Duration::from_secs(1)), &[early, other.clone()]);
    world.settle().await;
    assert_eq!(world.said(order.id).await, "pending 0");
    let inbox = world.inbox(world.merchant).await;
    assert_eq!(inbox[1], (other.tx_hash, vec![order.order_id.to_string()]));
    world.audit().await;
});

on_both_databases!(
    a_payment_that_a_reorganisation_mines_below_the_height_of_its_order_is_its_payment,
    async |db: TestDatabase| {
        let mut world = World::new(db).await;
        let order = world.order(Ask::default()).await;
        let paid = world.transfer(order.pay_units);
        world.chain.fork(1);
        world.mine_at(order.created_at.plus(BLOCK_TIME), from_ref(&paid));
        world.settle().await;
        assert_eq!(world.said(order.id).await, "confirming 100000000");
        world.audit().await;
    }
);
