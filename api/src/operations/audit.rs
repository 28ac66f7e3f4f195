//! The audit log: who did what to what, when, and from which address. A line is written in the transaction of what it
//! tells of, so that neither is there without the other; the database lets nobody change or remove it.
//!
//! For that reason no line holds a secret, an e-mail address, or a name that somebody typed and nobody has (people type
//! their password there). What strangers can do as often as they like, such as failing to log in, is summed by address and
//! hour in a table of its own (`entity::failed_login`).

use std::cmp::Reverse;
use std::net::IpAddr;
use std::time::Duration;

use cryptopay_domain::ids::MerchantId;
use cryptopay_domain::time::Timestamp;
use cryptopay_entity::audit_log::{Bound, Entity, Entry, Model};
use cryptopay_entity::{failed_login, merchant};
use sea_orm::{ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter};
use serde_json::{Value, json};

use crate::caller;
use crate::principal::Principal;

/// How the log calls a login with a name that nobody has.
const NOBODY: &str = "unknown name";
/// Of logins of one account from addresses that it knows.
const LOGINS: Bound = Bound { most: 30, within: Duration::from_secs(3_600) };
/// A login.
const LOGIN: &str = "login.open";
/// A login that failed.
const FAILED_LOGIN: &str = "login.fail";
/// A wrong password from the holder of a login.
const WRONG_PASSWORD: &str = "merchant.wrong_password";
/// Actions that make an address known to its account.
const MAKE_KNOWN: [&str; 2] = [LOGIN, "merchant.create"];

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

/// Writes a login: each one from an address that is new for the account, others as far as the bound goes.
pub(super) async fn login(
    connection: &impl ConnectionTrait,
    merchant: &merchant::Model,
    now: Timestamp,
) -> Result<(), DbErr> {
    let is_new = match caller::address() {
        Some(address) => !is_known_address(connection, merchant.id, address).await?,
        None => false,
    };
    if is_new {
        let line = entry(merchant, "merchant", LOGIN, &json!({"new_address": true}));
        return Entity::append(connection, now, line).await;
    }
    Entity::append_bounded(connection, now, entry(merchant, "merchant", LOGIN, &json!({})), LOGINS).await
}

/// Reports whether an account was made or logged in to from an address.
///
/// # Errors
/// Only failures of the database.
pub(crate) async fn is_known_address(
    connection: &impl ConnectionTrait,
    merchant: MerchantId,
    address: IpAddr,
) -> Result<bool, DbErr> {
    Entity::is_known_address(connection, merchant, &address.to_string(), MAKE_KNOWN).await
}

/// Counts a login that failed: to an account, or with a name that no account has. Both cost the same.
pub(super) async fn failed_login(
    connection: &impl ConnectionTrait,
    merchant: Option<&merchant::Model>,
    now: Timestamp,
) -> Result<(), DbErr> {
    let merchant = merchant.map(|merchant| merchant.id);
    failed_login::Entity::count(connection, merchant, FAILED_LOGIN, &address().unwrap_or_default(), now).await
}

/// Counts a wrong password from the holder of a login.
pub(super) async fn wrong_password(
    connection: &impl ConnectionTrait,
    merchant: &merchant::Model,
    now: Timestamp,
) -> Result<(), DbErr> {
    let address = address().unwrap_or_default();
    failed_login::Entity::count(connection, Some(merchant.id), WRONG_PASSWORD, &address, now).await
}

/// The newest lines and sums of failures, newest first: an account's, or everybody's.
///
/// # Errors
/// Only failures of the database.
pub async fn newest(
    connection: &impl ConnectionTrait,
    merchant: Option<MerchantId>,
    limit: u64,
) -> Result<Vec<Line>, DbErr> {
    let lines = Entity::newest(connection, merchant, limit).await?;
    let sums = failed_login::Entity::newest(connection, merchant, limit).await?;
    let accounts = sums.iter().filter_map(failed_login::Model::merchant);
    let accounts = merchant::Entity::find().filter(merchant::Column::Id.is_in(accounts)).all(connection).await?;
    let sums = sums.into_iter().map(|sum| Line::of_sum(sum, &accounts));
    let mut lines: Vec<Line> = lines.into_iter().map(Line::from).chain(sums).collect();
    lines.sort_by_key(|line| Reverse((line.at, line.id)));
    lines.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(lines)
}

/// A line as it is shown: of the log, or a sum of failures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Number in the log; none for a sum.
    pub id: Option<i64>,
    /// Time of the action. A sum has the time of its last failure.
    pub at: Timestamp,
    /// Account that the line belongs to.
    pub merchant: Option<MerchantId>,
    /// Actor, such as `merchant`.
    pub actor: String,
    /// Action, such as `login.open`.
    pub action: String,
    /// To what.
    pub subject: String,
    /// More of it.
    pub details: Value,
    /// From which address.
    pub address: Option<String>,
}

impl From<Model> for Line {
    fn from(line: Model) -> Self {
        Self {
            id: Some(line.id),
            at: line.at,
            merchant: line.merchant_id,
            actor: line.actor,
            action: line.action,
            subject: line.subject,
            details: serde_json::from_str(&line.details).unwrap_or_default(),
            address: line.address,
        }
    }
}

impl Line {
    fn of_sum(sum: failed_login::Model, accounts: &[merchant::Model]) -> Self {
        let merchant = sum.merchant();
        let account = accounts.iter().find(|account| Some(account.id) == merchant);
        let actor = if sum.action == WRONG_PASSWORD { "merchant" } else { "somebody" };
        Self {
            id: None,
            at: sum.last_at,
            merchant,
            actor: actor.to_owned(),
            subject: account.map_or(NOBODY, |account| account.username.as_str()).to_owned(),
            details: json!({"failures": sum.failures, "since": sum.first_at.to_string()}),
            action: sum.action,
            address: Some(sum.address).filter(|address| !address.is_empty()),
        }
    }
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
