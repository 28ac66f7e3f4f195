//! How a merchant wants to be paid: what differs from the defaults, and what an order takes from it. An order keeps what
//! held when it was made; a later change concerns later orders only.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::order::LatePolicy;
use crate::registry::{Chain, Token};

/// How long an order is open where neither the request nor the merchant says otherwise.
pub const DEFAULT_EXPIRY: Duration = Duration::from_secs(2 * 3600);
/// Shortest time an order may be open.
pub const MIN_EXPIRY: Duration = Duration::from_secs(60);
/// Longest time an order may be open.
pub const MAX_EXPIRY: Duration = Duration::from_secs(30 * 24 * 3600);

/// What a merchant has set. Stored as JSON; what is not in it is as usual.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PaymentSettings {
    /// What happens to late money, in every asset; `None` goes by the asset's kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub late_policy: Option<LatePolicy>,
    /// Depth that confirms, by the chain's slug.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub confirmations: BTreeMap<String, u32>,
    /// How long an order is open, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_expiry_seconds: Option<u32>,
}

/// What is wrong with a depth that somebody wants. The words go to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Must be between 1 and {most}: deeper than that a block of this chain is final anyway.")]
pub struct InvalidDepth {
    most: u32,
}

impl PaymentSettings {
    /// Sets the depth that confirms on a chain; `None` goes by the chain.
    ///
    /// # Errors
    /// None, and deeper than the chain's reorganisations are followed.
    pub fn set_confirmations(&mut self, chain: &Chain, depth: Option<i64>) -> Result<(), InvalidDepth> {
        let most = most_confirmations(chain);
        match depth {
            None => {
                self.confirmations.remove(&chain.slug);
            }
            Some(depth) => {
                let depth = u32::try_from(depth).ok().filter(|depth| (1..=most).contains(depth));
                self.confirmations.insert(chain.slug.clone(), depth.ok_or(InvalidDepth { most })?);
            }
        }
        Ok(())
    }

    /// Policy for late money in a token or coin.
    pub fn late_policy_for(&self, token: &Token) -> LatePolicy {
        self.late_policy.unwrap_or_else(|| LatePolicy::default_for(token))
    }

    /// The depth that confirms on a chain. The operator may have made the chain's window shorter since it was set.
    pub fn confirmations_on(&self, chain: &Chain) -> u32 {
        let wanted = self.confirmations.get(&chain.slug).copied().unwrap_or(chain.confirmations);
        wanted.min(most_confirmations(chain)).max(1)
    }

    /// How long an order is open unless its request says otherwise.
    pub fn default_expiry(&self) -> Duration {
        self.default_expiry_seconds.map_or(DEFAULT_EXPIRY, |seconds| Duration::from_secs(u64::from(seconds)))
    }
}

/// What is this deep is final. A registry in which the chain's own depth is larger means it.
fn most_confirmations(chain: &Chain) -> u32 {
    chain.reorg_depth.max(chain.confirmations).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::{Registry, Stable};

    fn chain(confirmations: u32, reorg_depth: u32) -> Chain {
        let text = format!(
            "[[chain]]\nslug = \"base\"\nname = \"Base\"\nchain_id = 8453\nblock_time_ms = 2000\n\
             confirmations = {confirmations}\nreorg_depth = {reorg_depth}\nnative = {{ symbol = \"ETH\", decimals = 18 }}"
        );
        Registry::parse(&text).unwrap().chains()[0].clone()
    }

    #[test]
    fn without_settings_everything_goes_by_the_asset_and_the_chain() {
        let settings: PaymentSettings = serde_json::from_str("{}").unwrap();
        let native = chain(12, 64).native;
        assert_eq!(settings.late_policy_for(&native), LatePolicy::Review);
        for stable in [Stable::Usd, Stable::Eur] {
            let token = Token { stable: Some(stable), ..native.clone() };
            assert_eq!(settings.late_policy_for(&token), LatePolicy::Accept);
        }
        assert_eq!(settings.confirmations_on(&chain(12, 64)), 12);
        assert_eq!(settings.default_expiry(), DEFAULT_EXPIRY);
        assert_eq!(serde_json::to_string(&settings).unwrap(), "{}");
    }

    #[test]
    fn what_is_set_is_read_back() {
        let mut settings = PaymentSettings {
            late_policy: Some(LatePolicy::Reject),
            default_expiry_seconds: Some(900),
            ..PaymentSettings::default()
        };
        settings.set_confirmations(&chain(12, 64), Some(3)).unwrap();
        let stored = serde_json::to_string(&settings).unwrap();
        assert_eq!(stored, r#"{"late_policy":"reject","confirmations":{"base":3},"default_expiry_seconds":900}"#);
        let read: PaymentSettings = serde_json::from_str(&stored).unwrap();
        assert_eq!((read.confirmations_on(&chain(12, 64)), read.default_expiry().as_secs()), (3, 900));
        assert_eq!(read.late_policy_for(&chain(12, 64).native), LatePolicy::Reject);
        settings.set_confirmations(&chain(12, 64), None).unwrap();
        assert_eq!(settings.confirmations_on(&chain(12, 64)), 12);
    }

    #[test]
    fn a_depth_lies_between_one_block_and_what_is_final() {
        let mut settings = PaymentSettings::default();
        for wrong in [i64::MIN, -1, 0, 65, i64::MAX] {
            assert!(settings.set_confirmations(&chain(12, 64), Some(wrong)).is_err(), "{wrong}");
        }
        for right in [1, 64] {
            settings.set_confirmations(&chain(12, 64), Some(right)).unwrap();
        }
        // The operator has shortened the window since.
        assert_eq!(settings.confirmations_on(&chain(12, 32)), 32);
    }
}
