//! What a token's contract has said about its decimals, so that every process knows it, those that read no chain included.

use std::collections::BTreeMap;

use cryptopay_domain::address::AccountAddress;
use cryptopay_domain::time::Timestamp;
use sea_orm::ActiveValue::Set;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::OnConflict;

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "token_check")]
pub struct Model {
    /// Slug.
    #[sea_orm(primary_key, auto_increment = false)]
    pub chain: String,
    /// The token's contract, in lower case.
    #[sea_orm(primary_key, auto_increment = false)]
    pub contract: String,
    /// What it says.
    pub decimals: i64,
    /// When it said so (database clock).
    pub checked_at: Timestamp,
}

/// This table's rows are joined by hand where that is wanted.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Entity {
    /// Notes what a contract says.
    pub async fn note(
        connection: &impl ConnectionTrait,
        chain: &str,
        contract: AccountAddress,
        decimals: u8,
        now: Timestamp,
    ) -> Result<(), DbErr> {
        let row = ActiveModel {
            chain: Set(chain.to_owned()),
            contract: Set(contract.to_key()),
            decimals: Set(i64::from(decimals)),
            checked_at: Set(now),
        };
        Self::insert(row)
            .on_conflict(
                OnConflict::columns([Column::Chain, Column::Contract])
                    .update_columns([Column::Decimals, Column::CheckedAt])
                    .to_owned(),
            )
            .exec_without_returning(connection)
            .await?;
        Ok(())
    }

    /// What a contract has said, if it was asked.
    pub async fn decimals(
        connection: &impl ConnectionTrait,
        chain: &str,
        contract: AccountAddress,
    ) -> Result<Option<i64>, DbErr> {
        Ok(Self::find_by_id((chain.to_owned(), contract.to_key())).one(connection).await?.map(|row| row.decimals))
    }

    /// What every contract has said, by chain and contract (in lower case): a handful.
    pub async fn all(connection: &impl ConnectionTrait) -> Result<BTreeMap<(String, String), i64>, DbErr> {
        let rows = Self::find().all(connection).await?;
        Ok(rows.into_iter().map(|row| ((row.chain, row.contract), row.decimals)).collect())
    }
}
