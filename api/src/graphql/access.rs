//! Who asks: by the `Authorization` header, or by the payload of `connection_init`.

use async_graphql::Context;
use cryptopay_domain::merchant::Scope;
use secrecy::{ExposeSecret, SecretString};

use super::failure::Failure;
use crate::app::App;
use crate::error::ApiError;
use crate::limits::{Bucket, used_up};
use crate::principal::{Principal, authenticate};

/// The merchant of an operation, who may read. Every field but introspection asks for it.
///
/// # Errors
/// `AUTHENTICATION_REQUIRED` or `PERMISSION_DENIED`.
pub(super) fn reader<'a>(ctx: &Context<'a>) -> Result<&'a Principal, Failure> {
    let principal = ctx.data_opt::<Principal>().ok_or_else(Failure::unauthenticated)?;
    principal.require(Scope::Read)?;
    Ok(principal)
}

/// Counts the operations of a socket, each like a request of its own: the token is looked at again, so that one that was
/// taken back starts nothing more, and a new plan counts at once. What an operation streams counts nothing.
pub(super) struct Meter {
    app: App,
    bearer: SecretString,
}

impl Meter {
    /// Of a socket that was opened with this token.
    pub(super) fn new(app: App, bearer: &str) -> Self {
        Self { app, bearer: bearer.into() }
    }

    /// Counts one, and says for whom.
    ///
    /// # Errors
    /// As [`authenticate`]; `RATE_LIMITED`.
    pub(super) async fn count(&self) -> Result<Principal, ApiError> {
        let principal = authenticate(&self.app, self.bearer.expose_secret()).await?;
        match self.app.limiter.take(Bucket::of(&principal)).await {
            Ok(_) => Ok(principal),
            Err(standing) => {
                crate::metrics::rate_limited();
                Err(used_up(standing))
            }
        }
    }
}
