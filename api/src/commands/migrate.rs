//! `cryptopay migrate`.

use clap::Subcommand;
use cryptopay_migration::{Migrator, MigratorTrait};

use super::{Failure, configure, say};
use crate::config::Role;
use crate::database;

/// What to do with the schema.
#[derive(Debug, Subcommand)]
pub(super) enum Migrate {
    /// Apply what is missing
    Up,
    /// Take the newest migration back, with the data that it holds
    Down,
    /// Show what is applied
    Status,
}

/// Does it.
pub(super) async fn run(command: Migrate) -> Result<(), Failure> {
    let config = configure(Role::All)?;
    let connection = database::open(&config.database).await.map_err(Failure::configuration)?;
    match command {
        Migrate::Up => {
            database::migrate(&config.database, &connection).await.map_err(Failure::other)?;
            say("The schema is up to date.");
        }
        Migrate::Down => {
            database::check_not_newer(&connection).await.map_err(Failure::other)?;
            Migrator::down(&connection, Some(1)).await.map_err(Failure::other)?;
            say("The newest migration was taken back.");
        }
        Migrate::Status => {
            database::check_not_newer(&connection).await.map_err(Failure::other)?;
            let pending = Migrator::get_pending_migrations(&connection).await.map_err(Failure::other)?;
            for migration in Migrator::migrations() {
                let waits = pending.iter().any(|pending| pending.name() == migration.name());
                say(format!("{}  {}", if waits { "pending" } else { "applied" }, migration.name()));
            }
        }
    }
    Ok(())
}
