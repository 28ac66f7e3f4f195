//! The shape of every answer.

use std::collections::BTreeMap;

use cryptopay_domain::time::Timestamp;
use poem::http::{HeaderValue, StatusCode, header};
use poem::{IntoResponse, Response};
use poem_openapi::payload::Payload;
use poem_openapi::registry::{MetaMediaType, MetaResponse, MetaResponses, MetaSchemaRef, Registry};
use poem_openapi::types::{ParseFromJSON, ToJSON, Type};
use poem_openapi::{ApiResponse, Object};

use crate::error::ApiError;

/// A JSON answer, `application/json` without parameters.
#[derive(Debug, Clone)]
pub struct Json<T>(pub T);

impl<T: Type> Payload for Json<T> {
    const CONTENT_TYPE: &'static str = "application/json";

    fn schema_ref() -> MetaSchemaRef {
        T::schema_ref()
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

impl<T: ToJSON> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        Response::builder()
            .header(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .body(self.0.to_json_string())
    }
}

/// A successful answer.
#[derive(Debug, Object)]
#[oai(rename = "Envelope")]
pub struct Envelope<T: Type + ParseFromJSON + ToJSON + Send + Sync> {
    /// Always true.
    pub success: bool,
    /// What was asked for.
    pub data: T,
    /// What happened, in a sentence. Names fields of the request that were ignored.
    pub message: String,
    /// When the answer was made: RFC 3339, UTC.
    pub timestamp: String,
}

/// A page of a list. The pagination block stands at the top and in `data` alike.
#[derive(Debug, Object)]
#[oai(rename = "ListEnvelope")]
pub struct ListEnvelope<T: Type + ParseFromJSON + ToJSON + Send + Sync> {
    /// Always true.
    pub success: bool,
    /// The pagination block.
    pub data: Page<T>,
    /// How many there are in all.
    pub count: u64,
    /// Relative address of the next page, with every other parameter.
    pub next: Option<String>,
    /// Relative address of the previous page.
    pub previous: Option<String>,
    /// This page.
    pub results: Vec<T>,
    /// What happened, in a sentence.
    pub message: String,
    /// When the answer was made: RFC 3339, UTC.
    pub timestamp: String,
}

/// A page of a list.
#[derive(Debug, Clone, Object)]
#[oai(rename = "Page")]
pub struct Page<T: Type + ParseFromJSON + ToJSON + Send + Sync> {
    /// How many there are in all.
    pub count: u64,
    /// Relative address of the next page, with every other parameter.
    pub next: Option<String>,
    /// Relative address of the previous page.
    pub previous: Option<String>,
    /// This page.
    pub results: Vec<T>,
}

/// An answer that is not a success.
#[derive(Debug, Object)]
#[oai(rename = "Error")]
pub struct ErrorEnvelope {
    /// Always false.
    pub success: bool,
    /// What went wrong.
    pub error: ErrorBody,
    /// When the answer was made: RFC 3339, UTC.
    pub timestamp: String,
}

/// What went wrong.
#[derive(Debug, Object)]
pub struct ErrorBody {
    /// One of a fixed set of codes.
    pub code: String,
    /// What to do about it, in a sentence or two.
    pub message: String,
    /// Every field at fault with its problems; only where fields are at fault.
    #[oai(skip_serializing_if_is_none)]
    pub details: Option<BTreeMap<String, Vec<String>>>,
}

/// Nothing: the `data` of an answer that has none.
#[derive(Debug, Default, Object)]
pub struct Nothing {}

/// 200 with an envelope.
#[derive(Debug)]
pub struct Success<T>(pub T, pub String);

/// 201 with an envelope.
#[derive(Debug)]
pub struct Created<T>(pub T, pub String);

/// 200 with a page of a list.
#[derive(Debug)]
pub struct Listed<T: Type + ParseFromJSON + ToJSON + Send + Sync>(pub Page<T>);

/// The result of every handler.
pub type Answer<T> = Result<T, ApiError>;

/// The time of an answer: the real clock, which nothing is decided by.
pub fn now() -> Timestamp {
    #[expect(clippy::disallowed_methods, reason = "the stamp of an answer decides nothing")]
    let now = std::time::SystemTime::now();
    let since = now.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

fn envelope<T: Type + ParseFromJSON + ToJSON + Send + Sync>(data: T, message: String) -> Json<Envelope<T>> {
    Json(Envelope { success: true, data, message, timestamp: now().to_string() })
}

fn documented<P: Payload>(status: StatusCode, description: &'static str) -> MetaResponses {
    MetaResponses {
        responses: vec![MetaResponse {
            description,
            status: Some(status.as_u16()),
            status_range: None,
            content: vec![MetaMediaType { content_type: P::CONTENT_TYPE, schema: P::schema_ref() }],
            headers: Vec::new(),
        }],
    }
}

impl<T: Type + ParseFromJSON + ToJSON + Send + Sync> ApiResponse for Success<T> {
    fn meta() -> MetaResponses {
        documented::<Json<Envelope<T>>>(StatusCode::OK, "Success")
    }

    fn register(registry: &mut Registry) {
        Json::<Envelope<T>>::register(registry);
    }
}

impl<T: Type + ParseFromJSON + ToJSON + Send + Sync> IntoResponse for Success<T> {
    fn into_response(self) -> Response {
        envelope(self.0, self.1).into_response()
    }
}

impl<T: Type + ParseFromJSON + ToJSON + Send + Sync> ApiResponse for Created<T> {
    fn meta() -> MetaResponses {
        documented::<Json<Envelope<T>>>(StatusCode::CREATED, "Created")
    }

    fn register(registry: &mut Registry) {
        Json::<Envelope<T>>::register(registry);
    }
}

impl<T: Type + ParseFromJSON + ToJSON + Send + Sync> IntoResponse for Created<T> {
    fn into_response(self) -> Response {
        envelope(self.0, self.1).with_status(StatusCode::CREATED).into_response()
    }
}

impl<T: Type + ParseFromJSON + ToJSON + Send + Sync + Clone> ApiResponse for Listed<T> {
    fn meta() -> MetaResponses {
        documented::<Json<ListEnvelope<T>>>(StatusCode::OK, "A page of the list")
    }

    fn register(registry: &mut Registry) {
        Json::<ListEnvelope<T>>::register(registry);
    }
}

impl<T: Type + ParseFromJSON + ToJSON + Send + Sync + Clone> IntoResponse for Listed<T> {
    fn into_response(self) -> Response {
        let page = self.0;
        Json(ListEnvelope {
            success: true,
            count: page.count,
            next: page.next.clone(),
            previous: page.previous.clone(),
            results: page.results.clone(),
            data: page,
            message: "Success".to_owned(),
            timestamp: now().to_string(),
        })
        .into_response()
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let headers = self.headers();
        let status = self.code.status();
        let body = ErrorEnvelope {
            success: false,
            error: ErrorBody {
                code: self.code.as_str().to_owned(),
                message: self.message,
                details: (!self.details.is_empty()).then_some(self.details),
            },
            timestamp: now().to_string(),
        };
        let mut response = Json(body).with_status(status).into_response();
        response.headers_mut().extend(headers);
        response
    }
}

impl From<ApiError> for poem::Error {
    fn from(error: ApiError) -> Self {
        let status = error.code.status();
        let mut wrapped = poem::Error::from_response(error.into_response());
        wrapped.set_error_message(status.to_string());
        wrapped
    }
}

impl ApiResponse for ApiError {
    fn meta() -> MetaResponses {
        let statuses = [
            (400, "A field is at fault, or the object's state does not allow this"),
            (401, "No valid token"),
            (403, "The token's scope does not cover this"),
            (404, "No such object"),
            (413, "The body is larger than 256 KiB"),
            (415, "The body is not application/json"),
            (429, "Too many requests"),
            (500, "Something broke on our side"),
            (503, "A part of the gateway is away; nothing was changed"),
        ];
        let response = |(status, description)| MetaResponse {
            description,
            status: Some(status),
            status_range: None,
            content: vec![MetaMediaType {
                content_type: Json::<ErrorEnvelope>::CONTENT_TYPE,
                schema: ErrorEnvelope::schema_ref(),
            }],
            headers: Vec::new(),
        };
        MetaResponses { responses: statuses.into_iter().map(response).collect() }
    }

    fn register(registry: &mut Registry) {
        ErrorEnvelope::register(registry);
    }
}
