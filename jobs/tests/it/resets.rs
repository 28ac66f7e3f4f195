//! A development chain that is started again, and a chain that cannot start.

use cryptopay_domain::order::OrderStatus;
use cryptopay_domain::transfer::TransferState;
use cryptopay_entity::{chain_cursor, chain_start, clock, merchant_wallet, transact, transfer};
use cryptopay_ledger::Occasion;
use cryptopay_test_support::{Anvil, Fault, TestDatabase, on_both_databases};
use sea_orm::EntityTrait;

use crate::node::NodeWorld;
use crate::world::{Ask, SLUG};

const CHAIN_ID: u64 = 770_072;

on_both_databases!(a_reset_development_chain_is_named_and_takes_no_orders, async |db: TestDatabase| {
    let (world, merchant) = NodeWorld::new(db).await;
    let order = world.town.order(&merchant, Ask::default()).await;
    world.drain().await;
    world.pay(&order).await;
    world.mine(30).await;
    world.drain().await;
    assert_eq!(world.town.status(&order).await, OrderStatus::Confirmed);
    let before = world.cursor().await;

    let again = Anvil::start(CHAIN_ID).await;
    again.mine_at(u64::try_from(before.block_time.as_secs()).unwrap() + 100).await;
    world.proxy.pass_to(&again.url());
    world.drain().await;
    let cursor = world.cursor().await;
    assert_eq!((cursor.health.as_str(), cursor.height), ("reset", before.height));
    let problem = cursor.problem.unwrap();
    for word in ["the chain was reset", "cryptopay chain restart"] {
        assert!(problem.contains(word), "{word}: {problem}");
    }
    let place = merchant_wallet::Entity::paying_place(&world.town.db, merchant.id, SLUG).await.unwrap();
    assert_eq!((place.height, place.wallet_id.is_some()), (None, true), "no order is taken");

    // An endpoint that is away afterwards changes nothing: the restart of the chain is still to be done.
    world.proxy.inject([Fault::status(503)]);
    world.drain().await;
    world.proxy.heal();
    let cursor = world.cursor().await;
    assert_eq!((cursor.health.as_str(), cursor.problem), ("reset", Some(problem)));

    let (registry, chain) = (&world.town.registry, &world.town.chain);
    let restarted = transact!(&world.town.db, |txn| {
        let now = clock::business_now(txn).await?;
        cryptopay_ledger::restart_chain(txn, Occasion { registry, cause: "a test", now }, chain).await
    });
    assert!(restarted.unwrap().is_some());
    assert_eq!(world.town.status(&order).await, OrderStatus::Reorged);
    let rows = transfer::Entity::find().all(&world.town.db).await.unwrap();
    assert!(rows.iter().all(|row| row.state == TransferState::Orphaned));
    world.drain().await;
    let cursor = world.cursor().await;
    assert_eq!((cursor.health.as_str(), cursor.height), ("ok", 1));

    // A chain that was not reset is left alone.
    let refused = transact!(&world.town.db, |txn| {
        let now = clock::business_now(txn).await?;
        cryptopay_ledger::restart_chain(txn, Occasion { registry, cause: "a test", now }, chain).await
    });
    assert!(refused.unwrap().is_none());
});

on_both_databases!(a_chain_that_cannot_start_has_its_reason_noted, async |db: TestDatabase| {
    let (mut world, _) = NodeWorld::new(db).await;
    chain_cursor::Entity::delete(&world.town.db, SLUG).await.unwrap();
    for (fault, words) in [
        (Fault::status(402), "quota is used up"),
        (Fault::answer(403, "monthly quota exceeded"), "quota is used up"),
        (Fault::status(401), "check its URL and key"),
    ] {
        world.restart().await;
        world.proxy.inject([fault]);
        world.drain().await;
        let problem = chain_start::Entity::problem_of(&world.town.db, SLUG).await.unwrap().unwrap();
        assert!(problem.contains(words) && !problem.contains("None"), "{words}: {problem}");
    }
    world.proxy.heal();
    world.restart().await;
    world.drain().await;
    assert_eq!(chain_start::Entity::problem_of(&world.town.db, SLUG).await.unwrap(), None);
    assert_eq!(world.cursor().await.health, "ok");
});
