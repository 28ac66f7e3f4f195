//! Every variable that the gateway reads, by name. `.env.sample` lists the same ones; a test compares the two.

/// A variable of the environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variable {
    /// Its name. `<SLUG>` stands for a chain's slug in upper case, with `_` for `-`.
    pub name: &'static str,
    /// What holds where it is unset, as one would write it; empty where that is nothing, or depends.
    pub default: &'static str,
}

pub(super) const BIND: &str = "CRYPTOPAY_BIND";
pub(super) const PUBLIC_URL: &str = "CRYPTOPAY_PUBLIC_URL";
pub(super) const MODE: &str = "CRYPTOPAY_MODE";
pub(super) const DATA_DIR: &str = "CRYPTOPAY_DATA_DIR";
pub(super) const DATABASE_URL: &str = "DATABASE_URL";
pub(super) const REDIS_URL: &str = "REDIS_URL";
pub(super) const KEY_PREFIX: &str = "CRYPTOPAY_KEY_PREFIX";
pub(super) const SECRET: &str = "CRYPTOPAY_SECRET";
pub(super) const SECRET_PREVIOUS: &str = "CRYPTOPAY_SECRET_PREVIOUS";
pub(super) const REGISTRATION: &str = "CRYPTOPAY_REGISTRATION";
pub(super) const CHAINS: &str = "CRYPTOPAY_CHAINS";
pub(super) const RPC_PREFIX: &str = "CRYPTOPAY_RPC_";
pub(super) const WEBHOOK_ALLOW: &str = "CRYPTOPAY_WEBHOOK_ALLOW";
pub(super) const TRUSTED_PROXIES: &str = "CRYPTOPAY_TRUSTED_PROXIES";
pub(super) const CORS_ORIGINS: &str = "CRYPTOPAY_CORS_ORIGINS";
pub(super) const SECURITY_CONTACT: &str = "CRYPTOPAY_SECURITY_CONTACT";
pub(super) const LOG: &str = "CRYPTOPAY_LOG";
pub(super) const LOG_FORMAT: &str = "CRYPTOPAY_LOG_FORMAT";

/// All of them, in the order of the documentation.
pub const VARIABLES: [Variable; 18] = [
    Variable { name: BIND, default: "127.0.0.1:8080" },
    Variable { name: PUBLIC_URL, default: "http://127.0.0.1:8080" },
    Variable { name: MODE, default: "sandbox" },
    Variable { name: DATA_DIR, default: "./data" },
    Variable { name: DATABASE_URL, default: "sqlite://data/cryptopay.db" },
    Variable { name: REDIS_URL, default: "" },
    Variable { name: KEY_PREFIX, default: "cryptopay:" },
    Variable { name: SECRET, default: "" },
    Variable { name: SECRET_PREVIOUS, default: "" },
    Variable { name: REGISTRATION, default: "open" },
    Variable { name: CHAINS, default: "" },
    Variable { name: "CRYPTOPAY_RPC_<SLUG>", default: "" },
    Variable { name: WEBHOOK_ALLOW, default: "127.0.0.0/8,::1/128" },
    Variable { name: TRUSTED_PROXIES, default: "" },
    Variable { name: CORS_ORIGINS, default: "*" },
    Variable { name: SECURITY_CONTACT, default: "" },
    Variable { name: LOG, default: "info" },
    Variable { name: LOG_FORMAT, default: "text" },
];

/// The variable with a chain's RPC URLs.
pub fn rpc_variable(slug: &str) -> String {
    format!("{RPC_PREFIX}{}", slug.to_ascii_uppercase().replace('-', "_"))
}
