//! The workers as a process runs them.

#![expect(clippy::print_stdout, reason = "a measurement is for whoever runs the test")]

use std::future::pending;
use std::time::{Duration, Instant};

use cryptopay_domain::merchant::DeliveryState;
use cryptopay_domain::order::OrderStatus;
use cryptopay_domain::time::Timestamp;
use cryptopay_entity::{sandbox_block, timer_lease};
use cryptopay_jobs::{RedisProblem, STOP_WITHIN, Workers};
use cryptopay_test_support::{Answer, Parts, RedisServer, TestDatabase, block_on, on_both_sets_of_parts};
use sea_orm::EntityTrait;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::signed;
use crate::tampered::Call;
use crate::world::{Ask, PATIENCE, SLUG, World};

on_both_sets_of_parts!(workers_deliver_by_themselves_and_stop_within_a_second, async |parts: Parts| {
    let block_time = Duration::from_secs(1);
    let world = World::unseen(parts, block_time).await;
    let stop = CancellationToken::new();
    let workers = tokio::spawn(Workers::run(world.context.clone(), stop.clone()));
    world.wait_for_a_cursor().await;
    let merchant = world.merchant().await;
    let events = "payment.pending,payment.confirmed";
    let endpoint = world.endpoint(&merchant, &world.receiver.url("/hook"), events).await;
    let (order, nudges) = world.order_with_nudges(&merchant, Ask::default()).await;
    world.context.queue.nudge(nudges);
    world.pay(&order).await;

    world.receiver.wait_for(1, PATIENCE).await;
    let told_at = world.now().await;
    let journal = world.receiver.wait_for(2, PATIENCE).await;
    let confirmed_at = world.now().await;
    assert_eq!(world.events(), ["payment.pending", "payment.confirmed"]);
    journal.iter().for_each(|request| signed::check(request, &endpoint.secret));
    assert_eq!(world.status(&order).await, OrderStatus::Confirmed);

    // The simulation stamps its rows to the microsecond: when a block could be seen first, and when it was mined.
    let paid_in = world.transfers().await[0].block_number;
    let mined =
        async |number: i64| sandbox_block::Entity::at(&world.db, SLUG, number).await.unwrap().unwrap().block_time;
    let after = |later: Timestamp, earlier: Timestamp| later.since(earlier).as_millis();
    let due = mined(paid_in - 1).await.plus(block_time);
    println!(
        "block due -> first webhook byte: {} ms, of which {} ms until the poll; block visible -> first webhook byte: {} ms; \
         last confirmation visible -> webhook: {} ms",
        after(told_at, due),
        after(mined(paid_in).await, due),
        after(told_at, mined(paid_in).await),
        after(confirmed_at, mined(paid_in + 2).await),
    );
    assert!(after(told_at, mined(paid_in).await) < 5_000, "even on a machine that does much else");

    let stopping = Instant::now();
    stop.cancel();
    workers.await.unwrap();
    let took = stopping.elapsed();
    println!("stopped within {} ms", took.as_millis());
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert_eq!(world.cursor().await.lease_owner, None, "given back");
    assert_eq!(timer_lease::Entity::find().all(&world.db).await.unwrap(), []);

    // Whoever comes next need not wait for it.
    let (second, _) = world.another("second");
    Workers::drain(&second).await;
    assert_eq!(world.cursor().await.lease_owner.as_deref(), Some("second"));
    world.audit().await;
});

on_both_sets_of_parts!(the_sweep_finds_what_nobody_was_told_of, async |parts: Parts| {
    let world = World::unseen(parts, Duration::from_secs(1)).await;
    world.drain().await;
    let merchant = world.merchant().await;
    let events = "order.created,order.expired,payment.pending";
    world.endpoint(&merchant, &world.receiver.url("/hook"), events).await;
    let paid = world.order(&merchant, Ask::default()).await;
    world.order(&merchant, Ask { amount: "3.00", ..Ask::default() }).await;
    let mut bus = world.context.events.subscribe();
    let stop = CancellationToken::new();
    let workers = tokio::spawn(Workers::run(world.context.clone(), stop.clone()));
    // Committed, and no nudge was sent: deliveries and numbers.
    world.receiver.wait_for(2, PATIENCE).await;
    tokio::time::timeout(PATIENCE, bus.changed()).await.expect("nobody numbered the events");
    // Mined, and nobody said so: the block, then the deadline.
    world.pay(&paid).await;
    world.receiver.wait_for(3, PATIENCE).await;
    world.advance(2 * 3600).await;
    world.receiver.wait_for(4, PATIENCE).await;
    assert_eq!(world.events(), ["order.created", "order.created", "payment.pending", "order.expired"]);
    stop.cancel();
    workers.await.unwrap();
    world.audit().await;
});

on_both_sets_of_parts!(two_processes_share_the_work_and_double_none, async |parts: Parts| {
    const ORDERS: usize = 20;
    let (world, shop) = World::with_shop(parts, "*").await;
    let (second, _) = world.another("second");
    let stop = CancellationToken::new();
    let running: Vec<_> = [world.context.clone(), second]
        .map(|context| tokio::spawn(Workers::run(context, stop.clone())))
        .into_iter()
        .collect();
    for _ in 0..ORDERS {
        let order = world.order(&shop.merchant, Ask::default()).await;
        world.pay(&order).await;
    }
    world.mine(3).await;
    let of = |event: &'static str| {
        move |journal: &[cryptopay_test_support::ReceivedRequest]| {
            journal.iter().filter(|request| request.header("x-webhook-event") == Some(event)).count() >= ORDERS
        }
    };
    world.receiver.wait_until(PATIENCE, of("payment.confirmed")).await;
    world.receiver.wait_until(PATIENCE, of("payment.pending")).await;
    let journal = world.receiver.wait_until(PATIENCE, of("order.created")).await;
    stop.cancel();
    for process in running {
        process.await.unwrap();
    }
    let mut ids: Vec<&str> = journal.iter().map(|request| request.header("webhook-id").unwrap()).collect();
    ids.sort_unstable();
    let sent = ids.len();
    ids.dedup();
    assert_eq!(ids.len(), sent, "no delivery was sent twice");
    assert_eq!(world.transfers().await.len(), ORDERS);
    world.audit().await;
});

on_both_sets_of_parts!(what_is_being_sent_when_the_workers_stop_is_sent_to_its_end, async |parts: Parts| {
    let (world, shop) = World::with_shop(parts, "order.created").await;
    world.receiver.answer_next([Answer::status(200).after(Duration::from_secs(2))]);
    let stop = CancellationToken::new();
    let workers = tokio::spawn(Workers::run(world.context.clone(), stop.clone()));
    let (_, nudges) = world.order_with_nudges(&shop.merchant, Ask::default()).await;
    world.context.queue.nudge(nudges);
    world.receiver.wait_for(1, PATIENCE).await;
    stop.cancel();
    workers.await.unwrap();
    assert_eq!(world.delivery(shop.endpoint.id).await.state, DeliveryState::Delivered);
    assert_eq!(world.receiver.journal().len(), 1);
});

on_both_sets_of_parts!(after_the_order_to_stop_nothing_new_is_claimed, async |parts: Parts| {
    const ORDERS: usize = 60;
    let (world, shop) = World::with_shop(parts, "order.created").await;
    for _ in 0..ORDERS {
        world.order(&shop.merchant, Ask::default()).await;
    }
    world.receiver.answer_always(Answer::status(200).after(Duration::from_secs(1)));
    let stop = CancellationToken::new();
    let workers = tokio::spawn(Workers::run(world.context.clone(), stop.clone()));
    world.receiver.wait_for(1, PATIENCE).await;
    stop.cancel();
    workers.await.unwrap();
    let sent = world.receiver.journal().len();
    assert!(sent < ORDERS / 2, "{sent} were sent");
    let deliveries = world.deliveries(shop.endpoint.id).await;
    let delivered = deliveries.iter().filter(|delivery| delivery.state == DeliveryState::Delivered).count();
    assert_eq!(delivered, sent, "what was on its way was sent to its end and recorded");
});

on_both_sets_of_parts!(a_scan_that_waits_for_its_endpoint_holds_no_stop_up, async |parts: Parts| {
    let (world, _) = World::with_shop(parts, "*").await;
    let (asked, is_asked) = oneshot::channel();
    world.client.after_next(Call::Transfers, async move {
        asked.send(()).unwrap();
        pending().await
    });
    world.mine(1).await;
    let before = world.cursor_height().await;
    let stop = CancellationToken::new();
    let workers = tokio::spawn(Workers::run(world.context.clone(), stop.clone()));
    is_asked.await.unwrap();
    let stopping = Instant::now();
    stop.cancel();
    workers.await.unwrap();
    assert!(stopping.elapsed() < STOP_WITHIN / 2, "{:?}", stopping.elapsed());
    let cursor = world.cursor().await;
    assert_eq!((cursor.height, cursor.lease_owner), (i64::try_from(before).unwrap(), None), "left to the next process");
});

#[test]
fn a_redis_that_lets_nobody_listen_is_not_ready() {
    block_on(async {
        let server = RedisServer::start();
        let mut admin = redis::Client::open(server.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
        let mut user = redis::cmd("ACL");
        user.arg(&["SETUSER", "pay", "on", ">secret", "~*", "&*", "+@all", "-subscribe"]);
        user.exec_async(&mut admin).await.unwrap();
        let url = format!("redis://pay:secret@{}", server.url().rsplit('@').next().unwrap());
        let world = World::unseen(Parts::from(TestDatabase::postgres().await), Duration::from_secs(1)).await;
        let context = world.over_redis(&url, "ours:").process_with("worker", [], Vec::new());
        let stop = CancellationToken::new();
        let workers = tokio::spawn(Workers::run(context.clone(), stop.clone()));
        let noticed = async {
            while context.queue.redis().unwrap().check().await != Err(RedisProblem::Forbidden) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, noticed).await.expect("it passes for usable");
        stop.cancel();
        workers.await.unwrap();
    });
}
