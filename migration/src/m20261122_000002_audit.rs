//! The audit log says from where, and the database itself keeps it append only: nobody who gets hold of the gateway's
//! connection can rewrite what was done with it. Beside that, what tells processes of logins and keys that have ended.

use sea_orm_migration::{
    DbErr, MigrationName, MigrationTrait, SchemaManager, async_trait::async_trait, sea_orm::ConnectionTrait,
    sea_orm::DbBackend,
};

const UP: [&str; 4] = [
    "ALTER TABLE audit_log ADD COLUMN address TEXT",
    // How often the same was noted lately.
    "CREATE INDEX audit_log_recent ON audit_log (merchant_id, action, at)",
    "CREATE INDEX refresh_token_revoked ON refresh_token (revoked_at) WHERE revoked_at IS NOT NULL",
    "CREATE INDEX api_key_revoked ON api_key (revoked_at) WHERE revoked_at IS NOT NULL",
];

const DOWN: [&str; 4] = [
    "DROP INDEX api_key_revoked",
    "DROP INDEX refresh_token_revoked",
    "DROP INDEX audit_log_recent",
    "ALTER TABLE audit_log DROP COLUMN address",
];

const GUARD_SQLITE: [&str; 2] = [
    "CREATE TRIGGER audit_log_no_update BEFORE UPDATE ON audit_log
     BEGIN SELECT RAISE(ABORT, 'audit_log is append only'); END",
    "CREATE TRIGGER audit_log_no_delete BEFORE DELETE ON audit_log
     BEGIN SELECT RAISE(ABORT, 'audit_log is append only'); END",
];

const UNGUARD_SQLITE: [&str; 2] = ["DROP TRIGGER audit_log_no_update", "DROP TRIGGER audit_log_no_delete"];

const GUARD_POSTGRES: [&str; 2] = [
    "CREATE FUNCTION audit_log_is_append_only() RETURNS trigger LANGUAGE plpgsql AS
     $$ BEGIN RAISE EXCEPTION 'audit_log is append only'; END $$",
    "CREATE TRIGGER audit_log_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log
     FOR EACH STATEMENT EXECUTE FUNCTION audit_log_is_append_only()",
];

const UNGUARD_POSTGRES: [&str; 2] =
    ["DROP TRIGGER audit_log_append_only ON audit_log", "DROP FUNCTION audit_log_is_append_only()"];

pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m20261122_000002_audit"
    }
}

#[async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let connection = manager.get_connection();
        let guard = match connection.get_database_backend() {
            DbBackend::Postgres => GUARD_POSTGRES,
            _ => GUARD_SQLITE,
        };
        for statement in UP.into_iter().chain(guard) {
            connection.execute_unprepared(statement).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let connection = manager.get_connection();
        let guard = match connection.get_database_backend() {
            DbBackend::Postgres => UNGUARD_POSTGRES,
            _ => UNGUARD_SQLITE,
        };
        for statement in guard.into_iter().chain(DOWN) {
            connection.execute_unprepared(statement).await?;
        }
        Ok(())
    }
}
