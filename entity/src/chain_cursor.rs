//! How far each chain is verified, and which process may move it.

use cryptopay_domain::address::Hash;
use cryptopay_domain::order::ChainView;
use cryptopay_domain::time::Timestamp;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{ExprTrait, OnConflict};
use sea_orm::{ActiveValue::Set, TryInsertResult};

use crate::clock;

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "chain_cursor")]
pub struct Model {
    /// Slug.
    #[sea_orm(primary_key, auto_increment = false)]
    pub chain: String,
    /// Newest verified block.
    pub height: i64,
    /// Its hash.
    pub hash: Hash,
    /// Its time.
    pub block_time: Timestamp,
    /// Newest block that an endpoint has shown.
    pub head_height: i64,
    /// Newest block that the finality tag vouches for.
    pub final_height: Option<i64>,
    /// Who scans; nobody once the lease was given back.
    pub lease_owner: Option<String>,
    /// Until when (database clock).
    pub lease_until: Timestamp,
    /// Raised with every new owner: fences the old one.
    pub lease_epoch: i64,
    /// ok, lagging, stalled, frozen or unreachable.
    pub health: String,
    /// In words.
    pub problem: Option<String>,
    /// Last look at the chain (database clock).
    pub polled_at: Timestamp,
    /// Last move (database clock).
    pub updated_at: Timestamp,
}

/// This table's rows are joined by hand where that is wanted.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Model {
    /// What the verified scanner sees of the chain.
    pub fn view(&self) -> ChainView {
        let unsigned = |stored: i64| u64::try_from(stored).unwrap_or(0);
        ChainView {
            height: unsigned(self.height),
            block_time: self.block_time,
            final_height: self.final_height.map(unsigned),
        }
    }

    /// When somebody last looked at the chain, as far as the row tells; `now` while somebody does (database clock).
    pub fn last_look(&self, now: Timestamp) -> Timestamp {
        let written = [self.polled_at, self.updated_at, self.lease_until].into_iter();
        // Later ones are of a time before the clock was set back, and say nothing of when that was.
        let newest = written.filter(|at| *at <= now.plus(clock::LONGEST_LEASE)).max();
        newest.map_or(Timestamp::default(), |newest| Ord::min(newest, now))
    }

    /// Whether whoever scanned has gone without a word: a lease that has run out and was not given back (database clock).
    pub fn is_abandoned(&self, now: Timestamp) -> bool {
        self.lease_owner.is_some() && !clock::under_way(now).contains(&self.lease_until)
    }
}

impl Entity {
    /// The cursor of a chain.
    pub async fn of(connection: &impl ConnectionTrait, chain: &str) -> Result<Option<Model>, DbErr> {
        Self::find_by_id(chain.to_owned()).one(connection).await
    }

    /// Every chain's cursor: a handful.
    pub async fn list(connection: &impl ConnectionTrait) -> Result<Vec<Model>, DbErr> {
        Self::find().all(connection).await
    }

    /// The cursor of a chain, locked.
    pub async fn lock(connection: &impl ConnectionTrait, chain: &str) -> Result<Option<Model>, DbErr> {
        use sea_orm::QuerySelect;
        Self::find_by_id(chain.to_owned()).lock_exclusive().one(connection).await
    }

    /// Writes a chain's first cursor; nothing if there is one.
    pub async fn begin(
        connection: &impl ConnectionTrait,
        chain: &str,
        height: i64,
        hash: Hash,
        block_time: Timestamp,
        now: Timestamp,
    ) -> Result<bool, DbErr> {
        let row = ActiveModel {
            chain: Set(chain.to_owned()),
            height: Set(height),
            hash: Set(hash),
            block_time: Set(block_time),
            head_height: Set(height),
            final_height: Set(None),
            lease_owner: Set(None),
            lease_until: Set(Timestamp::default()),
            lease_epoch: Set(0),
            health: Set("ok".to_owned()),
            problem: Set(None),
            polled_at: Set(now),
            updated_at: Set(now),
        };
        let inserted = Self::insert(row)
            .on_conflict(OnConflict::column(Column::Chain).do_nothing().to_owned())
            .try_insert()
            .exec_without_returning(connection)
            .await?;
        Ok(matches!(inserted, TryInsertResult::Inserted(1)))
    }

    /// Deletes a chain's cursor.
    pub async fn delete(connection: &impl ConnectionTrait, chain: &str) -> Result<(), DbErr> {
        Self::delete_by_id(chain.to_owned()).exec(connection).await.map(|_| ())
    }

    /// Takes or renews the lease until `until`; gives its epoch, or `None` while another owner holds it. The epoch rises
    /// whenever the owner changes.
    pub async fn lease(
        connection: &impl ConnectionTrait,
        chain: &str,
        owner: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Option<i64>, DbErr> {
        if !Self::renew(connection, chain, owner, now, until).await? {
            let taken = Self::update_many()
                .col_expr(Column::LeaseUntil, Expr::value(until))
                .col_expr(Column::LeaseOwner, Expr::value(Some(owner.to_owned())))
                .col_expr(Column::LeaseEpoch, Expr::col(Column::LeaseEpoch).add(1))
                .filter(Column::Chain.eq(chain))
                .filter(clock::is_over(Column::LeaseUntil, now))
                .exec(connection)
                .await?;
            if taken.rows_affected == 0 {
                return Ok(None);
            }
        }
        let cursor = Self::of(connection, chain).await?;
        Ok(cursor.filter(|cursor| cursor.lease_owner.as_deref() == Some(owner)).map(|cursor| cursor.lease_epoch))
    }

    /// Renews a lease until `until`; `false` if its owner does not hold it any more.
    pub async fn renew(
        connection: &impl ConnectionTrait,
        chain: &str,
        owner: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<bool, DbErr> {
        let renewed = Self::update_many()
            .col_expr(Column::LeaseUntil, Expr::value(until))
            .filter(Column::Chain.eq(chain))
            .filter(Column::LeaseOwner.eq(owner))
            .filter(Column::LeaseUntil.gte(now))
            .exec(connection)
            .await?;
        Ok(renewed.rows_affected == 1)
    }

    /// Gives a lease back at the end of a look: it ends now, which is what it says of the look, and is nobody's.
    pub async fn give_back(
        connection: &impl ConnectionTrait,
        chain: &str,
        owner: &str,
        now: Timestamp,
    ) -> Result<(), DbErr> {
        Self::update_many()
            .col_expr(Column::LeaseUntil, Expr::value(now))
            .col_expr(Column::LeaseOwner, Expr::value(None::<String>))
            .filter(Column::Chain.eq(chain))
            .filter(Column::LeaseOwner.eq(owner))
            .exec(connection)
            .await?;
        Ok(())
    }

    /// Gives every lease of an owner back.
    pub async fn release_all(connection: &impl ConnectionTrait, owner: &str) -> Result<(), DbErr> {
        Self::update_many()
            .col_expr(Column::LeaseUntil, Expr::value(Timestamp::default()))
            .col_expr(Column::LeaseOwner, Expr::value(None::<String>))
            .filter(Column::LeaseOwner.eq(owner))
            .exec(connection)
            .await?;
        Ok(())
    }

    /// Notes what the last look at the chain has shown.
    pub async fn note_poll(
        connection: &impl ConnectionTrait,
        chain: &str,
        head_height: Option<i64>,
        health: &str,
        problem: Option<String>,
        now: Timestamp,
    ) -> Result<(), DbErr> {
        let mut update = Self::update_many()
            .col_expr(Column::Health, Expr::value(health))
            .col_expr(Column::Problem, Expr::value(problem))
            .col_expr(Column::PolledAt, Expr::value(now))
            .filter(Column::Chain.eq(chain));
        if let Some(height) = head_height {
            update = update.col_expr(Column::HeadHeight, Expr::value(height));
        }
        update.exec(connection).await?;
        Ok(())
    }

    /// Locks every chain's cursor.
    pub async fn lock_all(connection: &impl ConnectionTrait) -> Result<Vec<Model>, DbErr> {
        use sea_orm::{QueryOrder, QuerySelect};
        Self::find().order_by_asc(Column::Chain).lock_exclusive().all(connection).await
    }
}
