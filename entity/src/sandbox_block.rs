//! Blocks of the simulated chains.

use std::ops::RangeInclusive;

use cryptopay_domain::address::Hash;
use cryptopay_domain::time::Timestamp;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::OnConflict;
use sea_orm::{DbBackend, QueryOrder, QuerySelect, Statement, TryInsertResult};

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "sandbox_block")]
pub struct Model {
    /// Slug.
    #[sea_orm(primary_key, auto_increment = false)]
    pub chain: String,
    /// Height.
    #[sea_orm(primary_key, auto_increment = false)]
    pub number: i64,
    /// Hash of the header.
    pub hash: Hash,
    /// The header as JSON-RPC shows it.
    pub header: String,
    /// When it was mined, in business time. The header says the same in whole seconds, rounded down.
    pub block_time: Timestamp,
}

/// This table's rows are joined by hand where that is wanted.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// Rows of one insert: five values each, far below what either database takes in one statement.
const MAX_ROWS_PER_INSERT: usize = 500;

impl Entity {
    /// Makes whoever wants to write blocks of a chain wait until this transaction ends. On SQLite, which has one writer,
    /// a transaction that may write has nobody beside it anyway.
    pub async fn lock_chain(connection: &impl ConnectionTrait, chain: &str) -> Result<(), DbErr> {
        let backend = connection.get_database_backend();
        if backend == DbBackend::Postgres {
            let lock = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))";
            let name = format!("sandbox_block {chain}");
            connection.query_one_raw(Statement::from_sql_and_values(backend, lock, [name.into()])).await?;
        }
        Ok(())
    }

    /// Whether any chain has ever been simulated in this database.
    pub async fn is_any(connection: &impl ConnectionTrait) -> Result<bool, DbErr> {
        let one = Self::find().select_only().column(Column::Number).limit(1);
        Ok(one.into_tuple::<i64>().one(connection).await?.is_some())
    }

    /// The newest block of a chain.
    pub async fn newest(connection: &impl ConnectionTrait, chain: &str) -> Result<Option<Model>, DbErr> {
        Self::find().filter(Column::Chain.eq(chain)).order_by_desc(Column::Number).limit(1).one(connection).await
    }

    /// The oldest block of a chain that is kept.
    pub async fn oldest(connection: &impl ConnectionTrait, chain: &str) -> Result<Option<Model>, DbErr> {
        Self::find().filter(Column::Chain.eq(chain)).order_by_asc(Column::Number).limit(1).one(connection).await
    }

    /// A block by its height.
    pub async fn at(connection: &impl ConnectionTrait, chain: &str, number: i64) -> Result<Option<Model>, DbErr> {
        Self::find_by_id((chain.to_owned(), number)).one(connection).await
    }

    /// A block by its hash.
    pub async fn with_hash(connection: &impl ConnectionTrait, chain: &str, hash: Hash) -> Result<Option<Model>, DbErr> {
        Self::find().filter(Column::Chain.eq(chain)).filter(Column::Hash.eq(hash)).one(connection).await
    }

    /// The blocks of these heights that there are.
    pub async fn all_at(
        connection: &impl ConnectionTrait,
        chain: &str,
        numbers: impl IntoIterator<Item = i64>,
    ) -> Result<Vec<Model>, DbErr> {
        Self::find().filter(Column::Chain.eq(chain)).filter(Column::Number.is_in(numbers)).all(connection).await
    }

    /// Heights and times of the blocks of a range, ascending. Empty old blocks are not kept, so numbers may be missing.
    pub async fn times(
        connection: &impl ConnectionTrait,
        chain: &str,
        numbers: RangeInclusive<i64>,
    ) -> Result<Vec<(i64, Timestamp)>, DbErr> {
        Self::find()
            .select_only()
            .column(Column::Number)
            .column(Column::BlockTime)
            .filter(Column::Chain.eq(chain))
            .filter(Column::Number.between(*numbers.start(), *numbers.end()))
            .order_by_asc(Column::Number)
            .into_tuple()
            .all(connection)
            .await
    }

    /// Adds blocks; `false` if there is one of such a height already: the constraint decides who mines a block.
    pub async fn add(connection: &impl ConnectionTrait, blocks: Vec<Model>) -> Result<bool, DbErr> {
        for rows in blocks.chunks(MAX_ROWS_PER_INSERT) {
            let inserted = Self::insert_many(rows.iter().cloned().map(ActiveModel::from_row))
                .on_conflict(OnConflict::columns([Column::Chain, Column::Number]).do_nothing().to_owned())
                .try_insert()
                .exec_without_returning(connection)
                .await?;
            let complete =
                matches!(inserted, TryInsertResult::Inserted(count) if usize::try_from(count) == Ok(rows.len()));
            if !complete {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Takes away the blocks from a height upwards.
    pub async fn remove_from(connection: &impl ConnectionTrait, chain: &str, number: i64) -> Result<(), DbErr> {
        Self::delete_many().filter(Column::Chain.eq(chain)).filter(Column::Number.gte(number)).exec(connection).await?;
        Ok(())
    }

    /// Takes away the blocks below a height that hold no transaction; the first block of the chain stays. Returns how
    /// many there were.
    pub async fn remove_empty_below(connection: &impl ConnectionTrait, chain: &str, number: i64) -> Result<u64, DbErr> {
        let backend = connection.get_database_backend();
        let [chain_at, number_at] = match backend {
            DbBackend::Postgres => ["$1", "$2"],
            _ => ["?1", "?2"],
        };
        let sql = format!(
            "DELETE FROM sandbox_block WHERE chain = {chain_at} AND number > 0 AND number < {number_at} \
             AND NOT EXISTS (SELECT 1 FROM sandbox_transaction AS held \
             WHERE held.chain = sandbox_block.chain AND held.block_number = sandbox_block.number)"
        );
        let done =
            connection.execute_raw(Statement::from_sql_and_values(backend, sql, [chain.into(), number.into()])).await?;
        Ok(done.rows_affected())
    }
}

impl ActiveModel {
    fn from_row(row: Model) -> Self {
        use sea_orm::Set;
        Self {
            chain: Set(row.chain),
            number: Set(row.number),
            hash: Set(row.hash),
            header: Set(row.header),
            block_time: Set(row.block_time),
        }
    }
}
