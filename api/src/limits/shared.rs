//! Counts in Redis, for all processes together: one script, over one connection that all requests share. Requests that
//! come while an answer is awaited go together with the next call, each counted by itself: many at once cost little more
//! than one.
//!
//! No request waits for Redis longer than [`ANSWER_WITHIN`], and once one has waited in vain, none waits at all until a
//! task in the background has found Redis well again: counts are then kept elsewhere. The log says when it goes and when
//! it is back. Nothing that Redis says is repeated: it may quote what it was sent.

use std::fmt;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, IntoConnectionInfo, RedisResult, Script};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use super::bucket::{Begins, Bucket, Change, Outcome};

/// How long a request waits for its count. Source: the architecture.
const ANSWER_WITHIN: Duration = Duration::from_millis(250);
/// How long connecting may take, with TLS and the password.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// Pause between attempts to use a Redis that is away.
const RETRY_EVERY: Duration = Duration::from_millis(500);

/// Most requests that one call counts: the script holds Redis up for as long as it runs.
const MOST_AT_ONCE: usize = 128;
/// Requests that wait for the next call before more have to wait for their place.
const MOST_WAITING: usize = 4_096;

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

/// What a request wants counted, and who is told what came of it.
struct Wish {
    buckets: Vec<Bucket>,
    change: Change,
    told: oneshot::Sender<Outcome>,
}

/// The connection, as requests see it.
#[derive(Clone)]
enum Link {
    /// Nobody has asked for it yet.
    Idle,
    /// It is being made for the first time.
    Connecting,
    /// It is well. The number says which it is, so that a late failure does not throw away a newer one.
    Well(mpsc::Sender<Wish>, u64),
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
        let (counter, number) = self.counter().await?;
        let (told, outcome) = oneshot::channel();
        let wish = Wish { buckets: buckets.to_vec(), change, told };
        let counted = async { counter.send(wish).await.ok().and(outcome.await.ok()) };
        let counted = timeout(ANSWER_WITHIN, counted).await.ok().flatten();
        if counted.is_none() {
            self.lose(number);
        }
        counted
    }

    /// Counts what requests wish for, until nobody can wish any more or Redis fails: then whoever waits is told nothing.
    async fn count(self, mut connection: MultiplexedConnection, mut wishes: mpsc::Receiver<Wish>) {
        let mut batch = Vec::new();
        while wishes.recv_many(&mut batch, MOST_AT_ONCE).await > 0 {
            let asked = timeout(ANSWER_WITHIN, self.ask(&mut connection, &batch)).await;
            let Ok(Ok(outcomes)) = asked else { return };
            for (wish, outcome) in batch.drain(..).zip(outcomes) {
                // Who has gone meanwhile is counted all the same.
                let _ = wish.told.send(outcome);
            }
        }
    }

    async fn ask(&self, connection: &mut MultiplexedConnection, wishes: &[Wish]) -> RedisResult<Vec<Outcome>> {
        let mut call = TAKE.prepare_invoke();
        for Wish { buckets, change, .. } in wishes {
            let change = match change {
                Change::Take => 1,
                Change::GiveBack => -1,
                Change::Look => 0,
            };
            call.arg(change).arg(buckets.len());
            for bucket in buckets {
                let on_the_dot = u8::from(bucket.window.begins == Begins::OnTheDot);
                call.key(format!("{}{}", self.0.prefix, bucket.key));
                call.arg(bucket.limit).arg(bucket.window.secs).arg(on_the_dot);
            }
        }
        let answer: Vec<u64> = call.invoke_async(connection).await?;
        read(wishes, &answer).ok_or_else(|| std::io::Error::from(std::io::ErrorKind::InvalidData).into())
    }

    /// Who counts, if there is a connection. Only the first one ever is waited for.
    async fn counter(&self) -> Option<(mpsc::Sender<Wish>, u64)> {
        let mut link = match &*self.0.link.borrow() {
            Link::Well(counter, number) => return Some((counter.clone(), *number)),
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
            Link::Well(counter, number) => Some((counter.clone(), *number)),
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
                let (counter, wishes) = mpsc::channel(MOST_WAITING);
                tokio::spawn(self.clone().count(connection, wishes));
                self.0.link.send_replace(Link::Well(counter, number));
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
        let mut connection = timeout(CONNECT_WITHIN, connecting).await.ok()?.ok()?;
        timeout(CONNECT_WITHIN, TAKE.prepare_invoke().load_async(&mut connection)).await.ok()?.ok()?;
        let (told, _) = oneshot::channel();
        let trial = Wish { buckets: vec![Bucket::TRIAL], change: Change::Take, told };
        timeout(ANSWER_WITHIN, self.ask(&mut connection, &[trial])).await.ok()?.ok()?;
        Some(connection)
    }
}

/// Understands the script's answer.
fn read(wishes: &[Wish], answer: &[u64]) -> Option<Vec<Outcome>> {
    let (now, mut rest) = answer.split_first()?;
    let mut outcomes = Vec::new();
    for wish in wishes {
        let (full, counts) = rest.split_first()?;
        let (counts, others) = counts.split_at_checked(wish.buckets.len().saturating_mul(2))?;
        rest = others;
        let standing = |(bucket, count): (&Bucket, &[u64])| match count {
            [used, ends_at] => Some(bucket.standing(*used, *ends_at, *now)),
            _ => None,
        };
        let standings: Option<Vec<_>> = wish.buckets.iter().zip(counts.chunks_exact(2)).map(standing).collect();
        let full = usize::try_from(*full).ok()?.checked_sub(1);
        outcomes.push(Outcome { full, standings: standings? });
    }
    rest.is_empty().then_some(outcomes)
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("prefix", &self.0.prefix).finish_non_exhaustive()
    }
}
