//! The queues in Redis, one for each kind of job, worked on by apalis-redis.
//!
//! Redis carries keys only, and whatever is in it may be lost at any moment: the sweep finds in the database what was not
//! nudged. What goes in does so by one script (`nudge.lua`) that keeps a key from being queued twice within five seconds,
//! and the queue from growing beyond [`MAX_QUEUED`]. What comes out is forgotten there before the job looks at the
//! database, so that what is committed later queues it anew. Nothing of a job stays behind: no result, no attempt, no lock.
//!
//! Of apalis-redis this uses the worker alone, in the one way that its version leaves open. It fetches one job at a time
//! when it is told that one waits, or by its own clock; it does not record results, because a record of a job that Redis has lost would end the
//! worker; and it never takes jobs over from workers that it believes dead, because it compares clocks of different hosts.
//! A job that died with its worker is found by the sweep. Keys and fields are those of `apalis_redis::Config`.

mod forward;
mod link;
mod prefixed;
#[cfg(test)]
mod tests;
mod tidy;
mod work;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use apalis_redis::Config;
use redis::{Client, IntoConnectionInfo, RedisError, Script};
use tokio::time::timeout;

use super::JobKey;
use link::Link;
pub use link::RedisProblem;
use prefixed::Prefixed;

pub(crate) use forward::forward;
pub(crate) use tidy::tidy;
use work::Told;
pub(super) use work::work;

/// Jobs of one kind that may be queued: a good second's work, and a fifth of what makes a fetch fail.
const MAX_QUEUED: usize = 2_000;
/// How long a key counts as nudged when nobody begins its job.
const NUDGED_FOR: Duration = Duration::from_secs(5);
/// How long a nudge may take before it is given up.
const NUDGE_WITHIN: Duration = Duration::from_millis(250);
/// How long the answer to "can you be used" may take.
const CHECK_WITHIN: Duration = Duration::from_secs(1);

/// `REDIS_URL` is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is no redis:// or rediss:// URL")]
pub struct RedisUrlError;

/// A Redis, and what our names in it begin with. Cheap to clone. Connects when it is first needed, and again whenever it
/// has to.
#[derive(Clone)]
pub struct Redis(Arc<Inner>);

struct Inner {
    link: Link,
    prefixed: Prefixed,
    prefix: String,
    /// Where the worker of each kind of job hears that one waits.
    told: Mutex<BTreeMap<String, Arc<Told>>>,
    /// Why this process does not hear the bus, if it does not.
    deaf: Mutex<Option<RedisProblem>>,
}

impl Redis {
    /// The Redis at `url`, where every key and channel begins with `prefix`. Does not connect yet.
    ///
    /// # Errors
    /// If the URL is none; it may hold a password, so the error repeats nothing of it.
    pub fn new(url: &str, prefix: &str) -> Result<Self, RedisUrlError> {
        let client = url.into_connection_info().and_then(Client::open).map_err(|_| RedisUrlError)?;
        let link = Link::new(client);
        let prefixed = Prefixed::new(link.clone(), prefix);
        Ok(Self(Arc::new(Inner {
            link,
            prefixed,
            prefix: prefix.to_owned(),
            told: Mutex::default(),
            deaf: Mutex::default(),
        })))
    }

    /// Whether it can be used: connected to within a second, written to and told something by a script, and listened to.
    ///
    /// # Errors
    /// Why not.
    pub async fn check(&self) -> Result<(), RedisProblem> {
        self.check_script().await?;
        match *self.0.deaf.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(problem) => Err(problem),
            None => Ok(()),
        }
    }

    /// The part of it that workers cannot do without: what they are not told they look for themselves.
    async fn check_script(&self) -> Result<(), RedisProblem> {
        // As nudges do: a user who may only set keys is of no use.
        let mut probe = PROBE.prepare_invoke();
        probe.key(format!("{}probe", self.0.prefix)).arg(self.channel()).arg(crate::bus::Message::Hello.to_string());
        let done = timeout(CHECK_WITHIN, probe.invoke_async::<()>(&mut self.link())).await;
        done.unwrap_or(Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()))
            .map_err(|error| RedisProblem::of(&error))
    }

    /// Notes whether the bus is heard: why it is not, or that it is.
    pub(crate) fn note_deaf(&self, problem: Option<RedisProblem>) {
        *self.0.deaf.lock().unwrap_or_else(PoisonError::into_inner) = problem;
    }

    /// How many jobs of each kind are queued, by name. At most one question a kind.
    ///
    /// # Errors
    /// Why it cannot be told.
    pub async fn queued(&self, jobs: &[&'static str]) -> Result<Vec<(&'static str, u64)>, RedisProblem> {
        let mut pipe = redis::pipe();
        for job in jobs {
            pipe.llen(self.config(job).active_jobs_list());
        }
        let asked = timeout(CHECK_WITHIN, pipe.query_async::<Vec<u64>>(&mut self.link())).await;
        let lengths = asked.map_err(|_| RedisProblem::Away)?.map_err(|error| RedisProblem::of(&error))?;
        Ok(jobs.iter().copied().zip(lengths).collect())
    }

    pub(crate) fn link(&self) -> Link {
        self.0.link.clone()
    }

    /// The channel of the bus.
    pub(crate) fn channel(&self) -> String {
        format!("{}bus", self.0.prefix)
    }

    /// Makes the worker of this kind of job look at once.
    pub(crate) fn wake(&self, job: &str) {
        let told = self.0.told.lock().unwrap_or_else(PoisonError::into_inner).get(job).cloned();
        if let Some(told) = told {
            told.tell();
        }
    }

    /// Where the worker of a kind of job hears that one waits.
    fn told(&self, job: &str) -> Arc<Told> {
        let mut told = self.0.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.entry(job.to_owned()).or_default().clone()
    }

    fn nudge_prefix(&self, job: &str) -> String {
        format!("{}nudge:{job}:", self.0.prefix)
    }

    /// Says that a worker lives, for a while.
    fn sign_of_life(&self, worker: &str) -> String {
        format!("{}worker:{worker}", self.0.prefix)
    }

    /// apalis-redis' names and settings for the queue of a kind of job.
    fn config(&self, job: &str) -> Config {
        Config::default()
            .queue(format!("{}queue:{job}", self.0.prefix))
            .batch_size(1)
            .lock_tasks(false)
            .emit_events(false)
            .persist_results(false)
            .heartbeat_interval(Duration::from_secs(5))
            // Ten years: never, whatever the clocks of two hosts say.
            .missed_heartbeats(63_072_000)
    }

    /// Queues the jobs of these keys, but for those that are queued already and those for which there is no room. Gives
    /// how many.
    async fn nudge<K: JobKey>(&self, job: &str, keys: &[K]) -> Result<usize, RedisError> {
        let config = self.config(job);
        let mut nudge = NUDGE.prepare_invoke();
        nudge
            .key(config.active_jobs_list())
            .key(config.scheduled_jobs_set())
            .key(config.job_data_hash())
            .arg(MAX_QUEUED)
            .arg(u64::try_from(NUDGED_FOR.as_millis()).unwrap_or(u64::MAX))
            .arg(self.nudge_prefix(job))
            .arg(state_prefix(&config))
            .arg(self.channel())
            .arg(crate::bus::Message::Queued(job.to_owned()).to_string());
        for key in keys {
            let text = key.to_text();
            let data = serde_json::Value::from(text.as_str()).to_string();
            // A letter first: no number and no other kind of id, so that it stays as it is.
            nudge.arg(text).arg(format!("n{:032x}", rand::random::<u128>())).arg(data);
        }
        nudge.invoke_async(&mut self.link()).await
    }
}

/// What the state of a job is called, without the job's id.
fn state_prefix(config: &Config) -> String {
    format!("{}:", config.job_meta_hash())
}

static PROBE: LazyLock<Script> = LazyLock::new(|| {
    Script::new("redis.call('SET', KEYS[1], '1', 'PX', 1000) return redis.call('PUBLISH', ARGV[1], ARGV[2])")
});
static NUDGE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("nudge.lua")));

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis").field("prefix", &self.0.prefix).finish_non_exhaustive()
    }
}
