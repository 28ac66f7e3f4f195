//! The sandbox's node is told to misbehave, and nothing is lost by it.

use cryptopay_domain::order::OrderStatus;
use cryptopay_sandbox::{FaultKind, fault};
use cryptopay_test_support::{TestDatabase, on_both_databases};

use crate::world::{Ask, REQUIRED, World};

const EVENTS: &str = "payment.pending,payment.confirmed,payment.failed,payment.reorged";
/// How long the faults last, in seconds.
const LASTS: u64 = 600;

async fn begin(world: &World, kind: FaultKind) {
    fault(&world.db, &world.chain, kind, LASTS).await.unwrap().unwrap();
}

/// The fault ends, and the gateway has had its looks.
async fn recover(world: &World) {
    world.advance(LASTS + 1).await;
    for _ in 0..4 {
        world.drain().await;
    }
}

/// What was told, by name: what becomes known at once is sent side by side.
fn told_of(world: &World) -> Vec<String> {
    let mut names = world.events();
    names.sort();
    names
}

on_both_databases!(what_is_paid_while_the_node_is_down_is_found_afterwards, async |db: TestDatabase| {
    let (world, shop) = World::with_shop(db, EVENTS).await;
    let order = world.order(&shop.merchant, Ask::default()).await;
    begin(&world, FaultKind::Down).await;
    world.pay(&order).await;
    world.mine(REQUIRED).await;
    let height = world.cursor_height().await;
    world.drain().await;
    assert_eq!((world.cursor_height().await, world.status(&order).await), (height, OrderStatus::Pending));
    let cursor = world.cursor().await;
    assert_eq!(cursor.health, "unreachable");
    assert!(cursor.problem.unwrap().contains("503"));

    recover(&world).await;
    assert_eq!(world.status(&order).await, OrderStatus::Confirmed);
    assert_eq!(told_of(&world), ["payment.confirmed", "payment.pending"]);
    assert_eq!(world.cursor().await.health, "ok");
    world.audit().await;
});

on_both_databases!(a_node_that_lags_takes_nothing_back_and_catches_up, async |db: TestDatabase| {
    let (world, shop) = World::with_shop(db, EVENTS).await;
    let first = world.order(&shop.merchant, Ask::default()).await;
    world.pay(&first).await;
    world.mine(1).await;
    world.drain().await;
    assert_eq!(world.status(&first).await, OrderStatus::Confirming);

    begin(&world, FaultKind::Lagging).await;
    let second = world.order(&shop.merchant, Ask::default()).await;
    world.pay(&second).await;
    world.mine(REQUIRED).await;
    let height = world.cursor_height().await;
    world.drain().await;
    assert_eq!(world.cursor_height().await, height, "what was verified stays verified");
    assert_eq!(world.status(&first).await, OrderStatus::Confirming, "and what was seen stays seen");
    assert_eq!(world.status(&second).await, OrderStatus::Pending);

    recover(&world).await;
    for order in [&first, &second] {
        assert_eq!(world.status(order).await, OrderStatus::Confirmed);
    }
    assert!(world.told("payment.failed").is_empty() && world.told("payment.reorged").is_empty());
    world.audit().await;
});

on_both_databases!(a_node_that_holds_logs_back_is_not_believed, async |db: TestDatabase| {
    let (world, shop) = World::with_shop(db, EVENTS).await;
    let order = world.order(&shop.merchant, Ask::default()).await;
    begin(&world, FaultKind::EmptyLogs).await;
    world.mine(2).await;
    world.drain().await;
    let height = world.cursor_height().await;
    assert_eq!(height, world.height().await, "blocks whose headers speak of no logs are believed");

    world.pay(&order).await;
    world.mine(REQUIRED).await;
    world.drain().await;
    assert_eq!((world.cursor_height().await, world.status(&order).await), (height, OrderStatus::Pending));
    assert!(world.cursor().await.problem.unwrap().contains("logs"));

    recover(&world).await;
    assert_eq!(world.status(&order).await, OrderStatus::Confirmed);
    assert_eq!(told_of(&world), ["payment.confirmed", "payment.pending"]);
    world.audit().await;
});

on_both_databases!(a_stale_tag_confirms_nothing_and_depth_does, async |db: TestDatabase| {
    // The simulation's tag "safe" lies `confirmations` below the head, so an order that asks for more is served by it.
    let (mut world, shop) = World::with_shop(db, EVENTS).await;
    let order = world.order(&shop.merchant, Ask::default()).await;
    world.require(&order, 9).await;
    world.use_finality_tag().await;
    begin(&world, FaultKind::StaleFinalized).await;
    world.pay(&order).await;
    world.mine(7).await;
    world.drain().await;
    assert_eq!(world.status(&order).await, OrderStatus::Confirming);
    world.mine(2).await;
    world.drain().await;
    assert_eq!(world.status(&order).await, OrderStatus::Confirmed, "by depth");

    let order = world.order(&shop.merchant, Ask::default()).await;
    world.require(&order, 9).await;
    world.pay(&order).await;
    world.mine(7).await;
    world.drain().await;
    assert_eq!(world.status(&order).await, OrderStatus::Confirming);
    recover(&world).await;
    world.mine(1).await;
    world.drain().await;
    assert_eq!(world.status(&order).await, OrderStatus::Confirmed, "by the tag, which is fresh again");
    world.audit().await;
});
