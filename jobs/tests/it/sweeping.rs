//! Many queues of deliveries that are due at once, with nobody told of any.

#![expect(clippy::print_stdout, reason = "a measurement is for whoever runs the test")]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use cryptopay_entity::{webhook_breaker, webhook_endpoint};
use cryptopay_jobs::Workers;
use cryptopay_test_support::{Parts, long_tests_wanted, on_both_sets_of_parts};
use sea_orm::ActiveValue::NotSet;
use sea_orm::{ActiveModelTrait, ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter};
use tokio_util::sync::CancellationToken;

use crate::world::{Ask, Merchant, World};

/// One insert holds as many rows as SQLite takes parameters for.
const ENDPOINTS_AT_ONCE: usize = 1_000;
/// Each of many requests is one of a debug build.
const PATIENCE: Duration = Duration::from_secs(600);

impl World {
    /// A merchant with many endpoints, which all want to hear of a new order.
    async fn with_endpoints(&self, endpoints: usize) -> Merchant {
        let merchant = self.merchant().await;
        let first = self.endpoint(&merchant, &self.receiver.url("/0"), "order.created").await;
        for made in (1..endpoints).step_by(ENDPOINTS_AT_ONCE) {
            let rows = (made..endpoints.min(made + ENDPOINTS_AT_ONCE)).map(|number| {
                let url = Some(self.receiver.url(&format!("/{number}")));
                let row = webhook_endpoint::Model { url, ..first.clone() };
                webhook_endpoint::ActiveModel { id: NotSet, ..row.into_active_model().reset_all() }
            });
            webhook_endpoint::Entity::insert_many(rows).exec_without_returning(&self.db).await.unwrap();
        }
        merchant
    }
}

on_both_sets_of_parts!(queues_that_stay_due_keep_no_other_from_its_turn, async |parts: Parts| {
    let world = World::new(parts).await;
    // More than a sweep takes, and before the other in every order.
    let dead = world.with_endpoints(1_100).await;
    world.order(&dead, Ask::default()).await;
    let endpoints = webhook_endpoint::Entity::find().filter(webhook_endpoint::Column::MerchantId.eq(dead.id));
    let later = world.now().await.plus(Duration::from_secs(3600));
    let breakers = endpoints.all(&world.db).await.unwrap().into_iter().map(|endpoint| {
        webhook_breaker::Model {
            endpoint_id: endpoint.id,
            origin: String::new(),
            failures: 10,
            failing_since: None,
            open_until: Some(later),
            gone_count: 0,
            gone_since: None,
        }
        .into_active_model()
        .reset_all()
    });
    webhook_breaker::Entity::insert_many(breakers).exec_without_returning(&world.db).await.unwrap();
    let alive = world.with_endpoints(1).await;
    world.order(&alive, Ask::default()).await;

    let stop = CancellationToken::new();
    let workers = tokio::spawn(Workers::run(world.context.clone(), stop.clone()));
    let journal = world.receiver.wait_for(1, PATIENCE).await;
    assert_eq!(journal[0].path, "/0");
    stop.cancel();
    workers.await.unwrap();
    assert_eq!(world.receiver.journal().len(), 1);
});

on_both_sets_of_parts!(thousands_of_queues_due_at_once_are_worked_off_by_two_processes, async |parts: Parts| {
    let merchants = if long_tests_wanted() { 10 } else { 1 };
    let each = if long_tests_wanted() { 1_000 } else { 300 };
    let world = World::new(parts).await;
    for _ in 0..merchants {
        let merchant = world.with_endpoints(each).await;
        world.order(&merchant, Ask::default()).await;
    }
    let (second, _) = world.another("second");
    let started = Instant::now();
    let stop = CancellationToken::new();
    let running = [world.context.clone(), second].map(|context| tokio::spawn(Workers::run(context, stop.clone())));
    let journal = world.receiver.wait_for(merchants * each, PATIENCE).await;
    println!("{} endpoints due at once: worked off in {:?}", merchants * each, started.elapsed());
    stop.cancel();
    for process in running {
        process.await.unwrap();
    }
    let ids: BTreeSet<_> = journal.iter().map(|request| request.header("webhook-id")).collect();
    assert_eq!(ids.len(), merchants * each, "none was told twice");
});
