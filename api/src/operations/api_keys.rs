//! API keys: made, listed, taken back. The key itself leaves once, in the answer to its making.

use cryptopay_domain::ids::ApiKeyId;
use cryptopay_domain::merchant::Scope;
use cryptopay_domain::time::Timestamp;
use cryptopay_entity::api_key::NewApiKey;
use cryptopay_entity::{api_key, clock, transact};
use sea_orm::DbErr;
use serde_json::json;

use super::payment_orders::audit;
use crate::app::App;
use crate::error::ApiError;
use crate::fields::Fields;
use crate::principal::Principal;
use crate::security::api_keys::ApiKey;
use crate::security::entropy;

/// Most characters of a key's name. Source: the REST contract.
const MAX_NAME_CHARS: usize = 100;
/// What a key may do unless the request says otherwise. Source: the REST contract.
const DEFAULT_SCOPES: [Scope; 2] = [Scope::Read, Scope::Write];

/// A merchant's keys that were not taken back, newest first, and how many there are in all.
///
/// # Errors
/// Only failures of the database.
pub async fn list(
    app: &App,
    principal: &Principal,
    offset: u64,
    limit: u64,
) -> Result<(u64, Vec<api_key::Model>), ApiError> {
    let merchant = principal.merchant_id();
    let count = api_key::Entity::count_owned(app.database(), merchant).await?;
    Ok((count, api_key::Entity::list_owned(app.database(), merchant, offset, limit).await?))
}

/// Makes a key. The second half of the answer is the only copy of the key itself.
///
/// # Errors
/// Every faulty field at once; `PERMISSION_DENIED` without the scope `manage`, or for an API key that asks for a key
/// with it.
pub async fn create(
    app: &App,
    principal: &Principal,
    mut fields: Fields,
) -> Result<(api_key::Model, ApiKey), ApiError> {
    principal.require(Scope::Manage)?;
    let name = judge_name(&mut fields);
    let scopes = judge_scopes(&mut fields);
    let now = clock::database_now(app.database()).await?;
    let expires_at = judge_expiry(&mut fields, now);
    fields.finish()?;
    let (Some(name), Some(scopes)) = (name, scopes) else { return Err(fields.faulty()) };
    if scopes.contains(&Scope::Manage) {
        principal.require_login()?;
    }
    let secret = ApiKey::from_entropy(app.config.mode, entropy::bytes());
    let new = NewApiKey {
        merchant: principal.merchant_id(),
        prefix: secret.display_prefix(),
        secret_hash: secret.digest().as_str().to_owned(),
        name,
        scopes,
        expires_at,
    };
    let key = transact!(app.database(), |txn| {
        let now = clock::database_now(txn).await?;
        let key = api_key::Entity::add(txn, new.clone(), now).await?;
        let details = json!({
            "name": new.name, "scopes": new.scopes, "expires_at": expires_at.map(|time| time.to_string()),
        });
        audit(txn, principal, "api_key.create", &key.id.to_string(), details, now).await?;
        Ok::<api_key::Model, DbErr>(key)
    })?;
    Ok((key, secret))
}

/// Takes a key back, for good.
///
/// # Errors
/// `NOT_FOUND`, also for an id that is none, somebody else's key, and a key that was taken back before.
pub async fn revoke(app: &App, principal: &Principal, id: &str) -> Result<(), ApiError> {
    principal.require(Scope::Manage)?;
    let unknown = || ApiError::not_found("API key");
    let id = id.parse().map(ApiKeyId).map_err(|_| unknown())?;
    let was_live = transact!(app.database(), |txn| {
        let now = clock::database_now(txn).await?;
        let was_live = api_key::Entity::revoke_owned(txn, principal.merchant_id(), id, now).await?;
        if was_live {
            audit(txn, principal, "api_key.revoke", &id.to_string(), json!({}), now).await?;
        }
        Ok::<bool, DbErr>(was_live)
    })?;
    if was_live { Ok(()) } else { Err(unknown()) }
}

fn judge_name(fields: &mut Fields) -> Option<String> {
    let name = fields.trimmed("name")?.to_owned();
    let valid = (1..=MAX_NAME_CHARS).contains(&name.chars().count()) && !name.chars().any(char::is_control);
    if !valid {
        fields.fault("name", "Use 1 to 100 characters in one line; blanks alone are no name.");
    }
    valid.then_some(name)
}

/// Each scope once, in the order of their declaration.
fn judge_scopes(fields: &mut Fields) -> Option<Vec<Scope>> {
    let Some(words) = fields.texts("scopes") else { return Some(DEFAULT_SCOPES.to_vec()) };
    let parsed: Result<Vec<Scope>, _> = words.into_iter().map(str::parse).collect();
    let mut scopes = fields.ok("scopes", parsed)?;
    scopes.sort_unstable();
    scopes.dedup();
    if scopes.is_empty() {
        fields.fault("scopes", "Name at least one of: read, write, manage.");
        return None;
    }
    Some(scopes)
}

fn judge_expiry(fields: &mut Fields, now: Timestamp) -> Option<Timestamp> {
    let expires_at: Timestamp = fields.parsed("expires_at")?;
    if expires_at <= now {
        fields.fault("expires_at", "Must lie in the future.");
        return None;
    }
    Some(expires_at)
}
