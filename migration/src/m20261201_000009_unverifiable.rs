//! Transfers that are set aside because their evidence does not hold, and chains that cannot start.

use sea_orm_migration::{
    DbErr, MigrationName, MigrationTrait, SchemaManager, async_trait::async_trait, sea_orm::ConnectionTrait,
};

use crate::m20261122_000001_schema::statements;

const UNVERIFIABLE: &str = include_str!("unverifiable.sql");

/// A state that an older program does not know is the nearest one that counts as little.
const DOWN: &[&str] = &[
    "DROP TABLE chain_start",
    "UPDATE transfer SET state = 'orphaned' WHERE state = 'unverifiable'",
    "ALTER TABLE transfer DROP COLUMN rechecked_at",
    "ALTER TABLE transfer DROP COLUMN unverifiable_reason",
];

pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m20261201_000009_unverifiable"
    }
}

#[async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for statement in statements(UNVERIFIABLE) {
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
