//! `cryptopay merchant`: what the operator does about accounts.

mod audit;

use std::io::{BufRead, IsTerminal, Write};
use std::num::NonZeroU32;

use clap::{Subcommand, ValueEnum};
use cryptopay_domain::merchant::Plan;
use sea_orm::DatabaseConnection;
use secrecy::{ExposeSecret, SecretString};

use super::{Failure, configure, say};
use crate::config::{Config, Role};
use crate::database;
use crate::error::ApiError;
use crate::operations::accounts::{self, Accounts, NewMerchant};
use crate::security::passwords::Passwords;
use crate::security::{Keys, entropy};

/// What to do about an account. Passwords are asked on the terminal, or read from standard input where there is none.
#[derive(Debug, Subcommand)]
pub(super) enum Merchant {
    /// Make an account, whether registration is open or closed
    Create {
        /// Name to log in with
        username: String,
        /// E-mail address; asked for if not said
        #[arg(long)]
        email: Option<String>,
        /// What customers see; the username if not said
        #[arg(long)]
        shop_name: Option<String>,
    },
    /// Give an account a new password; ends all its logins, API keys stay
    ResetPassword {
        /// Name to log in with, or e-mail address
        username: String,
    },
    /// Put an account on a plan
    SetPlan {
        /// Name to log in with, or e-mail address
        username: String,
        /// Plan
        #[arg(value_enum)]
        plan: PlanName,
        /// Requests an hour in place of the plan's own
        #[arg(long)]
        limit: Option<NonZeroU32>,
    },
    /// Show who did what: an account's lines of the audit log, or everybody's, newest first
    Audit(audit::Audit),
}

/// A plan on the command line.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum PlanName {
    /// 1000 requests an hour
    Standard,
    /// 5000 requests an hour
    Premium,
    /// As set with --limit
    Enterprise,
}

impl From<PlanName> for Plan {
    fn from(name: PlanName) -> Self {
        match name {
            PlanName::Standard => Self::Standard,
            PlanName::Premium => Self::Premium,
            PlanName::Enterprise => Self::Enterprise,
        }
    }
}

/// Does it.
pub(super) async fn run(command: Merchant) -> Result<(), Failure> {
    let tools = Tools::open().await?;
    let accounts = tools.accounts();
    match command {
        Merchant::Create { username, email, shop_name } => {
            let email = email.map_or_else(|| ask("E-mail address: "), Ok)?;
            let password = ask_password("Password: ")?;
            let shop_name = shop_name.unwrap_or_else(|| username.clone());
            let new = NewMerchant { username, email, password, shop_name };
            let merchant = accounts::create_merchant(accounts, new).await.map_err(refused)?;
            say(format!("Merchant {} was made (number {}).", merchant.username, merchant.id));
        }
        Merchant::ResetPassword { username } => {
            let password = ask_password("New password: ")?;
            accounts::reset_password(accounts, &username, password).await.map_err(refused)?;
            say(format!("{username} has a new password; all logins were ended."));
        }
        Merchant::SetPlan { username, plan, limit } => {
            let plan = Plan::from(plan);
            accounts::set_plan(accounts, &username, plan, limit).await.map_err(refused)?;
            say(match limit {
                Some(limit) => format!("{username} is on {plan} with {limit} requests an hour."),
                None => format!("{username} is on {plan} with {} requests an hour.", plan.requests_per_hour()),
            });
        }
        Merchant::Audit(options) => audit::show(&tools.database, &options).await?,
    }
    Ok(())
}

/// What accounts are changed with.
struct Tools {
    config: Config,
    database: DatabaseConnection,
    keys: Keys,
    passwords: Passwords,
    public_url: String,
}

impl Tools {
    async fn open() -> Result<Self, Failure> {
        let config = configure(Role::All)?;
        let secret = config.secret_or_generated(entropy::bytes())?;
        let keys = Keys::new(&secret, config.secret_previous.as_ref()).map_err(Failure::configuration)?;
        let database = database::open(&config.database).await.map_err(Failure::configuration)?;
        database::migrate(&config.database, &database).await.map_err(Failure::other)?;
        let public_url = config.public_base(config.bind).trim_end_matches('/').to_owned();
        Ok(Self { config, database, keys, passwords: Passwords::new(), public_url })
    }

    fn accounts(&self) -> Accounts<'_> {
        Accounts {
            database: &self.database,
            keys: &self.keys,
            passwords: &self.passwords,
            mode: self.config.mode,
            public_url: &self.public_url,
        }
    }
}

/// What the API would answer, for a terminal.
fn refused(error: ApiError) -> Failure {
    if error.details.is_empty() {
        return Failure::other(error.message);
    }
    let problems = error.details.iter().map(|(field, problems)| format!("{field}: {}", problems.join(" ")));
    Failure::other(problems.collect::<Vec<_>>().join("\n"))
}

fn ask_password(prompt: &str) -> Result<SecretString, Failure> {
    if !std::io::stdin().is_terminal() {
        return read_line().map(SecretString::from);
    }
    let once = SecretString::from(rpassword::prompt_password(prompt).map_err(Failure::other)?);
    let again = SecretString::from(rpassword::prompt_password("Again: ").map_err(Failure::other)?);
    if once.expose_secret() == again.expose_secret() {
        Ok(once)
    } else {
        Err(Failure::other("The two differ; nothing was changed."))
    }
}

fn ask(prompt: &str) -> Result<String, Failure> {
    if std::io::stdin().is_terminal() {
        let mut terminal = std::io::stderr();
        write!(terminal, "{prompt}").and_then(|()| terminal.flush()).map_err(Failure::other)?;
    }
    read_line()
}

fn read_line() -> Result<String, Failure> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).map_err(Failure::other)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
