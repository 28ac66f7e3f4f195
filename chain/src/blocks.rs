//! Headers: read, hashed again, linked. Only a header that hashes to its own name is evidence of anything.

use alloy::consensus::Header as Fields;
use alloy::primitives::B256;
use cryptopay_domain::address::Hash;
use cryptopay_domain::time::Timestamp;
use cryptopay_domain::transfer::Block;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::rpc::{is_null, malformed, parse};
use crate::{ChainError, Header, LogsBloom};

/// A header that a node sent.
#[derive(Debug, Clone)]
pub(crate) struct Read {
    pub(crate) header: Header,
    /// Root of the transactions trie; only of a header that hashes to its own name.
    pub(crate) transactions_root: Option<B256>,
}

/// Whether a header must hash to the hash that the node gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeaderHashes {
    /// It must.
    Verified,
    /// From this height on the chain's headers have a shape that we cannot encode: the node's word is taken where they do not
    /// hash again, and a second endpoint is asked instead.
    TrustedFrom(u64),
}

/// What of a header every chain has.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stated {
    #[serde(with = "alloy::serde::quantity")]
    number: u64,
    hash: B256,
    parent_hash: B256,
    #[serde(with = "alloy::serde::quantity")]
    timestamp: u64,
}

/// Reads a block's header; `None` where the node has no such block.
pub(crate) fn read(method: &'static str, answer: &RawValue, hashes: HeaderHashes) -> Result<Option<Read>, ChainError> {
    if is_null(answer) {
        return Ok(None);
    }
    let stated: Stated = parse(method, answer)?;
    if i64::try_from(stated.number).is_err() {
        return Err(malformed(method, "its block number has more than 63 bits"));
    }
    let block = Block {
        number: stated.number,
        hash: Hash(stated.hash),
        parent: Hash(stated.parent_hash),
        time: Timestamp::from_secs(stated.timestamp),
    };
    let fields: Option<Fields> = serde_json::from_str(answer.get()).ok();
    let computed = fields.as_ref().map(Fields::hash_slow);
    if let Some(fields) = fields.filter(|_| computed == Some(stated.hash)) {
        let header = Header { block, bloom: Some(LogsBloom::new(fields.logs_bloom)) };
        return Ok(Some(Read { header, transactions_root: Some(fields.transactions_root) }));
    }
    match hashes {
        HeaderHashes::TrustedFrom(from) if stated.number >= from => {
            Ok(Some(Read { header: block.into(), transactions_root: None }))
        }
        HeaderHashes::TrustedFrom(_) | HeaderHashes::Verified => Err(ChainError::HeaderHashMismatch {
            number: stated.number,
            stated: block.hash,
            computed: computed.map(Hash),
        }),
    }
}

/// Checks that each block is the parent of the next.
pub(crate) fn check_links(blocks: &[Header]) -> Result<(), ChainError> {
    for pair in blocks.windows(2) {
        if let [below, above] = pair
            && (below.number.checked_add(1) != Some(above.number) || above.parent != below.hash)
        {
            return Err(ChainError::BrokenLink { number: above.number });
        }
    }
    Ok(())
}
