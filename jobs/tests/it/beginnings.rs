//! A merchant of the sandbox begins anew in the midst of what jobs do.

use std::time::Duration;

use cryptopay_domain::ids::MerchantId;
use cryptopay_domain::order::OrderStatus;
use cryptopay_entity::{event, merchant, payment_order, transact, webhook_endpoint};
use cryptopay_ledger::{Deleted, LedgerError};
use cryptopay_test_support::{Answer, TestDatabase, on_both_databases};
use sea_orm::{ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter};

use crate::world::{Ask, PATIENCE, REQUIRED, World};

const EVENTS: &str = "order.created,payment.pending,payment.confirmed";

async fn reset(world: &World, merchant: MerchantId) -> Deleted {
    let deleted: Result<Deleted, LedgerError> = transact!(&world.db, |txn| {
        merchant::Entity::lock(txn, merchant).await?;
        cryptopay_ledger::reset(txn, merchant, &[]).await
    });
    deleted.unwrap()
}

async fn left_of(world: &World, merchant: MerchantId) -> (u64, u64, u64) {
    let orders = payment_order::Entity::find().filter(payment_order::Column::MerchantId.eq(merchant));
    let events = event::Entity::find().filter(event::Column::MerchantId.eq(merchant));
    let endpoints = webhook_endpoint::Entity::find().filter(webhook_endpoint::Column::MerchantId.eq(merchant));
    let count = (orders.count(&world.db), events.count(&world.db), endpoints.count(&world.db));
    (count.0.await.unwrap(), count.1.await.unwrap(), count.2.await.unwrap())
}

on_both_databases!(a_delivery_on_its_way_is_sent_to_its_end_and_recorded_nowhere, async |db: TestDatabase| {
    let (world, shop) = World::with_shop(db, EVENTS).await;
    world.receiver.answer_next([Answer::status(500).after(Duration::from_millis(300))]);
    world.order(&shop.merchant, Ask::default()).await;
    let begin_anew = async {
        world.receiver.wait_for(1, PATIENCE).await;
        reset(&world, shop.merchant.id).await
    };
    let ((), deleted) = tokio::join!(world.drain(), begin_anew);
    assert_eq!((deleted.orders, deleted.events, deleted.deliveries), (1, 1, 1));
    world.drain().await;
    assert_eq!(world.receiver.journal().len(), 1, "it is not tried again");
    assert_eq!(left_of(&world, shop.merchant.id).await, (0, 0, 0));
    assert!(world.attempts().await.is_empty());
    world.audit().await;
});

on_both_databases!(jobs_of_what_is_gone_find_nothing_to_do, async |db: TestDatabase| {
    let (world, shop) = World::with_shop(db, EVENTS).await;
    let neighbour = world.merchant().await;
    let (hers, his) =
        (world.order(&shop.merchant, Ask::default()).await, world.order(&neighbour, Ask::default()).await);
    world.drain().await;
    // Paid and mined, and not yet read; then read, and not yet confirmed.
    world.pay(&hers).await;
    world.pay(&his).await;
    world.mine(1).await;
    let deleted = reset(&world, shop.merchant.id).await;
    assert_eq!((deleted.orders, deleted.transfers), (1, 0));
    world.drain().await;
    assert_eq!(world.status(&his).await, OrderStatus::Confirming);
    assert_eq!(world.transfers().await.len(), 1, "what nobody watches is not looked for");
    world.audit().await;

    let deleted = reset(&world, neighbour.id).await;
    assert_eq!((deleted.orders, deleted.transfers), (1, 1));
    world.mine(REQUIRED).await;
    world.drain().await;
    world.reorganise(2, cryptopay_sandbox::KeepTransactions::Yes).await;
    world.drain().await;
    assert_eq!(world.transfers().await, []);

    // The numbers of events go on where they were, and the chain is read on.
    let late = world.merchant().await;
    world.mine(1).await;
    world.drain().await;
    let order = world.order(&late, Ask::default()).await;
    world.pay(&order).await;
    world.mine(REQUIRED).await;
    world.drain().await;
    assert_eq!(world.status(&order).await, OrderStatus::Confirmed);
    world.audit().await;
});

on_both_databases!(a_transfer_that_others_see_stays_theirs, async |db: TestDatabase| {
    use cryptopay_entity::{allocation, merchant_transfer, receiving_address};
    let (world, shop) = World::with_shop(db, EVENTS).await;
    let neighbour = world.merchant().await;
    // In the sandbox two merchants may hold one address.
    let now = world.now().await;
    let (address, wallet) = (shop.merchant.address, neighbour.wallet);
    let realm = neighbour.id.0;
    receiving_address::Entity::claim(&world.db, "base", address, realm, neighbour.id, wallet, now).await.unwrap();
    let usdc = world.chain.token("USDC").unwrap();
    let units = cryptopay_domain::units::Units::new(5);
    cryptopay_sandbox::give(&world.db, &world.chain, usdc, address, units).await.unwrap();
    let order = world.order(&shop.merchant, Ask::default()).await;
    world.pay(&order).await;
    world.mine(REQUIRED).await;
    world.drain().await;
    assert_eq!(world.status(&order).await, OrderStatus::Confirmed);
    assert_eq!(world.transfers().await.len(), 2);

    let deleted = reset(&world, shop.merchant.id).await;
    assert_eq!((deleted.orders, deleted.transfers), (1, 1), "the order's own; the other one waits for both");
    let left = world.transfers().await;
    assert_eq!(
        left.iter().map(|row| (row.units, row.allocated_units)).collect::<Vec<_>>(),
        [(units, Default::default())]
    );
    let seen = merchant_transfer::Entity::find().all(&world.db).await.unwrap();
    assert_eq!(seen.iter().map(|row| row.merchant_id).collect::<Vec<_>>(), [neighbour.id]);
    assert_eq!(allocation::Entity::find().count(&world.db).await.unwrap(), 0);
    world.audit().await;
});
