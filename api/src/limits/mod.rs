//! How much anybody may ask of the gateway: requests an hour of a merchant's plan, requests of strangers by their address,
//! failed logins, registrations.
//!
//! [`around`] counts each request once, before anything else is done for it, and adds the `X-RateLimit-…` headers to its
//! answer, whatever that is. What is refused changes nothing, in the database and in the counts alike; what fails to
//! authenticate is counted for the address it came from, never for the merchant it names. Operations that have limits of
//! their own (logging in, registering) ask the request's [`Visit`].
//!
//! Counts live in Redis (`shared`), so that all processes hold a limit together, or in this process (`local`) where no
//! Redis is set or Redis is away: a limit may then be exceeded by as many processes as there are, but no request fails
//! for it, and none waits more than a quarter of a second once. Windows follow the real clock, never the sandbox's.
//!
//! | file | holds |
//! |---|---|
//! | `bucket.rs` | what is counted, and the numbers of the contract |
//! | `local.rs`, `shared.rs` with `take.lua` | where it is counted |
//! | `held.rs` | permits that a process under load takes several of at once |
//! | `client.rs`, `forwarded.rs` | whose address a request comes from |
//! | `delay.rs` | logins that wait, since many of their account have failed |
//! | `routes.rs` | which requests are counted for whom |
//! | `around.rs`, `visit.rs` | a request and its counts |

mod around;
mod bucket;
mod client;
mod delay;
mod forwarded;
mod held;
mod local;
mod routes;
mod shared;
#[cfg(test)]
mod tests;
mod visit;

use std::sync::Arc;

pub(crate) use around::around;
pub use bucket::{Bucket, Standing};
pub(crate) use client::{Client, Network};
pub use shared::LimitsUrlError;
pub use visit::Visit;
pub(crate) use visit::used_up;

use bucket::{Change, Outcome};
use delay::Delayed;
pub(crate) use delay::Sleep;
use local::Local;
use shared::Shared;

use crate::error::{ApiError, ErrorCode};
use crate::metrics;

/// Counts requests. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Limiter(Arc<Places>);

#[derive(Debug)]
struct Places {
    shared: Option<Shared>,
    local: Local,
    /// Tells the seconds since 1970, for counts in this process.
    clock: fn() -> u64,
    /// Ends after a while.
    sleep: Sleep,
    delayed: Delayed,
}

impl Limiter {
    /// Counts in this process alone.
    pub fn embedded() -> Self {
        Self::embedded_by(real_now)
    }

    /// The same by another clock, which tells the seconds since 1970.
    pub(crate) fn embedded_by(clock: fn() -> u64) -> Self {
        Self::embedded_with(clock, Sleep::real())
    }

    /// The same with another way to pass time.
    pub(crate) fn embedded_with(clock: fn() -> u64, sleep: Sleep) -> Self {
        Self(Arc::new(Places { shared: None, local: Local::default(), clock, sleep, delayed: Delayed::default() }))
    }

    /// Counts in the Redis at `url`, under `prefix`. Does not connect yet.
    ///
    /// # Errors
    /// If the URL is none.
    pub fn shared(url: &str, prefix: &str) -> Result<Self, LimitsUrlError> {
        let shared = Some(Shared::new(url, prefix)?);
        let (sleep, delayed) = (Sleep::real(), Delayed::default());
        Ok(Self(Arc::new(Places { shared, local: Local::default(), clock: real_now, sleep, delayed })))
    }

    /// Counts one, if there is room.
    ///
    /// # Errors
    /// How a bucket stands that is full; nothing was counted.
    pub async fn take(&self, bucket: Bucket) -> Result<Standing, Standing> {
        let outcome = self.apply(&[bucket], Change::Take).await;
        // There are as many standings as buckets.
        let standing = outcome.standings.first().copied().unwrap_or_else(|| bucket.standing(0, 0, 0));
        if outcome.full.is_some() { Err(standing) } else { Ok(standing) }
    }

    /// Counts several, if there is room for all of them. `None` for none.
    ///
    /// # Errors
    /// How a bucket stands that is full; nothing was counted.
    pub async fn take_several(&self, bucket: Bucket, many: usize) -> Result<Option<Standing>, Standing> {
        let mut last = None;
        for taken in 0..many {
            match self.take(bucket).await {
                Ok(standing) => last = Some(standing),
                Err(_) => {
                    for _ in 0..taken {
                        self.apply(&[bucket], Change::GiveBack).await;
                    }
                    return Err(self.look(bucket).await);
                }
            }
        }
        Ok(last)
    }

    /// How a bucket stands.
    pub async fn look(&self, bucket: Bucket) -> Standing {
        let outcome = self.apply(&[bucket], Change::Look).await;
        outcome.standings.first().copied().unwrap_or_else(|| bucket.standing(0, 0, 0))
    }

    async fn apply(&self, buckets: &[Bucket], change: Change) -> Outcome {
        if buckets.is_empty() {
            return Outcome { full: None, standings: Vec::new() };
        }
        if let Some(shared) = &self.0.shared {
            if let Some(outcome) = shared.apply(buckets, change).await {
                return outcome;
            }
            metrics::counted_locally();
        }
        self.0.local.apply(buckets, change, (self.0.clock)())
    }
}

/// The answer to a request that one of these limits refuses. `whose` says what there was too much of, `mend` what else can
/// be done than to wait.
fn refusal(standing: Standing, whose: &str, mend: &str) -> ApiError {
    let wait = match standing.ends_in {
        1 => "a second".to_owned(),
        secs @ 2..=119 => format!("{secs} seconds"),
        secs => format!("{} minutes", secs.div_ceil(60)),
    };
    let message = format!("{whose} Send it again in {wait}{mend}");
    ApiError { retry_after_secs: Some(standing.ends_in), ..ApiError::new(ErrorCode::RateLimited, message) }
}

/// Seconds since 1970.
#[expect(clippy::disallowed_methods, reason = "limits follow the real clock, in one place")]
fn real_now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs()
}
