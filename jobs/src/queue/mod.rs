//! Who should do what next. A queue holds keys only (a chain, an endpoint): losing one costs a moment, because the sweep
//! finds in the database whatever was not nudged.
//!
//! Every process has a [`KeyedQueue`] for each kind of job, and a nudge is a push into one of them: it never waits and
//! cannot fail. Where one process does everything, its workers take the keys from there. Where processes share Redis, a
//! forwarder passes each key on when it is due (`shared/`), so that delays keep the precision of this process's clock.

mod embedded;
mod keyed;
pub(crate) mod shared;
mod worker;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use cryptopay_domain::ids::EndpointId;
use cryptopay_ledger::{DeliveryKey, Nudges};
use tokio::sync::Notify;

pub use keyed::{KeyedQueue, Taken};
pub use shared::{Redis, RedisProblem, RedisUrlError};
pub(crate) use worker::Job;

/// The queues of the process. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Queue {
    pub(crate) scans: KeyedQueue<String>,
    pub(crate) confirmations: KeyedQueue<String>,
    pub(crate) deliveries: KeyedQueue<DeliveryKey>,
    pub(crate) unpublished: Arc<Notify>,
    redis: Option<Redis>,
}

impl Queue {
    /// Queues inside this process, for one process that does everything.
    pub fn embedded() -> Self {
        Self::default()
    }

    /// Queues that several processes share.
    pub fn shared(redis: Redis) -> Self {
        Self { redis: Some(redis), ..Self::default() }
    }

    /// What the queues are shared through, if they are.
    pub fn redis(&self) -> Option<&Redis> {
        self.redis.as_ref()
    }

    /// Passes on what a committed transaction has left to do. Never waits.
    pub fn nudge(&self, nudges: Nudges) {
        if nudges.events {
            self.unpublished.notify_one();
        }
        for chain in nudges.chains {
            tracing::debug!(job = "scan_chain", key = chain, "committed");
            self.scans.push(chain);
        }
        for key in nudges.deliveries {
            tracing::debug!(job = "deliver_webhooks", key = key.to_text(), "committed");
            self.deliveries.push(key);
        }
    }

    /// How many keys wait for each job: in Redis, or those of this process, which are due later included.
    pub(crate) async fn lengths(&self) -> Vec<(&'static str, u64)> {
        const JOBS: [&str; 3] = ["scan_chain", "confirm_payments", "deliver_webhooks"];
        if let Some(redis) = &self.redis {
            return redis.queued(&JOBS).await.unwrap_or_default();
        }
        let lengths = [self.scans.len(), self.confirmations.len(), self.deliveries.len()];
        JOBS.into_iter().zip(lengths.map(|length| u64::try_from(length).unwrap_or(u64::MAX))).collect()
    }

    /// Asks for a look at a chain now.
    pub fn scan(&self, chain: &str) {
        self.scans.push(chain.to_owned());
    }

    /// Asks for a look at a chain after `delay`.
    pub(crate) fn scan_after(&self, chain: &str, delay: Duration) {
        self.scans.push_after(chain.to_owned(), delay);
    }
}

/// What a job is about, as a key in memory and as text in Redis.
pub(crate) trait JobKey: Ord + Clone + Send + Sync + fmt::Debug + 'static {
    /// The text.
    fn to_text(&self) -> String;
    /// Reads it back; `None` for what no process of ours has written.
    fn parse(text: &str) -> Option<Self>;
}

/// Longest key that is read: an origin of the longest URL that is accepted, and room.
const MAX_KEY_BYTES: usize = 4_096;

/// A chain's slug.
impl JobKey for String {
    fn to_text(&self) -> String {
        self.clone()
    }

    fn parse(text: &str) -> Option<Self> {
        (!text.is_empty() && text.len() <= MAX_KEY_BYTES).then(|| text.to_owned())
    }
}

impl JobKey for DeliveryKey {
    fn to_text(&self) -> String {
        format!("{}|{}", self.endpoint.0, self.origin)
    }

    fn parse(text: &str) -> Option<Self> {
        let (endpoint, origin) = text.split_once('|').filter(|_| text.len() <= MAX_KEY_BYTES)?;
        Some(Self { endpoint: EndpointId(endpoint.parse().ok()?), origin: origin.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_the_way_through_redis_and_what_is_none_is_refused() {
        for origin in ["", "https://shop.example:8443", "http://[::1]|odd"] {
            let key = DeliveryKey { endpoint: EndpointId(17), origin: origin.to_owned() };
            assert_eq!(DeliveryKey::parse(&key.to_text()), Some(key));
        }
        assert_eq!(String::parse("base"), Some("base".to_owned()));
        for text in ["", "17", "x|https://shop.example", &format!("1|{}", "x".repeat(MAX_KEY_BYTES))] {
            assert_eq!(DeliveryKey::parse(text), None);
        }
        assert_eq!(String::parse(""), None);
    }
}
