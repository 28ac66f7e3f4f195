//! The configuration: read once, at start, from the environment; refused early with the variable's name and the mend.
//!
//! [`Config::from_env`] reads everything that `.env.sample` lists and nothing else. A refusal is one line that never
//! holds a secret; the caller ends with exit status 2. An empty variable is an unset one. A variable of ours that is
//! unknown is a warning, since it may be meant for a newer version; a `CRYPTOPAY_RPC_…` for an unknown chain is refused,
//! since that chain would silently be simulated.
//!
//! In live mode a chain without RPC URLs is not served: it is missing from [`Chains::registry`], so that no order can be
//! made on it, and a warning says so. At least one chain must have them.

mod chains;
mod database;
mod environment;
mod error;
mod network;
mod secret;
#[cfg(test)]
mod tests;
mod variables;
mod words;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;
use tracing_subscriber::EnvFilter;
use url::Url;

pub use chains::{ChainSource, Chains, RpcEndpoints, SecretUrl};
pub use database::{DatabaseUrl, RedisUrl};
pub use environment::Environment;
pub use error::ConfigError;
pub use network::CorsOrigins;
pub use secret::MasterSecret;
pub use variables::{VARIABLES, Variable, rpc_variable};
pub use words::{LogFormat, Mode, Registration, Role};

use variables as names;

/// Everything that the process was told. Printed with `Debug`, it holds no secret.
pub struct Config {
    /// Which parts of the gateway this process runs.
    pub role: Role,
    /// `CRYPTOPAY_BIND`: where to listen. Port 0 lets the system pick one.
    pub bind: SocketAddr,
    /// `CRYPTOPAY_PUBLIC_URL`, as it was set; see [`Config::public_base`]. Always there in live mode.
    pub public_url: Option<Url>,
    /// `CRYPTOPAY_MODE`.
    pub mode: Mode,
    /// `CRYPTOPAY_DATA_DIR`. Not made yet, where it is missing.
    pub data_dir: PathBuf,
    /// `DATABASE_URL`.
    pub database: DatabaseUrl,
    /// `REDIS_URL`: where processes share queues and events. Without it everything stays in this process.
    pub redis: Option<RedisUrl>,
    /// `CRYPTOPAY_KEY_PREFIX`: of every Redis key and channel.
    pub key_prefix: String,
    /// `CRYPTOPAY_SECRET`, as it was set; see [`Config::secret_or_generated`]. Always there in live mode.
    pub secret: Option<MasterSecret>,
    /// `CRYPTOPAY_SECRET_PREVIOUS`: still accepted.
    pub secret_previous: Option<MasterSecret>,
    /// `CRYPTOPAY_REGISTRATION`.
    pub registration: Registration,
    /// The chains that are served, from the built-in registry, `CRYPTOPAY_CHAINS` and `CRYPTOPAY_RPC_<SLUG>`.
    pub chains: Chains,
    /// `CRYPTOPAY_WEBHOOK_ALLOW`: networks exempt from the private-address ban. Empty in live mode.
    pub webhook_allow: Vec<IpNet>,
    /// `CRYPTOPAY_TRUSTED_PROXIES`: networks whose forwarding headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// `CRYPTOPAY_CORS_ORIGINS`: browsers that may call, and open sockets.
    pub cors_origins: CorsOrigins,
    /// `CRYPTOPAY_SECURITY_CONTACT`: URIs for reports of vulnerabilities, most preferred first.
    pub security_contacts: Vec<String>,
    /// `CRYPTOPAY_LOG`: a `tracing` filter that has been found well-formed.
    pub log_filter: String,
    /// `CRYPTOPAY_LOG_FORMAT`.
    pub log_format: LogFormat,
    /// What is odd but no reason not to start: one line each, to be logged once logging runs.
    pub warnings: Vec<String>,
}

impl Config {
    /// Reads the configuration of a process with this role.
    ///
    /// # Errors
    /// The first thing that is wrong, with the mend.
    pub fn from_env(role: Role, env: &Environment) -> Result<Self, ConfigError> {
        let mode = env.parsed(names::MODE, words::mode)?.unwrap_or(Mode::Sandbox);
        let data_dir = env.text(names::DATA_DIR)?.map_or_else(|| PathBuf::from("./data"), PathBuf::from);
        let database = match env.parsed(names::DATABASE_URL, database::parse)? {
            Some(database) => database,
            None => DatabaseUrl::Sqlite(data_dir.join("cryptopay.db")),
        };
        let redis = env.parsed(names::REDIS_URL, database::parse_redis)?;
        check_role(role, &database, redis.is_some())?;
        let bind = env.parsed(names::BIND, network::bind)?.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)));
        let public_url = env.parsed(names::PUBLIC_URL, network::public_url)?;
        let secret = env.parsed(names::SECRET, secret::parse)?;
        let secret_previous = env.parsed(names::SECRET_PREVIOUS, secret::parse)?;
        if let (Some(current), Some(previous)) = (&secret, &secret_previous)
            && current.is(previous)
        {
            let mend = "unset it, or set it to the secret before";
            return Err(ConfigError::new(names::SECRET_PREVIOUS, "it is the same as CRYPTOPAY_SECRET", mend));
        }
        let webhook_allow = env.parsed(names::WEBHOOK_ALLOW, network::networks)?;
        if mode == Mode::Live {
            check_live(public_url.as_ref(), secret.as_ref(), webhook_allow.as_deref())?;
        }
        let (chains, mut warnings) = Chains::read(mode, env)?;
        warnings.extend(env.unknown_variables());
        if mode == Mode::Live && public_url.as_ref().is_some_and(|url| url.scheme() == "http") {
            warnings.push(format!(
                "{}: payment pages go out unencrypted, so that anybody on the way can change the address that is paid; use https",
                names::PUBLIC_URL
            ));
        }
        Ok(Self {
            role,
            bind,
            public_url,
            mode,
            data_dir,
            database,
            redis,
            key_prefix: env.parsed(names::KEY_PREFIX, words::key_prefix)?.unwrap_or_else(|| "cryptopay:".to_owned()),
            secret,
            secret_previous,
            registration: env.parsed(names::REGISTRATION, words::registration)?.unwrap_or(match mode {
                Mode::Sandbox => Registration::Open,
                Mode::Live => Registration::Closed,
            }),
            chains,
            webhook_allow: webhook_allow.unwrap_or_else(|| match mode {
                Mode::Sandbox => network::loopback(),
                Mode::Live => Vec::new(),
            }),
            trusted_proxies: env.parsed(names::TRUSTED_PROXIES, network::networks)?.unwrap_or_default(),
            cors_origins: env.parsed(names::CORS_ORIGINS, network::origins)?.unwrap_or(match mode {
                Mode::Sandbox => CorsOrigins::Any,
                Mode::Live => CorsOrigins::Listed(Vec::new()),
            }),
            security_contacts: env.parsed(names::SECURITY_CONTACT, network::contacts)?.unwrap_or_default(),
            log_filter: env.parsed(names::LOG, log_filter)?.unwrap_or_else(|| "info".to_owned()),
            log_format: env.parsed(names::LOG_FORMAT, words::log_format)?.unwrap_or(LogFormat::Text),
            warnings,
        })
    }

    /// The prefix of public links, without a slash at the end: `CRYPTOPAY_PUBLIC_URL`, or where this process really
    /// listens, with the loopback address for an unspecified one.
    pub fn public_base(&self, listening: SocketAddr) -> String {
        let listening = reachable(listening);
        let base = self.public_url.as_ref().map_or_else(|| format!("http://{listening}"), Url::to_string);
        base.trim_end_matches('/').to_owned()
    }

    /// The secret that was set, or in sandbox mode the one that the first start left in the data directory; `entropy`
    /// becomes the secret where this is the first start.
    ///
    /// # Errors
    /// If the file can be neither read nor made, or holds no secret.
    pub fn secret_or_generated(&self, entropy: [u8; 32]) -> Result<MasterSecret, ConfigError> {
        match (&self.secret, self.mode) {
            (Some(secret), _) => Ok(secret.clone()),
            (None, Mode::Sandbox) => secret::load_or_create(&self.data_dir, entropy),
            (None, Mode::Live) => Err(missing_secret()),
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("role", &self.role)
            .field("bind", &self.bind)
            .field("public_url", &self.public_url.as_ref().map(Url::as_str))
            .field("mode", &self.mode)
            .field("data_dir", &self.data_dir)
            .field("database", &self.database)
            .field("redis", &self.redis)
            .field("key_prefix", &self.key_prefix)
            .field("secret", &self.secret)
            .field("secret_previous", &self.secret_previous)
            .field("registration", &self.registration)
            .field("chains", &self.chains)
            .field("webhook_allow", &self.webhook_allow)
            .field("trusted_proxies", &self.trusted_proxies)
            .field("cors_origins", &self.cors_origins)
            .field("security_contacts", &self.security_contacts)
            .field("log_filter", &self.log_filter)
            .field("log_format", &self.log_format)
            .finish_non_exhaustive()
    }
}

/// How this host reaches a process that listens there.
pub fn reachable(mut listening: SocketAddr) -> SocketAddr {
    if listening.ip().is_unspecified() {
        listening.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    listening
}

/// Processes of one role need what they work together through.
fn check_role(role: Role, database: &DatabaseUrl, redis_is_set: bool) -> Result<(), ConfigError> {
    if role == Role::All {
        return Ok(());
    }
    let role = role.as_str();
    if let DatabaseUrl::Sqlite(_) = database {
        return Err(ConfigError::new(
            names::DATABASE_URL,
            format!(
                "it is SQLite, but processes of one role (--role {role}) work together through PostgreSQL and Redis"
            ),
            "set it to something like postgres://user:password@host/database, or use --role all",
        ));
    }
    if !redis_is_set {
        return Err(ConfigError::new(
            names::REDIS_URL,
            format!(
                "it is unset, but processes of one role (--role {role}) work together through PostgreSQL and Redis"
            ),
            "set it to something like redis://:password@host:6379/0, or use --role all",
        ));
    }
    Ok(())
}

/// What live mode asks for beside chains.
fn check_live(
    public_url: Option<&Url>,
    secret: Option<&MasterSecret>,
    webhook_allow: Option<&[IpNet]>,
) -> Result<(), ConfigError> {
    if public_url.is_none() {
        return Err(ConfigError::new(
            names::PUBLIC_URL,
            "it is missing, and live mode needs it for the links that customers get",
            "set it to something like https://pay.example.com",
        ));
    }
    if secret.is_none() {
        return Err(missing_secret());
    }
    if webhook_allow.is_some_and(|networks| !networks.is_empty()) {
        let problem = "live mode sends webhooks to public addresses only, and those need no exemption";
        return Err(ConfigError::new(names::WEBHOOK_ALLOW, problem, "unset it"));
    }
    Ok(())
}

fn missing_secret() -> ConfigError {
    ConfigError::new(names::SECRET, "it is missing, and live mode generates none", secret::MEND)
}

fn log_filter(text: &str) -> Result<String, error::Problem> {
    EnvFilter::try_new(text).map(|_| text.to_owned()).map_err(|_| {
        error::Problem::of_value(text, "is no log filter", "set it to something like info,cryptopay_jobs=debug")
    })
}
