//! Endpoints that lag, fail or mix things up: the cursor never passes a block that was not verified.

use std::time::Instant;

use cryptopay_chain::ChainError;
use cryptopay_domain::address::Hash;
use cryptopay_domain::order::OrderStatus;
use cryptopay_test_support::{TestDatabase, on_both_databases};

use crate::tampered::Call;
use crate::world::{Ask, SLUG, World};

on_both_databases!(an_older_head_moves_the_cursor_neither_on_nor_back, async |db: TestDatabase| {
    let (world, shop) = World::with_shop(db, "*").await;
    world.mine(4).await;
    world.drain().await;
    let before = world.cursor().await;
    let order = world.order(&shop.merchant, Ask::default()).await;
    world.pay(&order).await;
    world.mine(1).await;

    for behind in [before.height - 3, before.height - 1, before.height] {
        world.client.lag_behind(u64::try_from(behind).unwrap());
        world.drain().await;
        let cursor = world.cursor().await;
        assert_eq!((cursor.height, cursor.hash), (before.height, before.hash), "a head at {behind}");
        assert_eq!(world.transfers().await.len(), 0);
    }
    world.client.behave();
    world.drain().await;
    assert_eq!(world.status(&order).await, OrderStatus::Confirming);
    world.audit().await;
});

on_both_databases!(a_head_far_older_than_the_window_is_a_lag_and_not_a_reorganisation, async |db: TestDatabase| {
    let (world, _) = World::with_shop(db, "*").await;
    world.mine(60).await;
    world.drain().await;
    let before = world.cursor().await;
    world.client.lag_behind(2);
    world.drain().await;
    let cursor = world.cursor().await;
    assert_eq!((cursor.height, cursor.hash, cursor.health.as_str()), (before.height, before.hash, "ok"));
});

/// On a runtime of one thread, whose clock can be moved.
#[tokio::test]
async fn a_lag_that_lasts_is_named_until_it_is_over() {
    let (world, _) = World::with_shop(TestDatabase::sqlite().await, "*").await;
    let height = world.height().await;
    world.client.lag_behind(height - 2);
    world.drain().await;
    assert_eq!(world.cursor().await.health, "ok", "endpoints behind one address are not always alike");
    tokio::time::pause();
    tokio::time::advance(world.chain.block_time * 4).await;
    tokio::time::resume();
    world.drain().await;
    let cursor = world.cursor().await;
    assert_eq!(cursor.health, "lagging");
    assert!(cursor.problem.unwrap().contains("check that they are in sync"));
    world.client.behave();
    world.drain().await;
    let cursor = world.cursor().await;
    assert_eq!((cursor.health.as_str(), cursor.problem), ("ok", None));
}

/// Every way in which a single answer fails.
const FAILURES: [fn() -> ChainError; 6] = [
    || ChainError::Unreachable("connection reset".into()),
    || ChainError::RateLimited { retry_after: None },
    || ChainError::Malformed { method: "a request", reason: "half an answer".into() },
    || ChainError::Untrue { method: "a request", what: "a log of another block".into() },
    || ChainError::NotOnChain { number: 1, expected: Hash(Default::default()), found: None },
    || ChainError::RangeTooLarge { limit: Some(1) },
];

on_both_databases!(whatever_fails_the_cursor_waits_and_the_payment_is_found_afterwards, async |db: TestDatabase| {
    let (world, shop) = World::with_shop(db, "*").await;
    for call in [Call::Head, Call::Blocks, Call::Transfers] {
        for failure in FAILURES {
            let told = format!("{call:?} fails with \"{}\"", failure());
            let order = world.order(&shop.merchant, Ask::default()).await;
            world.pay(&order).await;
            world.mine(2).await;
            let before = world.cursor().await;
            world.client.fail(call, failure);
            world.drain().await;
            let cursor = world.cursor().await;
            assert_eq!((cursor.height, cursor.hash), (before.height, before.hash), "{told}");
            assert_eq!(cursor.health, "unreachable", "{told}");
            assert!(cursor.problem.is_some(), "{told}");
            assert_eq!(world.status(&order).await, OrderStatus::Pending, "{told}");

            world.client.behave();
            world.drain().await;
            assert_eq!(world.cursor_height().await, world.height().await, "{told}");
            assert_eq!(world.status(&order).await, OrderStatus::Confirming, "{told}");
            let cursor = world.cursor().await;
            assert_eq!((cursor.health.as_str(), cursor.problem), ("ok", None), "{told}");
        }
    }
    world.audit().await;
});

on_both_databases!(what_cannot_be_asked_again_is_not_confirmed, async |db: TestDatabase| {
    let (world, shop) = World::with_shop(db, "payment.confirmed").await;
    for failure in FAILURES {
        let order = world.order(&shop.merchant, Ask::default()).await;
        world.pay(&order).await;
        world.mine(5).await;
        world.client.fail(Call::Block, failure);
        world.drain().await;
        assert_eq!(world.status(&order).await, OrderStatus::Confirming, "{}", failure());
        world.client.behave();
        world.drain().await;
        assert_eq!(world.status(&order).await, OrderStatus::Confirmed, "{}", failure());
    }
    assert_eq!(world.events(), ["payment.confirmed"; FAILURES.len()]);
    world.audit().await;
});

on_both_databases!(a_range_that_is_too_large_is_halved_until_it_fits, async |db: TestDatabase| {
    let (world, shop) = World::with_shop(db, "*").await;
    let order = world.order(&shop.merchant, Ask::default()).await;
    world.pay(&order).await;
    world.mine(150).await;
    world.client.fail(Call::Transfers, || ChainError::RangeTooLarge { limit: None });
    world.client.take_journal();
    world.drain().await;
    let tries: Vec<u64> =
        world.client.take_journal().ranges.iter().map(|range| range.end() - range.start() + 1).collect();
    assert_eq!((tries[0], tries.last()), (150, Some(&1)), "{tries:?}");
    assert!(tries.windows(2).all(|pair| pair[1] < pair[0]) && tries.len() <= 9, "halved, then given up: {tries:?}");
    let health = world.context.chains[SLUG].endpoints.health(Instant::now());
    assert!(health[0].problem.as_ref().unwrap().contains("too large"), "it rests like after any failure: {health:?}");

    world.client.behave();
    world.drain().await;
    assert_eq!(world.cursor_height().await, world.height().await);
    assert_eq!(world.transfers().await.len(), 1);
    world.audit().await;
});

on_both_databases!(a_chain_that_stands_still_says_so_and_recovers, async |db: TestDatabase| {
    let (world, _) = World::with_shop(db, "*").await;
    let height = world.height().await;
    world.client.lag_behind(height);
    for _ in 0..2 {
        world.advance(201 * 24 * 3600).await;
    }
    for _ in 0..2 {
        world.drain().await;
        let cursor = world.cursor().await;
        assert_eq!(cursor.health, "stalled");
        assert!(cursor.problem.unwrap().contains(&format!("block {height} is the newest")));
    }
    world.client.behave();
    world.mine(1).await;
    world.drain().await;
    let cursor = world.cursor().await;
    assert_eq!((cursor.health.as_str(), cursor.problem), ("ok", None));
});

on_both_databases!(a_chain_with_much_to_read_says_so_until_it_is_read, async |db: TestDatabase| {
    let (world, _) = World::with_shop(db, "*").await;
    world.mine(1_500).await;
    // Some ranges are read at once; those after them cannot be.
    let (client, town) = (world.client.clone(), (*world).clone());
    world.client.after_next(Call::Transfers, async move {
        let _ = town.height().await;
        client.fail(Call::Blocks, || ChainError::RateLimited { retry_after: None });
    });
    world.drain().await;
    assert_eq!(world.cursor().await.health, "unreachable");
    assert!(world.cursor_height().await < world.height().await);
    world.client.behave();
    world.drain().await;
    assert_eq!(world.cursor_height().await, world.height().await);
    assert_eq!(world.cursor().await.health, "ok");
    world.audit().await;
});
