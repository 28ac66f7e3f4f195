#![doc = include_str!("../README.md")]

mod blocks;
mod bloom;
mod classify;
mod client;
mod endpoints;
mod error;
mod evidence;
mod evm;
mod heads;
mod http;
mod logs;
pub mod metrics;
mod native;
mod packet;
pub mod probe;
mod rpc;
pub mod signature;

pub use bloom::LogsBloom;
pub use client::{ChainClient, Header, Inclusion, Search, ShownTransfer, Tip, Traffic, TransferQuery, Witness};
pub use endpoints::{BatchSize, Endpoint, EndpointHealth, Endpoints, Hurry};
pub use error::ChainError;
pub use evm::{EvmClient, Limits};
pub use heads::{Ended, Heads};

use cryptopay_domain::registry::{Registry, RegistryError};

/// The registry that is compiled in: `chains.toml` at the root of the repository.
pub const BUILT_IN_CHAINS: &str = include_str!("../../chains.toml");

/// The compiled-in registry, parsed and checked.
///
/// # Errors
/// Only if `chains.toml` was broken when this was compiled; a test sees to it that it is not.
pub fn built_in_registry() -> Result<Registry, RegistryError> {
    Registry::parse(BUILT_IN_CHAINS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_registry_has_exactly_the_documented_chains_and_symbols() {
        let registry = built_in_registry().unwrap();
        let found: Vec<(&str, u64, Vec<&str>)> = registry
            .chains()
            .iter()
            .map(|chain| {
                (chain.slug.as_str(), chain.chain_id, chain.assets().map(|token| token.symbol.as_str()).collect())
            })
            .collect();
        assert_eq!(
            found,
            [
                ("ethereum", 1, vec!["ETH", "USDC", "USDT", "DAI"]),
                ("base", 8453, vec!["ETH", "USDC", "cbBTC"]),
                ("polygon", 137, vec!["POL", "USDC", "USDT", "WETH"]),
                ("bsc", 56, vec!["BNB", "USDC", "USDT", "BUSD"]),
                ("arbitrum", 42161, vec!["ETH", "USDC", "ARB"]),
            ]
        );
    }

    #[test]
    fn matic_still_means_pol_and_bsc_dollars_have_eighteen_decimals() {
        let registry = built_in_registry().unwrap();
        assert_eq!(registry.chain("polygon").unwrap().token("matic").unwrap().symbol, "POL");
        let bsc = registry.chain("bsc").unwrap();
        assert!(["USDC", "USDT", "BUSD"].iter().all(|symbol| bsc.token(symbol).unwrap().decimals == 18));
    }

    #[test]
    fn every_chain_and_token_names_its_public_source() {
        let entries = BUILT_IN_CHAINS.lines().filter(|line| line.trim_start().starts_with("[[chain")).count();
        let sources =
            BUILT_IN_CHAINS.lines().filter(|line| line.trim_start().starts_with("source = \"https://")).count();
        assert_eq!(sources, entries);
    }
}
