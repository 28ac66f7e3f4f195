//! Which browsers may read our answers. A request from elsewhere is served all the same: it is the browser that keeps the
//! answer from the page, and same-origin pages send an `Origin` too.

use poem::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use poem::{IntoResponse, Request, Response};

use crate::config::CorsOrigins;

/// The headers of the contract, then those that Apollo Client, OpenTelemetry and Sentry add to a page's requests. A header
/// that is missing here makes a browser refuse the whole request.
const ALLOWED_HEADERS: HeaderValue = HeaderValue::from_static(
    "Authorization, Content-Type, Idempotency-Key, X-Request-Id, Last-Event-ID, apollographql-client-name, \
     apollographql-client-version, apollo-require-preflight, x-apollo-operation-name, traceparent, tracestate, baggage, \
     sentry-trace",
);
const ALLOWED_METHODS: HeaderValue = HeaderValue::from_static("GET, POST, PUT, PATCH, DELETE, OPTIONS");
const EXPOSED_HEADERS: HeaderValue = HeaderValue::from_static(
    "X-Request-Id, X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset, Retry-After, Idempotent-Replayed",
);
/// How long a browser may remember a preflight, in seconds.
const MAX_AGE_SECS: HeaderValue = HeaderValue::from_static("7200");

/// Answers preflights, and adds the headers to every other answer.
pub(super) async fn around<F>(request: Request, origins: &CorsOrigins, serve: impl FnOnce(Request) -> F) -> Response
where
    F: Future<Output = Response>,
{
    let origin = request.headers().get(header::ORIGIN).cloned();
    let allowed = origin.filter(|origin| origin.to_str().is_ok_and(|origin| origins.allows(origin)));
    let is_preflight =
        request.method() == Method::OPTIONS && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    if is_preflight {
        let mut response = StatusCode::NO_CONTENT.into_response();
        if let Some(origin) = allowed {
            let headers = response.headers_mut();
            allow(headers, origin);
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED_HEADERS);
            headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, ALLOWED_METHODS);
            headers.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE_SECS);
        }
        return response;
    }
    let mut response = serve(request).await;
    if let Some(origin) = allowed {
        let headers = response.headers_mut();
        allow(headers, origin);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED_HEADERS);
    }
    response
}

fn allow(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
}
