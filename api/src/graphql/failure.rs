//! What goes wrong, as GraphQL says it: a message, and `extensions { code, details, requestId }` with REST's codes.

use async_graphql::{Error, ErrorExtensionValues, ServerError, Value};
use sea_orm::DbErr;

use crate::error::{ApiError, ErrorCode, Faults};

/// Id of the HTTP request that carries an operation, for `extensions.requestId`. Whoever gives requests their ids puts it
/// into the request's extensions.
#[derive(Debug, Clone)]
pub struct RequestId(pub String);

/// An error of a field. Not `Display`: async-graphql would turn it into an error without code by itself.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    code: &'static str,
    message: String,
    details: Faults,
}

impl Failure {
    /// No token was sent.
    pub(super) fn unauthenticated() -> Self {
        ApiError::new(
            ErrorCode::AuthenticationRequired,
            "Send a token: the header Authorization: Bearer <token>, or the payload of connection_init.",
        )
        .into()
    }

    /// One argument at fault.
    pub(super) fn argument(name: &str, problem: impl Into<String>) -> Self {
        ApiError::field(name, problem).into()
    }

    /// No such object (of this merchant).
    pub(super) fn not_found(what: &str) -> Self {
        ApiError::not_found(what).into()
    }

    /// Events right after the sequence that was asked for are no longer kept; `oldest` is the first that is.
    pub(super) fn sequence_gone(oldest: i64) -> Self {
        let message = format!(
            "Events after this sequence are no longer kept; the oldest is {oldest}. Query the order together with \
             eventCursor, and subscribe after that."
        );
        ApiError::new(ErrorCode::SequenceGone, message).into()
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self { code: error.code.as_str(), message: error.message, details: error.details }
    }
}

impl From<DbErr> for Failure {
    fn from(error: DbErr) -> Self {
        ApiError::from(error).into()
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let mut extensions = ErrorExtensionValues::default();
        extensions.set("code", failure.code);
        if !failure.details.is_empty()
            && let Ok(details) = Value::from_json(serde_json::json!(failure.details))
        {
            extensions.set("details", details);
        }
        Self { message: failure.message, source: None, extensions: Some(extensions) }
    }
}

impl From<Failure> for ServerError {
    fn from(failure: Failure) -> Self {
        let error = Error::from(failure);
        let mut server = Self::new(error.message, None);
        server.extensions = error.extensions;
        server
    }
}

/// The code of an error, if it has one yet.
pub(super) fn code(error: &ServerError) -> Option<&str> {
    match error.extensions.as_ref()?.get("code")? {
        Value::String(code) => Some(code),
        _ => None,
    }
}

/// Adds what every error has: a code, where the library made the error (a request that does not parse or fit the
/// schema), and the id of the request.
pub(super) fn complete(error: &mut ServerError, request_id: Option<&RequestId>) {
    let extensions = error.extensions.get_or_insert_default();
    if extensions.get("code").is_none() {
        extensions.set("code", ErrorCode::ValidationError.as_str());
    }
    if let Some(RequestId(id)) = request_id {
        extensions.set("requestId", id.as_str());
    }
}
