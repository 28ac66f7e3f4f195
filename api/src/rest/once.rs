//! Answers to requests that create something, or change it for good: the same answer again for the same `Idempotency-Key`.

use std::marker::PhantomData;

use poem::http::{HeaderValue, StatusCode, header};
use poem::{IntoResponse, Response};
use poem_openapi::ApiResponse;
use poem_openapi::registry::{MetaHeader, MetaResponses, Registry};
use poem_openapi::types::{ToJSON, Type};
use serde_json::json;

use super::envelope::{Created, Success, now};
use crate::operations::once::{self, Outcome};

/// Says that the answer was given before.
const REPLAYED: &str = "Idempotent-Replayed";

/// What was made, as it is answered with.
pub fn answer(made: &impl ToJSON, message: &str) -> once::Answer {
    once::Answer { data: made.to_json().unwrap_or_default(), message: message.to_owned(), timestamp: now().to_string() }
}

/// 201 with an envelope around a `T`.
pub type CreatedOnce<T> = Once<Created<T>>;

/// 200 with an envelope around a `T`.
pub type DoneOnce<T> = Once<Success<T>>;

/// An answer that always has the same status.
pub trait OneStatus {
    /// That status.
    const STATUS: StatusCode;
}

impl<T> OneStatus for Created<T> {
    const STATUS: StatusCode = StatusCode::CREATED;
}

impl<T> OneStatus for Success<T> {
    const STATUS: StatusCode = StatusCode::OK;
}

/// An answer that is given once and then repeated, documented by `D`.
#[derive(Debug)]
pub struct Once<D> {
    answer: once::Answer,
    again: bool,
    documented_by: PhantomData<fn() -> D>,
}

impl<D, V> From<Outcome<V>> for Once<D> {
    fn from(outcome: Outcome<V>) -> Self {
        let (answer, again) = match outcome {
            Outcome::First(_, answer) => (answer, false),
            Outcome::Again(answer) => (answer, true),
        };
        Self { answer, again, documented_by: PhantomData }
    }
}

impl<D: OneStatus> IntoResponse for Once<D> {
    fn into_response(self) -> Response {
        let once::Answer { data, message, timestamp } = self.answer;
        let body = json!({"success": true, "data": data, "message": message, "timestamp": timestamp});
        let mut response = Response::builder()
            .status(D::STATUS)
            .header(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if self.again {
            response = response.header(REPLAYED, HeaderValue::from_static("true"));
        }
        response.body(body.to_string())
    }
}

impl<D: ApiResponse> ApiResponse for Once<D> {
    fn meta() -> MetaResponses {
        let mut meta = D::meta();
        for response in &mut meta.responses {
            response.headers.push(MetaHeader {
                name: REPLAYED.to_owned(),
                description: Some(
                    "`true` where an earlier request with the same Idempotency-Key was answered so".into(),
                ),
                required: false,
                deprecated: false,
                schema: bool::schema_ref(),
            });
        }
        meta
    }

    fn register(registry: &mut Registry) {
        D::register(registry);
    }
}
