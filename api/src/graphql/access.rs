//! Who asks: by the `Authorization` header, or by the payload of `connection_init`.

use std::time::Duration;

use async_graphql::Context;
use cryptopay_domain::merchant::Scope;
use cryptopay_entity::{api_key, clock};
use poem::Request;
use poem::http::header;

use super::failure::Failure;
use crate::app::App;
use crate::error::{ApiError, ErrorCode};
use crate::principal::{Credential, Principal};

/// The merchant of an operation, who may read. Every field but introspection asks for it.
///
/// # Errors
/// `AUTHENTICATION_REQUIRED` or `PERMISSION_DENIED`.
pub(super) fn reader<'a>(ctx: &Context<'a>) -> Result<&'a Principal, Failure> {
    let principal = ctx.data_opt::<Principal>().ok_or_else(Failure::unauthenticated)?;
    principal.require(Scope::Read)?;
    Ok(principal)
}

/// How long a stream may last that this principal opens; `None` where the credential does not end by itself.
///
/// # Errors
/// Only failures of the database.
pub(super) async fn valid_for(app: &App, principal: &Principal) -> Result<Option<Duration>, ApiError> {
    let expires_at = match &principal.credential {
        Credential::Login { expires_at, .. } => Some(*expires_at),
        Credential::Key { id, .. } => api_key::Entity::expiry(app.database(), *id).await?,
    };
    let Some(expires_at) = expires_at else { return Ok(None) };
    Ok(Some(expires_at.since(clock::database_now(app.database()).await?)))
}

/// The token in the `Authorization` header; `None` where there is no such header.
///
/// # Errors
/// `TOKEN_INVALID`: a header that holds no bearer token.
pub(super) fn bearer(request: &Request) -> Result<Option<&str>, ApiError> {
    let Some(value) = request.headers().get(header::AUTHORIZATION) else { return Ok(None) };
    let token = value.to_str().ok().and_then(|value| value.trim().split_once(' ')).and_then(|(scheme, token)| {
        let token = token.trim();
        (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
    });
    let wrong = || ApiError::new(ErrorCode::TokenInvalid, "Send the header as Authorization: Bearer <token>.");
    token.map(Some).ok_or_else(wrong)
}
