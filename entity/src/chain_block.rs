//! A window of recent block hashes, by which reorganisations are noticed across restarts.

use cryptopay_domain::address::Hash;
use cryptopay_domain::time::Timestamp;
use cryptopay_domain::transfer::Block;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::OnConflict;
use sea_orm::{ActiveValue::Set, QueryOrder, QuerySelect};

use crate::pieces::pieces;

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "chain_block")]
pub struct Model {
    /// Slug.
    #[sea_orm(primary_key, auto_increment = false)]
    pub chain: String,
    /// Height.
    #[sea_orm(primary_key, auto_increment = false)]
    pub number: i64,
    /// Hash.
    pub hash: Hash,
    /// Hash of the block below.
    pub parent: Hash,
    /// Time.
    pub block_time: Timestamp,
    /// Who else names this hash.
    pub vouched_by: Option<String>,
}

/// This table's rows are joined by hand where that is wanted.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// Rows per insert: SQLite takes at most 32,766 variables in a statement.
const INSERT_ROWS: usize = 1_000;

impl Entity {
    /// Adds verified blocks to the window and drops what has left it (below `keep_from`).
    pub async fn append(
        connection: &impl ConnectionTrait,
        chain: &str,
        blocks: &[Block],
        keep_from: i64,
    ) -> Result<(), DbErr> {
        let rows: Vec<ActiveModel> = blocks
            .iter()
            .filter_map(|block| {
                let number = i64::try_from(block.number).ok()?;
                (number >= keep_from).then(|| ActiveModel {
                    chain: Set(chain.to_owned()),
                    number: Set(number),
                    hash: Set(block.hash),
                    parent: Set(block.parent),
                    block_time: Set(block.time),
                    vouched_by: Set(None),
                })
            })
            .collect();
        for chunk in rows.chunks(INSERT_ROWS) {
            Self::insert_many(chunk.to_vec())
                .on_conflict(
                    OnConflict::columns([Column::Chain, Column::Number])
                        .update_columns([Column::Hash, Column::Parent, Column::BlockTime, Column::VouchedBy])
                        .to_owned(),
                )
                .exec_without_returning(connection)
                .await?;
        }
        Self::delete_many()
            .filter(Column::Chain.eq(chain))
            .filter(Column::Number.lt(keep_from))
            .exec(connection)
            .await?;
        Ok(())
    }

    /// Drops the blocks above `height`.
    pub async fn drop_above(connection: &impl ConnectionTrait, chain: &str, height: i64) -> Result<(), DbErr> {
        Self::delete_many().filter(Column::Chain.eq(chain)).filter(Column::Number.gt(height)).exec(connection).await?;
        Ok(())
    }

    /// The window, newest first.
    pub async fn window(connection: &impl ConnectionTrait, chain: &str) -> Result<Vec<Model>, DbErr> {
        Self::find().filter(Column::Chain.eq(chain)).order_by_desc(Column::Number).all(connection).await
    }

    /// Those of the numbered blocks that are in the window.
    pub async fn numbered(
        connection: &impl ConnectionTrait,
        chain: &str,
        numbers: impl IntoIterator<Item = i64>,
    ) -> Result<Vec<Model>, DbErr> {
        let mut rows = Vec::new();
        for piece in pieces(numbers) {
            let held = Self::find().filter(Column::Chain.eq(chain)).filter(Column::Number.is_in(piece));
            rows.extend(held.all(connection).await?);
        }
        Ok(rows)
    }

    /// The blocks of the window up to `height` that are vouched for.
    pub async fn vouched_up_to(
        connection: &impl ConnectionTrait,
        chain: &str,
        height: i64,
    ) -> Result<Vec<Model>, DbErr> {
        Self::find()
            .filter(Column::Chain.eq(chain))
            .filter(Column::Number.lte(height))
            .filter(Column::VouchedBy.is_not_null())
            .all(connection)
            .await
    }

    /// The `limit` newest blocks of the window, newest first.
    pub async fn newest(connection: &impl ConnectionTrait, chain: &str, limit: u64) -> Result<Vec<Model>, DbErr> {
        let newest = Self::find().filter(Column::Chain.eq(chain)).order_by_desc(Column::Number);
        newest.limit(limit).all(connection).await
    }

    /// Height of the oldest block of the window.
    pub async fn oldest(connection: &impl ConnectionTrait, chain: &str) -> Result<Option<i64>, DbErr> {
        let oldest = Self::find().filter(Column::Chain.eq(chain)).order_by_asc(Column::Number);
        Ok(oldest.one(connection).await?.map(|row| row.number))
    }

    /// Notes that a block's hash was named again, if it is still the one that is held.
    pub async fn vouch(
        connection: &impl ConnectionTrait,
        chain: &str,
        number: i64,
        hash: Hash,
        by: &str,
    ) -> Result<bool, DbErr> {
        let done = Self::update_many()
            .col_expr(Column::VouchedBy, Expr::value(Some(by.to_owned())))
            .filter(Column::Chain.eq(chain))
            .filter(Column::Number.eq(number))
            .filter(Column::Hash.eq(hash))
            .exec(connection)
            .await?;
        Ok(done.rows_affected == 1)
    }
}

impl Model {
    /// The block.
    pub fn block(&self) -> Block {
        Block { number: self.number.unsigned_abs(), hash: self.hash, parent: self.parent, time: self.block_time }
    }
}
