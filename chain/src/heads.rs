//! New heads over a WebSocket: a wake-up and nothing else.
//!
//! Nothing that comes over the socket is believed, or even read beyond that it came: whoever is woken asks an HTTP
//! endpoint. So a socket that is dead, lies or floods costs latency at most.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio::time::timeout;
use tokio_tungstenite::connect_async_with_config;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use url::Url;

use crate::ChainError;
use crate::classify::shorten;
use crate::http::{handshake, origin, secrets};

/// Most bytes of a message: a header has about two thousand.
const MAX_MESSAGE_BYTES: usize = 64 * 1024;
/// Longest wait for the connection, and for the answer to a ping.
const TIMEOUT: Duration = Duration::from_secs(10);
/// After so long without a message the other side is asked whether it is there.
const QUIET: Duration = Duration::from_secs(15);

/// A `ws(s)` URL that tells of new heads.
#[derive(Clone)]
pub struct Heads {
    url: Url,
}

impl Heads {
    /// Nothing is sent yet.
    ///
    /// # Errors
    /// [`ChainError::Endpoint`] if the URL is not WS(S).
    pub fn new(url: &Url) -> Result<Self, ChainError> {
        if !matches!(url.scheme(), "ws" | "wss") || url.host_str().is_none_or(str::is_empty) {
            return Err(ChainError::Endpoint("enter a ws:// or wss:// URL with a host".into()));
        }
        Ok(Self { url: url.clone() })
    }

    /// What logs call it: scheme, host and port.
    pub fn name(&self) -> String {
        origin(&self.url)
    }

    /// Connects, subscribes, and calls `wake` for each message, until the connection is over. Gives why it is, and whether
    /// there was one at all.
    pub async fn listen(&self, mut wake: impl FnMut() + Send) -> Ended {
        // The first to install it wins, and any winner is ring.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let config = WebSocketConfig::default()
            .max_message_size(Some(MAX_MESSAGE_BYTES))
            .max_frame_size(Some(MAX_MESSAGE_BYTES));
        let connecting = connect_async_with_config(handshake(&self.url), Some(config), true);
        let mut socket = match timeout(TIMEOUT, connecting).await {
            Ok(Ok((socket, _))) => socket,
            Ok(Err(error)) => return Ended { worked: false, reason: self.words(&error) },
            Err(_) => return Ended { worked: false, reason: "no connection in time".into() },
        };
        let subscription = json!({ "jsonrpc": "2.0", "id": 1, "method": "eth_subscribe", "params": ["newHeads"] });
        if let Err(error) = socket.send(Message::text(subscription.to_string())).await {
            return Ended { worked: false, reason: self.words(&error) };
        }
        let (mut worked, mut pinged) = (false, false);
        loop {
            let wait = if pinged { TIMEOUT } else { QUIET };
            match timeout(wait, socket.next()).await {
                Ok(Some(Ok(Message::Text(_) | Message::Binary(_)))) => {
                    (worked, pinged) = (true, false);
                    wake();
                }
                Ok(Some(Ok(Message::Close(_))) | None) => return Ended { worked, reason: "it was closed".into() },
                Ok(Some(Ok(_))) => pinged = false,
                Ok(Some(Err(error))) => return Ended { worked, reason: self.words(&error) },
                Err(_) if pinged => return Ended { worked, reason: "it fell silent".into() },
                Err(_) => {
                    if let Err(error) = socket.send(Message::Ping(Vec::new().into())).await {
                        return Ended { worked, reason: self.words(&error) };
                    }
                    pinged = true;
                }
            }
        }
    }

    fn words(&self, error: &tokio_tungstenite::tungstenite::Error) -> String {
        let mut words = error.to_string();
        for secret in secrets(&self.url) {
            words = words.replace(&secret, "***");
        }
        shorten(&words)
    }
}

impl std::fmt::Debug for Heads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Heads").field(&self.name()).finish()
    }
}

/// Why there are no more heads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Whether any message came.
    pub worked: bool,
    /// In words, without secrets.
    pub reason: String,
}
