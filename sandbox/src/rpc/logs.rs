//! Logs, by the blocks, contracts and topics of a filter.

use std::collections::{BTreeMap, BTreeSet};

use alloy::rpc::types::{BlockNumberOrTag, Filter, FilterBlockOption, Log};
use cryptopay_domain::address::Hash;
use cryptopay_entity::txn::begin_snapshot;
use cryptopay_entity::{sandbox_block, sandbox_transaction};

use super::{Node, RpcError, blocks, views};
use crate::{FaultKind, SimulationError};

/// Most transactions with logs in a filter's blocks. Nodes have such a limit too, and say so in the same words.
const MAX_RESULTS: u64 = 10_000;

/// The logs that a filter asks for, in their order on the chain. A range may reach beyond the head.
pub(super) async fn matching(node: Node<'_>, filter: Filter) -> Result<Vec<Log>, RpcError> {
    let slug = &node.chain.slug;
    let range = match filter.block_option {
        FilterBlockOption::Range { from_block, to_block } => {
            let from = blocks::resolve(node, from_block.unwrap_or(BlockNumberOrTag::Latest)).await?;
            let to = blocks::resolve(node, to_block.unwrap_or(BlockNumberOrTag::Latest)).await?;
            if from > to {
                return Err(RpcError::invalid_params(format!("block {from} is above block {to}")));
            }
            Some(from..=to)
        }
        FilterBlockOption::AtBlockHash(_) => None,
    };
    if node.fault.is_some_and(|fault| fault.kind == FaultKind::EmptyLogs) {
        return Ok(Vec::new());
    }
    let snapshot = begin_snapshot(node.database).await?;
    let range = match (range, filter.get_block_hash()) {
        (Some(range), _) => range,
        (None, hash) => {
            let hash = Hash(hash.ok_or_else(RpcError::unknown_block)?);
            let block = sandbox_block::Entity::with_hash(&snapshot, slug, hash).await?;
            let block = block.filter(|block| node.shows(block.number));
            let number = block.ok_or_else(RpcError::unknown_block)?.number;
            number..=number
        }
    };
    let limit = MAX_RESULTS.saturating_add(1);
    let range = *range.start()..=node.newest(*range.end());
    let rows = sandbox_transaction::Entity::with_logs_in_blocks(&snapshot, slug, range, limit).await?;
    if u64::try_from(rows.len()).map_or(true, |rows| rows > MAX_RESULTS) {
        return Err(RpcError::too_many_results(MAX_RESULTS));
    }
    let numbers: BTreeSet<i64> = rows.iter().filter_map(|row| row.block_number).collect();
    let mut homes = BTreeMap::new();
    for block in sandbox_block::Entity::all_at(&snapshot, slug, numbers).await? {
        homes.insert(Some(block.number), views::Home::of(&block)?);
    }
    snapshot.commit().await?;

    let mut found = Vec::new();
    for row in &rows {
        let home = homes.get(&row.block_number).ok_or(SimulationError::Incomplete("transaction"))?;
        found.extend(views::logs(row, home)?.into_iter().filter(|log| filter.matches(&log.inner)));
    }
    Ok(found)
}
