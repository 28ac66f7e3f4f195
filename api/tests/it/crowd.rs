//! A thousand receivers that hang: nobody else's trouble.

use std::time::Duration;

use cryptopay_entity::webhook_endpoint;
use cryptopay_test_support::{Answer, TestDatabase, WebhookReceiver, on_both_databases};
use sea_orm::ActiveValue::NotSet;
use sea_orm::{ActiveModelTrait, ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter};
use serde_json::json;
use tokio::time::Instant;

use crate::harness::{Installation, LIMIT, Shop};

/// Receivers that hang, more than the connections to the database and the places for requests together.
const HUNG: usize = 1_000;
/// Requests that certainly hang before anything is measured.
const STUCK: usize = 200;
/// Orders that another shop makes meanwhile.
const ORDERS: usize = 40;
/// What no request takes even on a loaded machine; without a connection it would be told to come again after 3 s.
const SANE: Duration = Duration::from_secs(3);

on_both_databases!(a_thousand_hung_receivers_leave_requests_and_scans_their_connections, async |db: TestDatabase| {
    let process = Installation::on(&db).start().await;
    let hung = WebhookReceiver::start().await;
    hung.answer_always(Answer::never());
    let [crowded, other] = [Shop::open(&process.client()).await, Shop::open(&process.client()).await];
    crowded.listen(&hung).await;
    let first = webhook_endpoint::Entity::find()
        .filter(webhook_endpoint::Column::Url.eq(hung.url("/hook")))
        .one(db.connection())
        .await
        .unwrap()
        .unwrap();
    let rows = (1..HUNG).map(|number| {
        let row = webhook_endpoint::Model { url: Some(hung.url(&format!("/{number}"))), ..first.clone() };
        webhook_endpoint::ActiveModel { id: NotSet, ..row.into_active_model().reset_all() }
    });
    webhook_endpoint::Entity::insert_many(rows).exec_without_returning(db.connection()).await.unwrap();
    // Several due at each: a queue has eight on their way.
    for _ in 0..3 {
        crowded.order(json!({})).await;
    }
    hung.wait_for(STUCK, LIMIT).await;

    let mut took = Vec::new();
    let mut last = None;
    for _ in 0..ORDERS {
        let started = Instant::now();
        let order = other.order(json!({})).await;
        other.look(&order).await;
        took.push(started.elapsed());
        last = Some(order);
    }
    // What is paid meanwhile is seen and confirmed.
    let order = last.unwrap();
    let started = Instant::now();
    other.pay(&order, json!({})).await;
    other.mine(13).await;
    other.until(&order, "confirmed").await;
    let confirmed = started.elapsed();
    took.sort_unstable();
    eprintln!(
        "an order made and read while {} requests hang: median {:?}, worst {:?}; paid until confirmed: {confirmed:?}",
        hung.journal().len(),
        took[ORDERS / 2],
        took[ORDERS - 1]
    );
    assert!(took[ORDERS / 2] < SANE / 3 && took[ORDERS - 1] < SANE, "{took:?}");
    // Cuts what hangs, so that the process need not wait for it.
    hung.stop().await;
});
