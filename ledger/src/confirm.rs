//! Payments that have become deep enough.

use std::collections::{BTreeMap, BTreeSet};

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

/// What is asked about at once.
#[derive(Debug, Clone, Default)]
pub struct ToCheck {
    /// Blocks, by height and hash.
    pub blocks: BTreeSet<(i64, Hash)>,
    /// Every transfer that they are held to hold: ones to be vouched for, and ones that are final.
    pub transfers: Vec<transfer::Model>,
}

/// What the chain was asked about and has shown once more.
#[derive(Debug, Clone, Default)]
pub struct Checked {
    /// Blocks that are named by the same hash.
    pub blocks: BTreeSet<(i64, Hash)>,
    /// Transfers that were asked about. A block that by now holds another one as well is not vouched for: of that one
    /// nobody was asked.
    pub transfers: BTreeSet<TransferId>,
}

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

/// The transfers in those blocks, as many blocks as hold about [`BATCH`] of them, whatever they hold that comes first; those
/// that `can_wait` come last.
pub async fn transfers_to_check(
    connection: &impl ConnectionTrait,
    chain: &Chain,
    blocks: &BTreeSet<(i64, Hash)>,
    can_wait: impl Fn(&(i64, Hash)) -> bool,
) -> Result<ToCheck, LedgerError> {
    let numbers = |blocks: &BTreeSet<(i64, Hash)>| blocks.iter().map(|(number, _)| *number).collect::<BTreeSet<_>>();
    let counts = transfer::Entity::count_included_in(connection, &chain.slug, numbers(blocks)).await?;
    let counts: BTreeMap<(i64, Hash), u64> =
        counts.into_iter().map(|(number, hash, transfers)| ((number, hash), unsigned(transfers))).collect();
    let (last, first): (Vec<_>, Vec<_>) = blocks.iter().copied().partition(can_wait);
    let (mut chosen, mut sum) = (BTreeSet::new(), 0_u64);
    for block in first.into_iter().chain(last) {
        if sum >= BATCH {
            break;
        }
        sum = sum.saturating_add(counts.get(&block).copied().unwrap_or(0));
        chosen.insert(block);
    }
    let mut transfers = transfer::Entity::standing_in(connection, &chain.slug, numbers(&chosen)).await?;
    transfers.retain(|row| chosen.contains(&(row.block_number, row.block_hash)));
    Ok(ToCheck { blocks: chosen, transfers })
}

/// Confirms what the blocks hold that were `checked`, and finalises what of it, or of blocks that were vouched for before,
/// is beyond any reorganisation. The cursor is locked: no scan moves it meanwhile.
pub async fn confirm(
    txn: &DatabaseTransaction,
    occasion: Occasion<'_>,
    chain: &Chain,
    checked: &Checked,
    vouched_by: &str,
) -> Result<Nudges, LedgerError> {
    let Some(cursor) = chain_cursor::Entity::lock(txn, &chain.slug).await? else { return Ok(Nudges::default()) };
    let checked = &without_unasked(txn, chain, checked).await?;
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

/// The blocks that hold no included transfer which nobody was asked about. The cursor is locked: none comes in meanwhile.
async fn without_unasked(
    txn: &DatabaseTransaction,
    chain: &Chain,
    checked: &Checked,
) -> Result<BTreeSet<(i64, Hash)>, LedgerError> {
    let numbers: BTreeSet<i64> = checked.blocks.iter().map(|(number, _)| *number).collect();
    let rows = transfer::Entity::standing_in(txn, &chain.slug, numbers).await?;
    let is_unasked =
        |row: &&transfer::Model| row.state == TransferState::Included && !checked.transfers.contains(&row.id);
    let unasked: BTreeSet<_> = rows.iter().filter(is_unasked).map(|row| (row.block_number, row.block_hash)).collect();
    Ok(checked.blocks.difference(&unasked).copied().collect())
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
