//! `/api/auth/`.

use cryptopay_entity::merchant;
use poem::web::Data;
use poem_openapi::{ApiResponse, Object, OpenApi};
use secrecy::ExposeSecret;

use super::Tag;
use super::body::Body;
use super::envelope::{Answer, Json, Nothing, Success, now};
use crate::app::App;
use crate::operations::accounts::{self, Session};
use crate::principal::Reader;

/// The routes.
#[derive(Debug)]
pub struct Auth;

#[OpenApi(prefix_path = "/api/auth", tag = "Tag::Authentication")]
impl Auth {
    /// Register an account
    ///
    /// The answer logs in at once.
    #[oai(path = "/register", method = "post", operation_id = "register")]
    async fn register(&self, app: Data<&App>, body: Body<Register>) -> Answer<Registered> {
        let message = body.fields.message("Account created.");
        let session = accounts::register(&app, body.fields).await?;
        Ok(Registered::Created(Json(SessionEnvelope::new(&session, message))))
    }

    /// Log in
    #[oai(path = "/login", method = "post", operation_id = "login")]
    async fn login(&self, app: Data<&App>, body: Body<Login>) -> Answer<LoggedIn> {
        let message = body.fields.message("Logged in.");
        let session = accounts::login(&app, body.fields).await?;
        Ok(LoggedIn::Ok(Json(SessionEnvelope::new(&session, message))))
    }

    /// Get a new pair of tokens
    ///
    /// Each refresh token is used once. Used again within 60 s, it gets another pair of the same login; later, it ends
    /// the login.
    #[oai(path = "/token/refresh/", method = "post", operation_id = "refreshToken")]
    async fn refresh(&self, app: Data<&App>, body: Body<Refresh>) -> Answer<LoggedIn> {
        let message = body.fields.message("Tokens renewed.");
        let session = accounts::refresh(&app, body.fields).await?;
        Ok(LoggedIn::Ok(Json(SessionEnvelope::new(&session, message))))
    }

    /// Check a token
    ///
    /// An access token or an API key: 200 if it is good now, else 401.
    #[oai(path = "/token/verify/", method = "post", operation_id = "verifyToken")]
    async fn verify(&self, app: Data<&App>, body: Body<Verify>) -> Answer<Success<Nothing>> {
        let message = body.fields.message("The token is valid.");
        accounts::verify(&app, body.fields).await?;
        Ok(Success(Nothing {}, message))
    }

    /// Log out
    ///
    /// Ends this login: its access and refresh tokens are refused from now on. Other logins and API keys stay.
    #[oai(path = "/logout", method = "post", operation_id = "logout")]
    async fn logout(&self, app: Data<&App>, auth: Reader) -> Answer<Success<Nothing>> {
        accounts::logout(&app, &auth.0).await?;
        Ok(Success(Nothing {}, "Logged out.".to_owned()))
    }

    /// The account
    #[oai(path = "/me/", method = "get", operation_id = "getMe")]
    async fn me(&self, auth: Reader) -> Answer<Success<Me>> {
        Ok(Success(Me::new(&auth.0.merchant), "Success".to_owned()))
    }
}

/// A request for an account.
#[derive(Debug, Object)]
pub struct Register {
    /// Name to log in with: 3 to 64 letters, digits and . _ - (unique in any case).
    #[oai(validator(min_length = 3, max_length = 64, pattern = "^[A-Za-z0-9._-]+$"))]
    pub username: String,
    /// E-mail address (unique in any case).
    #[oai(validator(min_length = 3, max_length = 254))]
    pub email: String,
    /// 10 to 256 characters; not a common password, not the user name.
    #[oai(validator(min_length = 10, max_length = 256))]
    pub password: String,
    /// What customers see: 1 to 120 characters.
    #[oai(validator(min_length = 1, max_length = 120))]
    pub shop_name: String,
}

/// A request to log in.
#[derive(Debug, Object)]
pub struct Login {
    /// User name or e-mail address, in any case.
    #[oai(validator(min_length = 1, max_length = 254))]
    pub username: String,
    /// Password.
    #[oai(validator(min_length = 1, max_length = 256))]
    pub password: String,
}

/// A request for a new pair of tokens.
#[derive(Debug, Object)]
pub struct Refresh {
    /// The refresh token of the last answer.
    #[oai(validator(min_length = 1, max_length = 2048))]
    pub refresh: String,
}

/// A question whether a token is good.
#[derive(Debug, Object)]
pub struct Verify {
    /// An access token or an API key.
    #[oai(validator(min_length = 1, max_length = 2048))]
    pub token: String,
}

/// A new account, logged in.
#[derive(Debug, ApiResponse)]
pub enum Registered {
    /// Created
    #[oai(status = 201)]
    Created(Json<SessionEnvelope>),
}

/// A login.
#[derive(Debug, ApiResponse)]
pub enum LoggedIn {
    /// Success
    #[oai(status = 200)]
    Ok(Json<SessionEnvelope>),
}

/// A login. The tokens stand at the top and in `data` alike.
#[derive(Debug, Object)]
pub struct SessionEnvelope {
    /// Always true.
    pub success: bool,
    /// The login.
    pub data: Tokens,
    /// Access token: send it as `Authorization: Bearer …`.
    pub access: String,
    /// Refresh token: exchange it once for a new pair within 30 days.
    pub refresh: String,
    /// Always `Bearer`.
    pub token_type: String,
    /// How long the access token is good for, in seconds.
    pub expires_in: u64,
    /// Who logged in.
    pub user: User,
    /// What happened, in a sentence. Names fields of the request that were ignored.
    pub message: String,
    /// When the answer was made: RFC 3339, UTC.
    pub timestamp: String,
}

/// A pair of tokens and whose it is.
#[derive(Debug, Clone, Object)]
pub struct Tokens {
    /// Access token: send it as `Authorization: Bearer …`.
    pub access: String,
    /// Refresh token: exchange it once for a new pair within 30 days.
    pub refresh: String,
    /// Always `Bearer`.
    pub token_type: String,
    /// How long the access token is good for, in seconds.
    pub expires_in: u64,
    /// Who logged in.
    pub user: User,
}

/// Who logged in.
#[derive(Debug, Clone, Object)]
pub struct User {
    /// Number.
    pub id: i64,
    /// Name to log in with.
    pub username: String,
    /// E-mail address.
    pub email: String,
    /// What customers see.
    pub shop_name: String,
    /// `standard`, `premium` or `enterprise`.
    pub plan: String,
}

/// The account.
#[derive(Debug, Clone, Object)]
pub struct Me {
    /// Who.
    #[oai(flatten)]
    pub user: User,
    /// What the plan allows.
    pub limits: Limits,
}

/// What a plan allows.
#[derive(Debug, Clone, Object)]
pub struct Limits {
    /// Requests an hour, for API keys and for login tokens each.
    pub requests_per_hour: i64,
}

impl SessionEnvelope {
    fn new(session: &Session, message: String) -> Self {
        let tokens = Tokens {
            access: session.access.expose_secret().to_owned(),
            refresh: session.refresh.expose().to_owned(),
            token_type: "Bearer".to_owned(),
            expires_in: session.expires_in.as_secs(),
            user: User::new(&session.merchant),
        };
        Self {
            success: true,
            access: tokens.access.clone(),
            refresh: tokens.refresh.clone(),
            token_type: tokens.token_type.clone(),
            expires_in: tokens.expires_in,
            user: tokens.user.clone(),
            data: tokens,
            message,
            timestamp: now().to_string(),
        }
    }
}

impl User {
    /// From a row.
    pub fn new(merchant: &merchant::Model) -> Self {
        Self {
            id: merchant.id.0,
            username: merchant.username.clone(),
            email: merchant.email.clone(),
            shop_name: merchant.shop_name.clone(),
            plan: merchant.plan.to_string(),
        }
    }
}

impl Me {
    /// From a row.
    pub fn new(merchant: &merchant::Model) -> Self {
        Self { user: User::new(merchant), limits: Limits { requests_per_hour: merchant.requests_per_hour() } }
    }
}
