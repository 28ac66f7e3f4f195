//! Merchants: who may log in, and how their payments are treated.

use cryptopay_domain::ids::MerchantId;
use cryptopay_domain::merchant::Plan;
use cryptopay_domain::time::Timestamp;
use sea_orm::entity::prelude::*;

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "merchant")]
pub struct Model {
    /// Key.
    #[sea_orm(primary_key)]
    pub id: MerchantId,
    /// Name to log in with, as chosen.
    pub username: String,
    /// The same, case-folded; unique.
    pub username_key: String,
    /// E-mail address.
    pub email: String,
    /// The same, case-folded; unique.
    pub email_key: String,
    /// Argon2id, in PHC form.
    pub password_hash: String,
    /// What customers see.
    pub shop_name: String,
    /// Decides the request limit.
    pub plan: Plan,
    /// Requests an hour, set by the operator.
    pub limit_override: Option<i64>,
    /// Payment settings as JSON.
    pub payment_settings: String,
    /// When the account was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// This table's rows are joined by hand where that is wanted.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
