//! Which process runs which timer.

use cryptopay_domain::time::Timestamp;
use sea_orm::ActiveValue::Set;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::OnConflict;
use sea_orm::{Condition, TryInsertResult};

use crate::clock;

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "timer_lease")]
pub struct Model {
    /// Timer.
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: String,
    /// Process.
    pub owner: String,
    /// Until when (database clock).
    pub lease_until: Timestamp,
}

/// This table's rows are joined by hand where that is wanted.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Entity {
    /// Takes or renews a timer's lease; `false` while another process holds it. `now` is the database's clock.
    pub async fn take(
        connection: &impl ConnectionTrait,
        name: &str,
        owner: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<bool, DbErr> {
        let done = Self::update_many()
            .col_expr(Column::Owner, Expr::value(owner))
            .col_expr(Column::LeaseUntil, Expr::value(until))
            .filter(Column::Name.eq(name))
            .filter(Condition::any().add(Column::Owner.eq(owner)).add(clock::is_over(Column::LeaseUntil, now)))
            .exec(connection)
            .await?;
        if done.rows_affected == 1 {
            return Ok(true);
        }
        let row = ActiveModel { name: Set(name.to_owned()), owner: Set(owner.to_owned()), lease_until: Set(until) };
        let inserted = Self::insert(row)
            .on_conflict(OnConflict::column(Column::Name).do_nothing().to_owned())
            .try_insert()
            .exec_without_returning(connection)
            .await?;
        Ok(matches!(inserted, TryInsertResult::Inserted(1)))
    }

    /// Gives every lease of a process back.
    pub async fn release_all(connection: &impl ConnectionTrait, owner: &str) -> Result<(), DbErr> {
        Self::delete_many().filter(Column::Owner.eq(owner)).exec(connection).await?;
        Ok(())
    }
}
