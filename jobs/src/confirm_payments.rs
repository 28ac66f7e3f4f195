//! `confirm_payments`: asks the chain once more for the blocks that hold payments which are deep enough, and confirms
//! those whose hash is still the same.

use std::collections::{BTreeMap, BTreeSet};

use cryptopay_chain::ChainError;
use cryptopay_domain::address::Hash;
use cryptopay_entity::clock;
use cryptopay_entity::transact;
use cryptopay_ledger::{LedgerError, Occasion};

use crate::context::{ChainAccess, Context};

/// Why nothing was confirmed this time. The next scan, or the sweep, tries again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfirmError {
    /// The chain gave no usable answer.
    #[error("{0}")]
    Chain(#[from] ChainError),
    /// The ledger refused.
    #[error("{0}")]
    Ledger(#[from] LedgerError),
}

/// Runs once; a failure is logged and left to the next run.
pub(crate) async fn run(context: &Context, access: &ChainAccess) {
    if let Err(error) = confirm_payments(context, access).await {
        tracing::warn!(chain = access.chain.slug, %error, "confirming stopped; the next scan tries again");
    }
}

async fn confirm_payments(context: &Context, access: &ChainAccess) -> Result<(), ConfirmError> {
    let wanted = cryptopay_ledger::blocks_to_check(&context.database, &access.chain).await?;
    if wanted.is_empty() && !cryptopay_ledger::has_final(&context.database, &access.chain).await? {
        return Ok(());
    }
    let checked = check(access, wanted).await?;
    let cause = format!("payments on {} are deep enough", access.chain.slug);
    let nudges = transact!(&context.database, |txn| {
        let now = clock::business_now(txn).await?;
        let occasion = Occasion { registry: &context.registry, cause: &cause, now };
        cryptopay_ledger::confirm(txn, occasion, &access.chain, &checked, "asked again").await
    })?;
    context.queue.nudge(nudges);
    Ok(())
}

/// Those of the blocks that the chain still names by the same hash.
async fn check(access: &ChainAccess, wanted: BTreeSet<(i64, Hash)>) -> Result<BTreeSet<(i64, Hash)>, ChainError> {
    let mut named: BTreeMap<i64, Hash> = BTreeMap::new();
    for (number, _) in &wanted {
        let Ok(height) = u64::try_from(*number) else { continue };
        if named.contains_key(number) {
            continue;
        }
        if let Some(block) = access.client.block(height).await? {
            named.insert(*number, block.hash);
        }
    }
    Ok(wanted.into_iter().filter(|(number, hash)| named.get(number) == Some(hash)).collect())
}
