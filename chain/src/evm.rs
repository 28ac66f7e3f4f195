//! The one [`ChainClient`]: JSON-RPC as Ethereum's execution clients speak it, over HTTP or any transport it is handed.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use alloy::primitives::{B256, U256};
use alloy::transports::{BoxTransport, IntoBoxTransport};
use async_trait::async_trait;
use cryptopay_domain::address::{AccountAddress, Hash};
use cryptopay_domain::registry::FinalityTag;
use cryptopay_domain::transfer::{Block, ObservedTransfer};
use serde_json::json;
use url::Url;

use crate::blocks::{self, HeaderHashes, Read};
use crate::classify::is_unknown_tag;
use crate::http::{HttpTransport, origin, secrets};
use crate::rpc::{Call, Rpc, is_null, malformed, parse, untrue};
use crate::{ChainClient, ChainError, Inclusion, TransferQuery, evidence, logs, native};

/// Most blocks of one [`ChainClient::blocks`] or [`ChainClient::transfers`]: bounds what one step holds in memory.
const MAX_BLOCKS: u64 = 10_000;
const BY_NUMBER: &str = "eth_getBlockByNumber";

/// What an endpoint may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest wait for a complete answer.
    pub timeout: Duration,
    /// Most bytes of an HTTP answer, counted while it streams in.
    pub max_body_bytes: usize,
    /// Most calls in one batch. Shrinks by itself when an endpoint refuses a batch as too large.
    pub max_batch_calls: usize,
}

impl Default for Limits {
    /// 10 s, 64 MiB, 50 calls.
    fn default() -> Self {
        Self { timeout: Duration::from_secs(10), max_body_bytes: 64 * 1024 * 1024, max_batch_calls: 50 }
    }
}

/// One endpoint of an EVM chain.
pub struct EvmClient {
    name: String,
    pub(crate) rpc: Rpc,
    trusts_header_hashes: AtomicBool,
}

impl EvmClient {
    /// An endpoint behind an HTTP(S) URL. Nothing is sent yet.
    ///
    /// # Errors
    /// [`ChainError::Endpoint`] if the URL is not HTTP(S) or TLS cannot be set up.
    pub fn http(url: &Url, limits: Limits) -> Result<Self, ChainError> {
        let transport = HttpTransport::new(url, &limits)?;
        Ok(Self::new(origin(url), transport.into_box_transport(), secrets(url), limits))
    }

    /// An endpoint behind any transport. `name` is what logs call it.
    pub fn over<T: IntoBoxTransport>(transport: T, name: impl Into<String>, limits: Limits) -> Self {
        Self::new(name.into(), transport.into_box_transport(), Vec::new(), limits)
    }

    /// What logs call this endpoint: of a URL, no more than scheme, host and port.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// From now on takes this endpoint's word for its block hashes where they do not hash again: for a chain whose
    /// headers have a shape that we do not know, which is so when two endpoints agree to differ from us. The caller
    /// then compares the hashes of two endpoints instead. Holds for the life of this client.
    pub fn trust_header_hashes(&self) {
        if !self.trusts_header_hashes.swap(true, Ordering::Relaxed) {
            tracing::warn!(endpoint = self.name, "block hashes of this endpoint cannot be verified; its word is taken");
        }
    }

    /// Whether every block hash that this client returns was computed again from its header.
    pub fn verifies_header_hashes(&self) -> bool {
        !self.trusts_header_hashes.load(Ordering::Relaxed)
    }

    fn new(name: String, transport: BoxTransport, secrets: Vec<String>, limits: Limits) -> Self {
        let rpc = Rpc::new(&name, transport, secrets, limits.timeout, limits.max_batch_calls);
        Self { name, rpc, trusts_header_hashes: AtomicBool::new(false) }
    }

    pub(crate) fn header_hashes(&self) -> HeaderHashes {
        if self.verifies_header_hashes() { HeaderHashes::Verified } else { HeaderHashes::Trusted }
    }

    async fn at(&self, tag_or_number: String) -> Result<Option<Read>, ChainError> {
        let answer = self.rpc.one(BY_NUMBER, json!([tag_or_number, false])).await?;
        blocks::read(BY_NUMBER, &answer, self.header_hashes())
    }
}

impl fmt::Debug for EvmClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EvmClient").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A number as JSON-RPC writes it.
pub(crate) fn quantity(number: u64) -> String {
    format!("{number:#x}")
}

/// The call for a block's header by height.
pub(crate) fn header_call(number: u64) -> Call {
    Call { method: BY_NUMBER, params: json!([quantity(number), false]) }
}

#[async_trait]
impl ChainClient for EvmClient {
    async fn chain_id(&self) -> Result<u64, ChainError> {
        let method = "eth_chainId";
        let id: U256 = parse(method, &self.rpc.one(method, json!([])).await?)?;
        u64::try_from(id).map_err(|_| malformed(method, "it has more than 64 bits"))
    }

    async fn head(&self) -> Result<Block, ChainError> {
        let head = self.at("latest".into()).await?;
        head.map(|read| read.block).ok_or_else(|| malformed(BY_NUMBER, "the node has no newest block"))
    }

    async fn tagged(&self, tag: FinalityTag) -> Result<Option<Block>, ChainError> {
        let tag = match tag {
            FinalityTag::Safe => "safe",
            FinalityTag::Finalized => "finalized",
        };
        match self.at(tag.into()).await {
            Ok(read) => Ok(read.map(|read| read.block)),
            Err(error) if is_unknown_tag(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn block(&self, number: u64) -> Result<Option<Block>, ChainError> {
        let Some(read) = self.at(quantity(number)).await? else { return Ok(None) };
        if read.block.number != number {
            return Err(untrue(BY_NUMBER, format!("asked for block {number}, it sent block {}", read.block.number)));
        }
        Ok(Some(read.block))
    }

    async fn blocks(&self, range: RangeInclusive<u64>) -> Result<Vec<Block>, ChainError> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        if range.end().abs_diff(*range.start()) >= MAX_BLOCKS {
            return Err(ChainError::RangeTooLarge { limit: Some(MAX_BLOCKS) });
        }
        let calls: Vec<Call> = range.clone().map(header_call).collect();
        let answers = self.rpc.grouped(&calls, 1, usize::MAX).await?;
        let mut found = Vec::with_capacity(answers.len());
        for (number, answer) in range.zip(&answers) {
            let read =
                blocks::read(BY_NUMBER, answer, self.header_hashes())?.ok_or(ChainError::BlockMissing { number })?;
            if read.block.number != number {
                return Err(untrue(
                    BY_NUMBER,
                    format!("asked for block {number}, it sent block {}", read.block.number),
                ));
            }
            found.push(read.block);
        }
        blocks::check_links(&found)?;
        Ok(found)
    }

    async fn transfers(&self, query: &TransferQuery) -> Result<Vec<ObservedTransfer>, ChainError> {
        if u64::try_from(query.blocks.len()).map_or(true, |blocks| blocks > MAX_BLOCKS) {
            return Err(ChainError::RangeTooLarge { limit: Some(MAX_BLOCKS) });
        }
        if blocks::check_links(&query.blocks).is_err() {
            return Err(ChainError::Query("its blocks are not a linked chain"));
        }
        let found = async {
            let mut hits = logs::find(self, query).await?;
            if query.native {
                hits.extend(native::find(self, query).await?);
            }
            evidence::gather(self, hits).await
        };
        match found.await {
            Err(ChainError::BodyTooLarge { .. }) if query.blocks.len() > 1 => {
                Err(ChainError::RangeTooLarge { limit: None })
            }
            other => other,
        }
    }

    async fn inclusion(&self, tx_hash: Hash) -> Result<Option<Inclusion>, ChainError> {
        evidence::inclusion(self, tx_hash).await
    }

    async fn decimals(&self, contract: AccountAddress) -> Result<u8, ChainError> {
        let method = "eth_call";
        // The selector of decimals().
        let call = json!([{ "to": contract.to_key(), "data": "0x313ce567" }, "latest"]);
        let answer = self.rpc.one(method, call).await?;
        if is_null(&answer) {
            return Err(malformed(method, "it is null"));
        }
        let word: B256 = parse(method, &answer)?;
        u8::try_from(U256::from_be_bytes(word.0)).map_err(|_| malformed(method, "decimals() is larger than 255"))
    }
}
