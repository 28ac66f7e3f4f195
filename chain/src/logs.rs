//! Token transfers, as `eth_getLogs` tells of them. What is found here is a hint; [`crate::evidence`] makes it a fact.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::{Address, B256, U256, b256};
use alloy::rpc::types::Log;
use cryptopay_domain::transfer::Block;
use serde_json::{Value, json};

use crate::evidence::{Hit, Kind};
use crate::evm::{header_call, quantity};
use crate::rpc::{Call, malformed, parse, untrue};
use crate::{ChainError, EvmClient, TransferQuery, blocks};

/// Most recipients in one filter: endpoints refuse filters without bounds.
const MAX_RECIPIENTS_PER_FILTER: usize = 500;
/// `Transfer(address,address,uint256)`.
const TRANSFER: B256 = b256!("ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef");
const GET_LOGS: &str = "eth_getLogs";

/// A log that says that somebody received tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TokenTransfer {
    pub(crate) contract: Address,
    pub(crate) from: Address,
    pub(crate) to: Address,
    pub(crate) value: U256,
}

/// The transfers that the endpoint's logs tell of in the query's blocks.
pub(crate) async fn find(client: &EvmClient, query: &TransferQuery) -> Result<Vec<Hit>, ChainError> {
    let (Some(first), Some(last)) = (query.blocks.first(), query.blocks.last()) else { return Ok(Vec::new()) };
    let contracts: BTreeSet<Address> = query.contracts.iter().map(|contract| contract.0).collect();
    let recipients: BTreeSet<Address> = query.recipients.iter().map(|recipient| recipient.0).collect();
    if contracts.is_empty() || recipients.is_empty() {
        return Ok(Vec::new());
    }
    let recipients: Vec<Address> = recipients.into_iter().collect();
    let chunks: Vec<&[Address]> = recipients.chunks(MAX_RECIPIENTS_PER_FILTER).collect();
    let mut calls = Vec::with_capacity(chunks.len().saturating_mul(2));
    for chunk in &chunks {
        // The header comes first: a node that has the block when it answers this, has it when it looks for logs.
        calls.push(header_call(last.number));
        calls.push(Call { method: GET_LOGS, params: json!([filter(first, last, &contracts, chunk)]) });
    }
    let answers = client.rpc.grouped(&calls, 2, usize::MAX).await?;
    let held: BTreeMap<u64, Block> = query.blocks.iter().map(|block| (block.number, *block)).collect();
    let mut seen: BTreeMap<(u64, u64), Log> = BTreeMap::new();
    let mut hits = Vec::new();
    for (pair, chunk) in answers.chunks(2).zip(&chunks) {
        let [header, found] = pair else { return Err(malformed(GET_LOGS, "it is missing from the batch")) };
        check_tip(client, last, header)?;
        let asked: BTreeSet<Address> = chunk.iter().copied().collect();
        for log in parse::<Vec<Log>>(GET_LOGS, found)? {
            if log.removed {
                return Err(untrue(GET_LOGS, "it holds a log that was removed"));
            }
            let block = held_block(&held, &log)?;
            let transfer = transfer_of(&log).ok_or_else(|| untrue(GET_LOGS, "a log is no ERC-20 Transfer"))?;
            if !contracts.contains(&transfer.contract) || !asked.contains(&transfer.to) {
                return Err(untrue(GET_LOGS, "a log is of a contract or recipient that was not asked for"));
            }
            let (Some(tx_hash), Some(index)) = (log.transaction_hash, log.log_index) else {
                return Err(malformed(GET_LOGS, "a log names no transaction or index"));
            };
            match seen.get(&(block.number, index)) {
                Some(known) if *known == log => continue,
                Some(_) => return Err(untrue(GET_LOGS, "two different logs have one place in a block")),
                None => seen.insert((block.number, index), log.clone()),
            };
            if transfer.value.is_zero() || transfer.from == transfer.to {
                continue;
            }
            hits.push(Hit { tx_hash, block, kind: Kind::Token { transfer, log: Box::new(log) } });
        }
    }
    Ok(hits)
}

/// Reads a log as an ERC-20 transfer: three topics, addresses that fit, one word of data.
pub(crate) fn transfer_of(log: &Log) -> Option<TokenTransfer> {
    let [TRANSFER, from, to] = log.topics() else { return None };
    let value: [u8; 32] = log.inner.data.data.as_ref().try_into().ok()?;
    Some(TokenTransfer {
        contract: log.address(),
        from: address(from)?,
        to: address(to)?,
        value: U256::from_be_bytes(value),
    })
}

/// By hash for a single block, which no node can mistake; by heights for more.
fn filter(first: &Block, last: &Block, contracts: &BTreeSet<Address>, recipients: &[Address]) -> Value {
    let topics: Vec<B256> = recipients.iter().map(|recipient| recipient.into_word()).collect();
    let mut filter = json!({ "address": contracts, "topics": [TRANSFER, null, topics] });
    if let Some(fields) = filter.as_object_mut() {
        if first.number == last.number {
            fields.insert("blockHash".into(), json!(last.hash.0));
        } else {
            fields.insert("fromBlock".into(), json!(quantity(first.number)));
            fields.insert("toBlock".into(), json!(quantity(last.number)));
        }
    }
    filter
}

/// An empty answer is no proof: the node must hold the block up to which it claims to have looked.
fn check_tip(client: &EvmClient, last: &Block, header: &serde_json::value::RawValue) -> Result<(), ChainError> {
    let found = blocks::read("eth_getBlockByNumber", header, client.header_hashes())?.map(|read| read.block.hash);
    if found == Some(last.hash) {
        return Ok(());
    }
    Err(ChainError::NotOnChain { number: last.number, expected: last.hash, found })
}

fn held_block(held: &BTreeMap<u64, Block>, log: &Log) -> Result<Block, ChainError> {
    let (Some(number), Some(hash)) = (log.block_number, log.block_hash) else {
        return Err(malformed(GET_LOGS, "a log names no block"));
    };
    let block =
        held.get(&number).ok_or_else(|| untrue(GET_LOGS, format!("a log is of block {number}, outside the range")))?;
    if block.hash.0 != hash {
        let found = Some(cryptopay_domain::address::Hash(hash));
        return Err(ChainError::NotOnChain { number, expected: block.hash, found });
    }
    Ok(*block)
}

fn address(topic: &B256) -> Option<Address> {
    let address = Address::from_word(*topic);
    (address.into_word() == *topic).then_some(address)
}
