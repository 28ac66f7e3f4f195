//! Counts each request before it is served, and tells of the count in its answer.

use poem::http::{HeaderMap, HeaderName, HeaderValue};
use poem::{IntoResponse, Request, Response};

use super::bucket::{Bucket, Standing};
use super::client::Client;
use super::routes::{Counted, counted, is_graphql};
use super::visit::Visit;
use crate::app::App;
use crate::error::ApiError;
use crate::metrics;
use crate::principal::{Recognised, bearer_of};
use crate::readiness::Readiness;

const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// Serves a client's request if there is room for it.
pub(crate) async fn around<F>(
    mut request: Request,
    client: Client,
    app: &App,
    readiness: &Readiness,
    serve: impl FnOnce(Request) -> F,
) -> Response
where
    F: Future<Output = Response>,
{
    let kind = counted(request.uri().path());
    if kind == Counted::Not {
        return serve(request).await;
    }
    let visit = Visit::of(app, client);
    request.extensions_mut().insert(visit.clone());
    let mut response = match admit(kind, &visit, &mut request, app, readiness).await {
        Ok(()) => serve(request).await,
        Err(error) => refuse(&request, error),
    };
    if let Some(standing) = visit.standing() {
        tell(response.headers_mut(), standing);
    }
    response
}

/// Finds out who asks, and counts.
async fn admit(
    kind: Counted,
    visit: &Visit,
    request: &mut Request,
    app: &App,
    readiness: &Readiness,
) -> Result<(), ApiError> {
    if readiness.not_migrated().is_some() {
        // Nobody can be recognised yet, and every answer says so.
        visit.look().await;
        return Ok(());
    }
    let bearer = match kind {
        Counted::ByToken => bearer_of(request).ok().flatten(),
        Counted::ByAddress | Counted::Not => None,
    };
    let Some(bearer) = bearer else { return visit.count_for_address().await };
    let recognised = Recognised::find(app, bearer).await;
    let counted = match recognised.outcome() {
        Ok(principal) => visit.count_for(Bucket::of(principal)).await,
        Err(error) if error.code.status().is_client_error() => visit.count_for_address().await,
        Err(_) => {
            visit.look().await;
            Ok(())
        }
    };
    request.extensions_mut().insert(recognised);
    counted
}

/// The answer to a request that is too many.
fn refuse(request: &Request, error: ApiError) -> Response {
    metrics::rate_limited();
    if is_graphql(request.uri().path()) {
        return crate::graphql::refused(request, error);
    }
    error.into_response()
}

fn tell(headers: &mut HeaderMap, standing: Standing) {
    headers.insert(LIMIT, HeaderValue::from(standing.limit));
    headers.insert(REMAINING, HeaderValue::from(standing.remaining));
    headers.insert(RESET, HeaderValue::from(standing.ends_at));
}
