//! Token transfers, as `eth_getLogs` tells of them. What is found here is a hint; [`crate::evidence`] makes it a fact.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::{Address, B256, Bloom, U256, b256};
use alloy::rpc::types::Log;
use cryptopay_domain::address::Hash;
use cryptopay_domain::transfer::Block;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::bloom::Sought;
use crate::classify::is_unknown_block;
use crate::evidence::{Hit, Kind};
use crate::evm::{header_call, quantity};
use crate::rpc::{Call, malformed, parse_list, untrue};
use crate::{ChainError, EvmClient, Header, TransferQuery, native};

/// Most recipients in one filter: what go-ethereum takes in one place of a filter. An endpoint that takes fewer says so,
/// and is asked for half as many from then on.
pub(crate) const MAX_RECIPIENTS_PER_FILTER: usize = 1_000;
/// How often an endpoint is asked again at once that has not got there yet: behind one address there may be several nodes.
pub(crate) const ASK_AGAIN: usize = 2;
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
    /// An address topic holds more than an address. The transfer is not what its contract was asked to report.
    pub(crate) is_padded: bool,
}

/// What the endpoint's logs tell of.
#[derive(Default)]
pub(crate) struct Found {
    pub(crate) hits: Vec<Hit>,
    /// Heights of blocks whose headers neither deny nor prove that there is more.
    pub(crate) unproven: Vec<u64>,
    /// Who is told to have received something where the block's verified header denies it.
    pub(crate) denied: BTreeSet<(u64, Address)>,
    /// Logs that only the second, unfiltered question brought up.
    pub(crate) left_out: usize,
    /// The only block of the query in full, where payments in coins are looked for too: it came in the same packet.
    pub(crate) full: Option<Box<RawValue>>,
}

/// The transfers that the endpoint's logs tell of in the query's blocks.
pub(crate) async fn find(client: &EvmClient, query: &TransferQuery) -> Result<Found, ChainError> {
    let (Some(first), Some(last)) = (query.blocks.first(), query.blocks.last()) else { return Ok(Found::default()) };
    let mut reading = Reading::of(query);
    if reading.contracts.is_empty() || reading.recipients.is_empty() {
        return Ok(Found::default());
    }
    let mut again = 0..ASK_AGAIN;
    let full = loop {
        match ask(client, query, (first, last), &mut reading).await {
            Err(error) if error.is_behind() && again.next().is_some() => {}
            Err(ChainError::FilterTooLarge { .. }) if client.halve_filters() => {}
            other => break other?,
        }
    };
    let doubts = reading.doubts(client, query);
    let mut found = Found { unproven: doubts.unproven, denied: doubts.denied, full, ..Found::default() };
    let before = reading.hits.len();
    let mut again = 0..ASK_AGAIN;
    while let Err(error) = prove(client, &doubts.telling, &mut reading).await {
        match error {
            error if error.is_behind() && again.next().is_some() => {}
            // An endpoint that answers no question without an address in it.
            error if !error.is_retryable() && !error.is_lie() => {
                found.unproven.extend(doubts.telling.iter().map(|header| header.number));
                break;
            }
            error => return Err(error),
        }
    }
    found.left_out = reading.hits.len().saturating_sub(before);
    if found.left_out > 0 {
        tracing::warn!(
            endpoint = client.name(),
            first_block = first.number,
            last_block = last.number,
            logs = found.left_out,
            "the endpoint left out logs that its own headers speak of; they are taken from a second answer"
        );
    }
    found.hits = reading.hits;
    Ok(found)
}

/// Asks for the logs, a header before each answer: a node that has the block when it answers this, has it when it looks
/// for logs. Gives the block in full where that was asked for instead of the header.
async fn ask(
    client: &EvmClient,
    query: &TransferQuery,
    (first, last): (&Header, &Header),
    reading: &mut Reading<'_>,
) -> Result<Option<Box<RawValue>>, ChainError> {
    let recipients: Vec<Address> = reading.recipients.iter().copied().collect();
    let chunks: Vec<&[Address]> = recipients.chunks(client.most_recipients()).collect();
    let wants_full = query.native && first.number == last.number;
    let mut calls = Vec::with_capacity(chunks.len().saturating_mul(2));
    for (index, chunk) in chunks.iter().enumerate() {
        calls.push(if wants_full && index == 0 { native::full_block_call(last) } else { header_call(last.number) });
        calls.push(Call { method: GET_LOGS, params: json!([filter(first, last, &reading.contracts, chunk)]) });
    }
    let missing = || ChainError::NotOnChain { number: last.number, expected: last.hash, found: None };
    let answers = client.rpc.grouped(&calls, 2, usize::MAX).await;
    let answers = answers.map_err(|error| if is_unknown_block(&error) { missing() } else { error })?;
    let mut full = None;
    for (pair, chunk) in answers.chunks(2).zip(&chunks) {
        let [header, found] = pair else { return Err(malformed(GET_LOGS, "it is missing from the batch")) };
        check_tip(client, last, header)?;
        if wants_full && full.is_none() {
            full = Some(header.clone());
        }
        let asked: BTreeSet<Address> = chunk.iter().copied().collect();
        for log in parse_list::<Log>(GET_LOGS, found)? {
            let block = reading.block_of(&log)?;
            if log.topic0() != Some(&TRANSFER) {
                return Err(untrue(GET_LOGS, "a log is no Transfer, though only those were asked for"));
            }
            // Other standards share the topic, with more topics or other data.
            let Some(transfer) = transfer_of(&log) else { continue };
            if !reading.contracts.contains(&transfer.contract) || !asked.contains(&transfer.to) {
                return Err(untrue(GET_LOGS, "a log is of a contract or recipient that was not asked for"));
            }
            reading.take(block, transfer, log)?;
        }
    }
    Ok(full)
}

/// Asks for all logs of each block and holds them against the header's filter: what the filter has seen must be there. A
/// log can be left out unnoticed only where others happen to have set all of its bits.
async fn prove(client: &EvmClient, blocks: &[&Header], reading: &mut Reading<'_>) -> Result<(), ChainError> {
    if blocks.is_empty() {
        return Ok(());
    }
    let calls: Vec<Call> = blocks
        .iter()
        .map(|header| Call { method: GET_LOGS, params: json!([{ "blockHash": header.hash.0 }]) })
        .collect();
    let answers = client.rpc.grouped(&calls, 1, usize::MAX).await;
    for (header, answer) in blocks.iter().zip(answers.map_err(|error| {
        let number = blocks.first().map_or(0, |header| header.number);
        if is_unknown_block(&error) { ChainError::BlockMissing { number } } else { error }
    })?) {
        let logs = parse_list::<Log>(GET_LOGS, &answer)?;
        let mut seen = Bloom::ZERO;
        for log in &logs {
            let block = reading.block_of(log)?;
            if block != header.block {
                return Err(untrue(GET_LOGS, format!("asked for block {}, it sent another one's logs", header.number)));
            }
            seen.accrue_log(&log.inner);
        }
        if !header.bloom.as_ref().is_some_and(|bloom| bloom.is_covered_by(&seen)) {
            return Err(ChainError::LogsMissing { number: header.number });
        }
        for log in logs {
            let Some(transfer) = transfer_of(&log) else { continue };
            if reading.contracts.contains(&transfer.contract) && reading.recipients.contains(&transfer.to) {
                reading.take(header.block, transfer, log)?;
            }
        }
    }
    Ok(())
}

/// What is looked for, and what has been seen of it.
struct Reading<'a> {
    contracts: BTreeSet<Address>,
    recipients: BTreeSet<Address>,
    held: BTreeMap<u64, &'a Block>,
    /// By block and index. Two different logs of one index are both kept: the receipt shows which of them is true.
    seen: BTreeMap<(u64, u64), Vec<Log>>,
    /// Who received something where, real or not.
    told: BTreeSet<(u64, Address)>,
    hits: Vec<Hit>,
}

/// Blocks that may hold more than was told.
struct Doubts<'a> {
    /// Their filters say enough to hold the endpoint to it.
    telling: Vec<&'a Header>,
    unproven: Vec<u64>,
    /// What was told of and is denied.
    denied: BTreeSet<(u64, Address)>,
}

impl<'a> Reading<'a> {
    fn of(query: &'a TransferQuery) -> Self {
        Self {
            contracts: query.contracts.iter().map(|contract| contract.0).collect(),
            recipients: query.recipients.iter().map(|recipient| recipient.0).collect(),
            held: query.blocks.iter().map(|header| (header.number, &header.block)).collect(),
            seen: BTreeMap::new(),
            told: BTreeSet::new(),
            hits: Vec::new(),
        }
    }

    /// The block that we hold of a log that counts.
    fn block_of(&self, log: &Log) -> Result<Block, ChainError> {
        if log.removed {
            return Err(untrue(GET_LOGS, "it holds a log that was removed"));
        }
        let (Some(number), Some(hash)) = (log.block_number, log.block_hash) else {
            return Err(malformed(GET_LOGS, "a log names no block"));
        };
        let block = self
            .held
            .get(&number)
            .ok_or_else(|| untrue(GET_LOGS, format!("a log is of block {number}, outside the range")))?;
        if block.hash.0 != hash {
            return Err(ChainError::NotOnChain { number, expected: block.hash, found: Some(Hash(hash)) });
        }
        Ok(**block)
    }

    /// Takes a log in; one that was told before changes nothing.
    fn take(&mut self, block: Block, transfer: TokenTransfer, log: Log) -> Result<(), ChainError> {
        let (Some(tx_hash), Some(index)) = (log.transaction_hash, log.log_index) else {
            return Err(malformed(GET_LOGS, "a log names no transaction or index"));
        };
        let same_place = self.seen.entry((block.number, index)).or_default();
        if same_place.contains(&log) {
            return Ok(());
        }
        same_place.push(log.clone());
        self.told.insert((block.number, transfer.to));
        if !transfer.value.is_zero() && transfer.from != transfer.to {
            self.hits.push(Hit { tx_hash, block, kind: Kind::Token { transfer, log: Box::new(log) } });
        }
        Ok(())
    }

    /// Holds what was told against the headers.
    fn doubts(&self, client: &EvmClient, query: &'a TransferQuery) -> Doubts<'a> {
        let sought = Sought::new(TRANSFER, self.contracts.iter().copied(), self.recipients.iter().copied());
        let mut doubts = Doubts { telling: Vec::new(), unproven: Vec::new(), denied: BTreeSet::new() };
        for header in &query.blocks {
            let bloom = header.bloom.as_ref().filter(|_| client.trusts_blooms());
            let Some(bloom) = bloom else {
                doubts.unproven.push(header.number);
                continue;
            };
            let told = self.told.range((header.number, Address::ZERO)..=(header.number, Address::repeat_byte(0xff)));
            doubts.denied.extend(told.filter(|(_, to)| !sought.perhaps_in(bloom).any(|perhaps| perhaps == *to)));
            if sought.perhaps_in(bloom).all(|recipient| self.told.contains(&(header.number, recipient))) {
                continue;
            }
            if bloom.is_telling() { doubts.telling.push(header) } else { doubts.unproven.push(header.number) }
        }
        doubts
    }
}

/// Reads a log as an ERC-20 transfer: three topics and one word of data.
pub(crate) fn transfer_of(log: &Log) -> Option<TokenTransfer> {
    let [TRANSFER, from, to] = log.topics() else { return None };
    let value: [u8; 32] = log.inner.data.data.as_ref().try_into().ok()?;
    let (from_address, to_address) = (Address::from_word(*from), Address::from_word(*to));
    Some(TokenTransfer {
        contract: log.address(),
        from: from_address,
        to: to_address,
        value: U256::from_be_bytes(value),
        is_padded: from_address.into_word() != *from || to_address.into_word() != *to,
    })
}

/// By hash for a single block, which no node can mistake; by heights for more.
fn filter(first: &Header, last: &Header, contracts: &BTreeSet<Address>, recipients: &[Address]) -> Value {
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
pub(crate) fn check_tip(client: &EvmClient, last: &Block, header: &RawValue) -> Result<(), ChainError> {
    let found = client.header("eth_getBlockByNumber", header)?.map(|read| read.header.hash);
    if found == Some(last.hash) {
        return Ok(());
    }
    Err(ChainError::NotOnChain { number: last.number, expected: last.hash, found })
}
