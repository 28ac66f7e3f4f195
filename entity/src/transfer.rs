//! Transfers: facts about a chain.

use cryptopay_domain::address::{AccountAddress, Asset, Hash};
use cryptopay_domain::ids::TransferId;
use cryptopay_domain::time::Timestamp;
use cryptopay_domain::transfer::{Position, TransferState};
use cryptopay_domain::units::Units;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::ExprTrait;
use sea_orm::{Condition, QueryOrder, QuerySelect};

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "transfer")]
pub struct Model {
    /// Key.
    #[sea_orm(primary_key)]
    pub id: TransferId,
    /// Slug.
    pub chain: String,
    /// Transaction.
    pub tx_hash: Hash,
    /// Place in the transaction.
    pub position: Position,
    /// 0, or more where the same place was mined again with other contents.
    pub generation: i64,
    /// Block-wide index of the log.
    pub log_index: Option<i64>,
    /// Height.
    pub block_number: i64,
    /// Block.
    pub block_hash: Hash,
    /// Time of the block.
    pub block_time: Timestamp,
    /// Payer.
    pub from_address: AccountAddress,
    /// Receiver.
    pub to_address: AccountAddress,
    /// What.
    pub asset: Asset,
    /// How much.
    pub units: Units,
    /// Who signed.
    pub sender: AccountAddress,
    /// The signer's count.
    pub sender_nonce: i64,
    /// Gas.
    pub gas_used: i64,
    /// Wei per gas.
    pub gas_price: Units,
    /// Wei beyond gas × price.
    pub extra_fee: Units,
    /// How much it can be relied on.
    pub state: TransferState,
    /// When it was first not found (real clock).
    pub missing_since: Option<Timestamp>,
    /// Sum of live allocations.
    pub allocated_units: Units,
    /// Why it was matched or not, as JSON.
    pub evidence: String,
    /// Raised by each change.
    pub version: i64,
    /// First seen.
    pub created_at: Timestamp,
    /// Last changed.
    pub updated_at: Timestamp,
}

/// This table's rows are joined by hand where that is wanted.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Entity {
    /// Every stored transfer of these transactions on a chain.
    pub async fn of_transactions(
        connection: &impl ConnectionTrait,
        chain: &str,
        hashes: impl IntoIterator<Item = Hash>,
    ) -> Result<Vec<Model>, DbErr> {
        Self::find()
            .filter(Column::Chain.eq(chain))
            .filter(Column::TxHash.is_in(hashes))
            .order_by_asc(Column::Id)
            .lock_exclusive()
            .all(connection)
            .await
    }

    /// Transfers in blocks above `height`, which a reorganisation has put in doubt.
    pub async fn above(connection: &impl ConnectionTrait, chain: &str, height: i64) -> Result<Vec<Model>, DbErr> {
        Self::find()
            .filter(Column::Chain.eq(chain))
            .filter(Column::State.eq(TransferState::Included))
            .filter(Column::BlockNumber.gt(height))
            .order_by_asc(Column::Id)
            .lock_exclusive()
            .all(connection)
            .await
    }

    /// Transfers that were not found at their block, at `before` or earlier, at most `limit`.
    pub async fn missing(
        connection: &impl ConnectionTrait,
        chain: &str,
        before: Timestamp,
        limit: u64,
    ) -> Result<Vec<Model>, DbErr> {
        Self::find()
            .filter(Column::Chain.eq(chain))
            .filter(Column::State.eq(TransferState::Missing))
            .filter(Column::MissingSince.lte(before))
            .order_by_asc(Column::Id)
            .limit(limit)
            .all(connection)
            .await
    }

    /// Included transfers in blocks up to `height`, at most `limit`, oldest blocks first.
    pub async fn included_up_to(
        connection: &impl ConnectionTrait,
        chain: &str,
        height: i64,
        limit: u64,
    ) -> Result<Vec<Model>, DbErr> {
        Self::find()
            .filter(Column::Chain.eq(chain))
            .filter(Column::State.eq(TransferState::Included))
            .filter(Column::BlockNumber.lte(height))
            .order_by_asc(Column::BlockNumber)
            .limit(limit)
            .all(connection)
            .await
    }

    /// Gives transfers another state, one version up, where they still have `from`.
    pub async fn set_state(
        connection: &impl ConnectionTrait,
        ids: Vec<TransferId>,
        from: TransferState,
        to: TransferState,
        missing_since: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<u64, DbErr> {
        if ids.is_empty() {
            return Ok(0);
        }
        let done = Self::update_many()
            .col_expr(Column::State, Expr::value(to))
            .col_expr(Column::MissingSince, Expr::value(missing_since))
            .col_expr(Column::Version, Expr::col(Column::Version).add(1))
            .col_expr(Column::UpdatedAt, Expr::value(now))
            .filter(Condition::all().add(Column::Id.is_in(ids)).add(Column::State.eq(from)))
            .exec(connection)
            .await?;
        Ok(done.rows_affected)
    }

    /// Transfers by key.
    pub async fn by_ids(
        connection: &impl ConnectionTrait,
        ids: impl IntoIterator<Item = TransferId>,
    ) -> Result<Vec<Model>, DbErr> {
        Self::find().filter(Column::Id.is_in(ids)).all(connection).await
    }
}
