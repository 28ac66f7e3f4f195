//! `/api/api-keys/`.

use cryptopay_domain::merchant::Scope;
use cryptopay_entity::api_key;
use poem::Request;
use poem::web::Data;
use poem_openapi::param::{Header, Path, Query};
use poem_openapi::{Enum, Object, OpenApi};

use super::Tag;
use super::body::Body;
use super::envelope::{Answer, Listed, Nothing, Success};
use super::once::{CreatedOnce, answer};
use super::pages::{ListQuery, is_number};
use crate::app::App;
use crate::operations::api_keys::{self, NewKey};
use crate::operations::once::Once;
use crate::principal::{Manager, Reader};
use crate::security::api_keys::ApiKey;

/// The routes.
#[derive(Debug)]
pub struct ApiKeys;

#[OpenApi(prefix_path = "/api/api-keys", tag = "Tag::Authentication")]
impl ApiKeys {
    /// List API keys
    ///
    /// Newest first, without the keys themselves. Deleted keys are not listed.
    #[oai(path = "/", method = "get", operation_id = "listApiKeys")]
    #[expect(clippy::too_many_arguments, reason = "each parameter is documented by its own")]
    async fn list(
        &self,
        app: Data<&App>,
        auth: Reader,
        request: &Request,
        /// Page, from 1
        page: Query<Option<String>>,
        /// Items on a page, at most 100; 20 if not said
        page_size: Query<Option<String>>,
        /// Instead of `page`: number of the item before the page. Costs the same however deep
        after: Query<Option<String>>,
        /// `created_at` or `-created_at`, which is the default
        ordering: Query<Option<String>>,
    ) -> Answer<Listed<ApiKeyItem>> {
        // Documented above; read below, where every fault is collected.
        let _ = (page, page_size, after, ordering);
        let mut query = ListQuery::of(request);
        let asked = query.asked(is_number);
        query.finish()?;
        let keys = api_keys::list(&app, &auth.0, &asked).await?;
        Ok(Listed(query.answer(keys.map(ApiKeyItem::new))))
    }

    /// Create an API key
    ///
    /// Needs the scope `manage`. A key with the scope `manage` can only be made with an access token from login. A key that is
    /// made with a key has no scope that this one lacks, expires no later, and is deleted with it.
    #[oai(path = "/", method = "post", operation_id = "createApiKey")]
    async fn create(
        &self,
        app: Data<&App>,
        auth: Manager,
        /// Makes a repeated request safe: 1 to 255 visible ASCII characters, kept for 24 hours
        #[oai(name = "Idempotency-Key")]
        idempotency_key: Header<Option<String>>,
        body: Body<CreateApiKey>,
    ) -> Answer<CreatedOnce<CreatedApiKey>> {
        let message = body.fields.message("API key created. Keep the secret; it is not shown again.");
        let words = move |(key, secret): &NewKey| answer(&CreatedApiKey::new(key, secret), &message);
        let mut fields = body.fields;
        let once = Once::new(&auth.0, idempotency_key.as_deref(), "createApiKey", &mut fields, words);
        Ok(api_keys::create(&app, &auth.0, fields, once).await?.into())
    }

    /// Delete an API key
    ///
    /// It is refused from then on, for good, and so are the keys that were made with it.
    #[oai(path = "/:id/", method = "delete", operation_id = "deleteApiKey")]
    async fn delete(
        &self,
        app: Data<&App>,
        auth: Manager,
        /// Number of the key
        id: Path<String>,
    ) -> Answer<Success<Nothing>> {
        api_keys::revoke(&app, &auth.0, &id).await?;
        Ok(Success(Nothing {}, "API key deleted.".to_owned()))
    }
}

/// A request for an API key.
#[derive(Debug, Object)]
pub struct CreateApiKey {
    /// What you call it: 1 to 100 characters.
    #[oai(validator(min_length = 1, max_length = 100))]
    pub name: String,
    /// What it may do; `read` and `write` if not said, as far as the key that makes it has them.
    #[oai(validator(min_items = 1, max_items = 3))]
    pub scopes: Option<Vec<ScopeWord>>,
    /// When it stops working: RFC 3339, in the future; if not said, with the key that makes it, else never.
    pub expires_at: Option<String>,
}

/// What an API key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename = "Scope", rename_all = "lowercase")]
pub enum ScopeWord {
    /// Look at everything of the merchant.
    Read,
    /// Orders, allocations, decisions, test deliveries, sandbox payments.
    Write,
    /// Wallets, webhook endpoints and their secrets, API keys, payment settings.
    Manage,
}

impl From<Scope> for ScopeWord {
    fn from(scope: Scope) -> Self {
        match scope {
            Scope::Read => Self::Read,
            Scope::Write => Self::Write,
            Scope::Manage => Self::Manage,
        }
    }
}

/// An API key, without the key itself.
#[derive(Debug, Clone, Object)]
#[oai(rename = "ApiKey")]
pub struct ApiKeyItem {
    /// Number.
    pub id: i64,
    /// What you call it.
    pub name: String,
    /// The first twelve characters of the key, to recognise it by.
    pub prefix: String,
    /// What it may do.
    pub scopes: Vec<ScopeWord>,
    /// When it was made: RFC 3339, UTC.
    pub created_at: String,
    /// When it stops working: RFC 3339, UTC; null if never.
    pub expires_at: Option<String>,
    /// When it was last used, to the minute: RFC 3339, UTC.
    pub last_used_at: Option<String>,
    /// Number of the key that it was made with; null for one that was made with an access token.
    pub created_by: Option<i64>,
}

impl ApiKeyItem {
    /// From a row.
    pub fn new(key: &api_key::Model) -> Self {
        Self {
            id: key.id.0,
            name: key.name.clone(),
            prefix: key.prefix.clone(),
            scopes: key.scopes().into_iter().map(ScopeWord::from).collect(),
            created_at: key.created_at.to_string(),
            expires_at: key.expires_at.map(|time| time.to_string()),
            last_used_at: key.last_used_at.map(|time| time.to_string()),
            created_by: key.created_by.map(|key| key.0),
        }
    }
}

/// A new API key, with the key itself.
#[derive(Object)]
pub struct CreatedApiKey {
    /// All but the key itself.
    #[oai(flatten)]
    pub key: ApiKeyItem,
    /// The key: send it as `Authorization: Bearer …`. Not shown again.
    pub secret: String,
}

impl CreatedApiKey {
    fn new(key: &api_key::Model, secret: &ApiKey) -> Self {
        Self { key: ApiKeyItem::new(key), secret: secret.expose().to_owned() }
    }
}
