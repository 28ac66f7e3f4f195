//! Server-sent events: an event `next` for each result, `complete` at the end (the "distinct connections" mode of the
//! graphql-sse protocol). A stream that ends without `complete` was cut, by a shutdown or the end of the token, which may
//! have been revoked: come again, with the last `sequence` as `after`.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use async_graphql::Response as Answer;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, stream};
use poem::{Body, Response};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use super::connections::Permit;
use super::credentials::Hold;

/// Between two comments that keep proxies from cutting a silent stream; common limits are 30 s and 60 s.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// What a client without a token may stream for: it only ever gets an error.
const WITHOUT_TOKEN: Duration = Duration::from_secs(60);

/// What a merchant's stream holds.
pub(super) struct Admission {
    /// On what it was let in by.
    pub(super) hold: Hold,
    /// For how long; `None` is for ever.
    pub(super) valid_for: Option<Duration>,
    /// Its place among the merchant's streams.
    pub(super) _permit: Permit,
}

struct Streaming {
    results: BoxStream<'static, Answer>,
    keep_alive: Interval,
    /// `None` is for ever.
    until: Option<Instant>,
    shutdown: CancellationToken,
    /// Never cancelled where nobody's token let it in.
    revoked: CancellationToken,
    ended: bool,
    _admission: Option<Admission>,
}

/// The answer that streams `results`.
pub(super) fn response(
    results: BoxStream<'static, Answer>,
    admission: Option<Admission>,
    shutdown: CancellationToken,
) -> Response {
    let now = Instant::now();
    let mut keep_alive = interval_at(now.checked_add(KEEP_ALIVE).unwrap_or(now), KEEP_ALIVE);
    keep_alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let valid_for = admission.as_ref().map_or(Some(WITHOUT_TOKEN), |admission| admission.valid_for);
    let until = valid_for.and_then(|valid_for| now.checked_add(valid_for));
    let revoked = admission.as_ref().map(|admission| admission.hold.revoked()).unwrap_or_default();
    let streaming = Streaming { results, keep_alive, until, shutdown, revoked, ended: false, _admission: admission };
    let texts = stream::unfold(streaming, |mut streaming| async move {
        streaming.next().await.map(|text| (Ok::<_, Error>(text), streaming))
    });
    Response::builder()
        .content_type("text/event-stream")
        .header("X-Accel-Buffering", "no")
        .body(Body::from_bytes_stream(texts))
}

impl Streaming {
    async fn next(&mut self) -> Option<String> {
        if self.ended {
            return None;
        }
        let expired = async {
            match self.until {
                Some(until) => tokio::time::sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.shutdown.cancelled() => None,
            () = expired => None,
            () = self.revoked.cancelled() => None,
            result = self.results.next() => match result {
                Some(result) => serde_json::to_string(&result).ok().map(|json| format!("event: next\ndata: {json}\n\n")),
                None => {
                    self.ended = true;
                    Some("event: complete\ndata:\n\n".to_owned())
                }
            },
            _ = self.keep_alive.tick() => Some(":\n\n".to_owned()),
        }
    }
}

/// Nothing fails here; the body's type wants an error that converts.
struct Error(Infallible);

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        match error.0 {}
    }
}
