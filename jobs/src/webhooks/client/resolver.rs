//! From a name to the addresses that may be connected to.
//!
//! The connector takes exactly what this resolver returns. A name that is public when somebody looks and private when
//! we connect is therefore refused like any other private name.

use std::net::SocketAddr;
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::net::lookup_host;
use tokio::sync::Semaphore;

use super::failure::{Failure, excerpt};
use super::policy::ClientPolicy;

/// Look-ups at one time. Each holds one of tokio's 512 blocking threads until the system's resolver gives up, however
/// soon the caller does, and password hashing needs those threads too.
const LOOKUPS: usize = 128;

/// Addresses of one name that are tried, in the system's order. Nobody needs more, and a hostile zone has thousands.
const MAX_ADDRESSES: usize = 16;

/// Resolves through the system and drops what the policy refuses.
#[derive(Debug)]
pub(super) struct PublicResolver {
    policy: Arc<ClientPolicy>,
    lookups: Arc<Semaphore>,
}

impl PublicResolver {
    pub(super) fn new(policy: Arc<ClientPolicy>) -> Self {
        Self { policy, lookups: Arc::new(Semaphore::new(LOOKUPS)) }
    }
}

impl Resolve for PublicResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let policy = self.policy.clone();
        let lookups = self.lookups.clone();
        Box::pin(async move {
            let found = look_up(lookups, name.as_str()).await?;
            let addresses = permitted(&policy, name.as_str(), found)?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// The look-up runs as a task of its own, which keeps its permit as long as it keeps its thread.
async fn look_up(lookups: Arc<Semaphore>, host: &str) -> Result<Vec<SocketAddr>, Failure> {
    let failed = |reason: &dyn std::fmt::Display| Failure::Dns { host: excerpt(host), reason: excerpt(reason) };
    let permit = lookups.acquire_owned().await.map_err(|error| failed(&error))?;
    let name = host.to_owned();
    let task = tokio::spawn(async move {
        let _permit = permit;
        // Port 0 means that of the URL, which the connector fills in.
        lookup_host((name, 0)).await.map(Iterator::collect)
    });
    task.await.map_err(|error| failed(&error))?.map_err(|error| failed(&error))
}

fn permitted(policy: &ClientPolicy, host: &str, found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, Failure> {
    let mut refused = None;
    let mut addresses = Vec::new();
    for address in found {
        match policy.judge(address.ip(), Some(host)) {
            Ok(()) => addresses.push(address),
            Err(refusal) => refused = refused.or(Some(refusal)),
        }
    }
    addresses.truncate(MAX_ADDRESSES);
    match refused {
        _ if !addresses.is_empty() => Ok(addresses),
        Some(refusal) => Err(refusal.into()),
        None => Err(Failure::Dns { host: excerpt(host), reason: "the name has no address".to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(addresses: &[&str]) -> Result<Vec<String>, Failure> {
        let found = addresses.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 0)).collect();
        let kept = permitted(&ClientPolicy::default(), "hooks.example", found)?;
        Ok(kept.iter().map(|address| address.ip().to_string()).collect())
    }

    #[test]
    fn only_public_addresses_of_a_mixed_answer_are_tried() {
        let kept = judge(&["10.0.0.5", "8.8.8.8", "::1", "2606:4700::1111", "169.254.169.254"]).unwrap();
        assert_eq!(kept, ["8.8.8.8", "2606:4700::1111"]);
    }

    #[test]
    fn an_answer_without_public_addresses_names_the_first_one() {
        let Err(Failure::Refused(refused)) = judge(&["10.0.0.5", "::1"]) else { panic!("not refused") };
        assert_eq!(
            (refused.host.as_deref(), refused.address.to_string().as_str()),
            (Some("hooks.example"), "10.0.0.5")
        );
    }

    #[test]
    fn an_empty_answer_is_a_dns_failure() {
        assert!(matches!(judge(&[]), Err(Failure::Dns { .. })));
    }

    #[test]
    fn a_zone_with_thousands_of_addresses_costs_sixteen_tries() {
        let many: Vec<String> = (0..5000).map(|n| format!("8.8.{}.{}", n / 250, n % 250)).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(judge(&many).unwrap().len(), MAX_ADDRESSES);
    }
}
