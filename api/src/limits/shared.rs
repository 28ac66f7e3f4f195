//! Counts in Redis, for all processes together: one script a request, over one connection that all requests share.
//!
//! No request waits for Redis longer than [`ANSWER_WITHIN`], and once one has waited in vain, none waits at all until a
//! task in the background has found Redis well again: counts are then kept elsewhere. The log says when it goes and when
//! it is back. Nothing that Redis says is repeated: it may quote what it was sent.

use std::fmt;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, IntoConnectionInfo, RedisResult, Script};
use tokio::sync::watch;
use tokio::time::timeout;

use super::bucket::{Begins, Bucket, Change, Outcome};

/// How long a request waits for its count. Source: the architecture.
const ANSWER_WITHIN: Duration = Duration::from_millis(250);
/// How long connecting may take, with TLS and the password.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// Pause between attempts to use a Redis that is away.
const RETRY_EVERY: Duration = Duration::from_millis(500);

static TAKE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("take.lua")));

/// `REDIS_URL` is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is no redis:// or rediss:// URL")]
pub struct LimitsUrlError;

/// The counts. Cheap to clone.
#[derive(Clone)]
pub(super) struct Shared(Arc<Inner>);

struct Inner {
    client: Client,
    prefix: String,
    link: watch::Sender<Link>,
}

/// The connection, as requests see it.
#[derive(Clone)]
enum Link {
    /// Nobody has asked for it yet.
    Idle,
    /// It is being made for the first time.
    Connecting,
    /// It is well. The number says which it is, so that a late failure does not throw away a newer one.
    Well(MultiplexedConnection, u64),
    /// Redis is away; somebody tries again.
    Away,
}

impl Shared {
    /// Counts in the Redis at `url`, under `prefix`. Does not connect yet.
    ///
    /// # Errors
    /// If the URL is none; it may hold a password, so the error repeats nothing of it.
    pub(super) fn new(url: &str, prefix: &str) -> Result<Self, LimitsUrlError> {
        let client = url.into_connection_info().and_then(Client::open).map_err(|_| LimitsUrlError)?;
        Ok(Self(Arc::new(Inner { client, prefix: format!("{prefix}limit:"), link: watch::Sender::new(Link::Idle) })))
    }

    /// Does this to every bucket, or to none if one has no room; `None` if Redis does not answer in time.
    pub(super) async fn apply(&self, buckets: &[Bucket], change: Change) -> Option<Outcome> {
        let (connection, number) = self.connection().await?;
        match timeout(ANSWER_WITHIN, self.ask(connection, buckets, change)).await {
            Ok(Ok(outcome)) => Some(outcome),
            Ok(Err(_)) | Err(_) => {
                self.lose(number);
                None
            }
        }
    }

    async fn ask(
        &self,
        mut connection: MultiplexedConnection,
        buckets: &[Bucket],
        change: Change,
    ) -> RedisResult<Outcome> {
        let mut call = TAKE.prepare_invoke();
        call.arg(match change {
            Change::Take => 1,
            Change::GiveBack => -1,
            Change::Look => 0,
        });
        for bucket in buckets {
            let on_the_dot = u8::from(bucket.window.begins == Begins::OnTheDot);
            call.key(format!("{}{}", self.0.prefix, bucket.key));
            call.arg(bucket.limit).arg(bucket.window.secs).arg(on_the_dot);
        }
        let answer: Vec<u64> = call.invoke_async(&mut connection).await?;
        read(buckets, &answer).ok_or_else(|| std::io::Error::from(std::io::ErrorKind::InvalidData).into())
    }

    /// The connection, if there is one. Only the first one ever is waited for.
    async fn connection(&self) -> Option<(MultiplexedConnection, u64)> {
        let mut link = match &*self.0.link.borrow() {
            Link::Well(connection, number) => return Some((connection.clone(), *number)),
            Link::Away => return None,
            Link::Idle | Link::Connecting => self.0.link.subscribe(),
        };
        let is_first = self.0.link.send_if_modified(|link| {
            let is_idle = matches!(link, Link::Idle);
            if is_idle {
                *link = Link::Connecting;
            }
            is_idle
        });
        if is_first {
            tokio::spawn(self.clone().connect(0));
        }
        let known = link.wait_for(|link| matches!(link, Link::Well(..) | Link::Away));
        match &*timeout(ANSWER_WITHIN, known).await.ok()?.ok()? {
            Link::Well(connection, number) => Some((connection.clone(), *number)),
            _ => None,
        }
    }

    /// Notes that a connection has failed, and begins to look for a better one.
    fn lose(&self, number: u64) {
        let is_news = self.0.link.send_if_modified(|link| {
            let is_this = matches!(link, Link::Well(_, current) if *current == number);
            if is_this {
                *link = Link::Away;
            }
            is_this
        });
        if is_news {
            tokio::spawn(self.clone().connect(number.wrapping_add(1)));
        }
    }

    /// Tries until Redis is well. A count is part of the trial: a Redis that takes no writes is as good as none.
    async fn connect(self, number: u64) {
        let began = Instant::now();
        let mut is_said = false;
        loop {
            if let Some(connection) = self.attempt().await {
                if is_said || number > 0 {
                    let away_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
                    tracing::info!(away_ms, "Redis counts requests again");
                }
                self.0.link.send_replace(Link::Well(connection, number));
                return;
            }
            self.0.link.send_replace(Link::Away);
            if !is_said {
                is_said = true;
                tracing::warn!("Redis cannot count requests: each process holds the limits by itself until it is back");
            }
            tokio::time::sleep(RETRY_EVERY).await;
        }
    }

    async fn attempt(&self) -> Option<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_WITHIN))
            .set_response_timeout(Some(CONNECT_WITHIN));
        let connecting = self.0.client.get_multiplexed_async_connection_with_config(&config);
        let connection = timeout(CONNECT_WITHIN, connecting).await.ok()?.ok()?;
        let mut first = connection.clone();
        timeout(CONNECT_WITHIN, TAKE.prepare_invoke().load_async(&mut first)).await.ok()?.ok()?;
        timeout(ANSWER_WITHIN, self.ask(first, &[Bucket::TRIAL], Change::Take)).await.ok()?.ok()?;
        Some(connection)
    }
}

/// Understands the script's answer.
fn read(buckets: &[Bucket], answer: &[u64]) -> Option<Outcome> {
    let [now, full, counts @ ..] = answer else { return None };
    let full = usize::try_from(*full).ok()?;
    let standings: Vec<_> = buckets
        .iter()
        .zip(counts.chunks_exact(2))
        .filter_map(|(bucket, count)| match count {
            [used, ends_at] => Some(bucket.standing(*used, *ends_at, *now)),
            _ => None,
        })
        .collect();
    (standings.len() == buckets.len()).then_some(Outcome { full: full.checked_sub(1), standings })
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("prefix", &self.0.prefix).finish_non_exhaustive()
    }
}
