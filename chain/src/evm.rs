//! The one [`ChainClient`]: JSON-RPC as Ethereum's execution clients speak it, over HTTP or any transport it is handed.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use alloy::primitives::{B256, Bytes, U256};
use alloy::transports::{BoxTransport, IntoBoxTransport};
use async_trait::async_trait;
use cryptopay_domain::address::{AccountAddress, Hash};
use cryptopay_domain::registry::FinalityTag;
use cryptopay_domain::transfer::{Block, ObservedTransfer};
use serde_json::json;
use serde_json::value::RawValue;
use url::Url;

use crate::blocks::{self, HeaderHashes, Read};
use crate::classify::is_unknown_tag;
use crate::evidence::Gathered;
use crate::http::{HttpTransport, origin, secrets};
use crate::logs::{ASK_AGAIN, MAX_RECIPIENTS_PER_FILTER};
use crate::rpc::{Call, Rpc, is_null, malformed, parse, untrue};
use crate::signature::{SentSignature, Testimony};
use crate::{
    ChainClient, ChainError, Header, Inclusion, Search, Tip, Traffic, TransferQuery, Witness, evidence, logs, metrics,
    native,
};

/// Most blocks of one [`ChainClient::blocks`] or [`ChainClient::transfers`]: bounds what one step holds in memory.
const MAX_BLOCKS: u64 = 10_000;
const BY_NUMBER: &str = "eth_getBlockByNumber";
pub(crate) const CHAIN_ID: &str = "eth_chainId";
/// Fewest recipients that a filter is shrunk to.
const MIN_RECIPIENTS_PER_FILTER: usize = 10;

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
    /// Height from which headers are taken that do not hash again; none where it is the largest number.
    trusts_headers_from: AtomicU64,
    /// Whether the headers' filters have been found to leave out logs of this chain.
    distrusts_blooms: AtomicBool,
    /// Recipients in one filter; halves for good when the endpoint refuses one as too large.
    most_recipients: AtomicUsize,
    /// The chain id that it said last; 0 before it was asked.
    last_id: AtomicU64,
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

    /// Whether every block hash that this client returns was computed again from its header.
    pub fn verifies_header_hashes(&self) -> bool {
        self.trusts_headers_from.load(Ordering::Relaxed) == u64::MAX
    }

    /// Reads a block's header as far as it can be believed; counts those that are taken on trust.
    pub(crate) fn header(&self, method: &'static str, answer: &RawValue) -> Result<Option<Read>, ChainError> {
        let hashes = match self.trusts_headers_from.load(Ordering::Relaxed) {
            u64::MAX => HeaderHashes::Verified,
            from => HeaderHashes::TrustedFrom(from),
        };
        let read = blocks::read(method, answer, hashes)?;
        if read.as_ref().is_some_and(|read| read.header.bloom.is_none()) {
            metrics::unverified_header(&self.name);
        }
        Ok(read)
    }

    fn new(name: String, transport: BoxTransport, secrets: Vec<String>, limits: Limits) -> Self {
        let rpc = Rpc::new(&name, transport, secrets, limits.timeout, limits.max_batch_calls);
        Self {
            name,
            rpc,
            trusts_headers_from: AtomicU64::new(u64::MAX),
            distrusts_blooms: AtomicBool::new(false),
            most_recipients: AtomicUsize::new(MAX_RECIPIENTS_PER_FILTER),
            last_id: AtomicU64::new(0),
        }
    }

    pub(crate) fn most_recipients(&self) -> usize {
        self.most_recipients.load(Ordering::Relaxed)
    }

    /// Asks for half as many recipients at once from now on; `false` where that is too few already.
    pub(crate) fn halve_filters(&self) -> bool {
        let half = self.most_recipients() / 2;
        if half < MIN_RECIPIENTS_PER_FILTER {
            return false;
        }
        self.most_recipients.store(half, Ordering::Relaxed);
        true
    }

    pub(crate) fn trusts_blooms(&self) -> bool {
        !self.distrusts_blooms.load(Ordering::Relaxed)
    }

    /// Reads a chain id, and refuses one that is another than this endpoint's last.
    pub(crate) fn check_id(&self, answer: &RawValue) -> Result<(), ChainError> {
        let (expected, found) = (self.last_id.load(Ordering::Relaxed), read_id(answer)?);
        if expected != 0 && expected != found {
            return Err(ChainError::WrongChain { expected, found });
        }
        Ok(())
    }

    pub(crate) fn note_id(&self, answer: &RawValue) -> Result<u64, ChainError> {
        let id = read_id(answer)?;
        self.last_id.store(id, Ordering::Relaxed);
        Ok(id)
    }

    /// The headers of a range that are there and true, each under the height that was asked for.
    async fn headers(&self, calls: &[Call], numbers: &[u64]) -> Result<Vec<Header>, ChainError> {
        let answers = self.rpc.grouped(calls, 1, usize::MAX).await?;
        let mut found = Vec::with_capacity(answers.len());
        for (number, answer) in numbers.iter().zip(&answers) {
            found.push(self.numbered(*number, answer)?.ok_or(ChainError::BlockMissing { number: *number })?);
        }
        blocks::check_links(&found)?;
        Ok(found)
    }

    /// Reads the answer to a question for one height.
    fn numbered(&self, number: u64, answer: &RawValue) -> Result<Option<Header>, ChainError> {
        let Some(read) = self.header(BY_NUMBER, answer)? else { return Ok(None) };
        if read.header.number != number {
            let what = format!("asked for block {number}, it sent block {}", read.header.number);
            return Err(untrue(BY_NUMBER, what));
        }
        Ok(Some(read.header))
    }

    async fn at(&self, tag_or_number: String) -> Result<Option<Read>, ChainError> {
        let answer = self.rpc.one(BY_NUMBER, json!([tag_or_number, false])).await?;
        self.header(BY_NUMBER, &answer)
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

fn read_id(answer: &RawValue) -> Result<u64, ChainError> {
    let id: U256 = parse(CHAIN_ID, answer)?;
    let id = u64::try_from(id).map_err(|_| malformed(CHAIN_ID, "it has more than 64 bits"))?;
    if id == 0 { Err(malformed(CHAIN_ID, "no chain has the id 0")) } else { Ok(id) }
}

fn tag_call(tag: FinalityTag) -> Call {
    let tag = match tag {
        FinalityTag::Safe => "safe",
        FinalityTag::Finalized => "finalized",
    };
    Call { method: BY_NUMBER, params: json!([tag, false]) }
}

#[async_trait]
impl ChainClient for EvmClient {
    async fn chain_id(&self) -> Result<u64, ChainError> {
        self.note_id(&self.rpc.one(CHAIN_ID, json!([])).await?)
    }

    async fn head(&self) -> Result<Header, ChainError> {
        let head = self.at("latest".into()).await?;
        head.map(|read| read.header).ok_or_else(|| malformed(BY_NUMBER, "the node has no newest block"))
    }

    async fn tip(&self, tag: Option<FinalityTag>) -> Result<Tip, ChainError> {
        let latest = Call { method: BY_NUMBER, params: json!(["latest", false]) };
        let mut calls = vec![Call { method: CHAIN_ID, params: json!([]) }, latest];
        calls.extend(tag.map(tag_call));
        let mut answers = self.rpc.each(&calls).await?.into_iter();
        let missing = || malformed(BY_NUMBER, "it is missing from the batch");
        let chain_id = self.note_id(&answers.next().ok_or_else(missing)??)?;
        let head = self.header(BY_NUMBER, &answers.next().ok_or_else(missing)??)?;
        let head = head.ok_or_else(|| malformed(BY_NUMBER, "the node has no newest block"))?.header;
        // Depth decides where there is no tag.
        let tagged = answers.next().and_then(Result::ok);
        let tagged = tagged.and_then(|answer| self.header(BY_NUMBER, &answer).ok().flatten());
        Ok(Tip { chain_id, head, tagged: tagged.map(|read| read.header.block) })
    }

    async fn tagged(&self, tag: FinalityTag) -> Result<Option<Block>, ChainError> {
        let call = tag_call(tag);
        let read = match self.rpc.one(call.method, call.params).await {
            Ok(answer) => self.header(BY_NUMBER, &answer),
            Err(error) => Err(error),
        };
        match read {
            Ok(read) => Ok(read.map(|read| read.header.block)),
            Err(error) if is_unknown_tag(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn block(&self, number: u64) -> Result<Option<Block>, ChainError> {
        let call = header_call(number);
        let answer = self.rpc.one(call.method, call.params).await?;
        Ok(self.numbered(number, &answer)?.map(|header| header.block))
    }

    async fn witness(&self, numbers: &[u64]) -> Result<Witness, ChainError> {
        let mut calls = vec![Call { method: CHAIN_ID, params: json!([]) }];
        calls.extend(numbers.iter().map(|number| header_call(*number)));
        let answers = self.rpc.grouped(&calls, 1, usize::MAX).await?;
        let Some((id, answers)) = answers.split_first() else { return Err(malformed(CHAIN_ID, "there is none")) };
        let chain_id = self.note_id(id)?;
        let mut blocks = Vec::with_capacity(numbers.len());
        for (number, answer) in numbers.iter().zip(answers) {
            blocks.push(self.numbered(*number, answer)?.map(|header| header.block));
        }
        Ok(Witness { chain_id, blocks })
    }

    async fn blocks(&self, range: RangeInclusive<u64>) -> Result<Vec<Header>, ChainError> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        if range.end().abs_diff(*range.start()) >= MAX_BLOCKS {
            return Err(ChainError::RangeTooLarge { limit: Some(MAX_BLOCKS) });
        }
        let calls: Vec<Call> = range.clone().map(header_call).collect();
        let numbers: Vec<u64> = range.collect();
        let mut again = 0..ASK_AGAIN;
        loop {
            match self.headers(&calls, &numbers).await {
                Err(error) if error.is_behind() && again.next().is_some() => {}
                other => return other,
            }
        }
    }

    async fn transfers(&self, query: &TransferQuery) -> Result<Vec<ObservedTransfer>, ChainError> {
        self.search(query).await.map(|search| search.transfers)
    }

    async fn search(&self, query: &TransferQuery) -> Result<Search, ChainError> {
        if u64::try_from(query.blocks.len()).map_or(true, |blocks| blocks > MAX_BLOCKS) {
            return Err(ChainError::RangeTooLarge { limit: Some(MAX_BLOCKS) });
        }
        if blocks::check_links(&query.blocks).is_err() {
            return Err(ChainError::Query("its blocks are not a linked chain"));
        }
        let Some(last) = query.blocks.last() else { return Ok(Search::default()) };
        let found = async {
            let mut found = logs::find(self, query).await?;
            if query.native {
                found.hits.extend(native::find(self, query, found.full.as_deref()).await?);
            }
            let Gathered { transfers, unverifiable } = evidence::gather(self, found.hits, last).await?;
            let is_denied = |transfer: &&ObservedTransfer| {
                transfer.log_index.is_some() && found.denied.contains(&(transfer.block.number, transfer.to.0))
            };
            let denied =
                transfers.iter().filter(is_denied).map(|transfer| (transfer.tx_hash, transfer.position)).collect();
            Ok(Search { transfers, unproven: found.unproven, denied, unverifiable, left_out: found.left_out })
        };
        match found.await {
            Err(ChainError::BodyTooLarge { .. }) if query.blocks.len() > 1 => {
                Err(ChainError::RangeTooLarge { limit: None })
            }
            other => other,
        }
    }

    fn trust_header_hashes(&self, from: u64) {
        if self.trusts_headers_from.fetch_min(from, Ordering::Relaxed) > from {
            tracing::warn!(
                endpoint = self.name,
                from_block = from,
                "block hashes of this endpoint cannot be verified; its word is taken"
            );
        }
    }

    fn distrust_blooms(&self, number: u64) {
        if !self.distrusts_blooms.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                endpoint = self.name,
                block_number = number,
                "two endpoints tell of a log that its block's filter denies; the filters of this chain are not relied on"
            );
        }
    }

    async fn inclusion(&self, tx_hash: Hash) -> Result<Option<Inclusion>, ChainError> {
        Ok(evidence::inclusions(self, &[tx_hash]).await?.pop().flatten())
    }

    async fn inclusions(&self, tx_hashes: &[Hash]) -> Result<Vec<Option<Inclusion>>, ChainError> {
        evidence::inclusions(self, tx_hashes).await
    }

    async fn decimals(&self, contract: AccountAddress) -> Result<u8, ChainError> {
        let method = "eth_call";
        // The selector of decimals().
        let call = json!([{ "to": contract.to_key(), "data": "0x313ce567" }, "latest"]);
        let answer = self.rpc.one(method, call).await?;
        if is_null(&answer) {
            return Err(malformed(method, "it is null"));
        }
        let answer: Bytes = parse(method, &answer)?;
        if answer.is_empty() {
            return Err(malformed(method, "it is empty: the chain has no contract at this address"));
        }
        let word =
            B256::try_from(answer.as_ref()).map_err(|_| malformed(method, "decimals() is no word of 32 bytes"))?;
        u8::try_from(U256::from_be_bytes(word.0)).map_err(|_| malformed(method, "decimals() is larger than 255"))
    }

    async fn ask_contract(
        &self,
        contract: AccountAddress,
        hash: Hash,
        signature: &SentSignature,
    ) -> Result<Testimony, ChainError> {
        Self::ask_contract(self, contract, hash, signature).await
    }

    fn traffic(&self) -> Traffic {
        self.rpc.traffic()
    }
}
