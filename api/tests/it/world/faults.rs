//! Everything that happens to a gateway in a year, in a minute. While a shop goes on selling, processes are killed, and
//! PostgreSQL, Redis and the node go away and come back. In the end nothing is lost and nothing doubled: the merchant's
//! journal, the orders and the chain agree.
//!
//! `scripts/test --long` has each of them last as long as in the issue of an operator's worst day.

use std::time::Duration;

use cryptopay_test_support::{Fault, block_on, long_tests_wanted};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sea_orm::ConnectionTrait;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::town::{Scene, sell_under};
use super::{CHAIN_ID, World};

/// Says what is killed and when, as far as chance is ours.
const SEED: u64 = 20_261_123;

/// How long something lasts: a moment, or as long as a bad day has it.
fn seconds(short: u64, long: u64) -> Duration {
    Duration::from_secs(if long_tests_wanted() { long } else { short })
}

/// Lets the faults be what they are for a while. Nothing tells when they have been enough.
async fn last(duration: Duration) {
    sleep(duration).await;
}

#[test]
fn processes_that_are_killed_at_any_moment_lose_and_repeat_nothing() {
    block_on(async {
        eprintln!("seed {SEED}");
        let mut chance = StdRng::seed_from_u64(SEED);
        let kills = if long_tests_wanted() { 200 } else { 6 };
        sell_under(World::new().await, 2, 2, async |scene| {
            for kill in 0..kills {
                // Mostly before another process has taken over the leases of the last one that was killed, which takes
                // 3 s; now and then well after it.
                let moment = if kill % 4 == 1 { 3_000..4_000 } else { 0..1_000 };
                last(Duration::from_millis(chance.random_range(moment))).await;
                let role = if chance.random_range(0..3) == 0 { "api" } else { "worker" };
                scene.kill(role, chance.random_range(0..2)).await;
            }
        })
        .await;
    });
}

#[test]
fn a_redis_that_forgets_everything_or_is_away_costs_seconds() {
    block_on(async {
        let world = World::new().await;
        let forgetting = async |scene: &mut Scene<'_>| {
            let until = Instant::now() + seconds(3, 60);
            while Instant::now() < until {
                scene.world.redis().flush();
                last(seconds(1, 10)).await;
                scene.world.redis().cut_connections();
            }
        };
        sell_under(world, 2, 2, async |scene| {
            forgetting(scene).await;
            scene.world.redis().stop();
            last(seconds(3, 60)).await;
            scene.world.redis().restart();
        })
        .await;
    });
}

#[test]
fn a_database_that_breaks_off_and_crashes_loses_nothing() {
    block_on(async {
        let world = World::with_postgres().await;
        sell_under(world, 2, 2, async |scene| {
            let until = Instant::now() + seconds(3, 30);
            let every_other = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() \
                               AND datname = current_database()";
            while Instant::now() < until {
                // Its own connection may have been cut by the last one, too.
                _ = scene.world.db.connection().execute_unprepared(every_other).await;
                last(Duration::from_millis(100)).await;
            }
            for _ in 0..2 {
                scene.world.postgres().crash();
                last(seconds(2, 30)).await;
                scene.world.postgres().start_again();
                last(seconds(1, 10)).await;
            }
        })
        .await;
    });
}

#[test]
fn a_node_that_stands_still_restarts_or_is_another_chains_holds_nobody_up_for_long() {
    block_on(async {
        let world = World::new().await;
        sell_under(world, 1, 2, async |scene| {
            let node = &scene.world.node;
            scene
                .without_node(async {
                    node.pause();
                    last(seconds(3, 30)).await;
                    node.resume();
                })
                .await;
            last(seconds(1, 5)).await;
            scene
                .without_node(async {
                    node.stop();
                    last(seconds(2, 30)).await;
                    node.start_again();
                })
                .await;
            last(seconds(1, 5)).await;
            scene
                .without_node(async {
                    node.replace(CHAIN_ID + 1);
                    node.mine(500).await;
                    last(seconds(3, 30)).await;
                    node.start_again();
                })
                .await;
        })
        .await;
    });
}

#[test]
fn a_node_whose_answers_are_old_empty_or_of_another_chain_is_not_believed() {
    block_on(async {
        let faults = [
            Fault::lag(20).every(2),
            Fault::empty_logs(),
            Fault::dropped_logs(),
            Fault::chain_id(1),
            Fault::rewrite(|_, result| result["number"] = json!("0xffffffffffffffffffff")).on("eth_getBlockByNumber"),
            Fault::rewrite(|_, logs| each_log(logs, |log| log["topics"] = json!([]))).on("eth_getLogs"),
            Fault::rewrite(|_, logs| each_log(logs, |log| log["blockNumber"] = json!("0x1"))).on("eth_getLogs"),
        ];
        sell_under(World::new().await, 1, 1, async |scene| suffer(scene, faults).await).await;
    });
}

#[test]
fn a_node_whose_answers_are_broken_is_asked_again() {
    block_on(async {
        let faults = [
            Fault::error(-32_000, "internal error"),
            Fault::error(-32_005, "query returned more than 10000 results").on("eth_getLogs"),
            Fault::too_many_requests(1),
            Fault::status(503).every(2),
            Fault::truncated(),
            Fault::not_utf8(),
            Fault::cut().every(3),
            Fault::huge(65 * 1024 * 1024).on("eth_getLogs"),
            Fault::delay(Duration::from_millis(400)),
            Fault::hang().every(4),
        ];
        sell_under(World::new().await, 1, 1, async |scene| suffer(scene, faults).await).await;
    });
}

/// One fault after the other, each while payments are mined.
async fn suffer(scene: &mut Scene<'_>, faults: impl IntoIterator<Item = Fault>) {
    for fault in faults {
        eprintln!("{fault:?}");
        scene.world.proxy.inject([fault]);
        last(seconds(1, 20)).await;
    }
    scene.world.proxy.heal();
}

fn each_log(logs: &mut serde_json::Value, with: impl FnMut(&mut serde_json::Value)) {
    logs.as_array_mut().into_iter().flatten().for_each(with);
}
