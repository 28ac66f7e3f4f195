#![doc = include_str!("../README.md")]

mod m20261122_000001_schema;
mod m20261122_000002_audit;
mod m20261122_000003_lists;
mod m20261122_000004_wallet_ownership;
mod m20261129_000005_sandbox;
mod m20261129_000006_rest_of_transfers;
mod m20261201_000007_amounts;
mod m20261201_000008_credentials;
mod m20261201_000009_unverifiable;

use sea_orm_migration::{MigrationTrait, async_trait::async_trait};
pub use sea_orm_migration::{MigratorTrait, SchemaManager};

/// Every migration, oldest first.
#[derive(Debug)]
pub struct Migrator;

#[async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m20261122_000001_schema::Migration),
            Box::new(m20261122_000002_audit::Migration),
            Box::new(m20261122_000003_lists::Migration),
            Box::new(m20261122_000004_wallet_ownership::Migration),
            Box::new(m20261129_000005_sandbox::Migration),
            Box::new(m20261129_000006_rest_of_transfers::Migration),
            Box::new(m20261201_000007_amounts::Migration),
            Box::new(m20261201_000008_credentials::Migration),
            Box::new(m20261201_000009_unverifiable::Migration),
        ]
    }
}
