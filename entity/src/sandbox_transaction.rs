//! Transactions of the simulated chains: waiting, mined or dropped.

use std::ops::RangeInclusive;

use cryptopay_domain::address::{AccountAddress, Hash};
use cryptopay_domain::ids::{MerchantId, OrderId};
use cryptopay_domain::time::Timestamp;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::Expr;
use sea_orm::{NotSet, QueryOrder, QuerySelect, QueryTrait, Set};

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "sandbox_transaction")]
pub struct Model {
    /// Key.
    #[sea_orm(primary_key)]
    pub id: i64,
    /// Slug.
    pub chain: String,
    /// Hash.
    pub tx_hash: Hash,
    /// Who sent it.
    pub sender: AccountAddress,
    /// How many the sender had sent before on this chain.
    pub sender_nonce: i64,
    /// The transaction as JSON-RPC shows it, without its sender and block.
    pub transaction_json: String,
    /// Gas that it uses.
    pub gas_used: i64,
    /// The logs that it makes, as JSON.
    pub logs: String,
    /// Earliest time of the block that may hold it.
    pub not_before: Timestamp,
    /// Block that holds it.
    pub block_number: Option<i64>,
    /// Place in that block.
    pub tx_index: Option<i64>,
    /// Place in that block of its first log.
    pub first_log_index: Option<i64>,
    /// Gas that it and the transactions before it in that block use.
    pub cumulative_gas: Option<i64>,
    /// A reorganisation is to take it out of its block once the scanner has seen it there, if it is not yet this deep.
    pub vanish_below_depth: Option<i64>,
    /// When a reorganisation took it away for good.
    pub dropped_at: Option<Timestamp>,
    /// The order that it was sent for, which may be gone.
    pub pays_order: Option<OrderId>,
    /// The reorganisation waits for it to have confirmed its order, and not for the scanner to see it.
    pub vanish_confirmed: bool,
    /// It is not sent yet: it takes the place of the transaction with this key when that one vanishes.
    pub replaces: Option<i64>,
}

/// This table's rows are joined by hand where that is wanted.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// A transaction that was just sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// Slug.
    pub chain: String,
    /// Hash.
    pub tx_hash: Hash,
    /// Who sent it.
    pub sender: AccountAddress,
    /// From [`Entity::next_nonce`].
    pub sender_nonce: i64,
    /// The transaction as JSON-RPC shows it, without its sender and block.
    pub transaction_json: String,
    /// Gas that it uses.
    pub gas_used: i64,
    /// The logs that it makes, as JSON.
    pub logs: String,
    /// Earliest time of the block that may hold it.
    pub not_before: Timestamp,
    /// See [`Model::vanish_below_depth`].
    pub vanish_below_depth: Option<i64>,
    /// See [`Model::pays_order`].
    pub pays_order: Option<OrderId>,
    /// See [`Model::vanish_confirmed`].
    pub vanish_confirmed: bool,
    /// See [`Model::replaces`].
    pub replaces: Option<i64>,
}

/// Where a transaction stands in its block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The transaction's key.
    pub id: i64,
    /// Height of the block.
    pub block_number: i64,
    /// Place in the block.
    pub tx_index: i64,
    /// Place in the block of its first log.
    pub first_log_index: i64,
    /// Gas that it and the transactions before it in the block use.
    pub cumulative_gas: i64,
}

impl Entity {
    /// Adds a transaction that waits for its block, or for the one that it replaces to vanish; its key.
    pub async fn send(connection: &impl ConnectionTrait, sent: Sent) -> Result<i64, DbErr> {
        let row = ActiveModel {
            id: NotSet,
            chain: Set(sent.chain),
            tx_hash: Set(sent.tx_hash),
            sender: Set(sent.sender),
            sender_nonce: Set(sent.sender_nonce),
            transaction_json: Set(sent.transaction_json),
            gas_used: Set(sent.gas_used),
            logs: Set(sent.logs),
            not_before: Set(sent.not_before),
            block_number: Set(None),
            tx_index: Set(None),
            first_log_index: Set(None),
            cumulative_gas: Set(None),
            vanish_below_depth: Set(sent.vanish_below_depth),
            dropped_at: Set(None),
            pays_order: Set(sent.pays_order),
            vanish_confirmed: Set(sent.vanish_confirmed),
            replaces: Set(sent.replaces),
        };
        Ok(Self::insert(row).exec(connection).await?.last_insert_id)
    }

    /// The nonce of the sender's next transaction. One that was dropped keeps its own, so that paying again is another
    /// transaction.
    pub async fn next_nonce(
        connection: &impl ConnectionTrait,
        chain: &str,
        sender: AccountAddress,
    ) -> Result<i64, DbErr> {
        let last: Option<i64> = Self::find()
            .select_only()
            .column(Column::SenderNonce)
            .filter(Column::Chain.eq(chain))
            .filter(Column::Sender.eq(sender))
            .order_by_desc(Column::SenderNonce)
            .limit(1)
            .into_tuple()
            .one(connection)
            .await?;
        Ok(last.map_or(0, |last| last.saturating_add(1)))
    }

    /// A transaction by its hash.
    pub async fn with_hash(connection: &impl ConnectionTrait, chain: &str, hash: Hash) -> Result<Option<Model>, DbErr> {
        Self::find().filter(Column::Chain.eq(chain)).filter(Column::TxHash.eq(hash)).one(connection).await
    }

    /// The transactions in the blocks of a range, in their order on the chain.
    pub async fn in_blocks(
        connection: &impl ConnectionTrait,
        chain: &str,
        numbers: RangeInclusive<i64>,
    ) -> Result<Vec<Model>, DbErr> {
        Self::ordered(chain, numbers).all(connection).await
    }

    /// The same, but only those with logs, and at most `limit`.
    pub async fn with_logs_in_blocks(
        connection: &impl ConnectionTrait,
        chain: &str,
        numbers: RangeInclusive<i64>,
        limit: u64,
    ) -> Result<Vec<Model>, DbErr> {
        Self::ordered(chain, numbers).filter(Column::Logs.ne("[]")).limit(limit).all(connection).await
    }

    fn ordered(chain: &str, numbers: RangeInclusive<i64>) -> Select<Self> {
        Self::find()
            .filter(Column::Chain.eq(chain))
            .filter(Column::BlockNumber.between(*numbers.start(), *numbers.end()))
            .order_by_asc(Column::BlockNumber)
            .order_by_asc(Column::TxIndex)
    }

    /// The transactions that a block of this time may hold, oldest first, at most `limit`.
    pub async fn waiting(
        connection: &impl ConnectionTrait,
        chain: &str,
        at: Timestamp,
        limit: u64,
    ) -> Result<Vec<Model>, DbErr> {
        Self::find()
            .filter(Column::Chain.eq(chain))
            .filter(Column::BlockNumber.is_null())
            .filter(Column::DroppedAt.is_null())
            .filter(Column::Replaces.is_null())
            .filter(Column::NotBefore.lte(at))
            .order_by_asc(Column::Id)
            .limit(limit)
            .all(connection)
            .await
    }

    /// The mined transactions that a reorganisation is to take out of their blocks.
    pub async fn vanishing(connection: &impl ConnectionTrait, chain: &str) -> Result<Vec<Model>, DbErr> {
        Self::find()
            .filter(Column::Chain.eq(chain))
            .filter(Column::VanishBelowDepth.is_not_null())
            .filter(Column::BlockNumber.is_not_null())
            .order_by_asc(Column::BlockNumber)
            .all(connection)
            .await
    }

    /// Puts a transaction into a block.
    pub async fn place(connection: &impl ConnectionTrait, place: Place) -> Result<(), DbErr> {
        Self::update_many()
            .col_expr(Column::BlockNumber, Expr::value(Some(place.block_number)))
            .col_expr(Column::TxIndex, Expr::value(Some(place.tx_index)))
            .col_expr(Column::FirstLogIndex, Expr::value(Some(place.first_log_index)))
            .col_expr(Column::CumulativeGas, Expr::value(Some(place.cumulative_gas)))
            .filter(Column::Id.eq(place.id))
            .exec(connection)
            .await?;
        Ok(())
    }

    /// Sends what replaces a transaction, to wait until `not_before`. Whether there is such a one.
    pub async fn send_replacement(
        connection: &impl ConnectionTrait,
        id: i64,
        not_before: Timestamp,
    ) -> Result<bool, DbErr> {
        let sent = Self::update_many()
            .col_expr(Column::Replaces, Expr::value(None::<i64>))
            .col_expr(Column::NotBefore, Expr::value(not_before))
            .filter(Column::Replaces.eq(id))
            .exec(connection)
            .await?;
        Ok(sent.rows_affected > 0)
    }

    /// Takes a transaction out of its block: to wait until `not_before`, or for good. What is planned for it is given up.
    pub async fn displace(connection: &impl ConnectionTrait, id: i64, after: Displaced) -> Result<(), DbErr> {
        let (not_before, dropped_at) = match after {
            Displaced::WaitsUntil(time) => (Some(time), None),
            Displaced::Dropped(now) => (None, Some(now)),
        };
        Self::forget_replacement(connection, id).await?;
        let mut update = Self::update_many()
            .col_expr(Column::BlockNumber, Expr::value(None::<i64>))
            .col_expr(Column::TxIndex, Expr::value(None::<i64>))
            .col_expr(Column::FirstLogIndex, Expr::value(None::<i64>))
            .col_expr(Column::CumulativeGas, Expr::value(None::<i64>))
            .col_expr(Column::VanishBelowDepth, Expr::value(None::<i64>))
            .col_expr(Column::VanishConfirmed, Expr::value(false))
            .col_expr(Column::DroppedAt, Expr::value(dropped_at));
        if let Some(time) = not_before {
            update = update.col_expr(Column::NotBefore, Expr::value(time));
        }
        update.filter(Column::Id.eq(id)).exec(connection).await?;
        Ok(())
    }

    /// Gives up the plan to take a transaction out of its block.
    pub async fn stay(connection: &impl ConnectionTrait, id: i64) -> Result<(), DbErr> {
        Self::forget_replacement(connection, id).await?;
        Self::update_many()
            .col_expr(Column::VanishBelowDepth, Expr::value(None::<i64>))
            .col_expr(Column::VanishConfirmed, Expr::value(false))
            .filter(Column::Id.eq(id))
            .exec(connection)
            .await?;
        Ok(())
    }

    /// Drops what was sent for a merchant's orders and waits for a block, and gives up what is planned for what is in one.
    /// The chains have to be locked.
    pub async fn forget_owned(
        connection: &impl ConnectionTrait,
        merchant: MerchantId,
        now: Timestamp,
    ) -> Result<(), DbErr> {
        use super::payment_order;
        let orders = payment_order::Entity::find()
            .select_only()
            .column(payment_order::Column::Id)
            .filter(payment_order::Column::MerchantId.eq(merchant));
        let is_theirs = Column::PaysOrder.in_subquery(orders.into_query());
        Self::delete_many().filter(is_theirs.clone()).filter(Column::Replaces.is_not_null()).exec(connection).await?;
        Self::update_many()
            .col_expr(Column::VanishBelowDepth, Expr::value(None::<i64>))
            .col_expr(Column::VanishConfirmed, Expr::value(false))
            .filter(is_theirs.clone())
            .filter(Column::VanishBelowDepth.is_not_null())
            .exec(connection)
            .await?;
        Self::update_many()
            .col_expr(Column::DroppedAt, Expr::value(Some(now)))
            .filter(is_theirs)
            .filter(Column::BlockNumber.is_null())
            .filter(Column::DroppedAt.is_null())
            .exec(connection)
            .await?;
        Ok(())
    }

    /// Deletes what would have replaced a transaction and was never sent.
    async fn forget_replacement(connection: &impl ConnectionTrait, id: i64) -> Result<(), DbErr> {
        Self::delete_many().filter(Column::Replaces.eq(id)).exec(connection).await?;
        Ok(())
    }
}

/// What becomes of a transaction that a reorganisation takes out of its block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Displaced {
    /// It waits; no block before this time may hold it.
    WaitsUntil(Timestamp),
    /// It is gone, since now.
    Dropped(Timestamp),
}
