//! The commands of the binary, one file each.

mod chain;
mod demo;
mod doctor;
mod export;
mod health;
mod log;
mod merchant;
mod migrate;
mod serve;

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{Config, ConfigError, Environment, Role};

/// Self-hosted, non-custodial payments on EVM chains.
#[derive(Debug, Parser)]
#[command(name = "cryptopay", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the API and run the jobs (what happens without a command too)
    Serve {
        /// Which parts to run
        #[arg(long, value_enum, default_value = "all")]
        role: Role,
    },
    /// Show a payment happen, from the order to the signed webhook
    Demo {
        /// Stop afterwards; the status is 0 only if the webhook arrived and its signature was right
        #[arg(long)]
        exit: bool,
    },
    /// Change or show the database's schema
    #[command(subcommand)]
    Migrate(migrate::Migrate),
    /// Write a generated contract
    #[command(subcommand)]
    Export(export::Export),
    /// Look at everything that the gateway needs, and say what is wrong and how to mend it
    Doctor(doctor::Doctor),
    /// Ask the process that runs here how it is; for containers
    Health(health::Health),
    /// Accounts
    #[command(subcommand)]
    Merchant(merchant::Merchant),
    /// Chains
    #[command(subcommand)]
    Chain(chain::Chain),
}

/// Exit status of wrong configuration.
const WRONG_CONFIGURATION: u8 = 2;

/// Why a command failed, and with which status.
#[derive(Debug)]
pub(crate) struct Failure {
    status: u8,
    message: String,
}

impl Failure {
    /// Something that the operator has set is wrong.
    pub(crate) fn configuration(message: impl std::fmt::Display) -> Self {
        Self { status: WRONG_CONFIGURATION, message: message.to_string() }
    }

    /// Something is wrong, and has been told already.
    pub(crate) fn told() -> Self {
        Self { status: 1, message: String::new() }
    }

    /// Anything else.
    pub(crate) fn other(message: impl std::fmt::Display) -> Self {
        Self { status: 1, message: message.to_string() }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::configuration(error)
    }
}

/// Runs the command of this process.
pub async fn run() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.command.unwrap_or(Command::Serve { role: Role::All }) {
        Command::Serve { role } => serve::run(role).await,
        Command::Demo { exit } => demo::run(exit).await,
        Command::Migrate(command) => migrate::run(command).await,
        Command::Export(command) => export::run(command),
        Command::Doctor(options) => doctor::run(options).await,
        Command::Health(options) => health::run(options).await,
        Command::Merchant(command) => merchant::run(command).await,
        Command::Chain(command) => chain::run(command).await,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // One line that names what is wrong and how to mend it.
            if !failure.message.is_empty() {
                let _ = writeln!(std::io::stderr(), "{}", failure.message);
            }
            ExitCode::from(failure.status)
        }
    }
}

/// Reads the configuration and begins to log.
fn configure(role: Role) -> Result<Config, Failure> {
    let config = Config::from_env(role, &Environment::of_process())?;
    log::begin(&config)?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    Ok(config)
}

/// Prints a line for the person at the terminal; a closed pipe is no reason to fail.
pub(crate) fn say(line: impl std::fmt::Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
