//! The endpoints of one chain: which one to ask, and what came of it.
//!
//! Each is scored by health, latency, lag and lies. Whoever reads the chain binds one step to one endpoint; when that
//! fails, the next one takes over. An endpoint that lied or is of another chain is in quarantine for a time that grows. It
//! is never chosen before that is over. A sole endpoint rests too, so that no nudge hammers one that asks for fewer
//! requests, but for seconds only, unless it asks for more itself: nobody else can answer, every answer is checked
//! anyhow, and a node that is back has to be found soon.

mod batch_size;
mod headers;
mod standing;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cryptopay_domain::registry::FinalityTag;

use crate::{ChainClient, ChainError, Tip, Traffic, Witness};

pub use batch_size::BatchSize;
use standing::{Rest, Standing};

/// Shortest and longest patience with an endpoint while another one could answer instead.
const PATIENCE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(2));
/// How much cheaper another endpoint has to be before it is taken instead of the one in use, in milliseconds.
const STICKINESS_MS: u64 = 250;

/// One endpoint with its standing.
#[derive(Debug)]
pub struct Endpoint {
    name: String,
    client: Arc<dyn ChainClient>,
    standing: Mutex<Standing>,
    /// Blocks of a log query, and parallel queries.
    pub batch_size: BatchSize,
}

/// What can be told about an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointHealth {
    /// Scheme, host and port of its URL.
    pub name: String,
    /// `ok`, `resting`, `quarantined` or `wrong_chain`.
    pub state: &'static str,
    /// What was wrong the last time.
    pub problem: Option<String>,
    /// Newest block that it has shown.
    pub head: Option<u64>,
    /// How long it takes to answer, on average.
    pub latency: Option<Duration>,
    /// What it was asked.
    pub traffic: Traffic,
}

/// The endpoints of one chain, most trusted first.
#[derive(Debug)]
pub struct Endpoints {
    chain_id: u64,
    list: Vec<Endpoint>,
    /// Which one was taken last.
    current: AtomicUsize,
}

impl Endpoints {
    /// Endpoints of the chain with this id, by the names that logs call them.
    pub fn new(chain_id: u64, endpoints: impl IntoIterator<Item = (String, Arc<dyn ChainClient>)>) -> Self {
        let endpoints: Vec<_> = endpoints.into_iter().collect();
        let standing = if endpoints.len() > 1 { Standing::default() } else { Standing::of_sole() };
        let list = endpoints
            .into_iter()
            .map(|(name, client)| Endpoint {
                name,
                client,
                standing: Mutex::new(standing.clone()),
                batch_size: BatchSize::default(),
            })
            .collect();
        Self { chain_id, list, current: AtomicUsize::new(0) }
    }

    /// Every endpoint, in its configured order.
    pub fn iter(&self) -> impl Iterator<Item = &Endpoint> {
        self.list.iter()
    }

    /// Whether a second one could be asked at all.
    pub fn are_several(&self) -> bool {
        self.list.len() > 1
    }

    /// The endpoint to read from now, among those that were not `tried` already.
    pub fn choose(&self, now: Instant, tried: &[String]) -> Option<&Endpoint> {
        let chosen = self.best(now, self.list.get(self.current.load(Ordering::Relaxed)), tried)?;
        if let Some(index) = self.list.iter().position(|endpoint| std::ptr::eq(endpoint, chosen)) {
            self.current.store(index, Ordering::Relaxed);
        }
        Some(chosen)
    }

    /// Whether one could be chosen that was not `tried`.
    pub fn are_left(&self, now: Instant, tried: &[String]) -> bool {
        self.best(now, None, tried).is_some()
    }

    /// Another endpoint that may be asked: for a second opinion.
    pub fn second(&self, now: Instant, first: &Endpoint) -> Option<&Endpoint> {
        self.best(now, None, std::slice::from_ref(&first.name))
    }

    /// An endpoint other than `first` that has not been asked for its newest block for `since`, and may be.
    pub fn unasked(&self, now: Instant, first: &Endpoint, since: Duration) -> Option<&Endpoint> {
        let others = self.list.iter().filter(|endpoint| endpoint.name != first.name);
        others.into_iter().find(|other| {
            let standing = other.standing();
            standing.is_usable(now) && standing.is_unasked(now, since)
        })
    }

    /// How long until some endpoint may be asked, where none may now.
    pub fn wait(&self, now: Instant) -> Duration {
        let soonest = self.list.iter().filter_map(|endpoint| endpoint.standing().usable_at()).min();
        soonest.map_or(Duration::ZERO, |at| at.saturating_duration_since(now))
    }

    /// Does as if this much time had passed for every endpoint: for tests, which do not wait until one has rested.
    pub fn pass(&self, time: Duration) {
        self.list.iter().for_each(|endpoint| {
            endpoint.standing().pass(time);
            endpoint.batch_size.pass(time);
        });
    }

    /// What can be told about each.
    pub fn health(&self, now: Instant) -> Vec<EndpointHealth> {
        self.list.iter().map(|endpoint| endpoint.health(now)).collect()
    }

    /// What is wrong with some while others serve, in words.
    pub fn faults(&self, now: Instant) -> Option<String> {
        if !self.are_several() {
            return None;
        }
        let faults: Vec<String> = self
            .list
            .iter()
            .filter_map(|endpoint| {
                let standing = endpoint.standing();
                let rest = standing.resting(now).filter(|rest| matches!(rest, Rest::Lied | Rest::Foreign))?;
                let word = if rest == Rest::Lied { "is in quarantine" } else { "is not used" };
                Some(format!("{} {word}: {}", endpoint.name, standing.problem().unwrap_or("it is not trusted")))
            })
            .collect();
        (!faults.is_empty()).then(|| faults.join("; "))
    }

    /// Asks an endpoint who it is and for its newest block; one of another chain is refused. While `others` could be
    /// asked instead, it is not waited for long.
    ///
    /// # Errors
    /// Why there is no answer that counts; the endpoint's standing knows.
    pub async fn tip(&self, endpoint: &Endpoint, tag: Option<FinalityTag>, hurry: Hurry) -> Result<Tip, ChainError> {
        let patience = match hurry {
            Hurry::OthersWait => endpoint.patience(PATIENCE.0),
            Hurry::None => Duration::MAX,
        };
        let tip = endpoint
            .ask(within(patience, async {
                let tip = endpoint.client.tip(tag).await?;
                self.identify(tip.chain_id)?;
                Ok(tip)
            }))
            .await;
        endpoint.standing().showed(Instant::now(), tip.as_ref().ok().map(|tip| tip.head.number));
        tip
    }

    /// Asks an endpoint which blocks it holds at these heights; one of another chain is refused.
    ///
    /// # Errors
    /// Why there is no answer that counts; the endpoint's standing knows.
    pub async fn witness(&self, endpoint: &Endpoint, numbers: &[u64]) -> Result<Witness, ChainError> {
        endpoint
            .ask(async {
                let witness = endpoint.client.witness(numbers).await?;
                self.identify(witness.chain_id)?;
                Ok(witness)
            })
            .await
    }

    /// The same, and not waited for longer than for an endpoint that usually takes so long, and at least for `least`: for a
    /// second opinion, which somebody waits for who has a first.
    ///
    /// # Errors
    /// Why there is no answer that counts; the endpoint's standing knows.
    pub async fn witness_soon(
        &self,
        endpoint: &Endpoint,
        numbers: &[u64],
        least: Duration,
    ) -> Result<Witness, ChainError> {
        let question = async {
            let witness = endpoint.client.witness(numbers).await?;
            self.identify(witness.chain_id)?;
            Ok(witness)
        };
        endpoint.ask_soon(least, question).await
    }

    /// Whether another endpoint than `first` may be asked now, or could be in a moment.
    pub fn is_another_near(&self, now: Instant, first: &Endpoint) -> bool {
        self.list.iter().any(|endpoint| endpoint.name != first.name && endpoint.standing().is_near(now))
    }

    /// An endpoint that may be asked and was not `tried` already.
    pub fn untried(&self, now: Instant, tried: &[String]) -> Option<&Endpoint> {
        self.best(now, None, tried)
    }

    pub(crate) fn identify(&self, found: u64) -> Result<(), ChainError> {
        if found == self.chain_id { Ok(()) } else { Err(ChainError::WrongChain { expected: self.chain_id, found }) }
    }

    fn best<'a>(&'a self, now: Instant, current: Option<&'a Endpoint>, tried: &[String]) -> Option<&'a Endpoint> {
        // Only of those that are trusted: a head that one in quarantine made up would make all others seem to lag.
        let usable = || self.list.iter().filter(|endpoint| endpoint.standing().is_usable(now));
        let freshest = usable().filter_map(|endpoint| endpoint.standing().head()).max().unwrap_or(0);
        usable().filter(|endpoint| !tried.contains(&endpoint.name)).min_by_key(|endpoint| {
            let cost = endpoint.standing().cost(freshest);
            let in_use = current.is_some_and(|current| std::ptr::eq(current, *endpoint));
            if in_use { cost.saturating_sub(STICKINESS_MS) } else { cost }
        })
    }
}

/// Whether others could answer instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hurry {
    /// They could: a slow answer is no answer.
    OthersWait,
    /// They could not.
    None,
}

impl Endpoint {
    /// What logs call it: of a URL, no more than scheme, host and port.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is asked through.
    pub fn client(&self) -> &dyn ChainClient {
        &*self.client
    }

    /// Whether it may be asked now.
    pub fn is_usable(&self, now: Instant) -> bool {
        self.standing().is_usable(now)
    }

    /// How long it may take over a step that usually takes it much less, and never less than `least`.
    pub fn patience(&self, least: Duration) -> Duration {
        let usual = self.standing().latency();
        usual.map_or(PATIENCE.1, |usual| usual.saturating_mul(4).min(PATIENCE.1)).max(least)
    }

    /// Asks it, and remembers how it did.
    ///
    /// # Errors
    /// What the question failed with.
    pub async fn ask<T>(&self, question: impl Future<Output = Result<T, ChainError>>) -> Result<T, ChainError> {
        let began = Instant::now();
        let answer = question.await;
        let now = Instant::now();
        match &answer {
            Ok(_) => self.standing().answered(now, now.saturating_duration_since(began)),
            // The error is about the width of the question, which the caller narrows.
            Err(error) if error.is_about_width() => {}
            Err(error) => self.failed(now, error),
        }
        answer
    }

    /// The same, and gives up what takes longer than it usually does, and at least `least`.
    ///
    /// # Errors
    /// What the question failed with.
    pub async fn ask_soon<T>(
        &self,
        least: Duration,
        question: impl Future<Output = Result<T, ChainError>>,
    ) -> Result<T, ChainError> {
        self.ask(within(self.patience(least), question)).await
    }

    /// Asks it about several blocks. A failure that may depend on their number is no fault of the endpoint, except for a
    /// single block. With `patience` the answer is given up that takes longer than usual, and at least that long.
    ///
    /// # Errors
    /// The failure; [`ChainError::RangeFailed`] where a narrower query may be answered.
    pub async fn ask_range<T>(
        &self,
        blocks: u64,
        patience: Option<Duration>,
        question: impl Future<Output = Result<T, ChainError>>,
    ) -> Result<T, ChainError> {
        let patience = patience.map_or(Duration::MAX, |least| self.patience(least));
        let bounded = within(patience, question);
        self.ask(async { bounded.await.map_err(|error| error.of_range(blocks)) }).await
    }

    /// Notes that what it said cannot be used, though the answer by itself was one.
    pub fn refused(&self, error: &ChainError) {
        self.failed(Instant::now(), error);
    }

    /// What another endpoint's answer, or the chain itself, has shown to be untrue.
    pub fn contradicted(&self, what: impl Into<String>) {
        self.failed(Instant::now(), &ChainError::Untrue { method: "eth_getLogs", what: what.into() });
    }

    fn failed(&self, now: Instant, error: &ChainError) {
        let mut standing = self.standing();
        let before = standing.resting(now);
        standing.failed(now, error, rand::random());
        if matches!(error, ChainError::RateLimited { .. }) {
            self.batch_size.rate_limited(now);
        }
        let after = standing.resting(now);
        drop(standing);
        if before != after && matches!(after, Some(Rest::Lied | Rest::Foreign)) {
            tracing::error!(endpoint = self.name, %error, "the endpoint is not used until it is trusted again");
        }
    }

    fn health(&self, now: Instant) -> EndpointHealth {
        let standing = self.standing();
        EndpointHealth {
            name: self.name.clone(),
            state: match standing.resting(now) {
                None => "ok",
                Some(Rest::BackOff | Rest::Asked) => "resting",
                Some(Rest::Lied) => "quarantined",
                Some(Rest::Foreign) => "wrong_chain",
            },
            problem: standing.problem().map(str::to_owned),
            head: standing.head(),
            latency: standing.latency(),
            traffic: self.client.traffic(),
        }
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives a question up that takes too long.
async fn within<T>(patience: Duration, question: impl Future<Output = Result<T, ChainError>>) -> Result<T, ChainError> {
    if patience == Duration::MAX {
        return question.await;
    }
    let timed_out = |_| Err(ChainError::TimedOut { after: patience });
    tokio::time::timeout(patience, question).await.unwrap_or_else(timed_out)
}

#[cfg(test)]
mod tests;
