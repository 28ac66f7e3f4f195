//! The JSON-RPC methods that the scanner uses, and no others.

mod blocks;
mod call;
mod error;
mod fault;
mod logs;
mod transactions;
mod views;

use alloy::primitives::U64;
use cryptopay_domain::registry::Chain;
use sea_orm::DatabaseConnection;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

pub(crate) use error::RpcError;
pub(crate) use fault::Fault;

/// Whose chain is asked.
#[derive(Clone, Copy)]
pub(crate) struct Node<'a> {
    pub(crate) database: &'a DatabaseConnection,
    pub(crate) chain: &'a Chain,
    /// What is wrong with the node, if anything is.
    pub(crate) fault: Option<Fault>,
}

impl Node<'_> {
    /// Whether the node shows the block of a height, if there is one.
    fn shows(&self, number: i64) -> bool {
        self.fault.and_then(Fault::newest_shown).is_none_or(|newest| number <= newest)
    }

    /// The height of the newest block that the node shows of a chain of this height.
    fn newest(&self, height: i64) -> i64 {
        self.fault.and_then(Fault::newest_shown).map_or(height, |newest| newest.min(height))
    }
}

/// Answers one call.
pub(crate) async fn answer(node: Node<'_>, method: &str, params: &str) -> Result<Box<RawValue>, RpcError> {
    match method {
        "eth_chainId" => json(&U64::from(node.chain.chain_id)),
        "eth_blockNumber" => json(&blocks::newest_number(node).await?),
        "eth_getBlockByNumber" => {
            let (number, full) = parse(params)?;
            json(&blocks::by_number(node, number, full).await?)
        }
        "eth_getBlockByHash" => {
            let (hash, full) = parse(params)?;
            json(&blocks::by_hash(node, hash, full).await?)
        }
        "eth_getBlockReceipts" => {
            let (block,) = parse(params)?;
            json(&blocks::receipts(node, block).await?)
        }
        "eth_getLogs" => {
            let (filter,) = parse(params)?;
            json(&logs::matching(node, filter).await?)
        }
        "eth_getTransactionByHash" => {
            let (hash,) = parse(params)?;
            json(&transactions::by_hash(node, hash).await?)
        }
        "eth_getTransactionReceipt" => {
            let (hash,) = parse(params)?;
            json(&transactions::receipt(node, hash).await?)
        }
        "eth_getCode" => json(&call::code(node, params)?),
        "eth_call" => json(&call::call(node, params)?),
        unknown => Err(RpcError::unknown_method(unknown)),
    }
}

fn parse<T: DeserializeOwned>(params: &str) -> Result<T, RpcError> {
    serde_json::from_str(params).map_err(RpcError::invalid_params)
}

fn json<T: Serialize>(result: &T) -> Result<Box<RawValue>, RpcError> {
    serde_json::value::to_raw_value(result)
        .map_err(|source| crate::SimulationError::Unreadable { what: "answer", source }.into())
}
