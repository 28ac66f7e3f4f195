//! How each served chain is read: its nodes of the configuration, or the simulation.

use std::collections::BTreeMap;
use std::sync::Arc;

use cryptopay_chain::{ChainClient, ChainError, EvmClient, Heads, Limits};
use cryptopay_domain::registry::Chain;
use cryptopay_jobs::ChainAccess;
use cryptopay_sandbox::SimulatedChain;
use sea_orm::DatabaseConnection;

use crate::config::{ChainSource, Chains, RpcEndpoints};
use crate::gateway::StartError;

/// Every chain that this process can read, by slug. Nothing is sent yet.
///
/// # Errors
/// An RPC URL that cannot be used at all.
pub(crate) fn chains(
    config: &Chains,
    database: &DatabaseConnection,
) -> Result<BTreeMap<String, ChainAccess>, StartError> {
    let mut chains = BTreeMap::new();
    for (chain, source) in config.served() {
        let access = match source {
            ChainSource::Simulated => {
                let transport = SimulatedChain::new(database.clone(), Arc::new(chain.clone()));
                let name = format!("simulated {}", chain.slug);
                ChainAccess::new(chain.clone(), Arc::new(EvmClient::over(transport, name, Limits::default())))
            }
            ChainSource::Rpc(urls) => nodes(chain, urls)
                .map_err(|source| StartError::Chain { slug: chain.slug.to_uppercase().replace('-', "_"), source })?,
        };
        chains.insert(chain.slug.clone(), access);
    }
    Ok(chains)
}

/// A chain that is read from nodes. Two keys of one provider are two endpoints, and are told apart by their numbers.
fn nodes(chain: &Chain, urls: &RpcEndpoints) -> Result<ChainAccess, ChainError> {
    let mut endpoints: Vec<(String, Arc<dyn ChainClient>)> = Vec::with_capacity(urls.http.len());
    for url in &urls.http {
        let client = EvmClient::http(url.expose(), Limits::default())?;
        let host = client.name().to_owned();
        let same = endpoints.iter().filter(|(name, _)| name.split(' ').next() == Some(host.as_str())).count();
        let name = if same == 0 { host } else { format!("{host} ({})", same.saturating_add(1)) };
        endpoints.push((name, Arc::new(client)));
    }
    let heads = urls.ws.iter().map(|url| Heads::new(url.expose())).collect::<Result<_, _>>()?;
    Ok(ChainAccess::over(chain.clone(), endpoints, heads))
}
