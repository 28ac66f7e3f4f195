//! Forgets what is still to be sent for a merchant's orders, so that nobody is paid by what was planned before.

use cryptopay_domain::ids::MerchantId;
use cryptopay_entity::{clock, sandbox_block, sandbox_transaction};
use sea_orm::{DatabaseTransaction, DbErr};

/// Drops the transactions for a merchant's orders that wait for a block, and gives up what is planned for those that are in
/// one. What is mined stays. `chains` are the slugs of all simulated chains, always in the same order. To be done before the
/// orders are deleted.
///
/// # Errors
/// The database's.
pub async fn forget_payments(
    txn: &DatabaseTransaction,
    chains: impl IntoIterator<Item = &str> + Send,
    merchant: MerchantId,
) -> Result<(), DbErr> {
    let chains: Vec<&str> = chains.into_iter().collect();
    for chain in chains {
        sandbox_block::Entity::lock_chain(txn, chain).await?;
    }
    let now = clock::business_now(txn).await?;
    sandbox_transaction::Entity::forget_owned(txn, merchant, now).await
}
