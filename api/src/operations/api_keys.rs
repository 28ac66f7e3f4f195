//! API keys: made, listed, taken back. The key itself leaves once, in the answer to its making.

use cryptopay_domain::ids::ApiKeyId;
use cryptopay_domain::merchant::Scope;
use cryptopay_domain::time::Timestamp;
use cryptopay_entity::api_key::NewApiKey;
use cryptopay_entity::{api_key, clock, merchant, transact};
use sea_orm::DbErr;
use serde_json::json;

use super::once::{Once, Outcome};
use super::pages::{Asked, ListPage};
use super::payment_orders::audit;
use super::stop::Stop;
use crate::app::App;
use crate::error::{ApiError, ErrorCode};
use crate::fields::Fields;
use crate::principal::{Credential, Principal};
use crate::security::api_keys::ApiKey;
use crate::security::entropy;

/// Most characters of a key's name. Source: the REST contract.
const MAX_NAME_CHARS: usize = 100;
/// What a key may do unless the request says otherwise. Source: the REST contract.
const DEFAULT_SCOPES: [Scope; 2] = [Scope::Read, Scope::Write];

/// A page of a merchant's keys that were not taken back.
///
/// # Errors
/// `NOT_FOUND` past the end; a fault of `after`.
pub async fn list(app: &App, principal: &Principal, asked: &Asked) -> Result<ListPage<api_key::Model>, ApiError> {
    let (database, merchant) = (app.database(), principal.merchant_id());
    let place = match asked.after.as_deref().and_then(super::number) {
        Some(id) => api_key::Entity::find_owned(database, merchant, ApiKeyId(id)).await?.map(|row| row.place()),
        None => None,
    };
    let count = api_key::Entity::count_owned(database, merchant).await?;
    let read = |window| api_key::Entity::list_owned(database, merchant, window);
    asked.page(count, place, read, |key| key.id.to_string()).await
}

/// A new key: its row, and the only copy of the key itself.
pub type NewKey = (api_key::Model, ApiKey);

/// Makes a key. One that a key makes has no scope that its maker lacks, and expires no later.
///
/// # Errors
/// Every faulty field at once; `PERMISSION_DENIED` without the scope `manage`, and for an API key that asks for a key
/// with it, or with another scope that it lacks.
pub async fn create(
    app: &App,
    principal: &Principal,
    mut fields: Fields,
    once: Once<NewKey>,
) -> Result<Outcome<NewKey>, ApiError> {
    principal.require(Scope::Manage)?;
    if let Some(given) = once.given(app).await? {
        return Ok(given);
    }
    let name = judge_name(&mut fields);
    let scopes = judge_scopes(principal, &mut fields);
    let now = clock::database_now(app.database()).await?;
    let expires_at = judge_expiry(principal, &mut fields, now);
    fields.finish()?;
    let (Some(name), Some(scopes)) = (name, scopes) else { return Err(fields.faulty()) };
    if scopes.contains(&Scope::Manage) {
        principal.require_login()?;
    }
    for scope in &scopes {
        principal.require(*scope)?;
    }
    let created_by = maker(principal).map(|(id, _)| id);
    let secret = ApiKey::from_entropy(app.config.mode, entropy::bytes());
    let new = NewApiKey {
        merchant: principal.merchant_id(),
        prefix: secret.display_prefix(),
        secret_hash: secret.digest().as_str().to_owned(),
        name,
        scopes,
        expires_at,
        created_by,
    };
    transact!(app.database(), |txn| {
        if let Some(given) = once.begin(app, txn).await? {
            return Ok(given);
        }
        // From here on no key of the account is taken back: see `revoke`.
        merchant::Entity::lock(txn, principal.merchant_id()).await?;
        if let Some(maker) = created_by
            && api_key::Entity::find_owned(txn, principal.merchant_id(), maker).await?.is_none()
        {
            return Err(ApiError::new(ErrorCode::TokenInvalid, "This API key was deleted.").into());
        }
        let now = clock::database_now(txn).await?;
        let key = api_key::Entity::add(txn, new.clone(), now).await?;
        let details = json!({
            "name": new.name, "scopes": new.scopes, "expires_at": expires_at.map(|time| time.to_string()),
        });
        audit(txn, principal, "api_key.create", &key.id.to_string(), details, now).await?;
        once.keep(app, txn, (key, secret.clone())).await
    })
    .map_err(Stop::into)
}

/// Takes a key back, for good, with the keys that it has made.
///
/// # Errors
/// `NOT_FOUND`, also for an id that is none, somebody else's key, and a key that was taken back before.
pub async fn revoke(app: &App, principal: &Principal, id: &str) -> Result<(), ApiError> {
    principal.require(Scope::Manage)?;
    let unknown = || ApiError::not_found("API key");
    let id = super::number(id).map(ApiKeyId).ok_or_else(unknown)?;
    let revoked = transact!(app.database(), |txn| {
        merchant::Entity::lock(txn, principal.merchant_id()).await?;
        let now = clock::database_now(txn).await?;
        let revoked = api_key::Entity::revoke_owned(txn, principal.merchant_id(), id, now).await?;
        if let Some(made) = &revoked {
            let made: Vec<i64> = made.iter().map(|key| key.0).collect();
            let details = if made.is_empty() { json!({}) } else { json!({"with_keys": made}) };
            audit(txn, principal, "api_key.revoke", &id.to_string(), details, now).await?;
        }
        Ok::<_, DbErr>(revoked)
    })?;
    revoked.map(|_| ()).ok_or_else(unknown)
}

/// The key that makes another one, and when it expires; `None` for a login.
fn maker(principal: &Principal) -> Option<(ApiKeyId, Option<Timestamp>)> {
    match &principal.credential {
        Credential::Login { .. } => None,
        Credential::Key { id, expires_at, .. } => Some((*id, *expires_at)),
    }
}

fn judge_name(fields: &mut Fields) -> Option<String> {
    let name = fields.trimmed("name")?.to_owned();
    let valid = (1..=MAX_NAME_CHARS).contains(&name.chars().count()) && !name.chars().any(char::is_control);
    if !valid {
        fields.fault("name", "Use 1 to 100 characters in one line; blanks alone are no name.");
    }
    valid.then_some(name)
}

/// Each scope once, in the order of their declaration. Without a word of them, those of the default that the maker has.
fn judge_scopes(principal: &Principal, fields: &mut Fields) -> Option<Vec<Scope>> {
    let Some(words) = fields.texts("scopes") else {
        let scopes = DEFAULT_SCOPES.into_iter().filter(|scope| principal.require(*scope).is_ok());
        let scopes: Vec<Scope> = scopes.collect();
        if scopes.is_empty() {
            fields.fault("scopes", "The API key that you use has none of the default scopes; use an access token.");
            return None;
        }
        return Some(scopes);
    };
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

/// Expiry of the new key. The default is the expiry of its maker.
fn judge_expiry(principal: &Principal, fields: &mut Fields, now: Timestamp) -> Option<Timestamp> {
    let latest = maker(principal).and_then(|(_, expires_at)| expires_at);
    let Some(expires_at) = fields.parsed::<Timestamp>("expires_at") else { return latest };
    if let Some(latest) = latest.filter(|latest| expires_at > *latest) {
        fields.fault("expires_at", format!("Must not lie after {latest}, when the API key that you use expires."));
        return None;
    }
    if expires_at <= now {
        fields.fault("expires_at", "Must lie in the future.");
        return None;
    }
    Some(expires_at)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use cryptopay_entity::audit_log;
    use cryptopay_test_support::{TestDatabase, on_both_databases};
    use sea_orm::sea_query::Expr;
    use sea_orm::{ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter};
    use serde_json::Value;

    use super::*;
    use crate::operations::pages::first;
    use crate::principal::authenticate;
    use crate::rest::api_keys::CreateApiKey;
    use crate::testing::{app, fields, merchant, once};

    async fn made(app: &App, who: &Principal, body: Value) -> Result<(api_key::Model, ApiKey), ApiError> {
        create(app, who, fields::<CreateApiKey>(body), once()).await.map(|outcome| outcome.made().unwrap())
    }

    fn refused<T>(result: Result<T, ApiError>) -> ErrorCode {
        result.err().expect("this should be refused").code
    }

    on_both_databases!(a_key_opens_the_account_with_its_scopes_until_it_is_deleted, async |db: TestDatabase| {
        let app = app(&db).await;
        let who = merchant(&app, "shop").await;
        let (key, secret) = made(&app, &who, json!({"name": " Till 1 "})).await.unwrap();
        assert_eq!((key.name.as_str(), key.scopes()), ("Till 1", DEFAULT_SCOPES.to_vec()));
        assert!(secret.expose().starts_with("sk_test_") && secret.expose().starts_with(&key.prefix));
        assert!(!format!("{key:?}").contains(secret.expose()), "the table does not keep the key");
        let by_key = authenticate(&app, secret.expose()).await.unwrap();
        assert_eq!(by_key.merchant_id(), who.merchant_id());
        assert!(by_key.require(Scope::Write).is_ok() && by_key.require(Scope::Manage).is_err());

        revoke(&app, &who, &key.id.to_string()).await.unwrap();
        assert_eq!(refused(authenticate(&app, secret.expose()).await), ErrorCode::TokenInvalid);
        assert_eq!(refused(revoke(&app, &who, &key.id.to_string()).await), ErrorCode::NotFound);
        assert_eq!(list(&app, &who, &first(10)).await.unwrap().rows, []);
        let actions: Vec<_> = audit_log::Entity::find().all(app.database()).await.unwrap();
        let actions: Vec<_> = actions.iter().map(|line| line.action.as_str()).collect();
        assert_eq!(actions, ["merchant.create", "api_key.create", "api_key.revoke"]);
    });

    on_both_databases!(keys_are_listed_newest_first_to_their_owner_only, async |db: TestDatabase| {
        let app = app(&db).await;
        let (who, other) = (merchant(&app, "shop").await, merchant(&app, "other").await);
        let mut ids = Vec::new();
        for name in ["one", "two", "three"] {
            ids.push(made(&app, &who, json!({"name": name})).await.unwrap().0.id);
        }
        let page = list(&app, &who, &Asked { number: 2, ..first(1) }).await.unwrap();
        assert_eq!((page.count, page.rows.iter().map(|key| key.id).collect::<Vec<_>>()), (3, vec![ids[1]]));
        assert_eq!(list(&app, &other, &first(10)).await.unwrap().count, 0);
        for id in [ids[0].to_string(), "0".to_owned(), "x".to_owned(), "9".repeat(30)] {
            assert_eq!(refused(revoke(&app, &other, &id).await), ErrorCode::NotFound, "{id}");
        }
        assert_eq!(list(&app, &who, &first(10)).await.unwrap().count, 3);
    });

    on_both_databases!(a_key_with_manage_needs_a_login_and_any_key_needs_manage, async |db: TestDatabase| {
        let app = app(&db).await;
        let who = merchant(&app, "shop").await;
        let scopes = json!({"name": "n", "scopes": ["manage", "read", "read"]});
        let (key, manager) = made(&app, &who, scopes.clone()).await.unwrap();
        assert_eq!(key.scopes(), [Scope::Read, Scope::Manage]);
        let manager = authenticate(&app, manager.expose()).await.unwrap();
        assert_eq!(refused(made(&app, &manager, scopes).await), ErrorCode::PermissionDenied);
        let (_, plain) = made(&app, &manager, json!({"name": "n"})).await.unwrap();
        let plain = authenticate(&app, plain.expose()).await.unwrap();
        assert_eq!(refused(made(&app, &plain, json!({"name": "n"})).await), ErrorCode::PermissionDenied);
        assert_eq!(refused(revoke(&app, &plain, &key.id.to_string()).await), ErrorCode::PermissionDenied);
    });

    on_both_databases!(a_key_made_by_a_key_lies_within_its_maker, async |db: TestDatabase| {
        let app = app(&db).await;
        let who = merchant(&app, "shop").await;
        let until = "2999-01-01T00:00:00Z";
        let body = json!({"name": "n", "scopes": ["manage", "read"], "expires_at": until});
        let (maker, secret) = made(&app, &who, body).await.unwrap();
        assert_eq!(maker.created_by, None);
        let by_key = authenticate(&app, secret.expose()).await.unwrap();
        // Fields that the request leaves out are taken from the maker.
        let (child, _) = made(&app, &by_key, json!({"name": "n"})).await.unwrap();
        assert_eq!((child.scopes(), child.created_by), (vec![Scope::Read], Some(maker.id)));
        assert_eq!(child.expires_at.unwrap().to_string(), until);
        // Fields of the request may not go beyond those of the maker.
        let wider = made(&app, &by_key, json!({"name": "n", "scopes": ["read", "write"]})).await;
        assert_eq!(refused(wider), ErrorCode::PermissionDenied);
        let longer = made(&app, &by_key, json!({"name": "n", "expires_at": "2999-01-01T00:00:01Z"})).await.unwrap_err();
        assert_eq!(longer.details.keys().collect::<Vec<_>>(), ["expires_at"]);
        let (shorter, _) =
            made(&app, &by_key, json!({"name": "n", "expires_at": "2998-01-01T00:00:00Z"})).await.unwrap();
        assert_eq!(shorter.expires_at.unwrap().to_string(), "2998-01-01T00:00:00Z");
        let (_, only) = made(&app, &who, json!({"name": "n", "scopes": ["manage"]})).await.unwrap();
        let only = authenticate(&app, only.expose()).await.unwrap();
        assert_eq!(made(&app, &only, json!({"name": "n"})).await.unwrap_err().details.len(), 1);
        // The answers name the maker.
        let shown = list(&app, &who, &first(10))
            .await
            .unwrap()
            .map(|key| crate::rest::api_keys::ApiKeyItem::new(key).created_by);
        assert_eq!(shown.rows, [None, Some(maker.id.0), Some(maker.id.0), None]);
    });

    on_both_databases!(deleting_a_key_deletes_what_it_has_made, async |db: TestDatabase| {
        let app = app(&db).await;
        let who = merchant(&app, "shop").await;
        let (maker, secret) =
            made(&app, &who, json!({"name": "maker", "scopes": ["manage", "read", "write"]})).await.unwrap();
        let by_key = authenticate(&app, secret.expose()).await.unwrap();
        let (_, child) = made(&app, &by_key, json!({"name": "child"})).await.unwrap();
        let (other, still) = made(&app, &who, json!({"name": "other"})).await.unwrap();
        // A key of a key of a key, as one with `manage` may have made it before.
        let (grandchild, third) = made(&app, &who, json!({"name": "grandchild"})).await.unwrap();
        let child_id =
            list(&app, &who, &first(10)).await.unwrap().rows.iter().find(|key| key.name == "child").unwrap().id;
        let change = api_key::Entity::update_many().col_expr(api_key::Column::CreatedBy, Expr::value(child_id));
        change.filter(api_key::Column::Id.eq(grandchild.id)).exec(app.database()).await.unwrap();
        revoke(&app, &who, &maker.id.to_string()).await.unwrap();
        for gone in [&secret, &child, &third] {
            assert_eq!(refused(authenticate(&app, gone.expose()).await), ErrorCode::TokenInvalid);
        }
        assert!(authenticate(&app, still.expose()).await.is_ok());
        let left: Vec<_> = list(&app, &who, &first(10)).await.unwrap().rows.iter().map(|key| key.id).collect();
        assert_eq!(left, [other.id]);
        let line = audit_log::Entity::newest(app.database(), None, 1).await.unwrap().remove(0);
        assert_eq!(
            serde_json::from_str::<Value>(&line.details).unwrap(),
            json!({"with_keys": [child_id.0, grandchild.id.0]})
        );
        // A request that was admitted before makes no more keys.
        assert_eq!(refused(made(&app, &by_key, json!({"name": "late"})).await), ErrorCode::TokenInvalid);
    });

    on_both_databases!(every_fault_of_a_key_is_named_at_once, async |db: TestDatabase| {
        let app = app(&db).await;
        let who = merchant(&app, "shop").await;
        let faults = async |body: Value| {
            let details = made(&app, &who, body).await.unwrap_err().details;
            details.into_keys().collect::<Vec<_>>()
        };
        let past = "2020-01-01T00:00:00Z";
        assert_eq!(
            faults(json!({"name": " ", "scopes": [], "expires_at": past})).await,
            ["expires_at", "name", "scopes"]
        );
        assert_eq!(
            faults(json!({"scopes": ["read", "all"], "expires_at": "soon"})).await,
            ["expires_at", "name", "scopes[1]"]
        );
        assert_eq!(faults(json!({"name": "n".repeat(101), "scopes": "read"})).await, ["name", "scopes"]);
        assert_eq!(api_key::Entity::find().count(app.database()).await.unwrap(), 0);
    });

    on_both_databases!(the_last_use_of_a_key_is_remembered_to_the_minute, async |db: TestDatabase| {
        let app = app(&db).await;
        let who = merchant(&app, "shop").await;
        let (key, secret) = made(&app, &who, json!({"name": "n"})).await.unwrap();
        assert_eq!(key.last_used_at, None);
        let used = async || {
            authenticate(&app, secret.expose()).await.unwrap();
            api_key::Entity::find_owned(app.database(), who.merchant_id(), key.id)
                .await
                .unwrap()
                .unwrap()
                .last_used_at
                .unwrap()
        };
        let first = used().await;
        assert!(first >= key.created_at && used().await == first, "written once a minute");
        let before = first.minus(Duration::from_secs(60));
        let change = api_key::Entity::update_many().col_expr(api_key::Column::LastUsedAt, Expr::value(before));
        change.exec(app.database()).await.unwrap();
        assert!(used().await >= first);
    });

    on_both_databases!(a_key_ends_when_it_was_said_to, async |db: TestDatabase| {
        let app = app(&db).await;
        let who = merchant(&app, "shop").await;
        let body = json!({"name": "n", "scopes": null, "expires_at": "2999-01-01T00:00:00+01:00"});
        let (key, secret) = made(&app, &who, body).await.unwrap();
        assert_eq!(key.expires_at.unwrap().to_string(), "2998-12-31T23:00:00Z");
        assert!(authenticate(&app, secret.expose()).await.is_ok());
        let past = key.created_at.minus(Duration::from_secs(1));
        let change = api_key::Entity::update_many().col_expr(api_key::Column::ExpiresAt, Expr::value(past));
        change.exec(app.database()).await.unwrap();
        assert_eq!(refused(authenticate(&app, secret.expose()).await), ErrorCode::TokenInvalid);
        assert_eq!(list(&app, &who, &first(10)).await.unwrap().count, 1);
    });
}
