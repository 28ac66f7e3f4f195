//! What is counted about RPC endpoints.
//!
//! Labels are bounded: an endpoint is named by its host and port and never by its URL, which may hold a key; a method is
//! one of the dozen that this crate calls; an error is one of the kinds below. Handles are looked up once per endpoint
//! and method; recording is an atomic addition.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use metrics::{Counter, Histogram, Unit, counter, describe_counter, describe_histogram, histogram};

use crate::ChainError;
use crate::rpc::Call;

const CALLS: &str = "cryptopay_rpc_calls_total";
const ERRORS: &str = "cryptopay_rpc_errors_total";
const UNVERIFIED: &str = "cryptopay_rpc_unverified_headers_total";
const SECONDS: &str = "cryptopay_rpc_request_seconds";

/// Tells the recorder what each metric of this crate means.
pub fn describe() {
    describe_counter!(CALLS, Unit::Count, "Calls sent to an RPC endpoint, by method; each call of a batch counts.");
    describe_counter!(
        ERRORS,
        Unit::Count,
        "Requests to an RPC endpoint that failed, by first method and kind of error."
    );
    describe_counter!(
        UNVERIFIED,
        Unit::Count,
        "Headers that were taken on an endpoint's word, since they do not hash to their own names."
    );
    describe_histogram!(SECONDS, Unit::Seconds, "Time from a request to an RPC endpoint to its complete answer.");
}

/// Counts a header that was taken on trust. `name` is what logs call the endpoint.
pub(crate) fn unverified_header(name: &str) {
    counter!(UNVERIFIED, "endpoint" => host_of(name)).increment(1);
}

/// Host and port, where the name is that of a URL.
fn host_of(name: &str) -> String {
    name.split_once("://").map_or(name, |(_, host)| host).to_owned()
}

/// Counts what goes to one endpoint.
pub(crate) struct Meter {
    endpoint: String,
    seconds: Histogram,
    calls: RwLock<HashMap<&'static str, Counter>>,
}

impl Meter {
    /// `name` is what logs call the endpoint: of a URL no more than scheme, host and port.
    pub(crate) fn new(name: &str) -> Self {
        let endpoint = host_of(name);
        let seconds = histogram!(SECONDS, "endpoint" => endpoint.clone());
        Self { endpoint, seconds, calls: RwLock::default() }
    }

    /// Notes one request with its calls, how long it took and what came of it.
    pub(crate) fn note(&self, calls: &[Call], took: Duration, failed: Option<&ChainError>) {
        self.seconds.record(took);
        for call in calls {
            self.call(call.method);
        }
        if let Some(error) = failed {
            let method = calls.first().map_or("none", |call| call.method);
            counter!(ERRORS, "endpoint" => self.endpoint.clone(), "method" => method, "kind" => kind(error))
                .increment(1);
        }
    }

    fn call(&self, method: &'static str) {
        if let Some(counter) = self.calls.read().unwrap_or_else(PoisonError::into_inner).get(method) {
            counter.increment(1);
            return;
        }
        let counter = counter!(CALLS, "endpoint" => self.endpoint.clone(), "method" => method);
        counter.increment(1);
        self.calls.write().unwrap_or_else(PoisonError::into_inner).insert(method, counter);
    }
}

/// The kind of an error as a label.
fn kind(error: &ChainError) -> &'static str {
    match error {
        ChainError::Endpoint(_) | ChainError::Query(_) => "configuration",
        ChainError::WrongChain { .. } => "wrong_chain",
        ChainError::Unreachable(_) => "unreachable",
        ChainError::TimedOut { .. } => "timed_out",
        ChainError::RateLimited { .. } => "rate_limited",
        ChainError::QuotaUsed => "quota_used",
        ChainError::Unavailable { .. } => "unavailable",
        ChainError::Refused { .. } => "refused",
        ChainError::BodyTooLarge { .. } => "body_too_large",
        ChainError::Malformed { .. } => "malformed",
        ChainError::Node { .. } => "node",
        ChainError::MethodMissing { .. } => "method_missing",
        ChainError::RangeTooLarge { .. } | ChainError::RangeFailed { .. } => "range_too_large",
        ChainError::LogsRefused { .. } => "logs_refused",
        ChainError::FilterTooLarge { .. } => "filter_too_large",
        ChainError::BatchTooLarge { .. } => "batch_too_large",
        ChainError::Untrue { .. } | ChainError::FromTheFuture { .. } => "untrue",
        ChainError::HeaderHashMismatch { .. } => "unverifiable",
        ChainError::BrokenLink { .. }
        | ChainError::BlockMissing { .. }
        | ChainError::NotOnChain { .. }
        | ChainError::LogsMissing { .. }
        | ChainError::Unconfirmed
        | ChainError::TransactionMissing { .. } => "inconsistent",
    }
}
