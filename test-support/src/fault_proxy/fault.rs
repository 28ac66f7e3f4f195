//! What can be wrong with a node.

use super::lag::number;
use serde_json::{Value, json};
use std::{fmt, sync::Arc, time::Duration};

/// Changes the result of a call, given its method.
type Rewrite = Arc<dyn Fn(&str, &mut Value) + Send + Sync>;

/// Something wrong with the answers of a node: with all of them, unless it is restricted.
#[derive(Debug, Clone)]
pub struct Fault {
    pub(super) kind: Kind,
    methods: Vec<&'static str>,
    every: u64,
    /// Only log queries over more blocks.
    wider_than: Option<u64>,
    /// Only batches of more calls.
    more_calls_than: Option<usize>,
}

#[derive(Clone)]
pub(super) enum Kind {
    /// Later than usual.
    Delay(Duration),
    /// The connection stays open and silent.
    Hang,
    /// The connection is closed without an answer.
    Cut,
    /// An HTTP status with a few words.
    Status { code: u16, retry_after: Option<u64> },
    /// An HTTP status with this body, for every request.
    Answer { code: u16, body: Vec<u8> },
    /// A JSON-RPC error for each call, with HTTP 200.
    Error { code: i64, message: String },
    /// A JSON-RPC error for each call of the methods, and good answers to the others of the packet.
    CallError { code: i64, message: String },
    /// As from a node that is so many blocks behind.
    Lag(u64),
    /// Blanks, this many bytes of them, before an answer begins.
    Huge(u64),
    /// Half of the answer, announced as the whole.
    Truncated,
    /// Bytes that no text holds.
    NotUtf8,
    /// Other results.
    Rewrite(Rewrite),
}

impl Fault {
    /// Answers come this much later.
    #[must_use]
    pub fn delay(delay: Duration) -> Self {
        Self::of(Kind::Delay(delay))
    }

    /// No answer comes, and the connection stays open for as long as the proxy has this fault.
    #[must_use]
    pub fn hang() -> Self {
        Self::of(Kind::Hang)
    }

    /// The connection ends instead of an answer.
    #[must_use]
    pub fn cut() -> Self {
        Self::of(Kind::Cut)
    }

    /// An HTTP status, with a body that is no JSON.
    #[must_use]
    pub fn status(code: u16) -> Self {
        Self::of(Kind::Status { code, retry_after: None })
    }

    /// HTTP 429 that asks to come again after so many seconds.
    #[must_use]
    pub fn too_many_requests(retry_after_secs: u64) -> Self {
        Self::of(Kind::Status { code: 429, retry_after: Some(retry_after_secs) })
    }

    /// An HTTP status with this body.
    #[must_use]
    pub fn answer(code: u16, body: impl Into<Vec<u8>>) -> Self {
        Self::of(Kind::Answer { code, body: body.into() })
    }

    /// A JSON-RPC error for each call, with HTTP 200.
    #[must_use]
    pub fn error(code: i64, message: &str) -> Self {
        Self::of(Kind::Error { code, message: message.to_owned() })
    }

    /// A JSON-RPC error for each call of the methods, with good answers to the other calls of the packet.
    #[must_use]
    pub fn failing_calls(code: i64, message: &str) -> Self {
        Self::of(Kind::CallError { code, message: message.to_owned() })
    }

    /// Answers as from a node that does not know the newest blocks yet: heads are older, newer blocks and their
    /// transactions are unknown, ranges beyond its head hold nothing.
    #[must_use]
    pub fn lag(blocks: u64) -> Self {
        Self::of(Kind::Lag(blocks))
    }

    /// An answer of more than this many bytes.
    #[must_use]
    pub fn huge(bytes: u64) -> Self {
        Self::of(Kind::Huge(bytes))
    }

    /// An answer that breaks off halfway.
    #[must_use]
    pub fn truncated() -> Self {
        Self::of(Kind::Truncated)
    }

    /// An answer that is no text.
    #[must_use]
    pub fn not_utf8() -> Self {
        Self::of(Kind::NotUtf8)
    }

    /// The id of another chain.
    #[must_use]
    pub fn chain_id(id: u64) -> Self {
        Self::rewrite(move |_, result| *result = json!(format!("{id:#x}"))).on("eth_chainId")
    }

    /// Blocks in which nothing happened, as a node says that has not indexed them yet.
    #[must_use]
    pub fn empty_logs() -> Self {
        Self::rewrite(|_, result| *result = json!([])).on("eth_getLogs")
    }

    /// Every second log is missing, the first one among them.
    #[must_use]
    pub fn dropped_logs() -> Self {
        Self::rewrite(|_, result| {
            if let Some(logs) = result.as_array_mut() {
                let kept: Vec<Value> = logs.drain(..).skip(1).step_by(2).collect();
                *logs = kept;
            }
        })
        .on("eth_getLogs")
    }

    /// Results that `change` has seen to; it gets the method and the result.
    #[must_use]
    pub fn rewrite(change: impl Fn(&str, &mut Value) + Send + Sync + 'static) -> Self {
        Self::of(Kind::Rewrite(Arc::new(change)))
    }

    /// The same only where this method is called, alone or in a batch. Given several times, each of the methods counts.
    #[must_use]
    pub fn on(mut self, method: &'static str) -> Self {
        self.methods.push(method);
        self
    }

    /// The same only for each n-th of the requests that it is about; the others are answered well.
    #[must_use]
    pub fn every(self, nth: u64) -> Self {
        Self { every: nth, ..self }
    }

    /// The same only where logs of more than `blocks` blocks are asked for.
    #[must_use]
    pub fn wider_than(self, blocks: u64) -> Self {
        Self { wider_than: Some(blocks), ..self }
    }

    /// The same only where a batch of more than `calls` calls is sent; with 1, every batch.
    #[must_use]
    pub fn more_calls_than(self, calls: usize) -> Self {
        Self { more_calls_than: Some(calls), ..self }
    }

    fn of(kind: Kind) -> Self {
        Self { kind, methods: Vec::new(), every: 1, wider_than: None, more_calls_than: None }
    }

    /// Reports whether the fault is about a packet of these calls.
    pub(super) fn is_about_packet(&self, calls: &[Value]) -> bool {
        let method = |call: &Value| call["method"].as_str().unwrap_or_default().to_owned();
        calls.iter().any(|call| self.is_about(&method(call)))
            && self.wider_than.is_none_or(|most| calls.iter().any(|call| log_blocks(call) > most))
            && self.more_calls_than.is_none_or(|most| calls.len() > most)
    }

    /// Whether it is about a call of this method.
    pub(super) fn is_about(&self, method: &str) -> bool {
        self.methods.is_empty() || self.methods.contains(&method)
    }

    /// Whether it strikes the request that is the `count`-th (from 1) of those that it is about.
    pub(super) fn strikes(&self, count: u64) -> bool {
        count.checked_rem(self.every).is_some_and(|rest| rest == 0)
    }
}

/// Blocks of a log query; 0 for any other call.
fn log_blocks(call: &Value) -> u64 {
    let filter = &call["params"][0];
    let (Some(from), Some(to)) = (number(&filter["fromBlock"]), number(&filter["toBlock"])) else {
        return u64::from(call["method"] == "eth_getLogs");
    };
    to.saturating_sub(from).saturating_add(1)
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Delay(delay) => write!(f, "delay of {delay:?}"),
            Self::Hang => f.write_str("hang"),
            Self::Cut => f.write_str("cut"),
            Self::Status { code, retry_after } => write!(f, "status {code}, retry after {retry_after:?} s"),
            Self::Answer { code, body } => write!(f, "status {code} with {} bytes", body.len()),
            Self::Error { code, message } => write!(f, "error {code}: {message}"),
            Self::CallError { code, message } => write!(f, "error {code} of calls: {message}"),
            Self::Lag(blocks) => write!(f, "lag of {blocks} blocks"),
            Self::Huge(bytes) => write!(f, "{bytes} bytes"),
            Self::Truncated => f.write_str("truncated"),
            Self::NotUtf8 => f.write_str("not UTF-8"),
            Self::Rewrite(_) => f.write_str("other results"),
        }
    }
}
