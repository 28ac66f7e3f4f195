//! Numbers of events that a merchant has deleted by starting anew: the sequence of all events has no other gaps.

use cryptopay_domain::ids::MerchantId;
use sea_orm::entity::prelude::*;
use sea_orm::{DbBackend, PaginatorTrait, QueryOrder, QuerySelect, Statement};

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "removed_event")]
pub struct Model {
    /// The number.
    #[sea_orm(primary_key, auto_increment = false)]
    pub sequence: i64,
}

/// This table's rows are joined by hand where that is wanted.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Entity {
    /// Notes the numbers of a merchant's events, which are about to be deleted.
    pub async fn note(connection: &impl ConnectionTrait, merchant: MerchantId) -> Result<(), DbErr> {
        let backend = connection.get_database_backend();
        let place = if backend == DbBackend::Postgres { "$1" } else { "?1" };
        let sql = format!(
            "INSERT INTO removed_event (sequence) \
             SELECT sequence FROM event WHERE merchant_id = {place} AND sequence IS NOT NULL"
        );
        connection.execute_raw(Statement::from_sql_and_values(backend, sql, [merchant.into()])).await?;
        Ok(())
    }

    /// The smallest number that is gone.
    pub async fn oldest(connection: &impl ConnectionTrait) -> Result<Option<i64>, DbErr> {
        let oldest = Self::find().order_by_asc(Column::Sequence).limit(1).one(connection).await?;
        Ok(oldest.map(|row| row.sequence))
    }

    /// How many numbers are gone above `after`, up to `last`.
    pub async fn count_between(connection: &impl ConnectionTrait, after: i64, last: i64) -> Result<i64, DbErr> {
        let gone = Self::find().filter(Column::Sequence.gt(after)).filter(Column::Sequence.lte(last));
        Ok(i64::try_from(gone.count(connection).await?).unwrap_or(i64::MAX))
    }
}
