//! Answers of a node that is not well, as long as its chain has a fault.

use cryptopay_entity::{clock, sandbox_fault};
use sea_orm::{ConnectionTrait, DbErr};

use crate::FaultKind;

/// What is wrong with the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) kind: FaultKind,
    /// Height of the chain when it began.
    pub(crate) height: i64,
}

/// How far a lagging node has fallen behind when it begins to lag, in blocks: enough to show less than what a scanner has
/// verified before.
const BEHIND: i64 = 3;

impl Fault {
    /// The fault that a chain has now. Costs one look-up while there is none.
    pub(crate) async fn of(connection: &impl ConnectionTrait, chain: &str) -> Result<Option<Self>, DbErr> {
        let Some(row) = sandbox_fault::Entity::of(connection, chain).await? else { return Ok(None) };
        if row.until <= clock::business_now(connection).await? {
            return Ok(None);
        }
        // A kind that only a later version of the gateway knows is none of ours.
        Ok(row.kind.parse().ok().map(|kind| Self { kind, height: row.height }))
    }

    /// The newest block that the node shows, if it does not show all.
    pub(crate) fn newest_shown(self) -> Option<i64> {
        (self.kind == FaultKind::Lagging).then(|| self.height.saturating_sub(BEHIND).max(0))
    }

    /// The block at which the node's tags `safe` and `finalized` stand still, if they do: the chain's first.
    pub(crate) fn tags_stand_at(self) -> Option<i64> {
        (self.kind == FaultKind::StaleFinalized).then_some(0)
    }
}
