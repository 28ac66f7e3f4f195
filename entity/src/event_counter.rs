//! The last sequence number given out.

use sea_orm::QuerySelect;
use sea_orm::entity::prelude::*;

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "event_counter")]
pub struct Model {
    /// Always 1.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i64,
    /// The number.
    pub last_sequence: i64,
}

/// This table's rows are joined by hand where that is wanted.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Entity {
    /// The last number given out, locked until the transaction ends.
    pub async fn last(connection: &impl ConnectionTrait) -> Result<i64, DbErr> {
        let row = Self::find_by_id(1).lock_exclusive().one(connection).await?;
        row.map(|row| row.last_sequence).ok_or_else(|| DbErr::RecordNotFound("event_counter".into()))
    }

    /// The last number given out, as it is seen now.
    pub async fn peek(connection: &impl ConnectionTrait) -> Result<i64, DbErr> {
        let row = Self::find_by_id(1).one(connection).await?;
        row.map(|row| row.last_sequence).ok_or_else(|| DbErr::RecordNotFound("event_counter".into()))
    }

    /// Stores the last number given out.
    pub async fn set_last(connection: &impl ConnectionTrait, sequence: i64) -> Result<(), DbErr> {
        Self::update_many()
            .col_expr(Column::LastSequence, Expr::value(sequence))
            .filter(Column::Id.eq(1))
            .exec(connection)
            .await?;
        Ok(())
    }
}
