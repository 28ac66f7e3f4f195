//! What is logged, where, and what never is.
//!
//! `CRYPTOPAY_LOG` filters what our own crates say, at any level. Of the libraries below only what they say at `info` and
//! above is logged, and none of their spans: below that some of them say what they carry, which is tokens, URLs with keys
//! and whole answers of nodes. Our own lines name no secret (`tests/it/secrets.rs` looks for them).

use std::io::{IsTerminal, stderr};

use tracing::{Level, Metadata};
use tracing_subscriber::filter::{EnvFilter, filter_fn};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use super::Failure;
use crate::config::{Config, LogFormat};

/// What the names of our own crates begin with.
const OURS: &str = "cryptopay";

/// Begins to log on standard error.
pub(super) fn begin(config: &Config) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(&config.log_filter).map_err(Failure::configuration)?;
    // A line that cannot be written is lost. The default tells of it on standard error, which panics where that is what
    // is full.
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(stderr)
        .with_ansi(stderr().is_terminal())
        .log_internal_errors(false);
    let lines = match config.log_format {
        LogFormat::Json => lines.json().boxed(),
        LogFormat::Text => lines.boxed(),
    };
    // Filters of all layers, not of one: those keep a state by thread that can lose a line when two are combined.
    let log = tracing_subscriber::registry().with(filter).with(filter_fn(may_be_logged)).with(lines);
    // Only a second start in one process fails here, and then there is a log already.
    let _ = log.try_init();
    Ok(())
}

fn may_be_logged(said: &Metadata<'_>) -> bool {
    let is_ours = said
        .target()
        .split("::")
        .next()
        .is_some_and(|name| name.strip_prefix(OURS).is_some_and(|rest| rest.is_empty() || rest.starts_with('_')));
    is_ours || (said.is_event() && *said.level() <= Level::INFO)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn of_libraries_neither_spans_nor_what_they_say_in_detail_is_logged() {
        let paper = Paper::default();
        let pen = paper.clone();
        let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(move || pen.clone());
        let filters = tracing_subscriber::registry().with(EnvFilter::new("trace")).with(filter_fn(may_be_logged));
        tracing::subscriber::with_default(filters.with(lines), || {
            tracing::trace!(target: "cryptopay_api::http", "said 1");
            tracing::trace!(target: "cryptopay", "said 2");
            tracing::info!(target: "sqlx::query", "said 3");
            let theirs = tracing::error_span!(target: "alloy_transport_http", "request", url = "https://rpc/secret");
            let ours = tracing::info_span!(target: "cryptopay_jobs", "job", chain = "base");
            theirs.in_scope(|| ours.in_scope(|| tracing::debug!(target: "cryptopay_jobs::scan", "said 4")));
            tracing::debug!(target: "tungstenite::protocol", "secret");
            tracing::debug!(target: "cryptopayments", "secret");
        });
        let text = String::from_utf8(paper.0.lock().unwrap().clone()).unwrap();
        assert!((1..=4).all(|number| text.contains(&format!("said {number}"))), "{text}");
        assert!(text.contains("base") && !text.contains("secret") && text.lines().count() == 4, "{text}");
    }
}
