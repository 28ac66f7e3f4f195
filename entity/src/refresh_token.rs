//! Refresh tokens: a login is a family of them, each used once.

use cryptopay_domain::ids::{MerchantId, RefreshTokenId};
use cryptopay_domain::time::Timestamp;
use sea_orm::QuerySelect;
use sea_orm::entity::prelude::*;

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "refresh_token")]
pub struct Model {
    /// Key.
    #[sea_orm(primary_key)]
    pub id: RefreshTokenId,
    /// Owner.
    pub merchant_id: MerchantId,
    /// The login; access tokens carry it.
    pub family: String,
    /// SHA-256 of the token, in hex.
    pub token_hash: String,
    /// Issued (real clock).
    pub created_at: Timestamp,
    /// Expires (real clock).
    pub expires_at: Timestamp,
    /// First use.
    pub used_at: Option<Timestamp>,
    /// Taken back.
    pub revoked_at: Option<Timestamp>,
}

/// This table's rows are joined by hand where that is wanted.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Entity {
    /// Whether a login still stands: it has tokens, and none was revoked.
    pub async fn family_is_live(connection: &impl ConnectionTrait, family: &str) -> Result<bool, DbErr> {
        let rows: Vec<Option<Timestamp>> = Self::find()
            .select_only()
            .column(Column::RevokedAt)
            .filter(Column::Family.eq(family))
            .into_tuple()
            .all(connection)
            .await?;
        Ok(!rows.is_empty() && rows.iter().all(Option::is_none))
    }
}
