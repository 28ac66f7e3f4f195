//! Who is asking: a merchant, by an access token from a login or by an API key.

use std::time::Duration;

use cryptopay_domain::ids::{ApiKeyId, MerchantId};
use cryptopay_domain::merchant::Scope;
use cryptopay_domain::time::Timestamp;
use cryptopay_entity::{api_key, clock, merchant, refresh_token};
use poem::Request;
use poem_openapi::SecurityScheme;
use poem_openapi::auth::Bearer;
use sea_orm::EntityTrait;

use crate::app::App;
use crate::error::{ApiError, ErrorCode};
use crate::security::api_keys::{ApiKey, is_api_key};
use crate::security::tokens::{FamilyId, TokenError};

/// An authenticated merchant.
#[derive(Debug, Clone)]
pub struct Principal {
    /// The account.
    pub merchant: merchant::Model,
    /// By what it was recognised.
    pub credential: Credential,
}

/// By what a merchant was recognised.
#[derive(Debug, Clone)]
pub enum Credential {
    /// An access token of a login; it may do everything.
    Login {
        /// The login's family of tokens.
        family: FamilyId,
        /// When the access token expires.
        expires_at: Timestamp,
    },
    /// An API key.
    Key {
        /// Which.
        id: ApiKeyId,
        /// What it may do.
        scopes: Vec<Scope>,
    },
}

impl Principal {
    /// The merchant's key.
    pub fn merchant_id(&self) -> MerchantId {
        self.merchant.id
    }

    /// How the audit log calls whoever asks.
    pub fn actor(&self) -> String {
        match &self.credential {
            Credential::Login { .. } => "merchant".to_owned(),
            Credential::Key { id, .. } => format!("api key {id}"),
        }
    }

    /// Refuses what the credential's scope does not cover.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`, with the scope named.
    pub fn require(&self, scope: Scope) -> Result<(), ApiError> {
        match &self.credential {
            Credential::Key { scopes, .. } if !scopes.contains(&scope) => {
                let message = format!("This API key lacks the scope \"{scope}\".");
                Err(ApiError::new(ErrorCode::PermissionDenied, message))
            }
            _ => Ok(()),
        }
    }

    /// Refuses API keys, for what only a login may do.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`.
    pub fn require_login(&self) -> Result<&FamilyId, ApiError> {
        match &self.credential {
            Credential::Login { family, .. } => Ok(family),
            Credential::Key { .. } => {
                let message = "This needs an access token from login; an API key is not enough.";
                Err(ApiError::new(ErrorCode::PermissionDenied, message))
            }
        }
    }
}

/// Recognises a bearer token.
///
/// # Errors
/// `TOKEN_EXPIRED` or `TOKEN_INVALID`.
pub async fn authenticate(app: &App, bearer: &str) -> Result<Principal, ApiError> {
    let now = clock::database_now(app.database()).await?;
    if is_api_key(bearer) { by_key(app, bearer, now).await } else { by_access_token(app, bearer, now).await }
}

async fn by_access_token(app: &App, bearer: &str, now: Timestamp) -> Result<Principal, ApiError> {
    let claims = app.keys.tokens().verify(bearer, now).map_err(|error| match error {
        TokenError::Expired => ApiError::new(
            ErrorCode::TokenExpired,
            "This access token has expired. Get a new pair from /api/auth/token/refresh/, or use an API key.",
        ),
        TokenError::Invalid => invalid(),
    })?;
    if !refresh_token::Entity::family_is_live(app.database(), claims.family.as_str()).await? {
        return Err(invalid());
    }
    let merchant = merchant::Entity::find_by_id(claims.merchant).one(app.database()).await?.ok_or_else(invalid)?;
    let credential = Credential::Login { family: claims.family, expires_at: claims.expires_at };
    Ok(Principal { merchant, credential })
}

async fn by_key(app: &App, bearer: &str, now: Timestamp) -> Result<Principal, ApiError> {
    let key = ApiKey::parse(bearer).map_err(|_| invalid())?;
    if key.mode() != app.config.mode {
        return Err(invalid());
    }
    let digest = key.digest();
    let row = api_key::Entity::find_by_digest(app.database(), digest.as_str()).await?;
    let row = row.filter(|row| digest.matches(&row.secret_hash)).ok_or_else(invalid)?;
    if row.revoked_at.is_some() || row.expires_at.is_some_and(|at| at <= now) {
        return Err(invalid());
    }
    let merchant = merchant::Entity::find_by_id(row.merchant_id).one(app.database()).await?.ok_or_else(invalid)?;
    if row.last_used_at.is_none_or(|at| now.since(at) >= LAST_USED_PRECISION) {
        api_key::Entity::note_use(app.database(), row.id, now).await?;
    }
    let scopes = row.scopes.split(',').filter_map(|scope| scope.parse().ok()).collect();
    Ok(Principal { merchant, credential: Credential::Key { id: row.id, scopes } })
}

/// How exactly the last use of a key is remembered: a write per request would cost more than it tells.
const LAST_USED_PRECISION: Duration = Duration::from_secs(60);

fn invalid() -> ApiError {
    ApiError::new(ErrorCode::TokenInvalid, "This token is unknown, malformed or revoked.")
}

/// A merchant who may look.
#[derive(Debug, SecurityScheme)]
#[oai(ty = "bearer", rename = "bearerAuth", checker = "check_read")]
pub struct Reader(pub Principal);

/// A merchant who may create and decide.
#[derive(Debug, SecurityScheme)]
#[oai(ty = "bearer", rename = "bearerAuth", checker = "check_write")]
pub struct Writer(pub Principal);

/// A merchant who may manage the account.
#[derive(Debug, SecurityScheme)]
#[oai(ty = "bearer", rename = "bearerAuth", checker = "check_manage")]
pub struct Manager(pub Principal);

async fn check_read(request: &Request, bearer: Bearer) -> poem::Result<Principal> {
    check(request, bearer, Scope::Read).await
}

async fn check_write(request: &Request, bearer: Bearer) -> poem::Result<Principal> {
    check(request, bearer, Scope::Write).await
}

async fn check_manage(request: &Request, bearer: Bearer) -> poem::Result<Principal> {
    check(request, bearer, Scope::Manage).await
}

async fn check(request: &Request, bearer: Bearer, scope: Scope) -> poem::Result<Principal> {
    let app = request.data::<App>().ok_or_else(|| ApiError::internal("no App in the request"))?;
    let principal = authenticate(app, &bearer.token).await?;
    principal.require(scope)?;
    Ok(principal)
}
