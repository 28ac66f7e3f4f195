//! The HTTP surface: every route, and what stands around each of them.

mod cors;
mod errors;
mod health;
mod host;
pub(crate) mod json_body;
pub(crate) mod json_value;
mod metrics;
pub(crate) mod peers;
mod people;
mod request_log;
mod security_txt;
pub(crate) mod server;
mod swagger;
mod unread;

use std::panic::AssertUnwindSafe;
use std::sync::LazyLock;

use futures_util::FutureExt;
use metrics_exporter_prometheus::PrometheusHandle;
use poem::endpoint::BoxEndpoint;
use poem::http::{HeaderValue, Method, header};
use poem::middleware::{NormalizePath, TrailingSlash};
use poem::{Endpoint, EndpointExt, IntoResponse, Request, Response, Route, get, handler};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use self::host::HostProblem;
use crate::app::App;
use crate::caller;
use crate::config::Role;
use crate::error::{ApiError, ErrorCode};
use crate::limits::{self, Client};
use crate::metrics::{HttpMeter, State};
use crate::readiness::Readiness;
use crate::rest;

/// Routes that the OpenAPI document does not hold, as they are counted.
const UNDOCUMENTED: [&str; 9] = [
    "/openapi.json",
    "/healthz",
    "/readyz",
    "/metrics",
    "/docs/{*}",
    "/graphql/ws",
    "/graphql/schema.graphql",
    "/order/{id}/events",
    security_txt::PATH,
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
        .at("/healthz/", get(health::healthz))
        .at("/readyz", get(health::readyz))
        .at("/readyz/", get(health::readyz))
        .at("/metrics", get(metrics::metrics))
        .at("/metrics/", get(metrics::metrics))
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
        .at("/openapi.json/", get(openapi))
        .at(security_txt::PATH, get(security_txt::security_txt))
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

/// Gives the routes what their handlers ask for, and stands around every one of them.
fn surround(
    routes: impl Endpoint + 'static,
    methods: errors::Methods,
    app: App,
    readiness: Readiness,
    recorder: PrometheusHandle,
    shutdown: CancellationToken,
) -> BoxEndpoint<'static, Response> {
    let meter = HttpMeter::of(methods.patterns().chain(UNDOCUMENTED.map(str::to_owned)));
    let routes = routes
        .data(app.clone())
        .data(readiness.clone())
        .data(recorder)
        .data(State::new())
        .data(shutdown)
        .map_to_response()
        .boxed();
    Surrounded { routes, methods, meter, app, readiness }.boxed()
}

/// Tells browsers to use https alone for a year. Sent where the public URL is https; browsers ignore it on plain http.
const HTTPS_ONLY: HeaderValue = HeaderValue::from_static("max-age=31536000");

/// What stands around every route, from the outside in: its line in the log, the address it is served on behalf of, the
/// headers that browsers ask for, the count of the request, the form of errors.
struct Surrounded {
    routes: BoxEndpoint<'static, Response>,
    methods: errors::Methods,
    meter: HttpMeter,
    app: App,
    readiness: Readiness,
}

impl Endpoint for Surrounded {
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        let mut response = request_log::around(request, &self.meter, |request| self.serve(request)).await;
        if self.app.public_url.starts_with("https://") {
            response.headers_mut().insert(header::STRICT_TRANSPORT_SECURITY, HTTPS_ONLY);
        }
        Ok(response)
    }
}

impl Surrounded {
    async fn serve(&self, mut request: Request) -> Response {
        let client = Client::of_request(&request, &self.app.config.trusted_proxies);
        if request.method() == Method::HEAD {
            // Answered like GET; the server leaves out the body.
            request.set_method(Method::GET);
        }
        let served = cors::around(request, &self.app.config.cors_origins, |request| self.counted(request, client));
        caller::on_behalf_of(Some(client.address), served).await
    }

    async fn counted(&self, request: Request, client: Client) -> Response {
        match self.app.config.role {
            Role::All | Role::Api => {
                let is_page = people::is_page(&request);
                let answer =
                    limits::around(request, client, &self.app, &self.readiness, |request| self.answer(request));
                let answer = answer.await;
                if is_page { people::readable(answer) } else { answer }
            }
            Role::Worker => self.answer(request).await,
        }
    }

    /// What the routes answer, whatever goes wrong with them.
    async fn answer(&self, request: Request) -> Response {
        if let Some(problem) = request.data::<HostProblem>() {
            return problem.error().into_response();
        }
        let path = request.uri().path().to_owned();
        match AssertUnwindSafe(self.routes.call(request)).catch_unwind().await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                let exists = self.app.is_sandbox() || !is_of_sandbox(&path);
                errors::answer(error, &path, if exists { Some(&self.methods) } else { None })
            }
            Err(_) => errors::panicked(),
        }
    }
}

/// Whether a path is one that there is in the sandbox only.
fn is_of_sandbox(path: &str) -> bool {
    let mut segments = path.split('/').filter(|segment| !segment.is_empty());
    match segments.next() {
        Some("sandbox") => true,
        Some("api") => segments.next() == Some("sandbox"),
        _ => false,
    }
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

#[cfg(test)]
mod tests {
    use cryptopay_test_support::{TestDatabase, block_on};
    use poem::http::StatusCode;

    use super::*;
    use crate::testing::app_with;

    async fn gateway(db: &TestDatabase, variables: &[(&str, &str)]) -> BoxEndpoint<'static, Response> {
        let (app, recorder) = (app_with(db, variables).await, crate::metrics::recorder().unwrap());
        routes(app, Readiness::default(), recorder, CancellationToken::new())
    }

    async fn get(gateway: &BoxEndpoint<'static, Response>, path: &str) -> Response {
        gateway.get_response(Request::builder().uri(path.parse().unwrap()).finish()).await
    }

    #[test]
    fn browsers_stay_on_https_where_the_public_url_is_https() {
        block_on(async {
            let db = TestDatabase::sqlite().await;
            for (url, expected) in [("https://pay.example", Some("max-age=31536000")), ("http://pay.example", None)] {
                let gateway = gateway(&db, &[("CRYPTOPAY_PUBLIC_URL", url)]).await;
                for path in ["/", "/docs/", "/healthz", "/order/ORD-aaaaaaaaaaaa", "/nothing"] {
                    assert_eq!(get(&gateway, path).await.header("Strict-Transport-Security"), expected, "{url} {path}");
                }
            }
        });
    }

    #[test]
    fn a_security_contact_is_published_where_one_is_configured() {
        block_on(async {
            let db = TestDatabase::sqlite().await;
            assert_eq!(get(&gateway(&db, &[]).await, security_txt::PATH).await.status(), StatusCode::NOT_FOUND);
            let contacts = "mailto:security@shop.example,https://shop.example/security";
            let variables = [("CRYPTOPAY_PUBLIC_URL", "https://pay.example"), ("CRYPTOPAY_SECURITY_CONTACT", contacts)];
            let answer = get(&gateway(&db, &variables).await, security_txt::PATH).await;
            assert_eq!((answer.status(), answer.content_type()), (StatusCode::OK, Some("text/plain; charset=utf-8")));
            let file = answer.into_body().into_string().await.unwrap();
            let (contact, rest) = file.split_once("\nExpires: ").unwrap();
            assert_eq!(contact, "Contact: mailto:security@shop.example\nContact: https://shop.example/security");
            assert!(rest.ends_with("Z\nCanonical: https://pay.example/.well-known/security.txt\n"), "{rest}");
        });
    }

    #[test]
    fn what_only_the_sandbox_has_is_known_by_its_path() {
        for path in ["/sandbox/inbox/x", "/api/sandbox/clock/advance/", "//api//sandbox/"] {
            assert!(is_of_sandbox(path), "{path}");
        }
        for path in ["/", "/api/payment-orders/sandbox/", "/order/sandbox", "/api/sandboxes/"] {
            assert!(!is_of_sandbox(path), "{path}");
        }
    }
}
