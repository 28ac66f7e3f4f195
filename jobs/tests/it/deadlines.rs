//! Nothing closes by the wall clock: only a verified block past the deadline closes an order.

use cryptopay_domain::order::OrderStatus;
use cryptopay_test_support::{TestDatabase, on_both_databases};

use crate::world::{Ask, REQUIRED, World};

/// Far beyond the deadline of every order here.
const TWO_DAYS: u64 = 2 * 24 * 3600;

on_both_databases!(an_order_expires_only_when_a_block_past_its_deadline_is_verified, async |db: TestDatabase| {
    let (world, shop) = World::with_shop(db, "order.expired").await;
    let order = world.order(&shop.merchant, Ask::default()).await;
    world.advance(TWO_DAYS).await;
    world.drain().await;
    assert_eq!(world.status(&order).await, OrderStatus::Pending, "the chain stands still");

    // The block is there, but this endpoint does not have it.
    world.client.lag_behind(world.height().await);
    world.mine(1).await;
    world.drain().await;
    assert_eq!(world.status(&order).await, OrderStatus::Pending, "nobody has verified it");
    assert_eq!(world.events(), Vec::<String>::new());

    world.client.behave();
    world.drain().await;
    assert_eq!(world.status(&order).await, OrderStatus::Expired);
    assert_eq!(world.events(), ["order.expired"]);
    assert_eq!(world.told("order.expired")[0].json()["data"]["status"], "expired");
    world.drain().await;
    assert_eq!(world.events().len(), 1);
    world.audit().await;
});

on_both_databases!(a_payment_in_time_that_is_seen_days_late_is_in_time, async |db: TestDatabase| {
    let (mut world, shop) =
        World::with_shop(db, "order.expired,order.late_payment,payment.pending,payment.confirmed").await;
    let order = world.order(&shop.merchant, Ask::default()).await;
    let forgotten = world.order(&shop.merchant, Ask { amount: "7.00", ..Ask::default() }).await;
    world.drain().await;
    world.pay(&order).await;
    world.mine(REQUIRED).await;
    world.advance(TWO_DAYS).await;
    world.mine(1).await;

    world.restart("after two days").await;
    world.drain().await;
    assert_eq!(world.status(&order).await, OrderStatus::Confirmed);
    assert_eq!(world.row(order.id).await.late_decision, None);
    assert_eq!(world.status(&forgotten).await, OrderStatus::Expired);
    assert_eq!(world.told("order.expired").len(), 1);
    assert_eq!(world.told("order.late_payment").len(), 0);
    world.audit().await;
});
