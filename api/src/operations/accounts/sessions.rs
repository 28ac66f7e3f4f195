//! Logins: a family of refresh tokens, each used once, and the access tokens that carry the family's id.
//!
//! Whatever opens or ends a login locks the merchant's row first. So no token joins a family that is being ended, and no
//! login with the old password outlives its change. Which of two uses of one token came first is decided by a
//! compare-and-set all the same.

use std::time::Duration;

use cryptopay_domain::time::Timestamp;
use cryptopay_entity::{clock, merchant, refresh_token, transact};
use sea_orm::{ConnectionTrait, DbErr};
use secrecy::SecretString;
use serde_json::json;

use super::Failure;
use crate::app::App;
use crate::error::{ApiError, ErrorCode};
use crate::fields::Fields;
use crate::operations::audit;
use crate::principal::{Principal, authenticate};
use crate::security::Keys;
use crate::security::passwords::Verdict;
use crate::security::tokens::{ACCESS_LIFETIME, FamilyId, REFRESH_LIFETIME, RefreshToken};

/// How long a used refresh token still gets a sibling: two tabs, or a retry after an answer was lost. Source: the REST
/// contract.
const REUSE_WINDOW: Duration = Duration::from_secs(60);
/// How often a password is checked again because the stored one was changed, or hashed anew, in the meantime.
const MAX_CHECKS: u32 = 3;

/// A login, as its answer tells it once.
#[derive(Debug)]
pub struct Session {
    /// Who.
    pub merchant: merchant::Model,
    /// Access token.
    pub access: SecretString,
    /// Refresh token.
    pub refresh: RefreshToken,
    /// How long the access token is good for.
    pub expires_in: Duration,
}

/// Logs in with a user name or an e-mail address, in any case, and a password.
///
/// # Errors
/// `INVALID_CREDENTIALS`, the same and after the same work whether there is such a user or not; missing fields;
/// `SERVICE_UNAVAILABLE` when too many passwords are being checked.
pub async fn login(app: &App, fields: Fields) -> Result<Session, ApiError> {
    fields.finish()?;
    let (Some(name), Some(password)) = (fields.trimmed("username"), fields.text("password")) else {
        return Err(fields.faulty());
    };
    let password = SecretString::from(password);
    for _ in 0..MAX_CHECKS {
        let found = merchant::Entity::find_by_login(app.database(), name).await?;
        let stored = found.as_ref().map(|merchant| merchant.password_hash.as_str());
        let verdict = app.passwords.verify(password.clone(), stored).await?;
        let (Some(found), Verdict::Right { renewed }) = (&found, verdict) else {
            let now = clock::database_now(app.database()).await?;
            audit::failed_login(app.database(), found.as_ref(), now).await?;
            return Err(wrong_credentials());
        };
        if let Some(session) = open_checked(app, found, renewed.as_deref()).await? {
            return Ok(session);
        }
    }
    Err(ApiError::unavailable("the password was changed again and again while it was checked"))
}

/// Exchanges a refresh token for a new pair. The same token again within a minute gets another pair of the same login;
/// later it ends the login, since somebody else may have it.
///
/// # Errors
/// `TOKEN_INVALID` for a token that is unknown, expired, or of a login that has ended; a missing field.
pub async fn refresh(app: &App, fields: Fields) -> Result<Session, ApiError> {
    fields.finish()?;
    let text = fields.text("refresh").ok_or_else(|| fields.faulty())?;
    let digest = RefreshToken::parse(text).map_err(|_| invalid_refresh())?.digest();
    let session = transact!(app.database(), |txn| {
        let find = || refresh_token::Entity::find_by_digest(txn, digest.as_str());
        let Some(row) = find().await?.filter(|row| digest.matches(&row.token_hash)) else { return Ok(None) };
        let Some(merchant) = merchant::Entity::lock(txn, row.merchant_id).await? else { return Ok(None) };
        let now = clock::database_now(txn).await?;
        if row.expires_at <= now || !refresh_token::Entity::family_is_live(txn, &row.family).await? {
            return Ok(None);
        }
        let family = FamilyId::try_from(row.family).map_err(|error| Failure::Final(ApiError::internal(error)))?;
        if !refresh_token::Entity::claim(txn, row.id, now).await? {
            // Read again: whoever used it may have done so while this one waited for the lock.
            let used_at = find().await?.and_then(|row| row.used_at);
            if used_at.is_none_or(|used_at| now.since(used_at) > REUSE_WINDOW) {
                end_stolen(txn, &merchant, &family, now).await?;
                return Ok(None);
            }
        }
        open(txn, &app.keys, merchant, &family, now).await.map(Some)
    })?;
    session.ok_or_else(invalid_refresh)
}

/// Says whether a bearer token, an access token or an API key, is good now.
///
/// # Errors
/// `TOKEN_EXPIRED`, `TOKEN_INVALID`; a missing field.
pub async fn verify(app: &App, fields: Fields) -> Result<Principal, ApiError> {
    fields.finish()?;
    let token = fields.text("token").ok_or_else(|| fields.faulty())?;
    authenticate(app, token).await
}

/// Ends the login that the request was made with: its access and refresh tokens alike.
///
/// # Errors
/// `PERMISSION_DENIED` for an API key, which has no login.
pub async fn logout(app: &App, principal: &Principal) -> Result<(), ApiError> {
    let family = principal.require_login()?;
    let id = principal.merchant_id();
    transact!(app.database(), |txn| {
        merchant::Entity::lock(txn, id).await?;
        let now = clock::database_now(txn).await?;
        refresh_token::Entity::revoke_family(txn, id, family.as_str(), now).await?;
        audit::by_principal(txn, principal, "login.end", &principal.merchant.username, json!({}), now).await
    })?;
    Ok(())
}

/// Opens a login after its password was checked against `found`; `None` if another one is stored by now. `renewed` takes
/// the place of a hash that was made with other costs.
async fn open_checked(app: &App, found: &merchant::Model, renewed: Option<&str>) -> Result<Option<Session>, Failure> {
    transact!(app.database(), |txn| {
        let locked = merchant::Entity::lock(txn, found.id).await?;
        let now = clock::database_now(txn).await?;
        let Some(mut merchant) = locked.filter(|merchant| merchant.password_hash == found.password_hash) else {
            return Ok(None);
        };
        if let Some(hash) = renewed {
            merchant::Entity::set_password(txn, merchant.id, hash, now).await?;
            hash.clone_into(&mut merchant.password_hash);
        }
        audit::login(txn, &merchant, now).await?;
        open(txn, &app.keys, merchant, &FamilyId::generate(), now).await.map(Some)
    })
}

/// Adds a pair of tokens to a login, which begins with its first. `now` is database time.
pub(super) async fn open(
    txn: &impl ConnectionTrait,
    keys: &Keys,
    merchant: merchant::Model,
    family: &FamilyId,
    now: Timestamp,
) -> Result<Session, Failure> {
    let refresh = RefreshToken::generate();
    let (digest, expires_at) = (refresh.digest(), now.plus(REFRESH_LIFETIME));
    refresh_token::Entity::add(txn, merchant.id, family.as_str(), digest.as_str(), now, expires_at).await?;
    let signed = keys.tokens().sign(merchant.id, family, now);
    let (access, _) = signed.map_err(|error| Failure::Final(ApiError::internal(error)))?;
    Ok(Session { merchant, access: access.into(), refresh, expires_in: ACCESS_LIFETIME })
}

/// Ends a login whose used refresh token came back.
async fn end_stolen(
    txn: &impl ConnectionTrait,
    merchant: &merchant::Model,
    family: &FamilyId,
    now: Timestamp,
) -> Result<(), DbErr> {
    refresh_token::Entity::revoke_family(txn, merchant.id, family.as_str(), now).await?;
    let details = json!({"reason": "a used refresh token came back"});
    audit::on_account(txn, merchant, "gateway", "login.revoke", details, now).await
}

fn wrong_credentials() -> ApiError {
    ApiError::new(ErrorCode::InvalidCredentials, "User name or password is wrong.")
}

fn invalid_refresh() -> ApiError {
    let message = "This refresh token is unknown, expired or revoked. Log in again.";
    ApiError::new(ErrorCode::TokenInvalid, message)
}
