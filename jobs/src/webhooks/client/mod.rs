//! The outgoing webhook HTTP client: posts a body to a URL that a stranger chose, and says what came of it.
//!
//! It guarantees that
//! - no connection is opened to an address of [`addresses::ban`] unless the operator exempts it. Names are judged by
//!   the client's own resolver, so the address that was judged is the one that is connected to and a second look-up
//!   (DNS rebinding) gains nothing; literal addresses, which no resolver sees, are judged before sending; redirects
//!   and proxies are not followed;
//! - a receiver costs a bounded time ([`TOTAL`]), memory (4 KiB of body, 64 headers) and number of connections
//!   ([`OPEN_CONNECTIONS`] in this process);
//! - a call is one attempt: nothing that a receiver may have seen is sent again.
//!
//! It leaves out signatures, retries, and what counts as success: those belong to the delivery job.
//!
//! | file | holds |
//! |---|---|
//! | `addresses.rs` | the banned ranges with their sources |
//! | `policy.rs` | the operator's exemptions, the refusal and its mend |
//! | `urls.rs` | what a URL must be, when it is stored and when it is used |
//! | `resolver.rs` | names to addresses that may be connected to |
//! | `origins.rs` | who may keep connections open |
//! | `answer.rs` | status, first 4 KiB, `Retry-After` |
//! | `failure.rs` | why there was no answer, in words for the integrator |

pub mod addresses;
mod answer;
mod failure;
mod origins;
mod policy;
mod resolver;
mod shortcut;
#[cfg(test)]
mod tests;
mod urls;

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};
use url::Url;

pub use answer::{Answer, MAX_BODY_BYTES, MAX_RETRY_AFTER};
pub use failure::{Failure, Phase};
use origins::KeptOrigins;
pub use policy::{ClientPolicy, Refused};
use resolver::PublicResolver;
pub use shortcut::Shortcut;
pub use urls::{MAX_URL_CHARS, UrlProblem, check_url, origin};

/// A receiver has this long from the start of the attempt to send its status.
pub const TOTAL: Duration = Duration::from_secs(15);

/// Name look-up, TCP and TLS together may take this long.
pub const CONNECT: Duration = Duration::from_secs(5);

/// Connections that this process has open at most, idle ones included. Well under the 1,024 file descriptors that many
/// systems give a process, which also needs some for the API, the database and the chains.
pub const OPEN_CONNECTIONS: usize = 512;

/// More headers than this in an answer are a failure.
pub const MAX_HEADERS: usize = 64;

/// Posts webhooks. Cheap to clone; one per process, since the bounds are per client.
#[derive(Debug, Clone)]
pub struct WebhookClient(Arc<Inner>);

/// What came of one attempt.
#[derive(Debug)]
pub struct Outcome {
    /// From the first look-up to the end of the part of the body that is read. Excludes waiting for a free connection.
    pub duration: Duration,
    /// The answer, whatever its status, or why there was none.
    pub result: Result<Answer, Failure>,
}

/// The client could not be built.
#[derive(Debug, thiserror::Error)]
#[error(
    "the webhook client cannot start: TLS could not be set up. Install the system's CA certificates (package ca-certificates) or point SSL_CERT_FILE at a bundle"
)]
pub struct ClientError(#[from] reqwest::Error);

impl WebhookClient {
    /// A client for this deployment.
    ///
    /// Without `https_only` a machine that has no CA certificates gets a client that can do plain HTTP only, and a
    /// warning in the log, so that trying things out needs none.
    ///
    /// # Errors
    /// TLS cannot be set up; the words say how to mend it.
    pub fn new(policy: ClientPolicy) -> Result<Self, ClientError> {
        Self::with_limits(policy, Limits::default())
    }

    /// The same, with a way to this process itself.
    ///
    /// # Errors
    /// As of [`new`](Self::new).
    pub fn with_shortcut(policy: ClientPolicy, shortcut: Option<Shortcut>) -> Result<Self, ClientError> {
        Self::build(policy, Limits::default(), shortcut)
    }

    /// Posts `body`, as JSON, to `url` once. `headers` are added to `Content-Type` and `User-Agent`, and win over them.
    ///
    /// Waits up to 10 s for a free connection, then takes at most [`TOTAL`] until the status, and 5 s more at most for
    /// the rest, within the same 15 s. A body that breaks off or dawdles does not undo the status that came before it.
    /// Dropping the future closes the connection.
    pub async fn post(&self, url: &Url, headers: &[(&'static str, String)], body: impl Into<reqwest::Body>) -> Outcome {
        let limits = &self.0.limits;
        let Ok(Ok(_slot)) = timeout(limits.slot_wait, self.0.slots.acquire()).await else {
            return Outcome { duration: Duration::ZERO, result: Err(Failure::Busy) };
        };
        let start = Instant::now();
        let result = self.0.send(url, headers, body.into(), start + limits.total).await;
        Outcome { duration: start.elapsed(), result }
    }

    /// How many posts could start now without waiting. A worker that claims no more than this keeps its claims fresh.
    pub fn free_slots(&self) -> usize {
        self.0.slots.available_permits()
    }

    fn with_limits(policy: ClientPolicy, limits: Limits) -> Result<Self, ClientError> {
        Self::build(policy, limits, None)
    }

    fn build(policy: ClientPolicy, limits: Limits, shortcut: Option<Shortcut>) -> Result<Self, ClientError> {
        // Refused when somebody installed one before, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let policy = Arc::new(policy);
        let resolver = Arc::new(PublicResolver::new(policy.clone()));
        let build = |idle, roots| builder(&policy, &limits, &resolver, idle, roots).build();
        let (roots, keeping) = match build(limits.idle_per_origin, Roots::System) {
            Err(error) if !policy.https_only => {
                tracing::warn!(error = %error, "no CA certificates on this machine: webhooks to https:// will fail");
                (Roots::None, build(limits.idle_per_origin, Roots::None)?)
            }
            built => (Roots::System, built?),
        };
        Ok(Self(Arc::new(Inner {
            keeping,
            closing: build(0, roots)?,
            slots: Semaphore::new(limits.in_flight),
            origins: KeptOrigins::new(limits.kept_origins, limits.idle * 2),
            policy,
            limits,
            shortcut,
        })))
    }
}

#[derive(Debug)]
struct Inner {
    /// For the origins of `origins`: keeps idle connections.
    keeping: reqwest::Client,
    /// For everybody else: one connection per request.
    closing: reqwest::Client,
    policy: Arc<ClientPolicy>,
    limits: Limits,
    slots: Semaphore,
    origins: KeptOrigins,
    shortcut: Option<Shortcut>,
}

/// Bounds of one client. Tests make them smaller.
#[derive(Debug, Clone)]
struct Limits {
    total: Duration,
    connect: Duration,
    /// For reading the body once the status is known.
    body: Duration,
    /// For a free slot. With `total` it stays under the 30 s for which a delivery is claimed.
    slot_wait: Duration,
    /// Requests at one time.
    in_flight: usize,
    /// Origins that keep connections.
    kept_origins: usize,
    /// Idle connections of one such origin.
    idle_per_origin: usize,
    /// How long a connection may stay idle. Shorter than the 5 s after which Node.js closes one by default: a request
    /// that meets the closing is lost.
    idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        const KEPT_ORIGINS: usize = 32;
        const IDLE_PER_ORIGIN: usize = 4;
        Self {
            total: TOTAL,
            connect: CONNECT,
            body: Duration::from_secs(5),
            slot_wait: Duration::from_secs(10),
            in_flight: OPEN_CONNECTIONS - KEPT_ORIGINS * IDLE_PER_ORIGIN,
            kept_origins: KEPT_ORIGINS,
            idle_per_origin: IDLE_PER_ORIGIN,
            idle: Duration::from_secs(4),
        }
    }
}

/// Whose word counts on who a TLS server is.
#[derive(Debug, Clone, Copy)]
enum Roots {
    System,
    None,
}

impl Inner {
    async fn send(
        &self,
        url: &Url,
        headers: &[(&'static str, String)],
        body: reqwest::Body,
        deadline: Instant,
    ) -> Result<Answer, Failure> {
        let here = self.shortcut.as_ref().and_then(|shortcut| shortcut.take(url));
        if here.is_none() {
            // Again, since the policy may have changed since the URL was stored, and because no resolver is asked about
            // a literal address.
            urls::judge(url, &self.policy)?;
        }
        let url = here.as_ref().unwrap_or(url);
        let headers = header_map(headers)?;
        let origin = origin(url);
        let seat = self.origins.enter(&origin, Instant::now());
        let client = if seat.is_some() { &self.keeping } else { &self.closing };
        let sent = client.post(url.clone()).headers(headers).body(body).send();
        let response = timeout_at(deadline, sent)
            .await
            .map_err(|_| Failure::TimedOut { phase: Phase::Answer, after: self.limits.total })?
            .map_err(|error| failure::classify(&error, &origin, self.limits.connect))?;
        Ok(answer::read(response, deadline.min(Instant::now() + self.limits.body)).await)
    }
}

fn builder(
    policy: &ClientPolicy,
    limits: &Limits,
    resolver: &Arc<PublicResolver>,
    idle_per_origin: usize,
    roots: Roots,
) -> reqwest::ClientBuilder {
    let builder = reqwest::Client::builder()
        .user_agent(concat!("CryptoPay/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .no_proxy()
        .referer(false)
        .retry(reqwest::retry::never())
        .https_only(policy.https_only)
        .http1_only()
        .http1_max_headers(MAX_HEADERS)
        // Header names are written as they are documented, for receivers that compare them letter by letter.
        .http1_title_case_headers()
        .connect_timeout(limits.connect)
        .pool_max_idle_per_host(idle_per_origin)
        .pool_idle_timeout(limits.idle)
        .dns_resolver(resolver.clone());
    match roots {
        Roots::System => builder,
        Roots::None => builder.tls_certs_only([]),
    }
}

fn header_map(headers: &[(&'static str, String)]) -> Result<HeaderMap, Failure> {
    let mut map = HeaderMap::with_capacity(headers.len() + 1);
    map.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for (name, value) in headers {
        let bad = |_| Failure::Header { name };
        let value = HeaderValue::try_from(value).map_err(|_| Failure::Header { name })?;
        map.insert(HeaderName::from_bytes(name.as_bytes()).map_err(bad)?, value);
    }
    Ok(map)
}
