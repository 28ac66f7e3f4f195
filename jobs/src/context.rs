//! What every job and timer of a process works with.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use cryptopay_chain::{ChainClient, Endpoints, Heads};
use cryptopay_domain::registry::{Chain, Registry};
use cryptopay_domain::time::Timestamp;
use cryptopay_entity::webhook_endpoint;
use sea_orm::{DatabaseConnection, DbErr, RuntimeErr};
use tokio::time::{Instant, timeout};

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

    /// Does as if this much time had passed for what is waited for: for tests, which do not wait.
    pub fn pass(&self, time: Duration) {
        self.endpoints.pass(time);
        self.state.pass(time);
    }

    /// When a scan of it has last shown a sign of life.
    pub(crate) fn alive_at(&self) -> Option<Instant> {
        self.state.alive_at()
    }
}

/// How long work may take before it counts as lost. A database that vanishes without a word answers nothing and refuses
/// nothing: without an end to its patience, whoever asked it last would wait for ever, and keep others from the work.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// What is done in the database in one go: a claim, one pass of a timer. Longer than a transaction that waits for the
    /// locks of others (5 s each) and is begun again some times.
    pub step: Duration,
    /// The recording of what was sent: another attempt follows.
    pub record: Duration,
    /// A scan that shows no sign of life. Reading may take as long as it does; that the lease is renewed meanwhile is one.
    pub silence: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        let (step, record, silence) = (Duration::from_secs(30), Duration::from_secs(10), Duration::from_secs(60));
        Self { step, record, silence }
    }
}

impl Deadlines {
    /// Does a step, or gives it up. Its connection to the database is thrown away if that does not answer.
    pub(crate) async fn step<T, E: From<DbErr>>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        within(self.step, work).await
    }

    /// The same for a recording.
    pub(crate) async fn record<T>(&self, work: impl Future<Output = Result<T, DbErr>>) -> Result<T, DbErr> {
        within(self.record, work).await
    }
}

async fn within<T, E: From<DbErr>>(limit: Duration, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    let lost = |_| {
        let words = format!("no answer within {} s", limit.as_secs_f32());
        Err(DbErr::Conn(RuntimeErr::Internal(words)).into())
    };
    timeout(limit, work).await.unwrap_or_else(lost)
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
    /// How long work may take.
    pub deadlines: Deadlines,
}
