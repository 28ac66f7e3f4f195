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

/// Most transfers that one pass finalises, most blocks that it asks about for that, and about as many allocations as one
/// pass confirms; the next takes the rest.
const BATCH: u64 = 1_000;

/// Blocks whose hash has to be named again before payments in them count: ones that hold a transfer which is deep enough
/// for its order and was not announced there, and ones beyond any reorganisation that nobody has vouched for yet. Depth
/// alone is one endpoint's word: whoever makes up a block makes up those above it too.
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
    let deep = transfer::Entity::included_blocks(connection, &chain.slug, last_final, BATCH).await?;
    let vouched = vouched_among(connection, chain, deep.iter().map(|(number, _)| *number)).await?;
    blocks.extend(deep.into_iter().filter(|block| !vouched.contains(block)));
    Ok(blocks)
}

/// Confirms what the blocks hold that were `checked`, and finalises what of it, or of blocks that were vouched for before,
/// is beyond any reorganisation. The cursor is locked: no scan moves it meanwhile.
pub async fn confirm(
    txn: &DatabaseTransaction,
    occasion: Occasion<'_>,
    chain: &Chain,
    checked: &BTreeSet<(i64, Hash)>,
    vouched_by: &str,
) -> Result<Nudges, LedgerError> {
    let Some(cursor) = chain_cursor::Entity::lock(txn, &chain.slug).await? else { return Ok(Nudges::default()) };
    let last_final = final_height(chain, cursor.height);
    let mut orders = BTreeSet::new();
    for (number, hash) in checked.iter().filter(|(number, _)| *number > last_final) {
        // A block that has left the window meanwhile, or was replaced in it, is vouched for by nobody.
        if chain_block::Entity::vouch(txn, &chain.slug, *number, *hash, vouched_by).await? {
            orders.extend(allocation::Entity::waiting_orders(txn, &chain.slug, *number, *hash).await?);
        }
    }
    let done = beyond_doubt(txn, chain, last_final, checked).await?;
    let (included, last) = (TransferState::Included, TransferState::Final);
    transfer::Entity::set_state(txn, done.clone(), included, last, None, occasion.now).await?;
    orders.extend(orders_of(txn, done).await?);
    rederive(txn, occasion, &orders, &BTreeSet::new()).await
}

/// Included transfers up to `last_final` whose blocks were `checked` or are vouched for. Most of those blocks have left the
/// window, so that no row of theirs could remember it.
async fn beyond_doubt(
    txn: &DatabaseTransaction,
    chain: &Chain,
    last_final: i64,
    checked: &BTreeSet<(i64, Hash)>,
) -> Result<Vec<TransferId>, LedgerError> {
    let vouched = chain_block::Entity::vouched_up_to(txn, &chain.slug, last_final).await?;
    let mut named: BTreeSet<(i64, Hash)> = vouched.into_iter().map(|row| (row.number, row.hash)).collect();
    named.extend(checked.iter().filter(|(number, _)| *number <= last_final));
    let numbers = named.iter().map(|(number, _)| *number);
    let rows = transfer::Entity::included_in(txn, &chain.slug, numbers, BATCH).await?;
    Ok(rows.into_iter().filter(|row| named.contains(&(row.block_number, row.block_hash))).map(|row| row.id).collect())
}

/// Those of the numbered blocks that are in the window and vouched for.
async fn vouched_among(
    connection: &impl ConnectionTrait,
    chain: &Chain,
    numbers: impl Iterator<Item = i64>,
) -> Result<BTreeSet<(i64, Hash)>, LedgerError> {
    let numbers: BTreeSet<i64> = numbers.collect();
    let rows = chain_block::Entity::numbered(connection, &chain.slug, numbers).await?;
    Ok(rows.into_iter().filter(|row| row.vouched_by.is_some()).map(|row| (row.number, row.hash)).collect())
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
