//! Refresh tokens: a login is a family of them, each used once.

use cryptopay_domain::ids::{MerchantId, RefreshTokenId};
use cryptopay_domain::time::Timestamp;
use sea_orm::ActiveValue::{NotSet, Set};
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

    /// The logins that ended after this moment.
    pub async fn families_revoked_after(
        connection: &impl ConnectionTrait,
        after: Timestamp,
    ) -> Result<Vec<String>, DbErr> {
        let families = Self::find().select_only().column(Column::Family).filter(Column::RevokedAt.gt(after));
        families.distinct().into_tuple().all(connection).await
    }

    /// Adds a token to a login, which begins with its first.
    pub async fn add(
        connection: &impl ConnectionTrait,
        merchant: MerchantId,
        family: &str,
        token_hash: &str,
        now: Timestamp,
        expires_at: Timestamp,
    ) -> Result<(), DbErr> {
        let row = ActiveModel {
            id: NotSet,
            merchant_id: Set(merchant),
            family: Set(family.to_owned()),
            token_hash: Set(token_hash.to_owned()),
            created_at: Set(now),
            expires_at: Set(expires_at),
            used_at: Set(None),
            revoked_at: Set(None),
        };
        Self::insert(row).exec_without_returning(connection).await?;
        Ok(())
    }

    /// The token with this digest. Knowing the token is what shows its owner.
    pub async fn find_by_digest(connection: &impl ConnectionTrait, digest: &str) -> Result<Option<Model>, DbErr> {
        Self::find().filter(Column::TokenHash.eq(digest)).one(connection).await
    }

    /// Uses a token; `false` if it was used before. Of several at once, one gets `true`.
    pub async fn claim(connection: &impl ConnectionTrait, id: RefreshTokenId, now: Timestamp) -> Result<bool, DbErr> {
        let claimed = Self::update_many()
            .col_expr(Column::UsedAt, Expr::value(now))
            .filter(Column::Id.eq(id))
            .filter(Column::UsedAt.is_null())
            .exec(connection)
            .await?;
        Ok(claimed.rows_affected == 1)
    }

    /// Ends one login of a merchant. The merchant's row is locked, so that no token joins the family unseen.
    pub async fn revoke_family(
        connection: &impl ConnectionTrait,
        merchant: MerchantId,
        family: &str,
        now: Timestamp,
    ) -> Result<(), DbErr> {
        let live =
            Self::update_many().col_expr(Column::RevokedAt, Expr::value(now)).filter(Column::RevokedAt.is_null());
        live.filter(Column::MerchantId.eq(merchant)).filter(Column::Family.eq(family)).exec(connection).await?;
        Ok(())
    }

    /// Ends every login of a merchant; how many tokens that were. The merchant's row is locked.
    pub async fn revoke_all(
        connection: &impl ConnectionTrait,
        merchant: MerchantId,
        now: Timestamp,
    ) -> Result<u64, DbErr> {
        let live =
            Self::update_many().col_expr(Column::RevokedAt, Expr::value(now)).filter(Column::RevokedAt.is_null());
        Ok(live.filter(Column::MerchantId.eq(merchant)).exec(connection).await?.rows_affected)
    }
}
