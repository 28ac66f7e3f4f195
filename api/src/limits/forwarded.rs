//! What proxies write about those before them: `Forwarded` (RFC 7239) and `X-Forwarded-For`. Pure functions over a line of
//! a header, bounded in length; they judge nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Longest line that is read, in bytes.
const MAX_LINE_BYTES: usize = 8 * 1024;
/// Most hops that are followed. A request goes through a handful of proxies.
pub(super) const MAX_HOPS: usize = 32;

/// One station of a request, as the proxy after it saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hop {
    /// At this address.
    Address(IpAddr),
    /// Somewhere that the proxy does not tell.
    Hidden,
}

/// The hops of a line of `X-Forwarded-For`, the nearest one last; `None` if it cannot be read.
pub(super) fn common(line: &str) -> Option<Vec<Hop>> {
    if line.len() > MAX_LINE_BYTES {
        return None;
    }
    // Nothing before the last ones is ever looked at.
    let mut hops: Vec<Hop> =
        line.rsplit(',').take(MAX_HOPS.saturating_add(1)).map(|text| loose_node(text.trim())).collect();
    hops.reverse();
    Some(hops)
}

/// The hops of a line of `Forwarded`, the nearest one last; `None` if it is not well-formed.
pub(super) fn standard(line: &str) -> Option<Vec<Hop>> {
    if line.len() > MAX_LINE_BYTES {
        return None;
    }
    let mut hops = Vec::new();
    let mut rest = line;
    loop {
        let (hop, after) = element(rest)?;
        hops.push(hop);
        match after.strip_prefix(',') {
            Some(more) => rest = more,
            None if after.is_empty() => return Some(hops),
            None => return None,
        }
    }
}

/// One element, and what follows it.
fn element(mut text: &str) -> Option<(Hop, &str)> {
    let mut hop = None;
    loop {
        let (name, after) = token(text.trim_start())?;
        let (value, after) = value(after.strip_prefix('=')?)?;
        if name.eq_ignore_ascii_case("for") {
            // A second one is somebody's trick.
            if hop.is_some() {
                return None;
            }
            hop = Some(node(&value));
        }
        let after = after.trim_start();
        match after.strip_prefix(';') {
            Some(more) => text = more,
            None => return Some((hop.unwrap_or(Hop::Hidden), after)),
        }
    }
}

/// A token (RFC 9110, section 5.6.2) and what follows it.
fn token(text: &str) -> Option<(&str, &str)> {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    let end = text.find(|c| !is_token(c)).unwrap_or(text.len());
    text.split_at_checked(end).filter(|(token, _)| !token.is_empty())
}

/// A token or a quoted string without its quotes, and what follows it.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        return token(text).map(|(token, rest)| (token.to_owned(), rest));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return Some((value, quoted.get(at.saturating_add(1)..)?)),
            '\\' => value.push(characters.next()?.1),
            c => value.push(c),
        }
    }
    None
}

/// A node (RFC 7239, section 6): IPv6 in brackets, and a port, which may be obfuscated too.
fn node(text: &str) -> Hop {
    let address = match text.strip_prefix('[') {
        Some(inner) => inner.split_once(']').filter(|(_, port)| is_port(port)).and_then(|(address, _)| v6(address)),
        None => {
            let end = text.find(':').unwrap_or(text.len());
            text.split_at_checked(end).filter(|(_, port)| is_port(port)).and_then(|(address, _)| v4(address))
        }
    };
    address.map_or(Hop::Hidden, Hop::Address)
}

/// An address as proxies write it into `X-Forwarded-For`: IPv6 with or without brackets, a port or none.
fn loose_node(text: &str) -> Hop {
    v6(text).map_or_else(|| node(text), Hop::Address)
}

/// What follows an address: nothing, or a port.
fn is_port(text: &str) -> bool {
    let Some(port) = text.strip_prefix(':') else { return text.is_empty() };
    match port.strip_prefix('_') {
        Some(name) => !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)),
        None => port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok(),
    }
}

fn v4(text: &str) -> Option<IpAddr> {
    text.parse::<Ipv4Addr>().ok().map(IpAddr::from)
}

fn v6(text: &str) -> Option<IpAddr> {
    text.parse::<Ipv6Addr>().ok().map(IpAddr::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> Hop {
        Hop::Address(text.parse().unwrap())
    }

    #[test]
    fn elements_are_read_with_their_quotes_and_blanks() {
        let line = "for=192.0.2.43;proto=http , for=\"[2001:db8:cafe::17]:4711\" ;by=203.0.113.43,host=x";
        assert_eq!(standard(line), Some(vec![at("192.0.2.43"), at("2001:db8:cafe::17"), Hop::Hidden]));
        assert_eq!(standard("for=\"\\1\\92.0.2.1\""), Some(vec![at("192.0.2.1")]));
        for malformed in ["for", "for=", "for=a b", "=1.1.1.1", "for=1.1.1.1,", "for=1.1.1.1;", ",", "for=\"\\"] {
            assert_eq!(standard(malformed), None, "{malformed}");
        }
    }

    #[test]
    fn a_long_list_is_read_from_its_end() {
        let line = vec!["10.0.0.1"; 700].join(",") + ", 203.0.113.7";
        let hops = common(&line).unwrap();
        assert_eq!((hops.len(), hops.last()), (MAX_HOPS + 1, Some(&at("203.0.113.7"))));
        assert_eq!(common(&"1".repeat(MAX_LINE_BYTES + 1)), None);
    }

    proptest! {
        #[test]
        fn nothing_that_is_sent_makes_it_panic(line in "\\PC{0,200}", odd in "[for=\";,\\[\\]:0-9a-f._ \\\\]{0,80}") {
            for line in [line, odd] {
                let _ = (standard(&line), common(&line));
            }
        }

        #[test]
        fn an_address_is_read_back_in_every_form(v4: [u8; 4], v6: [u8; 16], port: u16) {
            let (v4, v6) = (Ipv4Addr::from(v4), Ipv6Addr::from(v6));
            for text in [format!("{v4}"), format!("{v4}:{port}")] {
                prop_assert_eq!(common(&text), Some(vec![Hop::Address(v4.into())]));
                let quoted = format!("for=\"{text}\"");
                prop_assert_eq!(standard(&quoted), Some(vec![Hop::Address(v4.into())]));
            }
            for text in [format!("[{v6}]"), format!("[{v6}]:{port}")] {
                prop_assert_eq!(common(&text), Some(vec![Hop::Address(v6.into())]));
                let quoted = format!("for=\"{text}\"");
                prop_assert_eq!(standard(&quoted), Some(vec![Hop::Address(v6.into())]));
            }
            prop_assert_eq!(common(&v6.to_string()), Some(vec![Hop::Address(v6.into())]));
        }
    }
}
