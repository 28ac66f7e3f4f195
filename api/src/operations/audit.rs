//! The audit log: who did what to what, when, and from which address. A line is written in the transaction of what it
//! tells of, so that neither is there without the other; the database lets nobody change or remove it.
//!
//! For that reason no line holds a secret, an e-mail address, or a name that somebody typed and nobody has (people type
//! their password there). What strangers can do as often as they like, such as failing to log in, is bounded.

use std::time::Duration;

use cryptopay_domain::time::Timestamp;
use cryptopay_entity::audit_log::{Bound, Entity, Entry};
use cryptopay_entity::merchant;
use sea_orm::{ConnectionTrait, DbErr};
use serde_json::{Value, json};

use crate::caller;
use crate::principal::Principal;

/// How the log calls a login with a name that nobody has.
const NOBODY: &str = "unknown name";
/// Of logins, failed or not, of one account.
const LOGINS: Bound = Bound { most: 30, within: Duration::from_secs(3_600) };
/// Of logins with names that nobody has, all together.
const UNKNOWN_NAMES: Bound = Bound { most: 100, within: Duration::from_secs(3_600) };

/// Writes what a principal did.
///
/// # Errors
/// Only failures of the database.
pub async fn by_principal(
    connection: &impl ConnectionTrait,
    principal: &Principal,
    action: &str,
    subject: &str,
    details: Value,
    now: Timestamp,
) -> Result<(), DbErr> {
    let line =
        Entry { subject: subject.to_owned(), ..entry(&principal.merchant, &principal.actor(), action, &details) };
    Entity::append(connection, now, line).await
}

/// Writes what somebody (the operator, the gateway itself, whoever registers) did to an account.
pub(super) async fn on_account(
    connection: &impl ConnectionTrait,
    merchant: &merchant::Model,
    actor: &str,
    action: &str,
    details: Value,
    now: Timestamp,
) -> Result<(), DbErr> {
    Entity::append(connection, now, entry(merchant, actor, action, &details)).await
}

/// Writes that somebody logged in.
pub(super) async fn login(
    connection: &impl ConnectionTrait,
    merchant: &merchant::Model,
    now: Timestamp,
) -> Result<(), DbErr> {
    Entity::append_bounded(connection, now, entry(merchant, "merchant", "login.open", &json!({})), LOGINS).await
}

/// Writes that somebody failed to log in: to an account, or with a name that nobody has. Costs the same either way.
pub(super) async fn failed_login(
    connection: &impl ConnectionTrait,
    merchant: Option<&merchant::Model>,
    now: Timestamp,
) -> Result<(), DbErr> {
    let (action, details) = ("login.fail", json!({}));
    let (line, bound) = match merchant {
        Some(merchant) => (entry(merchant, "somebody", action, &details), LOGINS),
        None => {
            let line = Entry {
                merchant: None,
                actor: "somebody".to_owned(),
                action: action.to_owned(),
                subject: NOBODY.to_owned(),
                details: details.to_string(),
                address: address(),
            };
            (line, UNKNOWN_NAMES)
        }
    };
    Entity::append_bounded(connection, now, line, bound).await
}

/// Writes that whoever holds a login did not know its password.
pub(super) async fn wrong_password(
    connection: &impl ConnectionTrait,
    merchant: &merchant::Model,
    now: Timestamp,
) -> Result<(), DbErr> {
    let line = entry(merchant, "merchant", "merchant.wrong_password", &json!({}));
    Entity::append_bounded(connection, now, line, LOGINS).await
}

fn entry(merchant: &merchant::Model, actor: &str, action: &str, details: &Value) -> Entry {
    Entry {
        merchant: Some(merchant.id),
        actor: actor.to_owned(),
        action: action.to_owned(),
        subject: merchant.username.clone(),
        details: details.to_string(),
        address: address(),
    }
}

fn address() -> Option<String> {
    caller::address().map(|address| address.to_string())
}
