//! What the variables say, beyond what start-up refuses.

use ipnet::IpNet;

use super::report::{Check, Checks};
use crate::config::{Config, CorsOrigins, DatabaseUrl, Mode, Registration};

pub(super) fn examine(config: &Config) -> Vec<Check> {
    let mut checks = Checks::of("configuration");
    match config.mode {
        Mode::Sandbox => checks.good("mode", "sandbox: test money; what is real is not accepted as such"),
        Mode::Live => checks.good("mode", "live"),
    }
    for warning in &config.warnings {
        let (found, mend) = warning.rsplit_once("; ").unwrap_or((warning, "set it, or leave it if that is meant"));
        checks.warn("variables", found, mend);
    }
    if config.secret_previous.is_some() {
        checks.warn(
            "secret",
            "CRYPTOPAY_SECRET_PREVIOUS is set: whoever has the old secret can still sign tokens",
            "unset it when the change is over; docs/OPERATIONS.md says when",
        );
    }
    if config.mode == Mode::Live {
        live(config, &mut checks);
    }
    for network in config.trusted_proxies.iter().filter(|network| network.prefix_len() < widest(network)) {
        checks.warn(
            "proxies",
            format!("CRYPTOPAY_TRUSTED_PROXIES has {network}: whoever is in it can pass for any client"),
            "name the proxies' own addresses only, such as 10.0.0.5/32",
        );
    }
    checks.done()
}

/// The shortest prefix of a network that may be all proxies.
fn widest(network: &IpNet) -> u8 {
    match network {
        IpNet::V4(_) => 8,
        IpNet::V6(_) => 7,
    }
}

fn live(config: &Config, checks: &mut Checks) {
    if matches!(config.database, DatabaseUrl::Sqlite(_)) {
        checks.warn(
            "database",
            "a SQLite file holds what customers have paid: one host, one process, no replica",
            "set DATABASE_URL to a PostgreSQL database",
        );
    }
    if config.registration == Registration::Open {
        checks.warn(
            "registration",
            "anybody can make an account",
            "set CRYPTOPAY_REGISTRATION=closed, unless that is the purpose",
        );
    }
    if config.cors_origins == CorsOrigins::Any {
        checks.warn(
            "browsers",
            "pages of every origin may call the API",
            "set CRYPTOPAY_CORS_ORIGINS to your own origins, or unset it",
        );
    }
    let has_proxy = config.public_url.as_ref().is_some_and(|url| url.scheme() == "https");
    if has_proxy && config.trusted_proxies.is_empty() {
        checks.warn(
            "proxies",
            "a proxy speaks TLS for this gateway, but CRYPTOPAY_TRUSTED_PROXIES names none: all customers and all logins \
             count as one client's, and are refused together",
            "set it to the proxy's address, such as 127.0.0.1/32, and let the proxy write X-Forwarded-For itself",
        );
    }
}
