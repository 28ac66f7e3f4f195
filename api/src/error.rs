//! What goes wrong, in the words of the contract: a code, a status, a message, and every field at fault.
//!
//! One table holds the codes. What the client reads and what the log reads are different things: a 500 never carries
//! internal text.

use std::collections::BTreeMap;

use cryptopay_entity::database_error::ErrorClass;
use cryptopay_entity::txn::Restart;
use cryptopay_ledger::{LedgerError, Refusal};
use poem::http::{HeaderMap, HeaderValue, StatusCode, header};
use sea_orm::DbErr;

/// Problems by field. A field's name is its path in the request (`amount`, `events[0]`).
pub type Faults = BTreeMap<String, Vec<String>>;

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $code:literal, $status:ident;)+) => {
        /// The codes of the contract.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum ErrorCode {
            $($(#[doc = $doc])+ $name,)+
        }

        impl ErrorCode {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The code as it is written.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code),+ }
            }

            /// Its HTTP status.
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status),+ }
            }

            /// What it means, in a line.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+)),+ }
            }
        }
    };
}

codes! {
    /// One or more fields are at fault; `details` names every one of them.
    ValidationError = "VALIDATION_ERROR", BAD_REQUEST;
    /// The body is no JSON.
    MalformedJson = "MALFORMED_JSON", BAD_REQUEST;
    /// The idempotency key was used for another request.
    IdempotencyKeyReused = "IDEMPOTENCY_KEY_REUSED", BAD_REQUEST;
    /// The object is not in a state that allows this.
    InvalidState = "INVALID_STATE", BAD_REQUEST;
    /// No token was sent.
    AuthenticationRequired = "AUTHENTICATION_REQUIRED", UNAUTHORIZED;
    /// User name or password is wrong.
    InvalidCredentials = "INVALID_CREDENTIALS", UNAUTHORIZED;
    /// The access token has expired: refresh it, or use an API key.
    TokenExpired = "TOKEN_EXPIRED", UNAUTHORIZED;
    /// The token is unknown, malformed or revoked.
    TokenInvalid = "TOKEN_INVALID", UNAUTHORIZED;
    /// The token is valid, but its scope does not cover this.
    PermissionDenied = "PERMISSION_DENIED", FORBIDDEN;
    /// There is no such object, or no such route.
    NotFound = "NOT_FOUND", NOT_FOUND;
    /// The route exists, but not with this method; `Allow` names those it has.
    MethodNotAllowed = "METHOD_NOT_ALLOWED", METHOD_NOT_ALLOWED;
    /// The first request with this idempotency key still runs.
    IdempotencyKeyInUse = "IDEMPOTENCY_KEY_IN_USE", CONFLICT;
    /// What follows this event's number is no longer kept; the message names the oldest that is.
    SequenceGone = "SEQUENCE_GONE", GONE;
    /// The body is larger than 256 KiB.
    PayloadTooLarge = "PAYLOAD_TOO_LARGE", PAYLOAD_TOO_LARGE;
    /// The body is not `application/json`.
    UnsupportedMediaType = "UNSUPPORTED_MEDIA_TYPE", UNSUPPORTED_MEDIA_TYPE;
    /// Too many requests; `Retry-After` says when to come again.
    RateLimited = "RATE_LIMITED", TOO_MANY_REQUESTS;
    /// Something broke on our side; the request id finds it in the log.
    InternalError = "INTERNAL_ERROR", INTERNAL_SERVER_ERROR;
    /// A part of the gateway is away at the moment; nothing was changed.
    ServiceUnavailable = "SERVICE_UNAVAILABLE", SERVICE_UNAVAILABLE;
    /// No unique amount near the price is free at the receiving address; the message contains the remedy.
    NoFreeAmount = "NO_FREE_AMOUNT", SERVICE_UNAVAILABLE;
}

/// The codes as a table in Markdown, for the documentation.
pub fn table() -> String {
    let head = "| status | code | meaning |\n|---|---|---|\n".to_owned();
    ErrorCode::ALL.iter().fold(head, |table, code| {
        let (status, word, meaning) = (code.status().as_u16(), code.as_str(), code.meaning().trim());
        format!("{table}| {status} | `{word}` | {meaning} |\n")
    })
}

/// An answer that is not a success.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}: {message}", code.as_str())]
pub struct ApiError {
    /// Code.
    pub code: ErrorCode,
    /// For the client.
    pub message: String,
    /// Every field at fault.
    pub details: Faults,
    /// When to come again.
    pub retry_after_secs: Option<u64>,
    /// Methods that the route has.
    pub allow: Option<String>,
}

impl ApiError {
    /// An error without fields.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: Faults::new(), retry_after_secs: None, allow: None }
    }

    /// Fields at fault.
    pub fn fields(details: Faults) -> Self {
        // Whoever logs the message alone should know what to mend, too.
        let message = match details.iter().next().filter(|_| details.len() == 1) {
            Some((name, problems)) => format!("{name}: {}", problems.join(" ")),
            None => format!("{} fields are at fault; details names them.", details.len()),
        };
        Self { details, ..Self::new(ErrorCode::ValidationError, message) }
    }

    /// One field at fault.
    pub fn field(name: &str, problem: impl Into<String>) -> Self {
        Self::fields(Faults::from([(name.to_owned(), vec![problem.into()])]))
    }

    /// No such object (of this merchant).
    pub fn not_found(what: &str) -> Self {
        Self::new(ErrorCode::NotFound, format!("There is no such {what}."))
    }

    /// The object does not allow this now.
    pub fn invalid_state(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidState, message)
    }

    /// The headers that belong to its answer, in REST and GraphQL alike.
    pub(crate) fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Some(secs) = self.retry_after_secs {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(secs));
        }
        if let Some(allow) = self.allow.as_deref().and_then(|allow| HeaderValue::from_str(allow).ok()) {
            headers.insert(header::ALLOW, allow);
        }
        let challenge = match self.code {
            ErrorCode::AuthenticationRequired => "Bearer",
            ErrorCode::TokenInvalid | ErrorCode::TokenExpired => "Bearer error=\"invalid_token\"",
            _ => return headers,
        };
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        headers
    }

    /// A failure of ours. `cause` goes to the log, never to the client.
    pub fn internal(cause: impl std::fmt::Display) -> Self {
        tracing::error!(%cause, "internal error");
        Self::new(ErrorCode::InternalError, "Something broke on our side. The request id finds it in the log.")
    }

    /// The request took too long and was stopped. `cause` goes to the log.
    pub fn too_long(cause: impl std::fmt::Display) -> Self {
        tracing::warn!(%cause, "a request was stopped");
        let message =
            "This took too long and was stopped. Nothing was changed; ask for less at once, or try again later.";
        Self { retry_after_secs: Some(5), ..Self::new(ErrorCode::ServiceUnavailable, message) }
    }

    /// A part of the gateway is away. `cause` goes to the log.
    pub fn unavailable(cause: impl std::fmt::Display) -> Self {
        tracing::warn!(%cause, "unavailable");
        let message = "A part of the gateway is away at the moment. Nothing was changed; try again in a few seconds.";
        Self { retry_after_secs: Some(1), ..Self::new(ErrorCode::ServiceUnavailable, message) }
    }
}

impl From<DbErr> for ApiError {
    fn from(error: DbErr) -> Self {
        match ErrorClass::of(&error) {
            ErrorClass::StatementTimeout => Self::too_long(&error),
            ErrorClass::Unavailable | ErrorClass::Conflict | ErrorClass::LockTimeout => Self::unavailable(&error),
            ErrorClass::UniqueViolation | ErrorClass::Other => Self::internal(&error),
        }
    }
}

impl From<LedgerError> for ApiError {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::Database(error) => error.into(),
            LedgerError::Refused(refusal) => refusal.into(),
            LedgerError::LostGuard | LedgerError::Fenced => Self::unavailable(error),
            LedgerError::Corrupt(_) => Self::internal(error),
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let message = refusal.to_string();
        match refusal {
            Refusal::OrderNotFound => Self::new(ErrorCode::NotFound, message),
            Refusal::ChainNotReady => {
                Self { retry_after_secs: Some(2), ..Self::new(ErrorCode::ServiceUnavailable, message) }
            }
            Refusal::NoFreeAmount => Self::new(ErrorCode::NoFreeAmount, message),
            Refusal::TokenDisabled { .. } => Self::new(ErrorCode::ServiceUnavailable, message),
            Refusal::NonceUsed { .. } => Self::field("nonce", message),
            Refusal::PriceTooSmall => Self::field("amount", message),
            Refusal::TransferNotFound | Refusal::AssetMismatch => Self::field("transaction_hash", message),
            Refusal::NotEnoughLeft { .. } | Refusal::AlreadyAllocated { .. } => Self::field("amount", message),
            Refusal::PositionNeeded { .. } | Refusal::NoSuchPosition { .. } => Self::field("position", message),
            Refusal::NotCancelable { .. }
            | Refusal::NoDecisionDue { .. }
            | Refusal::NothingToAccept
            | Refusal::TransferNotIncluded
            | Refusal::AddressProven
            | Refusal::OrderOver { .. } => Self::invalid_state(message),
        }
    }
}

impl Restart for ApiError {
    /// Conflicts were judged where they happened; what has become an answer is final.
    fn is_conflict(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use sea_orm::{RuntimeErr, sqlx};

    use super::*;

    #[test]
    fn a_database_that_breaks_off_is_away_and_no_defect_of_ours() {
        let broken = |error: sqlx::Error| DbErr::Query(RuntimeErr::SqlxError(Arc::new(error)));
        for error in [
            broken(sqlx::Error::Io(io::Error::new(io::ErrorKind::UnexpectedEof, "expected to read 5 bytes, got 0"))),
            broken(sqlx::Error::Io(io::Error::from_raw_os_error(104))),
        ] {
            assert_eq!(ApiError::from(error).code, ErrorCode::ServiceUnavailable);
        }
        assert_eq!(ApiError::from(broken(sqlx::Error::RowNotFound)).code, ErrorCode::InternalError);
    }
}
