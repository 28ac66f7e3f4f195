//! Who asks: by the `Authorization` header, or by the payload of `connection_init`.

use std::time::Duration;

use async_graphql::Context;
use cryptopay_domain::merchant::Scope;
use cryptopay_entity::{api_key, clock};
use secrecy::{ExposeSecret, SecretString};

use super::failure::Failure;
use crate::app::App;
use crate::error::ApiError;
use crate::limits::{Bucket, used_up};
use crate::principal::{Credential, Principal, authenticate};

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
    let Credential::Key { id, .. } = &principal.credential else { return Ok(principal.valid_for()) };
    let key = api_key::Entity::find_owned(app.database(), principal.merchant_id(), *id).await?;
    let Some(expires_at) = key.and_then(|key| key.expires_at) else { return Ok(None) };
    Ok(Some(expires_at.since(clock::database_now(app.database()).await?)))
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

    /// Counts more for an operation that asks for several lists.
    ///
    /// # Errors
    /// `RATE_LIMITED`.
    pub(super) async fn count_more(&self, principal: &Principal, more: usize) -> Result<(), ApiError> {
        match self.app.limiter.take_several(Bucket::of(principal), more).await {
            Ok(_) => Ok(()),
            Err(standing) => {
                crate::metrics::rate_limited();
                Err(used_up(standing))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::sync::Arc;

    use async_graphql::{Data, Request};
    use cryptopay_domain::merchant::Plan;
    use cryptopay_test_support::{TestDatabase, on_both_databases};
    use futures_util::StreamExt;
    use secrecy::ExposeSecret;

    use super::*;
    use crate::operations::accounts::{self, Accounts, set_plan};
    use crate::rest::auth::Login;
    use crate::testing::{PASSWORD, app, fields, merchant};

    on_both_databases!(an_operation_on_a_socket_counts_one_and_asks_for_the_token_again, async |db: TestDatabase| {
        let app = app(&db).await;
        merchant(&app, "shop").await;
        let login = serde_json::json!({"username": "shop", "password": PASSWORD});
        let session = accounts::login(&app, fields::<Login>(login)).await.unwrap();
        let token = session.access.expose_secret();
        let schema = crate::graphql::schema(app.clone());
        let mut data = Data::default();
        data.insert(Meter::new(app.clone(), token));
        let data = Arc::new(data);
        let ask = async || {
            let operation = Request::new("{ me { username } }");
            let mut results = schema.execute_stream_with_session_data(operation, Arc::clone(&data));
            serde_json::to_value(results.next().await.unwrap()).unwrap()
        };
        let allow = async |limit| {
            set_plan(Accounts::from(&app), "shop", Plan::Standard, NonZeroU32::new(limit)).await.unwrap();
        };
        allow(2).await;
        for _ in 0..2 {
            assert_eq!(ask().await["data"]["me"]["username"], "shop");
        }
        assert_eq!(ask().await["errors"][0]["extensions"]["code"], "RATE_LIMITED");
        allow(4).await;
        assert_eq!(ask().await["data"]["me"]["username"], "shop");
        let principal = authenticate(&app, token).await.unwrap();
        accounts::logout(&app, &principal).await.unwrap();
        assert_eq!(ask().await["errors"][0]["extensions"]["code"], "TOKEN_INVALID");
    });
}
