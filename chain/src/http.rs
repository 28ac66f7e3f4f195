//! JSON-RPC over HTTP: the answer's size is bounded while it streams in, redirects and proxies of the environment are
//! not followed, and no error holds the URL. Time is bounded by the caller, [`crate::rpc`], for every transport alike.

use std::fmt;
use std::io::Read;
use std::task::{Context, Poll};
use std::time::Duration;

use alloy::rpc::json_rpc::{RequestPacket, ResponsePacket};
use alloy::transports::{TransportError, TransportErrorKind, TransportFut};
use flate2::read::MultiGzDecoder;
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::redirect::Policy;
use tokio_tungstenite::tungstenite::ClientRequestBuilder;
use url::Url;

use crate::classify::is_quota;
use crate::{ChainError, Limits, packet};

/// Name and version of the gateway: some providers refuse requests without one.
pub(crate) const USER_AGENT: &str = concat!("cryptopay/", env!("CARGO_PKG_VERSION"));
/// First bytes of a gzip body. No JSON begins with them.
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// Most bytes of an answer with an HTTP error status: enough for a JSON-RPC error.
const MAX_ERROR_BODY_BYTES: usize = 64 * 1024;
/// Longest wait that an endpoint can ask of us.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3_600);

/// A transport to one URL.
#[derive(Clone)]
pub(crate) struct HttpTransport {
    client: reqwest::Client,
    url: Url,
    max_body_bytes: usize,
}

impl HttpTransport {
    /// Prepares the connection; nothing is sent yet.
    pub(crate) fn new(url: &Url, limits: &Limits) -> Result<Self, ChainError> {
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
            return Err(ChainError::Endpoint("enter an http:// or https:// URL with a host".into()));
        }
        // reqwest has no TLS cryptography of its own here; the first to install it wins, and any winner is ring.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .user_agent(USER_AGENT)
            .no_proxy()
            .redirect(Policy::none())
            .connect_timeout(limits.timeout)
            .build()
            .map_err(|error| {
                ChainError::Endpoint(format!("TLS cannot be set up ({error}); are root certificates installed?"))
            })?;
        Ok(Self { client, url: url.clone(), max_body_bytes: limits.max_body_bytes })
    }

    async fn post(self, packet: RequestPacket) -> Result<ResponsePacket, ChainError> {
        let malformed =
            |error: serde_json::Error| ChainError::Malformed { method: "a request", reason: error.to_string() };
        let body = serde_json::to_vec(&packet).map_err(malformed)?;
        let response = self
            .client
            .post(self.url)
            .header(CONTENT_TYPE, "application/json")
            .body(body)
            .send()
            .await
            .map_err(broken)?;
        let status = response.status();
        if status.is_success() {
            let body = read(response, self.max_body_bytes).await?;
            return packet::read(&body).map_err(malformed);
        }
        let retry_after = retry_after(response.headers());
        let plain = ChainError::from_status(status.as_u16(), retry_after);
        if matches!(plain, ChainError::RateLimited { .. } | ChainError::QuotaUsed) {
            return Err(plain);
        }
        if status.as_u16() == 413 && packet.len() > 1 {
            return Err(ChainError::BatchTooLarge { calls: packet.len() });
        }
        let Ok(body) = read(response, MAX_ERROR_BODY_BYTES).await else { return Err(plain) };
        // Some providers send their JSON-RPC errors with HTTP 400 or 500. Their code and method tell a used-up plan from a
        // limit of one query.
        if let Ok(packet) = packet::read(&body)
            && packet.is_error()
        {
            return Ok(packet);
        }
        let words = String::from_utf8_lossy(&body).to_ascii_lowercase();
        let is_used_up = matches!(plain, ChainError::Refused { .. }) && is_quota(&words);
        Err(if is_used_up { ChainError::QuotaUsed } else { plain })
    }
}

impl fmt::Debug for HttpTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HttpTransport").field(&origin(&self.url)).finish()
    }
}

impl tower::Service<RequestPacket> for HttpTransport {
    type Response = ResponsePacket;
    type Error = TransportError;
    type Future = TransportFut<'static>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, packet: RequestPacket) -> Self::Future {
        let this = self.clone();
        Box::pin(async move { this.post(packet).await.map_err(TransportErrorKind::custom) })
    }
}

/// What of a URL may be shown: scheme, host and port. User, path and query often hold keys.
pub(crate) fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// The handshake of a WebSocket, with the same User-Agent.
pub(crate) fn handshake(url: &Url) -> ClientRequestBuilder {
    // A URL is a URI; the root stands for one that is none, and no connection comes of it.
    let uri = url.as_str().parse().unwrap_or_default();
    ClientRequestBuilder::new(uri).with_header("user-agent", USER_AGENT)
}

/// Parts of a URL that a node might repeat in its errors and that must not be logged.
pub(crate) fn secrets(url: &Url) -> Vec<String> {
    let path = url.path_segments().into_iter().flatten().map(str::to_owned);
    let query = url.query_pairs().map(|(_, value)| value.into_owned());
    let user = [Some(url.username()), url.password()].into_iter().flatten().map(str::to_owned);
    // Shorter ones ("v2", "rpc") are no keys, and hiding them would garble every message.
    path.chain(query).chain(user).filter(|part| part.len() >= 8).collect()
}

/// Reads a body to its end, but never more than `limit_bytes`, packed or unpacked.
async fn read(mut response: reqwest::Response, limit_bytes: usize) -> Result<Vec<u8>, ChainError> {
    let too_large = || ChainError::BodyTooLarge { limit_bytes };
    if response.content_length().is_some_and(|length| usize::try_from(length).is_ok_and(|length| length > limit_bytes))
    {
        return Err(too_large());
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(broken)? {
        if body.len().saturating_add(chunk.len()) > limit_bytes {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    if body.starts_with(&GZIP) { unpack(&body, limit_bytes) } else { Ok(body) }
}

/// Unpacks a body that was packed although no `Accept-Encoding` was sent.
fn unpack(packed: &[u8], limit_bytes: usize) -> Result<Vec<u8>, ChainError> {
    let mut body = Vec::new();
    let most = u64::try_from(limit_bytes).unwrap_or(u64::MAX).saturating_add(1);
    MultiGzDecoder::new(packed).take(most).read_to_end(&mut body).map_err(|error| ChainError::Malformed {
        method: "a request",
        reason: format!("its gzip cannot be unpacked: {error}"),
    })?;
    if body.len() > limit_bytes { Err(ChainError::BodyTooLarge { limit_bytes }) } else { Ok(body) }
}

fn broken(error: reqwest::Error) -> ChainError {
    ChainError::Unreachable(Box::new(error.without_url()))
}

/// `Retry-After` in its form of whole seconds, which is what RPC providers send.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER))
}
