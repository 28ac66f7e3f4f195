//! API keys: shown once, kept as a digest.

use cryptopay_domain::ids::{ApiKeyId, MerchantId};
use cryptopay_domain::time::Timestamp;
use sea_orm::entity::prelude::*;

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "api_key")]
pub struct Model {
    /// Key.
    #[sea_orm(primary_key)]
    pub id: ApiKeyId,
    /// Owner.
    pub merchant_id: MerchantId,
    /// The beginning of the secret, to recognise it by.
    pub prefix: String,
    /// SHA-256 of the secret, in hex.
    pub secret_hash: String,
    /// What the merchant calls it.
    pub name: String,
    /// Scopes, comma-separated.
    pub scopes: String,
    /// Issued (real clock).
    pub created_at: Timestamp,
    /// Expires (real clock).
    pub expires_at: Option<Timestamp>,
    /// Last use, to the minute.
    pub last_used_at: Option<Timestamp>,
    /// Taken back.
    pub revoked_at: Option<Timestamp>,
}

/// This table's rows are joined by hand where that is wanted.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Entity {
    /// The key with this digest.
    pub async fn find_by_digest(connection: &impl ConnectionTrait, digest: &str) -> Result<Option<Model>, DbErr> {
        Self::find().filter(Column::SecretHash.eq(digest)).one(connection).await
    }

    /// Remembers that a key was used.
    pub async fn note_use(connection: &impl ConnectionTrait, id: ApiKeyId, now: Timestamp) -> Result<(), DbErr> {
        Self::update_many()
            .col_expr(Column::LastUsedAt, Expr::value(Some(now)))
            .filter(Column::Id.eq(id))
            .exec(connection)
            .await?;
        Ok(())
    }
}
