//! What `cryptopay doctor` asks a node, once each and bounded in time: which chain it is of, how new its newest block is,
//! how much it takes at once, and which of the optional methods it has. Asks nothing that changes anything.

use std::time::{Duration, Instant};

use alloy::consensus::Header;
use alloy::primitives::{Address, B256, b256};
use cryptopay_domain::address::{AccountAddress, Hash};
use cryptopay_domain::time::Timestamp;
use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_tungstenite::connect_async_with_config;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};
use url::Url;

use crate::classify::{is_unknown_tag, shorten};
use crate::evm::quantity;
use crate::http::{handshake, secrets};
use crate::rpc::{Call, is_null, malformed, parse, parse_list};
use crate::{ChainClient, ChainError, EvmClient};

/// The topic of ERC-20's `Transfer(address,address,uint256)`.
const TRANSFER: B256 = b256!("ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef");
/// Whom nobody pays: the question costs the node what a scan's question does, and the answer is short.
const NOBODY: Address = Address::repeat_byte(0x0d);
/// Headers in the batch that a node is tried with: as many as a scan sends.
const BATCH: u64 = 50;
/// Longest wait for a WebSocket's connection, and for its answer.
const SOCKET_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest message of a socket that is read.
const MAX_MESSAGE_BYTES: usize = 64 * 1024;

const BY_NUMBER: &str = "eth_getBlockByNumber";
const GET_LOGS: &str = "eth_getLogs";
const RECEIPTS: &str = "eth_getBlockReceipts";

/// What to ask beside the usual.
#[derive(Debug, Clone)]
pub struct Questions {
    /// Token contracts: those of the chain's registry entry.
    pub contracts: Vec<AccountAddress>,
    /// Most blocks that a scan asks for at once.
    pub widest: u64,
}

/// A block as the node shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeenBlock {
    /// Height.
    pub number: u64,
    /// Hash.
    pub hash: Hash,
    /// Time.
    pub time: Timestamp,
    /// Whether the header hashes to that hash.
    pub is_proven: bool,
}

/// What a node answered.
#[derive(Debug)]
pub struct Findings {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// From a request to its answer, over a connection that stands.
    pub latency: Duration,
    /// Newest block.
    pub head: SeenBlock,
    /// Calls that it takes in one batch, of fifty.
    pub batch: Result<usize, ChainError>,
    /// Blocks that it takes in one `eth_getLogs`.
    pub range: Result<u64, ChainError>,
    /// Whether it offers `eth_getBlockReceipts`.
    pub receipts: Result<bool, ChainError>,
    /// Newest block with the tag `safe`, if it has one.
    pub safe: Result<Option<SeenBlock>, ChainError>,
    /// The same for `finalized`.
    pub finalized: Result<Option<SeenBlock>, ChainError>,
    /// What `decimals()` of each contract says.
    pub decimals: Vec<(AccountAddress, Result<u8, ChainError>)>,
}

/// Asks a node everything.
///
/// # Errors
/// If it cannot be reached, or names neither its chain nor its newest block: nothing else is asked then.
pub async fn probe(client: &EvmClient, questions: &Questions) -> Result<Findings, ChainError> {
    let chain_id = client.chain_id().await?;
    let started = Instant::now();
    let head = tagged(client, "latest").await?.ok_or_else(|| malformed(BY_NUMBER, "the node has no newest block"))?;
    let latency = started.elapsed();
    let mut decimals = Vec::with_capacity(questions.contracts.len());
    for contract in &questions.contracts {
        decimals.push((*contract, client.decimals(*contract).await));
    }
    Ok(Findings {
        chain_id,
        latency,
        head,
        batch: batch(client, &head).await,
        range: range(client, &head, questions).await,
        receipts: receipts(client, &head).await,
        safe: tagged(client, "safe").await,
        finalized: tagged(client, "finalized").await,
        decimals,
    })
}

/// The block that a node has at a height; `None` where it has none.
///
/// # Errors
/// If it gives no answer that can be read.
pub async fn block_at(client: &EvmClient, number: u64) -> Result<Option<SeenBlock>, ChainError> {
    seen(&client.rpc.one(BY_NUMBER, json!([quantity(number), false])).await?)
}

/// Connects to a `ws(s)` URL and subscribes to new heads; gives how long that took.
///
/// # Errors
/// In words, without the URL's secrets.
pub async fn probe_socket(url: &Url) -> Result<Duration, String> {
    // The first to install it wins, and any winner is ring.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let started = Instant::now();
    match timeout(SOCKET_TIMEOUT, subscribe(url)).await {
        Ok(Ok(())) => Ok(started.elapsed()),
        Ok(Err(words)) => Err(shorten(&secrets(url).iter().fold(words, |words, secret| words.replace(secret, "***")))),
        Err(_) => Err(format!("no answer within {} s", SOCKET_TIMEOUT.as_secs())),
    }
}

async fn subscribe(url: &Url) -> Result<(), String> {
    let words = |error: SocketError| match error {
        SocketError::Http(answer) => format!("it answered HTTP {}", answer.status().as_u16()),
        other => other.to_string(),
    };
    let config =
        WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE_BYTES)).max_frame_size(Some(MAX_MESSAGE_BYTES));
    let (mut socket, _) = connect_async_with_config(handshake(url), Some(config), true).await.map_err(words)?;
    let question = json!({ "jsonrpc": "2.0", "id": 1, "method": "eth_subscribe", "params": ["newHeads"] });
    socket.send(Message::text(question.to_string())).await.map_err(words)?;
    while let Some(message) = socket.next().await {
        let Message::Text(text) = message.map_err(words)? else { continue };
        let answer: Value = serde_json::from_str(&text).map_err(|_| "its answer is no JSON".to_owned())?;
        if let Some(problem) = answer.pointer("/error/message").and_then(Value::as_str) {
            return Err(format!("it takes no subscription to new heads: {problem}"));
        }
        return match answer.get("result").is_some_and(Value::is_string) {
            true => Ok(()),
            false => Err("its answer to eth_subscribe holds no subscription".to_owned()),
        };
    }
    Err("it closed the connection".to_owned())
}

/// What of a header every chain has.
#[derive(Deserialize)]
struct Stated {
    #[serde(with = "alloy::serde::quantity")]
    number: u64,
    hash: B256,
    #[serde(with = "alloy::serde::quantity")]
    timestamp: u64,
}

fn seen(answer: &RawValue) -> Result<Option<SeenBlock>, ChainError> {
    if is_null(answer) {
        return Ok(None);
    }
    let stated: Stated = parse(BY_NUMBER, answer)?;
    let computed = serde_json::from_str::<Header>(answer.get()).ok().map(|header| header.hash_slow());
    Ok(Some(SeenBlock {
        number: stated.number,
        hash: Hash(stated.hash),
        time: Timestamp::from_secs(stated.timestamp),
        is_proven: computed == Some(stated.hash),
    }))
}

async fn tagged(client: &EvmClient, tag: &'static str) -> Result<Option<SeenBlock>, ChainError> {
    match client.rpc.one(BY_NUMBER, json!([tag, false])).await {
        Ok(answer) => seen(&answer),
        Err(error) if is_unknown_tag(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn batch(client: &EvmClient, head: &SeenBlock) -> Result<usize, ChainError> {
    let oldest = head.number.saturating_sub(BATCH.saturating_sub(1));
    let calls: Vec<Call> = (oldest..=head.number)
        .map(|number| Call { method: BY_NUMBER, params: json!([quantity(number), false]) })
        .collect();
    // Halves the batch until the node takes it.
    client.rpc.grouped(&calls, 1, calls.len()).await?;
    Ok(client.rpc.most_calls().min(calls.len()))
}

async fn range(client: &EvmClient, head: &SeenBlock, questions: &Questions) -> Result<u64, ChainError> {
    let mut blocks = questions.widest.min(head.number.saturating_add(1)).max(1);
    loop {
        let filter = json!([{
            "fromBlock": quantity(head.number.saturating_sub(blocks.saturating_sub(1))),
            "toBlock": quantity(head.number),
            "address": questions.contracts.iter().map(|contract| contract.to_key()).collect::<Vec<_>>(),
            "topics": [TRANSFER, null, [NOBODY.into_word()]],
        }]);
        let answer = client.rpc.one(GET_LOGS, filter).await;
        let answer = answer.and_then(|answer| parse_list::<Value>(GET_LOGS, &answer));
        match answer.map_err(|error| error.of_range(blocks)) {
            Ok(_) => return Ok(blocks),
            // As a scan does it.
            Err(ChainError::RangeFailed { limit, .. }) => blocks = limit.unwrap_or(blocks).clamp(1, blocks / 2),
            Err(error) => return Err(error),
        }
    }
}

async fn receipts(client: &EvmClient, head: &SeenBlock) -> Result<bool, ChainError> {
    // One below the head, which every node behind a balancer has by now.
    let number = quantity(head.number.saturating_sub(1));
    match client.rpc.one(RECEIPTS, json!([number])).await {
        Ok(answer) if is_null(&answer) => Ok(false),
        Ok(answer) => parse::<Vec<Value>>(RECEIPTS, &answer).map(|_| true),
        Err(ChainError::MethodMissing { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}
