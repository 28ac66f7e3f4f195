//! What stands still instead of failing, and what is told to stop in the middle of its work: nobody waits for the one
//! without end, and the other leaves nothing half done.

use std::time::Duration;

use cryptopay_entity::chain_cursor;
use cryptopay_test_support::{Answer, Fault, FaultProxy, ReceivedRequest, block_on};

use super::agreement::Expected;
use super::town::{SETTLE, Scene, Town, sell_under};
use super::{World, costs};
use crate::harness::{LIMIT, Shop, Subscription, eventually, text, told};

/// Payments that are confirmed and told while something stands still, as a proof that it holds nobody up.
const MORE: usize = 2;

#[test]
fn one_of_two_nodes_that_hangs_or_goes_holds_nobody_up() {
    block_on(async {
        let mut world = World::new().await;
        let second = FaultProxy::start(&world.node.url()).await;
        let both = format!("{},{}", world.proxy.url(), second.url());
        world.installation = world.installation.with("CRYPTOPAY_RPC_BASE", &both);
        sell_under(world, 1, 2, async |scene| {
            for (proxy, fault) in
                [(&scene.world.proxy, Fault::hang()), (&second, Fault::hang()), (&second, Fault::cut())]
            {
                proxy.inject([fault]);
                sells_on(scene).await;
                proxy.heal();
            }
            // Each of the two says something else all the time, and none of it is the whole truth.
            scene.world.proxy.inject([Fault::lag(20).every(2)]);
            second.inject([Fault::hang().every(3), Fault::empty_logs().every(2)]);
            sells_on(scene).await;
            scene.world.proxy.heal();
            second.heal();
        })
        .await;
    });
}

/// Waits until some more payments have been confirmed and told.
async fn sells_on(scene: &Scene<'_>) {
    let confirmed = |journal: &[ReceivedRequest]| {
        journal.iter().filter(|webhook| webhook.header("X-Webhook-Event") == Some("payment.confirmed")).count()
    };
    let before = confirmed(&scene.world.receiver.journal());
    scene.world.receiver.wait_until(SETTLE, |journal| confirmed(journal) >= before + MORE).await;
}

#[test]
fn a_redis_that_stands_still_keeps_no_order_from_being_made() {
    block_on(async {
        sell_under(World::new().await, 2, 2, async |scene| {
            let shop = Shop::open(&scene.town.apis[0].client()).await;
            for _ in 0..2 {
                scene.world.redis().pause();
                for _ in 0..5 {
                    // Answered, and at once as far as people can tell: Redis is not waited for without end.
                    let order = tokio::time::timeout(Duration::from_secs(5), shop.order(costs("USDC", "5.00"))).await;
                    let order = order.expect("an order within seconds");
                    assert_eq!(shop.look(&order).await["status"], "pending");
                }
                scene.world.redis().resume();
                sells_on(scene).await;
            }
        })
        .await;
    });
}

#[test]
fn a_live_subscription_misses_and_repeats_nothing_when_the_bus_is_cut() {
    block_on(async {
        let world = World::new().await;
        let town = Town::start(&world, 1, 1).await;
        let shop = Shop::open(&town.apis[0].client()).await;
        let secret = shop.listen(&world.receiver).await;
        let order = shop.order(costs("USDC", "100.00")).await;
        let mut live = Subscription::open(&shop.client, text(&order["order_id"]), Some("0")).await;
        let mut seen = vec![live.next().await];

        world.redis().cut_connections();
        world.pay(&order).await;
        world.redis().cut_connections();
        seen.extend(live.until("PAYMENT_PENDING").await);
        // Away while it happens, and empty when it is back.
        world.redis().stop();
        world.node.mine(super::CONFIRMATIONS).await;
        world.redis().restart();
        seen.extend(live.until("PAYMENT_CONFIRMED").await);

        let versions: Vec<i64> = seen.iter().map(|update| update["order"]["version"].as_i64().unwrap()).collect();
        assert_eq!(versions, (1..=versions.len().try_into().unwrap()).collect::<Vec<i64>>(), "{seen:#?}");
        let sequences: Vec<u64> = seen.iter().map(|update| text(&update["sequence"]).parse().unwrap()).collect();
        assert!(sequences.is_sorted_by(|one, next| one < next), "{sequences:?}");
        world.agree(&shop, &secret, &[Expected::new(&order, "confirmed")], LIMIT).await;
    });
}

#[test]
fn a_process_that_is_told_to_stop_in_a_long_backfill_with_webhooks_waiting_goes_on_where_it_was() {
    block_on(async {
        let (world, process, shop, secret) = World::open().await;
        // A backlog of webhooks that nobody takes.
        world.receiver.answer_always(Answer::status(503));
        let first = shop.order(costs("USDC", "100.00")).await;
        world.pay(&first).await;
        let refused = |journal: &[ReceivedRequest]| !told(journal, "payment.pending", &first).is_empty();
        world.receiver.wait_until(LIMIT, refused).await;
        let mut sold = vec![first];
        for price in ["200.00", "300.00", "400.00"] {
            sold.push(shop.order(costs("USDC", price)).await);
        }
        assert_eq!(process.terminate().await.code(), 0);
        world.receiver.answer_always(Answer::status(200));

        // Much happens meanwhile, and the node is slow to tell it.
        for order in &sold[1..] {
            world.node.send(&world.exactly(order)).await;
            world.node.mine(600).await;
        }
        let (head, before) = (world.node.height().await, height(&world).await);
        world.proxy.inject([Fault::delay(Duration::from_secs(1)).on("eth_getLogs")]);
        for _ in 0..2 {
            let began_at = height(&world).await;
            let process = world.installation.start().await;
            eventually("the backfill goes on", async || (height(&world).await > began_at).then_some(())).await;
            assert_eq!(process.terminate().await.code(), 0);
            assert!(height(&world).await < head, "it was stopped in the middle");
        }
        assert!(height(&world).await > before);

        world.proxy.heal();
        let process = world.installation.start().await;
        let shop = shop.at(process.base());
        let expected: Vec<Expected> = sold.iter().map(|order| Expected::new(order, "confirmed")).collect();
        world.agree(&shop, &secret, &expected, SETTLE).await;
    });
}

/// Height of the newest block that the gateway has verified.
async fn height(world: &World) -> u64 {
    let cursor = chain_cursor::Entity::of(world.db.connection(), "base").await.unwrap();
    cursor.map_or(0, |cursor| cursor.height.unsigned_abs())
}
