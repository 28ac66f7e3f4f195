//! Chains that cannot start, each with its reason. A chain with a cursor has no row here.

use cryptopay_domain::time::Timestamp;
use sea_orm::ActiveValue::Set;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::OnConflict;

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "chain_start")]
pub struct Model {
    /// Slug.
    #[sea_orm(primary_key, auto_increment = false)]
    pub chain: String,
    /// The reason, without secrets.
    pub problem: String,
    /// Time of the last attempt (real clock).
    pub updated_at: Timestamp,
}

/// No row refers to another table.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Entity {
    /// Records the reason of a failed start.
    pub async fn note(
        connection: &impl ConnectionTrait,
        chain: &str,
        problem: String,
        now: Timestamp,
    ) -> Result<(), DbErr> {
        let row = ActiveModel { chain: Set(chain.to_owned()), problem: Set(problem), updated_at: Set(now) };
        let mut conflict = OnConflict::column(Column::Chain);
        conflict.update_columns([Column::Problem, Column::UpdatedAt]);
        Self::insert(row).on_conflict(conflict).exec_without_returning(connection).await.map(|_| ())
    }

    /// Forgets the reason: the chain has started.
    pub async fn forget(connection: &impl ConnectionTrait, chain: &str) -> Result<(), DbErr> {
        Self::delete_by_id(chain.to_owned()).exec(connection).await.map(|_| ())
    }

    /// Every chain that cannot start: a handful.
    pub async fn list(connection: &impl ConnectionTrait) -> Result<Vec<Model>, DbErr> {
        Self::find().all(connection).await
    }

    /// The reason that a chain cannot start.
    pub async fn problem_of(connection: &impl ConnectionTrait, chain: &str) -> Result<Option<String>, DbErr> {
        Ok(Self::find_by_id(chain.to_owned()).one(connection).await?.map(|row| row.problem))
    }
}
