//! Which process scans a chain.

use std::pin::pin;
use std::time::Duration;

use cryptopay_entity::transact;
use cryptopay_entity::{chain_cursor, clock};
use cryptopay_ledger::Fence;
use sea_orm::DbErr;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

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

/// Waits for what is read, and keeps the lease meanwhile, slow as the endpoint may be. `None` once the process is to stop,
/// which waits for no endpoint.
pub(super) async fn keeping_the_lease<T>(
    context: &Context,
    access: &ChainAccess,
    stop: &CancellationToken,
    reading: impl Future<Output = T>,
) -> Option<T> {
    let mut reading = pin!(reading);
    loop {
        tokio::select! {
            read = &mut reading => return Some(read),
            () = stop.cancelled() => return None,
            () = sleep(RENEW_AFTER) => {
                if let Err(error) = renew(context, access).await {
                    tracing::debug!(chain = access.chain.slug, %error, "the lease could not be renewed");
                }
            }
        }
    }
}

/// Renews the lease, if it has not run out: whoever has it then keeps it.
async fn renew(context: &Context, access: &ChainAccess) -> Result<(), DbErr> {
    let (database, slug, asked_at) = (&context.database, access.chain.slug.as_str(), Instant::now());
    let now = clock::database_now(database).await?;
    if chain_cursor::Entity::renew(database, slug, &context.owner, now, now.plus(LEASE)).await? {
        access.state.note_lease(Some(asked_at));
    }
    Ok(())
}

/// Whether the lease is old enough to be renewed in the midst of a long reading.
pub(super) fn is_due(access: &ChainAccess) -> bool {
    !access.state.was_leased_within(RENEW_AFTER)
}

/// Gives the lease back: another process may take the next look, or try whether its endpoints answer.
pub(crate) async fn give_back(context: &Context, access: &ChainAccess) {
    access.state.note_lease(None);
    let slug = access.chain.slug.as_str();
    let given_back = async {
        let now = clock::database_now(&context.database).await?;
        chain_cursor::Entity::give_back(&context.database, slug, &context.owner, now).await
    };
    if let Err(error) = given_back.await {
        tracing::warn!(chain = slug, %error, "the lease could not be given back; it runs out by itself");
    }
}
