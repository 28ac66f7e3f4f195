//! What the gateway needs of a chain, in its own words.

use std::fmt;
use std::ops::{Deref, RangeInclusive};

use async_trait::async_trait;
use cryptopay_domain::address::{AccountAddress, Asset, Hash};
use cryptopay_domain::registry::FinalityTag;
use cryptopay_domain::transfer::{Block, ObservedTransfer, Position, UnverifiableTransfer};
use cryptopay_domain::units::Units;

use crate::signature::{SentSignature, Testimony};
use crate::{ChainError, LogsBloom};

/// One endpoint of one chain.
///
/// Whatever an implementation returns has been checked against everything that the same answer lets one check; what
/// only a second endpoint can tell is the caller's to ask.
#[async_trait]
pub trait ChainClient: Send + Sync + fmt::Debug {
    /// The endpoint's EIP-155 chain id.
    async fn chain_id(&self) -> Result<u64, ChainError>;

    /// The newest block that the endpoint has.
    async fn head(&self) -> Result<Header, ChainError>;

    /// Who the endpoint is, its newest block, and the block with a tag, all in one answer where the endpoint can.
    async fn tip(&self, tag: Option<FinalityTag>) -> Result<Tip, ChainError> {
        let chain_id = self.chain_id().await?;
        let head = self.head().await?;
        let tagged = match tag {
            Some(tag) => self.tagged(tag).await.ok().flatten(),
            None => None,
        };
        Ok(Tip { chain_id, head, tagged })
    }

    /// The newest block with this tag; `None` where the endpoint does not know the tag or has no such block yet.
    async fn tagged(&self, tag: FinalityTag) -> Result<Option<Block>, ChainError>;

    /// The block at a height; `None` where the endpoint has none.
    async fn block(&self, number: u64) -> Result<Option<Block>, ChainError>;

    /// Who the endpoint is and the blocks at these heights, `None` where it has none: what it bears witness to.
    async fn witness(&self, numbers: &[u64]) -> Result<Witness, ChainError> {
        let chain_id = self.chain_id().await?;
        let mut blocks = Vec::with_capacity(numbers.len());
        for number in numbers {
            blocks.push(self.block(*number).await?);
        }
        Ok(Witness { chain_id, blocks })
    }

    /// Exactly the blocks of a range, ascending and linked by their parent hashes.
    async fn blocks(&self, range: RangeInclusive<u64>) -> Result<Vec<Header>, ChainError>;

    /// Every transfer in the query's blocks that it asks for, ordered by block, transaction index and position.
    async fn transfers(&self, query: &TransferQuery) -> Result<Vec<ObservedTransfer>, ChainError>;

    /// The same, with what the endpoint's own answers cannot prove.
    async fn search(&self, query: &TransferQuery) -> Result<Search, ChainError> {
        Ok(Search { transfers: self.transfers(query).await?, ..Search::default() })
    }

    /// From this height on takes the endpoint's word for block hashes that do not hash again: a chain whose headers have a
    /// shape that we do not know, as after a fork. Nothing of such a header is evidence, so that a second endpoint is asked
    /// about everything in its block.
    fn trust_header_hashes(&self, from: u64) {
        let _ = from;
    }

    /// From now on the filters of this chain's headers are not relied on: two endpoints have told of a log that one denies.
    fn distrust_blooms(&self, number: u64) {
        let _ = number;
    }

    /// Where a transaction stands; `None` while the endpoint knows no block that holds it.
    async fn inclusion(&self, tx_hash: Hash) -> Result<Option<Inclusion>, ChainError>;

    /// The same of many, in the order of the question: few packets where the endpoint can.
    async fn inclusions(&self, tx_hashes: &[Hash]) -> Result<Vec<Option<Inclusion>>, ChainError> {
        let mut found = Vec::with_capacity(tx_hashes.len());
        for tx_hash in tx_hashes {
            found.push(self.inclusion(*tx_hash).await?);
        }
        Ok(found)
    }

    /// What the contract's own `decimals()` says.
    async fn decimals(&self, contract: AccountAddress) -> Result<u8, ChainError>;

    /// Whether a contract wallet accepts a signature (EIP-1271), and who says so.
    async fn ask_contract(
        &self,
        contract: AccountAddress,
        hash: Hash,
        signature: &SentSignature,
    ) -> Result<Testimony, ChainError> {
        let _ = (contract, hash, signature);
        Err(ChainError::MethodMissing { method: "eth_call" })
    }

    /// How much has been asked of this endpoint so far.
    fn traffic(&self) -> Traffic {
        Traffic::default()
    }
}

/// A block, and what its header says about the logs in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The block.
    pub block: Block,
    /// The filter of its logs; `None` where the header does not hash to its own name, so that nothing of it is evidence.
    pub bloom: Option<LogsBloom>,
}

impl From<Block> for Header {
    /// A block of whose header nothing is known.
    fn from(block: Block) -> Self {
        Self { block, bloom: None }
    }
}

impl Deref for Header {
    type Target = Block;

    fn deref(&self) -> &Block {
        &self.block
    }
}

/// What an endpoint shows of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tip {
    /// Its EIP-155 chain id.
    pub chain_id: u64,
    /// Its newest block.
    pub head: Header,
    /// The block with the tag that was asked for, if it has one.
    pub tagged: Option<Block>,
}

/// What an endpoint says about some heights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witness {
    /// Its EIP-155 chain id.
    pub chain_id: u64,
    /// Its blocks, in the order of the question.
    pub blocks: Vec<Option<Block>>,
}

/// What a search has found, and what it could not prove.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Search {
    /// The transfers, ordered by block, transaction index and position.
    pub transfers: Vec<ObservedTransfer>,
    /// Heights of blocks that may hold more: their headers do not deny it, and say too little to hold the endpoint to it.
    pub unproven: Vec<u64>,
    /// Those of the transfers whose logs their block's verified header denies, by transaction and position.
    pub denied: Vec<(Hash, Position)>,
    /// Transfers that are reported and cannot be verified, each with its reason.
    pub unverifiable: Vec<UnverifiableTransfer>,
    /// Logs that the endpoint's first answer left out and its headers gave away.
    pub left_out: usize,
}

/// What an endpoint was asked, since this process started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Packets sent; one holds one or many calls.
    pub requests: u64,
    /// Calls in them.
    pub calls: u64,
    /// Packets without a usable answer.
    pub failures: u64,
}

/// Which transfers to look for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransferQuery {
    /// The verified blocks to look in: ascending, without gaps, linked.
    pub blocks: Vec<Header>,
    /// Token contracts whose transfers count.
    pub contracts: Vec<AccountAddress>,
    /// Addresses whose income counts.
    pub recipients: Vec<AccountAddress>,
    /// Whether the chain's own coin counts too. Costs the download of every full block.
    pub native: bool,
}

/// The block that holds a transaction, and what the transaction does there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inclusion {
    /// Height.
    pub block_number: u64,
    /// Hash of the block, as the receipt names it.
    pub block_hash: Hash,
    /// Whether the transaction did what it was meant to, or was reverted.
    pub succeeded: bool,
    /// Transfers of tokens that its receipt shows, and what it sends in coins itself; none of one that was reverted.
    pub transfers: Vec<ShownTransfer>,
}

/// A transfer as its transaction shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShownTransfer {
    /// Place in the transaction.
    pub position: Position,
    /// Token, or the chain's own coin.
    pub asset: Asset,
    /// Who loses.
    pub from: AccountAddress,
    /// Who gets.
    pub to: AccountAddress,
    /// How much, in base units.
    pub units: Units,
}
