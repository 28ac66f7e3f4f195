//! What a scan has verified becomes rows: the cursor moves, transfers are stored and matched, orders derived again.

use std::collections::{BTreeMap, BTreeSet};

use cryptopay_domain::address::{AccountAddress, Hash};
use cryptopay_domain::ids::{AllocationId, OrderId, TransferId};
use cryptopay_domain::matching::Evidence;
use cryptopay_domain::registry::Chain;
use cryptopay_domain::transfer::{Block, ObservedTransfer, Position, TransferState, UnverifiableTransfer};
use cryptopay_domain::units::Units;
use cryptopay_entity::{allocation, chain_block, chain_cursor, clock, merchant_transfer, receiving_address, transfer};
use sea_orm::ActiveValue::{NotSet, Set, Unchanged};
use sea_orm::sea_query::Expr;
use sea_orm::{ActiveModelTrait, ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter};

use crate::error::LedgerError;
use crate::inbox;
use crate::matching;
use crate::nudges::Nudges;
use crate::rederive::{Occasion, rederive};
use crate::view::signed;

/// The right to move a chain's cursor from one point: whoever holds an older lease, or starts from another point, writes
/// nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fence {
    /// Epoch of the lease.
    pub epoch: i64,
    /// Height that the scan began after.
    pub height: i64,
    /// Hash of the block at that height.
    pub hash: Hash,
}

/// Verified blocks in a row, with every transfer in them that was looked for.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    /// The chain.
    pub chain: &'a Chain,
    /// Blocks above the fence, ascending and linked.
    pub blocks: &'a [Block],
    /// Transfers in them.
    pub transfers: &'a [ObservedTransfer],
    /// Reported transfers in them without evidence that holds.
    pub unverifiable: &'a [UnverifiableTransfer],
    /// Newest block that the endpoint has shown.
    pub head_height: u64,
    /// Newest block that a fresh finality tag vouches for.
    pub final_height: Option<u64>,
}

/// Moves the cursor over a batch and does everything that its transfers lead to, block by block: how many blocks a scan
/// hands over at once changes nothing about what they lead to.
pub async fn record_batch(
    txn: &DatabaseTransaction,
    occasion: Occasion<'_>,
    fence: &Fence,
    batch: Batch<'_>,
) -> Result<Nudges, LedgerError> {
    let mut nudges = Nudges::default();
    let Some(last) = batch.blocks.last() else { return Ok(nudges) };
    let mut fence = fence.clone();
    let verified = batch.transfers.iter().map(|observed| observed.block.number);
    let hits: BTreeSet<u64> = verified.chain(batch.unverifiable.iter().map(|reported| reported.block.number)).collect();
    let mut known = Known::new();
    for (index, block) in batch.blocks.iter().filter(|block| hits.contains(&block.number) || *block == last).enumerate()
    {
        fence = advance(txn, &fence, &batch, block).await?;
        if index == 0 {
            // The first move proves the right to all others: the row stays locked.
            let keep_from = signed(last.number).saturating_sub(i64::from(batch.chain.reorg_depth));
            chain_block::Entity::append(txn, &batch.chain.slug, batch.blocks, keep_from).await?;
            // Transfers are locked before any order.
            let hashes = batch.transfers.iter().map(|observed| observed.tx_hash);
            let hashes = hashes.chain(batch.unverifiable.iter().map(|reported| reported.tx_hash));
            known = known_transfers(txn, &batch.chain.slug, hashes.collect()).await?;
        }
        nudges.merge(record_block(txn, occasion, &batch, &known, block.number).await?);
    }
    Ok(nudges)
}

/// Stores and matches the transfers of one block, and derives the orders that they touch.
async fn record_block(
    txn: &DatabaseTransaction,
    occasion: Occasion<'_>,
    batch: &Batch<'_>,
    known: &Known,
    number: u64,
) -> Result<Nudges, LedgerError> {
    // Before anything is matched: what takes the place of a transfer is not added to it.
    let replaced = replaced(batch, known, number);
    let mut touched = orders_of(txn, replaced.clone()).await?;
    let (missing, orphaned) = (TransferState::Missing, TransferState::Orphaned);
    transfer::Entity::set_state(txn, replaced, missing, orphaned, None, occasion.now).await?;
    let here = batch.transfers.iter().filter(|observed| observed.block.number == number);
    let nudges = store(txn, occasion, batch.chain, known, here, &mut touched).await?;
    for reported in batch.unverifiable.iter().filter(|reported| reported.block.number == number) {
        set_aside(txn, occasion, batch.chain, known, reported).await?;
    }
    Ok(nudges)
}

/// Stores and matches transfers, and derives the orders that they touch, `touched` among them.
pub(crate) async fn store(
    txn: &DatabaseTransaction,
    occasion: Occasion<'_>,
    chain: &Chain,
    known: &Known,
    transfers: impl Iterator<Item = &ObservedTransfer>,
    touched: &mut BTreeSet<OrderId>,
) -> Result<Nudges, LedgerError> {
    let mut fresh = BTreeSet::new();
    let mut unmatched = Vec::new();
    let mut revived = Vec::new();
    let mut verified = BTreeSet::new();
    for observed in transfers {
        let generations = known.get(&(observed.tx_hash, observed.position.to_string()));
        let generations = generations.map(Vec::as_slice).unwrap_or_default();
        if let Some(row) = generations.iter().find(|row| !row.is_set_aside() && is_same(row, observed)) {
            include(txn, occasion, row, observed).await?;
            touched.extend(row.wrong_asset_order_id);
            revived.push(row.id);
            // A report of the same transfer, made while its receipt could not be had, is settled by it.
            let reports = reports_of(known, observed).map(|report| report.id).collect();
            let (unverifiable, orphaned) = (TransferState::Unverifiable, TransferState::Orphaned);
            transfer::Entity::set_state(txn, reports, unverifiable, orphaned, None, occasion.now).await?;
            continue;
        }
        let aside = reports_of(known, observed).find(|row| !verified.contains(&row.id));
        // The row of a report keeps its generation where it keeps its place.
        let others = generations.iter().filter(|row| aside.is_none_or(|aside| aside.id != row.id));
        let generation = others.map(|row| row.generation.saturating_add(1)).max().unwrap_or(0);
        let decision = matching::decide(txn, chain, observed).await?;
        let row = match aside {
            Some(aside) => {
                verified.insert(aside.id);
                verify(txn, occasion, aside, observed, generation, &decision).await?
            }
            None => insert(txn, occasion, chain, observed, generation, &decision).await?,
        };
        match &decision.order {
            Some(matched) => {
                let allocation = allocate(txn, occasion, &row, matched, &decision).await?;
                merchant_transfer::Entity::show_allocated(txn, &row, matched.merchant).await?;
                fresh.insert(allocation);
                touched.insert(matched.order);
            }
            None => {
                touched.extend(decision.wrong_asset);
                unmatched.push((row, decision.evidence));
            }
        }
    }
    // A transfer that was matched once keeps its orders, wherever it is mined.
    for allocation in allocations_of(txn, revived).await? {
        if allocation.reversed_at.is_none() {
            touched.insert(allocation.order_id);
        }
    }
    let mut nudges = rederive(txn, occasion, touched, &fresh).await?;
    nudges.merge(inbox::announce(txn, occasion, chain, unmatched).await?);
    Ok(nudges)
}

/// Rows of reports that a transfer verifies, the one of its own log first.
fn reports_of<'a>(known: &'a Known, observed: &'a ObservedTransfer) -> impl Iterator<Item = &'a transfer::Model> {
    let log_index = observed.log_index.map(signed);
    let mut rows: Vec<_> = known
        .values()
        .flatten()
        .filter(|row| row.tx_hash == observed.tx_hash && row.is_set_aside() && is_same(row, observed))
        .filter(|row| (row.position == Position::Native) == (observed.position == Position::Native))
        .collect();
    rows.sort_by_key(|row| (row.log_index != log_index, row.id));
    rows.into_iter()
}

/// Turns a report into a transfer with evidence.
async fn verify(
    txn: &DatabaseTransaction,
    occasion: Occasion<'_>,
    aside: &transfer::Model,
    observed: &ObservedTransfer,
    generation: i64,
    decision: &matching::Decided,
) -> Result<transfer::Model, LedgerError> {
    let allocated = if decision.order.is_some() { observed.units } else { Units::ZERO };
    let row = transfer::ActiveModel {
        id: Unchanged(aside.id),
        position: Set(observed.position),
        generation: Set(generation),
        log_index: Set(observed.log_index.map(signed)),
        block_number: Set(signed(observed.block.number)),
        block_hash: Set(observed.block.hash),
        block_time: Set(observed.block.time),
        sender: Set(observed.sender),
        sender_nonce: Set(signed(observed.sender_nonce)),
        gas_used: Set(signed(observed.gas_used)),
        gas_price: Set(observed.gas_price),
        extra_fee: Set(observed.extra_fee),
        state: Set(TransferState::Included),
        missing_since: Set(None),
        unverifiable_reason: Set(None),
        rechecked_at: Set(None),
        allocated_units: Set(allocated),
        evidence: Set(decision.evidence_json()?),
        wrong_asset_order_id: Set(decision.wrong_asset),
        version: Set(aside.version.saturating_add(1)),
        updated_at: Set(occasion.now),
        ..Default::default()
    };
    Ok(row.update(txn).await?)
}

/// Stores a reported transfer without evidence, visible to the holders of its address. It belongs to no order, and nothing is
/// announced of it.
async fn set_aside(
    txn: &DatabaseTransaction,
    occasion: Occasion<'_>,
    chain: &Chain,
    known: &Known,
    reported: &UnverifiableTransfer,
) -> Result<(), LedgerError> {
    let is_same = |row: &&transfer::Model| {
        (row.tx_hash, row.asset, row.to_address, row.units)
            == (reported.tx_hash, reported.asset, reported.to, reported.units)
    };
    let mut same = known.values().flatten().filter(is_same);
    // A second look decides about a transfer that had evidence before a reorganisation.
    if same.clone().any(|row| !row.is_set_aside() && row.state == TransferState::Missing) {
        return Ok(());
    }
    let checked_at = clock::database_now(txn).await?;
    if let Some(row) = same.find(|row| row.is_set_aside() && row.position == reported.position) {
        let row = transfer::ActiveModel {
            id: Unchanged(row.id),
            block_number: Set(signed(reported.block.number)),
            block_hash: Set(reported.block.hash),
            block_time: Set(reported.block.time),
            state: Set(TransferState::Unverifiable),
            unverifiable_reason: Set(Some(reported.reason.clone())),
            rechecked_at: Set(Some(checked_at)),
            version: Set(row.version.saturating_add(1)),
            updated_at: Set(occasion.now),
            ..Default::default()
        };
        row.update(txn).await?;
        return Ok(());
    }
    let place = known.get(&(reported.tx_hash, reported.position.to_string()));
    let generation = place.into_iter().flatten().map(|row| row.generation.saturating_add(1)).max().unwrap_or(0);
    let nothing =
        serde_json::to_string(&Evidence::default()).map_err(|error| LedgerError::Corrupt(error.to_string()))?;
    let row = transfer::ActiveModel {
        id: NotSet,
        chain: Set(chain.slug.clone()),
        tx_hash: Set(reported.tx_hash),
        position: Set(reported.position),
        generation: Set(generation),
        log_index: Set(reported.log_index.map(signed)),
        block_number: Set(signed(reported.block.number)),
        block_hash: Set(reported.block.hash),
        block_time: Set(reported.block.time),
        from_address: Set(reported.from),
        to_address: Set(reported.to),
        asset: Set(reported.asset),
        units: Set(reported.units),
        // Only the receipt and the transaction show these.
        sender: Set(AccountAddress([0; 20].into())),
        sender_nonce: Set(0),
        gas_used: Set(0),
        gas_price: Set(Units::ZERO),
        extra_fee: Set(Units::ZERO),
        state: Set(TransferState::Unverifiable),
        missing_since: Set(None),
        unverifiable_reason: Set(Some(reported.reason.clone())),
        rechecked_at: Set(Some(checked_at)),
        allocated_units: Set(Units::ZERO),
        evidence: Set(nothing),
        wrong_asset_order_id: Set(None),
        version: Set(1),
        created_at: Set(occasion.now),
        updated_at: Set(occasion.now),
    };
    let row = row.insert(txn).await?;
    let holders: BTreeSet<_> =
        receiving_address::Entity::holders(txn, &row.chain, row.to_address).await?.into_iter().collect();
    merchant_transfer::Entity::show_waiting(txn, &row, holders).await?;
    Ok(())
}

/// The outcome of a recheck of reports.
#[derive(Debug, Clone, Default)]
pub struct Rechecked {
    /// Transfers that have evidence now.
    pub verified: Vec<ObservedTransfer>,
    /// Reports without evidence still, each with its reason.
    pub unverifiable: Vec<(TransferId, String)>,
}

/// Stores what a recheck of reports has found. A report whose block has left the chain meanwhile is left alone.
pub async fn settle_reports(
    txn: &DatabaseTransaction,
    occasion: Occasion<'_>,
    chain: &Chain,
    rechecked: &Rechecked,
) -> Result<Nudges, LedgerError> {
    chain_cursor::Entity::lock(txn, &chain.slug).await?;
    let hashes = rechecked.verified.iter().map(|observed| observed.tx_hash).collect();
    let known = known_transfers(txn, &chain.slug, hashes).await?;
    let is_open = |observed: &&ObservedTransfer| {
        reports_of(&known, observed)
            .any(|row| row.state == TransferState::Unverifiable && row.block_hash == observed.block.hash)
    };
    let open = rechecked.verified.iter().filter(is_open);
    let nudges = store(txn, occasion, chain, &known, open, &mut BTreeSet::new()).await?;
    let now = clock::database_now(txn).await?;
    for (id, reason) in &rechecked.unverifiable {
        transfer::Entity::note_rechecked(txn, *id, reason, now).await?;
    }
    Ok(nudges)
}

/// Transfers that a reorganisation has put in doubt, and that their transaction no longer makes where it stands now: it was
/// carried out anew with another result. Only those to a recipient to whom it makes another in the same asset, since others
/// need not have been looked for.
fn replaced(batch: &Batch<'_>, known: &Known, number: u64) -> Vec<TransferId> {
    let here = || batch.transfers.iter().filter(|observed| observed.block.number == number);
    let missing = known.values().flatten().filter(|row| row.state == TransferState::Missing);
    let is_replaced = |row: &&transfer::Model| {
        let theirs: Vec<_> = here().filter(|observed| observed.tx_hash == row.tx_hash).collect();
        theirs.iter().any(|observed| (observed.asset, observed.to) == (row.asset, row.to_address))
            && !theirs.iter().any(|observed| observed.position == row.position && is_same(row, observed))
    };
    missing.filter(is_replaced).map(|row| row.id).collect()
}

/// Moves the cursor of a chain on which nothing is watched to a verified head, without the blocks between.
pub async fn skip_to(txn: &DatabaseTransaction, fence: &Fence, chain: &Chain, head: &Block) -> Result<(), LedgerError> {
    let batch = Batch {
        chain,
        blocks: std::slice::from_ref(head),
        transfers: &[],
        unverifiable: &[],
        head_height: head.number,
        final_height: None,
    };
    advance(txn, fence, &batch, head).await?;
    // The window starts anew: what lies between was not read.
    chain_block::Entity::append(txn, &chain.slug, batch.blocks, signed(head.number)).await?;
    Ok(())
}

/// Moves the cursor to a block of the batch; gives the fence for the next move.
async fn advance(
    txn: &DatabaseTransaction,
    fence: &Fence,
    batch: &Batch<'_>,
    to: &Block,
) -> Result<Fence, LedgerError> {
    use chain_cursor::Column;
    let height = signed(to.number);
    let moved = chain_cursor::Entity::update_many()
        .col_expr(Column::Height, Expr::value(height))
        .col_expr(Column::Hash, Expr::value(to.hash))
        .col_expr(Column::BlockTime, Expr::value(to.time))
        .col_expr(Column::HeadHeight, Expr::value(signed(batch.head_height)))
        .col_expr(Column::FinalHeight, Expr::value(batch.final_height.map(signed)))
        .col_expr(Column::UpdatedAt, clock::database_now_expr(txn))
        .filter(Column::Chain.eq(batch.chain.slug.as_str()))
        .filter(Column::LeaseEpoch.eq(fence.epoch))
        .filter(Column::Height.eq(fence.height))
        .filter(Column::Hash.eq(fence.hash))
        .exec(txn)
        .await?;
    if moved.rows_affected == 1 {
        Ok(Fence { epoch: fence.epoch, height, hash: to.hash })
    } else {
        Err(LedgerError::Fenced)
    }
}

/// Stored transfers by transaction and position.
pub(crate) type Known = BTreeMap<(Hash, String), Vec<transfer::Model>>;

async fn known_transfers(txn: &DatabaseTransaction, chain: &str, hashes: BTreeSet<Hash>) -> Result<Known, LedgerError> {
    let mut known = Known::new();
    if hashes.is_empty() {
        return Ok(known);
    }
    for row in transfer::Entity::of_transactions(txn, chain, hashes).await? {
        known.entry((row.tx_hash, row.position.to_string())).or_default().push(row);
    }
    Ok(known)
}

/// Whether a stored transfer is the observed one. Its block and log index may have changed; its contents may not.
fn is_same(row: &transfer::Model, observed: &ObservedTransfer) -> bool {
    row.asset == observed.asset
        && row.from_address == observed.from
        && row.to_address == observed.to
        && row.units == observed.units
}

async fn include(
    txn: &DatabaseTransaction,
    occasion: Occasion<'_>,
    row: &transfer::Model,
    observed: &ObservedTransfer,
) -> Result<(), LedgerError> {
    if row.state.is_in_block() && row.block_hash == observed.block.hash {
        return Ok(());
    }
    let changed = transfer::ActiveModel {
        block_number: Set(signed(observed.block.number)),
        block_hash: Set(observed.block.hash),
        block_time: Set(observed.block.time),
        log_index: Set(observed.log_index.map(signed)),
        gas_used: Set(signed(observed.gas_used)),
        gas_price: Set(observed.gas_price),
        extra_fee: Set(observed.extra_fee),
        state: Set(TransferState::Included),
        missing_since: Set(None),
        version: Set(row.version.saturating_add(1)),
        updated_at: Set(occasion.now),
        ..Default::default()
    };
    let done = transfer::Entity::update_many()
        .set(changed)
        .filter(transfer::Column::Id.eq(row.id))
        .filter(transfer::Column::Version.eq(row.version))
        .exec(txn)
        .await?;
    if done.rows_affected == 1 { Ok(()) } else { Err(LedgerError::LostGuard) }
}

async fn insert(
    txn: &DatabaseTransaction,
    occasion: Occasion<'_>,
    chain: &Chain,
    observed: &ObservedTransfer,
    generation: i64,
    decision: &matching::Decided,
) -> Result<transfer::Model, LedgerError> {
    let allocated = if decision.order.is_some() { observed.units } else { Units::ZERO };
    let row = transfer::ActiveModel {
        id: NotSet,
        chain: Set(chain.slug.clone()),
        tx_hash: Set(observed.tx_hash),
        position: Set(observed.position),
        generation: Set(generation),
        log_index: Set(observed.log_index.map(signed)),
        block_number: Set(signed(observed.block.number)),
        block_hash: Set(observed.block.hash),
        block_time: Set(observed.block.time),
        from_address: Set(observed.from),
        to_address: Set(observed.to),
        asset: Set(observed.asset),
        units: Set(observed.units),
        sender: Set(observed.sender),
        sender_nonce: Set(signed(observed.sender_nonce)),
        gas_used: Set(signed(observed.gas_used)),
        gas_price: Set(observed.gas_price),
        extra_fee: Set(observed.extra_fee),
        state: Set(TransferState::Included),
        missing_since: Set(None),
        unverifiable_reason: Set(None),
        rechecked_at: Set(None),
        allocated_units: Set(allocated),
        evidence: Set(decision.evidence_json()?),
        wrong_asset_order_id: Set(decision.wrong_asset),
        version: Set(1),
        created_at: Set(occasion.now),
        updated_at: Set(occasion.now),
    };
    Ok(row.insert(txn).await?)
}

async fn allocate(
    txn: &DatabaseTransaction,
    occasion: Occasion<'_>,
    row: &transfer::Model,
    matched: &matching::Matched,
    decision: &matching::Decided,
) -> Result<AllocationId, LedgerError> {
    let allocation = allocation::ActiveModel {
        id: NotSet,
        transfer_id: Set(row.id),
        order_id: Set(matched.order),
        merchant_id: Set(matched.merchant),
        units: Set(row.units),
        method: Set(matched.method),
        evidence: Set(decision.evidence_json()?),
        late_accepted: Set(false),
        counted: Set(false),
        announced_block: Set(None),
        created_at: Set(occasion.now),
        reversed_at: Set(None),
    };
    Ok(allocation.insert(txn).await?.id)
}

async fn allocations_of(
    txn: &DatabaseTransaction,
    transfers: Vec<TransferId>,
) -> Result<Vec<allocation::Model>, LedgerError> {
    if transfers.is_empty() {
        return Ok(Vec::new());
    }
    Ok(allocation::Entity::of_transfers(txn, transfers).await?)
}

/// The orders that these transfers change: those that hold a live share, and those that were paid in the wrong asset.
pub(crate) async fn orders_of(
    txn: &DatabaseTransaction,
    transfers: Vec<TransferId>,
) -> Result<BTreeSet<OrderId>, LedgerError> {
    let mut orders = transfer::Entity::wrong_asset_orders(txn, transfers.iter().copied()).await?;
    let allocations = allocations_of(txn, transfers).await?;
    orders.extend(allocations.iter().filter(|row| row.reversed_at.is_none()).map(|row| row.order_id));
    Ok(orders)
}
