//! When a block is due, and what goes into it.
//!
//! Nobody mines in the background: whoever asks for the head when a block is due mines it first. A chain that nobody
//! looks at stands still, and costs nothing.

use cryptopay_domain::address::Hash;
use cryptopay_domain::registry::Chain;
use cryptopay_domain::time::Timestamp;
use cryptopay_entity::{chain_cursor, clock, sandbox_block, sandbox_transaction, transact};
use sea_orm::{DatabaseConnection, DatabaseTransaction};

use crate::chain::block::{Draft, build};
use crate::chain::replacing::{Vanishing, settle_vanishing};
use crate::error::{SimulationError, column};

/// Most transactions of one block; the rest waits for the next. Bounds what one step holds in memory.
const MAX_TRANSACTIONS_PER_BLOCK: u64 = 5_000;
/// Blocks are written in portions of this many. Bounds memory too.
const BLOCKS_PER_WRITE: u32 = 500;
/// Old empty blocks are forgotten whenever the height passes a multiple of this.
const FORGET_EVERY_BLOCKS: i64 = 256;

/// A chain that nobody else may write to until the transaction ends.
pub(crate) struct Locked {
    pub(crate) head: sandbox_block::Model,
    /// Business time.
    pub(crate) now: Timestamp,
}

/// The newest block, mined just now if one was due. Costs two small queries while none is.
pub(crate) async fn head(
    database: &DatabaseConnection,
    chain: &Chain,
) -> Result<sandbox_block::Model, SimulationError> {
    let now = clock::business_now(database).await?;
    match sandbox_block::Entity::newest(database, &chain.slug).await? {
        Some(head) if !is_due(&head, chain, now) => Ok(head),
        _ => transact!(database, |txn| { mine_if_due(txn, chain).await }),
    }
}

/// Locks the chain and reads its newest block; mines its first one if there is none.
pub(crate) async fn lock(txn: &DatabaseTransaction, chain: &Chain) -> Result<Locked, SimulationError> {
    sandbox_block::Entity::lock_chain(txn, &chain.slug).await?;
    let now = clock::business_now(txn).await?;
    if let Some(head) = sandbox_block::Entity::newest(txn, &chain.slug).await? {
        return Ok(Locked { head, now });
    }
    let first = Draft { chain: &chain.slug, number: 0, parent: Hash(Default::default()), time: now, transactions: &[] };
    let head = build(&first)?.row;
    add(txn, vec![head.clone()]).await?;
    Ok(Locked { head, now })
}

/// Mines blocks now, whether they are due or not, and returns the newest. All are stamped now: a later time would make
/// payments late that are not. What waits goes into the first.
pub(crate) async fn mine_blocks(
    txn: &DatabaseTransaction,
    chain: &Chain,
    Locked { head, now }: &Locked,
    count: u32,
) -> Result<sandbox_block::Model, SimulationError> {
    let time = (*now).max(head.block_time);
    let mut transactions =
        sandbox_transaction::Entity::waiting(txn, &chain.slug, time, MAX_TRANSACTIONS_PER_BLOCK).await?;
    let mut newest = head.clone();
    let mut left = count;
    while left > 0 {
        let portion = left.min(BLOCKS_PER_WRITE);
        let mut rows = Vec::new();
        let mut places = Vec::new();
        for _ in 0..portion {
            let number = newest.number.checked_add(1).ok_or(SimulationError::OutOfRange)?;
            let draft = Draft { chain: &chain.slug, number, parent: newest.hash, time, transactions: &transactions };
            let built = build(&draft)?;
            transactions.clear();
            newest = built.row.clone();
            rows.push(built.row);
            places.extend(built.places);
        }
        add(txn, rows).await?;
        for place in places {
            sandbox_transaction::Entity::place(txn, place).await?;
        }
        left = left.saturating_sub(portion);
    }
    forget_old(txn, chain, head.number, newest.number).await?;
    Ok(newest)
}

/// Adds blocks that nobody else has added.
pub(crate) async fn add(txn: &DatabaseTransaction, rows: Vec<sandbox_block::Model>) -> Result<(), SimulationError> {
    let first = rows.first().map_or(0, |row| row.number);
    if sandbox_block::Entity::add(txn, rows).await? { Ok(()) } else { Err(SimulationError::Overtaken(first)) }
}

fn is_due(head: &sandbox_block::Model, chain: &Chain, now: Timestamp) -> bool {
    now >= head.block_time.plus(chain.block_time)
}

async fn mine_if_due(txn: &DatabaseTransaction, chain: &Chain) -> Result<sandbox_block::Model, SimulationError> {
    let locked = lock(txn, chain).await?;
    if !is_due(&locked.head, chain, locked.now) {
        return Ok(locked.head);
    }
    match settle_vanishing(txn, chain, &locked).await? {
        Vanishing::Nothing => mine_blocks(txn, chain, &locked, 1).await,
        Vanishing::Awaited => Ok(locked.head),
        Vanishing::Done(head) => Ok(head),
    }
}

/// Empty blocks that no scanner can ask for any more: older than its window below the cursor. The numbers above stay
/// without a gap, and so does everything that holds a transaction.
async fn forget_old(txn: &DatabaseTransaction, chain: &Chain, before: i64, after: i64) -> Result<(), SimulationError> {
    if before.div_euclid(FORGET_EVERY_BLOCKS) == after.div_euclid(FORGET_EVERY_BLOCKS) {
        return Ok(());
    }
    let Some(cursor) = chain_cursor::Entity::of(txn, &chain.slug).await? else { return Ok(()) };
    let oldest_wanted = cursor.height.min(after).saturating_sub(column(chain.reorg_depth)?);
    let forgotten = sandbox_block::Entity::remove_empty_below(txn, &chain.slug, oldest_wanted).await?;
    tracing::debug!(chain = chain.slug, blocks = forgotten, "old empty blocks of the simulated chain forgotten");
    Ok(())
}
