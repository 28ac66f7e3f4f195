//! API keys: shown once, kept as a digest.

use cryptopay_domain::ids::{ApiKeyId, MerchantId};
use cryptopay_domain::merchant::Scope;
use cryptopay_domain::time::Timestamp;
use sea_orm::ActiveValue::{NotSet, Set};
use sea_orm::entity::prelude::*;
use sea_orm::{PaginatorTrait, QuerySelect, Select};

use crate::pages::{Place, Window};

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
    /// The key that made it; none for one that was made with a login.
    pub created_by: Option<ApiKeyId>,
}

/// This table's rows are joined by hand where that is wanted.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// A key to be added.
#[derive(Debug, Clone)]
pub struct NewApiKey {
    /// Owner.
    pub merchant: MerchantId,
    /// The beginning of the secret, to recognise it by.
    pub prefix: String,
    /// SHA-256 of the secret, in hex.
    pub secret_hash: String,
    /// What the merchant calls it.
    pub name: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// Expires (real clock).
    pub expires_at: Option<Timestamp>,
    /// The key that makes it; none for a login.
    pub created_by: Option<ApiKeyId>,
}

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

    /// Adds a key.
    pub async fn add(connection: &impl ConnectionTrait, new: NewApiKey, now: Timestamp) -> Result<Model, DbErr> {
        let row = ActiveModel {
            id: NotSet,
            merchant_id: Set(new.merchant),
            prefix: Set(new.prefix),
            secret_hash: Set(new.secret_hash),
            name: Set(new.name),
            scopes: Set(new.scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(",")),
            created_at: Set(now),
            expires_at: Set(new.expires_at),
            last_used_at: Set(None),
            revoked_at: Set(None),
            created_by: Set(new.created_by),
        };
        row.insert(connection).await
    }

    /// How many keys a merchant has that were not taken back.
    pub async fn count_owned(connection: &impl ConnectionTrait, merchant: MerchantId) -> Result<u64, DbErr> {
        owned(merchant).count(connection).await
    }

    /// A merchant's keys that were not taken back, in a window of their list.
    pub async fn list_owned(
        connection: &impl ConnectionTrait,
        merchant: MerchantId,
        window: Window,
    ) -> Result<Vec<Model>, DbErr> {
        window.of(owned(merchant), Column::CreatedAt, Column::Id).all(connection).await
    }

    /// A merchant's key that was not taken back.
    pub async fn find_owned(
        connection: &impl ConnectionTrait,
        merchant: MerchantId,
        id: ApiKeyId,
    ) -> Result<Option<Model>, DbErr> {
        owned(merchant).filter(Column::Id.eq(id)).one(connection).await
    }

    /// The keys that were taken back after this moment.
    pub async fn revoked_after(connection: &impl ConnectionTrait, after: Timestamp) -> Result<Vec<ApiKeyId>, DbErr> {
        let keys = Self::find().select_only().column(Column::Id).filter(Column::RevokedAt.gt(after));
        keys.into_tuple().all(connection).await
    }

    /// Takes a merchant's key back, with the keys that it has made, those that these have made, and so on. The keys that
    /// were taken back, without this one; `None` if there is no such key, or it was taken back before. The account has to
    /// be locked, so that none of them makes another one meanwhile.
    pub async fn revoke_owned(
        connection: &impl ConnectionTrait,
        merchant: MerchantId,
        id: ApiKeyId,
        now: Timestamp,
    ) -> Result<Option<Vec<ApiKeyId>>, DbErr> {
        if Self::find_owned(connection, merchant, id).await?.is_none() {
            return Ok(None);
        }
        let mut family = vec![id];
        let mut makers = vec![id];
        // A key is made by an older one, so that this ends.
        while !makers.is_empty() {
            let made = owned(merchant).filter(Column::CreatedBy.is_in(makers)).select_only().column(Column::Id);
            makers = made.into_tuple().all(connection).await?;
            makers.retain(|key| !family.contains(key));
            family.extend(&makers);
        }
        Self::update_many()
            .col_expr(Column::RevokedAt, Expr::value(now))
            .filter(Column::Id.is_in(family.iter().copied()))
            .filter(Column::MerchantId.eq(merchant))
            .filter(Column::RevokedAt.is_null())
            .exec(connection)
            .await?;
        family.retain(|key| *key != id);
        Ok(Some(family))
    }
}

impl Model {
    /// The key's place among its merchant's.
    pub fn place(&self) -> Place {
        Place { created_at: self.created_at, id: self.id.0 }
    }

    /// What the key may do.
    pub fn scopes(&self) -> Vec<Scope> {
        self.scopes.split(',').filter_map(|scope| scope.parse().ok()).collect()
    }
}

fn owned(merchant: MerchantId) -> Select<Entity> {
    Entity::find().filter(Column::MerchantId.eq(merchant)).filter(Column::RevokedAt.is_null())
}
