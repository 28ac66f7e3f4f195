//! Transfers of the chain's own coin: top-level transactions in full blocks. They leave no log; what contracts pass on
//! inside a transaction is not seen here.

use std::collections::BTreeSet;

use alloy::consensus::TxEnvelope;
use alloy::consensus::proofs::calculate_transaction_root;
use alloy::primitives::{Address, B256, U256};
use cryptopay_domain::transfer::Block;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use crate::evidence::{Envelope, Hit, Kind, envelope};
use crate::logs::ASK_AGAIN;
use crate::rpc::{Call, null_as_empty, parse, untrue};
use crate::{ChainError, EvmClient, Header, TransferQuery};

/// Full blocks in one batch: a busy block is about a megabyte of JSON.
const MAX_BLOCKS_PER_BATCH: usize = 8;
const BY_HASH: &str = "eth_getBlockByHash";

#[derive(Deserialize)]
struct Body {
    #[serde(deserialize_with = "null_as_empty")]
    transactions: Vec<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Payment {
    hash: B256,
    to: Option<Address>,
    value: U256,
    from: Address,
}

/// The call for a block with its transactions.
pub(crate) fn full_block_call(block: &Block) -> Call {
    Call { method: BY_HASH, params: json!([block.hash.0, true]) }
}

/// The payments to the query's recipients in the query's blocks. `full` is its only block, where that is here already.
pub(crate) async fn find(
    client: &EvmClient,
    query: &TransferQuery,
    full: Option<&RawValue>,
) -> Result<Vec<Hit>, ChainError> {
    let recipients: BTreeSet<Address> = query.recipients.iter().map(|recipient| recipient.0).collect();
    if recipients.is_empty() {
        return Ok(Vec::new());
    }
    let mut hits = Vec::new();
    if let (Some(full), [block]) = (full, query.blocks.as_slice()) {
        return payments(client, block, full, &recipients);
    }
    // A batch at a time, so that no more than one batch of full blocks is ever in memory.
    for some in query.blocks.chunks(MAX_BLOCKS_PER_BATCH) {
        let mut again = 0..ASK_AGAIN;
        hits.extend(loop {
            match in_blocks(client, some, &recipients).await {
                Err(error) if error.is_behind() && again.next().is_some() => {}
                other => break other?,
            }
        });
    }
    Ok(hits)
}

async fn in_blocks(
    client: &EvmClient,
    blocks: &[Header],
    recipients: &BTreeSet<Address>,
) -> Result<Vec<Hit>, ChainError> {
    let calls: Vec<Call> = blocks.iter().map(|block| full_block_call(block)).collect();
    let answers = client.rpc.grouped(&calls, 1, MAX_BLOCKS_PER_BATCH).await?;
    let mut hits = Vec::new();
    for (block, answer) in blocks.iter().zip(&answers) {
        hits.extend(payments(client, block, answer, recipients)?);
    }
    Ok(hits)
}

fn payments(
    client: &EvmClient,
    block: &Block,
    answer: &RawValue,
    recipients: &BTreeSet<Address>,
) -> Result<Vec<Hit>, ChainError> {
    let missing = |found| ChainError::NotOnChain { number: block.number, expected: block.hash, found };
    let read = client.header(BY_HASH, answer)?.ok_or_else(|| missing(None))?;
    if read.header.block != *block {
        return Err(missing(Some(read.header.hash)));
    }
    let body: Body = parse(BY_HASH, answer)?;
    if let Some(root) = read.transactions_root {
        check_root(block, root, &body)?;
    }
    let mut hits = Vec::new();
    let mut seen = BTreeSet::new();
    for raw in &body.transactions {
        let payment: Payment = parse(BY_HASH, raw)?;
        if !seen.insert(payment.hash) {
            return Err(untrue(BY_HASH, "it holds one transaction twice"));
        }
        let Some(to) = payment.to.filter(|to| recipients.contains(to)) else { continue };
        if payment.value.is_zero() || payment.from == to {
            continue;
        }
        hits.push(Hit {
            tx_hash: payment.hash,
            block: *block,
            kind: Kind::Native { from: payment.from, to, value: payment.value },
        });
    }
    Ok(hits)
}

/// Recomputes the root of the transactions trie, which proves the list complete and true. A block with a transaction of
/// a type that we cannot encode (a roll-up's deposits, a side chain's state sync) is left to a second endpoint.
fn check_root(block: &Block, root: B256, body: &Body) -> Result<(), ChainError> {
    let mut transactions: Vec<TxEnvelope> = Vec::with_capacity(body.transactions.len());
    for raw in &body.transactions {
        match envelope(BY_HASH, raw)? {
            Envelope::Proven(transaction) => transactions.push(*transaction),
            Envelope::Unknown => {
                tracing::debug!(
                    block_number = block.number,
                    "transactions root not recomputed: unknown transaction type"
                );
                return Ok(());
            }
        }
    }
    if calculate_transaction_root(&transactions) == root {
        return Ok(());
    }
    Err(untrue(BY_HASH, "its transactions are not those that its header commits to"))
}
