//! One receiver's trouble is nobody else's.

use std::sync::Arc;

use cryptopay_domain::merchant::DeliveryState;
use cryptopay_entity::{webhook_breaker, webhook_endpoint};
use cryptopay_jobs::{Context, Workers};
use cryptopay_test_support::{Answer, TestDatabase, WebhookReceiver, on_both_databases};
use sea_orm::EntityTrait;
use tokio::task::JoinHandle;

use crate::signed;
use crate::world::{Ask, PATIENCE, World};

fn drain_aside(context: &Arc<Context>) -> JoinHandle<()> {
    let context = context.clone();
    tokio::spawn(async move { Workers::drain(&context).await })
}

on_both_databases!(a_hung_receiver_does_not_hold_another_endpoints_deliveries, async |db: TestDatabase| {
    let (world, shop) = World::with_shop(db, "order.created").await;
    let hung = WebhookReceiver::start().await;
    hung.answer_always(Answer::never());
    world.endpoint(&shop.merchant, &hung.url("/"), "order.created").await;
    for _ in 0..10 {
        world.order(&shop.merchant, Ask::default()).await;
    }
    let draining = drain_aside(&world.context);
    world.receiver.wait_for(10, PATIENCE).await;
    let stuck = hung.wait_for(8, PATIENCE).await;
    assert!(!draining.is_finished());

    // What happens while it hangs is delivered too.
    world.order(&shop.merchant, Ask::default()).await;
    let (second, _) = world.another("second");
    let meanwhile = drain_aside(&second);
    world.receiver.wait_for(11, PATIENCE).await;
    meanwhile.await.unwrap();
    assert_eq!(hung.journal().len(), stuck.len(), "at most eight at a time, whoever claims");
    assert_eq!(stuck.len(), 8);

    // Its end, so that the test need not wait for the time-out.
    hung.stop().await;
    draining.abort();
});

on_both_databases!(a_slow_answer_does_not_hold_what_is_told_to_the_same_endpoint_later, async |db: TestDatabase| {
    let (world, shop) = World::with_shop(db, "order.created").await;
    world.receiver.answer_next([Answer::never()]);
    let (_, nudges) = world.order_with_nudges(&shop.merchant, Ask::default()).await;
    let stop = tokio_util::sync::CancellationToken::new();
    let workers = tokio::spawn(Workers::run(world.context.clone(), stop.clone()));
    world.context.queue.nudge(nudges);
    world.receiver.wait_for(1, PATIENCE).await;
    let started = std::time::Instant::now();
    let (_, nudges) = world.order_with_nudges(&shop.merchant, Ask::default()).await;
    world.context.queue.nudge(nudges);
    world.receiver.wait_for(2, PATIENCE).await;
    let waited = started.elapsed();
    assert!(waited.as_secs() < 5, "it waited {waited:?} for another delivery's answer");

    // Cuts the hung connection, so that the workers end.
    let World { receiver, .. } = world;
    receiver.stop().await;
    stop.cancel();
    workers.await.unwrap();
});

on_both_databases!(requests_in_flight_keep_no_connection_to_the_database, async |db: TestDatabase| {
    const ORDERS: usize = 20;
    // Several times as many requests at once as the pool has connections.
    let (world, shop) = World::with_shop(db, "order.created").await;
    let others = WebhookReceiver::start().await;
    let mut endpoints = vec![shop.endpoint.id];
    for number in 0..6 {
        let url = others.url(&format!("/{number}"));
        endpoints.push(world.endpoint(&shop.merchant, &url, "order.created").await.id);
    }
    for _ in 0..ORDERS {
        world.order(&shop.merchant, Ask::default()).await;
    }
    tokio::time::timeout(PATIENCE, world.drain()).await.expect("requests and their records wait for each other");
    for endpoint in endpoints {
        let delivered = world.deliveries(endpoint).await;
        assert!(delivered.len() == ORDERS && delivered.iter().all(|row| row.state == DeliveryState::Delivered));
    }
});

on_both_databases!(an_orders_own_url_is_served_by_its_origin, async |db: TestDatabase| {
    let (world, shop) = World::with_shop(db, "payment.pending").await;
    let (dead, alive) = (WebhookReceiver::start().await, WebhookReceiver::start().await);
    dead.answer_always(Answer::status(500));
    let own_url = |receiver: &WebhookReceiver, order: usize| receiver.url(&format!("/orders/{order}"));
    let mut orders = Vec::new();
    for number in 0..12 {
        for receiver in [&dead, &alive] {
            let url = own_url(receiver, number);
            let ask = Ask { webhook_url: Some(&url), amount: "10.00", ..Ask::default() };
            orders.push(world.order(&shop.merchant, ask).await);
        }
    }
    for order in &orders {
        world.pay(order).await;
    }
    world.mine(1).await;
    world.drain().await;

    // One breaker for all orders of the dead origin, none for the other.
    assert_eq!(alive.journal().len(), 12);
    assert!((10..=12).contains(&dead.journal().len()));
    for request in alive.journal() {
        signed::check(&request, &shop.merchant.own_secret);
        assert!(request.path.starts_with("/orders/"));
    }
    let implicit = webhook_endpoint::Entity::receiving(&world.db, [shop.merchant.id]).await.unwrap();
    let implicit = implicit.iter().find(|endpoint| endpoint.url.is_none()).unwrap();
    let breaker = async |receiver: &WebhookReceiver| {
        let origin = format!("http://{}", receiver.address());
        webhook_breaker::Entity::of(&world.db, implicit.id, &origin).await.unwrap()
    };
    assert!(breaker(&dead).await.open_until.is_some());
    assert_eq!(breaker(&alive).await.failures, 0);
    assert_eq!(world.receiver.journal().len(), 24, "in addition to the registered endpoint");

    // Gone for ever is the origin's affair: the implicit endpoint serves others.
    dead.answer_always(Answer::status(410));
    for _ in 0..12 {
        world.advance(300).await;
        world.drain().await;
    }
    let implicit = webhook_endpoint::Entity::find_by_id(implicit.id).one(&world.db).await.unwrap().unwrap();
    assert!(implicit.is_active);
    let more = own_url(&alive, 99);
    let order = world.order(&shop.merchant, Ask { webhook_url: Some(&more), ..Ask::default() }).await;
    world.pay(&order).await;
    world.mine(1).await;
    world.drain().await;
    assert!(alive.journal().iter().any(|request| request.path == "/orders/99"));
});

on_both_databases!(an_orders_own_url_that_is_registered_gets_each_event_once, async |db: TestDatabase| {
    let (world, shop) = World::with_shop(db, "payment.pending").await;
    let url = world.receiver.url("/hook");
    let order = world.order(&shop.merchant, Ask { webhook_url: Some(&url), ..Ask::default() }).await;
    world.pay(&order).await;
    world.mine(3).await;
    world.drain().await;
    // The registered endpoint asked for one of the two; the order's own url gets the other by default.
    assert_eq!(world.told("payment.pending").len(), 1);
    signed::check(&world.told("payment.pending")[0], &shop.endpoint.secret);
    assert_eq!(world.told("payment.confirmed").len(), 1);
    signed::check(&world.told("payment.confirmed")[0], &shop.merchant.own_secret);
    assert_eq!(world.receiver.journal().len(), 2);
    assert_eq!(world.delivery(shop.endpoint.id).await.state, DeliveryState::Delivered);
});
