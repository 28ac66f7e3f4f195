//! What a quiet chain costs: the same with tens of thousands of open orders as with one.

#![expect(clippy::print_stdout, reason = "a measurement is for whoever runs the test")]

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use cryptopay_domain::amount::DecimalAmount;
use cryptopay_domain::ids::OrderRef;
use cryptopay_domain::order::OrderStatus;
use cryptopay_domain::reference::Reference;
use cryptopay_domain::units::Units;
use cryptopay_entity::{amount_reservation, payment_order, transact};
use cryptopay_test_support::{Payment, TestDatabase, U256, long_tests_wanted, on_both_databases};
use sea_orm::ActiveValue::NotSet;
use sea_orm::{ActiveModelTrait, ColumnTrait, DbErr, EntityTrait, IntoActiveModel, QueryFilter};

use crate::node::{NodeWorld, watched_address};
use crate::world::{Ask, Merchant};

/// What the gateway is measured with: orders that wait for money, and addresses that they are paid at. Writing the orders of a
/// long test takes half a minute.
const ORDERS: u64 = 10_000;
const ORDERS_IF_LONG: u64 = 50_000;
const ADDRESSES: u64 = 1_000;
/// Rows of one insert, within what SQLite takes parameters for.
const ROWS: u64 = 500;
/// Blocks of one measurement.
const BLOCKS: u64 = 10;
/// What renewing a lease, which depends on the time, may add to a block's statements.
const LEASES: u64 = 10;
/// Even on a machine that does much else.
const SANE: Duration = Duration::from_secs(5);

/// What some blocks have cost, and the slowest look at one.
#[derive(Debug)]
struct Cost {
    requests: u64,
    calls: u64,
    statements: u64,
    slowest: Duration,
}

impl NodeWorld {
    /// Looks at new blocks, in which others pay each other.
    async fn quiet_blocks(&self) -> Cost {
        let _ = self.proxy.take_counts();
        let before = self.statements.load(Ordering::Relaxed);
        let mut slowest = Duration::ZERO;
        for _ in 0..BLOCKS {
            self.node.send(&Payment::tokens(self.usdc, self.node.account(3), U256::from(1))).await;
            self.mine(1).await;
            let started = Instant::now();
            self.drain().await;
            slowest = slowest.max(started.elapsed());
        }
        let counts = self.proxy.take_counts();
        let statements = self.statements.load(Ordering::Relaxed) - before;
        Cost { requests: counts.requests, calls: counts.calls.values().sum(), statements, slowest }
    }

    /// Orders like this one, at addresses like its.
    async fn fill(&self, merchant: &Merchant, like: &payment_order::Model, orders: u64) {
        let db = &self.town.db;
        self.watch(merchant, ADDRESSES).await;
        let reserved = amount_reservation::Entity::find()
            .filter(amount_reservation::Column::OrderId.eq(like.id))
            .one(db)
            .await
            .unwrap()
            .unwrap();
        transact!(db, |txn| {
            for first in (1..orders).step_by(500) {
                let numbers = first..orders.min(first + ROWS);
                let rows = numbers.clone().map(|number| {
                    let row = payment_order::Model {
                        order_id: OrderRef::from_entropy(number.reverse_bits().to_be_bytes()),
                        nonce: 1_000_000 + i64::try_from(number).unwrap(),
                        reference: Reference(u128::from(number).to_be_bytes()),
                        pay_units: units(number),
                        receiving_address: watched_address(1 + number % (ADDRESSES - 1)),
                        ..like.clone()
                    };
                    payment_order::ActiveModel { id: NotSet, ..row.into_active_model().reset_all() }
                });
                payment_order::Entity::insert_many(rows).exec_without_returning(txn).await?;
                let made = payment_order::Entity::find()
                    .filter(payment_order::Column::Nonce.between(
                        1_000_000 + i64::try_from(numbers.start).unwrap(),
                        1_000_000 + i64::try_from(numbers.end).unwrap(),
                    ))
                    .all(txn)
                    .await?;
                let rows = made.into_iter().map(|order| {
                    let row = amount_reservation::Model {
                        order_id: order.id,
                        address: order.receiving_address,
                        units: order.pay_units,
                        plain_units: order.pay_units.saturating_add(Units::new(1)),
                        amount: DecimalAmount::new(order.pay_units, 6),
                        plain_amount: DecimalAmount::new(order.pay_units.saturating_add(Units::new(1)), 6),
                        ..reserved.clone()
                    };
                    amount_reservation::ActiveModel { id: NotSet, ..row.into_active_model().reset_all() }
                });
                amount_reservation::Entity::insert_many(rows).exec_without_returning(txn).await?;
            }
            Ok::<_, DbErr>(())
        })
        .unwrap();
    }
}

fn units(number: u64) -> Units {
    Units::new(1_000_000 + u128::from(number) * 100)
}

on_both_databases!(many_open_orders_cost_a_quiet_chain_no_more_than_one, async |db: TestDatabase| {
    let orders = if long_tests_wanted() { ORDERS_IF_LONG } else { ORDERS };
    let (world, merchant) = NodeWorld::new(db).await;
    let order = world.town.order(&merchant, Ask::default()).await;
    let one = world.quiet_blocks().await;
    let filling = Instant::now();
    world.fill(&merchant, &order, orders).await;
    println!("{orders} orders at {ADDRESSES} addresses were written in {:?}", filling.elapsed());
    let many = world.quiet_blocks().await;
    println!("{BLOCKS} blocks with one order: {one:?}\n{BLOCKS} blocks with {orders}: {many:?}");
    // One batch that finds the block, and one that looks into it.
    assert!(one.requests <= 2 * BLOCKS, "{one:?}");
    assert!(many.requests <= one.requests && many.calls <= one.calls, "{one:?} {many:?}");
    assert!(many.statements <= one.statements + LEASES * BLOCKS, "{one:?} {many:?}");
    assert!(many.slowest < SANE, "{many:?}");

    // They are orders: one of them is paid.
    let paid = payment_order::Entity::find()
        .filter(payment_order::Column::Reference.eq(Reference(u128::from(orders / 2).to_be_bytes())))
        .one(&world.town.db)
        .await
        .unwrap()
        .unwrap();
    world.pay(&paid).await;
    world.mine(3).await;
    world.drain().await;
    assert_eq!(world.town.status(&paid).await, OrderStatus::Confirmed);
});
