//! Payments that have become deep enough.

use std::collections::BTreeSet;

use cryptopay_domain::address::Hash;
use cryptopay_domain::ids::TransferId;
use cryptopay_domain::registry::Chain;
use cryptopay_domain::transfer::TransferState;
use cryptopay_entity::{allocation, chain_block, chain_cursor, transfer};
use sea_orm::{ConnectionTrait, DatabaseTransaction};

use crate::error::LedgerError;
use crate::nudges::Nudges;
use crate::record::orders_of;
use crate::rederive::{Occasion, rederive};
use crate::view::unsigned;

/// Most transfers that one pass finalises, and about as many allocations as one pass confirms; the next takes the rest.
const BATCH: u64 = 1_000;

/// Blocks whose hash has to be named again before payments in them may be confirmed: ones that hold a transfer which is
/// deep enough for its order and was not announced there. What is final needs no such word.
pub async fn blocks_to_check(
    connection: &impl ConnectionTrait,
    chain: &Chain,
) -> Result<BTreeSet<(i64, Hash)>, LedgerError> {
    let Some(cursor) = chain_cursor::Entity::of(connection, &chain.slug).await? else { return Ok(BTreeSet::new()) };
    let last_final = final_height(chain, cursor.height);
    let waiting = allocation::Entity::waiting_blocks(connection, &chain.slug, last_final, cursor.height, BATCH).await?;
    let mut blocks = BTreeSet::new();
    let mut allocations = 0_u64;
    for block in waiting {
        let depth = cursor.height.saturating_sub(block.number).saturating_add(1);
        let tagged = cursor.final_height.is_some_and(|height| height >= block.number);
        if depth >= block.required || tagged {
            blocks.insert((block.number, block.hash));
            allocations = allocations.saturating_add(unsigned(block.allocations));
        }
        if allocations >= BATCH {
            break;
        }
    }
    Ok(blocks)
}

/// Confirms what the blocks hold that were `checked`, and finalises what is beyond any reorganisation. The cursor is
/// locked: no scan moves it meanwhile.
pub async fn confirm(
    txn: &DatabaseTransaction,
    occasion: Occasion<'_>,
    chain: &Chain,
    checked: &BTreeSet<(i64, Hash)>,
    vouched_by: &str,
) -> Result<Nudges, LedgerError> {
    let Some(cursor) = chain_cursor::Entity::lock(txn, &chain.slug).await? else { return Ok(Nudges::default()) };
    let mut orders = BTreeSet::new();
    for (number, hash) in checked {
        // A block that has left the window meanwhile, or was replaced in it, is vouched for by nobody.
        if chain_block::Entity::vouch(txn, &chain.slug, *number, *hash, vouched_by).await? {
            orders.extend(allocation::Entity::waiting_orders(txn, &chain.slug, *number, *hash).await?);
        }
    }
    let last_final = final_height(chain, cursor.height);
    let done: Vec<TransferId> = transfer::Entity::included_up_to(txn, &chain.slug, last_final, BATCH)
        .await?
        .into_iter()
        .map(|row| row.id)
        .collect();
    let (included, last) = (TransferState::Included, TransferState::Final);
    transfer::Entity::set_state(txn, done.clone(), included, last, None, occasion.now).await?;
    orders.extend(orders_of(txn, done).await?);
    rederive(txn, occasion, &orders, &BTreeSet::new()).await
}

/// The newest block that is beyond any reorganisation when the chain is verified up to `height`.
fn final_height(chain: &Chain, height: i64) -> i64 {
    height.saturating_sub(i64::from(chain.reorg_depth)).saturating_add(1)
}

/// Whether a chain has transfers that are beyond any reorganisation and not noted as such: `confirm` will.
pub async fn has_final(connection: &impl ConnectionTrait, chain: &Chain) -> Result<bool, LedgerError> {
    let Some(cursor) = chain_cursor::Entity::of(connection, &chain.slug).await? else { return Ok(false) };
    let last_final = final_height(chain, cursor.height);
    Ok(!transfer::Entity::included_up_to(connection, &chain.slug, last_final, 1).await?.is_empty())
}

/// Whether a chain has transfers that may still change: only then is its finality tag worth asking for.
pub async fn has_work(connection: &impl ConnectionTrait, chain: &Chain) -> Result<bool, LedgerError> {
    let some = transfer::Entity::included_up_to(connection, &chain.slug, i64::MAX, 1).await?;
    Ok(!some.is_empty())
}
