//! What is counted about jobs, timers, chains and webhooks. Labels are bounded: a job or timer is one of those in this
//! crate, a chain one of the registry, an outcome one of the words below; no merchant, order or address is a label.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use crate::context::Context;
use metrics::{Counter, Histogram, Unit, counter, gauge, histogram, with_recorder};

const JOB_RUNS: &str = "cryptopay_job_runs_total";
const JOB_SECONDS: &str = "cryptopay_job_seconds";
const JOB_PANICS: &str = "cryptopay_job_panics_total";
const WORKER_RESTARTS: &str = "cryptopay_worker_restarts_total";
const JOBS_GIVEN_UP: &str = "cryptopay_job_given_up_total";
const PART_RESTARTS: &str = "cryptopay_part_restarts_total";
const QUEUE_LENGTH: &str = "cryptopay_queue_length";
const TIMER_FAILURES: &str = "cryptopay_timer_failures_total";
const SCAN_FAILURES: &str = "cryptopay_scan_failures_total";
const TRANSFERS_FOUND: &str = "cryptopay_transfers_found_total";
const TRANSFERS_SET_ASIDE: &str = "cryptopay_transfers_unverifiable_total";
const TRANSFERS_GONE: &str = "cryptopay_transfers_gone_total";
const REORGS: &str = "cryptopay_reorgs_total";
const ATTEMPTS: &str = "cryptopay_webhook_attempts_total";
const ATTEMPT_SECONDS: &str = "cryptopay_webhook_attempt_seconds";
const DELIVERIES: &str = "cryptopay_webhook_deliveries_total";
const ENDPOINTS_DISABLED: &str = "cryptopay_webhook_endpoints_disabled_total";

const COUNTERS: [(&str, &str); 14] = [
    (JOB_RUNS, "Runs of a job."),
    (JOB_PANICS, "Runs of a job that broke off in a panic."),
    (WORKER_RESTARTS, "Workers that ended by themselves and were started again."),
    (JOBS_GIVEN_UP, "Runs of a job that were given up because nothing was heard of them any more."),
    (PART_RESTARTS, "Parts of the process that ended by themselves and were started again."),
    (TIMER_FAILURES, "Runs of a timer that failed."),
    (SCAN_FAILURES, "Scans of a chain that stopped before its head."),
    (TRANSFERS_FOUND, "Transfers to watched addresses that scans have found."),
    (TRANSFERS_SET_ASIDE, "Reported transfers that were set aside because their evidence does not hold."),
    (TRANSFERS_GONE, "Transfers that are gone for good after a reorganisation."),
    (REORGS, "Reorganisations of a chain that were followed."),
    (ATTEMPTS, "Attempts to deliver a webhook, by the class of the answer's status."),
    (DELIVERIES, "What attempts to deliver came to: delivered, retry, dead or postponed."),
    (ENDPOINTS_DISABLED, "Webhook endpoints that were switched off because they only fail."),
];

/// Tells the recorder what each metric of this crate means.
pub fn describe() {
    with_recorder(|recorder| {
        for (name, words) in COUNTERS {
            recorder.describe_counter(name.into(), Some(Unit::Count), words.into());
        }
        recorder.describe_histogram(JOB_SECONDS.into(), Some(Unit::Seconds), "Time that a run of a job took.".into());
        let words = "Time that an attempt to deliver a webhook took.";
        recorder.describe_histogram(ATTEMPT_SECONDS.into(), Some(Unit::Seconds), words.into());
        let words = "Keys that wait in a job's queue, those that are due later included.";
        recorder.describe_gauge(QUEUE_LENGTH.into(), Some(Unit::Count), words.into());
    });
}

impl Context {
    /// Notes how many keys wait in each queue now. What Redis does not tell stays as it was told last.
    pub async fn measure_queues(&self) {
        for (job, keys) in self.queue.lengths().await {
            let keys = u32::try_from(keys).unwrap_or(u32::MAX);
            gauge!(QUEUE_LENGTH, "job" => job).set(f64::from(keys));
        }
    }
}

/// Counts the runs of one job.
#[derive(Debug, Clone, Copy)]
pub(crate) struct JobMeter(pub(crate) &'static str);

impl JobMeter {
    /// A run begins.
    pub(crate) fn begin(self) -> Run {
        Run { job: self.0, started: Instant::now() }
    }

    /// A run panicked.
    pub(crate) fn panicked(self) {
        counter!(JOB_PANICS, "job" => self.0).increment(1);
    }

    /// A run was given up.
    pub(crate) fn given_up(self) {
        counter!(JOBS_GIVEN_UP, "job" => self.0).increment(1);
    }

    /// The worker ended by itself, and another one is started.
    pub(crate) fn restarted(self) {
        counter!(WORKER_RESTARTS, "job" => self.0).increment(1);
    }
}

/// A run of a job: counted and timed when this is dropped, however the run ends.
#[derive(Debug)]
pub(crate) struct Run {
    job: &'static str,
    started: Instant,
}

impl Drop for Run {
    fn drop(&mut self) {
        counter!(JOB_RUNS, "job" => self.job).increment(1);
        histogram!(JOB_SECONDS, "job" => self.job).record(self.started.elapsed());
    }
}

/// A part of the process ended by itself, and is started again.
pub(crate) fn part_restarted(part: &'static str) {
    counter!(PART_RESTARTS, "part" => part).increment(1);
}

/// A timer's run failed.
pub(crate) fn timer_failed(timer: &'static str) {
    counter!(TIMER_FAILURES, "timer" => timer).increment(1);
}

/// Transfers were set aside as unverifiable.
pub(crate) fn transfers_set_aside(chain: &str, transfers: usize) {
    counter!(TRANSFERS_SET_ASIDE, "chain" => chain.to_owned()).increment(u64::try_from(transfers).unwrap_or(u64::MAX));
}

/// A scan stopped before the head.
pub(crate) fn scan_failed(chain: &str) {
    counter!(SCAN_FAILURES, "chain" => chain.to_owned()).increment(1);
}

/// A batch of blocks held transfers to watched addresses.
pub(crate) fn transfers_found(chain: &str, transfers: usize) {
    counter!(TRANSFERS_FOUND, "chain" => chain.to_owned()).increment(count(transfers));
}

/// Transfers did not come back after a reorganisation.
pub(crate) fn transfers_gone(chain: &str, transfers: usize) {
    counter!(TRANSFERS_GONE, "chain" => chain.to_owned()).increment(count(transfers));
}

/// A reorganisation was followed.
pub(crate) fn reorganised(chain: &str) {
    counter!(REORGS, "chain" => chain.to_owned()).increment(1);
}

/// An attempt to deliver was made: the answer's status, if there was one, and what became of the delivery.
pub(crate) fn webhook_attempted(status: Option<i64>, duration_ms: i64, fate: &'static str) {
    static SECONDS: LazyLock<Histogram> = LazyLock::new(|| histogram!(ATTEMPT_SECONDS));
    static SUCCEEDED: LazyLock<Counter> = LazyLock::new(|| attempts("2xx"));
    SECONDS.record(Duration::from_millis(u64::try_from(duration_ms).unwrap_or(0)));
    match status {
        Some(200..=299) => SUCCEEDED.increment(1),
        Some(300..=399) => attempts("3xx").increment(1),
        Some(400..=499) => attempts("4xx").increment(1),
        Some(_) => attempts("5xx").increment(1),
        None => attempts("none").increment(1),
    }
    counter!(DELIVERIES, "outcome" => fate).increment(1);
}

/// A webhook endpoint was switched off.
pub(crate) fn endpoint_disabled() {
    counter!(ENDPOINTS_DISABLED).increment(1);
}

fn attempts(answer: &'static str) -> Counter {
    counter!(ATTEMPTS, "answer" => answer)
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
