//! Which process scans a chain.

use std::time::Duration;

use cryptopay_entity::transact;
use cryptopay_entity::{chain_cursor, clock};
use cryptopay_ledger::Fence;
use sea_orm::DbErr;
use tokio::time::Instant;

use super::ScanError;
use crate::context::{ChainAccess, Context};

/// How long a lease on a chain lasts; renewed with every batch, and by a look that finds nothing once it is this old:
const LEASE: Duration = Duration::from_secs(3);
/// so that a quiet chain costs a write a second, not one a look.
const RENEW_AFTER: Duration = Duration::from_secs(1);

/// The lease that this process renewed a moment ago, or takes or renews it. That the lease may be over by the time it is
/// used is no danger: its epoch and the cursor's place fence every transaction.
pub(super) async fn hold(
    context: &Context,
    access: &ChainAccess,
    cursor: &chain_cursor::Model,
) -> Result<Option<Fence>, ScanError> {
    if cursor.lease_owner.as_ref() == Some(&context.owner) && access.state.was_leased_within(RENEW_AFTER) {
        return Ok(Some(Fence { epoch: cursor.lease_epoch, height: cursor.height, hash: cursor.hash }));
    }
    lease(context, access).await
}

/// Takes or renews the lease; gives the fence from which this process may move the cursor.
pub(super) async fn lease(context: &Context, access: &ChainAccess) -> Result<Option<Fence>, ScanError> {
    let slug = access.chain.slug.as_str();
    let asked_at = Instant::now();
    let leased = transact!(&context.database, |txn| {
        let now = clock::database_now(txn).await?;
        let epoch = chain_cursor::Entity::lease(txn, slug, &context.owner, now, now.plus(LEASE)).await?;
        let cursor = chain_cursor::Entity::of(txn, slug).await?;
        Ok::<_, DbErr>(epoch.zip(cursor))
    })?;
    if leased.is_some() {
        access.state.note_lease(Some(asked_at));
    }
    Ok(leased.map(|(epoch, cursor)| Fence { epoch, height: cursor.height, hash: cursor.hash }))
}

/// Whether the lease is old enough to be renewed in the midst of a long reading.
pub(super) fn is_due(access: &ChainAccess) -> bool {
    !access.state.was_leased_within(RENEW_AFTER)
}

/// Lets another process try whose endpoints may answer.
pub(super) async fn give_back(context: &Context, access: &ChainAccess) {
    access.state.note_lease(None);
    let slug = access.chain.slug.as_str();
    if let Err(error) = chain_cursor::Entity::release(&context.database, slug, &context.owner).await {
        tracing::warn!(chain = slug, %error, "the lease could not be given back; it runs out by itself");
    }
}
