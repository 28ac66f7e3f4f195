//! Accounts: made by registration or by the operator, changed by the operator.
//!
//! Whatever a new account needs is made with it, in one transaction: the merchant, the implicit endpoint that signs
//! deliveries to orders' own urls, in sandbox mode the inbox with its endpoint, and a line of the audit log.
//!
//! | file | holds |
//! |---|---|
//! | `endpoints.rs` | the webhook endpoints that an account begins with |
//! | `profile.rs` | what a merchant changes about the own account |
//! | `rules.rs` | what an account's fields must be |
//! | `sessions.rs` | logins: their tokens, how these rotate and end |

mod endpoints;
mod profile;
mod rules;
mod sessions;
#[cfg(test)]
mod tests;

use std::num::NonZeroU32;

use cryptopay_domain::merchant::Plan;
use cryptopay_domain::time::Timestamp;
use cryptopay_entity::txn::Restart;
use cryptopay_entity::{clock, merchant, refresh_token, transact};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbErr, SqlErr};
use secrecy::SecretString;
use serde_json::json;

use crate::app::App;
use crate::config::{Mode, Registration};
use crate::error::{ApiError, ErrorCode};
use crate::fields::Fields;
use crate::operations::audit::on_account as audit;
use crate::operations::stop::Stop;
use crate::security::Keys;
use crate::security::passwords::{PasswordError, Passwords};
use crate::security::tokens::FamilyId;
use rules::Draft;

pub use endpoints::FirstEndpoint;
pub use profile::{change_password, change_profile, is_wrong_password};
pub use sessions::{Session, login, logout, refresh, verify};

/// How the audit log calls the operator.
const OPERATOR: &str = "operator";

/// What accounts are made and changed with. The command line has this much and no whole [`App`].
#[derive(Debug, Clone, Copy)]
pub struct Accounts<'a> {
    /// The database.
    pub database: &'a DatabaseConnection,
    /// Encrypts webhook secrets.
    pub keys: &'a Keys,
    /// Hashes passwords.
    pub passwords: &'a Passwords,
    /// Sandbox accounts get an inbox.
    pub mode: Mode,
    /// Prefix of the inbox's address, without a slash at the end.
    pub public_url: &'a str,
}

/// An account that the operator makes.
#[derive(Debug, Clone)]
pub struct NewMerchant {
    /// Name to log in with: 3 to 64 letters, digits and `. _ -`.
    pub username: String,
    /// E-mail address.
    pub email: String,
    /// Password.
    pub password: SecretString,
    /// What customers see: 1 to 120 characters.
    pub shop_name: String,
}

impl<'a> From<&'a App> for Accounts<'a> {
    fn from(app: &'a App) -> Self {
        Self {
            database: app.database(),
            keys: &app.keys,
            passwords: &app.passwords,
            mode: app.config.mode,
            public_url: &app.public_url,
        }
    }
}

/// Makes an account for a stranger and logs it in.
///
/// # Errors
/// `PERMISSION_DENIED` where registration is closed; every faulty field at once, taken names among them;
/// `SERVICE_UNAVAILABLE` when too many passwords are being worked on.
pub async fn register(app: &App, mut fields: Fields) -> Result<Session, ApiError> {
    if app.config.registration == Registration::Closed {
        let message = "Registration is closed here. Ask the operator for an account: they make one with \
                       `cryptopay merchant create`.";
        return Err(ApiError::new(ErrorCode::PermissionDenied, message));
    }
    let accounts = Accounts::from(app);
    let draft = Draft::of(&fields);
    let new = rules::judge(accounts, draft, &mut fields).await?;
    let registered = transact!(accounts.database, |txn| {
        let now = clock::database_now(txn).await?;
        let merchant = add(accounts, txn, new.clone(), "registration", now).await?;
        sessions::open(txn, accounts.keys, merchant, &FamilyId::generate(), now).await
    });
    match registered {
        Ok(session) => Ok(session),
        Err(failure) => Err(named(accounts, &new, failure).await),
    }
}

/// Makes an account for the operator, whether registration is open or closed.
///
/// # Errors
/// As [`register`], but for closed registration.
pub async fn create_merchant(accounts: Accounts<'_>, new: NewMerchant) -> Result<merchant::Model, ApiError> {
    let new = rules::judge(accounts, new.into(), &mut Fields::default()).await?;
    let created = transact!(accounts.database, |txn| {
        let now = clock::database_now(txn).await?;
        add(accounts, txn, new.clone(), OPERATOR, now).await
    });
    match created {
        Ok(merchant) => Ok(merchant),
        Err(failure) => Err(named(accounts, &new, failure).await),
    }
}

/// Gives an account a new password and ends all its logins; how many live refresh tokens that were. API keys stay.
/// `username` may be the e-mail address.
///
/// # Errors
/// `NOT_FOUND`; a password that breaks the rules; `SERVICE_UNAVAILABLE` as [`register`].
pub async fn reset_password(accounts: Accounts<'_>, username: &str, password: SecretString) -> Result<u64, ApiError> {
    let found = by_name(accounts, username).await?;
    let problems = accounts.passwords.problems(password.clone(), &found.username, &found.email).await?;
    if !problems.is_empty() {
        let problems = problems.into_iter().map(str::to_owned).collect();
        return Err(ApiError::fields([("password".to_owned(), problems)].into()));
    }
    let hash = accounts.passwords.hash(password).await?;
    let revoked = transact!(accounts.database, |txn| {
        let locked = merchant::Entity::lock(txn, found.id).await?;
        let now = clock::database_now(txn).await?;
        let Some(merchant) = locked else { return Ok(None) };
        merchant::Entity::set_password(txn, merchant.id, &hash, now).await?;
        let revoked = refresh_token::Entity::revoke_all(txn, merchant.id, now).await?;
        audit(txn, &merchant, OPERATOR, "merchant.reset_password", json!({"revoked_tokens": revoked}), now).await?;
        Ok::<Option<u64>, DbErr>(Some(revoked))
    })?;
    revoked.ok_or_else(|| ApiError::not_found("merchant"))
}

/// Puts an account on a plan. `limit` is requests an hour in place of the plan's own; without one the plan's holds.
/// `username` may be the e-mail address.
///
/// # Errors
/// `NOT_FOUND`.
pub async fn set_plan(
    accounts: Accounts<'_>,
    username: &str,
    plan: Plan,
    limit: Option<NonZeroU32>,
) -> Result<(), ApiError> {
    let found = by_name(accounts, username).await?;
    let limit = limit.map(|limit| i64::from(limit.get()));
    transact!(accounts.database, |txn| {
        let now = clock::database_now(txn).await?;
        merchant::Entity::set_plan(txn, found.id, plan, limit, now).await?;
        let details = json!({
            "plan": plan, "limit": limit, "previous_plan": found.plan, "previous_limit": found.limit_override,
        });
        audit(txn, &found, OPERATOR, "merchant.set_plan", details, now).await?;
        Ok::<(), DbErr>(())
    })?;
    Ok(())
}

/// Why a transaction on an account came to nothing. Keeps the database's word until a restart has been ruled out.
#[derive(Debug)]
enum Failure {
    Database(DbErr),
    Final(ApiError),
}

impl From<DbErr> for Failure {
    fn from(error: DbErr) -> Self {
        Self::Database(error)
    }
}

impl From<Stop> for Failure {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Database(error) => Self::Database(error),
            Stop::Answer(error) => Self::Final(*error),
        }
    }
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Database(error) => error.into(),
            Failure::Final(error) => error,
        }
    }
}

impl Restart for Failure {
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Database(error) if error.is_conflict())
    }
}

impl From<PasswordError> for ApiError {
    fn from(error: PasswordError) -> Self {
        match error {
            PasswordError::Busy => Self::unavailable(error),
            PasswordError::StoredHash(_) | PasswordError::Hashing(_) | PasswordError::Interrupted(_) => {
                Self::internal(error)
            }
        }
    }
}

async fn by_name(accounts: Accounts<'_>, username: &str) -> Result<merchant::Model, ApiError> {
    let found = merchant::Entity::find_by_login(accounts.database, username).await?;
    found.ok_or_else(|| ApiError::not_found("merchant"))
}

/// The account with all that belongs to it. `now` is database time.
async fn add(
    accounts: Accounts<'_>,
    txn: &impl ConnectionTrait,
    new: merchant::NewMerchant,
    actor: &str,
    now: Timestamp,
) -> Result<merchant::Model, Failure> {
    let merchant = merchant::Entity::add(txn, new, now).await?;
    let business_now = clock::business_now(txn).await?;
    for endpoint in FirstEndpoint::of(accounts, txn, merchant.id).await? {
        endpoint.establish(accounts, txn, merchant.id, business_now).await?;
    }
    audit(txn, &merchant, actor, "merchant.create", json!({}), now).await?;
    Ok(merchant)
}

/// The answer to a failure: where somebody else was faster to a name, the constraint's refusal becomes that field's fault.
async fn named(accounts: Accounts<'_>, new: &merchant::NewMerchant, failure: Failure) -> ApiError {
    let Failure::Database(error) = failure else { return failure.into() };
    if !matches!(error.sql_err(), Some(SqlErr::UniqueConstraintViolation(_))) {
        return error.into();
    }
    let mut fields = Fields::default();
    match rules::judge_taken(accounts, Some(&new.username), Some(&new.email), None, &mut fields).await {
        Ok(()) => fields.finish().err().unwrap_or_else(|| error.into()),
        Err(failed) => failed,
    }
}
