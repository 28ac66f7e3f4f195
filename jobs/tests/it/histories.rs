//! Whatever happens in whatever order: what the chain holds in the end is what is confirmed and told.

use std::collections::BTreeMap;

use cryptopay_domain::address::Hash;
use cryptopay_domain::merchant::DeliveryState;
use cryptopay_domain::order::OrderStatus;
use cryptopay_entity::{payment_order, webhook_delivery};
use cryptopay_sandbox::KeepTransactions;
use cryptopay_test_support::{TestDatabase, on_both_databases};
use sea_orm::EntityTrait;

use crate::tampered::Call;
use crate::world::{Ask, REQUIRED, Shop, World};

const HISTORIES: u64 = 4;
const STEPS: usize = 30;

/// Numbers that are the same in every run.
struct Chance(u64);

impl Chance {
    /// Less than `limit`.
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn small(&mut self, limit: u32) -> u32 {
        u32::try_from(self.below(u64::from(limit))).unwrap() + 1
    }
}

on_both_databases!(any_history_ends_with_what_the_chain_holds, async |db: TestDatabase| {
    let (mut world, shop) = World::with_shop(db, "*").await;
    let mut orders: Vec<(payment_order::Model, Option<Hash>)> = Vec::new();
    for history in 0..HISTORIES {
        let mut chance = Chance(history);
        for _ in 0..STEPS {
            step(&mut world, &shop, &mut chance, &mut orders).await;
        }
        settle(&mut world).await;
        for (order, paid) in &orders {
            let row = world.row(order.id).await;
            let stands = match paid {
                Some(hash) => world.node().inclusion(*hash).await.unwrap().is_some(),
                None => false,
            };
            assert_eq!(row.status == OrderStatus::Confirmed, stands, "history {history}: {row:?}");
            assert_eq!(row.fulfillable, stands, "history {history}");
        }
        world.audit().await;
    }
    everything_was_told_once_and_the_last_word_is_true(&world, &orders).await;
});

async fn step(
    world: &mut World,
    shop: &Shop,
    chance: &mut Chance,
    orders: &mut Vec<(payment_order::Model, Option<Hash>)>,
) {
    match chance.below(10) {
        0 => orders.push((world.order(&shop.merchant, Ask::default()).await, None)),
        1 | 2 => {
            if let Some((order, paid)) = orders.iter_mut().find(|(_, paid)| paid.is_none()) {
                *paid = Some(world.pay(order).await.tx_hash);
            }
        }
        3 => world.mine(chance.small(3)).await,
        4 => {
            let keep = if chance.below(3) == 0 { KeepTransactions::No } else { KeepTransactions::Yes };
            world.reorganise(chance.small(5), keep).await;
        }
        5 => {
            let behind = world.height().await - chance.below(4);
            world.client.lag_behind(behind);
            world.drain().await;
            world.client.behave();
        }
        6 => {
            let call = [Call::Head, Call::Blocks, Call::Transfers, Call::Block, Call::Inclusion];
            let call = call[usize::try_from(chance.below(5)).unwrap()];
            let (town, depth) = ((**world).clone(), chance.small(4));
            world.client.after_next(call, async move { town.reorganise(depth, KeepTransactions::Yes).await });
            world.drain().await;
            world.client.behave();
        }
        7 => {
            let owner = format!("process {}", chance.below(1_000_000));
            world.restart(&owner).await;
        }
        8 => {
            world.let_doubts_age().await;
            world.drain().await;
        }
        _ => world.drain().await,
    }
}

/// Enough blocks and looks for everything to be known.
async fn settle(world: &mut World) {
    for _ in 0..3 {
        world.mine(REQUIRED).await;
        world.drain().await;
        world.let_doubts_age().await;
        world.drain().await;
    }
}

async fn everything_was_told_once_and_the_last_word_is_true(
    world: &World,
    orders: &[(payment_order::Model, Option<Hash>)],
) {
    let deliveries = webhook_delivery::Entity::find().all(&world.db).await.unwrap();
    assert!(deliveries.iter().all(|row| row.state == DeliveryState::Delivered));
    let journal = world.receiver.journal();
    let mut told = BTreeMap::new();
    let mut last: BTreeMap<String, (i64, bool)> = BTreeMap::new();
    for request in &journal {
        *told.entry(request.header("webhook-id").unwrap()).or_insert(0) += 1;
        let data = &request.json()["data"];
        if let (Some(order), Some(version)) = (data["order_id"].as_str(), data["order_version"].as_i64()) {
            let word = (version, data["fulfillable"].as_bool().unwrap());
            let newest = last.entry(order.to_owned()).or_insert(word);
            *newest = word.max(*newest);
        }
    }
    assert!(told.values().all(|times| *times == 1), "{told:?}");
    assert_eq!(told.len(), deliveries.len());
    for (order, _) in orders {
        let row = world.row(order.id).await;
        assert_eq!(last[row.order_id.as_str()], (row.version, row.fulfillable), "{row:?}");
    }
}
