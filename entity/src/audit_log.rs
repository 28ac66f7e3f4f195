//! Who did what to what. Append only.

use cryptopay_domain::ids::MerchantId;
use cryptopay_domain::time::Timestamp;
use sea_orm::ActiveValue::{NotSet, Set};
use sea_orm::entity::prelude::*;

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "audit_log")]
pub struct Model {
    /// Key.
    #[sea_orm(primary_key)]
    pub id: i64,
    /// When.
    pub at: Timestamp,
    /// Whose account.
    pub merchant_id: Option<MerchantId>,
    /// Who.
    pub actor: String,
    /// What.
    pub action: String,
    /// To what.
    pub subject: String,
    /// As JSON.
    pub details: String,
}

/// This table's rows are joined by hand where that is wanted.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Entity {
    /// Writes a line. `details` is JSON.
    pub async fn append(
        connection: &impl ConnectionTrait,
        at: Timestamp,
        merchant: Option<MerchantId>,
        actor: &str,
        action: &str,
        subject: &str,
        details: String,
    ) -> Result<(), DbErr> {
        let row = ActiveModel {
            id: NotSet,
            at: Set(at),
            merchant_id: Set(merchant),
            actor: Set(actor.to_owned()),
            action: Set(action.to_owned()),
            subject: Set(subject.to_owned()),
            details: Set(details),
        };
        Self::insert(row).exec_without_returning(connection).await?;
        Ok(())
    }
}
