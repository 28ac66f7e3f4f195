//! What `cryptopay doctor` asks Redis: whether it is there, what it is, and whether it does what the queues need of it. What
//! it writes has a name of its own, expires within seconds, and is taken away at once.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use redis::{AsyncConnectionConfig, Client, IntoConnectionInfo, RedisError};
use tokio::time::timeout;

use crate::RedisProblem;

/// Longest wait for a connection, and for an answer.
const LIMIT: Duration = Duration::from_secs(5);
/// Round trips of which the quickest counts.
const ROUNDS: usize = 5;
/// How long what is written may stay.
const KEPT_MS: u64 = 5_000;

/// A Redis as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisFindings {
    /// Version, such as `7.2.4`.
    pub version: String,
    /// `standalone`, `sentinel` or `cluster`.
    pub mode: String,
    /// `master` or `slave`.
    pub role: String,
    /// What it does when its memory is full, such as `noeviction`; `None` where it does not tell.
    pub eviction: Option<String>,
    /// Most memory, in bytes; 0 is no limit.
    pub max_memory_bytes: u64,
    /// Memory in use, in bytes.
    pub used_memory_bytes: u64,
    /// A round trip.
    pub latency: Duration,
    /// Whether keys under the prefix can be written, read and removed by a script.
    pub writes: Result<(), RedisProblem>,
    /// Whether a message under the prefix reaches a listener.
    pub tells: Result<(), RedisProblem>,
}

/// Asks the Redis at `url`, using names that begin with `prefix`.
///
/// # Errors
/// If it cannot be reached, or does not say what it is.
pub async fn probe_redis(url: &str, prefix: &str) -> Result<RedisFindings, RedisProblem> {
    let client = url.into_connection_info().and_then(Client::open).map_err(|error| RedisProblem::of(&error))?;
    let config = AsyncConnectionConfig::new().set_connection_timeout(Some(LIMIT)).set_response_timeout(Some(LIMIT));
    let connecting = client.get_multiplexed_async_connection_with_config(&config);
    let mut connection = within(connecting).await?;
    let information: String = within(redis::cmd("INFO").query_async(&mut connection)).await?;
    let told = |name: &str| {
        let value = information.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.map(|value| value.trim().to_owned())
    };
    let number = |name: &str| told(name).and_then(|value| value.parse().ok()).unwrap_or_default();
    let mut latency = LIMIT;
    for _ in 0..ROUNDS {
        let started = Instant::now();
        within(redis::cmd("PING").exec_async(&mut connection)).await?;
        latency = latency.min(started.elapsed());
    }
    let name = format!("{prefix}doctor:{:032x}", rand::random::<u128>());
    Ok(RedisFindings {
        version: told("redis_version").unwrap_or_default(),
        mode: told("redis_mode").unwrap_or_default(),
        role: told("role").unwrap_or_default(),
        eviction: told("maxmemory_policy"),
        max_memory_bytes: number("maxmemory"),
        used_memory_bytes: number("used_memory"),
        latency,
        writes: writes(&mut connection, &name).await,
        tells: tells(&client, &mut connection, &name).await,
    })
}

async fn writes(connection: &mut redis::aio::MultiplexedConnection, name: &str) -> Result<(), RedisProblem> {
    // As the queue does: by a script, and with the same kinds of keys.
    let script = redis::Script::new(
        "redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) local found = redis.call('GET', KEYS[1]) \
         redis.call('DEL', KEYS[1]) return found",
    );
    let mut call = script.prepare_invoke();
    call.key(name).arg("1").arg(KEPT_MS);
    let found: String = within(call.invoke_async(connection)).await?;
    if found == "1" { Ok(()) } else { Err(RedisProblem::Other) }
}

async fn tells(
    client: &Client,
    connection: &mut redis::aio::MultiplexedConnection,
    name: &str,
) -> Result<(), RedisProblem> {
    let mut listener = within(client.get_async_pubsub()).await?;
    within(listener.subscribe(name)).await?;
    within(redis::cmd("PUBLISH").arg(name).arg("1").exec_async(connection)).await?;
    match timeout(LIMIT, listener.on_message().next()).await {
        Ok(Some(_)) => Ok(()),
        _ => Err(RedisProblem::Away),
    }
}

async fn within<T>(answer: impl Future<Output = Result<T, RedisError>>) -> Result<T, RedisProblem> {
    match timeout(LIMIT, answer).await {
        Ok(answer) => answer.map_err(|error| RedisProblem::of(&error)),
        Err(_) => Err(RedisProblem::Away),
    }
}
