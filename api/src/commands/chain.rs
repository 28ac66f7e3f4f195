//! `cryptopay chain`: commands of the operator about chains.

use clap::Subcommand;
use cryptopay_entity::{clock, transact};
use cryptopay_ledger::Occasion;

use super::{Failure, configure, say};
use crate::config::Role;
use crate::database;

/// A command about a chain.
#[derive(Debug, Subcommand)]
pub(super) enum Chain {
    /// Begin anew with a development chain that was reset; its former payments are given up
    Restart {
        /// Slug of the chain
        slug: String,
    },
}

/// Runs a command about a chain.
pub(super) async fn run(command: Chain) -> Result<(), Failure> {
    let Chain::Restart { slug } = command;
    let config = configure(Role::All)?;
    let registry = config.chains.registry();
    let chain = registry.chain(&slug).ok_or_else(|| Failure::other(format!("There is no chain {slug}.")))?;
    let database = database::open(&config.database).await.map_err(Failure::configuration)?;
    database::migrate(&config.database, &database).await.map_err(Failure::other)?;
    let cause = format!("{} began anew", chain.slug);
    let restarted = transact!(&database, |txn| {
        let now = clock::business_now(txn).await?;
        cryptopay_ledger::restart_chain(txn, Occasion { registry, cause: &cause, now }, chain).await
    });
    // The sweep of the running process finds what follows.
    match restarted.map_err(Failure::other)? {
        Some(_) => {
            say(format!("{} begins anew at its newest block.", chain.slug));
            Ok(())
        }
        None => Err(Failure::other(format!("{} was not reset; nothing was changed.", chain.slug))),
    }
}
