//! `cryptopay doctor`: looks at everything that the gateway needs and says what is wrong and how to mend it.
//!
//! It changes nothing: it makes no file, applies no migration, and what it writes into Redis it takes away again.
//! Everything is bounded in time, and everything is asked at once. No line holds a secret: a URL is shown as scheme, host
//! and port.

mod chains;
mod configuration;
mod database;
mod redis;
mod report;

use std::io::{IsTerminal, Write};
use std::time::Duration;

use clap::Args;
use cryptopay_domain::time::Timestamp;
use futures_util::future::join_all;
use indicatif::{ProgressBar, ProgressStyle};

use self::report::{Check, Report};
use super::{Failure, say};
use crate::config::{ChainSource, Config, Environment, Role};

/// How to report.
#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// Looks at everything; status 1 if anything is wrong. Warnings are no fault.
pub(super) async fn run(options: Doctor) -> Result<(), Failure> {
    // No log: what there is to say is in the report.
    let config = Config::from_env(Role::All, &Environment::of_process())?;
    let progress = if options.json { ProgressBar::hidden() } else { progress(&config) };
    let checks = examine(&config, &progress).await;
    progress.finish_and_clear();
    let report = Report::of(checks);
    if options.json {
        say(serde_json::to_string_pretty(&report).map_err(Failure::other)?);
    } else {
        let _ = write!(std::io::stdout(), "{}", report.table());
    }
    if report.ok { Ok(()) } else { Err(Failure::told()) }
}

async fn examine(config: &Config, progress: &ProgressBar) -> Vec<Check> {
    let chains: Vec<_> = config.chains.served().collect();
    let asked = chains.into_iter().map(|(chain, source)| chains::ask(chain, source, progress));
    let ((database, known), redis, chains) = tokio::join!(
        async {
            let found = database::examine(config).await;
            progress.inc(1);
            found
        },
        async {
            let found = redis::examine(config).await;
            progress.inc(1);
            found
        },
        join_all(asked)
    );
    let mut checks = configuration::examine(config);
    checks.extend(database);
    checks.extend(redis);
    for chain in chains {
        checks.extend(chain.judge(config, known.as_ref()));
    }
    checks
}

/// Shown on a terminal only.
fn progress(config: &Config) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let endpoints = config.chains.served().map(|(_, source)| match source {
        ChainSource::Rpc(endpoints) => endpoints.http.len().saturating_add(endpoints.ws.len()),
        ChainSource::Simulated => 0,
    });
    let total = endpoints.fold(2_usize, usize::saturating_add);
    let bar = ProgressBar::new(u64::try_from(total).unwrap_or(u64::MAX));
    if let Ok(style) = ProgressStyle::with_template("{spinner} {pos} of {len} have answered ({elapsed})") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// This host's clock, which is compared with the database's and with the chains'.
#[expect(clippy::disallowed_methods, reason = "whether this very clock is right is one of the questions")]
fn host_now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// A time for people: `340 ms`, `12 s`, `3 min`, `5 h`.
fn shown(duration: Duration) -> String {
    match duration.as_secs() {
        0..=9 => format!("{} ms", duration.as_millis()),
        secs @ 10..=119 => format!("{secs} s"),
        secs @ 120..=7_199 => format!("{} min", secs / 60),
        secs => format!("{} h", secs / 3_600),
    }
}
