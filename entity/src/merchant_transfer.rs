//! Which merchant sees which transfer: the one whose order it pays, or whoever held the address that it came to when it was
//! recorded. What is written here follows from the transfer and its allocations; lists are read by it.

use cryptopay_domain::ids::{MerchantId, TransferId};
use cryptopay_domain::time::Timestamp;
use cryptopay_domain::units::Units;
use sea_orm::ActiveValue::Set;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::OnConflict;

use super::transfer;

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "merchant_transfer")]
pub struct Model {
    /// Which transfer.
    #[sea_orm(primary_key, auto_increment = false)]
    pub transfer_id: TransferId,
    /// Who sees it.
    #[sea_orm(primary_key, auto_increment = false)]
    pub merchant_id: MerchantId,
    /// Slug.
    pub chain: String,
    /// Something of it belongs to no order: it stands in the inbox until all of it is given away.
    pub waiting: bool,
    /// When the transfer was first seen.
    pub created_at: Timestamp,
}

/// This table's rows are joined by hand where that is wanted.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Entity {
    /// Shows a transfer that fits no order to these merchants.
    pub async fn show_waiting(
        txn: &impl ConnectionTrait,
        transfer: &transfer::Model,
        merchants: impl IntoIterator<Item = MerchantId>,
    ) -> Result<(), DbErr> {
        let rows: Vec<_> = merchants.into_iter().map(|merchant| row(transfer, merchant, true)).collect();
        if !rows.is_empty() {
            // One that was set aside is shown already.
            let mut conflict = OnConflict::columns([Column::TransferId, Column::MerchantId]);
            conflict.update_column(Column::Waiting);
            Self::insert_many(rows).on_conflict(conflict).exec_without_returning(txn).await?;
        }
        Ok(())
    }

    /// Shows a transfer to the merchant whose order has a share of it now. It waits on while something of it is left.
    pub async fn show_allocated(
        txn: &impl ConnectionTrait,
        transfer: &transfer::Model,
        merchant: MerchantId,
    ) -> Result<(), DbErr> {
        let mut conflict = OnConflict::columns([Column::TransferId, Column::MerchantId]);
        conflict.update_column(Column::Waiting);
        let waiting = transfer.unassigned_units() > Units::ZERO;
        Self::insert(row(transfer, merchant, waiting)).on_conflict(conflict).exec_without_returning(txn).await?;
        Ok(())
    }

    /// Hides a transfer that an order of this merchant's has a share of from everybody who only waited for it.
    pub async fn hide_from_others(
        txn: &impl ConnectionTrait,
        transfer: TransferId,
        merchant: MerchantId,
    ) -> Result<(), DbErr> {
        Self::delete_many()
            .filter(Column::TransferId.eq(transfer))
            .filter(Column::MerchantId.ne(merchant))
            .filter(Column::Waiting.eq(true))
            .exec(txn)
            .await?;
        Ok(())
    }

    /// Deletes what is shown of a merchant; how many there were.
    pub async fn delete_owned(connection: &impl ConnectionTrait, merchant: MerchantId) -> Result<u64, DbErr> {
        Ok(Self::delete_many().filter(Column::MerchantId.eq(merchant)).exec(connection).await?.rows_affected)
    }
}

fn row(transfer: &transfer::Model, merchant: MerchantId, waiting: bool) -> ActiveModel {
    ActiveModel {
        transfer_id: Set(transfer.id),
        merchant_id: Set(merchant),
        chain: Set(transfer.chain.clone()),
        waiting: Set(waiting),
        created_at: Set(transfer.created_at),
    }
}
