//! Lets the node of a simulated chain misbehave for a while.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use cryptopay_domain::registry::Chain;
use cryptopay_domain::text::UnknownWord;
use cryptopay_domain::time::Timestamp;
use cryptopay_entity::txn::Restart;
use cryptopay_entity::{sandbox_fault, transact};
use sea_orm::{DatabaseConnection, DbErr};

use crate::SimulationError;
use crate::chain::mining::lock;

/// Longest fault: a day.
pub const MAX_FAULT: Duration = Duration::from_secs(24 * 3600);

/// What a node does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// It answers nothing but HTTP 503.
    Down,
    /// It has fallen a few blocks behind, and takes no new ones in.
    Lagging,
    /// It knows of no logs.
    EmptyLogs,
    /// What it calls safe and final is the chain's very first block.
    StaleFinalized,
}

impl FaultKind {
    /// Every kind, in the order of declaration.
    pub const ALL: [Self; 4] = [Self::Down, Self::Lagging, Self::EmptyLogs, Self::StaleFinalized];

    /// The word that stands for it in requests.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Lagging => "lagging",
            Self::EmptyLogs => "empty_logs",
            Self::StaleFinalized => "stale_finalized",
        }
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<FaultKind> for &'static str {
    fn from(kind: FaultKind) -> Self {
        kind.as_str()
    }
}

impl FromStr for FaultKind {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        known.ok_or_else(|| UnknownWord { allowed: Self::ALL.map(Self::as_str).join(", ") })
    }
}

/// Why the node is as it was.
#[derive(Debug, thiserror::Error)]
pub enum FaultError {
    /// Too long.
    #[error("Enter a number of seconds from 0, which ends a fault, to {} (a day).", MAX_FAULT.as_secs())]
    SecondsOutOfRange,
    /// The chain itself.
    #[error(transparent)]
    Simulation(#[from] SimulationError),
}

impl From<DbErr> for FaultError {
    fn from(error: DbErr) -> Self {
        SimulationError::from(error).into()
    }
}

impl Restart for FaultError {
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Simulation(error) if error.is_conflict())
    }
}

/// Gives a chain's node a fault in place of the one that it has, for so many seconds of business time; until when. With 0
/// seconds, whatever fault there is ends now, and nothing is left of it. Blocks are mined meanwhile, and the controls work:
/// it is the node that is not well, not the chain.
///
/// # Errors
/// [`FaultError::SecondsOutOfRange`] beyond [`MAX_FAULT`].
pub async fn fault(
    database: &DatabaseConnection,
    chain: &Chain,
    kind: FaultKind,
    seconds: u64,
) -> Result<Option<Timestamp>, FaultError> {
    let lasts = Duration::from_secs(seconds);
    if lasts > MAX_FAULT {
        return Err(FaultError::SecondsOutOfRange);
    }
    transact!(database, |txn| {
        let locked = lock(txn, chain).await?;
        if lasts.is_zero() {
            sandbox_fault::Entity::end(txn, &chain.slug).await?;
            return Ok(None);
        }
        let until = locked.now.plus(lasts);
        let row = sandbox_fault::Model {
            chain: chain.slug.clone(),
            kind: kind.to_string(),
            until,
            height: locked.head.number,
        };
        sandbox_fault::Entity::begin(txn, row).await?;
        Ok(Some(until))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_reads_back_from_its_word_and_others_are_listed() {
        for kind in FaultKind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(kind));
        }
        let error = "haunted".parse::<FaultKind>().unwrap_err();
        assert_eq!(error.to_string(), "must be one of: down, lagging, empty_logs, stale_finalized");
    }
}
