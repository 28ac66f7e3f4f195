//! An API key's maker, failed logins summed by address, and the addresses that an account has logged in from.

use sea_orm_migration::{
    DbErr, MigrationName, MigrationTrait, SchemaManager, async_trait::async_trait, sea_orm::ConnectionTrait,
};

use crate::m20261122_000001_schema::statements;

const FAILED_LOGIN: &str = include_str!("failed_login.sql");

const UP: [&str; 4] = [
    "ALTER TABLE api_key ADD COLUMN created_by BIGINT",
    // Keys of before: the audit log knows their makers.
    "UPDATE api_key SET created_by = (SELECT CAST(substr(l.actor, 9) AS BIGINT) FROM audit_log AS l \
     WHERE l.merchant_id = api_key.merchant_id AND l.action = 'api_key.create' \
     AND l.subject = CAST(api_key.id AS TEXT) AND substr(l.actor, 1, 8) = 'api key ' LIMIT 1)",
    "CREATE INDEX api_key_created_by ON api_key (created_by) WHERE created_by IS NOT NULL",
    "CREATE INDEX audit_log_address ON audit_log (merchant_id, address, action)",
];

const DOWN: [&str; 4] = [
    "DROP TABLE failed_login",
    "DROP INDEX audit_log_address",
    "DROP INDEX api_key_created_by",
    "ALTER TABLE api_key DROP COLUMN created_by",
];

pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m20261201_000008_credentials"
    }
}

#[async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let connection = manager.get_connection();
        for statement in UP.into_iter().map(str::to_owned).chain(statements(FAILED_LOGIN)) {
            connection.execute_unprepared(&statement).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for statement in DOWN {
            manager.get_connection().execute_unprepared(statement).await?;
        }
        Ok(())
    }
}
