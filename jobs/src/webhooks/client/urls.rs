//! What a webhook URL must be.

use std::net::IpAddr;

use url::{Host, ParseError, Url};

use super::policy::{ClientPolicy, Refused};

/// Longest URL, in characters, as sent and as normalised.
pub const MAX_URL_CHARS: usize = 2048;

/// Why a webhook URL is refused. The words go to the client as the error of the field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlProblem {
    /// Longer than [`MAX_URL_CHARS`].
    #[error("Enter a URL of at most {MAX_URL_CHARS} characters, counted with non-ASCII ones percent-encoded.")]
    TooLong,
    /// Has white space or control characters, which URL parsers drop or keep, each as it likes.
    #[error("Remove the white space and control characters from the URL.")]
    WhiteSpace,
    /// No scheme at all.
    #[error("Enter the whole URL, beginning with https://.")]
    Relative,
    /// Neither http nor https.
    #[error("Use a URL that begins with https:// (or http:// in sandbox mode).")]
    Scheme,
    /// Plain http where webhooks must be encrypted.
    #[error("Use https://: in live mode webhooks are only sent over TLS.")]
    HttpsOnly,
    /// No host.
    #[error("The URL has no host name: write it as https://example.com/path.")]
    NoHost,
    /// A host that no name server knows.
    #[error("The host name has characters that no host name has: use letters, digits, - and dots.")]
    Host,
    /// Not a URL.
    #[error("This is not a valid URL: {0}.")]
    Malformed(ParseError),
    /// User name or password inside the URL.
    #[error("Remove the user name and password from the URL: webhooks are authenticated by their signature.")]
    Credentials,
    /// A literal address that webhooks are not sent to.
    #[error(transparent)]
    Refused(#[from] Refused),
}

/// Judges a URL that is about to be stored, and returns it normalised and without its fragment, which is never sent.
///
/// Literal addresses are judged here, in whatever way they are written (`0x7f.1`, `2130706433`, `[::ffff:127.0.0.1]`:
/// the parser knows the forms). Names are judged when a connection is opened, because what they mean may change.
///
/// # Errors
/// What is wrong and how to mend it, in words for the client.
pub fn check_url(text: &str, policy: &ClientPolicy) -> Result<Url, UrlProblem> {
    if text.chars().nth(MAX_URL_CHARS).is_some() {
        return Err(UrlProblem::TooLong);
    }
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(UrlProblem::WhiteSpace);
    }
    let mut url = Url::parse(text).map_err(|error| match error {
        ParseError::RelativeUrlWithoutBase => UrlProblem::Relative,
        ParseError::EmptyHost => UrlProblem::NoHost,
        other => UrlProblem::Malformed(other),
    })?;
    url.set_fragment(None);
    judge(&url, policy)?;
    Ok(url)
}

/// Scheme, host and port of a URL, `https://example.com:443`: the key by which receivers are told apart.
pub fn origin(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port_or_known_default() {
        Some(port) => format!("{}://{host}:{port}", url.scheme()),
        None => format!("{}://{host}", url.scheme()),
    }
}

/// Judges a parsed URL, when it is stored and each time it is used.
pub(super) fn judge(url: &Url, policy: &ClientPolicy) -> Result<(), UrlProblem> {
    match url.scheme() {
        "https" => {}
        "http" if policy.https_only => return Err(UrlProblem::HttpsOnly),
        "http" => {}
        _ => return Err(UrlProblem::Scheme),
    }
    if url.as_str().len() > MAX_URL_CHARS {
        return Err(UrlProblem::TooLong);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(UrlProblem::Credentials);
    }
    let literal: IpAddr = match url.host() {
        None => return Err(UrlProblem::NoHost),
        // For http and https the parser makes every host that ends in a number an address or an error, so that no
        // name is left which the connector would read as an address.
        Some(Host::Domain(name)) => return if is_name(name) { Ok(()) } else { Err(UrlProblem::Host) },
        Some(Host::Ipv4(ip)) => ip.into(),
        Some(Host::Ipv6(ip)) => ip.into(),
    };
    Ok(policy.judge(literal, None)?)
}

/// Whether a host, by now in ASCII, is a name of letters, digits, `-`, `_` and dots. Parsers take more, which is no URI.
fn is_name(host: &str) -> bool {
    host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_made_of_what_names_are_made_of() {
        let policy = ClientPolicy::default();
        for url in ["https://t{/", "https://a!b.example/", "https://a$b.example/", "https://shop.example;x/"] {
            assert_eq!(check_url(url, &policy), Err(UrlProblem::Host), "{url}");
        }
        for url in
            ["https://my_shop.example/", "https://xn--bcher-kva.example/", "https://bücher.example/", "https://a.b-c/"]
        {
            assert!(check_url(url, &policy).is_ok(), "{url}");
        }
    }

    /// Spellings of addresses that must never be reached; one URL a line.
    const REFUSED: &str = include_str!("corpus/refused.txt");
    /// URLs that must stay usable; one a line.
    const PUBLIC: &str = include_str!("corpus/public.txt");

    fn lines(corpus: &str) -> impl Iterator<Item = &str> {
        corpus.lines().filter(|line| !line.is_empty() && !line.starts_with("# "))
    }

    fn sandbox() -> ClientPolicy {
        ClientPolicy::default()
    }

    #[test]
    fn no_spelling_of_the_corpus_gets_through() {
        let through: Vec<_> = lines(REFUSED).filter(|line| check_url(line, &sandbox()).is_ok()).collect();
        assert!(through.is_empty(), "{through:#?}");
        let by_address = |line: &&str| matches!(check_url(line, &sandbox()), Err(UrlProblem::Refused(_)));
        assert!(lines(REFUSED).filter(by_address).count() > 200, "most are read as the addresses that they are");
    }

    #[test]
    fn a_refusal_of_a_spelling_names_the_network_that_would_allow_it() {
        for line in lines(REFUSED) {
            if let Err(UrlProblem::Refused(refused)) = check_url(line, &sandbox()) {
                let policy = ClientPolicy { allow: vec![refused.cidr()], https_only: false };
                assert!(check_url(line, &policy).is_ok(), "{line}");
            }
        }
    }

    #[test]
    fn public_urls_of_the_corpus_are_accepted() {
        for line in lines(PUBLIC) {
            assert!(check_url(line, &sandbox()).is_ok(), "{line}: {:?}", check_url(line, &sandbox()));
        }
    }

    #[test]
    fn every_problem_is_told_apart() {
        let problem = |text: &str| check_url(text, &sandbox()).unwrap_err();
        assert_eq!(problem("example.com/hook"), UrlProblem::Relative);
        assert_eq!(problem(""), UrlProblem::Relative);
        assert_eq!(problem("ftp://example.com/"), UrlProblem::Scheme);
        assert_eq!(problem("javascript:alert(1)"), UrlProblem::Scheme);
        assert_eq!(problem("https://"), UrlProblem::NoHost);
        assert_eq!(problem(" https://example.com/"), UrlProblem::WhiteSpace);
        assert_eq!(problem("https://exa\tmple.com/"), UrlProblem::WhiteSpace);
        assert_eq!(problem("https://user@example.com/"), UrlProblem::Credentials);
        assert_eq!(problem("https://:pass@example.com/"), UrlProblem::Credentials);
        assert!(matches!(problem("https://1.2.3.256/"), UrlProblem::Malformed(_)));
        assert!(matches!(problem("https://10.0.0.5/"), UrlProblem::Refused(_)));
    }

    #[test]
    fn live_mode_takes_https_only() {
        let live = ClientPolicy { allow: Vec::new(), https_only: true };
        assert_eq!(check_url("http://example.com/", &live), Err(UrlProblem::HttpsOnly));
        assert!(check_url("https://example.com/", &live).is_ok());
    }

    #[test]
    fn length_is_judged_as_sent_and_as_normalised() {
        let fill = |c: &str, n| format!("https://example.com/{}", c.repeat(n));
        assert!(check_url(&fill("a", MAX_URL_CHARS - 20), &sandbox()).is_ok());
        assert_eq!(check_url(&fill("a", MAX_URL_CHARS - 19), &sandbox()), Err(UrlProblem::TooLong));
        assert_eq!(check_url(&fill("é", 400), &sandbox()), Err(UrlProblem::TooLong));
        assert_eq!(check_url(&fill("é", 1_000_000), &sandbox()), Err(UrlProblem::TooLong));
    }

    #[test]
    fn the_fragment_is_dropped_and_the_rest_kept() {
        let url = check_url("HTTPS://Example.com/a?b=c#d", &sandbox()).unwrap();
        assert_eq!(url.as_str(), "https://example.com/a?b=c");
    }

    #[test]
    fn an_origin_always_has_its_port() {
        let of = |text: &str| origin(&Url::parse(text).unwrap());
        assert_eq!(of("https://Example.com/a?b"), "https://example.com:443");
        assert_eq!(of("http://example.com:8080/"), "http://example.com:8080");
        assert_eq!(of("http://[2606:4700::1111]/"), "http://[2606:4700::1111]:80");
    }
}
