//! Who sends a request: the address of the client, behind proxies that are trusted to tell it.
//!
//! A peer that is no trusted proxy is the client, whatever its headers say. Behind a trusted one the headers are read from
//! the right, where the nearest proxy wrote: the first address that is no trusted proxy's is the client's, and nothing
//! left of it is believed, since the client may have sent it. Where a header does not tell (it is malformed, hides the
//! address, or two headers contradict each other) the nearest proxy that is known answers for the request itself: so
//! nobody escapes a limit by confusing us.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use poem::Request;
use poem::http::{HeaderMap, HeaderName, header};

use super::forwarded::{self, Hop};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// A client as far as limits are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Client {
    /// The address itself.
    pub(crate) address: IpAddr,
    /// What is counted together.
    pub(super) network: Network,
    /// Whether it is this very host, beyond doubt.
    pub(super) is_loopback: bool,
}

/// Addresses that count as one client: an IPv4 address, or the 64 bits of an IPv6 address that a provider gives away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Network {
    /// An address.
    V4(Ipv4Addr),
    /// The first 64 bits of addresses.
    V6(Ipv6Addr),
}

impl Client {
    /// Who sends a request, as far as trusted proxies tell.
    pub(crate) fn of_request(request: &Request, trusted: &[IpNet]) -> Self {
        let peer = request.remote_addr().as_socket_addr().map(|address| address.ip());
        Self::behind(peer, request.headers(), trusted)
    }

    /// The client of a request that came from `peer` with these headers; `None` is a socket of this host that has no
    /// address, and counts as loopback.
    pub(super) fn behind(peer: Option<IpAddr>, headers: &HeaderMap, trusted: &[IpNet]) -> Self {
        let peer = peer.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |peer| peer.to_canonical());
        let standard = told(peer, headers, &header::FORWARDED, forwarded::standard, trusted);
        let common = told(peer, headers, &X_FORWARDED_FOR, forwarded::common, trusted);
        match (standard, common) {
            (None, None) => Self::of(peer),
            (Some(client), None) | (None, Some(client)) => client,
            (Some(one), Some(other)) if one.counts_as(other) => one,
            // A proxy writes one of them and may pass the other on as the client made it up: no telling which.
            (Some(_), Some(_)) => Self::unclear(peer),
        }
    }

    /// The client at an address.
    pub(super) fn of(address: IpAddr) -> Self {
        let address = address.to_canonical();
        Self { address, network: Network::of(address), is_loopback: address.is_loopback() }
    }

    /// Somebody behind a proxy that does not say who.
    fn unclear(proxy: IpAddr) -> Self {
        Self { address: proxy, network: Network::of(proxy), is_loopback: false }
    }

    /// Whether both are counted together, on the same terms.
    fn counts_as(self, other: Self) -> bool {
        (self.network, self.is_loopback) == (other.network, other.is_loopback)
    }
}

impl Network {
    /// The addresses that count as one with this one.
    pub(crate) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self::V4(v4),
            IpAddr::V6(v6) => Self::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64))),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(v4) => v4.fmt(f),
            Self::V6(v6) => write!(f, "{v6}/64"),
        }
    }
}

/// Whom a header tells of; `None` where there is no such header, or nobody who may be believed has sent it.
fn told(
    peer: IpAddr,
    headers: &HeaderMap,
    name: &HeaderName,
    parse: fn(&str) -> Option<Vec<Hop>>,
    trusted: &[IpNet],
) -> Option<Client> {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(&address));
    if !headers.contains_key(name) || !is_trusted(peer) {
        return None;
    }
    let lines: Vec<_> = headers.get_all(name).iter().collect();
    let mut nearest = peer;
    let mut hops = 0_usize;
    for line in lines.into_iter().rev() {
        let Some(line) = line.to_str().ok().and_then(parse) else { return Some(Client::unclear(nearest)) };
        for hop in line.into_iter().rev() {
            hops = hops.saturating_add(1);
            match hop {
                Hop::Address(address) if hops <= forwarded::MAX_HOPS => {
                    nearest = address.to_canonical();
                    if !is_trusted(nearest) {
                        return Some(Client::of(nearest));
                    }
                }
                _ => return Some(Client::unclear(nearest)),
            }
        }
    }
    Some(Client::of(nearest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use poem::http::HeaderValue;

    const PROXY: &str = "10.0.0.1";

    fn trusted() -> Vec<IpNet> {
        ["10.0.0.0/8", "fd00::/8", "127.0.0.1/32"].map(|network| network.parse().unwrap()).to_vec()
    }

    fn client(peer: &str, lines: &[(&str, &str)]) -> Client {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        Client::behind(Some(peer.parse().unwrap()), &headers, &trusted())
    }

    fn shown(peer: &str, lines: &[(&str, &str)]) -> String {
        client(peer, lines).network.to_string()
    }

    #[test]
    fn a_peer_that_is_no_trusted_proxy_is_the_client_whatever_it_says() {
        for name in ["forwarded", "x-forwarded-for"] {
            assert_eq!(shown("203.0.113.7", &[(name, "for=198.51.100.1, 198.51.100.1")]), "203.0.113.7");
        }
        assert_eq!(shown(PROXY, &[]), PROXY);
    }

    #[test]
    fn the_rightmost_address_that_is_no_proxys_is_the_client() {
        for (name, value, expected) in [
            ("x-forwarded-for", "203.0.113.7", "203.0.113.7"),
            ("X-Forwarded-For", "1.1.1.1, 203.0.113.7 , 10.0.0.9,10.1.1.1", "203.0.113.7"),
            ("x-forwarded-for", "1.1.1.1,203.0.113.7:4711", "203.0.113.7"),
            ("x-forwarded-for", "2001:db8:1:2:3::9", "2001:db8:1:2::/64"),
            ("x-forwarded-for", "[2001:db8:1:2:3::9]:443, fd00::7", "2001:db8:1:2::/64"),
            ("x-forwarded-for", "::ffff:203.0.113.7", "203.0.113.7"),
            ("x-forwarded-for", "10.0.0.9, 10.0.0.8", "10.0.0.9"),
            ("forwarded", "for=203.0.113.7", "203.0.113.7"),
            ("forwarded", "For=1.1.1.1;proto=https, FOR=\"203.0.113.7:80\";by=10.0.0.1", "203.0.113.7"),
            ("forwarded", "for=203.0.113.7;host=\"a,b;c\\\"d\", for=\"[fd00::1]:_port\"", "203.0.113.7"),
            ("forwarded", "for=\"[2001:db8:1:2::9]\"", "2001:db8:1:2::/64"),
        ] {
            assert_eq!(shown(PROXY, &[(name, value)]), expected, "{name}: {value}");
        }
    }

    #[test]
    fn several_lines_of_a_header_are_one() {
        let lines =
            [("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "203.0.113.7"), ("x-forwarded-for", "10.2.2.2")];
        assert_eq!(shown(PROXY, &lines), "203.0.113.7");
        let lines = [("forwarded", "for=\"1.1.1.1"), ("forwarded", "for=203.0.113.7, for=10.2.2.2")];
        assert_eq!(shown(PROXY, &lines), "203.0.113.7", "what is left of the client is not even read");
    }

    #[test]
    fn what_does_not_tell_counts_for_the_nearest_known_proxy_and_is_no_loopback() {
        let long = format!("for={}", "a".repeat(9_000));
        let many = vec!["10.0.0.9"; 500].join(",");
        for (name, value, expected) in [
            ("forwarded", "for=unknown", PROXY),
            ("forwarded", "for=_hidden, for=10.0.0.2", "10.0.0.2"),
            ("forwarded", "proto=https", PROXY),
            ("forwarded", "for=\"203.0.113.7", PROXY),
            ("forwarded", "for=1.1.1.1;x=\", for=203.0.113.7", PROXY),
            ("forwarded", "for=2001:db8::1", PROXY),
            ("forwarded", "", PROXY),
            ("forwarded", "for=203.0.113.7;for=198.51.100.1", PROXY),
            ("forwarded", long.as_str(), PROXY),
            ("x-forwarded-for", "", PROXY),
            ("x-forwarded-for", "203.0.113.7,", PROXY),
            ("x-forwarded-for", "203.0.113.7, garbage", PROXY),
            ("x-forwarded-for", "203.0.113.7, fe80::1%eth0", PROXY),
            ("x-forwarded-for", "203.0.113.7:99999", PROXY),
            ("x-forwarded-for", "[2001:db8::1", PROXY),
            ("x-forwarded-for", "203.0.113.7\u{e4}", PROXY),
            ("x-forwarded-for", many.as_str(), "10.0.0.9"),
        ] {
            let client = client(PROXY, &[(name, value)]);
            assert_eq!((client.network.to_string().as_str(), client.is_loopback), (expected, false), "{name}: {value}");
        }
    }

    #[test]
    fn two_headers_count_only_if_they_agree() {
        let agree = [("forwarded", "for=203.0.113.7"), ("x-forwarded-for", "1.1.1.1, 203.0.113.7")];
        assert_eq!(shown(PROXY, &agree), "203.0.113.7");
        let made_up = [("forwarded", "for=198.51.100.1"), ("x-forwarded-for", "203.0.113.7")];
        assert_eq!(shown(PROXY, &made_up), PROXY);
    }

    #[test]
    fn loopback_is_told_from_a_proxy_on_the_same_host() {
        let none = HeaderMap::new();
        for (peer, is_loopback) in [("127.0.0.1", true), ("::1", true), ("::ffff:127.0.0.1", true), ("10.0.0.1", false)]
        {
            assert_eq!(Client::behind(Some(peer.parse().unwrap()), &none, &[]).is_loopback, is_loopback, "{peer}");
        }
        assert!(!client("127.0.0.1", &[("x-forwarded-for", "203.0.113.7")]).is_loopback);
        assert!(!client("127.0.0.1", &[("x-forwarded-for", "?")]).is_loopback);
        assert!(client("127.0.0.1", &[("x-forwarded-for", "127.0.0.1")]).is_loopback);
        assert!(!client("127.0.0.1", &[("x-forwarded-for", "127.0.0.1, 203.0.113.7")]).is_loopback);
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one_client() {
        let of = |text: &str| Client::of(text.parse().unwrap()).network;
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
    }
}
