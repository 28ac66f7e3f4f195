//! Who is asking: a merchant, by an access token from a login or by an API key.

use std::sync::Arc;
use std::time::Duration;

use cryptopay_domain::ids::{ApiKeyId, MerchantId};
use cryptopay_domain::merchant::Scope;
use cryptopay_domain::time::Timestamp;
use cryptopay_entity::{api_key, merchant, recognition};
use poem::Request;
use poem::http::header;
use poem_openapi::SecurityScheme;
use poem_openapi::auth::Bearer;
use secrecy::{ExposeSecret, SecretString};

use crate::app::App;
use crate::error::{ApiError, ErrorCode};
use crate::security::api_keys::{ApiKey, is_api_key};
use crate::security::tokens::{FamilyId, TokenError};

/// An authenticated merchant.
#[derive(Debug, Clone)]
pub struct Principal {
    /// The account, shared with whatever counts and logs the request.
    pub merchant: Arc<merchant::Model>,
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
        /// When it was looked at: database time.
        recognised_at: Timestamp,
    },
    /// An API key.
    Key {
        /// Which.
        id: ApiKeyId,
        /// What it may do.
        scopes: Vec<Scope>,
        /// Time of expiry; `None` if the key never expires.
        expires_at: Option<Timestamp>,
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

    /// The kind of the credential and what it may do, for the fingerprint of an idempotent request: a request that another
    /// kind of credential may not send is another request.
    pub fn powers(&self) -> String {
        match &self.credential {
            Credential::Login { .. } => "login".to_owned(),
            Credential::Key { scopes, .. } => {
                let mut scopes: Vec<&str> = scopes.iter().map(|scope| scope.as_str()).collect();
                scopes.sort_unstable();
                format!("key:{}", scopes.join(","))
            }
        }
    }

    /// How long the credential still holds; `None` where it does not end by itself.
    pub fn valid_for(&self) -> Option<Duration> {
        match &self.credential {
            Credential::Login { expires_at, recognised_at, .. } => Some(expires_at.since(*recognised_at)),
            Credential::Key { .. } => None,
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

/// Recognises a bearer token, with one question to the database: a credential that was taken back, or a merchant on
/// another plan, counts from the next request on, in every process.
///
/// # Errors
/// `TOKEN_EXPIRED` or `TOKEN_INVALID`.
pub async fn authenticate(app: &App, bearer: &str) -> Result<Principal, ApiError> {
    if is_api_key(bearer) { by_key(app, bearer).await } else { by_access_token(app, bearer).await }
}

async fn by_access_token(app: &App, bearer: &str) -> Result<Principal, ApiError> {
    // What nobody has signed costs no question.
    let token = app.keys.tokens().read(bearer).map_err(refused)?;
    let known = recognition::of_login(app.database(), token.merchant(), token.family().as_str()).await?;
    let claims = token.at(known.now).map_err(refused)?;
    let merchant = known.merchant.ok_or_else(invalid)?;
    let (family, expires_at) = (claims.family, claims.expires_at);
    Ok(Principal {
        merchant: Arc::new(merchant),
        credential: Credential::Login { family, expires_at, recognised_at: known.now },
    })
}

async fn by_key(app: &App, bearer: &str) -> Result<Principal, ApiError> {
    let key = ApiKey::parse(bearer).map_err(|_| invalid())?;
    if key.mode() != app.config.mode {
        return Err(invalid());
    }
    let digest = key.digest();
    let known = recognition::of_key(app.database(), digest.as_str()).await?;
    let known = known.filter(|known| digest.matches(&known.key.secret_hash)).ok_or_else(invalid)?;
    let (key, now) = (known.key, known.now);
    if key.revoked_at.is_some() || key.expires_at.is_some_and(|at| at <= now) {
        return Err(invalid());
    }
    if key.last_used_at.is_none_or(|at| now.since(at) >= LAST_USED_PRECISION) {
        api_key::Entity::note_use(app.database(), key.id, now).await?;
    }
    let credential = Credential::Key { id: key.id, scopes: key.scopes(), expires_at: key.expires_at };
    Ok(Principal { merchant: Arc::new(known.merchant), credential })
}

/// How exactly the last use of a key is remembered: a write per request would cost more than it tells.
const LAST_USED_PRECISION: Duration = Duration::from_secs(60);

fn refused(error: TokenError) -> ApiError {
    match error {
        TokenError::Expired => ApiError::new(
            ErrorCode::TokenExpired,
            "This access token has expired. Get a new pair from /api/auth/token/refresh/, or use an API key.",
        ),
        TokenError::Invalid => invalid(),
    }
}

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
    let principal = of_request(app, request, &bearer.token).await?;
    principal.require(scope)?;
    Ok(principal)
}

/// Whom the token of a request belongs to: found out when the request was counted, or now.
///
/// # Errors
/// As [`authenticate`].
pub async fn of_request(app: &App, request: &Request, bearer: &str) -> Result<Principal, ApiError> {
    if let Some(recognised) = request.data::<Recognised>().filter(|recognised| recognised.by(bearer)) {
        return recognised.outcome.clone();
    }
    authenticate(app, bearer).await
}

/// Whom the token of a request was found to belong to, kept with the request so that nobody asks twice.
#[derive(Clone)]
pub struct Recognised {
    bearer: SecretString,
    outcome: Result<Principal, ApiError>,
}

impl Recognised {
    /// Finds out.
    pub async fn find(app: &App, bearer: &str) -> Self {
        Self { outcome: authenticate(app, bearer).await, bearer: bearer.into() }
    }

    /// The merchant, or why there is none.
    ///
    /// # Errors
    /// As [`authenticate`].
    pub fn outcome(&self) -> Result<&Principal, &ApiError> {
        self.outcome.as_ref()
    }

    /// Whether it was found out of this very token.
    fn by(&self, bearer: &str) -> bool {
        self.bearer.expose_secret() == bearer
    }
}

/// The token in the `Authorization` header; `None` where there is no such header.
///
/// # Errors
/// `TOKEN_INVALID`: a header that holds no bearer token.
pub fn bearer_of(request: &Request) -> Result<Option<&str>, ApiError> {
    let Some(value) = request.headers().get(header::AUTHORIZATION) else { return Ok(None) };
    let token = value.to_str().ok().and_then(|value| value.trim().split_once(' ')).and_then(|(scheme, token)| {
        let token = token.trim();
        (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
    });
    let wrong = || ApiError::new(ErrorCode::TokenInvalid, "Send the header as Authorization: Bearer <token>.");
    token.map(Some).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use cryptopay_entity::refresh_token;
    use cryptopay_test_support::{TestDatabase, on_both_databases};

    use super::*;
    use crate::config::Mode;
    use crate::security::entropy;
    use crate::testing::{counting, merchant};

    on_both_databases!(a_token_is_recognised_by_one_statement, async |db: TestDatabase| {
        let (app, count) = counting(&db);
        let owner = merchant(&app, "shop").await;
        let neighbour = merchant(&app, "neighbour").await;
        let family = owner.require_login().unwrap().clone();
        let now = cryptopay_entity::clock::database_now(app.database()).await.unwrap();
        let (token, _) = app.keys.tokens().sign(owner.merchant_id(), &family, now).unwrap();
        let key = ApiKey::from_entropy(Mode::Sandbox, entropy::bytes());
        let new = api_key::NewApiKey {
            merchant: owner.merchant_id(),
            prefix: "sk_test_xxxx".to_owned(),
            secret_hash: key.digest().as_str().to_owned(),
            name: "Till".to_owned(),
            scopes: vec![Scope::Read],
            expires_at: None,
            created_by: None,
        };
        let row = api_key::Entity::add(app.database(), new, now).await.unwrap();
        // The first use is remembered, which is a statement of its own once a minute.
        authenticate(&app, key.expose()).await.unwrap();
        for bearer in [token.as_str(), key.expose()] {
            count.store(0, Ordering::SeqCst);
            let recognised = authenticate(&app, bearer).await.unwrap();
            assert_eq!(count.load(Ordering::SeqCst), 1);
            assert_eq!(recognised.merchant, owner.merchant);
        }
        // What was signed for another merchant's login is worth nothing, and what nobody signed costs nothing.
        let (crossed, _) = app.keys.tokens().sign(neighbour.merchant_id(), &family, now).unwrap();
        assert_eq!(authenticate(&app, &crossed).await.unwrap_err().code, ErrorCode::TokenInvalid);
        count.store(0, Ordering::SeqCst);
        for made_up in ["x", "a.b.c", "sk_test_x"] {
            assert_eq!(authenticate(&app, made_up).await.unwrap_err().code, ErrorCode::TokenInvalid);
        }
        assert_eq!(count.load(Ordering::SeqCst), 0);

        // Expiry is told even of a login that has ended since.
        let long_ago = now.minus(Duration::from_secs(48 * 3_600));
        let (expired, _) = app.keys.tokens().sign(owner.merchant_id(), &family, long_ago).unwrap();
        let revoke = refresh_token::Entity::revoke_family(app.database(), owner.merchant_id(), family.as_str(), now);
        revoke.await.unwrap();
        api_key::Entity::revoke_owned(app.database(), owner.merchant_id(), row.id, now).await.unwrap();
        for (bearer, code) in [
            (token.as_str(), ErrorCode::TokenInvalid),
            (key.expose(), ErrorCode::TokenInvalid),
            (expired.as_str(), ErrorCode::TokenExpired),
        ] {
            assert_eq!(authenticate(&app, bearer).await.unwrap_err().code, code);
        }
    });
}
