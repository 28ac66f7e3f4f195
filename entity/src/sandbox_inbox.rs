//! The webhook inbox of each merchant.

use cryptopay_domain::ids::MerchantId;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::OnConflict;
use sea_orm::{Set, TryInsertResult};

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "sandbox_inbox")]
pub struct Model {
    /// Whose.
    #[sea_orm(primary_key, auto_increment = false)]
    pub merchant_id: MerchantId,
    /// The unguessable part of its address.
    pub token: String,
    /// What it answers with.
    pub answer_status: i64,
    /// After how many milliseconds.
    pub answer_delay_ms: i64,
}

/// This table's rows are joined by hand where that is wanted.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Entity {
    /// The inbox of a merchant.
    pub async fn of(connection: &impl ConnectionTrait, merchant: MerchantId) -> Result<Option<Model>, DbErr> {
        Self::find_by_id(merchant).one(connection).await
    }

    /// The inbox with this token. The token is the permission.
    pub async fn with_token(connection: &impl ConnectionTrait, token: &str) -> Result<Option<Model>, DbErr> {
        Self::find().filter(Column::Token.eq(token)).one(connection).await
    }

    /// Gives a merchant an inbox that answers 200 at once; `false` if there is one.
    pub async fn open(connection: &impl ConnectionTrait, merchant: MerchantId, token: &str) -> Result<bool, DbErr> {
        let row = ActiveModel {
            merchant_id: Set(merchant),
            token: Set(token.to_owned()),
            answer_status: Set(200),
            answer_delay_ms: Set(0),
        };
        let inserted = Self::insert(row)
            .on_conflict(OnConflict::column(Column::MerchantId).do_nothing().to_owned())
            .try_insert()
            .exec_without_returning(connection)
            .await?;
        Ok(matches!(inserted, TryInsertResult::Inserted(1)))
    }

    /// Sets what a merchant's inbox answers with; what is `None` stays.
    pub async fn answer_with(
        connection: &impl ConnectionTrait,
        merchant: MerchantId,
        status: Option<i64>,
        delay_ms: Option<i64>,
    ) -> Result<(), DbErr> {
        let mut row = <ActiveModel as Default>::default();
        if let Some(status) = status {
            row.answer_status = Set(status);
        }
        if let Some(delay_ms) = delay_ms {
            row.answer_delay_ms = Set(delay_ms);
        }
        if status.is_some() || delay_ms.is_some() {
            Self::update_many().set(row).filter(Column::MerchantId.eq(merchant)).exec(connection).await?;
        }
        Ok(())
    }
}
