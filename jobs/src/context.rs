//! What every job and timer of a process works with.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use cryptopay_chain::{ChainClient, Endpoints, Heads};
use cryptopay_domain::registry::{Chain, Registry};
use cryptopay_domain::time::Timestamp;
use cryptopay_entity::webhook_endpoint;
use sea_orm::DatabaseConnection;

use crate::events::Events;
use crate::queue::Queue;
use crate::scan::ScanState;
use crate::webhooks::Claims;
use crate::webhooks::client::WebhookClient;

/// Opens the signing secrets of endpoints, which rest encrypted.
pub trait SigningSecrets: Send + Sync + fmt::Debug {
    /// The secrets to sign with at `now` by business time: the current one first, then the previous one while a rotation
    /// lasts.
    ///
    /// # Errors
    /// A sentence for the delivery's record: the secret was encrypted with a key that this process does not have.
    fn open(&self, endpoint: &webhook_endpoint::Model, now: Timestamp) -> Result<Vec<String>, String>;
}

/// One chain with the endpoints that it is read through.
#[derive(Debug)]
pub struct ChainAccess {
    /// Registry entry.
    pub chain: Chain,
    /// Where it is read.
    pub endpoints: Endpoints,
    /// What tells of new heads.
    pub heads: Vec<Heads>,
    pub(crate) state: ScanState,
}

impl ChainAccess {
    /// A chain read through one `client`.
    pub fn new(chain: Chain, client: Arc<dyn ChainClient>) -> Self {
        let name = chain.slug.clone();
        Self::over(chain, [(name, client)], Vec::new())
    }

    /// A chain read through several endpoints, most trusted first, each under the name that logs call it, and woken by
    /// `heads`.
    pub fn over(
        chain: Chain,
        endpoints: impl IntoIterator<Item = (String, Arc<dyn ChainClient>)>,
        heads: Vec<Heads>,
    ) -> Self {
        let endpoints = Endpoints::new(chain.chain_id, endpoints);
        Self { chain, endpoints, heads, state: ScanState::default() }
    }
}

/// Everything that jobs share.
#[derive(Debug)]
pub struct Context {
    /// The truth.
    pub database: DatabaseConnection,
    /// Chains and tokens.
    pub registry: Arc<Registry>,
    /// Chains that this process can read, by slug.
    pub chains: BTreeMap<String, ChainAccess>,
    /// Nudges.
    pub queue: Queue,
    /// Bus.
    pub events: Events,
    /// Deliveries that this process is sending.
    pub claims: Claims,
    /// Posts webhooks.
    pub webhooks: WebhookClient,
    /// Opens signing secrets.
    pub secrets: Arc<dyn SigningSecrets>,
    /// Name of this process in leases; new at every start.
    pub owner: String,
}
