//! Two processes and one chain: a lease says who scans, a fence says whose writing counts.

use std::sync::Arc;
use std::time::Duration;

use cryptopay_domain::order::OrderStatus;
use cryptopay_entity::{chain_cursor, clock, timer_lease};
use cryptopay_jobs::{Context, Workers};
use cryptopay_sandbox::KeepTransactions;
use cryptopay_test_support::{Parts, TestDatabase, block_on, on_both_databases};
use sea_orm::EntityTrait;
use sea_orm::sea_query::Expr;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::tampered::{Call, Tampered};
use crate::world::{Ask, PATIENCE, REQUIRED, World};

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

on_both_databases!(when_a_cursor_was_moved_is_told_by_the_clock_of_leases, async |db: TestDatabase| {
    let (world, _) = World::with_shop(db, "*").await;
    world.advance(3_600).await;
    for _ in 0..2 {
        world.mine(2).await;
        world.drain().await;
        let (cursor, now) = (world.cursor().await, clock::database_now(&world.db).await.unwrap());
        assert!(cursor.updated_at <= now && cursor.last_look(now) <= now, "{cursor:?}");
        world.reorganise(1, KeepTransactions::Yes).await;
    }
});

/// Where processes share their queue, and no block comes by itself.
async fn scanned_without_a_block(world: &World) {
    let (order, height) = (world.cursor_height().await, world.height().await);
    assert!(order < height);
    let scanned = async {
        while world.cursor_height().await < height {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, scanned).await.expect("nobody looks at the chain");
}

#[test]
fn a_chain_whose_scanner_has_died_is_taken_over_when_its_lease_has_run_out() {
    block_on(async {
        let (world, _) = World::with_shop(Parts::production().await, "*").await;
        let stop = CancellationToken::new();
        let workers = tokio::spawn(Workers::run(world.context.clone(), stop.clone()));
        let given_back = async {
            while world.cursor().await.lease_owner.is_some() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, given_back).await.expect("nobody gives the lease back");
        world.mine(1).await;
        // By everything else that the row tells, somebody is looking just now.
        let now = clock::database_now(&world.db).await.unwrap();
        chain_cursor::Entity::update_many()
            .col_expr(chain_cursor::Column::LeaseOwner, Expr::value(Some("killed")))
            .col_expr(chain_cursor::Column::LeaseUntil, Expr::value(now.minus(Duration::from_secs(1))))
            .col_expr(chain_cursor::Column::UpdatedAt, Expr::value(now.plus(Duration::from_secs(3_600))))
            .exec(&world.db)
            .await
            .unwrap();
        scanned_without_a_block(&world).await;
        stop.cancel();
        workers.await.unwrap();
    });
}

#[test]
fn a_process_that_cannot_read_a_chain_leaves_it_to_one_that_can() {
    block_on(async {
        let (world, _) = World::with_shop(Parts::production().await, "*").await;
        // It sweeps, since it is there first, and takes nudges like the other.
        let mut without = world.another("without").0;
        Arc::get_mut(&mut without).unwrap().chains.clear();
        let stop = CancellationToken::new();
        let mut running = vec![tokio::spawn(Workers::run(without, stop.clone()))];
        let sweeps = async {
            let of = |lease: &timer_lease::Model| (lease.name == "sweep").then(|| lease.owner.clone());
            let all = || async { timer_lease::Entity::find().all(&world.db).await.unwrap() };
            while all().await.iter().find_map(of).as_deref() != Some("without") {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, sweeps).await.expect("it does not sweep");
        running.push(tokio::spawn(Workers::run(world.context.clone(), stop.clone())));
        for _ in 0..2 {
            world.mine(1).await;
            scanned_without_a_block(&world).await;
        }
        stop.cancel();
        for process in running {
            process.await.unwrap();
        }
    });
}

on_both_databases!(leases_of_a_time_before_the_clock_was_set_back_hold_nobody_up, async |db: TestDatabase| {
    let (mut world, shop) = World::with_shop(db, "payment.confirmed").await;
    let order = world.order(&shop.merchant, Ask::default()).await;
    world.pay(&order).await;
    // Written by a process that died, an hour ahead of what is the time now.
    let ahead = clock::database_now(&world.db).await.unwrap().plus(Duration::from_secs(3_600));
    world.context = world.another("second").0;
    world.stamp_leases(ahead).await;
    assert!(world.cursor().await.last_look(clock::database_now(&world.db).await.unwrap()) < ahead);
    world.mine(REQUIRED + 1).await;
    world.drain().await;
    assert_eq!(world.status(&order).await, OrderStatus::Confirmed);
    assert_eq!(world.events(), ["payment.confirmed"]);
    world.audit().await;
});
