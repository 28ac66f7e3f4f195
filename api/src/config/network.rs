//! Addresses, networks and origins.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use url::Url;

use super::error::Problem;

/// Most entries of any list here.
const MAX_ENTRIES: usize = 256;

/// Which browsers may call the API, and open its sockets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CorsOrigins {
    /// All.
    Any,
    /// Those of these origins, in the form in which browsers send them (`https://shop.example`, no default port).
    Listed(Vec<String>),
}

impl CorsOrigins {
    /// Whether a browser that sends this `Origin` may.
    pub fn allows(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Listed(origins) => origins.iter().any(|allowed| allowed == origin),
        }
    }
}

pub(super) fn bind(text: &str) -> Result<SocketAddr, Problem> {
    text.parse().map_err(|_| Problem::of_value(text, "is no address", "set it to something like 127.0.0.1:8080"))
}

/// An `http(s)` URL with at most a path.
pub(super) fn public_url(text: &str) -> Result<Url, Problem> {
    const MEND: &str = "set it to something like https://pay.example.com";
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    // Not repeated before it is known to hold no password.
    let url = url.ok_or_else(|| Problem::secretly("it is no http(s) URL", MEND))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Problem::secretly("it holds a user name or password, which every customer would see", MEND));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(Problem::of_value(text, "has a query or fragment, and paths are appended to it", MEND));
    }
    Ok(url)
}

/// A comma list of CIDRs; a bare address is a network of its own.
pub(super) fn networks(text: &str) -> Result<Vec<IpNet>, Problem> {
    entries(text)?.map(network).collect()
}

/// What sandbox mode lets webhooks reach.
pub(super) fn loopback() -> Vec<IpNet> {
    let v4 = Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8);
    vec![v4.into(), Ipv6Net::from(Ipv6Addr::LOCALHOST).into()]
}

/// `*`, or a comma list of origins.
pub(super) fn origins(text: &str) -> Result<CorsOrigins, Problem> {
    if text == "*" {
        return Ok(CorsOrigins::Any);
    }
    entries(text)?.map(origin).collect::<Result<_, _>>().map(CorsOrigins::Listed)
}

/// A comma list of URIs that a person can be reached at. RFC 9116 requires URIs, so an e-mail address needs `mailto:`.
pub(super) fn contacts(text: &str) -> Result<Vec<String>, Problem> {
    entries(text)?.map(contact).collect()
}

fn contact(text: &str) -> Result<String, Problem> {
    const MEND: &str = "set it to something like mailto:security@shop.example or https://shop.example/security";
    let url = Url::parse(text).ok().filter(|url| match url.scheme() {
        "https" => url.has_host() && url.username().is_empty() && url.password().is_none(),
        "mailto" => url.path().contains('@'),
        "tel" => !url.path().is_empty(),
        _ => false,
    });
    url.map(String::from).ok_or_else(|| Problem::of_value(text, "is no contact that a security.txt may have", MEND))
}

/// The entries of a comma list; a comma too many does no harm.
pub(super) fn entries(text: &str) -> Result<impl Iterator<Item = &str>, Problem> {
    if text.split(',').count() > MAX_ENTRIES {
        return Err(Problem::secretly(format!("it has more than {MAX_ENTRIES} entries"), "shorten it"));
    }
    Ok(text.split(',').map(str::trim).filter(|entry| !entry.is_empty()))
}

fn network(text: &str) -> Result<IpNet, Problem> {
    let network = text.parse::<IpNet>().map(|network| network.trunc());
    network
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| Problem::of_value(text, "is no network", "set it to a comma list like 10.0.0.0/8,fd00::/8"))
}

fn origin(text: &str) -> Result<String, Problem> {
    const MEND: &str = "set it to * alone, or to a comma list like https://shop.example,http://localhost:3000";
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let bare = url.filter(|url| {
        let tail = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        tail && url.username().is_empty() && url.password().is_none()
    });
    bare.map(|url| url.origin().ascii_serialization()).ok_or_else(|| Problem::of_value(text, "is no origin", MEND))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_may_be_one_address_or_written_carelessly() {
        let read = networks(" 10.1.2.3/8, ::1 ,,192.0.2.7").unwrap();
        assert_eq!(read, ["10.0.0.0/8", "::1/128", "192.0.2.7/32"].map(|net| net.parse().unwrap()));
        assert_eq!(loopback(), networks("127.0.0.0/8,::1/128").unwrap());
    }

    #[test]
    fn a_security_contact_is_a_uri_with_a_known_scheme() {
        let read = contacts("mailto:security@shop.example, https://shop.example/security,tel:+1-201-555-0123").unwrap();
        assert_eq!(read, ["mailto:security@shop.example", "https://shop.example/security", "tel:+1-201-555-0123"]);
        for text in
            ["security@shop.example", "http://shop.example/", "mailto:x", "javascript:alert(1)", "https://u:p@x/"]
        {
            assert!(contacts(text).is_err(), "{text}");
        }
        // A line break would be a field of its own.
        assert!(contacts("mailto:a@b.example\nExpires: never").unwrap().iter().all(|contact| !contact.contains('\n')));
    }

    #[test]
    fn origins_are_kept_as_browsers_send_them() {
        let read = origins("https://Shop.Example:443/, http://localhost:3000").unwrap();
        assert_eq!(read, CorsOrigins::Listed(vec!["https://shop.example".into(), "http://localhost:3000".into()]));
        assert!(
            read.allows("https://shop.example") && !read.allows("https://shop.example:444") && !read.allows("null")
        );
        assert!(origins("*").unwrap().allows("https://anybody.example"));
    }
}
