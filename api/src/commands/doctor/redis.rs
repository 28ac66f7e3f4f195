//! Redis: is it there, is it one that the queues can live in.

use std::time::Duration;

use cryptopay_jobs::RedisProblem;
use cryptopay_jobs::doctor::{RedisFindings, probe_redis};

use super::report::{Check, Checks};
use super::shown;
use crate::config::{Config, DatabaseUrl, Mode, RedisUrl};

/// Oldest version that is tested, by its first two numbers.
const OLDEST_VERSION: (u32, u32) = (6, 2);
/// A round trip that takes longer makes every nudge slow.
const SLOW: Duration = Duration::from_millis(10);

pub(super) async fn examine(config: &Config) -> Vec<Check> {
    let mut checks = Checks::of("redis");
    let Some(url) = &config.redis else {
        match (config.mode, &config.database) {
            (Mode::Live, DatabaseUrl::Postgres(_)) => {
                checks.good("use", "none: one process does everything; set REDIS_URL to run several");
            }
            _ => checks.good("use", "none: one process does everything"),
        }
        return checks.done();
    };
    match probe_redis(url.expose(), &config.key_prefix).await {
        Err(problem) => checks.wrong("reachable", format!("{}: {problem}", place(url)), mend(problem)),
        Ok(found) => judge(url, &found, &mut checks),
    }
    checks.done()
}

fn judge(url: &RedisUrl, found: &RedisFindings, checks: &mut Checks) {
    checks.good("reachable", format!("Redis {} on {}", found.version, place(url)));
    let mut numbers = found.version.split('.').map(|number| number.parse().unwrap_or(0));
    if (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < OLDEST_VERSION {
        checks.wrong(
            "version",
            format!("{} is older than 6.2", found.version),
            "move to Redis 6.2 or newer, or Valkey",
        );
    }
    if found.mode == "cluster" {
        let mend = "use a single Redis (with a replica, if you like): it holds very little";
        checks.wrong("mode", "a cluster, whose scripts may not touch keys of several slots", mend);
    }
    if found.role == "slave" {
        checks.wrong("role", "a replica, which takes no writes", "name the primary in REDIS_URL");
    }
    if found.latency > SLOW {
        let mend = "run it beside the gateway: jobs begin later by as much";
        checks.warn("latency", format!("a round trip takes {}", shown(found.latency)), mend);
    } else {
        checks.good("latency", format!("{} µs a round trip", found.latency.as_micros()));
    }
    match found.eviction.as_deref() {
        Some("noeviction") => checks.good("eviction", "noeviction"),
        Some(policy) if found.max_memory_bytes == 0 => {
            checks.good("eviction", format!("{policy}, but there is no memory limit at which it would begin"));
        }
        Some(policy) => checks.warn(
            "eviction",
            format!("maxmemory-policy is {policy}: queues and counters may be thrown away when memory is short"),
            "set maxmemory-policy noeviction in redis.conf",
        ),
        None => checks.good("eviction", "not told by this server; it should be noeviction"),
    }
    // In tenths, so that no number is lost to rounding.
    let used = found.used_memory_bytes.saturating_mul(10);
    if found.max_memory_bytes > 0 && used > found.max_memory_bytes.saturating_mul(9) {
        checks.warn(
            "memory",
            "more than nine tenths of maxmemory are used",
            "raise maxmemory, or look who else writes here",
        );
    }
    for (what, outcome) in [("writes", found.writes), ("messages", found.tells)] {
        match outcome {
            Ok(()) => checks.good(what, "work"),
            Err(problem) => checks.wrong(what, problem.to_string(), mend(problem)),
        }
    }
}

fn place(url: &RedisUrl) -> String {
    url::Url::parse(url.expose())
        .ok()
        .and_then(|url| Some(format!("{}:{}", url.host_str()?, url.port().unwrap_or(6_379))))
        .unwrap_or_else(|| "REDIS_URL".to_owned())
}

fn mend(problem: RedisProblem) -> &'static str {
    match problem {
        RedisProblem::Away => "start Redis, and check host and port in REDIS_URL, and firewalls",
        RedisProblem::Unauthenticated => "correct REDIS_URL: redis://user:password@host:6379/0",
        RedisProblem::Forbidden => "let the user use all commands on keys and channels under CRYPTOPAY_KEY_PREFIX",
        RedisProblem::Loading => "wait until it has read its data",
        RedisProblem::ReadOnly => "name the primary in REDIS_URL, or give Redis memory and disk",
        RedisProblem::Other => "look into Redis' log",
    }
}
