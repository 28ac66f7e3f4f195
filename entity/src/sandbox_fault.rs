//! Faults that the simulated chains are told to have.

use cryptopay_domain::time::Timestamp;
use sea_orm::Set;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::OnConflict;

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "sandbox_fault")]
pub struct Model {
    /// Slug.
    #[sea_orm(primary_key, auto_increment = false)]
    pub chain: String,
    /// Which.
    pub kind: String,
    /// Until when, in business time.
    pub until: Timestamp,
    /// Height of the chain when it began.
    pub height: i64,
}

/// This table's rows are joined by hand where that is wanted.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Entity {
    /// The fault of a chain, over or not.
    pub async fn of(connection: &impl ConnectionTrait, chain: &str) -> Result<Option<Model>, DbErr> {
        Self::find_by_id(chain.to_owned()).one(connection).await
    }

    /// Gives a chain a fault in place of the one that it has.
    pub async fn begin(connection: &impl ConnectionTrait, fault: Model) -> Result<(), DbErr> {
        let row = ActiveModel {
            chain: Set(fault.chain),
            kind: Set(fault.kind),
            until: Set(fault.until),
            height: Set(fault.height),
        };
        let replace =
            OnConflict::column(Column::Chain).update_columns([Column::Kind, Column::Until, Column::Height]).to_owned();
        Self::insert(row).on_conflict(replace).exec_without_returning(connection).await?;
        Ok(())
    }

    /// Ends a chain's fault; whether there was one, over or not.
    pub async fn end(connection: &impl ConnectionTrait, chain: &str) -> Result<bool, DbErr> {
        Ok(Self::delete_by_id(chain.to_owned()).exec(connection).await?.rows_affected > 0)
    }
}
