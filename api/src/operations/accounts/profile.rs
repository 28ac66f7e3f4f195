//! What a merchant changes about the own account: the profile, and the password.

use cryptopay_domain::merchant::Scope;
use cryptopay_entity::{clock, merchant, refresh_token, transact};
use sea_orm::{DbErr, SqlErr};
use secrecy::SecretString;
use serde_json::json;

use super::{Accounts, Failure, rules};
use crate::app::App;
use crate::error::ApiError;
use crate::fields::Fields;
use crate::operations::audit;
use crate::principal::Principal;
use crate::security::passwords::Verdict;

const WRONG_PASSWORD: &str = "This is not the current password.";

/// Changes what is sent of the profile and keeps the rest. Gives the account as it is then.
///
/// # Errors
/// `PERMISSION_DENIED` without the scope `manage`; every faulty field at once, an e-mail address of another account among
/// them.
pub async fn change_profile(app: &App, principal: &Principal, mut fields: Fields) -> Result<merchant::Model, ApiError> {
    principal.require(Scope::Manage)?;
    let id = principal.merchant_id();
    let email = fields.text("email").map(str::to_owned).and_then(|text| fields.ok("email", rules::email(text)));
    let shop_name = fields.text("shop_name").map(rules::shop_name);
    let shop_name = shop_name.and_then(|judged| fields.ok("shop_name", judged));
    rules::judge_taken(Accounts::from(app), None, email.as_deref(), Some(id), &mut fields).await?;
    fields.finish()?;
    let changed = transact!(app.database(), |txn| {
        let Some(before) = merchant::Entity::lock(txn, id).await? else { return Ok(None) };
        let email = email.as_deref().filter(|email| *email != before.email);
        let shop_name = shop_name.as_deref().filter(|shop_name| *shop_name != before.shop_name);
        let names = [email.map(|_| "email"), shop_name.map(|_| "shop_name")];
        let names: Vec<&str> = names.into_iter().flatten().collect();
        if names.is_empty() {
            return Ok(Some(before));
        }
        let now = clock::database_now(txn).await?;
        merchant::Entity::change_profile(txn, id, email, shop_name, now).await?;
        // The names of what was changed: the values are nobody's business in a log that cannot forget.
        let details = json!({"fields": names});
        audit::by_principal(txn, principal, "merchant.change_profile", &before.username, details, now).await?;
        merchant::Entity::lock(txn, id).await
    });
    match changed {
        Ok(merchant) => merchant.ok_or_else(|| ApiError::not_found("merchant")),
        Err(error) => Err(taken_meanwhile(app, principal, email.as_deref(), error).await),
    }
}

/// Gives the account a new password and ends all its logins, the caller's too. API keys stay.
///
/// # Errors
/// `PERMISSION_DENIED` for an API key; every faulty field at once: a wrong current password, a new one that breaks the
/// rules; `SERVICE_UNAVAILABLE` when too many passwords are being worked on.
pub async fn change_password(app: &App, principal: &Principal, mut fields: Fields) -> Result<(), ApiError> {
    principal.require_login()?;
    let checked = &principal.merchant;
    let secret = |name| fields.text(name).map(SecretString::from);
    let (current, new) = (secret("current_password"), secret("new_password"));
    if let Some(new) = new.clone() {
        for problem in app.passwords.problems(new, &checked.username, &checked.email).await? {
            fields.fault("new_password", problem);
        }
    }
    if let Some(current) = current
        && app.passwords.verify(current, Some(&checked.password_hash)).await? == Verdict::Wrong
    {
        let now = clock::database_now(app.database()).await?;
        audit::wrong_password(app.database(), checked, now).await?;
        fields.fault("current_password", WRONG_PASSWORD);
    }
    fields.finish()?;
    let hash = app.passwords.hash(new.ok_or_else(|| fields.faulty())?).await?;
    transact!(app.database(), |txn| {
        let locked = merchant::Entity::lock(txn, checked.id).await?;
        // Somebody else may have changed it since it was checked.
        if locked.is_none_or(|merchant| merchant.password_hash != checked.password_hash) {
            return Err(Failure::Final(ApiError::field("current_password", WRONG_PASSWORD)));
        }
        let now = clock::database_now(txn).await?;
        merchant::Entity::set_password(txn, checked.id, &hash, now).await?;
        let revoked = refresh_token::Entity::revoke_all(txn, checked.id, now).await?;
        let details = json!({"revoked_tokens": revoked});
        audit::by_principal(txn, principal, "merchant.change_password", &checked.username, details, now).await?;
        Ok::<(), Failure>(())
    })?;
    Ok(())
}

/// Whether a new password was refused since the current one is another.
pub fn is_wrong_password(error: &ApiError) -> bool {
    error.details.get("current_password").is_some_and(|problems| problems.iter().any(|it| it == WRONG_PASSWORD))
}

/// The answer to a failure: where somebody else was faster to the address, the constraint's refusal becomes its fault.
async fn taken_meanwhile(app: &App, principal: &Principal, email: Option<&str>, error: DbErr) -> ApiError {
    if !matches!(error.sql_err(), Some(SqlErr::UniqueConstraintViolation(_))) {
        return error.into();
    }
    let mut fields = Fields::default();
    let id = Some(principal.merchant_id());
    match rules::judge_taken(Accounts::from(app), None, email, id, &mut fields).await {
        Ok(()) => fields.finish().err().unwrap_or_else(|| error.into()),
        Err(failed) => failed,
    }
}
