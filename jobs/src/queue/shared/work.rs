//! The apalis worker over a queue in Redis.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::Duration;

use apalis::prelude::{BackendExt, PollSnapshot, PollStrategy, TaskId, WorkerBuilder, WorkerBuilderExt, WorkerError};
use apalis_core::backend::finalize::DurableError;
use apalis_redis::{Config, RedisStorage};
use futures_util::task::AtomicWaker;
use redis::{AsyncCommands, RedisError, Script};
use tokio::time::{Instant, MissedTickBehavior, Sleep, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::super::JobKey;
use super::super::worker::{Job, JobRun};
use super::link::is_invalid_data;
use super::{Redis, RedisProblem, state_prefix};

/// How often a worker looks for a job that it was not told of.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How soon it looks again after it was told of one, and how often.
const LOOK_SOON: Duration = Duration::from_millis(10);
const LOOKS_SOON: u8 = 3;
/// How often a worker that waits for Redis looks whether it is there.
const RETRY_EVERY: Duration = Duration::from_millis(250);
/// How often a worker says that it lives, and for how long that counts.
const LIVES_EVERY: Duration = Duration::from_secs(5);
const LIVES_FOR: Duration = Duration::from_secs(30);
/// How long the few words at the beginning of a job and at the end of a worker may take.
const TELL_WITHIN: Duration = Duration::from_secs(1);
/// Failures in a row, with Redis there, after which the queue itself is at fault.
const MAX_FAILURES: u32 = 5;

/// Runs a worker until `stop`, and then the jobs that still run to their end. Waits for Redis first.
///
/// # Errors
/// In words, when the worker ended by itself.
pub(in super::super) async fn work<K: JobKey, R: JobRun<K>>(
    job: &Job<K, R>,
    name: &str,
    redis: &Redis,
    failures: u32,
    stop: CancellationToken,
) -> Result<(), String> {
    tokio::select! {
        () = stop.cancelled() => return Ok(()),
        () = reachable(redis) => {}
    }
    let outcome = tokio::select! {
        outcome = run(job, name, redis, stop.clone()) => outcome,
        never = live(redis, name) => match never {},
    };
    let Err(error) = outcome else {
        leave(redis, job.name, name, "back").await;
        return Ok(());
    };
    if redis_error(&error).is_some_and(is_name_taken) {
        // What is there under this name is somebody else's, who goes on. The next one has another name.
        return Err("another worker has its name".to_owned());
    }
    leave(redis, job.name, name, "forget").await;
    let problem = redis_error(&error).map(RedisProblem::of);
    let wedged = redis_error(&error).is_some_and(is_wedged);
    if wedged || (failures >= MAX_FAILURES && problem == Some(RedisProblem::Other)) {
        match super::tidy::reset(redis, job.name).await {
            Ok(()) => {
                tracing::warn!(job = job.name, "the queue in Redis was unusable and is empty now; the sweep refills it")
            }
            Err(error) => tracing::warn!(job = job.name, problem = %RedisProblem::of(&error), "the queue is unusable"),
        }
    }
    Err(problem.map_or_else(|| "it failed".to_owned(), |problem| problem.to_string()))
}

async fn run<K: JobKey, R: JobRun<K>>(
    job: &Job<K, R>,
    name: &str,
    redis: &Redis,
    stop: CancellationToken,
) -> Result<(), WorkerError> {
    let config = redis.config(job.name);
    let begin = Arc::new(Begin::new(redis.clone(), job.name, name, &config));
    let queue = job.queue.clone();
    let runner = job.runner();
    let handler = move |text: String, id: TaskId| {
        let (begin, queue, runner) = (begin.clone(), queue.clone(), runner.clone());
        async move {
            // Before the job looks at the database: a nudge that comes from now on is a new one.
            begin.tell(&text, &id.to_string()).await;
            match K::parse(&text) {
                None => tracing::warn!(text, "a job in Redis is none of ours"),
                Some(key) => {
                    // Where it runs here already it runs again afterwards.
                    if let Some(taken) = queue.begin(key) {
                        runner.run(taken.key().clone()).await;
                    }
                }
            }
            Ok::<(), std::convert::Infallible>(())
        }
    };
    let storage = RedisStorage::<String, _>::new(redis.0.prefixed.clone()).with_config(config);
    WorkerBuilder::new(name)
        .backend(storage.poll_with_strategy(Tick::new(redis.told(job.name))))
        .concurrency(job.concurrency)
        .build(handler)
        .run_until(async move {
            stop.cancelled().await;
            Ok::<(), std::io::Error>(())
        })
        .await
}

/// Forgets a job in Redis as it begins.
struct Begin {
    redis: Redis,
    nudge_prefix: String,
    fetched: String,
    data: String,
    state_prefix: String,
}

impl Begin {
    fn new(redis: Redis, job: &str, worker: &str, config: &Config) -> Self {
        Self {
            nudge_prefix: redis.nudge_prefix(job),
            fetched: format!("{}:{worker}", config.inflight_jobs_set()),
            data: config.job_data_hash(),
            state_prefix: state_prefix(config),
            redis,
        }
    }

    /// Should it fail, the key counts as nudged for some seconds more.
    async fn tell(&self, key: &str, id: &str) {
        let mut pipe = redis::pipe();
        pipe.del(format!("{}{key}", self.nudge_prefix)).ignore();
        pipe.srem(&self.fetched, id).ignore();
        pipe.hdel(&self.data, id).ignore();
        pipe.del(format!("{}{id}", self.state_prefix)).ignore();
        let told = timeout(TELL_WITHIN, pipe.exec_async(&mut self.redis.link())).await;
        if !matches!(told, Ok(Ok(()))) {
            tracing::debug!(?told, "a job begins that Redis still believes queued");
        }
    }
}

/// Waits until Redis can be used.
async fn reachable(redis: &Redis) {
    while redis.check_script().await.is_err() {
        sleep(RETRY_EVERY).await;
    }
}

async fn live(redis: &Redis, name: &str) -> std::convert::Infallible {
    let sign = redis.sign_of_life(name);
    let mut ticks = interval(LIVES_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        // Missed a few times, the worker is taken off the list, finds that out and is replaced.
        let _ = redis.link().pset_ex::<_, _, ()>(&sign, 1, millis(LIVES_FOR)).await;
    }
}

/// Takes a worker off the list; its jobs that were fetched and not begun go "back" or are to be forgotten ("forget").
pub(super) async fn leave(redis: &Redis, job: &str, worker: &str, fetched: &str) {
    let config = redis.config(job);
    let mut leave = LEAVE.prepare_invoke();
    leave
        .key(config.workers_set())
        .key(format!("{}:{worker}", config.inflight_jobs_set()))
        .key(format!("{}:metadata:{worker}", config.workers_set()))
        .key(redis.sign_of_life(worker))
        .key(config.active_jobs_list())
        .key(config.job_data_hash())
        .arg(worker)
        .arg(state_prefix(&config))
        .arg(fetched);
    // Without it, somebody else does the same when the sign of life is gone.
    let _ = timeout(TELL_WITHIN, leave.invoke_async::<u64>(&mut redis.link())).await;
}

static LEAVE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("leave.lua")));

/// What Redis, or the answer that it gave, ended the worker with.
fn redis_error(error: &WorkerError) -> Option<&RedisError> {
    let WorkerError::BackendError(error) = error else { return None };
    match error.downcast_ref::<DurableError<apalis_redis::Error, serde_json::Error>>() {
        Some(DurableError::PollNextError(apalis_redis::Error::Database(error))) => Some(error),
        _ => None,
    }
}

/// Whether every fetch of the queue will fail like this one: too much is due at once, or what is there is not of
/// apalis-redis' making.
fn is_wedged(error: &RedisError) -> bool {
    let text = error.to_string();
    is_invalid_data(error) || text.contains("too many results to unpack") || text.contains("WRONGTYPE")
}

/// Whether a live worker of this name was there before.
fn is_name_taken(error: &RedisError) -> bool {
    error.to_string().contains("worker is still active")
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Makes a worker look when it is told that a job waits, some times more right after that, since what it was told may have
/// come while it looked, and at long intervals all the same. It never loses a wake-up: the timer is polled until it is
/// pending, which is when its waker is known.
struct Tick {
    next: Pin<Box<Sleep>>,
    told: Arc<Told>,
    /// Looks that come soon.
    soon: u8,
}

/// Where a worker hears that a job waits.
#[derive(Debug, Default)]
pub(super) struct Told {
    waiting: AtomicWaker,
    is_told: AtomicBool,
}

impl Told {
    pub(super) fn tell(&self) {
        self.is_told.store(true, Ordering::Release);
        self.waiting.wake();
    }
}

impl Tick {
    fn new(told: Arc<Told>) -> Self {
        Self { next: Box::pin(sleep(Duration::ZERO)), told, soon: 0 }
    }

    fn set(&mut self, pause: Duration) {
        self.next.as_mut().reset(Instant::now() + pause);
    }
}

impl PollStrategy for Tick {
    fn poll_drive(&mut self, cx: &mut Context<'_>, _snapshot: &PollSnapshot) -> Poll<Option<()>> {
        self.told.waiting.register(cx.waker());
        let mut fired = self.told.is_told.swap(false, Ordering::Acquire);
        if fired {
            self.soon = LOOKS_SOON;
            self.set(LOOK_SOON);
        }
        while self.next.as_mut().poll(cx).is_ready() {
            fired = true;
            let pause = if self.soon > 0 { LOOK_SOON } else { LOOK_EVERY };
            self.soon = self.soon.saturating_sub(1);
            self.set(pause);
        }
        if fired { Poll::Ready(Some(())) } else { Poll::Pending }
    }
}
