//! What is left of a partly allocated transfer waits in the inbox: `merchant_transfer.waiting` says so while something of it
//! belongs to no order. Before, it said whether any order had a share.

use sea_orm_migration::{
    DbErr, MigrationName, MigrationTrait, SchemaManager, async_trait::async_trait, sea_orm::ConnectionTrait,
};

/// Of transfers that have a share and something left.
const PARTLY_ALLOCATED: &str = "EXISTS (SELECT 1 FROM transfer AS t WHERE t.id = merchant_transfer.transfer_id \
     AND t.allocated_units <> t.units) AND EXISTS (SELECT 1 FROM allocation AS a \
     WHERE a.transfer_id = merchant_transfer.transfer_id AND a.reversed_at IS NULL)";

pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m20261129_000006_rest_of_transfers"
    }
}

#[async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        set_waiting(manager, true).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        set_waiting(manager, false).await
    }
}

async fn set_waiting(manager: &SchemaManager<'_>, waiting: bool) -> Result<(), DbErr> {
    let statement = format!("UPDATE merchant_transfer SET waiting = {waiting} WHERE {PARTLY_ALLOCATED}");
    manager.get_connection().execute_unprepared(&statement).await.map(|_| ())
}
