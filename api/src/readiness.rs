//! Whether this process can do what its role asks of it.
//!
//! The answer is at most a second old and takes at most two to find, however many ask. What the database or Redis said is
//! in the log only: it may quote what it was sent.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cryptopay_domain::time::Timestamp;
use cryptopay_entity::{chain_cursor, chain_start, clock};
use sea_orm::DbErr;
use serde::Serialize;
use tokio::time::timeout;

use crate::app::App;
use crate::config::Role;
use crate::operations::blockchains;

/// How old an answer may be.
const FRESH: Duration = Duration::from_secs(1);
/// How long the database may take.
const DATABASE_WITHIN: Duration = Duration::from_secs(1);
/// A chain that nobody has looked at for so long has no scanner.
const UNSCANNED_AFTER: Duration = Duration::from_secs(60);

/// What is found out about a process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Why it cannot do its work: none means that it can.
    pub reasons: Vec<String>,
    /// What does not work as well as it should. No reason to send requests elsewhere.
    pub degraded: Vec<String>,
    /// Chains that lag, stand still, have no scanner or are read with a doubt. Never a reason: another process may be at
    /// fault, or the chain.
    pub chains: Vec<ChainTrouble>,
}

/// What is wrong with a chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChainTrouble {
    /// Slug.
    pub blockchain: String,
    /// In one word.
    pub health: String,
    /// In more.
    pub problem: Option<String>,
}

/// Shared between start-up and the routes.
#[derive(Debug, Clone)]
pub struct Readiness(Arc<State>);

#[derive(Debug)]
struct State {
    not_migrated: Mutex<Option<String>>,
    /// The last answer. Whoever finds it too old asks anew; the others wait for that.
    report: tokio::sync::Mutex<Option<(Instant, Report)>>,
}

impl Default for Readiness {
    fn default() -> Self {
        let not_migrated = Mutex::new(Some("the database has not been reached yet".to_owned()));
        Self(Arc::new(State { not_migrated, report: tokio::sync::Mutex::default() }))
    }
}

impl Readiness {
    /// Why nothing can be served yet, or `None` once it can.
    pub fn not_migrated(&self) -> Option<String> {
        self.0.not_migrated.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes why start-up still waits, or that it does not.
    pub fn set(&self, reason: Option<String>) {
        *self.0.not_migrated.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }

    /// How things stand.
    pub async fn report(&self, app: &App) -> Report {
        if let Some(reason) = self.not_migrated() {
            // The tables may not be there yet.
            return Report { reasons: vec![reason], ..Report::default() };
        }
        let mut last = self.0.report.lock().await;
        if let Some((found_at, report)) = last.as_ref()
            && found_at.elapsed() < FRESH
        {
            return report.clone();
        }
        let report = look(app).await;
        *last = Some((Instant::now(), report.clone()));
        report
    }
}

async fn look(app: &App) -> Report {
    let mut report = Report::default();
    let (chains, redis) = tokio::join!(timeout(DATABASE_WITHIN, chains(app)), redis(app));
    match chains {
        Ok(Ok(chains)) => report.chains = chains,
        Ok(Err(error)) => {
            tracing::warn!(%error, "the database is away");
            report.reasons.push("the database is away".to_owned());
        }
        Err(_) => report.reasons.push("the database does not answer in time".to_owned()),
    }
    if let Some(problem) = redis {
        match app.config.role {
            // Requests do not need it; what they commit is found by the workers' sweep.
            Role::Api => report.degraded.push(format!(
                "{problem}: jobs and live events begin up to seconds later, and each process holds request limits by itself"
            )),
            Role::Worker | Role::All => report.reasons.push(format!("{problem}: no jobs can be taken from the queue")),
        }
    }
    report
}

/// What is wrong with Redis, where it is used.
async fn redis(app: &App) -> Option<String> {
    let problem = app.context.queue.redis()?.check().await.err()?;
    Some(problem.to_string())
}

async fn chains(app: &App) -> Result<Vec<ChainTrouble>, DbErr> {
    let database = app.database();
    let cursors = chain_cursor::Entity::list(database).await?;
    let now = clock::database_now(database).await?;
    let mut troubles = Vec::new();
    for chain in app.context.registry.chains() {
        let cursor = cursors.iter().find(|cursor| cursor.chain == chain.slug);
        let mut trouble = trouble(&chain.slug, cursor, now);
        if let (None, Some(trouble)) = (cursor, &mut trouble)
            && let Some(problem) = chain_start::Entity::problem_of(database, &chain.slug).await?
        {
            (trouble.health, trouble.problem) = (blockchains::UNREACHABLE.to_owned(), Some(problem));
        }
        troubles.extend(trouble);
    }
    Ok(troubles)
}

fn trouble(slug: &str, cursor: Option<&chain_cursor::Model>, now: Timestamp) -> Option<ChainTrouble> {
    let (health, problem) = match cursor {
        None => ("starting", Some("No block of this chain has been seen yet.".to_owned())),
        Some(cursor) if now.since(cursor.last_look(now)) > UNSCANNED_AFTER => {
            ("unscanned", Some("No worker has looked at this chain for a minute.".to_owned()))
        }
        Some(cursor) if cursor.health != "ok" || cursor.problem.is_some() => {
            (cursor.health.as_str(), cursor.problem.clone())
        }
        Some(_) => return None,
    };
    Some(ChainTrouble { blockchain: slug.to_owned(), health: health.to_owned(), problem })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor(health: &str, problem: Option<&str>) -> chain_cursor::Model {
        let at = Timestamp::from_secs(1_000);
        chain_cursor::Model {
            chain: "base".to_owned(),
            height: 7,
            hash: cryptopay_domain::address::Hash(Default::default()),
            block_time: at,
            head_height: 7,
            final_height: None,
            lease_owner: None,
            lease_until: at,
            lease_epoch: 1,
            health: health.to_owned(),
            problem: problem.map(str::to_owned),
            polled_at: at,
            updated_at: at,
        }
    }

    #[test]
    fn whatever_is_wrong_with_a_chain_is_named_and_so_is_a_doubt_about_one_that_is_well() {
        let named = |cursor: Option<chain_cursor::Model>, at: u64| {
            trouble("base", cursor.as_ref(), Timestamp::from_secs(at)).map(|trouble| (trouble.health, trouble.problem))
        };
        assert_eq!(named(Some(cursor("ok", None)), 1_000), None);
        for health in ["ok", "lagging", "stalled", "unreachable", "frozen"] {
            let told = named(Some(cursor(health, Some("why"))), 1_000);
            assert_eq!(told, Some((health.to_owned(), Some("why".to_owned()))));
        }
        assert_eq!(named(Some(cursor("ok", None)), 1_061).unwrap().0, "unscanned");
        assert_eq!(named(None, 1_000).unwrap().0, "starting");
    }
}
