//! `/api/blockchains/`.

use cryptopay_domain::address::Asset;
use cryptopay_domain::registry::{Chain, Token};
use poem::Request;
use poem::web::Data;
use poem_openapi::param::{Path, Query};
use poem_openapi::{Object, OpenApi};

use super::Tag;
use super::envelope::{Answer, Listed, Success};
use super::pages::ListQuery;
use crate::app::App;
use crate::operations::blockchains::{self, ChainState};

/// The routes.
#[derive(Debug)]
pub struct Blockchains;

/// A chain that payments are taken on.
#[derive(Debug, Clone, Object)]
pub struct Blockchain {
    /// Short name in requests.
    pub slug: String,
    /// Name for people.
    pub name: String,
    /// What exchanges call this network.
    pub exchange_name: String,
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// Confirmations at which a payment counts, unless you set others.
    pub confirmations: u32,
    /// Time between blocks, in milliseconds.
    pub block_time_ms: u64,
    /// Address of a block explorer.
    pub explorer: Option<String>,
    /// What one can be paid in: the native coin first.
    pub tokens: Vec<BlockchainToken>,
    /// Newest verified block; null before the first.
    pub scanned_height: Option<i64>,
    /// Newest block that was seen; null before the first.
    pub head_height: Option<i64>,
    /// Blocks that are not verified yet: those that were seen, and while no endpoint answers, those that the time since the
    /// newest verified block stands for.
    pub lag: Option<u64>,
    /// `ok`, `starting`, `lagging`, `stalled`, `frozen`, `reset` or `unreachable`. A chain that is `starting`, cannot start or was
    /// `reset` takes no orders.
    pub health: String,
    /// What is wrong, in words.
    pub problem: Option<String>,
    /// Whether its blocks are simulated, so that nothing real can be paid.
    pub simulated: bool,
}

/// A token, or the chain's own coin.
#[derive(Debug, Clone, Object)]
pub struct BlockchainToken {
    /// Symbol in requests, in any case.
    pub symbol: String,
    /// Other symbols that mean the same.
    pub aliases: Vec<String>,
    /// Contract; null for the native coin.
    pub address: Option<String>,
    /// Decimals of the contract.
    pub decimals: u8,
    /// Most decimals that an amount to pay has.
    pub amount_decimals: u8,
    /// Whether this is the chain's own coin.
    pub native: bool,
}

#[OpenApi(prefix_path = "/api/blockchains", tag = "Tag::Blockchains")]
impl Blockchains {
    /// List blockchains
    ///
    /// Chains and the tokens that one can be paid in on each, in the operator's order. Needs no token.
    #[oai(path = "/", method = "get", operation_id = "listBlockchains")]
    async fn list(
        &self,
        app: Data<&App>,
        request: &Request,
        /// Page, from 1
        page: Query<Option<String>>,
        /// Items on a page, at most 100; 20 if not said
        page_size: Query<Option<String>>,
    ) -> Answer<Listed<Blockchain>> {
        let _ = (page, page_size);
        let mut query = ListQuery::of(request);
        for name in ["after", "ordering"] {
            if query.get(name).is_some() {
                query.fault(name, "This short list has pages by number only, in the operator's order.");
            }
        }
        query.finish()?;
        let chains = blockchains::list(&app).await?;
        let count = u64::try_from(chains.len()).unwrap_or(u64::MAX);
        let skip = usize::try_from(query.offset()).unwrap_or(usize::MAX);
        let take = usize::try_from(query.limit()).unwrap_or(usize::MAX);
        let results = chains.iter().skip(skip).take(take).map(Blockchain::new).collect();
        Ok(Listed(query.page(count, results)?))
    }

    /// Get a blockchain
    ///
    /// With its tokens, and how far the gateway has read it. Needs no token.
    #[oai(path = "/:slug/", method = "get", operation_id = "getBlockchain")]
    async fn get(
        &self,
        app: Data<&App>,
        /// Slug, in any case
        slug: Path<String>,
    ) -> Answer<Success<Blockchain>> {
        let chain = blockchains::get(&app, &slug).await?;
        Ok(Success(Blockchain::new(&chain), "Success".to_owned()))
    }
}

impl Blockchain {
    /// From a chain and its state.
    pub fn new(state: &ChainState<'_>) -> Self {
        let Chain { slug, name, exchange_name, chain_id, confirmations, block_time, explorer, .. } = state.chain;
        Self {
            slug: slug.clone(),
            name: name.clone(),
            exchange_name: exchange_name.clone(),
            chain_id: *chain_id,
            confirmations: *confirmations,
            block_time_ms: u64::try_from(block_time.as_millis()).unwrap_or(u64::MAX),
            explorer: explorer.clone(),
            tokens: state.chain.assets().map(BlockchainToken::new).collect(),
            scanned_height: state.cursor.as_ref().map(|cursor| cursor.height),
            head_height: state.cursor.as_ref().map(|cursor| cursor.head_height),
            lag: state.lag(),
            health: state.health().to_owned(),
            problem: state.problem().map(str::to_owned),
            simulated: state.simulated,
        }
    }
}

impl BlockchainToken {
    /// From a registry entry.
    pub fn new(token: &Token) -> Self {
        Self {
            symbol: token.symbol.clone(),
            aliases: token.aliases.clone(),
            address: match token.asset {
                Asset::Native => None,
                Asset::Token(contract) => Some(contract.to_string()),
            },
            decimals: token.decimals,
            amount_decimals: token.amount_decimals,
            native: token.asset == Asset::Native,
        }
    }
}
