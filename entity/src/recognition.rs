//! Whose a credential is: the credential, its merchant and the database's clock in one statement, since every request asks.

use std::sync::OnceLock;

use cryptopay_domain::ids::MerchantId;
use cryptopay_domain::time::Timestamp;
use sea_orm::{
    ConnectionTrait, DbBackend, DbErr, FromQueryResult, IdenStatic, Iterable, QueryResult, Statement, Value,
};

use crate::{api_key, clock, merchant};

/// A key, its merchant and when they were read.
#[derive(Debug, Clone)]
pub struct KnownKey {
    /// The key, which may be revoked or expired.
    pub key: api_key::Model,
    /// Its owner.
    pub merchant: merchant::Model,
    /// The database's clock.
    pub now: Timestamp,
}

/// What is known of a login.
#[derive(Debug, Clone)]
pub struct KnownLogin {
    /// Its merchant; `None` if there is no such login, or it has ended.
    pub merchant: Option<merchant::Model>,
    /// The database's clock.
    pub now: Timestamp,
}

/// The key with this digest.
///
/// # Errors
/// The database fails.
pub async fn of_key(connection: &impl ConnectionTrait, digest: &str) -> Result<Option<KnownKey>, DbErr> {
    static SQL: Sql = Sql::new(|now| {
        format!(
            "SELECT {now} AS now, {key}, {merchant} FROM api_key AS credential \
             JOIN merchant AS owner ON owner.id = credential.merchant_id WHERE credential.secret_hash = $1",
            key = columns::<api_key::Column>("credential", "key_"),
            merchant = columns::<merchant::Column>("owner", "merchant_"),
        )
    });
    let row = one(connection, &SQL, [digest.into()]).await?;
    row.map(|row| {
        Ok(KnownKey {
            key: api_key::Model::from_query_result(&row, "key_")?,
            merchant: merchant::Model::from_query_result(&row, "merchant_")?,
            now: row.try_get("", "now")?,
        })
    })
    .transpose()
}

/// The login of a merchant whose tokens are of this family. It stands while it has tokens and none was revoked.
///
/// # Errors
/// The database fails.
pub async fn of_login(
    connection: &impl ConnectionTrait,
    merchant: MerchantId,
    family: &str,
) -> Result<KnownLogin, DbErr> {
    static SQL: Sql = Sql::new(|now| {
        format!(
            "SELECT clock.now AS now, {merchant} FROM (SELECT {now} AS now) AS clock \
             LEFT JOIN merchant AS owner ON owner.id = $1 \
             AND EXISTS (SELECT 1 FROM refresh_token WHERE family = $2 AND merchant_id = $1) \
             AND NOT EXISTS (SELECT 1 FROM refresh_token WHERE family = $2 AND revoked_at IS NOT NULL)",
            merchant = columns::<merchant::Column>("owner", "merchant_"),
        )
    });
    let row = one(connection, &SQL, [merchant.into(), family.into()]).await?;
    let row = row.ok_or_else(|| DbErr::RecordNotFound("the database's clock".to_owned()))?;
    let is_there = row.try_get::<Option<MerchantId>>("", "merchant_id")?.is_some();
    let merchant = is_there.then(|| merchant::Model::from_query_result(&row, "merchant_")).transpose()?;
    Ok(KnownLogin { merchant, now: row.try_get("", "now")? })
}

/// A statement with the database's clock in it, put together once for each kind of database.
struct Sql {
    of: fn(&str) -> String,
    postgres: OnceLock<String>,
    sqlite: OnceLock<String>,
}

impl Sql {
    const fn new(of: fn(&str) -> String) -> Self {
        Self { of, postgres: OnceLock::new(), sqlite: OnceLock::new() }
    }

    fn on(&self, backend: DbBackend) -> &str {
        let kept = if backend == DbBackend::Sqlite { &self.sqlite } else { &self.postgres };
        kept.get_or_init(|| (self.of)(clock::now_sql(backend)))
    }
}

async fn one<const N: usize>(
    connection: &impl ConnectionTrait,
    sql: &Sql,
    values: [Value; N],
) -> Result<Option<QueryResult>, DbErr> {
    let backend = connection.get_database_backend();
    connection.query_one_raw(Statement::from_sql_and_values(backend, sql.on(backend), values)).await
}

/// Every column of a table under a prefix.
pub(crate) fn columns<C: Iterable + IdenStatic>(table: &str, prefix: &str) -> String {
    let columns = C::iter().map(|column| {
        let name = column.as_str();
        format!("{table}.{name} AS {prefix}{name}")
    });
    columns.collect::<Vec<_>>().join(", ")
}
