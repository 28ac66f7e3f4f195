//! What the sandbox's controls remember: transactions that are replaced or vanish after a confirmation, where a fault found
//! its chain, and which events' numbers a merchant's new beginning has taken away.

use sea_orm_migration::{
    DbErr, MigrationName, MigrationTrait, SchemaManager, async_trait::async_trait, sea_orm::ConnectionTrait,
};

use crate::m20261122_000001_schema::statements;

const SANDBOX: &str = include_str!("sandbox.sql");

const DOWN: [&str; 8] = [
    "DROP TABLE removed_event",
    "DROP INDEX allocation_transfer",
    "ALTER TABLE sandbox_fault DROP COLUMN height",
    "DROP INDEX sandbox_transaction_replaces",
    "ALTER TABLE sandbox_transaction DROP COLUMN replaces",
    "ALTER TABLE sandbox_transaction DROP COLUMN vanish_confirmed",
    "DROP INDEX sandbox_transaction_order",
    "ALTER TABLE sandbox_transaction DROP COLUMN pays_order",
];

pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m20261129_000005_sandbox"
    }
}

#[async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for statement in statements(SANDBOX) {
            manager.get_connection().execute_unprepared(&statement).await?;
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
