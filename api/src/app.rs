//! What every request is served with.

use std::ops::Deref;
use std::sync::Arc;

use cryptopay_domain::merchant::EndpointScope;
use cryptopay_domain::registry::Chain;
use cryptopay_domain::time::Timestamp;
use cryptopay_entity::webhook_endpoint;
use cryptopay_jobs::{Context, SigningSecrets};
use sea_orm::DatabaseConnection;
use secrecy::ExposeSecret;

use crate::config::{Config, Mode};
use crate::limits::Limiter;
use crate::live::Live;
use crate::operations::counts::Counts;
use crate::operations::searches::Searches;
use crate::security::Keys;
use crate::security::passwords::Passwords;
use crate::security::secret_box::{Context as SealContext, Purpose};

/// The gateway as a request sees it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct App(Arc<Parts>);

/// The parts of an `App`.
#[derive(Debug)]
pub struct Parts {
    /// Configuration.
    pub config: Config,
    /// Prefix of every absolute address that is handed out, without a slash at the end.
    pub public_url: String,
    /// Context shared by requests and jobs: registry, queue, chains.
    pub context: Arc<Context>,
    /// The connections of requests. Jobs have those of the context.
    pub database: DatabaseConnection,
    /// Searches take turns.
    pub searches: Searches,
    /// Token signing and encryption at rest.
    pub keys: Keys,
    /// Password hashing.
    pub passwords: Passwords,
    /// Events as they are numbered.
    pub live: Live,
    /// Counts requests.
    pub limiter: Limiter,
    /// How long long lists are.
    pub counts: Counts,
}

impl App {
    /// Puts the parts together.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// The database, as requests use it.
    pub fn database(&self) -> &DatabaseConnection {
        &self.database
    }

    /// A chain that this gateway serves.
    pub fn chain(&self, slug: &str) -> Option<&Chain> {
        self.context.registry.chain(slug)
    }

    /// What is said of a slug that none of the chains has.
    pub fn unknown_chain(&self) -> String {
        let known: Vec<&str> = self.context.registry.chains().iter().map(|chain| chain.slug.as_str()).collect();
        format!("Unknown blockchain. Known: {}.", known.join(", "))
    }

    /// Whether this is the sandbox.
    pub fn is_sandbox(&self) -> bool {
        self.config.mode == Mode::Sandbox
    }
}

impl Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

/// Opens webhook secrets for the delivery job.
#[derive(Debug)]
pub struct EndpointSecrets(pub Keys);

impl EndpointSecrets {
    /// What an endpoint's secret is bound to when it is sealed.
    pub fn seal_context(merchant: cryptopay_domain::ids::MerchantId) -> SealContext {
        SealContext { purpose: Purpose::WebhookSecret, merchant }
    }

    /// The endpoint's current secret in clear text.
    ///
    /// # Errors
    /// A sentence for the log: no key opens it.
    pub fn current(&self, endpoint: &webhook_endpoint::Model) -> Result<String, String> {
        self.open_one(endpoint, &endpoint.secret)
    }

    fn open_one(&self, endpoint: &webhook_endpoint::Model, sealed: &str) -> Result<String, String> {
        let context = Self::seal_context(endpoint.merchant_id);
        let opened = self.0.secret_box().open_text(context, sealed).map_err(|error| error.to_string())?;
        Ok(opened.expose_secret().to_owned())
    }
}

impl SigningSecrets for EndpointSecrets {
    fn open(&self, endpoint: &webhook_endpoint::Model, now: Timestamp) -> Result<Vec<String>, String> {
        let mut secrets = vec![self.current(endpoint)?];
        let previous = endpoint.previous_secret.as_ref();
        if let Some(previous) = previous.filter(|_| endpoint.previous_secret_until.is_some_and(|until| until > now)) {
            secrets.push(self.open_one(endpoint, previous)?);
        }
        Ok(secrets)
    }
}

/// Whether an endpoint is the implicit one that signs deliveries to orders' own urls.
pub fn is_implicit(endpoint: &webhook_endpoint::Model) -> bool {
    endpoint.scope == EndpointScope::Order
}
