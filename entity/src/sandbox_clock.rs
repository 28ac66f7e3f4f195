//! The test clock of the sandbox.

use std::time::Duration;

use sea_orm::Set;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{Expr, ExprTrait, OnConflict};

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "sandbox_clock")]
pub struct Model {
    /// Always 1.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i64,
    /// How far business time is ahead of the real clock.
    pub offset_micros: i64,
}

/// This table's rows are joined by hand where that is wanted.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Entity {
    /// How far business time is ahead of the real clock.
    pub async fn offset(connection: &impl ConnectionTrait) -> Result<Duration, DbErr> {
        let row = Self::find_by_id(1).one(connection).await?;
        Ok(Duration::from_micros(row.and_then(|row| u64::try_from(row.offset_micros).ok()).unwrap_or(0)))
    }

    /// Moves business time forward, for every process at once.
    pub async fn advance(connection: &impl ConnectionTrait, by: Duration) -> Result<(), DbErr> {
        let micros = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        let sum = Expr::col((Entity, Column::OffsetMicros)).add(micros);
        Self::insert(ActiveModel { id: Set(1), offset_micros: Set(micros) })
            .on_conflict(OnConflict::column(Column::Id).value(Column::OffsetMicros, sum).to_owned())
            .exec_without_returning(connection)
            .await?;
        Ok(())
    }
}
