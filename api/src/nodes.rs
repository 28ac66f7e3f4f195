//! How each served chain is read: its nodes of the configuration, or the simulation.

use std::collections::BTreeMap;
use std::sync::Arc;

use cryptopay_chain::{ChainClient, EvmClient, Limits};
use cryptopay_domain::registry::Chain;
use cryptopay_jobs::ChainAccess;
use cryptopay_sandbox::SimulatedChain;
use sea_orm::DatabaseConnection;

use crate::config::{ChainSource, Chains};
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
        if let Some(client) = client(chain, source, database)? {
            chains.insert(chain.slug.clone(), ChainAccess::new(chain.clone(), client));
        }
    }
    Ok(chains)
}

fn client(
    chain: &Chain,
    source: &ChainSource,
    database: &DatabaseConnection,
) -> Result<Option<Arc<dyn ChainClient>>, StartError> {
    match source {
        ChainSource::Simulated => {
            let transport = SimulatedChain::new(database.clone(), Arc::new(chain.clone()));
            let name = format!("simulated {}", chain.slug);
            Ok(Some(Arc::new(EvmClient::over(transport, name, Limits::default()))))
        }
        ChainSource::Rpc(endpoints) => {
            let slug = chain.slug.to_uppercase();
            let Some(url) = endpoints.http.first() else { return Ok(None) };
            let client = EvmClient::http(url.expose(), Limits::default());
            Ok(Some(Arc::new(client.map_err(|source| StartError::Chain { slug, source })?)))
        }
    }
}
