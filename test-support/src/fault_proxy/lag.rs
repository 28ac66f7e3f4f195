//! How a node answers that does not know the newest blocks yet.

use serde_json::{Value, json};

/// Makes a call one about the chain up to `head`.
pub(super) fn narrow(call: &mut Value, head: u64) {
    let method = call["method"].as_str().unwrap_or_default().to_owned();
    match method.as_str() {
        "eth_getBlockByNumber" | "eth_getBlockReceipts" => limit(&mut call["params"][0], head),
        "eth_call" | "eth_getBalance" | "eth_getCode" => limit(&mut call["params"][1], head),
        "eth_getLogs" => {
            let filter = &mut call["params"][0];
            if filter["toBlock"].is_string() {
                limit(&mut filter["toBlock"], head);
                if number(&filter["toBlock"]).is_none_or(|to| to > head) {
                    filter["toBlock"] = quantity(head);
                }
            }
            // A range that begins beyond the head holds nothing.
            if number(&filter["fromBlock"]).is_some_and(|from| from > head) {
                filter["fromBlock"] = quantity(head);
                filter["topics"] = json!([NOWHERE]);
            }
        }
        _ => {}
    }
}

/// Makes a result what it is where nothing after `head` is known.
pub(super) fn forget(method: &str, result: &mut Value, head: u64) {
    match method {
        "eth_blockNumber" => *result = quantity(head),
        "eth_getBlockByNumber" | "eth_getBlockByHash" => forget_if(result, "number", head),
        "eth_getTransactionByHash" | "eth_getTransactionReceipt" => forget_if(result, "blockNumber", head),
        "eth_getBlockReceipts" => {
            let first = result[0]["blockNumber"].clone();
            if number(&first).is_some_and(|block| block > head) {
                *result = Value::Null;
            }
        }
        "eth_getLogs" => {
            if let Some(logs) = result.as_array_mut() {
                logs.retain(|log| number(&log["blockNumber"]).is_none_or(|block| block <= head));
            }
        }
        _ => {}
    }
}

/// A topic that no log has.
const NOWHERE: &str = "0xffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff";

fn limit(block: &mut Value, head: u64) {
    match block.as_str() {
        Some("latest" | "pending") => *block = quantity(head),
        // Never above the head, which may be below what the node itself calls so.
        Some("safe" | "finalized") => *block = quantity(head.saturating_sub(32)),
        _ => {}
    }
}

fn forget_if(result: &mut Value, field: &str, head: u64) {
    if number(&result[field]).is_some_and(|block| block > head) {
        *result = Value::Null;
    }
}

fn quantity(number: u64) -> Value {
    json!(format!("{number:#x}"))
}

pub(super) fn number(value: &Value) -> Option<u64> {
    u64::from_str_radix(value.as_str()?.strip_prefix("0x")?, 16).ok()
}
