//! Passwords that failed, summed by account, address and hour: a log of each of them could be filled by strangers, and a log
//! of a few of them would hide the others.

use std::time::Duration;

use cryptopay_domain::ids::MerchantId;
use cryptopay_domain::time::Timestamp;
use sea_orm::entity::prelude::*;
use sea_orm::{QueryOrder, QuerySelect, Statement};

/// Time for which sums are kept.
const KEPT_FOR: Duration = Duration::from_secs(90 * 24 * 3_600);
/// Addresses of one account and hour that have a sum of their own; further ones are summed together.
pub const MOST_ADDRESSES: u64 = 1_000;
/// Microseconds of an hour.
const HOUR_MICROS: i64 = 3_600_000_000;
/// Stands for the name that no account has.
const NO_ACCOUNT: MerchantId = MerchantId(0);

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "failed_login")]
pub struct Model {
    /// Account; 0 for names that no account has.
    #[sea_orm(primary_key, auto_increment = false)]
    pub merchant_id: MerchantId,
    /// Start of the hour, in microseconds since 1970 (real clock).
    #[sea_orm(primary_key, auto_increment = false)]
    pub hour: i64,
    /// Failed action, by its name in the audit log.
    #[sea_orm(primary_key, auto_increment = false)]
    pub action: String,
    /// From which address; empty for the sum of further ones.
    #[sea_orm(primary_key, auto_increment = false)]
    pub address: String,
    /// Number of failures.
    pub failures: i64,
    /// The first time.
    pub first_at: Timestamp,
    /// The last time.
    pub last_at: Timestamp,
}

/// This table's rows are joined by hand where that is wanted.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Entity {
    /// Counts a failure, in one statement.
    pub async fn count(
        connection: &impl ConnectionTrait,
        merchant: Option<MerchantId>,
        action: &str,
        address: &str,
        now: Timestamp,
    ) -> Result<(), DbErr> {
        let sql = format!(
            "INSERT INTO failed_login (merchant_id, hour, action, address, failures, first_at, last_at) \
             SELECT CAST($1 AS BIGINT), CAST($2 AS BIGINT), CAST($3 AS TEXT), \
             CASE WHEN EXISTS (SELECT 1 FROM failed_login WHERE merchant_id = $1 AND hour = $2 AND action = $3 \
             AND address = $4) OR (SELECT count(*) FROM failed_login WHERE merchant_id = $1 AND hour = $2 \
             AND action = $3) < {MOST_ADDRESSES} THEN CAST($4 AS TEXT) ELSE '' END, \
             1, CAST($5 AS BIGINT), CAST($5 AS BIGINT) WHERE TRUE \
             ON CONFLICT (merchant_id, hour, action, address) DO UPDATE \
             SET failures = failed_login.failures + 1, last_at = excluded.last_at"
        );
        let micros = now.as_micros();
        let values = [
            merchant.unwrap_or(NO_ACCOUNT).into(),
            micros.saturating_sub(micros.rem_euclid(HOUR_MICROS)).into(),
            action.into(),
            address.into(),
            micros.into(),
        ];
        let statement = Statement::from_sql_and_values(connection.get_database_backend(), sql, values);
        connection.execute_raw(statement).await?;
        Ok(())
    }

    /// The newest sums, newest first: an account's, or everybody's.
    pub async fn newest(
        connection: &impl ConnectionTrait,
        merchant: Option<MerchantId>,
        limit: u64,
    ) -> Result<Vec<Model>, DbErr> {
        let mut sums = Self::find();
        if let Some(merchant) = merchant {
            sums = sums.filter(Column::MerchantId.eq(merchant));
        }
        sums.order_by_desc(Column::Hour).order_by_desc(Column::LastAt).limit(limit).all(connection).await
    }

    /// Forgets sums that are no longer kept; how many.
    pub async fn purge(connection: &impl ConnectionTrait, now: Timestamp) -> Result<u64, DbErr> {
        let old = Self::delete_many().filter(Column::Hour.lt(now.minus(KEPT_FOR).as_micros()));
        Ok(old.exec(connection).await?.rows_affected)
    }
}

impl Model {
    /// The account, if the name was one's.
    pub fn merchant(&self) -> Option<MerchantId> {
        (self.merchant_id != NO_ACCOUNT).then_some(self.merchant_id)
    }
}
