//! Events get their numbers after commit: a reader who asks for what comes after the last number misses none.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cryptopay_entity::event;
use cryptopay_test_support::{TestDatabase, on_both_databases};
use sea_orm::EntityTrait;

use crate::world::{Ask, World};

const MERCHANTS: usize = 6;
const ORDERS: usize = 12;

on_both_databases!(events_of_many_transactions_at_once_are_numbered_without_gaps, async |db: TestDatabase| {
    let world = World::new(db).await;
    let done = Arc::new(AtomicBool::new(false));

    let mut committing = Vec::new();
    for _ in 0..MERCHANTS {
        let (town, merchant) = ((*world).clone(), world.merchant().await);
        committing.push(tokio::spawn(async move {
            for _ in 0..ORDERS {
                town.order(&merchant, Ask::default()).await;
            }
        }));
    }
    let publishing: Vec<_> = (0..2)
        .map(|_| {
            let (town, done) = ((*world).clone(), done.clone());
            tokio::spawn(async move {
                loop {
                    let last_round = done.load(Ordering::SeqCst);
                    while event::Entity::publish(&town.db).await.unwrap().is_some() {}
                    if last_round {
                        return;
                    }
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    let tailing = {
        let town = (*world).clone();
        tokio::spawn(async move {
            let mut seen: Vec<event::Model> = Vec::new();
            while seen.len() < MERCHANTS * ORDERS {
                let last = seen.last().and_then(|event| event.sequence).unwrap_or(0);
                seen.extend(event::Entity::tail(&town.db, last, 5).await.unwrap());
                tokio::task::yield_now().await;
            }
            seen
        })
    };
    for task in committing {
        task.await.unwrap();
    }
    done.store(true, Ordering::SeqCst);
    for task in publishing {
        task.await.unwrap();
    }
    let seen =
        tokio::time::timeout(crate::world::PATIENCE, tailing).await.expect("the tailer missed an event").unwrap();
    let numbers: Vec<i64> = seen.iter().map(|event| event.sequence.unwrap()).collect();
    assert_eq!(numbers, (1..=i64::try_from(MERCHANTS * ORDERS).unwrap()).collect::<Vec<_>>());
    assert_eq!(event::Entity::find().all(&world.db).await.unwrap().len(), numbers.len());
    world.audit().await;
});
