//! A running gateway: configuration in, listening process out. `serve` and `demo` both start one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cryptopay_chain::ChainError;
use cryptopay_entity::event_counter;
use cryptopay_jobs::webhooks::Claims;
use cryptopay_jobs::webhooks::client::{ClientError, ClientPolicy, Shortcut, WebhookClient};
use cryptopay_jobs::{Context, Deadlines, Events, Queue, Redis, RedisUrlError, STOP_WITHIN, Workers};
use poem::listener::{Acceptor, Listener, TcpAcceptor, TcpListener};
use poem::web::LocalAddr;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::{App, EndpointSecrets, Parts};
use crate::config::{self, Config, ConfigError, Mode, Role};
use crate::database::{self, Pools, SchemaError};
use crate::http;
use crate::http::peers::Peers;
use crate::http::server::{self, Limits};
use crate::limits::{Limiter, LimitsUrlError};
use crate::live::Live;
use crate::metrics;
use crate::nodes;
use crate::open_files;
use crate::operations::blockchains::is_simulated;
use crate::operations::counts::Counts;
use crate::operations::reseal::{self, Resealed};
use crate::operations::sandbox::inbox::PLACE as INBOX;
use crate::operations::searches::Searches;
use crate::readiness::Readiness;
use crate::security::passwords::Passwords;
use crate::security::{KeyError, Keys, entropy};

/// A gateway that listens and works until it is stopped.
#[derive(Debug)]
pub struct Gateway {
    /// What requests are served with.
    pub app: App,
    /// Where it listens.
    pub address: SocketAddr,
    /// Whether start-up has reached the database.
    pub readiness: Readiness,
    stop: CancellationToken,
    tasks: TaskTracker,
    refused: oneshot::Receiver<SchemaError>,
    server: JoinHandle<()>,
}

/// Why a gateway did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Wrong configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The address is taken, or is not ours.
    #[error("CRYPTOPAY_BIND: cannot listen on {address}: {source}; set it to a free address, or to port 0 to pick one")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The database's folder or schema.
    #[error("DATABASE_URL: {0}")]
    Schema(#[from] SchemaError),
    /// The queue's URL.
    #[error("REDIS_URL: {0}; set it to something like redis://:password@host:6379/0, or unset it")]
    Redis(#[from] RedisUrlError),
    /// The counters' URL.
    #[error("REDIS_URL: {0}; set it to something like redis://:password@host:6379/0, or unset it")]
    Limits(#[from] LimitsUrlError),
    /// The secret.
    #[error("CRYPTOPAY_SECRET: {0}")]
    Keys(#[from] KeyError),
    /// An RPC endpoint's URL.
    #[error("CRYPTOPAY_RPC_{slug}: {source}")]
    Chain {
        /// Chain, in upper case.
        slug: String,
        /// Why.
        source: ChainError,
    },
    /// TLS for webhooks.
    #[error(transparent)]
    Webhooks(#[from] ClientError),
    /// Another part of this process counts already.
    #[error("metrics cannot be recorded: {0}")]
    Metrics(#[from] metrics_exporter_prometheus::BuildError),
    /// Password hashing.
    #[error("password hashing cannot be set up: {0}")]
    Passwords(String),
}

/// Longest wait between two attempts to reach a database that is away.
const MAX_BACKOFF: Duration = Duration::from_secs(2);
/// How often the log says that the database is still away.
const SAY_EVERY: Duration = Duration::from_secs(30);

impl Gateway {
    /// Starts a gateway. It listens when this returns; the database may still be away.
    ///
    /// # Errors
    /// What no waiting mends.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let recorder = metrics::recorder()?;
        metrics::started(config.role, config.mode);
        let acceptor = listen(config.bind).await?;
        let address = local_address(&acceptor).unwrap_or(config.bind);
        let public_url = config.public_base(address).trim_end_matches('/').to_owned();
        // Looked at first, so that a folder which cannot be used is blamed on the variable that names it.
        config.secret_or_generated(entropy::bytes())?;
        let pools = Pools::open(&config.database).await?;
        let app = build(config, public_url, address, pools)?;
        let readiness = Readiness::default();
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let (refuse, refused) = oneshot::channel();
        tasks.spawn(work(app.clone(), readiness.clone(), stop.clone(), refuse));
        tasks.spawn(metrics::keep_up(recorder.clone(), stop.clone()));
        let routes = http::routes(app.clone(), readiness.clone(), recorder, stop.clone());
        let files = open_files::raise_limit();
        let limits = Limits::of_files(files);
        tracing::info!(
            files,
            connections = limits.connections,
            of_address = limits.of_address,
            "bounds of connections"
        );
        let peers = Peers::new(limits.of_address, app.config.trusted_proxies.clone());
        let server = tokio::spawn(server::serve(acceptor, routes, limits, peers, stop.clone(), STOP_WITHIN));
        tasks.close();
        Ok(Self { app, address, readiness, stop, tasks, refused, server })
    }

    /// Why the database can never be used by this binary; ends only then.
    pub async fn refused(&mut self) -> StartError {
        match (&mut self.refused).await {
            Ok(error) => error.into(),
            Err(_) => std::future::pending().await,
        }
    }

    /// Stops accepting, lets requests and jobs finish for up to 20 s, gives leases back.
    pub async fn stop(self) {
        self.stop.cancel();
        let ended = async {
            self.tasks.wait().await;
            self.server.await
        };
        // Both bound themselves; this is for what neither foresees.
        match tokio::time::timeout(STOP_WITHIN.saturating_add(Duration::from_secs(5)), ended).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the server ended with an error"),
            Err(_) => tracing::warn!("stopped without waiting any longer"),
        }
    }
}

async fn listen(address: SocketAddr) -> Result<TcpAcceptor, StartError> {
    TcpListener::bind(address).into_acceptor().await.map_err(|source| StartError::Bind { address, source })
}

fn local_address(acceptor: &TcpAcceptor) -> Option<SocketAddr> {
    acceptor.local_addr().first().and_then(|LocalAddr(address)| address.as_socket_addr().copied())
}

/// Puts the parts of a gateway together.
///
/// # Errors
/// What no waiting mends.
pub fn build(config: Config, public_url: String, address: SocketAddr, pools: Pools) -> Result<App, StartError> {
    let secret = config.secret_or_generated(entropy::bytes())?;
    let keys = Keys::new(&secret, config.secret_previous.as_ref())?;
    let registry = Arc::new(config.chains.registry().clone());
    let chains = nodes::chains(&config.chains, &pools.work)?;
    let redis = config.redis.as_ref().map(|url| Redis::new(url.expose(), &config.key_prefix)).transpose()?;
    let limiter = match &config.redis {
        Some(url) => Limiter::shared(url.expose(), &config.key_prefix)?,
        None => Limiter::embedded(),
    };
    let policy = ClientPolicy { allow: config.webhook_allow.clone(), https_only: config.mode == Mode::Live };
    let context = Context {
        database: pools.work,
        registry,
        chains,
        queue: redis.map_or_else(Queue::embedded, Queue::shared),
        events: Events::embedded(),
        claims: Claims::default(),
        webhooks: WebhookClient::with_shortcut(policy, inbox(config.mode, &public_url, address))?,
        secrets: Arc::new(EndpointSecrets(keys.clone())),
        // Also of processes with the same number, each in a container of its own.
        owner: format!("{}-{:016x}", std::process::id(), rand::random::<u64>()),
        deadlines: Deadlines::default(),
    };
    let passwords = Passwords::new();
    let (context, live, counts) = (Arc::new(context), Live::default(), Counts::default());
    let (database, searches) = (pools.requests, Searches::new(pools.searches));
    Ok(App::new(Parts { config, public_url, context, database, searches, keys, passwords, live, limiter, counts }))
}

/// The webhook inbox is served by every process of the sandbox, so that deliveries to it reach it in containers and behind
/// proxies too, wherever the public address leads from there.
fn inbox(mode: Mode, public_url: &str, address: SocketAddr) -> Option<Shortcut> {
    let own = config::reachable(address);
    let shortcut = Shortcut { from: format!("{public_url}{INBOX}"), to: format!("http://{own}{INBOX}") };
    (mode == Mode::Sandbox).then_some(shortcut)
}

/// Waits for the database, then does what the role asks for until `stop`. Tells `refuse` what no waiting mends.
async fn work(app: App, readiness: Readiness, stop: CancellationToken, refuse: oneshot::Sender<SchemaError>) {
    let newest_event = tokio::select! {
        prepared = prepare(&app, &readiness) => match prepared {
            Ok(newest_event) => newest_event,
            Err(error) => {
                // Nobody listens when the process is ending already.
                let _ = refuse.send(error);
                return;
            }
        },
        () = stop.cancelled() => return,
    };
    match reseal::run(&app).await {
        Ok(done) if done == Resealed::default() => {}
        Ok(done) => {
            tracing::info!(endpoints = done.endpoints, closed = done.closed, "webhook secrets were sealed again")
        }
        Err(error) => {
            tracing::warn!(%error, "webhook secrets could not be sealed again; the next start tries once more")
        }
    }
    if app.config.role != Role::Api {
        for access in app.context.chains.values().filter(|access| is_simulated(&app, &access.chain)) {
            cryptopay_jobs::begin_at_once(&app.context, access).await;
        }
    }
    readiness.set(None);
    let (context, role) = (app.context.clone(), app.config.role);
    let live = async {
        if role != Role::Worker {
            let live = app.live.clone();
            live.follow(newest_event, context.database.clone(), context.events.clone(), stop.clone()).await;
        }
    };
    let jobs = async {
        match role {
            Role::Api => Workers::relay(context.clone(), stop.clone()).await,
            Role::All | Role::Worker => Workers::run(context.clone(), stop.clone()).await,
        }
    };
    tokio::join!(live, jobs);
}

/// Brings the schema up to date, and gives the number of the newest event: read before anybody is served, so that whoever
/// subscribes misses none.
async fn prepare(app: &App, readiness: &Readiness) -> Result<i64, SchemaError> {
    let mut wait = Duration::from_millis(50);
    let mut said_at: Option<Instant> = None;
    loop {
        let prepared = async {
            let database = &app.context.database;
            database::migrate(&app.config.database, database).await?;
            database::check_not_simulated(app.config.mode, database).await?;
            Ok::<_, SchemaError>(event_counter::Entity::peek(database).await?)
        };
        let error = match prepared.await {
            Ok(newest_event) => return Ok(newest_event),
            Err(error) => error,
        };
        readiness.set(Some(match &error {
            // What it said may quote the URL.
            SchemaError::Database(_) => "the database cannot be used yet; the log says why".to_owned(),
            other => format!("the database is not ready: {other}"),
        }));
        if !error.is_passing() {
            return Err(error);
        }
        if said_at.is_none_or(|said_at| said_at.elapsed() >= SAY_EVERY) {
            said_at = Some(Instant::now());
            tracing::warn!(%error, "waiting for the database");
        }
        tokio::time::sleep(wait).await;
        wait = wait.saturating_mul(2).min(MAX_BACKOFF);
    }
}
