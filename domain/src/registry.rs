//! The registry of chains and tokens, as `chains.toml` states it. Symbols are only ever looked up here: what a contract
//! calls itself means nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Deserialize;

use crate::address::{AccountAddress, Asset};

/// A chain and everything about it that the rules need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Short name in paths and requests, lower case.
    pub slug: String,
    /// Name for people.
    pub name: String,
    /// What exchanges call this network.
    pub exchange_name: String,
    /// Short names of the chain before addresses (EIP-3770), such as `eth` in `eth:0x…`; the current one first.
    pub short_names: Vec<String>,
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// Time between blocks.
    pub block_time: Duration,
    /// Depth at which a payment counts as confirmed.
    pub confirmations: u32,
    /// The tag that counts as confirmed too.
    pub finality: Option<FinalityTag>,
    /// How receipts are encoded in the receipts trie.
    pub receipts: ReceiptEncoding,
    /// How many recent block hashes are kept; a transfer this deep is final.
    pub reorg_depth: u32,
    /// Address of a block explorer, without a slash at the end.
    pub explorer: Option<String>,
    /// RPC endpoints from the file; the environment's come first.
    pub rpc_urls: Vec<String>,
    /// The chain's own coin.
    pub native: Token,
    /// Registered tokens.
    pub tokens: Vec<Token>,
}

/// Something one can be paid in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Symbol in requests, upper or mixed case as it is known.
    pub symbol: String,
    /// Other symbols that mean the same.
    pub aliases: Vec<String>,
    /// What is transferred.
    pub asset: Asset,
    /// Decimals of the contract.
    pub decimals: u8,
    /// Most decimals that an amount to pay may have.
    pub amount_decimals: u8,
    /// Currency that the token keeps the price of.
    pub stable: Option<Stable>,
}

/// Currency of a stablecoin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Stable {
    /// US dollar.
    Usd,
    /// Euro.
    Eur,
}

/// A block tag that an endpoint may vouch with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FinalityTag {
    /// Unlikely to be reorganised.
    Safe,
    /// Final by the chain's consensus.
    Finalized,
}

/// The dialect of a chain's receipts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReceiptEncoding {
    /// As EIP-2718 has it.
    #[default]
    Ethereum,
    /// OP stack: deposits carry two more fields.
    Op,
    /// Arbitrum Nitro.
    Nitro,
    /// Polygon's Bor: state-sync receipts.
    Bor,
}

impl Chain {
    /// Reports whether `name` is a short name of this chain, in any case.
    pub fn has_short_name(&self, name: &str) -> bool {
        self.short_names.iter().any(|known| known.eq_ignore_ascii_case(name))
    }

    /// The token or native coin that a client calls `symbol`, in any case.
    pub fn token(&self, symbol: &str) -> Option<&Token> {
        self.assets().find(|token| token.is_called(symbol))
    }

    /// The entry of an asset.
    pub fn token_of(&self, asset: Asset) -> Option<&Token> {
        self.assets().find(|token| token.asset == asset)
    }

    /// Native coin first, then the tokens.
    pub fn assets(&self) -> impl Iterator<Item = &Token> {
        std::iter::once(&self.native).chain(&self.tokens)
    }

    /// Contracts of the registered tokens.
    pub fn contracts(&self) -> impl Iterator<Item = AccountAddress> {
        self.tokens.iter().filter_map(|token| match token.asset {
            Asset::Token(contract) => Some(contract),
            Asset::Native => None,
        })
    }
}

impl Token {
    /// A token that the registry no longer contains, as orders in it remember it.
    pub fn unregistered(asset: Asset, symbol: &str, decimals: u8) -> Self {
        let amount_decimals = default_decimals(None, decimals);
        Self { symbol: symbol.to_owned(), aliases: Vec::new(), asset, decimals, amount_decimals, stable: None }
    }

    fn is_called(&self, symbol: &str) -> bool {
        self.symbol.eq_ignore_ascii_case(symbol) || self.aliases.iter().any(|alias| alias.eq_ignore_ascii_case(symbol))
    }
}

/// Every chain this gateway serves.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Registry {
    chains: Vec<Chain>,
}

/// What is wrong with a registry file.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// Not TOML, or not of this form.
    #[error("{0}")]
    Syntax(#[from] toml::de::Error),
    /// Well-formed, but it makes no sense.
    #[error("chain \"{slug}\": {problem}")]
    Chain {
        /// Slug of the entry.
        slug: String,
        /// What to mend.
        problem: String,
    },
}

impl Registry {
    /// Reads a file in the form of `chains.toml`.
    pub fn parse(text: &str) -> Result<Self, RegistryError> {
        let file: File = toml::from_str(text)?;
        let chains = file.chain.into_iter().map(Chain::try_from).collect::<Result<Vec<_>, _>>()?;
        let registry = Self { chains };
        registry.check()?;
        Ok(registry)
    }

    /// Lays `over` on top: an entry with a known slug replaces that whole entry, a new one is added.
    pub fn overlay(mut self, over: Self) -> Result<Self, RegistryError> {
        for chain in over.chains {
            match self.chains.iter_mut().find(|known| known.slug == chain.slug) {
                Some(known) => *known = chain,
                None => self.chains.push(chain),
            }
        }
        self.check()?;
        Ok(self)
    }

    /// The chain that a client calls `slug`, in any case.
    pub fn chain(&self, slug: &str) -> Option<&Chain> {
        self.chains.iter().find(|chain| chain.slug.eq_ignore_ascii_case(slug))
    }

    /// All chains in the file's order.
    pub fn chains(&self) -> &[Chain] {
        &self.chains
    }

    fn check(&self) -> Result<(), RegistryError> {
        let mut slugs = BTreeSet::new();
        let mut short_names = BTreeSet::new();
        for chain in &self.chains {
            let fail = |problem: String| Err(RegistryError::Chain { slug: chain.slug.clone(), problem });
            if !slugs.insert(&chain.slug) {
                return fail("there are two entries with this slug".into());
            }
            for name in &chain.short_names {
                if !short_names.insert(name.to_ascii_lowercase()) {
                    return fail(format!("short name \"{name}\" stands in this file twice"));
                }
            }
            let mut symbols = BTreeSet::new();
            let mut contracts = BTreeSet::new();
            for token in chain.assets() {
                for symbol in std::iter::once(&token.symbol).chain(&token.aliases) {
                    if symbol.is_empty() || symbol.len() > 16 || !symbols.insert(symbol.to_ascii_uppercase()) {
                        return fail(format!("symbol \"{symbol}\" is empty, too long or used twice"));
                    }
                }
                if token.decimals > 36 || token.amount_decimals > token.decimals {
                    return fail(format!(
                        "{}: decimals must be at most 36, amount_decimals at most decimals",
                        token.symbol
                    ));
                }
                if !contracts.insert(token.asset) {
                    return fail(format!("{}: this contract stands here twice", token.symbol));
                }
            }
        }
        Ok(())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    chain: Vec<ChainEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChainEntry {
    slug: String,
    name: String,
    exchange_name: Option<String>,
    #[serde(default)]
    short_names: Vec<String>,
    chain_id: u64,
    block_time_ms: u64,
    confirmations: u32,
    finality: Option<FinalityTag>,
    #[serde(default)]
    receipts: ReceiptEncoding,
    reorg_depth: u32,
    explorer: Option<String>,
    #[serde(default)]
    rpc_urls: Vec<String>,
    native: NativeEntry,
    #[serde(default)]
    token: Vec<TokenEntry>,
    /// Where the entry's facts are published. For the reader of the file.
    #[serde(rename = "source")]
    _source: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NativeEntry {
    symbol: String,
    #[serde(default)]
    aliases: Vec<String>,
    decimals: u8,
    amount_decimals: Option<u8>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenEntry {
    symbol: String,
    #[serde(default)]
    aliases: Vec<String>,
    address: String,
    decimals: u8,
    amount_decimals: Option<u8>,
    stable: Option<Stable>,
    #[serde(rename = "source")]
    _source: Option<String>,
}

/// Most decimals of an amount to pay in a stablecoin where the file gives none: a millionth of a dollar.
const STABLE_AMOUNT_DECIMALS: u8 = 6;
/// The same of every other asset, one unit of which may be worth many thousands of dollars.
const AMOUNT_DECIMALS: u8 = 8;
/// Longest slug: it is part of keys, paths and variable names.
const MAX_SLUG_CHARS: usize = 32;
/// Longest short name: with an address behind it, it still fits into the field of an address.
const MAX_SHORT_NAME_CHARS: usize = 20;

/// The form of EIP-3770.
fn is_short_name(name: &str) -> bool {
    (1..=MAX_SHORT_NAME_CHARS).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

impl TryFrom<ChainEntry> for Chain {
    type Error = RegistryError;

    fn try_from(entry: ChainEntry) -> Result<Self, Self::Error> {
        let slug = entry.slug;
        let fail = |problem: &str| RegistryError::Chain { slug: slug.clone(), problem: problem.to_owned() };
        let valid_slug = !slug.is_empty()
            && slug.len() <= MAX_SLUG_CHARS
            && slug.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !valid_slug {
            return Err(fail("a slug has 1 to 32 lower-case letters, digits and hyphens"));
        }
        if entry.chain_id == 0 || i64::try_from(entry.chain_id).is_err() {
            return Err(fail("chain_id must be a positive 63-bit number"));
        }
        if !(50..=600_000).contains(&entry.block_time_ms) {
            return Err(fail("block_time_ms must be between 50 and 600000"));
        }
        if !(1..=10_000).contains(&entry.confirmations) {
            return Err(fail("confirmations must be between 1 and 10000"));
        }
        if !(entry.confirmations..=10_000).contains(&entry.reorg_depth) {
            return Err(fail("reorg_depth must be at least confirmations and at most 10000"));
        }
        if !entry.short_names.iter().all(|name| is_short_name(name)) {
            return Err(fail("a short name has 1 to 20 letters, digits and hyphens"));
        }
        let native = Token {
            symbol: entry.native.symbol,
            aliases: entry.native.aliases,
            asset: Asset::Native,
            decimals: entry.native.decimals,
            amount_decimals: entry.native.amount_decimals.unwrap_or(AMOUNT_DECIMALS.min(entry.native.decimals)),
            stable: None,
        };
        let mut tokens = Vec::with_capacity(entry.token.len());
        for token in entry.token {
            let contract = crate::address::parse_receiving_address(&token.address)
                .map_err(|error| fail(&format!("{}: {error}", token.symbol)))?;
            tokens.push(Token {
                symbol: token.symbol,
                aliases: token.aliases,
                asset: Asset::Token(contract),
                decimals: token.decimals,
                amount_decimals: token
                    .amount_decimals
                    .unwrap_or_else(|| default_decimals(token.stable, token.decimals)),
                stable: token.stable,
            });
        }
        Ok(Self {
            exchange_name: entry.exchange_name.unwrap_or_else(|| entry.name.clone()),
            name: entry.name,
            short_names: entry.short_names,
            chain_id: entry.chain_id,
            block_time: Duration::from_millis(entry.block_time_ms),
            confirmations: entry.confirmations,
            finality: entry.finality,
            receipts: entry.receipts,
            reorg_depth: entry.reorg_depth,
            explorer: entry.explorer.map(|url| url.trim_end_matches('/').to_owned()),
            rpc_urls: entry.rpc_urls,
            native,
            tokens,
            slug,
        })
    }
}

/// Most decimals of an amount to pay in a token of `decimals` where nothing else is said.
fn default_decimals(stable: Option<Stable>, decimals: u8) -> u8 {
    let most = if stable.is_some() { STABLE_AMOUNT_DECIMALS } else { AMOUNT_DECIMALS };
    most.min(decimals)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = r#"
        [[chain]]
        slug = "base"
        name = "Base"
        chain_id = 8453
        block_time_ms = 2000
        confirmations = 12
        reorg_depth = 64
        native = { symbol = "ETH", decimals = 18 }
          [[chain.token]]
          symbol = "USDC"
          address = "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"
          decimals = 6
          stable = "USD"
          [[chain.token]]
          symbol = "WETH"
          address = "0x7ceB23fD6bC0adD59E62ac25578270cFf1b9f619"
          decimals = 18
    "#;

    #[test]
    fn optional_keys_have_their_documented_defaults() {
        let registry = Registry::parse(BASE).unwrap();
        let base = registry.chain("BASE").unwrap();
        assert_eq!(base.exchange_name, "Base");
        assert_eq!(base.native.amount_decimals, 8);
        let [usdc, weth] = ["usdc", "weth"].map(|symbol| base.token(symbol).unwrap());
        assert_eq!((usdc.amount_decimals, usdc.stable), (6, Some(Stable::Usd)));
        assert_eq!((weth.amount_decimals, weth.stable), (8, None));
        assert_eq!(base.receipts, ReceiptEncoding::Ethereum);
    }

    #[test]
    fn an_entry_with_a_known_slug_replaces_the_whole_entry() {
        let over = BASE.replace("USDC", "TEST").replace("12", "3");
        let registry = Registry::parse(BASE).unwrap().overlay(Registry::parse(&over).unwrap()).unwrap();
        let base = registry.chain("base").unwrap();
        assert_eq!((base.confirmations, base.token("USDC").is_none()), (3, true));
        assert!(base.token("TEST").is_some());
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_the_entry_named() {
        for (from, to) in [
            ("\"base\"", "\"Base!\""),
            ("= 12", "= 0"),
            ("= 64", "= 3"),
            ("2000", "1"),
            ("8453", "0"),
            ("913\"", "914\""),
            ("\"USDC\"", "\"ETH\""),
            ("chain_id =", "short_names = [\"ba se\"]\nchain_id ="),
            ("chain_id =", "short_names = [\"base\", \"BASE\"]\nchain_id ="),
            ("decimals = 6", "decimals = 99"),
            ("\"USD\"", "\"usd\""),
        ] {
            assert!(Registry::parse(&BASE.replace(from, to)).is_err(), "{from} -> {to}");
        }
        assert!(Registry::parse("[[chain]]\nslug = 1").is_err());
        assert!(Registry::parse(&BASE.replace("slug =", "colour = 1\nslug =")).is_err());
    }
}
