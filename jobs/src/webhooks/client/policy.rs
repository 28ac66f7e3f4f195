//! Where this deployment's webhooks may go.

use std::net::IpAddr;

use ipnet::IpNet;

use super::addresses::ban;

/// The deployment's choice, from its configuration.
#[derive(Debug, Clone, Default)]
pub struct ClientPolicy {
    /// Networks that are exempt from the ban (`CRYPTOPAY_WEBHOOK_ALLOW`). An IPv4 network also covers the IPv4-mapped
    /// form of its addresses.
    pub allow: Vec<IpNet>,
    /// Whether `http://` is refused. True in live.
    pub https_only: bool,
}

impl ClientPolicy {
    /// Whether a connection to `ip` may be opened. `host` is the name that led to it; `None` for a literal address.
    ///
    /// # Errors
    /// The refusal, with the mend.
    pub fn judge(&self, ip: IpAddr, host: Option<&str>) -> Result<(), Refused> {
        let canonical = ip.to_canonical();
        match ban(ip) {
            Some(kind) if !self.allow.iter().any(|net| net.contains(&ip) || net.contains(&canonical)) => {
                Err(Refused { host: host.map(str::to_owned), address: canonical, kind, is_for_good: self.https_only })
            }
            _ => Ok(()),
        }
    }
}

/// An address that webhooks are not sent to. The words go to the client as they are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.words())]
pub struct Refused {
    /// The name that led to the address; `None` where the URL holds the address itself.
    pub host: Option<String>,
    /// The address; an IPv4-mapped one as IPv4.
    pub address: IpAddr,
    /// What kind of address it is, such as `private`.
    pub kind: &'static str,
    /// Whether no operator can allow it. True in live.
    pub is_for_good: bool,
}

impl Refused {
    /// The smallest network that would exempt this address, such as `10.0.0.5/32`.
    pub fn cidr(&self) -> IpNet {
        self.address.into()
    }

    /// In live the words name neither the resolved address nor its kind: a merchant could otherwise read the operator's
    /// internal names.
    fn words(&self) -> String {
        let Self { host, address, kind, is_for_good } = self;
        if *is_for_good {
            let subject = host.as_ref().map_or("The host of the URL", |host| host.as_str());
            return format!("{subject} is not a public address, so no webhook is sent there.");
        }
        let resolved = host.as_ref().map(|host| format!("{host} resolves to {address}: ")).unwrap_or_default();
        let cidr = self.cidr();
        format!(
            "{resolved}{address} is not a public address ({kind}), so no webhook is sent there. To allow it, the operator \
             adds {cidr} to CRYPTOPAY_WEBHOOK_ALLOW."
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_variable_and_the_network_to_add() {
        let policy = ClientPolicy::default();
        let words = policy.judge("10.0.0.5".parse().unwrap(), Some("hooks.internal")).unwrap_err().to_string();
        assert!(words.contains("hooks.internal resolves to 10.0.0.5"), "{words}");
        assert!(words.contains("adds 10.0.0.5/32 to CRYPTOPAY_WEBHOOK_ALLOW"), "{words}");
        let words = policy.judge("fd00::1".parse().unwrap(), None).unwrap_err().to_string();
        assert!(
            words.starts_with("fd00::1 is not a public address (private)") && words.contains("fd00::1/128"),
            "{words}"
        );
    }

    #[test]
    fn a_refusal_in_live_never_names_the_resolved_address() {
        let live = ClientPolicy { https_only: true, ..ClientPolicy::default() };
        for (address, kind) in [("10.0.0.5", "private"), ("169.254.169.254", "metadata"), ("fd00::1", "private")] {
            for host in [Some("db.internal"), None] {
                let words = live.judge(address.parse().unwrap(), host).unwrap_err().to_string();
                assert!(words.ends_with("is not a public address, so no webhook is sent there."), "{words}");
                assert!(!words.contains(address) && !words.contains(kind), "{words}");
                assert!(host.is_none_or(|host| words.starts_with(host)), "{words}");
            }
        }
    }

    #[test]
    fn what_a_refusal_names_is_enough_to_allow_the_address() {
        for ip in ["10.0.0.5", "::ffff:10.0.0.5", "fd00::1", "64:ff9b::10.0.0.5", "2002:7f00:1::", "169.254.169.254"] {
            let ip: IpAddr = ip.parse().unwrap();
            let refused = ClientPolicy::default().judge(ip, None).unwrap_err();
            let policy = ClientPolicy { allow: vec![refused.cidr()], https_only: false };
            assert_eq!(policy.judge(ip, None), Ok(()), "{ip}");
        }
    }

    #[test]
    fn an_allowed_network_opens_nothing_else() {
        let policy = ClientPolicy { allow: vec!["127.0.0.0/8".parse().unwrap()], https_only: false };
        assert!(policy.judge("127.9.9.9".parse().unwrap(), None).is_ok());
        assert!(policy.judge("::ffff:127.0.0.1".parse().unwrap(), None).is_ok());
        for ip in ["::1", "10.0.0.1", "64:ff9b::127.0.0.1", "::127.0.0.1", "2002:7f00:1::"] {
            assert!(policy.judge(ip.parse().unwrap(), None).is_err(), "{ip}");
        }
    }
}
