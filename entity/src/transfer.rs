//! Transfers: facts about a chain.

mod lists;

use std::collections::BTreeSet;

use cryptopay_domain::address::{AccountAddress, Asset, Hash};
use cryptopay_domain::ids::{MerchantId, OrderId, TransferId};
use cryptopay_domain::time::Timestamp;
use cryptopay_domain::transfer::{Block, Position, TransferState};
use cryptopay_domain::units::Units;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::ExprTrait;
use sea_orm::{Condition, QueryOrder, QuerySelect, QueryTrait};

pub use lists::{ChainDepth, TransferFilter};

use crate::pages::Place;
use crate::pieces::pieces;

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
    /// The fault of its evidence, while it is unverifiable.
    pub unverifiable_reason: Option<String>,
    /// The last recheck of an unverifiable one (real clock).
    pub rechecked_at: Option<Timestamp>,
    /// Sum of live allocations.
    pub allocated_units: Units,
    /// Why it was matched or not, as JSON.
    pub evidence: String,
    /// The order that it was meant for, in another asset or on another chain. It pays that order nothing.
    pub wrong_asset_order_id: Option<OrderId>,
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
        let mut rows = Vec::new();
        for piece in pieces(hashes) {
            let known = Self::find().filter(Column::Chain.eq(chain)).filter(Column::TxHash.is_in(piece));
            rows.extend(known.order_by_asc(Column::Id).lock_exclusive().all(connection).await?);
        }
        rows.sort_by_key(|row| row.id);
        Ok(rows)
    }

    /// The orders that these transfers were meant for, in another asset or on another chain.
    pub async fn wrong_asset_orders(
        connection: &impl ConnectionTrait,
        ids: impl IntoIterator<Item = TransferId>,
    ) -> Result<BTreeSet<OrderId>, DbErr> {
        let mut orders = BTreeSet::new();
        for piece in pieces(ids) {
            let rows = Self::find().select_only().column(Column::WrongAssetOrderId).filter(Column::Id.is_in(piece));
            let rows = rows.filter(Column::WrongAssetOrderId.is_not_null()).into_tuple::<OrderId>();
            orders.extend(rows.all(connection).await?);
        }
        Ok(orders)
    }

    /// Those of the orders that a transfer in another asset, or on another chain, was meant for. A transfer that is gone
    /// counts no more.
    pub async fn wrong_asset_among(
        connection: &impl ConnectionTrait,
        orders: impl IntoIterator<Item = OrderId>,
    ) -> Result<BTreeSet<OrderId>, DbErr> {
        let mut found = BTreeSet::new();
        for piece in pieces(orders) {
            let rows = Self::find()
                .select_only()
                .column(Column::WrongAssetOrderId)
                .filter(Column::WrongAssetOrderId.is_in(piece))
                .filter(Column::State.ne(TransferState::Orphaned));
            found.extend(rows.into_tuple::<OrderId>().all(connection).await?);
        }
        Ok(found)
    }

    /// Forgets for which of these orders transfers were meant: the orders are about to be deleted.
    pub async fn forget_wrong_asset(
        connection: &impl ConnectionTrait,
        orders: impl IntoIterator<Item = OrderId>,
    ) -> Result<(), DbErr> {
        for piece in pieces(orders) {
            Self::update_many()
                .col_expr(Column::WrongAssetOrderId, Expr::value(Option::<OrderId>::None))
                .filter(Column::WrongAssetOrderId.is_in(piece))
                .exec(connection)
                .await?;
        }
        Ok(())
    }

    /// Transfers in blocks above `height`, which a reorganisation has put in doubt, final or not.
    pub async fn above(connection: &impl ConnectionTrait, chain: &str, height: i64) -> Result<Vec<Model>, DbErr> {
        Self::find()
            .filter(Column::Chain.eq(chain))
            .filter(Column::State.is_in([TransferState::Included, TransferState::Final, TransferState::Unverifiable]))
            .filter(Column::BlockNumber.gt(height))
            .order_by_asc(Column::Id)
            .lock_exclusive()
            .all(connection)
            .await
    }

    /// Every transfer of a chain that is not known to be gone, locked.
    pub async fn not_orphaned(connection: &impl ConnectionTrait, chain: &str) -> Result<Vec<Model>, DbErr> {
        Self::find()
            .filter(Column::Chain.eq(chain))
            .filter(Column::State.ne(TransferState::Orphaned))
            .order_by_asc(Column::Id)
            .lock_exclusive()
            .all(connection)
            .await
    }

    /// Blocks below `number` that hold transfers, as we know them, newest first, at most `limit`.
    pub async fn blocks_below(
        connection: &impl ConnectionTrait,
        chain: &str,
        number: i64,
        limit: u64,
    ) -> Result<Vec<(i64, Hash)>, DbErr> {
        Self::find()
            .select_only()
            .column(Column::BlockNumber)
            .column(Column::BlockHash)
            .distinct()
            .filter(Column::Chain.eq(chain))
            .filter(Column::State.is_in([TransferState::Included, TransferState::Final]))
            .filter(Column::BlockNumber.lt(number))
            .order_by_desc(Column::BlockNumber)
            .limit(limit)
            .into_tuple()
            .all(connection)
            .await
    }

    /// Transfers that were not found at their block, at most `limit`.
    pub async fn missing(connection: &impl ConnectionTrait, chain: &str, limit: u64) -> Result<Vec<Model>, DbErr> {
        Self::find()
            .filter(Column::Chain.eq(chain))
            .filter(Column::State.eq(TransferState::Missing))
            .order_by_asc(Column::Id)
            .limit(limit)
            .all(connection)
            .await
    }

    /// Transfers that cannot be verified, the longest unchecked first, at most `limit`.
    pub async fn unverifiable(connection: &impl ConnectionTrait, chain: &str, limit: u64) -> Result<Vec<Model>, DbErr> {
        Self::find()
            .filter(Column::Chain.eq(chain))
            .filter(Column::State.eq(TransferState::Unverifiable))
            .order_by_asc(Column::RecheckedAt)
            .order_by_asc(Column::Id)
            .limit(limit)
            .all(connection)
            .await
    }

    /// Records a recheck that found no evidence either.
    pub async fn note_rechecked(
        connection: &impl ConnectionTrait,
        id: TransferId,
        reason: &str,
        at: Timestamp,
    ) -> Result<(), DbErr> {
        Self::update_many()
            .col_expr(Column::UnverifiableReason, Expr::value(Some(reason)))
            .col_expr(Column::RecheckedAt, Expr::value(Some(at)))
            .filter(Column::Id.eq(id))
            .filter(Column::State.eq(TransferState::Unverifiable))
            .exec(connection)
            .await
            .map(|_| ())
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

    /// Blocks up to `height` that hold included transfers, as we know them, oldest first, at most `limit`.
    pub async fn included_blocks(
        connection: &impl ConnectionTrait,
        chain: &str,
        height: i64,
        limit: u64,
    ) -> Result<Vec<(i64, Hash)>, DbErr> {
        Self::find()
            .select_only()
            .column(Column::BlockNumber)
            .column(Column::BlockHash)
            .distinct()
            .filter(Column::Chain.eq(chain))
            .filter(Column::State.eq(TransferState::Included))
            .filter(Column::BlockNumber.lte(height))
            .order_by_asc(Column::BlockNumber)
            .limit(limit)
            .into_tuple()
            .all(connection)
            .await
    }

    /// Included transfers in the numbered blocks, oldest blocks first, at most `limit` for each statement that it takes.
    pub async fn included_in(
        connection: &impl ConnectionTrait,
        chain: &str,
        numbers: impl IntoIterator<Item = i64>,
        limit: u64,
    ) -> Result<Vec<Model>, DbErr> {
        let mut rows = Vec::new();
        for piece in pieces(numbers) {
            let included = Self::find()
                .filter(Column::Chain.eq(chain))
                .filter(Column::State.eq(TransferState::Included))
                .filter(Column::BlockNumber.is_in(piece))
                .order_by_asc(Column::BlockNumber)
                .limit(limit);
            rows.extend(included.all(connection).await?);
        }
        Ok(rows)
    }

    /// How many included transfers each of the numbered blocks holds, as we know them.
    pub async fn count_included_in(
        connection: &impl ConnectionTrait,
        chain: &str,
        numbers: impl IntoIterator<Item = i64>,
    ) -> Result<Vec<(i64, Hash, i64)>, DbErr> {
        let mut counts = Vec::new();
        for piece in pieces(numbers) {
            let counted = Self::find()
                .select_only()
                .column(Column::BlockNumber)
                .column(Column::BlockHash)
                .column_as(Column::Id.count(), "transfers")
                .filter(Column::Chain.eq(chain))
                .filter(Column::State.eq(TransferState::Included))
                .filter(Column::BlockNumber.is_in(piece))
                .group_by(Column::BlockNumber)
                .group_by(Column::BlockHash);
            counts.extend(counted.into_tuple::<(i64, Hash, i64)>().all(connection).await?);
        }
        Ok(counts)
    }

    /// Every transfer in the numbered blocks that is included or final.
    pub async fn standing_in(
        connection: &impl ConnectionTrait,
        chain: &str,
        numbers: impl IntoIterator<Item = i64>,
    ) -> Result<Vec<Model>, DbErr> {
        let mut rows = Vec::new();
        for piece in pieces(numbers) {
            let standing = Self::find()
                .filter(Column::Chain.eq(chain))
                .filter(Column::State.is_in([TransferState::Included, TransferState::Final]))
                .filter(Column::BlockNumber.is_in(piece))
                .order_by_asc(Column::Id);
            rows.extend(standing.all(connection).await?);
        }
        Ok(rows)
    }

    /// What a transaction is held to make: its transfers that are included, final, or in doubt.
    pub async fn held_of(connection: &impl ConnectionTrait, chain: &str, tx_hash: Hash) -> Result<Vec<Model>, DbErr> {
        let held = [TransferState::Included, TransferState::Final, TransferState::Missing];
        Self::find()
            .filter(Column::Chain.eq(chain))
            .filter(Column::TxHash.eq(tx_hash))
            .filter(Column::State.is_in(held))
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
        let mut changed = 0_u64;
        for piece in pieces(ids) {
            let done = Self::update_many()
                .col_expr(Column::State, Expr::value(to))
                .col_expr(Column::MissingSince, Expr::value(missing_since))
                .col_expr(Column::Version, Expr::col(Column::Version).add(1))
                .col_expr(Column::UpdatedAt, Expr::value(now))
                .filter(Condition::all().add(Column::Id.is_in(piece)).add(Column::State.eq(from)))
                .exec(connection)
                .await?;
            changed = changed.saturating_add(done.rows_affected);
        }
        Ok(changed)
    }

    /// Puts a missing transfer into a block.
    pub async fn reinstate(
        connection: &impl ConnectionTrait,
        id: TransferId,
        block: &Block,
        now: Timestamp,
    ) -> Result<(), DbErr> {
        Self::update_many()
            .col_expr(Column::State, Expr::value(TransferState::Included))
            .col_expr(Column::BlockNumber, Expr::value(i64::try_from(block.number).unwrap_or(i64::MAX)))
            .col_expr(Column::BlockHash, Expr::value(block.hash))
            .col_expr(Column::BlockTime, Expr::value(block.time))
            .col_expr(Column::MissingSince, Expr::value(None::<Timestamp>))
            .col_expr(Column::Version, Expr::col(Column::Version).add(1))
            .col_expr(Column::UpdatedAt, Expr::value(now))
            .filter(Column::Id.eq(id))
            .filter(Column::State.eq(TransferState::Missing))
            .exec(connection)
            .await
            .map(|_| ())
    }

    /// Transfers by key.
    pub async fn by_ids(
        connection: &impl ConnectionTrait,
        ids: impl IntoIterator<Item = TransferId>,
    ) -> Result<Vec<Model>, DbErr> {
        let mut rows = Vec::new();
        for piece in pieces(ids) {
            rows.extend(Self::find().filter(Column::Id.is_in(piece)).all(connection).await?);
        }
        Ok(rows)
    }

    /// Locks, by ascending id, every transfer that a merchant sees or has a share of.
    pub async fn lock_of_merchant(
        connection: &impl ConnectionTrait,
        merchant: MerchantId,
    ) -> Result<Vec<TransferId>, DbErr> {
        use super::{allocation, event, merchant_transfer};
        let seen = merchant_transfer::Entity::find()
            .select_only()
            .column(merchant_transfer::Column::TransferId)
            .filter(merchant_transfer::Column::MerchantId.eq(merchant));
        let shared = allocation::Entity::find()
            .select_only()
            .column(allocation::Column::TransferId)
            .filter(allocation::Column::MerchantId.eq(merchant));
        let told = event::Entity::find()
            .select_only()
            .column(event::Column::TransferId)
            .filter(event::Column::MerchantId.eq(merchant))
            .filter(event::Column::TransferId.is_not_null());
        let any = Condition::any()
            .add(Column::Id.in_subquery(seen.into_query()))
            .add(Column::Id.in_subquery(shared.into_query()))
            .add(Column::Id.in_subquery(told.into_query()));
        let transfers = Self::find().select_only().column(Column::Id).filter(any);
        transfers.order_by_asc(Column::Id).lock_exclusive().into_tuple().all(connection).await
    }

    /// Deletes those of these transfers that nobody sees, has a share of or was told of; how many that were.
    pub async fn delete_unseen(
        connection: &impl ConnectionTrait,
        ids: impl IntoIterator<Item = TransferId>,
    ) -> Result<u64, DbErr> {
        use super::{allocation, event, merchant_transfer};
        let own = || Expr::col((Entity, Column::Id));
        let mut deleted = 0_u64;
        for piece in pieces(ids) {
            let seen = merchant_transfer::Entity::find()
                .filter(Expr::col((merchant_transfer::Entity, merchant_transfer::Column::TransferId)).eq(own()));
            let shared = allocation::Entity::find()
                .filter(Expr::col((allocation::Entity, allocation::Column::TransferId)).eq(own()));
            let told = event::Entity::find().filter(Expr::col((event::Entity, event::Column::TransferId)).eq(own()));
            let done = Self::delete_many()
                .filter(Column::Id.is_in(piece))
                .filter(Expr::exists(seen.into_query()).not())
                .filter(Expr::exists(shared.into_query()).not())
                .filter(Expr::exists(told.into_query()).not())
                .exec(connection)
                .await?;
            deleted = deleted.saturating_add(done.rows_affected);
        }
        Ok(deleted)
    }

    /// Those of these transfers that there are.
    pub async fn numbered(
        connection: &impl ConnectionTrait,
        ids: impl IntoIterator<Item = TransferId>,
    ) -> Result<Vec<Model>, DbErr> {
        let mut rows = Vec::new();
        for piece in pieces(ids) {
            rows.extend(Self::find().filter(Column::Id.is_in(piece)).order_by_asc(Column::Id).all(connection).await?);
        }
        Ok(rows)
    }
}

impl Model {
    /// How much of it belongs to no order.
    pub fn unassigned_units(&self) -> Units {
        self.units.saturating_sub(self.allocated_units)
    }

    /// Reports whether it was set aside, and never had evidence since.
    pub fn is_set_aside(&self) -> bool {
        self.unverifiable_reason.is_some()
    }

    /// The transfer's place in lists.
    pub fn place(&self) -> Place {
        Place { created_at: self.created_at, id: self.id.0 }
    }
}
