//! Log queries that fail for being too wide, in every form that providers choose: the payment in the backlog is found.

#![expect(clippy::print_stdout, reason = "a measurement is for whoever runs the test")]

use std::time::{Duration, Instant};

use cryptopay_domain::order::OrderStatus;
use cryptopay_test_support::{Fault, TestDatabase, long_tests_wanted, on_both_databases};

use crate::node::NodeWorld;
use crate::world::{Ask, SLUG};

/// Blocks of a backlog that holds a payment.
const BACKLOG: u64 = 40;
/// Most blocks of a log query that the provider answers.
const LIMIT: u64 = 12;
/// Polls that may be needed: each failure of the provider's own ends one.
const MOST_POLLS: usize = 12;

/// Refusals of wide log queries as public providers send them.
fn refusals() -> Vec<Fault> {
    let in_body = |status: u16, code: i64, words: &str| {
        let error = format!(r#"{{"jsonrpc":"2.0","id":null,"error":{{"code":{code},"message":"{words}"}}}}"#);
        Fault::answer(status, error)
    };
    vec![
        Fault::status(504),
        Fault::status(413),
        Fault::status(500),
        Fault::status(403),
        Fault::cut(),
        Fault::truncated(),
        Fault::not_utf8(),
        Fault::error(-32001, "resource not found"),
        Fault::error(-32000, "query timeout of 10 seconds exceeded"),
        Fault::error(30, "request failed"),
        Fault::error(-32601, "the method eth_getLogs is not available"),
        Fault::answer(200, r#"{"error":"text"}"#),
        Fault::answer(200, "[]"),
        Fault::error(-32602, "range 1000000 exceeds limit of 30"),
        Fault::error(-32602, "please limit the query to at most 30 blocks"),
        Fault::error(-32000, "please limit the query to at most 30 blocks"),
        Fault::error(-32600, "the query exceeds the range allowed for your plan (200 > 30)"),
        Fault::error(-32020, "backend response too large"),
        in_body(503, -32011, "no backend is currently healthy to serve traffic"),
        Fault::error(-32000, "logs matched by query exceeds limit of 10000"),
        in_body(413, -32615, "eth_getLogs is limited to a 30 range"),
        in_body(
            413,
            -32615,
            "eth_getLogs is limited to a 5 range, upgrade from discover plan at \
             https://dashboard.quicknode.com/billing/plan to increase the limit",
        ),
        in_body(200, -32603, "internal error"),
    ]
}

on_both_databases!(a_wide_log_query_that_fails_in_any_way_is_narrowed, async |db: TestDatabase| {
    let (mut world, merchant) = NodeWorld::new(db).await;
    for fault in refusals() {
        let name = format!("{fault:?}");
        world.restart().await;
        let order = world.town.order(&merchant, Ask::default()).await;
        world.drain().await;
        world.pay(&order).await;
        world.mine(BACKLOG).await;
        world.proxy.inject([fault.on("eth_getLogs").wider_than(LIMIT)]);
        let height = i64::try_from(world.node.height().await).unwrap();
        for _ in 0..MOST_POLLS {
            world.drain().await;
            if world.cursor().await.height == height {
                break;
            }
        }
        world.proxy.heal();
        assert_eq!(world.cursor().await.height, height, "{name}");
        world.drain().await;
        assert_eq!(world.town.status(&order).await, OrderStatus::Confirmed, "{name}");
        let width = world.context.chains[SLUG].endpoints.iter().next().unwrap().batch_size.blocks();
        assert!(width <= LIMIT + 1 && width > 2, "{name}: the next query is over {width} blocks");
        assert_eq!(world.cursor().await.health, "ok", "{name}");
    }
});

on_both_databases!(two_endpoints_with_one_limit_are_both_narrowed, async |db: TestDatabase| {
    let (mut world, merchant) = NodeWorld::new(db).await;
    world.use_two_behind_the_proxy().await;
    let order = world.town.order(&merchant, Ask::default()).await;
    world.drain().await;
    world.pay(&order).await;
    world.mine(BACKLOG).await;
    world.proxy.inject([Fault::status(504).on("eth_getLogs").wider_than(LIMIT)]);
    let height = i64::try_from(world.node.height().await).unwrap();
    for _ in 0..MOST_POLLS {
        world.drain().await;
    }
    assert_eq!(world.cursor().await.height, height);
    assert_eq!(world.town.status(&order).await, OrderStatus::Confirmed);
});

on_both_databases!(an_endpoint_that_serves_no_logs_at_all_is_reported_as_such, async |db: TestDatabase| {
    let (world, merchant) = NodeWorld::new(db).await;
    let order = world.town.order(&merchant, Ask::default()).await;
    world.drain().await;
    let before = world.cursor().await.height;
    world.pay(&order).await;
    world.mine(9).await;
    world.proxy.inject([Fault::failing_calls(-32005, "limit exceeded").on("eth_getLogs")]);
    for _ in 0..MOST_POLLS {
        world.drain().await;
    }
    let cursor = world.cursor().await;
    assert_eq!((cursor.height, cursor.health.as_str()), (before, "unreachable"));
    let problem = cursor.problem.unwrap();
    assert!(problem.contains("does not serve logs") && !problem.contains("None"), "{problem}");
    world.proxy.heal();
    world.drain().await;
    assert_eq!(world.town.status(&order).await, OrderStatus::Confirmed);
});

/// Catches up `blocks` blocks; returns the polls, the requests, the log queries and the time that it took.
async fn catch_up(world: &NodeWorld, blocks: u64, fault: Fault, limit: u64) -> (usize, u64, u64, Duration) {
    world.mine(blocks).await;
    world.proxy.inject([fault.on("eth_getLogs").wider_than(limit)]);
    let height = i64::try_from(world.node.height().await).unwrap();
    let _ = world.proxy.take_counts();
    let (started, mut polls) = (Instant::now(), 0);
    while world.cursor().await.height < height {
        assert!(polls < MOST_POLLS, "block {} of {height} after {polls} polls", world.cursor().await.height);
        world.drain().await;
        polls += 1;
    }
    let took = started.elapsed();
    let counts = world.proxy.take_counts();
    world.proxy.heal();
    (polls, counts.requests, counts.of("eth_getLogs"), took)
}

on_both_databases!(three_thousand_blocks_are_caught_up_from_limited_providers, async |db: TestDatabase| {
    if !long_tests_wanted() {
        return;
    }
    const BLOCKS: u64 = 3_000;
    let (mut world, merchant) = NodeWorld::new(db).await;
    let limited = Fault::error(-32602, "query exceeds max block range 300");
    let wordless = Fault::error(-32000, "please try again");
    let silent = Fault::hang();
    for (name, fault, limit) in [
        ("states its limit of 300", limited, 300),
        ("takes 300, in words unknown", wordless, 300),
        ("takes 300, silent above", silent.clone(), 300),
        ("takes 30, silent above", silent, 30),
    ] {
        world.restart().await;
        let order = world.town.order(&merchant, Ask::default()).await;
        world.drain().await;
        world.pay(&order).await;
        let (polls, requests, queries, took) = catch_up(&world, BLOCKS, fault, limit).await;
        println!(
            "{BLOCKS} blocks, provider {name}: {polls} polls, {requests} requests, {queries} log queries, {took:?}"
        );
        assert!(took < Duration::from_secs(120), "{name}");
        world.drain().await;
        assert_eq!(world.town.status(&order).await, OrderStatus::Confirmed, "{name}");
    }
});
