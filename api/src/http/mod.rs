//! The HTTP surface: every route, and what stands around each of them.

mod cors;
mod errors;
mod health;
pub(crate) mod json_body;
mod metrics;
mod request_log;
pub(crate) mod server;
mod swagger;

use std::sync::LazyLock;

use metrics_exporter_prometheus::PrometheusHandle;
use poem::endpoint::BoxEndpoint;
use poem::http::Method;
use poem::middleware::{CatchPanic, NormalizePath, TrailingSlash};
use poem::{Endpoint, EndpointExt, Request, Response, Route, get, handler};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::caller;
use crate::config::Role;
use crate::error::{ApiError, ErrorCode};
use crate::limits;
use crate::metrics::{HttpMeter, State};
use crate::readiness::Readiness;
use crate::rest;

/// Routes that the OpenAPI document does not hold, as they are counted.
const UNDOCUMENTED: [&str; 8] = [
    "/openapi.json",
    "/healthz",
    "/readyz",
    "/metrics",
    "/docs/{*}",
    "/graphql/ws",
    "/graphql/schema.graphql",
    "/order/{id}/events",
];

/// Everything that is served. `shutdown` ends streams and sockets when the process is told to stop.
pub(crate) fn routes(
    app: App,
    readiness: Readiness,
    recorder: PrometheusHandle,
    shutdown: CancellationToken,
) -> BoxEndpoint<'static, Response> {
    match app.config.role {
        Role::All | Role::Api => {
            let routes = api_routes(&app, &readiness, &shutdown);
            surround(routes, errors::Methods::of_document(), app, readiness, recorder, shutdown)
        }
        Role::Worker => {
            let mut routes = operator_routes();
            if app.is_sandbox() {
                // For what it delivers itself, see `gateway::inbox`.
                routes = rest::sandbox::inbox_route(routes);
            }
            let routes = routes.nest_no_strip("/", poem::endpoint::make(no_api));
            surround(routes, errors::Methods::none(), app, readiness, recorder, shutdown)
        }
    }
}

/// What every process has, for whoever runs it.
fn operator_routes() -> Route {
    Route::new()
        .at("/healthz", get(health::healthz))
        .at("/readyz", get(health::readyz))
        .at("/metrics", get(metrics::metrics))
}

fn api_routes(app: &App, readiness: &Readiness, shutdown: &CancellationToken) -> impl Endpoint + 'static {
    let api = Route::new();
    let api = rest::payment_page::public_routes(api);
    let api = rest::sandbox::inbox_route(api);
    let api = crate::graphql::routes(api, app, shutdown.clone());
    let api = api.nest("/", rest::service()).with(NormalizePath::new(TrailingSlash::Trim)).around({
        let readiness = readiness.clone();
        move |endpoint, request| {
            let readiness = readiness.clone();
            async move {
                if let Some(reason) = readiness.not_migrated() {
                    return Err(ApiError::unavailable(reason).into());
                }
                one_key(&request)?;
                endpoint.call(request).await
            }
        }
    });
    operator_routes()
        .at("/openapi.json", get(openapi))
        .nest("/docs", get(swagger::swagger))
        .nest_no_strip("/", api)
        .around(|endpoint, request| async move {
            // Before the nest, which would take the bare root too.
            if request.uri().path() == "/" { get(index).call(request).await } else { endpoint.call(request).await }
        })
}

/// Refuses a key that would be read as none: a request that is meant to be safe to repeat must not be carried out as one
/// that is not.
fn one_key(request: &Request) -> Result<(), ApiError> {
    const NAME: &str = "Idempotency-Key";
    let mut keys = request.headers().get_all(NAME).iter();
    let (first, second) = (keys.next(), keys.next());
    if second.is_some() {
        return Err(ApiError::field(NAME, "Send one key."));
    }
    match first.map(|key| key.to_str()) {
        Some(Err(_)) => Err(ApiError::field(NAME, "Use visible ASCII characters, such as a UUID.")),
        _ => Ok(()),
    }
}

/// Whatever a process of the worker role is asked for beside its health.
async fn no_api(_: Request) -> poem::Result<Response> {
    let words = "This process has the worker role and serves /healthz, /readyz and /metrics only; processes with the role api or all \
                 serve the API.";
    Err(ApiError::new(ErrorCode::NotFound, words).into())
}

/// What stands around every route.
fn surround(
    routes: impl Endpoint + 'static,
    methods: errors::Methods,
    app: App,
    readiness: Readiness,
    recorder: PrometheusHandle,
    shutdown: CancellationToken,
) -> BoxEndpoint<'static, Response> {
    let meter = HttpMeter::of(methods.patterns().chain(UNDOCUMENTED.map(str::to_owned)));
    let (cors_origins, trusted_proxies) = (app.config.cors_origins.clone(), app.config.trusted_proxies.clone());
    let (counting, ready) = (app.clone(), readiness.clone());
    routes
        .data(app)
        .data(readiness)
        .data(recorder)
        .data(State::new())
        .data(shutdown)
        .catch_all_error(move |error| {
            let methods = methods.clone();
            async move { errors::answer(error, &methods) }
        })
        .with(CatchPanic::new().with_handler(errors::PanicAnswer))
        .around(move |endpoint, request| {
            let (app, readiness) = (counting.clone(), ready.clone());
            async move {
                match app.config.role {
                    Role::All | Role::Api => Ok(limits::around(&*endpoint, request, &app, &readiness).await),
                    Role::Worker => Ok(endpoint.get_response(request).await),
                }
            }
        })
        .around(move |endpoint, request| {
            let origins = cors_origins.clone();
            async move { cors::around(&*endpoint, request, &origins).await }
        })
        .around(|endpoint, mut request| async move {
            // Answered like GET; the server leaves out the body.
            if request.method() == Method::HEAD {
                request.set_method(Method::GET);
            }
            endpoint.call(request).await
        })
        .around(move |endpoint, request| {
            let address = limits::address_of(&request, &trusted_proxies);
            async move { caller::on_behalf_of(address, endpoint.call(request)).await }
        })
        .around(move |endpoint, request| {
            let meter = meter.clone();
            async move { request_log::around(&*endpoint, request, &meter).await }
        })
        .map_to_response()
        .boxed()
}

#[handler]
fn index() -> poem::web::Json<Value> {
    poem::web::Json(json!({
        "name": "CryptoPay",
        "version": env!("CARGO_PKG_VERSION"),
        "links": {
            "documentation": "/docs/",
            "openapi": "/openapi.json",
            "graphql": "/graphql",
            "subscriptions": "/graphql/ws",
            "health": "/healthz",
            "readiness": "/readyz",
            "blockchains": "/api/blockchains/",
        },
    }))
}

#[handler]
fn openapi() -> Result<Response, poem::Error> {
    // The same for the life of the process, and a quarter of a megabyte of work.
    static DOCUMENT: LazyLock<Result<String, String>> = LazyLock::new(|| match rest::document::openapi() {
        Ok(document) => Ok(document.to_string()),
        Err(error) => Err(error.to_string()),
    });
    let document = DOCUMENT.as_ref().map_err(ApiError::internal)?;
    Ok(Response::builder().content_type("application/json").body(document.clone()))
}
