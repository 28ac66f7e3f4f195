//! What happens at the same time. On PostgreSQL the second transaction truly waits for the first; on SQLite, which has one
//! writer, it begins after it.

use std::collections::BTreeSet;
use std::slice::from_ref;

use cryptopay_domain::units::Units;
use cryptopay_entity::txn::begin;
use cryptopay_entity::{event, idempotency_key};
use cryptopay_ledger::{self as ledger, LedgerError, Nudges, Refusal};
use cryptopay_test_support::{TestDatabase, on_both_databases};
use sea_orm::{ConnectionTrait, DatabaseTransaction, Statement};

use crate::world::{Ask, World, all_of, refusal};

/// Does `first` in a transaction, begins `second`, and commits the first one once the second waits for it.
async fn while_open<T>(
    world: &World,
    first: impl AsyncFnOnce(&DatabaseTransaction) -> Result<Nudges, LedgerError>,
    second: impl Future<Output = T>,
) -> T {
    let open = begin(world.db()).await.unwrap();
    let _ = first(&open).await.unwrap();
    let commit = async {
        if world.is_postgres() {
            wait_for_a_waiter(world).await;
        }
        open.commit().await.unwrap();
    };
    tokio::join!(second, commit).0
}

async fn wait_for_a_waiter(world: &World) {
    let waiting = "SELECT count(*) AS waiting FROM pg_stat_activity \
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
    for _ in 0..5_000 {
        let statement = Statement::from_string(world.db().get_database_backend(), waiting);
        let row = world.db().query_one_raw(statement).await.unwrap().unwrap();
        if row.try_get::<i64>("", "waiting").unwrap() > 0 {
            return;
        }
    }
    panic!("the second transaction does not wait for the first");
}

on_both_databases!(a_cancellation_that_comes_while_the_payment_is_recorded_is_refused, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let order = world.order(Ask::default()).await;
    let payment = world.pay_exactly(&order);
    world.mine(&[payment]);
    let fence = world.fence().await;
    let canceled = while_open(&world, async |txn| world.record(txn, &fence).await, world.cancel(order.id)).await;
    assert!(matches!(refusal(canceled), Refusal::NotCancelable { .. }));
    assert_eq!(world.said(order.id).await, "confirming 99999200");
    world.audit().await;
});

on_both_databases!(a_payment_recorded_while_the_order_is_canceled_waits_for_the_merchant, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let order = world.order(Ask::default()).await;
    let payment = world.pay_exactly(&order);
    world.mine(&[payment]);
    let fence = world.fence().await;
    let cancel = async |txn: &DatabaseTransaction| {
        ledger::cancel(txn, world.occasion("canceled"), world.merchant.id, order.id).await
    };
    let scan = world.transact(async |txn| world.record(txn, &fence).await);
    while_open(&world, cancel, scan).await.map(drop).unwrap();
    assert_eq!(world.said(order.id).await, "canceled late,review 0");
    world.audit().await;
});

on_both_databases!(payments_and_cancellations_side_by_side_always_agree, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    for _ in 0..12 {
        let order = world.order(Ask::default()).await;
        let payment = world.pay_exactly(&order);
        world.mine(&[payment]);
        let (_, canceled) = tokio::join!(world.scan(), world.cancel(order.id));
        let expected = match canceled {
            Ok(_) => "canceled late,review 0".to_owned(),
            Err(LedgerError::Refused(_)) => format!("confirming {}", order.pay_units),
            Err(error) => panic!("{error}"),
        };
        assert_eq!(world.said(order.id).await, expected);
        world.events(order.id).await;
    }
    world.audit().await;
});

on_both_databases!(an_operator_assigns_while_the_scan_matches, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let order = world.order(Ask::default()).await;
    let stray = world.transfer(Units::new(60_000_000));
    world.receive(from_ref(&stray)).await;
    let rest = world.pay_by_button(&order, Units::new(39_999_200));
    world.mine(&[rest]);
    let fence = world.fence().await;
    let assigned =
        while_open(&world, async |txn| world.record(txn, &fence).await, world.assign(order.id, all_of(&stray))).await;
    assigned.unwrap();
    assert_eq!(world.said(order.id).await, "confirming 99999200");

    let other = world.order(Ask { amount: "77", ..Ask::default() }).await;
    let stray = world.transfer(other.pay_units.saturating_sub(Units::new(70_000_000)));
    world.receive(from_ref(&stray)).await;
    let rest = world.pay_by_button(&other, Units::new(70_000_000));
    world.mine(&[rest]);
    let fence = world.fence().await;
    let assign = async |txn: &DatabaseTransaction| {
        ledger::assign(txn, world.occasion("assigned"), world.merchant.id, other.id, all_of(&stray)).await
    };
    let scan = world.transact(async |txn| world.record(txn, &fence).await);
    while_open(&world, assign, scan).await.map(drop).unwrap();
    world.deepen().await;
    assert_eq!(world.said(other.id).await, format!("confirmed {}", other.pay_units));
    world.audit().await;
});

on_both_databases!(an_operator_assigns_what_a_reorganisation_takes_away, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let order = world.order(Ask::default()).await;
    let stray = world.transfer(Units::new(60_000_000));
    for assigned_first in [false, true] {
        world.receive(from_ref(&stray)).await;
        let fence = world.fence().await;
        world.chain.fork(1);
        let ancestor = world.chain.tip();
        let rewind = async |txn: &DatabaseTransaction| {
            let occasion = world.occasion("reorganised");
            ledger::rewind(txn, occasion, &fence, world.settings(), &ancestor, world.now).await
        };
        let assign = async |txn: &DatabaseTransaction| {
            ledger::assign(txn, world.occasion("assigned"), world.merchant.id, order.id, all_of(&stray)).await
        };
        if assigned_first {
            while_open(&world, assign, world.transact(rewind)).await.map(drop).unwrap();
            assert_eq!(world.said(order.id).await, "underpaid 60000000", "missing, and counted before");
            let gone: Vec<_> = world.transfers(stray.tx_hash).await.iter().map(|row| row.id).collect();
            world.give_up(&gone).await;
            assert_eq!(world.said(order.id).await, "pending 0");
        } else {
            let assigned = while_open(&world, rewind, world.transact(assign)).await;
            assert_eq!(refusal(assigned), Refusal::TransferNotIncluded);
        }
        world.mine_empty(1);
        world.scan().await;
        world.audit().await;
    }
});

on_both_databases!(two_operators_assign_one_transfer_and_one_of_them_wins, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let first = world.order(Ask::default()).await;
    let second = world.order(Ask::default()).await;
    let stray = world.transfer(Units::new(60_000_000));
    world.receive(from_ref(&stray)).await;
    let outcomes = tokio::join!(world.assign(first.id, all_of(&stray)), world.assign(second.id, all_of(&stray)));
    let outcomes = [outcomes.0, outcomes.1];
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
    for outcome in outcomes.into_iter().filter(Result::is_err) {
        assert!(matches!(refusal(outcome), Refusal::NotEnoughLeft { .. }));
    }
    world.audit().await;
});

on_both_databases!(orders_of_one_price_created_side_by_side_get_amounts_of_their_own, async |db: TestDatabase| {
    let world = World::new(db).await;
    // The same seed: all of them reach for the same amounts.
    let create = |nonce: i64| {
        let world = &world;
        async move {
            world
                .transact(async |txn| Ok(world.create(txn, world.merchant, Ask::default(), nonce).await?.0))
                .await
                .unwrap()
        }
    };
    let (a, b, c, d) = tokio::join!(create(1), create(2), create(3), create(4));
    let orders = [a, b, c, d];
    assert_eq!(orders.iter().map(|order| order.pay_units).collect::<BTreeSet<_>>().len(), 4);
    for order in &orders {
        assert_eq!(world.row(order.id).await, *order, "the row says what the caller was told");
    }
    world.audit().await;
});

on_both_databases!(
    an_order_whose_amount_was_taken_in_the_same_moment_says_one_amount_everywhere,
    async |db: TestDatabase| {
        let world = World::new(db).await;
        let merchant = world.merchant;
        let second = world.transact(async |txn| {
            assert!(idempotency_key::Entity::begin(txn, merchant.id, "k-1", "of the request").await?);
            world.create_for(txn, merchant, Ask::default(), 2, Some("k-1")).await
        });
        let first = async |txn: &DatabaseTransaction| Ok(world.create(txn, merchant, Ask::default(), 1).await?.1);
        let (order, said, _) = while_open(&world, first, second).await.unwrap();
        assert_ne!(order.pay_units, Units::new(crate::world::PAY), "the first order has it");
        assert_eq!(world.row(order.id).await, order);
        assert_eq!(world.held(order.id).await, [order.pay_units]);
        let kept = idempotency_key::Entity::kept(world.db(), merchant.id, "k-1").await.unwrap().unwrap();
        assert_eq!((kept.status, kept.body.as_ref()), (Some(201), Some(&said)));
        // One event, with its deliveries: nothing is left of the amount that was tried first.
        let history = event::Entity::of_order(world.db(), merchant.id, order.id).await.unwrap();
        let [created] = history.as_slice() else { panic!("{history:?}") };
        let deliveries = world.deliveries(created).await;
        assert!(!deliveries.is_empty());
        for text in deliveries.iter().map(|delivery| &delivery.body).chain([&created.snapshot]) {
            assert!(text.contains(&format!("\"pay_amount\":\"{said}\"")), "{said}: {text}");
        }
        world.audit().await;
    }
);

on_both_databases!(one_nonce_used_side_by_side_makes_one_order, async |db: TestDatabase| {
    let world = World::new(db).await;
    let create = || {
        let world = &world;
        async move { world.transact(async |txn| Ok(world.create(txn, world.merchant, Ask::default(), 9).await?.0)).await }
    };
    let (a, b) = tokio::join!(create(), create());
    let outcomes = [a, b];
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
    for outcome in outcomes.into_iter().filter(Result::is_err) {
        assert!(matches!(refusal(outcome), Refusal::NonceUsed { .. }));
    }
    world.audit().await;
});

on_both_databases!(
    confirmation_and_deadline_and_scan_side_by_side_end_as_one_after_the_other,
    async |db: TestDatabase| {
        let mut world = World::new(db).await;
        for round in 0..6 {
            let paid = world.order(Ask::default()).await;
            let unpaid = world.order(Ask { amount: "3", ..Ask::default() }).await;
            let payment = world.pay_exactly(&paid);
            world.mine(&[payment]);
            world.mine_empty(2);
            world.scan().await;
            let again = world.pay_exactly(&paid);
            world.mine_at(paid.in_time_until.plus(crate::fake_chain::BLOCK_TIME), &[again]);
            tokio::join!(world.scan(), world.confirm(), world.pass_deadlines());
            world.settle().await;
            let expected = paid.pay_units.checked_add(paid.pay_units).unwrap();
            let said = world.said(paid.id).await;
            assert_eq!(said, format!("confirmed overpaid,late,extra_payment {expected}"), "round {round}");
            assert_eq!(world.said(unpaid.id).await, "expired 0");
            world.events(paid.id).await;
            world.audit().await;
        }
    }
);

on_both_databases!(events_numbered_side_by_side_have_no_gaps, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    for number in 0..5 {
        world.order(Ask { seed: number, ..Ask::default() }).await;
        let (_, first, second) = tokio::join!(
            world.transact(async |txn| world
                .create(txn, world.merchant, Ask::default(), 1_000 + i64::try_from(number).unwrap())
                .await),
            event::Entity::publish(world.db()),
            event::Entity::publish(world.db()),
        );
        assert!(first.is_ok() && second.is_ok(), "{first:?} {second:?}");
        world.check_rules().await;
    }
    world.audit().await;
    let numbered = event::Entity::tail(world.db(), 0, 100).await.unwrap();
    assert!(numbered.iter().map(|event| event.sequence.unwrap()).eq(1..=10));
});
