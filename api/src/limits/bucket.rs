//! What is counted, for how long, and how a count stands.

use std::fmt;
use std::time::Duration;

use cryptopay_domain::ids::MerchantId;
use cryptopay_entity::merchant;
use sha2::{Digest, Sha256};

use super::client::Network;
use crate::principal::{Credential, Principal};

/// The length of the windows that headers tell of, in seconds. Source: the REST contract.
const HOUR_SECS: u64 = 3_600;
/// Requests an hour from one address that no merchant answers for.
const REQUESTS_OF_ADDRESS: u64 = 600;
/// Failed logins for one name from one address, and within what time, in seconds.
const FAILED_LOGINS_OF_NAME: u64 = 10;
const FAILED_LOGINS_OF_NAME_SECS: u64 = 15 * 60;
/// Failed logins an hour from one address, whatever the names.
const FAILED_LOGINS_OF_ADDRESS: u64 = 100;
/// Failed logins of an account within an hour, from all addresses together, that delay nothing.
const UNDELAYED_FAILURES: u64 = 10;
/// Longest delay of a login.
const LONGEST_DELAY_SECS: u64 = 30;
/// Accounts an hour that are registered from one address.
const REGISTRATIONS_OF_ADDRESS: u64 = 20;

/// One count and its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    pub(super) key: Key,
    /// The most that is allowed in a window.
    pub(super) limit: u64,
    pub(super) window: Window,
}

/// Whose count it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Key {
    /// Requests with any API key of a merchant.
    ApiKeys(MerchantId),
    /// Requests with any access token of a merchant.
    Logins(MerchantId),
    /// Requests from an address.
    Address(Network),
    /// Failed logins for a name from an address.
    FailedLoginsOfName(NameDigest, Network),
    /// Failed logins for a name from all addresses.
    FailedLoginsOfAccount(NameDigest),
    /// Failed logins from an address.
    FailedLogins(Network),
    /// Registrations from an address.
    Registrations(Network),
    /// Nobody's: whether counting works at all.
    Trial,
}

/// Stands for a name to log in with, in any case: e-mail addresses have no place in Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct NameDigest([u8; 16]);

/// For how long is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    /// Its length in seconds, at least one.
    pub(super) secs: u64,
    /// When it begins.
    pub(super) begins: Begins,
}

/// When a window begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begins {
    /// On multiples of its length since 1970: hours on the hour.
    OnTheDot,
    /// With what is counted first.
    WithTheFirst,
}

/// How a count stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The most that is allowed in the window.
    pub limit: u64,
    /// How many more are.
    pub remaining: u64,
    /// When the window ends, in seconds since 1970.
    pub ends_at: u64,
    /// How long until then, in seconds, at least one.
    pub ends_in: u64,
}

/// What became of a change to one or more counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Which bucket was full, so that nothing was counted in any.
    pub(super) full: Option<usize>,
    /// How each stands now, in the order of the buckets.
    pub(super) standings: Vec<Standing>,
}

/// What is done to counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// One more in each, or in none where one of them is full.
    Take,
    /// One less in each.
    GiveBack,
    /// Nothing.
    Look,
}

impl Bucket {
    /// A count that is never full.
    pub(super) const TRIAL: Self =
        Self { key: Key::Trial, limit: u64::MAX, window: Window { secs: 1, begins: Begins::WithTheFirst } };

    /// Requests of a merchant by this kind of credential.
    pub fn of(principal: &Principal) -> Self {
        match principal.credential {
            Credential::Key { .. } => Self::hourly(Key::ApiKeys(principal.merchant.id), plan(&principal.merchant)),
            Credential::Login { .. } => Self::of_logins(&principal.merchant),
        }
    }

    /// Requests with a merchant's access tokens; a login is one.
    pub(super) fn of_logins(merchant: &merchant::Model) -> Self {
        Self::hourly(Key::Logins(merchant.id), plan(merchant))
    }

    /// Requests from an address.
    pub(super) fn of_address(network: Network) -> Self {
        Self::hourly(Key::Address(network), REQUESTS_OF_ADDRESS)
    }

    /// Failed logins for a name from an address, from the address as a whole, and for the name from everywhere. The last
    /// is never full: it delays (see [`delay_of`]), because a limit there would let strangers lock an account.
    pub(super) fn of_failed_logins(name: &str, network: Network) -> [Self; 3] {
        let window = Window { secs: FAILED_LOGINS_OF_NAME_SECS, begins: Begins::WithTheFirst };
        let key = Key::FailedLoginsOfName(NameDigest::of(name), network);
        let of_name = Self { key, limit: FAILED_LOGINS_OF_NAME, window };
        let window = Window { secs: HOUR_SECS, begins: Begins::WithTheFirst };
        let of_all = Self { key: Key::FailedLogins(network), limit: FAILED_LOGINS_OF_ADDRESS, window };
        let of_account = Self { key: Key::FailedLoginsOfAccount(NameDigest::of(name)), limit: u64::MAX, window };
        [of_name, of_all, of_account]
    }

    /// Registrations from an address.
    pub(super) fn of_registrations(network: Network) -> Self {
        let window = Window { secs: HOUR_SECS, begins: Begins::WithTheFirst };
        Self { key: Key::Registrations(network), limit: REGISTRATIONS_OF_ADDRESS, window }
    }

    fn hourly(key: Key, limit: u64) -> Self {
        Self { key, limit, window: Window { secs: HOUR_SECS, begins: Begins::OnTheDot } }
    }

    /// How a count of `used` stands at `now`, in a window that ends at `ends_at`.
    pub(super) fn standing(&self, used: u64, ends_at: u64, now: u64) -> Standing {
        let remaining = self.limit.saturating_sub(used);
        Standing { limit: self.limit, remaining, ends_at, ends_in: ends_at.saturating_sub(now).max(1) }
    }
}

impl Window {
    /// When the window ends that holds `now`, or begins with it. Both in seconds since 1970.
    pub(super) fn end(self, now: u64) -> u64 {
        let secs = self.secs.max(1);
        match self.begins {
            Begins::OnTheDot => now.saturating_sub(now % secs).saturating_add(secs),
            Begins::WithTheFirst => now.saturating_add(secs),
        }
    }
}

impl NameDigest {
    fn of(name: &str) -> Self {
        let mut digest = [0; 16];
        for (to, from) in digest.iter_mut().zip(Sha256::digest(name.trim().to_lowercase())) {
            *to = from;
        }
        Self(digest)
    }
}

/// What a key is called in Redis, behind the prefix.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ApiKeys(merchant) => write!(f, "keys:{merchant}"),
            Self::Logins(merchant) => write!(f, "logins:{merchant}"),
            Self::Address(network) => write!(f, "address:{network}"),
            Self::FailedLoginsOfName(NameDigest(name), network) => {
                write!(f, "failed:{}:{network}", data_encoding::HEXLOWER.encode(name))
            }
            Self::FailedLoginsOfAccount(NameDigest(name)) => {
                write!(f, "failed:{}", data_encoding::HEXLOWER.encode(name))
            }
            Self::FailedLogins(network) => write!(f, "failed:{network}"),
            Self::Registrations(network) => write!(f, "registrations:{network}"),
            Self::Trial => f.write_str("trial"),
        }
    }
}

/// Wait of a login that follows so many failed ones of its account within an hour. The wait grows by a second with each
/// failure.
pub(super) fn delay_of(failures: u64) -> Duration {
    Duration::from_secs(failures.saturating_sub(UNDELAYED_FAILURES).min(LONGEST_DELAY_SECS))
}

fn plan(merchant: &merchant::Model) -> u64 {
    u64::try_from(merchant.requests_per_hour()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::client::Client;

    #[test]
    fn hours_begin_on_the_hour_and_other_windows_with_what_is_counted_first() {
        let hour = Window { secs: 3_600, begins: Begins::OnTheDot };
        assert_eq!([hour.end(7_199), hour.end(7_200), hour.end(7_201)], [7_200, 10_800, 10_800]);
        let quarter = Window { secs: 900, begins: Begins::WithTheFirst };
        assert_eq!(quarter.end(7_199), 8_099);
    }

    #[test]
    fn the_delay_of_logins_grows_to_thirty_seconds() {
        let delays = [0, 10, 11, 12, 39, 40, 41, u64::MAX].map(|failures| delay_of(failures).as_secs());
        assert_eq!(delays, [0, 0, 1, 2, 29, 30, 30, 30]);
    }

    #[test]
    fn a_name_counts_as_one_in_any_case_and_is_not_readable_in_the_key() {
        let network = Client::of("203.0.113.7".parse().unwrap()).network;
        let [first, all, account] = Bucket::of_failed_logins("Anna@Shop.example ", network);
        let [second, ..] = Bucket::of_failed_logins("anna@shop.example", network);
        assert_eq!(first, second);
        assert_ne!(first, Bucket::of_failed_logins("ann", network)[0]);
        assert_eq!(
            account,
            Bucket::of_failed_logins("anna@shop.example", Client::of("::1".parse().unwrap()).network)[2]
        );
        assert!(!account.key.to_string().contains("anna"));
        let key = first.key.to_string();
        assert!(!key.contains("anna") && key.ends_with(":203.0.113.7") && key != all.key.to_string(), "{key}");
    }
}
