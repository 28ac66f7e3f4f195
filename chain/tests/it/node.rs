//! A small chain with true hashes, signatures and roots, and a transport that answers from it, or lies about it.

use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use alloy::consensus::proofs::calculate_transaction_root;
use alloy::consensus::{Header, SignableTransaction, TxEip1559, TxEnvelope};
use alloy::primitives::{Address, B256, Bloom, U256, b256, keccak256};
use alloy::rpc::json_rpc::{ErrorPayload, RequestPacket, Response, ResponsePacket, ResponsePayload, SerializedRequest};
use alloy::signers::SignerSync;
use alloy::signers::local::PrivateKeySigner;
use alloy::transports::{TransportError, TransportFut};
use cryptopay_chain::{EvmClient, Limits, LogsBloom, TransferQuery};
use cryptopay_domain::address::{AccountAddress, Hash};
use cryptopay_domain::time::Timestamp;
use cryptopay_domain::transfer::Block;
use serde_json::{Value, json};

pub(crate) const TOKEN: Address = Address::repeat_byte(0x70);
pub(crate) const OTHER_TOKEN: Address = Address::repeat_byte(0x71);
pub(crate) const SHOP: Address = Address::repeat_byte(0x51);
pub(crate) const SHOP_2: Address = Address::repeat_byte(0x52);
pub(crate) const PAYER: Address = Address::repeat_byte(0xaa);
pub(crate) const TRANSFER: B256 = b256!("ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef");

/// What a node answers to one call.
pub(crate) type Reply = Result<Value, (i64, &'static str)>;

/// A transaction to be mined.
#[derive(Clone)]
pub(crate) struct Tx {
    pub(crate) to: Address,
    pub(crate) value: u64,
    pub(crate) succeeds: bool,
    /// Contract, from, to, value.
    pub(crate) logs: Vec<(Address, Address, Address, u64)>,
    pub(crate) input: Vec<u8>,
}

impl Tx {
    pub(crate) fn token(to: Address, value: u64) -> Self {
        Self::batch(&[(TOKEN, PAYER, to, value)])
    }

    pub(crate) fn batch(logs: &[(Address, Address, Address, u64)]) -> Self {
        Self { to: TOKEN, value: 0, succeeds: true, logs: logs.to_vec(), input: vec![0xa9, 0x05, 0x9c, 0xbb] }
    }

    pub(crate) fn native(to: Address, value: u64) -> Self {
        Self { to, value, succeeds: true, logs: Vec::new(), input: Vec::new() }
    }
}

struct Mined {
    header: Header,
    transactions: Vec<Value>,
    receipts: Vec<Value>,
}

/// The honest chain.
#[derive(Default)]
pub(crate) struct Node {
    blocks: Vec<Mined>,
    nonce: u64,
}

impl Node {
    /// Some empty blocks, then one block for each list of transactions.
    pub(crate) fn with(blocks: &[Vec<Tx>]) -> Self {
        let mut node = Self::default();
        node.mine(&[]);
        node.mine(&[]);
        for block in blocks {
            node.mine(block);
        }
        node
    }

    pub(crate) fn signer() -> PrivateKeySigner {
        PrivateKeySigner::from_bytes(&B256::repeat_byte(1)).unwrap()
    }

    fn mine(&mut self, txs: &[Tx]) {
        let number = self.blocks.len() as u64;
        let signed: Vec<TxEnvelope> = txs
            .iter()
            .map(|tx| {
                let body = TxEip1559 {
                    chain_id: 1,
                    nonce: self.nonce,
                    gas_limit: 100_000,
                    max_fee_per_gas: 7,
                    max_priority_fee_per_gas: 1,
                    to: tx.to.into(),
                    value: U256::from(tx.value),
                    input: tx.input.clone().into(),
                    ..Default::default()
                };
                self.nonce += 1;
                let signature = Self::signer().sign_hash_sync(&body.signature_hash()).unwrap();
                body.into_signed(signature).into()
            })
            .collect();
        let mut logs_bloom = Bloom::ZERO;
        for (contract, from, to, _) in txs.iter().flat_map(|tx| &tx.logs) {
            logs_bloom.accrue_raw_log(*contract, &[TRANSFER, from.into_word(), to.into_word()]);
        }
        let header = Header {
            number,
            logs_bloom,
            parent_hash: self.blocks.last().map_or(B256::ZERO, |block| block.header.hash_slow()),
            timestamp: 1_800_000_000 + number * 12,
            transactions_root: calculate_transaction_root(&signed),
            base_fee_per_gas: Some(5),
            ..Default::default()
        };
        let place = json!({ "blockHash": header.hash_slow(), "blockNumber": hex(number) });
        let (mut transactions, mut receipts, mut log_index) = (Vec::new(), Vec::new(), 0);
        for (index, (tx, envelope)) in txs.iter().zip(&signed).enumerate() {
            let mut shown = serde_json::to_value(envelope).unwrap();
            let from = Self::signer().address();
            let common = json!({ "from": from, "transactionIndex": hex(index as u64) });
            merge(&mut shown, &place);
            merge(&mut shown, &common);
            let logs: Vec<Value> = tx
                .logs
                .iter()
                .map(|(contract, from, to, value)| {
                    let mut log = json!({
                        "address": contract, "topics": [TRANSFER, from.into_word(), to.into_word()],
                        "data": B256::from(U256::from(*value)), "transactionHash": envelope.hash(),
                        "transactionIndex": hex(index as u64), "logIndex": hex(log_index), "removed": false,
                    });
                    log_index += 1;
                    merge(&mut log, &place);
                    log
                })
                .collect();
            let mut receipt = json!({
                "transactionHash": envelope.hash(), "status": if tx.succeeds { "0x1" } else { "0x0" }, "type": "0x2",
                "gasUsed": "0x5208", "cumulativeGasUsed": "0x5208", "effectiveGasPrice": "0x6", "to": tx.to, "logs": logs,
            });
            merge(&mut receipt, &place);
            merge(&mut receipt, &common);
            transactions.push(shown);
            receipts.push(receipt);
        }
        self.blocks.push(Mined { header, transactions, receipts });
    }

    /// The block at a height, as the gateway holds it.
    pub(crate) fn block(&self, number: u64) -> Block {
        let header = &self.blocks[usize::try_from(number).unwrap()].header;
        Block {
            number,
            hash: Hash(header.hash_slow()),
            parent: Hash(header.parent_hash),
            time: Timestamp::from_secs(header.timestamp),
        }
    }

    /// The same, with what its header says about its logs.
    pub(crate) fn header(&self, number: u64) -> cryptopay_chain::Header {
        let bloom = self.blocks[usize::try_from(number).unwrap()].header.logs_bloom;
        cryptopay_chain::Header { block: self.block(number), bloom: Some(LogsBloom::from_bytes(bloom.data())) }
    }

    pub(crate) fn head(&self) -> u64 {
        self.blocks.len() as u64 - 1
    }

    /// Everything, for both shops.
    pub(crate) fn query(&self, from: u64, native: bool) -> TransferQuery {
        TransferQuery {
            blocks: (from..=self.head()).map(|number| self.header(number)).collect(),
            contracts: vec![AccountAddress(TOKEN)],
            recipients: vec![AccountAddress(SHOP), AccountAddress(SHOP_2)],
            native,
        }
    }

    /// The truth.
    pub(crate) fn answer(&self, method: &str, params: &Value) -> Reply {
        Ok(match method {
            "eth_chainId" => json!("0x1"),
            "eth_call" => json!(B256::from(U256::from(6))),
            "eth_getBlockByNumber" => match params[0].as_str().unwrap() {
                "latest" => self.shown(self.blocks.last(), &params[1]),
                "safe" => return Err((-32602, "invalid argument 0: hex string without 0x prefix")),
                "finalized" => self.shown(self.blocks.first(), &params[1]),
                number => {
                    let number = usize::from_str_radix(&number[2..], 16).unwrap();
                    self.shown(self.blocks.get(number), &params[1])
                }
            },
            "eth_getBlockByHash" => {
                let hash = params[0].as_str().unwrap();
                let block = self.blocks.iter().find(|block| format!("{:#x}", block.header.hash_slow()) == hash);
                self.shown(block, &params[1])
            }
            "eth_getLogs" => self.logs(&params[0]),
            "eth_getTransactionReceipt" => {
                self.find(|block| &block.receipts, |receipt| receipt["transactionHash"] == params[0])
            }
            "eth_getTransactionByHash" => self.find(|block| &block.transactions, |shown| shown["hash"] == params[0]),
            _ => return Err((-32601, "the method does not exist/is not available")),
        })
    }

    fn shown(&self, block: Option<&Mined>, full: &Value) -> Value {
        let Some(block) = block else { return Value::Null };
        let mut shown = serde_json::to_value(&block.header).unwrap();
        let hashes: Vec<&Value> = block.transactions.iter().map(|tx| &tx["hash"]).collect();
        let transactions = if full == &json!(true) { json!(block.transactions) } else { json!(hashes) };
        merge(
            &mut shown,
            &json!({ "hash": block.header.hash_slow(), "transactions": transactions, "uncles": [], "size": "0x1" }),
        );
        shown
    }

    fn logs(&self, filter: &Value) -> Value {
        let number = |name: &str| filter[name].as_str().map(|text| u64::from_str_radix(&text[2..], 16).unwrap());
        // What is not named is not filtered by.
        let has = |list: &Value, item: &Value| list.as_array().is_none_or(|list| list.contains(item));
        let logs = self
            .blocks
            .iter()
            .filter(|block| match filter["blockHash"].as_str() {
                Some(hash) => format!("{:#x}", block.header.hash_slow()) == hash,
                None => (number("fromBlock").unwrap()..=number("toBlock").unwrap()).contains(&block.header.number),
            })
            .flat_map(|block| &block.receipts)
            .flat_map(|receipt| receipt["logs"].as_array().unwrap())
            .filter(|log| has(&filter["address"], &log["address"]) && has(&filter["topics"][2], &log["topics"][2]));
        json!(logs.collect::<Vec<_>>())
    }

    fn find(&self, list: impl Fn(&Mined) -> &Vec<Value>, wanted: impl Fn(&Value) -> bool) -> Value {
        self.blocks.iter().flat_map(list).find(|item| wanted(item)).cloned().unwrap_or_default()
    }

    /// A client of this node.
    pub(crate) fn client(self) -> EvmClient {
        self.lying(|_, _, truth| truth)
    }

    /// A client of this node, whose every answer goes through `lie` (method, parameters, truth) first.
    pub(crate) fn lying(self, lie: impl FnMut(&str, &Value, Reply) -> Reply + Send + 'static) -> EvmClient {
        EvmClient::over(Scripted(Arc::new(Mutex::new((self, Box::new(lie))))), "scripted", Limits::default())
    }
}

type Lie = Box<dyn FnMut(&str, &Value, Reply) -> Reply + Send>;

#[derive(Clone)]
struct Scripted(Arc<Mutex<(Node, Lie)>>);

impl Scripted {
    fn one(&self, request: &SerializedRequest) -> Response {
        let params: Value = serde_json::from_str(request.params().map_or("[]", |params| params.get())).unwrap();
        let (node, lie) = &mut *self.0.lock().unwrap();
        let truth = node.answer(request.method(), &params);
        let payload = match lie(request.method(), &params, truth) {
            Ok(value) => ResponsePayload::Success(serde_json::value::to_raw_value(&value).unwrap()),
            Err((code, message)) => {
                ResponsePayload::Failure(ErrorPayload { code, message: message.into(), data: None })
            }
        };
        Response { id: request.id().clone(), payload }
    }
}

impl tower::Service<RequestPacket> for Scripted {
    type Response = ResponsePacket;
    type Error = TransportError;
    type Future = TransportFut<'static>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, packet: RequestPacket) -> Self::Future {
        let answer = match packet {
            RequestPacket::Single(request) => ResponsePacket::Single(self.one(&request)),
            // Backwards: a batch may be answered in any order.
            RequestPacket::Batch(requests) => {
                ResponsePacket::Batch(requests.iter().rev().map(|request| self.one(request)).collect())
            }
        };
        Box::pin(async move { Ok(answer) })
    }
}

pub(crate) fn hex(number: u64) -> String {
    format!("{number:#x}")
}

/// Another hash than any that the chain has.
pub(crate) fn other_hash() -> Value {
    json!(keccak256("another"))
}

pub(crate) fn merge(into: &mut Value, from: &Value) {
    for (key, value) in from.as_object().unwrap() {
        into[key] = value.clone();
    }
}
