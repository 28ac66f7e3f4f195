//! The connection to Redis that everything in a process shares: made when it is first needed, and made anew after it broke.
//!
//! Connecting and answers are bounded in time, attempts to connect come one at a time with a pause between them, and a
//! Redis that is away is told to the log when it goes, when it is back, and twice a minute meanwhile. No error is repeated
//! to anybody with what Redis said: it may quote what it was sent.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use redis::aio::{ConnectionLike, MultiplexedConnection, PubSub};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, Pipeline, RedisError, RedisFuture, RedisResult, ServerErrorKind,
    Value,
};
use tokio::time::timeout;

/// How long connecting may take, with TLS and the password.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// How long any one answer may take. Whoever cannot wait as long gives up earlier by itself.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// Pause between attempts to connect.
const RETRY_EVERY: Duration = Duration::from_millis(200);
/// How often the log says that Redis is still away.
const SAY_EVERY: Duration = Duration::from_secs(30);

/// Why Redis cannot be used, without a word of what it said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RedisProblem {
    /// It cannot be connected to, or does not answer in time.
    #[error("Redis is away")]
    Away,
    /// It does not know the user, or the password is wrong.
    #[error("Redis refuses the user or password in REDIS_URL")]
    Unauthenticated,
    /// The user may not do what is needed.
    #[error("Redis does not let the user of REDIS_URL use keys, channels or scripts under CRYPTOPAY_KEY_PREFIX")]
    Forbidden,
    /// It has just been started.
    #[error("Redis is still loading its data")]
    Loading,
    /// It takes no writes: a replica, or one whose disk or memory is full.
    #[error("Redis takes no writes: it is a replica, or its memory or disk is full")]
    ReadOnly,
    /// Anything else.
    #[error("Redis answers with an error")]
    Other,
}

impl RedisProblem {
    /// What an error comes down to.
    pub(crate) fn of(error: &RedisError) -> Self {
        // `NOAUTH` and a script that was refused have no kind of their own.
        let code = error.code().unwrap_or_default();
        match error.kind() {
            _ if is_invalid_data(error) => Self::Other,
            ErrorKind::Io | ErrorKind::Parse => Self::Away,
            ErrorKind::AuthenticationFailed => Self::Unauthenticated,
            ErrorKind::Server(ServerErrorKind::BusyLoading) => Self::Loading,
            ErrorKind::Server(ServerErrorKind::ReadOnly) => Self::ReadOnly,
            ErrorKind::Server(ServerErrorKind::NoPerm) => Self::Forbidden,
            _ if matches!(code, "NOAUTH" | "WRONGPASS") => Self::Unauthenticated,
            _ if matches!(code, "OOM" | "MISCONF" | "NOREPLICAS") => Self::ReadOnly,
            _ => Self::Other,
        }
    }
}

/// An answer that came, but could not be understood.
pub(super) fn is_invalid_data(error: &RedisError) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<io::Error>());
    source.is_some_and(|source| source.kind() == io::ErrorKind::InvalidData)
}

/// The connection. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Link(Arc<Inner>);

struct Inner {
    client: Client,
    attempt: Mutex<Option<Attempt>>,
    health: Mutex<Health>,
}

type Connecting = Shared<BoxFuture<'static, RedisResult<MultiplexedConnection>>>;

/// One attempt to connect, and the connection that came of it.
#[derive(Clone)]
struct Attempt {
    connecting: Connecting,
    began: Instant,
    /// Which one: so that a late error does not throw a newer connection away.
    number: u64,
}

#[derive(Default)]
struct Health {
    away_since: Option<Instant>,
    said_at: Option<Instant>,
}

impl Link {
    pub(super) fn new(client: Client) -> Self {
        Self(Arc::new(Inner { client, attempt: Mutex::default(), health: Mutex::default() }))
    }

    /// A connection of its own for listening.
    pub(crate) async fn listen(&self) -> RedisResult<PubSub> {
        timeout(CONNECT_WITHIN, self.0.client.get_async_pubsub()).await.unwrap_or_else(|_| Err(too_slow()))
    }

    /// The connection, or the attempt to make it. On a task of its own, so that nobody who gives up stops it.
    fn attempt(&self) -> Attempt {
        let mut slot = lock(&self.0.attempt);
        if let Some(attempt) = slot.as_ref().filter(|attempt| !attempt.is_over()) {
            return attempt.clone();
        }
        let client = self.0.client.clone();
        let connecting = tokio::spawn(async move {
            let config = AsyncConnectionConfig::new()
                .set_connection_timeout(Some(CONNECT_WITHIN))
                .set_response_timeout(Some(ANSWER_WITHIN));
            client.get_multiplexed_async_connection_with_config(&config).await
        });
        let connecting = async move { connecting.await.unwrap_or_else(|error| Err(io::Error::other(error).into())) };
        let number = slot.as_ref().map_or(0, |attempt| attempt.number.wrapping_add(1));
        slot.insert(Attempt { connecting: connecting.boxed().shared(), began: Instant::now(), number }).clone()
    }

    /// Makes the next command connect anew, if nobody has already.
    fn drop_connection(&self, number: u64) {
        let mut slot = lock(&self.0.attempt);
        if let Some(attempt) = slot.as_mut().filter(|attempt| attempt.number == number) {
            attempt.connecting = async { Err(too_slow()) }.boxed().shared();
            // Polled once, so that it counts as over.
            let _ = attempt.connecting.clone().now_or_never();
        }
    }

    /// The connection, and which one it is.
    async fn connection(&self) -> (u64, RedisResult<MultiplexedConnection>) {
        let attempt = self.attempt();
        (attempt.number, attempt.connecting.await)
    }

    /// Learns from an answer.
    fn judge<T>(&self, number: u64, answer: RedisResult<T>) -> RedisResult<T> {
        if let Err(error) = &answer {
            let problem = RedisProblem::of(error);
            if error.is_unrecoverable_error() || !matches!(problem, RedisProblem::Other | RedisProblem::Forbidden) {
                self.drop_connection(number);
                self.note_away(problem);
                return answer;
            }
        }
        self.note_well();
        answer
    }

    fn note_away(&self, problem: RedisProblem) {
        let mut health = lock(&self.0.health);
        let now = Instant::now();
        health.away_since.get_or_insert(now);
        if health.said_at.is_none_or(|said_at| now.duration_since(said_at) >= SAY_EVERY) {
            health.said_at = Some(now);
            tracing::warn!(%problem, "Redis cannot be used: nudges are lost meanwhile, and the sweep finds what they were about");
        }
    }

    fn note_well(&self) {
        let mut health = lock(&self.0.health);
        if let Some(since) = health.away_since.take() {
            tracing::info!(away_ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX), "Redis is back");
        }
    }
}

impl Attempt {
    /// Whether it has failed, and long enough ago for another one.
    fn is_over(&self) -> bool {
        self.connecting.peek().is_some_and(Result::is_err) && self.began.elapsed() >= RETRY_EVERY
    }
}

impl ConnectionLike for Link {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(async move {
            let (number, connection) = self.connection().await;
            let answer = match connection {
                Ok(mut connection) => connection.req_packed_command(cmd).await,
                Err(error) => Err(error),
            };
            self.judge(number, answer)
        })
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        Box::pin(async move {
            let (number, connection) = self.connection().await;
            let answer = match connection {
                Ok(mut connection) => connection.req_packed_commands(pipeline, offset, count).await,
                Err(error) => Err(error),
            };
            self.judge(number, answer)
        })
    }

    fn get_db(&self) -> i64 {
        self.0.client.get_connection_info().redis_settings().db()
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Link")
    }
}

fn too_slow() -> RedisError {
    io::Error::from(io::ErrorKind::TimedOut).into()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code that can panic runs under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
