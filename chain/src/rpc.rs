//! Calls and batches: one packet out, one answer for each call back, every failure a [`ChainError`].

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use alloy::rpc::json_rpc::{ErrorPayload, Id, Request, RequestPacket, Response, ResponsePacket, ResponsePayload};
use alloy::transports::BoxTransport;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;
use tower::Service;

use crate::classify::{classify, shorten};
use crate::metrics::Meter;
use crate::{ChainError, Traffic};

/// One JSON-RPC call.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) method: &'static str,
    pub(crate) params: Value,
}

/// Most calls of a batch. An endpoint that refused a larger one is asked for no more for an hour.
#[derive(Debug)]
struct BatchLimit {
    most: usize,
    lowered: Mutex<Option<(usize, Instant)>>,
}

/// Validity of a lowered limit: a passing fault must not cost batches for good.
const LOWERED_FOR: Duration = Duration::from_secs(3_600);

impl BatchLimit {
    fn new(most: usize) -> Self {
        Self { most, lowered: Mutex::new(None) }
    }

    fn calls(&self, now: Instant) -> usize {
        let lowered = *self.lowered.lock().unwrap_or_else(PoisonError::into_inner);
        let is_valid = |at: Instant| now.saturating_duration_since(at) < LOWERED_FOR;
        lowered.filter(|(_, at)| is_valid(*at)).map_or(self.most, |(calls, _)| calls.min(self.most))
    }

    fn lower(&self, calls: usize, now: Instant) {
        *self.lowered.lock().unwrap_or_else(PoisonError::into_inner) = Some((calls, now));
    }
}

/// The line to one endpoint.
pub(crate) struct Rpc {
    transport: BoxTransport,
    secrets: Vec<String>,
    timeout: Duration,
    batch_limit: BatchLimit,
    next_id: AtomicU64,
    requests: AtomicU64,
    failures: AtomicU64,
    meter: Meter,
}

impl Rpc {
    pub(crate) fn new(
        name: &str,
        transport: BoxTransport,
        secrets: Vec<String>,
        timeout: Duration,
        most_calls: usize,
    ) -> Self {
        Self {
            transport,
            secrets,
            timeout,
            batch_limit: BatchLimit::new(most_calls),
            next_id: AtomicU64::new(1),
            requests: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            meter: Meter::new(name),
        }
    }

    /// Most calls that the endpoint takes in one batch, as far as it is known.
    pub(crate) fn most_calls(&self) -> usize {
        self.batch_limit.calls(Instant::now())
    }

    /// What was asked so far.
    pub(crate) fn traffic(&self) -> Traffic {
        Traffic {
            requests: self.requests.load(Ordering::Relaxed),
            calls: self.next_id.load(Ordering::Relaxed).saturating_sub(1),
            failures: self.failures.load(Ordering::Relaxed),
        }
    }

    /// The answer to one call.
    pub(crate) async fn one(&self, method: &'static str, params: Value) -> Result<Box<RawValue>, ChainError> {
        let mut answers = self.sent(&[Call { method, params }]).await?;
        answers.pop().ok_or_else(|| malformed(method, "there is none"))?
    }

    /// The answers to many calls, in their order. Calls that belong together (`group` of them, one after the other) travel
    /// in one batch where the endpoint takes batches; no batch holds more than `most` calls. The first failed call fails all.
    pub(crate) async fn grouped(
        &self,
        calls: &[Call],
        group: usize,
        most: usize,
    ) -> Result<Vec<Box<RawValue>>, ChainError> {
        self.each_grouped(calls, group, most).await?.into_iter().collect()
    }

    /// The same; each call has an answer or an error of its own.
    pub(crate) async fn each_grouped(
        &self,
        calls: &[Call],
        group: usize,
        most: usize,
    ) -> Result<Vec<Result<Box<RawValue>, ChainError>>, ChainError> {
        let mut answers = Vec::with_capacity(calls.len());
        let mut rest = calls;
        let (mut most, mut is_refused) = (self.most_calls().min(most), false);
        while !rest.is_empty() {
            let groups = most.checked_div(group).unwrap_or(1).max(1);
            let (now, later) = rest.split_at(groups.saturating_mul(group).min(rest.len()));
            let sent = if now.len() > group { self.sent(now).await } else { self.each(now).await };
            match sent {
                Ok(batch) => {
                    answers.extend(batch);
                    rest = later;
                }
                Err(error) if now.len() > group && error.is_about_batch() => {
                    most = now.len() / 2;
                    is_refused = true;
                }
                Err(ChainError::BodyTooLarge { .. }) if now.len() > group => most = now.len() / 2,
                Err(error) => return Err(error),
            }
        }
        if is_refused && answers.iter().all(Result::is_ok) {
            self.batch_limit.lower(most.max(1), Instant::now());
        }
        Ok(answers)
    }

    /// Each call has an answer or an error of its own. An endpoint that refuses the batch is asked in smaller ones, and at
    /// last for one call at a time.
    pub(crate) async fn each(&self, calls: &[Call]) -> Result<Vec<Result<Box<RawValue>, ChainError>>, ChainError> {
        let mut answers = Vec::with_capacity(calls.len());
        let mut rest = calls;
        let (mut most, mut is_refused) = (self.most_calls().max(1), false);
        while !rest.is_empty() {
            let (now, later) = rest.split_at(most.min(rest.len()));
            match self.sent(now).await {
                Ok(batch) => answers.extend(batch),
                Err(error) if now.len() > 1 && error.is_about_batch() => {
                    most = now.len() / 2;
                    is_refused = true;
                    continue;
                }
                // The others may be answered.
                Err(error) if calls.len() > 1 && now.len() == 1 && error.is_about_batch() => answers.push(Err(error)),
                Err(error) => return Err(error),
            }
            rest = later;
        }
        // A call that fails by itself proves no limit of the batches.
        if is_refused && answers.iter().all(Result::is_ok) {
            self.batch_limit.lower(most, Instant::now());
        }
        Ok(answers)
    }

    /// Sends one packet.
    async fn sent(&self, calls: &[Call]) -> Result<Vec<Result<Box<RawValue>, ChainError>>, ChainError> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let started = Instant::now();
        let answers = self.packet(calls).await;
        let failure = match &answers {
            Ok(answers) => answers.iter().find_map(|answer| answer.as_ref().err()),
            Err(error) => Some(error),
        };
        if failure.is_some() {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
        self.meter.note(calls, started.elapsed(), failure);
        if let Some(ChainError::BatchTooLarge { calls }) = failure {
            return Err(ChainError::BatchTooLarge { calls: *calls });
        }
        answers
    }

    async fn packet(&self, calls: &[Call]) -> Result<Vec<Result<Box<RawValue>, ChainError>>, ChainError> {
        let mut ids = Vec::with_capacity(calls.len());
        let mut requests = Vec::with_capacity(calls.len());
        for call in calls {
            let id = Id::Number(self.next_id.fetch_add(1, Ordering::Relaxed));
            let request = Request::new(call.method, id.clone(), &call.params)
                .serialize()
                .map_err(|error| malformed(call.method, &error.to_string()))?;
            ids.push(id);
            requests.push(request);
        }
        let first = calls.first().map_or("a request", |call| call.method);
        let packet = match <[_; 1]>::try_from(requests) {
            Ok([request]) => RequestPacket::Single(request),
            Err(requests) => RequestPacket::Batch(requests),
        };
        let responses = match self.send(packet).await.map_err(|error| named(error, first))? {
            // One answer to many calls: it is about the batch, whichever call it names.
            ResponsePacket::Single(Response { payload: ResponsePayload::Failure(failure), .. }) if calls.len() > 1 => {
                return Err(self.batch_failure(first, calls.len(), &failure));
            }
            ResponsePacket::Single(_) if calls.len() > 1 => {
                return Err(ChainError::BatchTooLarge { calls: calls.len() });
            }
            ResponsePacket::Single(response) => vec![response],
            ResponsePacket::Batch(responses) => responses,
        };
        let mut by_id: HashMap<Id, ResponsePayload> = HashMap::with_capacity(responses.len());
        for Response { id, payload } in responses {
            match payload {
                // A node that refuses the packet as a whole names no call.
                ResponsePayload::Failure(failure) if !ids.contains(&id) => {
                    return Err(self.batch_failure(first, calls.len(), &failure));
                }
                ResponsePayload::Success(_) if !ids.contains(&id) => {
                    return Err(malformed(first, "it has an id that we never sent"));
                }
                payload => {
                    if by_id.insert(id, payload).is_some() {
                        return Err(malformed(first, "one id has two answers"));
                    }
                }
            }
        }
        let mut answers = Vec::with_capacity(calls.len());
        for (call, id) in calls.iter().zip(&ids) {
            match by_id.remove(id) {
                Some(ResponsePayload::Success(answer)) => answers.push(Ok(answer)),
                Some(ResponsePayload::Failure(failure)) => {
                    answers.push(Err(self.failure(call.method, calls.len(), &failure)));
                }
                None => return Err(malformed(call.method, "it is missing from the batch")),
            }
        }
        Ok(answers)
    }

    async fn send(&self, packet: RequestPacket) -> Result<ResponsePacket, ChainError> {
        let mut transport = self.transport.clone();
        let exchange = async move {
            poll_fn(|context| transport.poll_ready(context)).await?;
            transport.call(packet).await
        };
        match tokio::time::timeout(self.timeout, exchange).await {
            Ok(answer) => answer.map_err(ChainError::from),
            Err(_) => Err(ChainError::TimedOut { after: self.timeout }),
        }
    }

    /// An error for a whole packet. Of a batch it says no more than that the batch is refused, unless it asks to wait.
    fn batch_failure(&self, first: &'static str, calls: usize, payload: &ErrorPayload) -> ChainError {
        match self.failure(first, calls, payload) {
            error @ (ChainError::RateLimited { .. } | ChainError::QuotaUsed) => error,
            _ if calls > 1 => ChainError::BatchTooLarge { calls },
            error => error,
        }
    }

    fn failure(&self, method: &'static str, calls: usize, payload: &ErrorPayload) -> ChainError {
        let mut words = payload.message.to_string();
        for secret in &self.secrets {
            words = words.replace(secret.as_str(), "***");
        }
        classify(method, calls, payload, &words)
    }
}

/// Reads an answer into its type.
pub(crate) fn parse<T: DeserializeOwned>(method: &'static str, answer: &RawValue) -> Result<T, ChainError> {
    serde_json::from_str(answer.get()).map_err(|error| malformed(method, &error.to_string()))
}

/// Reads a list, of which some nodes write the empty one as `null`.
pub(crate) fn parse_list<T: DeserializeOwned>(method: &'static str, answer: &RawValue) -> Result<Vec<T>, ChainError> {
    parse::<Option<Vec<T>>>(method, answer).map(Option::unwrap_or_default)
}

/// The same for a field of an answer.
pub(crate) fn null_as_empty<'de, D: Deserializer<'de>, T: Deserialize<'de>>(field: D) -> Result<Vec<T>, D::Error> {
    Option::<Vec<T>>::deserialize(field).map(Option::unwrap_or_default)
}

/// Whether the node answered that there is no such thing.
pub(crate) fn is_null(answer: &RawValue) -> bool {
    answer.get() == "null"
}

pub(crate) fn malformed(method: &'static str, reason: &str) -> ChainError {
    ChainError::Malformed { method, reason: shorten(reason) }
}

pub(crate) fn untrue(method: &'static str, what: impl Into<String>) -> ChainError {
    ChainError::Untrue { method, what: what.into() }
}

/// Tells of a packet that cannot be read what was asked with it.
fn named(error: ChainError, first: &'static str) -> ChainError {
    match error {
        ChainError::Malformed { reason, .. } => malformed(first, &reason),
        other => other,
    }
}
