//! What is watched on a chain, and what happens while nothing is.

use cryptopay_domain::address::AccountAddress;
use cryptopay_domain::transfer::Block;
use cryptopay_entity::transact;
use cryptopay_entity::{chain_cursor, clock, payment_order, receiving_address};
use cryptopay_ledger::{Fence, LedgerError, Occasion};
use sea_orm::DbErr;

use super::ScanError;
use crate::context::{ChainAccess, Context};

/// What is watched on a chain.
pub(super) struct WatchList {
    pub(super) recipients: Vec<AccountAddress>,
    /// Whether an open order waits for the chain's own coin.
    pub(super) native: bool,
}

impl WatchList {
    pub(super) async fn read(context: &Context, access: &ChainAccess, height: i64) -> Result<Self, ScanError> {
        let slug = access.chain.slug.as_str();
        let recipients = receiving_address::Entity::watched(&context.database, slug).await?;
        if recipients.is_empty() {
            return Ok(Self { recipients, native: false });
        }
        let verified = chain_cursor::Entity::of(&context.database, slug)
            .await?
            .filter(|cursor| cursor.height >= height)
            .map(|cursor| cursor.block_time)
            .unwrap_or_default();
        let native = payment_order::Entity::native_is_watched(&context.database, slug, verified).await?;
        Ok(Self { recipients, native })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.recipients.is_empty()
    }
}

/// Whether anything is watched, as far as it matters for when to look again. Whoever makes a quiet chain watched asks for
/// a scan, which reads anew; that the last address was let go can wait for the next block.
pub(super) async fn is_watched(context: &Context, access: &ChainAccess) -> Result<bool, DbErr> {
    if access.state.was_watched() {
        return Ok(true);
    }
    let watched = receiving_address::Entity::is_any_watched(&context.database, &access.chain.slug).await?;
    access.state.note_watched(watched);
    Ok(watched)
}

/// Moves the cursor of an unwatched chain to the head; `false` if something is watched by now.
pub(super) async fn skip(
    context: &Context,
    access: &ChainAccess,
    fence: &Fence,
    head: &Block,
) -> Result<bool, ScanError> {
    transact!(&context.database, |txn| {
        // The head was read before this; an address that is claimed now can only be paid in a later block.
        if receiving_address::Entity::is_any_watched(txn, &access.chain.slug).await? {
            return Ok(false);
        }
        let now = clock::business_now(txn).await?;
        let occasion = Occasion { registry: &context.registry, cause: "nothing is watched", now };
        cryptopay_ledger::skip_to(txn, occasion, fence, &access.chain, head).await?;
        Ok::<_, LedgerError>(true)
    })
    .map_err(ScanError::from)
}
