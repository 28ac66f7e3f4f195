//! Takes away what dead workers have left in Redis, and empties a queue that nobody can read.

use std::time::Duration;

use redis::{AsyncCommands, RedisError, RedisResult};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::{Redis, work};

/// How often the list of workers is looked at.
const TIDY_EVERY: Duration = Duration::from_secs(30);
/// How long that may take.
const TIDY_WITHIN: Duration = Duration::from_secs(10);
/// Workers that are looked at in one go.
const WORKERS: isize = 500;
/// Jobs of which Redis may hold the data: many times those that can be queued. More were left behind.
const MAX_DATA: u64 = 50_000;
/// Keys looked at in one go while a queue is emptied.
const SCAN_COUNT: usize = 1_000;

/// Tidies up for ever; every process may do so at once.
pub(crate) async fn tidy(redis: &Redis, jobs: &'static [&'static str]) {
    let mut ticks = interval(TIDY_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        for job in jobs {
            let outcome = timeout(TIDY_WITHIN, tidy_queue(redis, job)).await;
            tracing::debug!(job, ?outcome, "tidied up in Redis");
        }
    }
}

pub(super) async fn tidy_queue(redis: &Redis, job: &str) -> RedisResult<()> {
    let config = redis.config(job);
    let workers: Vec<String> = redis.link().zrange(config.workers_set(), 0, WORKERS).await?;
    for worker in workers {
        if !redis.link().exists::<_, bool>(redis.sign_of_life(&worker)).await? {
            work::leave(redis, job, &worker, "forget").await;
        }
    }
    if redis.link().hlen::<_, u64>(config.job_data_hash()).await? > MAX_DATA {
        tracing::warn!(job, "Redis holds more jobs than can be; the queue is emptied, and the sweep refills it");
        reset(redis, job).await?;
    }
    Ok(())
}

/// Deletes everything of a queue but the list of its workers: they were only nudges.
pub(super) async fn reset(redis: &Redis, job: &str) -> Result<(), RedisError> {
    let config = redis.config(job);
    let whole = [
        config.active_jobs_list(),
        config.scheduled_jobs_set(),
        config.job_data_hash(),
        config.done_jobs_set(),
        config.dead_jobs_set(),
        config.failed_jobs_set(),
        config.signal_list(),
    ];
    redis.link().unlink::<_, ()>(&whole).await?;
    for prefix in [super::state_prefix(&config), format!("{}:", config.inflight_jobs_set()), redis.nudge_prefix(job)] {
        let mut cursor = 0_u64;
        loop {
            // The prefix holds no letter that means anything in a pattern.
            let mut scan = redis::cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(format!("{prefix}*")).arg("COUNT").arg(SCAN_COUNT);
            let (next, keys): (u64, Vec<String>) = scan.query_async(&mut redis.link()).await?;
            if !keys.is_empty() {
                redis.link().unlink::<_, ()>(&keys).await?;
            }
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
    }
    Ok(())
}
