//! What lists are read by.

use sea_orm_migration::{
    DbErr, MigrationName, MigrationTrait, SchemaManager, async_trait::async_trait, sea_orm::ConnectionTrait,
};

use crate::m20261122_000001_schema::statements;

const LISTS: &str = include_str!("lists.sql");

/// Indexes on tables of before, and what takes them back.
const DOWN: &[&str] = &[
    "DROP INDEX webhook_delivery_dead",
    "DROP INDEX webhook_delivery_type",
    "DROP INDEX webhook_delivery_list",
    "CREATE INDEX webhook_delivery_endpoint ON webhook_delivery (endpoint_id, id)",
    "DROP INDEX payment_order_currency",
    "DROP INDEX payment_order_chain",
    "DROP INDEX transfer_unsettled",
    "DROP TABLE merchant_transfer",
];

pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m20261122_000003_lists"
    }
}

#[async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for statement in statements(LISTS) {
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
