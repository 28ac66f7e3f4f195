//! Everything that is no success gets the shape of the contract, whoever noticed it.

use poem::http::StatusCode;
use poem::{IntoResponse, Response};
use poem_openapi::error::{AuthorizationError, ParseParamError, ParsePathError};
use serde_json::Value;

use crate::error::{ApiError, ErrorCode};
use crate::rest::document::openapi;

/// Which methods each documented path has, for `Allow`.
#[derive(Debug)]
pub(super) struct Methods(Vec<(Vec<String>, Vec<String>)>);

impl Methods {
    /// Read from the OpenAPI document, so that it cannot be wrong about a route.
    pub(super) fn of_document() -> Self {
        let document = openapi().unwrap_or_default();
        let mut methods = vec![
            (segments("/"), vec!["GET".to_owned()]),
            (segments("/graphql"), vec!["GET".to_owned(), "POST".to_owned()]),
            (segments("/order/{id}"), vec!["GET".to_owned()]),
            (segments("/qr/{id}"), vec!["GET".to_owned()]),
            (segments("/sandbox/inbox/{token}"), vec!["POST".to_owned()]),
        ];
        if let Some(paths) = document.get("paths").and_then(Value::as_object) {
            for (path, item) in paths {
                let known = ["get", "post", "put", "patch", "delete"];
                let has = known.iter().filter(|method| item.get(**method).is_some());
                methods.push((segments(path), has.map(|method| method.to_uppercase()).collect()));
            }
        }
        Self(methods)
    }

    /// The documented paths, in the form `/order/{id}`.
    pub(super) fn patterns(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|(segments, _)| format!("/{}", segments.join("/")))
    }

    /// Where there is nothing but `GET`.
    pub(super) fn none() -> Self {
        Self(Vec::new())
    }

    fn allow(&self, path: &str) -> Option<String> {
        let path = segments(path);
        let fits = |pattern: &[String]| {
            pattern.len() == path.len()
                && pattern.iter().zip(&path).all(|(pattern, segment)| pattern.starts_with('{') || pattern == segment)
        };
        let (_, methods) = self.0.iter().find(|(pattern, _)| fits(pattern))?;
        Some(methods.join(", "))
    }
}

fn segments(path: &str) -> Vec<String> {
    path.split('/').filter(|segment| !segment.is_empty()).map(str::to_owned).collect()
}

/// The answer to an error of a route at `path`; without methods there is no such route, whatever it is asked for with.
pub(super) fn answer(error: poem::Error, path: &str, methods: Option<&Methods>) -> Response {
    if error.is_from_response() {
        return error.into_response();
    }
    let mut answer = convert(&error);
    if answer.code == ErrorCode::MethodNotAllowed {
        let Some(methods) = methods else { return no_route().into_response() };
        // What is not listed can only be read.
        answer.allow = Some(methods.allow(path).unwrap_or_else(|| "GET".to_owned()));
    }
    answer.into_response()
}

fn convert(error: &poem::Error) -> ApiError {
    if error.downcast_ref::<AuthorizationError>().is_some() {
        let message = "Send the header Authorization: Bearer <token>, with an access token from login or an API key.";
        return ApiError::new(ErrorCode::AuthenticationRequired, message);
    }
    if error.downcast_ref::<ParsePathError>().is_some() || error.is::<poem::error::ParsePathError>() {
        return ApiError::not_found("object");
    }
    if let Some(parameter) = error.downcast_ref::<ParseParamError>() {
        return ApiError::field(parameter.name, parameter.reason.clone());
    }
    match error.status() {
        StatusCode::NOT_FOUND => no_route(),
        StatusCode::METHOD_NOT_ALLOWED => {
            ApiError::new(ErrorCode::MethodNotAllowed, "This route exists, but not with this method.")
        }
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::new(ErrorCode::PayloadTooLarge, "The body is larger than 256 KiB."),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            ApiError::new(ErrorCode::UnsupportedMediaType, "Send the header Content-Type: application/json.")
        }
        status if status.is_server_error() => ApiError::internal(error),
        _ => ApiError::new(ErrorCode::MalformedJson, "The request cannot be read."),
    }
}

fn no_route() -> ApiError {
    ApiError::new(ErrorCode::NotFound, "There is no such route; /docs/ lists them.")
}

/// The answer of a handler that panicked.
pub(super) fn panicked() -> Response {
    ApiError::internal("a handler panicked").into_response()
}
