//! The checker finds what is wrong, in each of its rules, and stays silent about work that only waits.

use cryptopay_domain::event::EventType;
use cryptopay_domain::order::OrderStatus;
use cryptopay_domain::units::Units;
use cryptopay_entity::{allocation, event, event_counter, payment_order, transfer};
use cryptopay_ledger::audit::{self, Rule};
use cryptopay_test_support::{TestDatabase, on_both_databases};
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};

use crate::world::{Ask, World};

/// An order that was paid and confirmed, in a world without discrepancies.
async fn confirmed(db: TestDatabase) -> (World, payment_order::Model) {
    let mut world = World::new(db).await;
    let order = world.order(Ask::default()).await;
    let payment = world.pay_exactly(&order);
    world.receive(&[payment]).await;
    world.deepen().await;
    world.audit().await;
    (world, order)
}

async fn broken_rules(world: &World) -> Vec<Rule> {
    let mut rules: Vec<Rule> = audit::check(world.db()).await.unwrap().into_iter().map(|found| found.rule).collect();
    rules.sort();
    rules.dedup();
    rules
}

async fn spoil_order(world: &World, column: payment_order::Column, value: Expr) {
    payment_order::Entity::update_many().col_expr(column, value).exec(world.db()).await.unwrap();
}

on_both_databases!(more_allocated_than_came_is_found, async |db: TestDatabase| {
    let (world, _) = confirmed(db).await;
    let more =
        allocation::Entity::update_many().col_expr(allocation::Column::Units, Expr::value(Units::new(100_000_001)));
    more.exec(world.db()).await.unwrap();
    let found = audit::check(world.db()).await.unwrap();
    assert!(found[0].to_string().contains("100000001 units are allocated of 99999200"), "{}", found[0]);
    assert_eq!(broken_rules(&world).await, [Rule::Shares, Rule::Derivation]);
});

on_both_databases!(a_status_that_does_not_follow_from_the_facts_is_found, async |db: TestDatabase| {
    let (world, order) = confirmed(db).await;
    let gone = transfer::Entity::update_many()
        .col_expr(transfer::Column::State, Expr::value(cryptopay_domain::transfer::TransferState::Orphaned));
    gone.exec(world.db()).await.unwrap();
    let found = audit::check(world.db()).await.unwrap();
    assert_eq!(found.len(), 1);
    assert!(found[0].to_string().starts_with(&format!("order {}: its row says confirmed", order.id)), "{}", found[0]);
});

on_both_databases!(a_row_that_its_last_event_does_not_tell_is_found, async |db: TestDatabase| {
    let (world, _) = confirmed(db).await;
    spoil_order(&world, payment_order::Column::OrderInfo, Expr::value("{}")).await;
    assert_eq!(broken_rules(&world).await, [Rule::History]);
});

on_both_databases!(a_version_without_an_event_is_found, async |db: TestDatabase| {
    let (world, _) = confirmed(db).await;
    spoil_order(&world, payment_order::Column::Version, Expr::value(5)).await;
    assert_eq!(broken_rules(&world).await, [Rule::History]);
});

on_both_databases!(a_second_confirmation_in_one_generation_is_found, async |db: TestDatabase| {
    let (world, _) = confirmed(db).await;
    let twice = event::Entity::update_many()
        .col_expr(event::Column::EventType, Expr::value(EventType::PaymentConfirmed))
        .filter(event::Column::EventType.eq(EventType::PaymentPending));
    twice.exec(world.db()).await.unwrap();
    assert_eq!(broken_rules(&world).await, [Rule::Generations]);
});

on_both_databases!(an_exact_amount_that_was_never_held_is_found, async |db: TestDatabase| {
    let (world, _) = confirmed(db).await;
    let elsewhere = cryptopay_entity::amount_reservation::Entity::update_many()
        .col_expr(cryptopay_entity::amount_reservation::Column::Units, Expr::value(Units::new(1)));
    elsewhere.exec(world.db()).await.unwrap();
    assert_eq!(broken_rules(&world).await, [Rule::Reservations]);
});

on_both_databases!(a_gap_in_the_sequence_is_found, async |db: TestDatabase| {
    let (world, _) = confirmed(db).await;
    let gap = event::Entity::update_many()
        .col_expr(event::Column::Sequence, Expr::value(Some(9)))
        .filter(event::Column::Sequence.eq(2));
    gap.exec(world.db()).await.unwrap();
    assert_eq!(broken_rules(&world).await, [Rule::History]);
    event_counter::Entity::set_last(world.db(), 9).await.unwrap();
    assert_eq!(broken_rules(&world).await, [Rule::History], "still 3 events for 9 numbers");
});

on_both_databases!(a_confirmation_without_its_time_is_found, async |db: TestDatabase| {
    let (world, _) = confirmed(db).await;
    let none: Option<cryptopay_domain::time::Timestamp> = None;
    spoil_order(&world, payment_order::Column::ConfirmedAt, Expr::value(none)).await;
    assert_eq!(broken_rules(&world).await, [Rule::Derivation, Rule::History]);
});

on_both_databases!(work_that_waits_is_no_discrepancy, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let order = world.order(Ask::default()).await;
    let payment = world.pay_exactly(&order);
    world.mine(&[payment]);
    world.scan().await;
    let unpaid = world.order(Ask { amount: "1", ..Ask::default() }).await;
    world.mine_at(unpaid.in_time_until.plus(std::time::Duration::from_secs(9)), &[]);
    world.mine_empty(3);
    world.scan().await;
    // Deep enough and past its deadline, but no timer has looked yet.
    assert_eq!(world.row(unpaid.id).await.status, OrderStatus::Pending);
    world.audit().await;
    // The block is vouched for, and the order not derived again.
    let cursor = world.cursor().await;
    let block = &world.transfers_all().await[0];
    let vouched = cryptopay_entity::chain_block::Entity::vouch(
        world.db(),
        &cursor.chain,
        block.block_number,
        block.block_hash,
        "another",
    );
    assert!(vouched.await.unwrap());
    world.audit().await;
    world.settle().await;
    assert_eq!(world.row(order.id).await.status, OrderStatus::Confirmed);
    world.audit().await;
});

on_both_databases!(every_page_is_checked, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let mut last = None;
    for number in 0..101 {
        last = Some(world.order(Ask { seed: number * 31, ..Ask::default() }).await);
    }
    world.audit().await;
    let last = last.unwrap();
    let spoilt = payment_order::Entity::update_many()
        .col_expr(payment_order::Column::OrderInfo, Expr::value("[]"))
        .filter(payment_order::Column::Id.eq(last.id));
    spoilt.exec(world.db()).await.unwrap();
    let found = audit::check(world.db()).await.unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].subject, audit::Subject::Order(last.id));
});
