//! What `/metrics` tells: counters and times that the process records as it works, and the state of the database and the
//! queues as it is when somebody asks.
//!
//! Nothing secret is in it, and no label is unbounded: no merchant, order, address or URL. docs/OPERATIONS.md says of
//! each metric what it means; a test compares the two.

mod http;
mod process;
mod state;

use std::sync::OnceLock;
use std::time::Duration;

use metrics::{Unit, counter, gauge, with_recorder};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tokio_util::sync::CancellationToken;

pub(crate) use http::HttpMeter;
pub(crate) use state::State;

use crate::config::{Mode, Role};

const BUILD_INFO: &str = "cryptopay_build_info";
const ORDERS_CREATED: &str = "cryptopay_orders_created_total";
const RATE_LIMITED: &str = "cryptopay_rate_limited_total";
const COUNTED_LOCALLY: &str = "cryptopay_rate_limit_local_total";
const SOCKETS: &str = "cryptopay_graphql_sockets";

/// Upper bounds of the buckets of every time, in seconds.
const SECONDS: [f64; 14] = [0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// How often recorded times are sorted into their buckets: they take memory until then.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// Names and meanings of what the API itself counts.
const COUNTERS: [(&str, &str); 3] = [
    (ORDERS_CREATED, "Payment orders that were created."),
    (RATE_LIMITED, "Requests that were refused because a limit was reached."),
    (COUNTED_LOCALLY, "Counts of requests that this process kept by itself because Redis did not answer."),
];
const GAUGES: [(&str, &str); 2] = [
    (BUILD_INFO, "Always 1; version, role and mode of the process are its labels."),
    (SOCKETS, "GraphQL WebSocket connections that are open."),
];

/// The recorder of this process; installed by the first call.
///
/// # Errors
/// Another recorder was installed before.
pub(crate) fn recorder() -> Result<PrometheusHandle, BuildError> {
    static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();
    static INSTALLING: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _one_at_a_time = INSTALLING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(handle) = RECORDER.get() {
        return Ok(handle.clone());
    }
    let handle = builder()?.install_recorder()?;
    describe();
    Ok(RECORDER.get_or_init(|| handle).clone())
}

/// Histograms, not summaries: buckets of several processes can be added up.
fn builder() -> Result<PrometheusBuilder, BuildError> {
    PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
}

/// Tells the recorder in force what each metric of the whole gateway means.
pub(crate) fn describe() {
    cryptopay_chain::metrics::describe();
    cryptopay_jobs::metrics::describe();
    http::describe();
    process::describe();
    state::describe();
    with_recorder(|recorder| {
        for (name, words) in COUNTERS {
            recorder.describe_counter(name.into(), Some(Unit::Count), words.into());
        }
        for (name, words) in GAUGES {
            recorder.describe_gauge(name.into(), Some(Unit::Count), words.into());
        }
    });
}

/// Notes what this process is.
pub(crate) fn started(role: Role, mode: Mode) {
    let version = env!("CARGO_PKG_VERSION");
    gauge!(BUILD_INFO, "version" => version, "role" => role.as_str(), "mode" => mode.as_str()).set(1.0);
    gauge!(SOCKETS).increment(0.0);
}

/// Sorts recorded times into their buckets until `stop`, whether or not anybody asks for them.
pub(crate) async fn keep_up(recorder: PrometheusHandle, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(UPKEEP_EVERY);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => recorder.run_upkeep(),
        }
    }
}

/// An order was created.
pub(crate) fn order_created(chain: &str) {
    counter!(ORDERS_CREATED, "chain" => chain.to_owned()).increment(1);
}

/// A request was refused because a limit was reached.
pub(crate) fn rate_limited() {
    counter!(RATE_LIMITED).increment(1);
}

/// A count was kept in this process because Redis did not answer.
pub(crate) fn counted_locally() {
    counter!(COUNTED_LOCALLY).increment(1);
}

/// A GraphQL socket is open until this is dropped.
#[derive(Debug)]
pub(crate) struct OpenSocket(());

impl OpenSocket {
    /// Counts it.
    pub(crate) fn count() -> Self {
        gauge!(SOCKETS).increment(1.0);
        Self(())
    }
}

impl Drop for OpenSocket {
    fn drop(&mut self) {
        gauge!(SOCKETS).decrement(1.0);
    }
}

/// A number as Prometheus has them: floats, exact up to 2^53.
fn number(value: i64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, with_local_recorder};

    use super::*;

    /// Keeps what is described.
    #[derive(Default)]
    struct Described(Mutex<BTreeMap<String, String>>);

    impl Described {
        fn note(&self, name: &KeyName, words: &SharedString) {
            let before = self.0.lock().unwrap().insert(name.as_str().to_owned(), words.to_string());
            assert_eq!(before, None, "{} is described twice", name.as_str());
        }
    }

    impl Recorder for Described {
        fn describe_counter(&self, name: KeyName, _: Option<Unit>, words: SharedString) {
            assert!(name.as_str().ends_with("_total"), "{}", name.as_str());
            self.note(&name, &words);
        }

        fn describe_gauge(&self, name: KeyName, _: Option<Unit>, words: SharedString) {
            assert!(!name.as_str().ends_with("_total"), "{}", name.as_str());
            self.note(&name, &words);
        }

        fn describe_histogram(&self, name: KeyName, _: Option<Unit>, words: SharedString) {
            assert!(name.as_str().ends_with("_seconds"), "{}: the buckets are seconds", name.as_str());
            self.note(&name, &words);
        }

        fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
            Counter::noop()
        }

        fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::noop()
        }

        fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::noop()
        }
    }

    #[test]
    fn every_metric_is_described_and_explained_to_operators_and_no_other_is() {
        let described = Described::default();
        with_local_recorder(&described, describe);
        let described = described.0.into_inner().unwrap();
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/OPERATIONS.md");
        let manual = std::fs::read_to_string(path).unwrap();
        let rows = manual.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`').map(|(name, _)| name));
        let named = |name: &&str| name.starts_with("cryptopay_") || name.starts_with("process_");
        let explained: Vec<&str> = rows.filter(named).collect();
        for (name, words) in &described {
            assert!(words.ends_with('.'), "{name}: {words}");
            assert!(explained.contains(&name.as_str()), "{name} has no row in docs/OPERATIONS.md");
        }
        for name in explained {
            assert!(described.contains_key(name), "docs/OPERATIONS.md explains {name}, which is not recorded");
        }
    }
}
