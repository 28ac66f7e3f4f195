//! Swagger UI, compiled in.

use std::sync::{Arc, LazyLock};

use poem::http::{StatusCode, header};
use poem::{IntoResponse, Request, Response, handler};
use utoipa_swagger_ui::Config;

use crate::error::ApiError;

static CONFIG: LazyLock<Arc<Config<'static>>> = LazyLock::new(|| {
    Arc::new(Config::from("/openapi.json").try_it_out_enabled(true).persist_authorization(true).deep_linking(true))
});

/// The page and its parts. `/docs` itself redirects, because the page's parts are relative.
#[handler]
pub(super) fn swagger(request: &Request) -> Result<Response, poem::Error> {
    if request.original_uri().path() == "/docs" {
        return Ok(Response::builder()
            .status(StatusCode::MOVED_PERMANENTLY)
            .header(header::LOCATION, "/docs/")
            .finish());
    }
    let tail = request.uri().path().trim_start_matches('/');
    match utoipa_swagger_ui::serve(tail, CONFIG.clone()) {
        Ok(Some(file)) => {
            Ok(Response::builder().content_type(file.content_type).body(file.bytes.into_owned()).into_response())
        }
        Ok(None) => Err(ApiError::not_found("page").into()),
        Err(error) => Err(ApiError::internal(error).into()),
    }
}
