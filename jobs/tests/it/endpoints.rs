//! Several endpoints of one chain: one takes over from another, and two are needed where two are healthy.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cryptopay_chain::{ChainError, EvmClient, Limits};
use cryptopay_domain::order::OrderStatus;
use cryptopay_domain::transfer::TransferState;
use cryptopay_jobs::Workers;
use cryptopay_sandbox::SimulatedChain;
use cryptopay_test_support::{TestDatabase, on_both_databases};

use crate::tampered::Call;
use crate::world::{Ask, REORG_DEPTH, REQUIRED, SLUG, World};

/// What an endpoint can do wrong in one answer.
const FAILURES: [fn() -> ChainError; 5] = [
    || ChainError::Unreachable("connection reset".into()),
    || ChainError::RateLimited { retry_after: Some(Duration::from_secs(3_600)) },
    || ChainError::Unavailable { status: 503, retry_after: None },
    || ChainError::Malformed { method: "a request", reason: "half an answer".into() },
    || ChainError::Untrue { method: "a request", what: "a log of another block".into() },
];

on_both_databases!(the_next_endpoint_takes_over_in_the_same_look, async |db: TestDatabase| {
    let (mut world, shop) = World::with_shop(db, "*").await;
    for call in [Call::ChainId, Call::Head, Call::Blocks, Call::Transfers] {
        for failure in FAILURES {
            let told = format!("{call:?} fails with \"{}\"", failure());
            let clients = world.use_several(2).await;
            let order = world.order(&shop.merchant, Ask::default()).await;
            world.pay(&order).await;
            world.mine(2).await;
            clients[0].fail(call, failure);
            world.drain().await;
            assert_eq!(world.cursor_height().await, world.height().await, "{told}");
            assert_eq!(world.status(&order).await, OrderStatus::Confirming, "{told}");
            assert_eq!(world.cursor().await.health, "ok", "{told}");

            // It is left alone for a while, and nobody misses it.
            clients[0].take_journal();
            world.mine(REQUIRED).await;
            world.drain().await;
            assert_eq!(clients[0].take_journal().count(Call::Transfers), 0, "{told}");
            world.be_patient().await;
            assert_eq!(world.status(&order).await, OrderStatus::Confirmed, "{told}");
        }
    }
    world.audit().await;
});

on_both_databases!(
    a_sole_endpoint_that_asks_for_fewer_requests_is_not_asked_at_every_nudge,
    async |db: TestDatabase| {
        let (world, shop) = World::with_shop(db, "*").await;
        let access = &world.context.chains[SLUG];
        let order = world.order(&shop.merchant, Ask::default()).await;
        world.pay(&order).await;
        world.mine(1).await;
        for failure in [|| ChainError::RateLimited { retry_after: None }, || ChainError::Unreachable("reset".into())] {
            world.client.fail(Call::Head, failure);
            world.client.take_journal();
            // A nudge counts while the rest lasts: on a slow machine that is over sooner.
            let mut nudges = 0;
            for nudge in 0..20 {
                let (nudged, rest) = (Instant::now(), access.endpoints.wait(Instant::now()));
                Workers::drain(&world.context).await;
                let is_asked = world.client.take_journal().count(Call::Head) > 0;
                if nudge > 0 && nudged.elapsed() >= rest {
                    break;
                }
                assert_eq!(is_asked, nudge == 0, "nudge {nudge}: {}", failure());
                nudges += 1;
            }
            assert!(nudges > 0);
            assert_eq!(world.cursor().await.health, "unreachable");
            // It is asked again, less and less often, and as soon as the issue of a node that is back demands.
            let rests = async || {
                let rest = access.endpoints.wait(Instant::now());
                access.endpoints.pass(rest);
                Workers::drain(&world.context).await;
                rest
            };
            let mut waited = Vec::new();
            for _ in 0..8 {
                waited.push(rests().await);
            }
            assert_eq!(world.client.take_journal().count(Call::Head), waited.len());
            let longest = waited.iter().max().unwrap();
            assert!(waited[0] < *longest && *longest < Duration::from_secs(4), "{waited:?}");
            world.client.behave();
            rests().await;
            assert_eq!(world.cursor().await.health, "ok");
        }
        assert_eq!(world.status(&order).await, OrderStatus::Confirming);
        world.audit().await;
    }
);

on_both_databases!(an_endpoint_of_another_chain_is_named_while_the_others_serve, async |db: TestDatabase| {
    let (mut world, shop) = World::with_shop(db, "*").await;
    let mut other = world.registry.chain("polygon").unwrap().clone();
    other.block_time = world.chain.block_time;
    let other = Arc::new(other);
    cryptopay_sandbox::mine(&world.db, &other, 90).await.unwrap();
    let wrong = SimulatedChain::new(world.db.clone(), other);

    let clients = world.use_several(2).await;
    let order = world.order(&shop.merchant, Ask::default()).await;
    world.pay(&order).await;
    world.mine(REQUIRED).await;
    clients[0].answer_from(Arc::new(EvmClient::over(wrong, "wrong", Limits::default())));
    world.drain().await;
    assert_eq!(world.status(&order).await, OrderStatus::Confirmed);
    let cursor = world.cursor().await;
    assert_eq!(cursor.health, "ok");
    let problem = cursor.problem.unwrap();
    assert!(problem.contains("endpoint 1") && problem.contains("137"), "{problem}");
    world.audit().await;
});

on_both_databases!(one_that_lags_is_passed_over_for_one_that_does_not, async |db: TestDatabase| {
    let (mut world, shop) = World::with_shop(db, "*").await;
    world.mine(30).await;
    world.drain().await;
    let clients = world.use_several(2).await;
    let order = world.order(&shop.merchant, Ask::default()).await;
    world.pay(&order).await;
    world.mine(1).await;
    clients[0].lag_behind(world.height().await - 20);
    world.drain().await;
    assert_eq!(world.cursor_height().await, world.height().await);
    assert_eq!(world.status(&order).await, OrderStatus::Confirming);

    world.mine(REQUIRED).await;
    clients[0].take_journal();
    world.drain().await;
    assert_eq!(clients[0].take_journal().count(Call::Transfers), 0);
    world.be_patient().await;
    assert_eq!(world.status(&order).await, OrderStatus::Confirmed);
    world.audit().await;
});

on_both_databases!(what_two_endpoints_contradict_each_other_about_waits, async |db: TestDatabase| {
    let (mut world, shop) = World::with_shop(db, "*").await;
    let clients = world.use_several(2).await;
    let order = world.order(&shop.merchant, Ask::default()).await;
    world.pay(&order).await;
    world.mine(1).await;
    let height = world.height().await;
    world.mine(REQUIRED).await;
    clients[1].misname(height);
    for _ in 0..3 {
        world.drain().await;
        assert_eq!(world.status(&order).await, OrderStatus::Confirming, "one endpoint's word is not enough");
        world.mine(1).await;
    }
    world.drain().await;
    assert!(world.cursor().await.problem.unwrap().contains(&format!("at height {height}")));
    clients[1].behave();
    world.drain().await;
    assert_eq!(world.status(&order).await, OrderStatus::Confirmed);
    assert_eq!(world.window().await.iter().filter_map(|block| block.vouched_by.clone()).count(), 1);
    world.audit().await;
});

on_both_databases!(what_is_disputed_is_not_final_however_deep_it_is, async |db: TestDatabase| {
    let (mut world, shop) = World::with_shop(db, "*").await;
    let clients = world.use_several(2).await;
    let endpoints = &world.context.chains[SLUG].endpoints;
    let order = world.order(&shop.merchant, Ask::default()).await;
    world.pay(&order).await;
    world.mine(1).await;
    let height = world.height().await;
    // Nobody has looked meanwhile: it is read as deep as that at once.
    world.mine(REORG_DEPTH + 4).await;
    clients[1].misname(height);
    for _ in 0..3 {
        world.drain().await;
        assert_eq!(world.status(&order).await, OrderStatus::Confirming, "one endpoint's word is not enough");
        assert_eq!(world.transfers().await[0].state, TransferState::Included);
        world.mine(REORG_DEPTH).await;
    }
    // The one that contradicts says no more: that settles nothing.
    clients[1].fail(Call::Block, || ChainError::Unreachable("connection refused".into()));
    world.drain().await;
    assert_eq!(world.status(&order).await, OrderStatus::Confirming, "a dispute stays a dispute");
    assert!(world.cursor().await.problem.unwrap().contains(&format!("at height {height}")));

    clients[1].behave();
    endpoints.pass(Duration::from_secs(5));
    world.mine(1).await;
    world.drain().await;
    assert_eq!(world.status(&order).await, OrderStatus::Confirmed);
    assert_eq!(world.transfers().await[0].state, TransferState::Final);
    world.audit().await;
});

on_both_databases!(what_is_read_deep_below_the_head_at_once_is_asked_for_again, async |db: TestDatabase| {
    let (world, shop) = World::with_shop(db, "*").await;
    let order = world.order(&shop.merchant, Ask::default()).await;
    world.pay(&order).await;
    world.mine(1).await;
    world.client.misname(world.height().await);
    world.mine(REORG_DEPTH + 4).await;
    world.drain().await;
    assert_eq!(world.status(&order).await, OrderStatus::Confirming, "nobody names its block");
    world.client.behave();
    world.mine(1).await;
    world.drain().await;
    assert_eq!(world.status(&order).await, OrderStatus::Confirmed);
    assert_eq!(world.transfers().await[0].state, TransferState::Final);
    world.audit().await;
});

on_both_databases!(two_against_one_decide, async |db: TestDatabase| {
    let (mut world, shop) = World::with_shop(db, "*").await;
    let clients = world.use_several(3).await;
    let order = world.order(&shop.merchant, Ask::default()).await;
    world.pay(&order).await;
    world.mine(1).await;
    let height = world.height().await;
    world.mine(REQUIRED).await;
    clients[1].misname(height);
    world.drain().await;
    world.mine(1).await;
    world.drain().await;
    assert_eq!(world.status(&order).await, OrderStatus::Confirmed, "the one that is alone is no longer asked");
    world.audit().await;
});

on_both_databases!(
    a_second_endpoint_that_is_behind_or_away_is_waited_for_and_not_for_long,
    async |db: TestDatabase| {
        let (mut world, shop) = World::with_shop(db, "*").await;
        for behind in [true, false] {
            let clients = world.use_several(2).await;
            let order = world.order(&shop.merchant, Ask::default()).await;
            world.pay(&order).await;
            let height = world.height().await;
            world.mine(REQUIRED).await;
            if behind {
                clients[1].lag_behind(height);
            } else {
                clients[1].fail(Call::Block, || ChainError::Unreachable("connection refused".into()));
            }
            world.drain().await;
            assert_eq!(world.status(&order).await, OrderStatus::Confirming, "it may be there in a moment");
            world.be_patient().await;
            assert_eq!(world.status(&order).await, OrderStatus::Confirmed, "behind: {behind}");
        }
        world.audit().await;
    }
);

on_both_databases!(a_branch_that_one_endpoint_has_made_up_waits_for_the_other, async |db: TestDatabase| {
    let (mut world, shop) = World::with_shop(db, "*").await;
    let order = world.order(&shop.merchant, Ask::default()).await;
    world.pay(&order).await;
    let height = world.height().await;
    world.mine(REQUIRED).await;
    let clients = world.use_several(2).await;
    // Of the two, one has not got there; when it has, it names another block.
    clients[1].lag_behind(height - 1);
    world.drain().await;
    assert_eq!(world.status(&order).await, OrderStatus::Confirming);
    clients[1].behave();
    clients[1].misname(height + 1);
    world.drain().await;
    assert_eq!(world.status(&order).await, OrderStatus::Confirming);
    clients[1].behave();
    world.drain().await;
    assert_eq!(world.status(&order).await, OrderStatus::Confirmed);
    world.audit().await;
});

on_both_databases!(when_none_answers_the_chain_is_unreachable_and_another_process_may_try, async |db: TestDatabase| {
    let (mut world, shop) = World::with_shop(db, "*").await;
    let clients = world.use_several(2).await;
    let order = world.order(&shop.merchant, Ask::default()).await;
    world.pay(&order).await;
    world.mine(1).await;
    for client in &clients {
        client.fail(Call::Head, || ChainError::Unreachable("connection refused".into()));
    }
    world.drain().await;
    assert_eq!(world.cursor().await.health, "unreachable");
    let (second, _) = world.another("second");
    Workers::drain(&second).await;
    assert_eq!(world.status(&order).await, OrderStatus::Confirming, "the lease was given back");
    assert_eq!(world.cursor().await.health, "ok");
    world.audit().await;
});
