//! `/api/auth/`.

use cryptopay_entity::merchant;
use poem::web::Data;
use poem_openapi::{ApiResponse, Object, OpenApi};
use secrecy::ExposeSecret;

use super::Tag;
use super::body::{Body, NoFields};
use super::envelope::{Answer, Json, Nothing, Success, now};
use crate::app::App;
use crate::limits::Visit;
use crate::operations::accounts::{self, Session};
use crate::principal::{Manager, Reader};

/// The routes.
#[derive(Debug)]
pub struct Auth;

#[OpenApi(prefix_path = "/api/auth", tag = "Tag::Authentication")]
impl Auth {
    /// Register an account
    ///
    /// The answer logs in at once.
    #[oai(path = "/register", method = "post", operation_id = "register")]
    async fn register(&self, app: Data<&App>, visit: Visit, body: Body<Register>) -> Answer<Registered> {
        let message = body.fields.message("Account created.");
        let session = visit.register(accounts::register(&app, body.fields)).await?;
        Ok(Registered::Created(Json(SessionEnvelope::new(&session, message))))
    }

    /// Log in
    ///
    /// With user name or e-mail address. The access token is good for 24 hours, the refresh token for 30 days.
    #[oai(path = "/login", method = "post", operation_id = "login")]
    async fn login(&self, app: Data<&App>, visit: Visit, body: Body<Login>) -> Answer<LoggedIn> {
        let message = body.fields.message("Logged in.");
        body.fields.finish()?;
        let name = body.fields.trimmed("username").unwrap_or_default().to_owned();
        let session = visit.login(&name, accounts::login(&app, body.fields)).await?;
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
    async fn logout(&self, app: Data<&App>, auth: Reader, body: Body<NoFields>) -> Answer<Success<Nothing>> {
        accounts::logout(&app, &auth.0).await?;
        Ok(Success(Nothing {}, body.fields.message("Logged out.")))
    }

    /// The account
    ///
    /// Who the token belongs to, with the plan and what it allows.
    #[oai(path = "/me/", method = "get", operation_id = "getMe")]
    async fn me(&self, auth: Reader) -> Answer<Success<Me>> {
        Ok(Success(Me::new(&auth.0.merchant), "Success".to_owned()))
    }

    /// Change the account
    ///
    /// Changes what is sent and keeps the rest. Needs a login, or an API key with the scope `manage`.
    #[oai(path = "/me/", method = "patch", operation_id = "updateMe")]
    async fn update(&self, app: Data<&App>, auth: Manager, body: Body<UpdateMe>) -> Answer<Success<Me>> {
        let [changed, unchanged] =
            ["Account changed.", "Nothing was changed."].map(|message| body.fields.message(message));
        let merchant = accounts::change_profile(&app, &auth.0, body.fields).await?;
        let before = &auth.0.merchant;
        let is_same = (&merchant.email, &merchant.shop_name) == (&before.email, &before.shop_name);
        Ok(Success(Me::new(&merchant), if is_same { unchanged } else { changed }))
    }

    /// Change the password
    ///
    /// Needs an access token from login; an API key is not enough. Ends every login of the account, this one too: log in
    /// again with the new password. API keys stay.
    #[oai(path = "/password/", method = "post", operation_id = "changePassword")]
    async fn password(
        &self,
        app: Data<&App>,
        visit: Visit,
        auth: Manager,
        body: Body<ChangePassword>,
    ) -> Answer<Success<Nothing>> {
        let message = body.fields.message("Password changed. Every login has ended; log in again.");
        visit.prove_password(&auth.0, accounts::change_password(&app, &auth.0, body.fields)).await?;
        Ok(Success(Nothing {}, message))
    }
}

/// A request for an account.
#[derive(Object)]
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
#[derive(Object)]
pub struct Login {
    /// User name or e-mail address, in any case.
    #[oai(validator(min_length = 1, max_length = 254))]
    pub username: String,
    /// Password.
    #[oai(validator(min_length = 1, max_length = 256))]
    pub password: String,
}

/// A request for a new pair of tokens.
#[derive(Object)]
pub struct Refresh {
    /// The refresh token of the last answer.
    #[oai(validator(min_length = 1, max_length = 2048))]
    pub refresh: String,
}

/// A question whether a token is good.
#[derive(Object)]
pub struct Verify {
    /// An access token or an API key.
    #[oai(validator(min_length = 1, max_length = 2048))]
    pub token: String,
}

/// A change of the account.
#[derive(Object)]
pub struct UpdateMe {
    /// E-mail address (unique in any case).
    #[oai(validator(min_length = 3, max_length = 254))]
    pub email: Option<String>,
    /// What customers see: 1 to 120 characters.
    #[oai(validator(min_length = 1, max_length = 120))]
    pub shop_name: Option<String>,
}

/// A change of the password.
#[derive(Object)]
pub struct ChangePassword {
    /// The password as it is now.
    #[oai(validator(min_length = 1, max_length = 256))]
    pub current_password: String,
    /// 10 to 256 characters; not a common password, not the user name.
    #[oai(validator(min_length = 10, max_length = 256))]
    pub new_password: String,
}

/// A new account, logged in.
#[derive(ApiResponse)]
pub enum Registered {
    /// Created
    #[oai(status = 201)]
    Created(Json<SessionEnvelope>),
}

/// A login.
#[derive(ApiResponse)]
pub enum LoggedIn {
    /// Success
    #[oai(status = 200)]
    Ok(Json<SessionEnvelope>),
}

/// A login. The tokens stand at the top and in `data` alike.
#[derive(Object)]
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
#[derive(Object)]
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

#[cfg(test)]
mod tests {
    use cryptopay_test_support::{TestDatabase, on_both_databases};
    use poem::http::{Method, StatusCode, header};
    use poem::{Endpoint, EndpointExt, IntoEndpoint, Request, Response};
    use serde_json::{Value, json};

    use crate::testing::{PASSWORD, app};

    async fn send(
        gateway: &impl Endpoint,
        method: Method,
        path: &str,
        token: &str,
        body: Value,
    ) -> (StatusCode, Value) {
        let request = Request::builder()
            .method(method)
            .uri(path.parse().unwrap())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .body(body.to_string());
        let response: Response = gateway.get_response(request).await;
        let status = response.status();
        assert_eq!(response.content_type(), Some("application/json"));
        (status, response.into_body().into_json().await.unwrap())
    }

    on_both_databases!(a_login_stands_at_the_top_and_in_data_alike, async |db: TestDatabase| {
        let gateway = crate::rest::service().into_endpoint().data(app(&db).await);
        let post = async |path: &str, token: &str, body: Value| send(&gateway, Method::POST, path, token, body).await;
        let account = json!({
            "username": "shop", "email": "a@b.example", "password": PASSWORD, "shop_name": "Shop", "referrer": "x",
        });
        let (status, registered) = post("/api/auth/register", "", account).await;
        assert_eq!(
            (status, registered["message"].as_str()),
            (StatusCode::CREATED, Some("Account created. Ignored: referrer"))
        );
        let (status, answer) =
            post("/api/auth/login", "", json!({"username": "A@B.example", "password": PASSWORD})).await;
        assert_eq!((status, &answer["success"]), (StatusCode::OK, &json!(true)));
        let (renewed, pair) = post("/api/auth/token/refresh", "", json!({"refresh": answer["refresh"]})).await;
        assert_eq!(renewed, StatusCode::OK);
        let user = json!({
            "id": answer["user"]["id"], "username": "shop", "email": "a@b.example", "shop_name": "Shop",
            "plan": "standard",
        });
        for answer in [&registered, &answer, &pair] {
            for field in ["access", "refresh", "token_type", "expires_in", "user"] {
                assert_eq!(answer[field], answer["data"][field], "{field}");
            }
            assert_eq!((&answer["token_type"], &answer["expires_in"]), (&json!("Bearer"), &json!(86_400)));
            assert_eq!(answer["user"], user);
        }

        let access = pair["access"].as_str().unwrap();
        let (_, me) = send(&gateway, Method::GET, "/api/auth/me", access, json!({})).await;
        assert_eq!(
            (&me["data"]["username"], &me["data"]["limits"]),
            (&json!("shop"), &json!({"requests_per_hour": 1_000}))
        );
        let (status, key) = post("/api/api-keys", access, json!({"name": "Till"})).await;
        assert_eq!((status, &key["data"]["scopes"]), (StatusCode::CREATED, &json!(["read", "write"])));
        let secret = key["data"]["secret"].as_str().unwrap();
        let (_, keys) = send(&gateway, Method::GET, "/api/api-keys", secret, json!({})).await;
        assert_eq!((&keys["count"], keys.to_string().contains(secret)), (&json!(1), false));
        let path = format!("/api/api-keys/{}", key["data"]["id"]);
        assert_eq!(send(&gateway, Method::DELETE, &path, secret, json!({})).await.0, StatusCode::FORBIDDEN);
        let (status, deleted) = send(&gateway, Method::DELETE, &path, access, json!({})).await;
        assert_eq!((status, &deleted["data"]), (StatusCode::OK, &json!({})));

        let patch = async |token: &str| {
            let body = json!({"email": "new@b.example", "plan": "enterprise"});
            send(&gateway, Method::PATCH, "/api/auth/me", token, body).await
        };
        let (_, unchanged) = send(&gateway, Method::PATCH, "/api/auth/me", access, json!({"plan": "enterprise"})).await;
        assert_eq!(unchanged["message"], json!("Nothing was changed. Ignored: plan"));
        let (status, changed) = patch(access).await;
        assert_eq!((status, &changed["message"]), (StatusCode::OK, &json!("Account changed. Ignored: plan")));
        assert_eq!(
            (&changed["data"]["email"], &changed["data"]["plan"], &changed["data"]["limits"]),
            (&json!("new@b.example"), &json!("standard"), &me["data"]["limits"])
        );

        let check = async || post("/api/auth/token/verify", "", json!({"token": access})).await.0;
        assert_eq!(check().await, StatusCode::OK);
        assert_eq!(post("/api/auth/logout", access, json!({})).await.0, StatusCode::OK);
        assert_eq!(check().await, StatusCode::UNAUTHORIZED);
        assert_eq!(post("/api/auth/logout", access, json!({})).await.0, StatusCode::UNAUTHORIZED);

        let login = |password: &str| json!({"username": "new@b.example", "password": password});
        let (_, again) = post("/api/auth/login", "", login(PASSWORD)).await;
        let access = again["access"].as_str().unwrap();
        let change = json!({"current_password": PASSWORD, "new_password": "unicorn teapot gravel"});
        assert_eq!(post("/api/auth/password", secret, change.clone()).await.0, StatusCode::UNAUTHORIZED);
        let (status, changed) = post("/api/auth/password", access, change).await;
        assert_eq!((status, &changed["data"]), (StatusCode::OK, &json!({})));
        let (status, _) = send(&gateway, Method::GET, "/api/auth/me", access, json!({})).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED);
        assert_eq!(post("/api/auth/login", "", login(PASSWORD)).await.0, StatusCode::UNAUTHORIZED);
        assert_eq!(post("/api/auth/login", "", login("unicorn teapot gravel")).await.0, StatusCode::OK);
    });
}
