//! The audit log: who of a merchant's people or programs did what.

use cryptopay_domain::time::Timestamp;
use cryptopay_entity::audit_log;
use sea_orm::ConnectionTrait;

use crate::principal::Principal;

/// Writes a line of the audit log.
///
/// # Errors
/// Only failures of the database.
pub async fn audit(
    connection: &impl ConnectionTrait,
    principal: &Principal,
    action: &str,
    subject: &str,
    details: serde_json::Value,
    now: Timestamp,
) -> Result<(), sea_orm::DbErr> {
    let actor = principal.actor();
    audit_log::Entity::append(
        connection,
        now,
        Some(principal.merchant_id()),
        &actor,
        action,
        subject,
        details.to_string(),
    )
    .await
}
