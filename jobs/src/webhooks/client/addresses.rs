//! Which addresses the public internet never gives to a webhook receiver.
//!
//! A merchant chooses where webhooks go, so a webhook is a request that a stranger aims from inside our network. Every
//! address that could reach something of ours instead of something of the merchant's is banned here: the ranges that the
//! IANA special-purpose registries mark as not globally reachable, the metadata services of the clouds, and every IPv6
//! form that hides an IPv4 address.
//!
//! Sources: the IANA IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890, RFC 8190), the IANA IPv6 address space
//! registry (RFC 4291: only `2000::/3` is global unicast), and the RFC beside each entry. Registry entries that are
//! globally reachable and harmless (AS112, AMT) are left open.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

/// Why webhooks do not go to `ip`: the kind of address it is, such as `private` or `loopback`. `None` for an address of
/// the public internet.
///
/// IPv4-mapped addresses and those of the well-known NAT64 prefix are what they embed.
pub fn ban(ip: IpAddr) -> Option<&'static str> {
    match ip {
        IpAddr::V4(ip) => ban_v4(ip),
        IpAddr::V6(ip) => ban_v6(ip),
    }
}

/// More specific entries come first: the first that matches names the kind.
const BANNED_V4: &[(Ipv4Net, &str)] = &[
    // The address at which AWS, Google Cloud, Azure, DigitalOcean and others hand out credentials of the machine.
    (v4(169, 254, 169, 254, 32), "cloud metadata"),
    // The same at Alibaba Cloud and at Oracle's older API.
    (v4(100, 100, 100, 200, 32), "cloud metadata"),
    (v4(192, 0, 0, 192, 32), "cloud metadata"),
    // Azure's host agent (WireServer). A public address by number; inside Azure it is the hypervisor.
    (v4(168, 63, 129, 16, 32), "cloud metadata"),
    // RFC 791 §3.2. Linux connects 0.0.0.0 to itself.
    (v4(0, 0, 0, 0, 8), "unspecified"),
    // RFC 1918.
    (v4(10, 0, 0, 0, 8), "private"),
    (v4(172, 16, 0, 0, 12), "private"),
    (v4(192, 168, 0, 0, 16), "private"),
    // RFC 6598.
    (v4(100, 64, 0, 0, 10), "carrier-grade NAT"),
    // RFC 1122 §3.2.1.3.
    (v4(127, 0, 0, 0, 8), "loopback"),
    // RFC 3927.
    (v4(169, 254, 0, 0, 16), "link-local"),
    // RFC 6890 §2.1, RFC 7335, RFC 7723, RFC 8155, RFC 8880.
    (v4(192, 0, 0, 0, 24), "protocol assignment"),
    // RFC 5737.
    (v4(192, 0, 2, 0, 24), "documentation"),
    (v4(198, 51, 100, 0, 24), "documentation"),
    (v4(203, 0, 113, 0, 24), "documentation"),
    // RFC 7526: the anycast relays of 6to4, which are gone.
    (v4(192, 88, 99, 0, 24), "6to4 relay"),
    // RFC 2544.
    (v4(198, 18, 0, 0, 15), "benchmarking"),
    // RFC 5771.
    (v4(224, 0, 0, 0, 4), "multicast"),
    // RFC 8190, RFC 919 §7.
    (v4(255, 255, 255, 255, 32), "broadcast"),
    // RFC 1112 §4.
    (v4(240, 0, 0, 0, 4), "reserved"),
];

/// More specific entries come first: the first that matches names the kind.
const BANNED_V6: &[(Ipv6Net, &str)] = &[
    // Amazon EC2 and Google Cloud.
    (v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254], 128), "cloud metadata"),
    (v6([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254], 128), "cloud metadata"),
    // RFC 4291 §2.5.2, §2.5.3.
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 128), "unspecified"),
    (v6([0, 0, 0, 0, 0, 0, 0, 1], 128), "loopback"),
    // RFC 4291 §2.5.5.1, deprecated.
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 96), "IPv4-compatible"),
    // RFC 7915 (IPv4-translated, `::ffff:0:a.b.c.d`).
    (v6([0, 0, 0, 0, 0xffff, 0, 0, 0], 96), "IPv4-translated"),
    // RFC 8215: NAT64 of a local network; where the IPv4 address stands is its own business.
    (v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48), "local NAT64"),
    // RFC 6666 and RFC 9780.
    (v6([0x100, 0, 0, 0, 0, 0, 0, 0], 64), "discard-only"),
    (v6([0x100, 0, 0, 1, 0, 0, 0, 0], 64), "dummy prefix"),
    // RFC 4380.
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32), "Teredo"),
    // RFC 2928, with ORCHID (RFC 4843, RFC 7343), benchmarking (RFC 5180) and the anycast assignments.
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23), "protocol assignment"),
    // RFC 3849 and RFC 9637.
    (v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), "documentation"),
    (v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20), "documentation"),
    // RFC 3056: an IPv4 address in bits 16 to 47.
    (v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16), "6to4"),
    // RFC 9602.
    (v6([0x5f00, 0, 0, 0, 0, 0, 0, 0], 16), "segment routing"),
    // RFC 4193.
    (v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7), "private"),
    // RFC 4291 §2.5.6.
    (v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), "link-local"),
    // RFC 3879, deprecated; routers may still know it.
    (v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10), "site-local"),
    // RFC 4291 §2.7.
    (v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), "multicast"),
];

/// RFC 4291 §2.4, IANA IPv6 address space: the only block out of which public addresses have been given.
const GLOBAL_UNICAST: Ipv6Net = v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);

/// RFC 6052 §2.1: the IPv4 address is in the last 32 bits. On networks with DNS64 every IPv4-only receiver looks so.
const NAT64: Ipv6Net = v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96);

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(s: [u16; 8], prefix: u8) -> Ipv6Net {
    let [a, b, c, d, e, f, g, h] = s;
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, e, f, g, h), prefix)
}

fn ban_v4(ip: Ipv4Addr) -> Option<&'static str> {
    BANNED_V4.iter().find(|(net, _)| net.contains(&ip)).map(|(_, kind)| *kind)
}

fn ban_v6(ip: Ipv6Addr) -> Option<&'static str> {
    if let Some(embedded) = ip.to_ipv4_mapped() {
        return ban_v4(embedded);
    }
    if NAT64.contains(&ip) {
        let [.., a, b, c, d] = ip.octets();
        return ban_v4(Ipv4Addr::new(a, b, c, d));
    }
    if let Some((_, kind)) = BANNED_V6.iter().find(|(net, _)| net.contains(&ip)) {
        return Some(kind);
    }
    if GLOBAL_UNICAST.contains(&ip) { None } else { Some("reserved") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(ip: &str) -> Option<&'static str> {
        ban(ip.parse().unwrap())
    }

    #[test]
    fn both_ends_of_every_banned_range_are_banned() {
        for (net, _) in BANNED_V4 {
            assert!(ban(net.network().into()).is_some(), "{net}");
            assert!(ban(net.broadcast().into()).is_some(), "{net}");
        }
        for (net, _) in BANNED_V6 {
            assert!(ban(net.network().into()).is_some(), "{net}");
            assert!(ban(net.broadcast().into()).is_some(), "{net}");
        }
    }

    #[test]
    fn the_neighbours_of_banned_ranges_are_public() {
        for ip in [
            "1.0.0.0",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "191.255.255.255",
            "192.0.1.0",
            "192.0.3.0",
            "192.88.98.255",
            "192.88.100.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "198.51.99.255",
            "198.51.101.0",
            "203.0.112.255",
            "203.0.114.0",
            "223.255.255.255",
            "168.63.129.15",
            "2001:200::",
            "2001:db7:ffff::",
            "2001:db9::",
            "2003::",
            "3ffe::1",
            "2000::1",
        ] {
            assert_eq!(kind(ip), None, "{ip}");
        }
    }

    #[test]
    fn the_kind_is_the_most_telling_one() {
        assert_eq!(kind("169.254.169.254"), Some("cloud metadata"));
        assert_eq!(kind("169.254.1.1"), Some("link-local"));
        assert_eq!(kind("fd00:ec2::254"), Some("cloud metadata"));
        assert_eq!(kind("::"), Some("unspecified"));
        assert_eq!(kind("::1"), Some("loopback"));
        assert_eq!(kind("255.255.255.255"), Some("broadcast"));
    }

    #[test]
    fn an_embedded_ipv4_address_is_judged_for_itself() {
        assert_eq!(kind("::ffff:10.0.0.5"), Some("private"));
        assert_eq!(kind("::ffff:8.8.8.8"), None);
        assert_eq!(kind("64:ff9b::10.0.0.5"), Some("private"));
        assert_eq!(kind("64:ff9b::8.8.8.8"), None);
    }

    #[test]
    fn what_is_not_global_unicast_is_reserved() {
        for ip in ["1fff::1", "4000::1", "64:ff9b::1:0:0", "200::1", "::1:0:0:0:0"] {
            assert_eq!(kind(ip), Some("reserved"), "{ip}");
        }
    }
}
