//! A server for `graphql-transport-ws`, the sub-protocol of `/graphql/ws`.
//!
//! async-graphql brings a loop of its own, but that one closes with 1002 where clients expect the protocol's 44xx codes,
//! and it holds whatever a slow reader does not take. This one
//!
//! - speaks the protocol exactly, with queries, mutations and subscriptions, and closes with the codes of [`Code`];
//! - is bounded in every direction: size of a frame, operations, queued messages and bytes, and the time that anything
//!   may take. While a reader is behind, its operations rest and its frames are not read; one that takes nothing for
//!   [`Limits::stalled_after`] is closed;
//! - ends a connection when its token expires or is revoked, and when the process shuts down.
//!
//! It leaves out what comes before the upgrade: the `Origin` check, the offer of [`PROTOCOL`] and the cap of connections
//! per merchant (refuse in `authenticate`, and keep the permit in the session's data: it is dropped with the connection).
//!
//! `message` reads and writes frames, `protocol` decides (messages in, actions out, no I/O), `connection` drives a socket,
//! `outbox` holds what waits for the client.

mod connection;
mod message;
mod outbox;
mod protocol;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::time::Duration;

use async_graphql::{Data, Executor};
use poem::web::websocket::{WebSocketConfig, WebSocketStream};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use connection::Connection;

/// The sub-protocol to offer: `WebSocket::protocols([PROTOCOL])`.
pub const PROTOCOL: &str = "graphql-transport-ws";

/// Serves one connection until either side ends it; returns when the socket may be dropped.
///
/// `authenticate` is called at most once, with the payload of `connection_init` (`null` if it has none); see [`token_of`].
/// The socket should be configured with [`Limits::socket_config`]. Cancelling `shutdown` closes with 1012.
pub async fn serve<E, A, F>(
    socket: WebSocketStream,
    executor: E,
    authenticate: A,
    limits: Limits,
    shutdown: CancellationToken,
) -> Ended
where
    E: Executor,
    A: FnOnce(Value) -> F + Send,
    F: Future<Output = Result<Session, InitRefusal>> + Send,
{
    Connection::new(socket, executor, limits, shutdown).run(authenticate).await
}

/// The token in the payload of `connection_init`: `Authorization` or `authorization` (`Bearer <token>`), or `token`.
pub fn token_of(payload: &Value) -> Option<&str> {
    let text = |key: &str| payload.get(key).and_then(Value::as_str).map(str::trim);
    let token = match text("Authorization").or_else(|| text("authorization")) {
        Some(header) => {
            let (scheme, token) = header.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())?
        }
        None => text("token")?,
    };
    (!token.is_empty()).then_some(token)
}

/// Who is connected, and for how long.
#[derive(Default)]
pub struct Session {
    /// What every operation of the connection finds in its context. Dropped when the connection ends.
    pub data: Data,
    /// How long the token still holds; `None` is for ever. The connection is closed with 4403 after it.
    pub valid_for: Option<Duration>,
    /// Cancelled when the token is revoked: the connection is closed with 4403.
    pub revoked: Option<CancellationToken>,
}

/// Why `authenticate` lets nobody in. The text goes to the client as the reason (at most 123 bytes of it).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InitRefusal {
    /// The token is missing, wrong, expired or revoked: 4403.
    #[error("{0}")]
    Forbidden(String),
    /// Not now: too many connections, or the database is away. 1013, and clients try again.
    #[error("{0}")]
    Unavailable(String),
}

/// The codes that this server closes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Code {
    /// The process shuts down; connect again.
    Restart = 1012,
    /// The reader does not keep up, or nobody can be let in now; connect again later.
    TryAgainLater = 1013,
    /// A frame that is no message of the protocol, or is too long.
    BadRequest = 4400,
    /// An operation before `connection_ack`.
    Unauthorized = 4401,
    /// The token is bad, expired or revoked.
    Forbidden = 4403,
    /// No `connection_init` in time.
    InitTimeout = 4408,
    /// An operation with this id is running.
    DuplicateId = 4409,
    /// A second `connection_init`.
    TooManyInits = 4429,
}

impl From<Code> for u16 {
    fn from(code: Code) -> Self {
        code as Self
    }
}

/// Why and how the server closes a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Close {
    /// The code.
    pub code: Code,
    /// The reason, for people: at most 123 bytes, as a close frame holds no more.
    pub reason: String,
}

impl Close {
    /// With as much of `reason` as a close frame holds.
    fn new(code: Code, reason: impl Into<String>) -> Self {
        /// A control frame holds 125 bytes (RFC 6455, section 5.5), two of which are the code.
        const LONGEST: usize = 123;
        let mut reason = reason.into();
        reason.truncate(reason.floor_char_boundary(LONGEST));
        Self { code, reason }
    }
}

impl fmt::Display for Close {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", u16::from(self.code), self.reason)
    }
}

impl From<InitRefusal> for Close {
    fn from(refusal: InitRefusal) -> Self {
        match refusal {
            InitRefusal::Forbidden(reason) => Self::new(Code::Forbidden, reason),
            InitRefusal::Unavailable(reason) => Self::new(Code::TryAgainLater, reason),
        }
    }
}

/// How a connection ended.
#[derive(Debug)]
pub enum Ended {
    /// The server closed it.
    ByServer(Close),
    /// The client closed it or went away.
    ByClient,
    /// The connection failed.
    Broken(io::Error),
}

/// What one connection may use.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Longest frame and message from the client, in bytes.
    pub frame_bytes: usize,
    /// Most operations that may run at once.
    pub operations: usize,
    /// Most messages that wait for the client to read.
    pub queued_messages: usize,
    /// Most bytes that wait; one message may go beyond it.
    pub queued_bytes: usize,
    /// From the upgrade to `connection_ack`.
    pub init_within: Duration,
    /// Between two pings. A client that is silent from one to the next is taken for gone.
    pub ping_every: Duration,
    /// How long the client may take to read one message, once it holds up the rest.
    pub stalled_after: Duration,
    /// How long the client may take to answer a close.
    pub close_within: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame_bytes: 64 * 1024,
            operations: 100,
            queued_messages: 64,
            queued_bytes: 256 * 1024,
            init_within: Duration::from_secs(10),
            // Proxies commonly cut what is silent for 30 s or 60 s.
            ping_every: Duration::from_secs(25),
            stalled_after: Duration::from_secs(10),
            close_within: Duration::from_secs(2),
        }
    }
}

impl Limits {
    /// The configuration for `WebSocket::config`: the frame limit, and buffers small enough for thousands of connections.
    pub fn socket_config(&self) -> WebSocketConfig {
        WebSocketConfig::default()
            .max_frame_size(Some(self.frame_bytes))
            .max_message_size(Some(self.frame_bytes))
            .read_buffer_size(2 * 1024)
            // Each message goes to the socket at once; what it does not take is counted by our own queue.
            .write_buffer_size(0)
    }
}
