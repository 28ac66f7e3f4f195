//! A request id on every answer and on the one log line of its request; and the headers that every answer has.

use std::time::Instant;

use poem::http::{HeaderValue, header};
use poem::{Request, Response};
use tracing::Instrument;

use crate::graphql::RequestId;
use crate::metrics::HttpMeter;

/// What a browser may do with an answer that is data.
const DATA_POLICY: HeaderValue = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
/// Name of the header.
const REQUEST_ID: &str = "x-request-id";

/// Gives the request its id, serves it, and logs a line.
pub(super) async fn around<F>(mut request: Request, meter: &HttpMeter, serve: impl FnOnce(Request) -> F) -> Response
where
    F: Future<Output = Response>,
{
    let id = caller_id(&request).unwrap_or_else(|| format!("{:016x}", rand::random::<u64>()));
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let span = tracing::info_span!("request", id);
    request.extensions_mut().insert(RequestId(id.clone()));
    let start = Instant::now();
    let mut response = serve(request).instrument(span.clone()).await;
    let status = response.status().as_u16();
    meter.note(&method, &path, response.status(), start.elapsed());
    let duration_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    span.in_scope(|| {
        if status >= 500 {
            tracing::warn!(%method, path = shown(&path), status, duration_ms, "request");
        } else {
            tracing::debug!(%method, path = shown(&path), status, duration_ms, "request");
        }
    });
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID, id);
    }
    headers.entry(header::X_CONTENT_TYPE_OPTIONS).or_insert(HeaderValue::from_static("nosniff"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.entry(header::REFERRER_POLICY).or_insert(HeaderValue::from_static("no-referrer"));
    if headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).is_some_and(is_data) {
        // Data is no page: nothing in it may run, and nobody may frame it.
        headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(DATA_POLICY);
    }
    response
}

/// The caller's own id, if it is sane.
fn caller_id(request: &Request) -> Option<String> {
    let id = request.header(REQUEST_ID)?;
    let sane = (1..=64).contains(&id.len())
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':'));
    sane.then(|| id.to_owned())
}

fn is_data(content_type: &str) -> bool {
    matches!(content_type.split(';').next(), Some("application/json" | "application/graphql-response+json"))
}

/// A path as it may be logged: the inbox's token is a secret.
fn shown(path: &str) -> &str {
    if path.starts_with("/sandbox/inbox/") { "/sandbox/inbox/…" } else { path }
}
