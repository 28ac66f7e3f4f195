//! Two processes and one chain: a lease says who scans, a fence says whose writing counts.

use std::sync::Arc;

use cryptopay_domain::order::OrderStatus;
use cryptopay_jobs::{Context, Workers};
use cryptopay_sandbox::KeepTransactions;
use cryptopay_test_support::{TestDatabase, on_both_databases};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::tampered::{Call, Tampered};
use crate::world::{Ask, REQUIRED, World};

/// A process that was stopped in the midst of a scan, with an answer of the chain in its hands.
struct Paused {
    resume: oneshot::Sender<()>,
    scan: JoinHandle<()>,
}

impl Paused {
    async fn after(call: Call, client: &Tampered, context: &Arc<Context>) -> Self {
        let (stopped, has_stopped) = oneshot::channel();
        let (resume, resumed) = oneshot::channel();
        client.after_next(call, async move {
            stopped.send(()).unwrap();
            resumed.await.unwrap();
        });
        let context = context.clone();
        let scan = tokio::spawn(async move { Workers::drain(&context).await });
        has_stopped.await.unwrap();
        Self { resume, scan }
    }

    async fn resume(self) {
        self.resume.send(()).unwrap();
        self.scan.await.unwrap();
    }
}

on_both_databases!(a_second_process_does_not_move_the_cursor_while_the_lease_lasts, async |db: TestDatabase| {
    let (world, shop) = World::with_shop(db, "*").await;
    let order = world.order(&shop.merchant, Ask::default()).await;
    world.drain().await;
    let before = world.cursor().await;
    world.pay(&order).await;
    world.mine(2).await;

    let (second, client) = world.another("second");
    Workers::drain(&second).await;
    let cursor = world.cursor().await;
    assert_eq!((cursor.height, cursor.hash, cursor.lease_epoch), (before.height, before.hash, before.lease_epoch));
    assert_eq!(cursor.lease_owner.as_deref(), Some("first"));
    assert!(client.take_journal().calls.iter().all(|call| *call == Call::ChainId), "it asks the chain for nothing");
    assert_eq!(world.transfers().await.len(), 0);

    world.drain().await;
    assert_eq!(world.cursor_height().await, world.height().await);
    assert_eq!(world.status(&order).await, OrderStatus::Confirming);
    world.audit().await;
});

on_both_databases!(a_worker_that_wakes_up_after_its_lease_writes_nothing, async |db: TestDatabase| {
    let (world, shop) = World::with_shop(db, "*").await;
    let (second, _) = world.another("second");
    let order = world.order(&shop.merchant, Ask::default()).await;
    world.pay(&order).await;
    world.mine(1).await;
    let paused = Paused::after(Call::Transfers, &world.client, &world.context).await;

    world.expire_leases().await;
    world.mine(1).await;
    Workers::drain(&second).await;
    let (cursor, row) = (world.cursor().await, world.row(order.id).await);
    assert_eq!((world.transfers().await.len(), row.status), (1, OrderStatus::Confirming));
    let told = world.events();

    paused.resume().await;
    assert_eq!(world.cursor().await, cursor);
    assert_eq!(world.row(order.id).await, row);
    assert_eq!(world.transfers().await.len(), 1);
    assert_eq!(world.events(), told);
    world.audit().await;
});

on_both_databases!(a_worker_that_wakes_up_on_an_abandoned_branch_credits_nothing_from_it, async |db: TestDatabase| {
    let (world, shop) = World::with_shop(db, "*").await;
    let (second, _) = world.another("second");
    let order = world.order(&shop.merchant, Ask::default()).await;
    world.pay(&order).await;
    world.mine(REQUIRED).await;
    let paused = Paused::after(Call::Transfers, &world.client, &world.context).await;

    world.expire_leases().await;
    world.reorganise(REQUIRED, KeepTransactions::No).await;
    Workers::drain(&second).await;
    paused.resume().await;
    assert_eq!(world.transfers().await.len(), 0);
    assert_eq!(world.status(&order).await, OrderStatus::Pending);
    assert_eq!(world.events(), ["order.created"]);
    world.audit().await;
});

on_both_databases!(a_worker_that_wakes_up_does_not_bring_back_an_old_window, async |db: TestDatabase| {
    // The window below a young cursor is read outside any transaction too.
    let world = World::new(db).await;
    world.mine(20).await;
    world.drain().await;
    let merchant = world.merchant().await;
    let order = world.order(&merchant, Ask::default()).await;
    world.mine(1).await;
    let (second, _) = world.another("second");
    let paused = Paused::after(Call::Blocks, &world.client, &world.context).await;

    world.expire_leases().await;
    world.reorganise(6, KeepTransactions::No).await;
    world.pay(&order).await;
    world.mine(1).await;
    for _ in 0..3 {
        Workers::drain(&second).await;
    }
    assert_eq!(world.cursor_height().await, world.height().await);
    let window = world.window().await;

    paused.resume().await;
    assert_eq!(world.window().await, window, "hashes of a branch that is gone");
    world.expire_leases().await;
    world.mine(REQUIRED).await;
    Workers::drain(&second).await;
    assert_eq!(world.status(&order).await, OrderStatus::Confirmed);
    world.audit().await;
});
