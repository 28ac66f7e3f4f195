//! What the ownership of wallets rests on, and when an order's view of its chain was made.
//!
//! - `receiving_address.proven_at`: when the holder has signed with the address. A proven claim is never displaced.
//! - `payment_order.displaced_at`: when the address of an open order was claimed by its proven owner.
//! - `payment_order.scanned_time`: time of the block up to which the order's chain was verified when it was made. Orders
//!   of before this column count as made while the chain lagged.

use sea_orm_migration::{
    DbErr, MigrationName, MigrationTrait, SchemaManager, async_trait::async_trait, sea_orm::ConnectionTrait,
};

/// Table, column, type.
const COLUMNS: [(&str, &str, &str); 3] = [
    ("receiving_address", "proven_at", "BIGINT"),
    ("payment_order", "displaced_at", "BIGINT"),
    ("payment_order", "scanned_time", "BIGINT NOT NULL DEFAULT 0"),
];

pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m20261122_000004_wallet_ownership"
    }
}

#[async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for (table, column, kind) in COLUMNS {
            let statement = format!("ALTER TABLE {table} ADD COLUMN {column} {kind}");
            manager.get_connection().execute_unprepared(&statement).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for (table, column, _) in COLUMNS.iter().rev() {
            let statement = format!("ALTER TABLE {table} DROP COLUMN {column}");
            manager.get_connection().execute_unprepared(&statement).await?;
        }
        Ok(())
    }
}
