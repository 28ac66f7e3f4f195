//! What can go wrong between us and a node, and whether asking again can help.

use std::error::Error;
use std::time::Duration;

use alloy::transports::{RpcError, TransportError, TransportErrorKind};
use cryptopay_domain::address::Hash;

/// Why an endpoint gave no answer that can be used. No variant holds a URL beyond its host.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// The endpoint's URL or the local TLS set-up cannot be used.
    #[error("this endpoint cannot be used: {0}")]
    Endpoint(String),
    /// The caller asked for something that makes no sense.
    #[error("the query makes no sense: {0}")]
    Query(&'static str),
    /// No connection, or it broke.
    #[error("the endpoint cannot be reached")]
    Unreachable(#[source] Box<dyn Error + Send + Sync>),
    /// No complete answer in time.
    #[error("the endpoint gave no complete answer within {} ms", after.as_millis())]
    TimedOut {
        /// How long we waited.
        after: Duration,
    },
    /// Too many requests.
    #[error("the endpoint asks for fewer requests: wait, add another endpoint, or raise the plan")]
    RateLimited {
        /// How long the endpoint asks us to wait.
        retry_after: Option<Duration>,
    },
    /// The endpoint's plan is used up.
    #[error("the endpoint's quota is used up: raise the plan, wait until it is renewed, or add another endpoint")]
    QuotaUsed,
    /// The endpoint, or what stands before it, has a fault of its own (HTTP 5xx).
    #[error("the endpoint answered HTTP {status}")]
    Unavailable {
        /// HTTP status.
        status: u16,
        /// How long the endpoint asks us to wait.
        retry_after: Option<Duration>,
    },
    /// The endpoint will not serve us (HTTP 3xx or 4xx).
    #[error("the endpoint answered HTTP {status}: check its URL and key (redirects are not followed)")]
    Refused {
        /// HTTP status.
        status: u16,
    },
    /// The answer was larger than we read.
    #[error("the answer is larger than {limit_bytes} bytes")]
    BodyTooLarge {
        /// Most bytes that we read.
        limit_bytes: usize,
    },
    /// Not JSON, not JSON-RPC, or not of the method's form.
    #[error("the answer to {method} cannot be read: {reason}")]
    Malformed {
        /// What was asked.
        method: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A JSON-RPC error that is none of the others.
    #[error("the node answered {method} with error {code}: {message}")]
    Node {
        /// What was asked.
        method: &'static str,
        /// JSON-RPC error code.
        code: i64,
        /// The node's words, shortened and without the endpoint's secrets.
        message: String,
    },
    /// The node does not offer this method.
    #[error("the node does not offer {method}")]
    MethodMissing {
        /// The method.
        method: &'static str,
    },
    /// Too many blocks at once: ask for fewer.
    #[error("the range is too large for this endpoint{}", limit.map(|limit| format!(" (its limit: {limit} blocks)")).unwrap_or_default())]
    RangeTooLarge {
        /// Most blocks at once, where the endpoint said so.
        limit: Option<u64>,
    },
    /// A query over several blocks failed in a way that may depend on their number: ask for fewer.
    #[error("a query over {blocks} blocks failed: {cause}")]
    RangeFailed {
        /// Blocks of the query, at least two.
        blocks: u64,
        /// Most blocks at once, where the endpoint said so.
        limit: Option<u64>,
        /// The failure itself.
        cause: Box<ChainError>,
    },
    /// The endpoint refuses log queries, even over a single block.
    #[error("the endpoint does not serve logs: it refuses eth_getLogs even for a single block ({reason})")]
    LogsRefused {
        /// The refusal, shortened and without the endpoint's secrets.
        reason: String,
    },
    /// Too many addresses in one filter: ask for fewer.
    #[error("the endpoint takes no filter of {recipients} addresses: it needs one that does")]
    FilterTooLarge {
        /// How many addresses the filter had.
        recipients: usize,
    },
    /// Too many calls in one batch, even for the smallest batch that is of use.
    #[error("the endpoint takes no batch of {calls} calls: it needs one that does")]
    BatchTooLarge {
        /// How many calls the batch had.
        calls: usize,
    },
    /// A header does not hash to the hash that the node gives it.
    #[error("the header of block {number} does not hash to {stated}")]
    HeaderHashMismatch {
        /// Height.
        number: u64,
        /// What the node says.
        stated: Hash,
        /// What the header hashes to; `None` where it has a shape that we cannot encode.
        computed: Option<Hash>,
    },
    /// A block whose parent is not the block below it: the chain changed while we read, or the node mixes two.
    #[error("block {number} does not follow the block below it")]
    BrokenLink {
        /// Height of the upper block.
        number: u64,
    },
    /// The node does not have this block.
    #[error("the node does not have block {number}")]
    BlockMissing {
        /// Height.
        number: u64,
    },
    /// The node holds another block at this height than we do, or none.
    #[error("the node does not hold block {number} as {expected}")]
    NotOnChain {
        /// Height.
        number: u64,
        /// The block that we hold.
        expected: Hash,
        /// What the node holds.
        found: Option<Hash>,
    },
    /// The node told of a transaction's log or value, but does not have its receipt or the transaction.
    #[error("the node does not have transaction {tx_hash} in a block")]
    TransactionMissing {
        /// Hash of the transaction.
        tx_hash: Hash,
    },
    /// The node holds logs back: those that it gives of a block are fewer than the block's verified header speaks of.
    #[error("the node's logs of block {number} are not all that the block's header speaks of")]
    LogsMissing {
        /// Height.
        number: u64,
    },
    /// A block that is stamped with a time which has not come.
    #[error(
        "block {number} is stamped {} s ahead of the database's clock: if that clock is right, the endpoint is not",
        ahead.as_secs()
    )]
    FromTheFuture {
        /// Height.
        number: u64,
        /// How far ahead.
        ahead: Duration,
    },
    /// The endpoint is of another chain.
    #[error(
        "the endpoint is of the chain with id {found}, not {expected}: correct its URL or the chain_id in the registry"
    )]
    WrongChain {
        /// The chain's id in the registry, or the one that the endpoint had before.
        expected: u64,
        /// What the endpoint says.
        found: u64,
    },
    /// Two endpoints have to say the same, and did not, or there was none to ask.
    #[error("no two endpoints of the chain say the same at the moment")]
    Unconfirmed,
    /// The answer contradicts itself, or is not what was asked for.
    #[error("the node's answer to {method} is untrue: {what}")]
    Untrue {
        /// What was asked.
        method: &'static str,
        /// What gave it away.
        what: String,
    },
}

impl ChainError {
    /// Whether asking this endpoint the same again, later, can help. Where this is false, ask for less
    /// ([`Self::RangeTooLarge`]), ask another endpoint, or mend the configuration.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unreachable(_)
            | Self::TimedOut { .. }
            | Self::RateLimited { .. }
            | Self::QuotaUsed
            | Self::Unavailable { .. }
            | Self::Malformed { .. }
            | Self::BrokenLink { .. }
            | Self::BlockMissing { .. }
            | Self::NotOnChain { .. }
            | Self::LogsMissing { .. }
            | Self::HeaderHashMismatch { .. }
            | Self::FromTheFuture { .. }
            | Self::Unconfirmed
            | Self::RangeFailed { .. }
            | Self::LogsRefused { .. }
            | Self::TransactionMissing { .. } => true,
            Self::Node { code, message, .. } => {
                matches!(code, -32603 | -32099..=-32000) && !message.to_ascii_lowercase().contains("revert")
            }
            Self::Endpoint(_)
            | Self::Query(_)
            | Self::Refused { .. }
            | Self::BodyTooLarge { .. }
            | Self::MethodMissing { .. }
            | Self::RangeTooLarge { .. }
            | Self::FilterTooLarge { .. }
            | Self::BatchTooLarge { .. }
            | Self::WrongChain { .. }
            | Self::Untrue { .. } => false,
        }
    }

    /// How long the endpoint asks us to leave it alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after } | Self::Unavailable { retry_after, .. } => *retry_after,
            Self::RangeFailed { cause, .. } => cause.retry_after(),
            _ => None,
        }
    }

    /// Whether the endpoint said something that cannot be true, which should cost it its standing. A header that does not
    /// hash to its own name is no lie by itself: it may have a shape that we do not know, which only another endpoint can
    /// tell ([`crate::Endpoints::judge_header`]).
    pub fn is_lie(&self) -> bool {
        matches!(self, Self::Untrue { .. })
    }
}

impl ChainError {
    /// Whether the endpoint has not got there yet: no fault of it, where another one may simply be ahead.
    pub fn is_not_there_yet(&self) -> bool {
        matches!(
            self,
            Self::BlockMissing { .. } | Self::NotOnChain { found: None, .. } | Self::TransactionMissing { .. }
        )
    }

    /// Reports whether a narrower query may be answered where this one was not.
    pub fn is_about_width(&self) -> bool {
        matches!(self, Self::RangeFailed { .. })
    }

    /// Reports whether calls that were sent as one batch may be answered one by one.
    pub(crate) fn is_about_batch(&self) -> bool {
        match self {
            Self::BatchTooLarge { .. } => true,
            Self::Refused { status } => matches!(status, 400 | 405 | 406 | 411 | 413 | 414 | 415 | 422),
            Self::Unavailable { status, .. } => matches!(status, 500 | 501),
            _ => false,
        }
    }

    /// Reports whether no answer came, so that the endpoint may be away altogether.
    pub fn is_silence(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::TimedOut { .. } | Self::Unavailable { .. } => true,
            Self::RangeFailed { cause, .. } => cause.is_silence(),
            _ => false,
        }
    }

    /// The failure of a query over `blocks` blocks. Every failure of several blocks may depend on their number, unless it is
    /// a rate limit, or about what the endpoint holds or has said. A single block cannot be narrowed: a refusal of its logs
    /// means that the endpoint serves none.
    #[must_use]
    pub fn of_range(self, blocks: u64) -> Self {
        let limit = match &self {
            Self::RangeTooLarge { limit } => *limit,
            Self::Unreachable(_)
            | Self::TimedOut { .. }
            | Self::Unavailable { .. }
            | Self::Refused { .. }
            | Self::BodyTooLarge { .. }
            | Self::Malformed { .. }
            | Self::Node { .. }
            | Self::MethodMissing { .. }
            | Self::FilterTooLarge { .. }
            | Self::BatchTooLarge { .. } => None,
            _ => return self,
        };
        match self {
            cause if blocks > 1 => Self::RangeFailed { blocks, limit, cause: Box::new(cause) },
            cause @ (Self::RangeTooLarge { .. } | Self::MethodMissing { method: "eth_getLogs" }) => {
                Self::LogsRefused { reason: cause.to_string() }
            }
            other => other,
        }
    }

    /// Whether the endpoint, or the one of several behind its address that answered, has not got there yet: asking again
    /// at once may reach another.
    pub(crate) fn is_behind(&self) -> bool {
        self.is_not_there_yet() || matches!(self, Self::LogsMissing { .. })
    }
}

/// What a transport reports. One that knows better hands a [`ChainError`] as its custom error.
impl From<TransportError> for ChainError {
    fn from(error: TransportError) -> Self {
        let malformed = |reason: String| Self::Malformed { method: "a request", reason };
        match error {
            RpcError::Transport(TransportErrorKind::Custom(custom) | TransportErrorKind::NonRetryable(custom)) => {
                match custom.downcast::<Self>() {
                    Ok(error) => *error,
                    Err(other) => Self::Unreachable(other),
                }
            }
            RpcError::Transport(TransportErrorKind::HttpError(error)) => Self::from_status(error.status, None),
            RpcError::Transport(TransportErrorKind::HttpErrorWithRetryAfter { error, retry_after }) => {
                Self::from_status(error.status, Some(retry_after))
            }
            RpcError::Transport(other) => Self::Unreachable(Box::new(other)),
            RpcError::DeserError { err, .. } => malformed(err.to_string()),
            other => malformed(other.to_string()),
        }
    }
}

impl ChainError {
    /// What an HTTP status other than success means where the body does not say more.
    pub(crate) fn from_status(status: u16, retry_after: Option<Duration>) -> Self {
        match status {
            402 => Self::QuotaUsed,
            429 => Self::RateLimited { retry_after },
            500.. => Self::Unavailable { status, retry_after },
            _ => Self::Refused { status },
        }
    }
}
