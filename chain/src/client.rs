//! What the gateway needs of a chain, in its own words.

use std::fmt;
use std::ops::RangeInclusive;

use async_trait::async_trait;
use cryptopay_domain::address::{AccountAddress, Hash};
use cryptopay_domain::registry::FinalityTag;
use cryptopay_domain::transfer::{Block, ObservedTransfer};

use crate::ChainError;

/// One endpoint of one chain.
///
/// Whatever an implementation returns has been checked against everything that the same answer lets one check; what
/// only a second endpoint can tell is the caller's to ask.
#[async_trait]
pub trait ChainClient: Send + Sync + fmt::Debug {
    /// The endpoint's EIP-155 chain id.
    async fn chain_id(&self) -> Result<u64, ChainError>;

    /// The newest block that the endpoint has.
    async fn head(&self) -> Result<Block, ChainError>;

    /// The newest block with this tag; `None` where the endpoint does not know the tag or has no such block yet.
    async fn tagged(&self, tag: FinalityTag) -> Result<Option<Block>, ChainError>;

    /// The block at a height; `None` where the endpoint has none.
    async fn block(&self, number: u64) -> Result<Option<Block>, ChainError>;

    /// Exactly the blocks of a range, ascending and linked by their parent hashes.
    async fn blocks(&self, range: RangeInclusive<u64>) -> Result<Vec<Block>, ChainError>;

    /// Every transfer in the query's blocks that it asks for, ordered by block, transaction index and position.
    async fn transfers(&self, query: &TransferQuery) -> Result<Vec<ObservedTransfer>, ChainError>;

    /// Where a transaction stands; `None` while the endpoint knows no block that holds it.
    async fn inclusion(&self, tx_hash: Hash) -> Result<Option<Inclusion>, ChainError>;

    /// What the contract's own `decimals()` says.
    async fn decimals(&self, contract: AccountAddress) -> Result<u8, ChainError>;
}

/// Which transfers to look for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransferQuery {
    /// The verified blocks to look in: ascending, without gaps, linked.
    pub blocks: Vec<Block>,
    /// Token contracts whose transfers count.
    pub contracts: Vec<AccountAddress>,
    /// Addresses whose income counts.
    pub recipients: Vec<AccountAddress>,
    /// Whether the chain's own coin counts too. Costs the download of every full block.
    pub native: bool,
}

/// The block that holds a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inclusion {
    /// Height.
    pub block_number: u64,
    /// Hash of the block, as the receipt names it.
    pub block_hash: Hash,
    /// Whether the transaction did what it was meant to, or was reverted.
    pub succeeded: bool,
}
