//! Calls and batches: one packet out, one answer for each call back, every failure a [`ChainError`].

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use alloy::rpc::json_rpc::{ErrorPayload, Id, Request, RequestPacket, Response, ResponsePacket, ResponsePayload};
use alloy::transports::BoxTransport;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;
use tower::Service;

use crate::classify::{classify, shorten};
use crate::{ChainError, Traffic};

/// One JSON-RPC call.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) method: &'static str,
    pub(crate) params: Value,
}

/// The line to one endpoint.
pub(crate) struct Rpc {
    transport: BoxTransport,
    secrets: Vec<String>,
    timeout: Duration,
    /// Most calls in a batch; shrinks for good when the endpoint refuses one as too large.
    most_calls: AtomicUsize,
    next_id: AtomicU64,
    requests: AtomicU64,
    failures: AtomicU64,
}

impl Rpc {
    pub(crate) fn new(transport: BoxTransport, secrets: Vec<String>, timeout: Duration, most_calls: usize) -> Self {
        Self {
            transport,
            secrets,
            timeout,
            most_calls: AtomicUsize::new(most_calls),
            next_id: AtomicU64::new(1),
            requests: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        }
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
        let mut answers = self.batch(&[Call { method, params }]).await?;
        answers.pop().ok_or_else(|| malformed(method, "there is none"))
    }

    /// The answers to many calls, in their order. Calls that belong together (`group` of them, one after the other)
    /// always travel in one batch; no batch holds more than `most` calls.
    pub(crate) async fn grouped(
        &self,
        calls: &[Call],
        group: usize,
        most: usize,
    ) -> Result<Vec<Box<RawValue>>, ChainError> {
        let mut answers = Vec::with_capacity(calls.len());
        let mut rest = calls;
        let mut most = most;
        while !rest.is_empty() {
            let groups = self.most_calls.load(Ordering::Relaxed).min(most).checked_div(group).unwrap_or(1).max(1);
            let (now, later) = rest.split_at(groups.saturating_mul(group).min(rest.len()));
            match self.batch(now).await {
                Ok(batch) => {
                    answers.extend(batch);
                    rest = later;
                }
                Err(ChainError::BatchTooLarge { .. }) if now.len() > group => {
                    self.most_calls.store(now.len() / 2, Ordering::Relaxed);
                }
                Err(ChainError::BodyTooLarge { .. }) if now.len() > group => most = now.len() / 2,
                Err(error) => return Err(error),
            }
        }
        Ok(answers)
    }

    /// Sends one packet. The first failed call fails the batch.
    async fn batch(&self, calls: &[Call]) -> Result<Vec<Box<RawValue>>, ChainError> {
        self.each(calls).await?.into_iter().collect()
    }

    /// Sends one packet; each call has an answer or an error of its own.
    pub(crate) async fn each(&self, calls: &[Call]) -> Result<Vec<Result<Box<RawValue>, ChainError>>, ChainError> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let answers = self.packet(calls).await;
        if !answers.as_ref().is_ok_and(|answers| answers.iter().all(Result::is_ok)) {
            self.failures.fetch_add(1, Ordering::Relaxed);
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
            ResponsePacket::Single(response) => vec![response],
            ResponsePacket::Batch(responses) => responses,
        };
        let mut by_id: HashMap<Id, ResponsePayload> = HashMap::with_capacity(responses.len());
        for Response { id, payload } in responses {
            match payload {
                // A node that refuses the packet as a whole names no call.
                ResponsePayload::Failure(failure) if !ids.contains(&id) => {
                    return Err(self.failure(first, calls.len(), &failure));
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
