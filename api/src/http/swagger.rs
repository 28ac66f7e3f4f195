//! Swagger UI, compiled in.

use std::sync::{Arc, LazyLock};

use poem::http::{StatusCode, header};
use poem::{IntoResponse, Request, Response, handler};
use utoipa_swagger_ui::Config;

use crate::error::ApiError;

static CONFIG: LazyLock<Arc<Config<'static>>> = LazyLock::new(|| {
    Arc::new(Config::from("/openapi.json").try_it_out_enabled(true).persist_authorization(true).deep_linking(true))
});

/// Everything comes from this gateway, and no site may frame the page, on which access tokens are typed. Swagger UI sets
/// `style` attributes, and its icons are `data:` URLs.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
                      font-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

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
            let response = Response::builder()
                .content_type(file.content_type)
                .header(header::CONTENT_SECURITY_POLICY, POLICY)
                .header(header::X_FRAME_OPTIONS, "DENY");
            Ok(response.body(file.bytes.into_owned()).into_response())
        }
        Ok(None) => Err(ApiError::not_found("page").into()),
        Err(error) => Err(ApiError::internal(error).into()),
    }
}
