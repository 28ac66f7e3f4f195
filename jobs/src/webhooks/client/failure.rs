//! Why there was no answer, in words for the person who runs the receiver.

use std::error::Error;
use std::fmt::Display;
use std::io;
use std::iter::successors;
use std::time::Duration;

use rustls::CertificateError;

use super::policy::Refused;
use super::urls::UrlProblem;

/// Why an attempt got no answer. The words are stored with the attempt and shown to the merchant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The address is not one that webhooks go to.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The URL is not acceptable (any more).
    #[error(transparent)]
    BadUrl(UrlProblem),
    /// The name has no address.
    #[error("The name {host} could not be resolved ({reason}): check the URL and the name's DNS records.")]
    Dns {
        /// The name.
        host: String,
        /// The resolver's words.
        reason: String,
    },
    /// No TCP connection.
    #[error("No connection to {origin}: {problem}.")]
    Connect {
        /// Scheme, host and port.
        origin: String,
        /// What happened and what to look at.
        problem: String,
    },
    /// The TLS handshake failed.
    #[error("No TLS connection to {origin}: {problem}.")]
    Tls {
        /// Scheme, host and port.
        origin: String,
        /// What happened and what to look at.
        problem: String,
    },
    /// Too slow.
    #[error("{} within {} ms{}.", .phase.missing(), .after.as_millis(), .phase.mend())]
    TimedOut {
        /// What was waited for.
        phase: Phase,
        /// How long.
        after: Duration,
    },
    /// More than [`super::MAX_HEADERS`] headers, or headers of many kilobytes.
    #[error("The answer's headers are too large: send at most {} of them.", super::MAX_HEADERS)]
    TooManyHeaders,
    /// The connection was closed without a complete answer.
    #[error("The connection was closed before an answer came: look into the receiver's log for a crash or restart.")]
    Closed,
    /// What came is not HTTP/1.1.
    #[error("The answer is not HTTP/1.1 ({reason}): check that the URL's port belongs to a web server.")]
    Protocol {
        /// What is wrong with it.
        reason: String,
    },
    /// A header of ours cannot be sent.
    #[error("The header {name} holds characters that HTTP does not allow.")]
    Header {
        /// Its name.
        name: &'static str,
    },
    /// All connections of this process stayed in use. Says nothing about the receiver.
    #[error("The gateway had no connection free for this webhook: it is sent again as scheduled.")]
    Busy,
}

/// What an attempt waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// A connection: look-up, TCP and TLS.
    Connect,
    /// The status of the answer.
    Answer,
}

impl Failure {
    /// A stable word for metrics and logs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Refused(_) => "refused_address",
            Self::BadUrl(_) => "bad_url",
            Self::Dns { .. } => "dns",
            Self::Connect { .. } => "connect",
            Self::Tls { .. } => "tls",
            Self::TimedOut { phase: Phase::Connect, .. } => "connect_timeout",
            Self::TimedOut { phase: Phase::Answer, .. } => "timeout",
            Self::TooManyHeaders => "too_many_headers",
            Self::Closed => "closed",
            Self::Protocol { .. } => "protocol",
            Self::Header { .. } => "header",
            Self::Busy => "busy",
        }
    }
}

impl From<UrlProblem> for Failure {
    fn from(problem: UrlProblem) -> Self {
        match problem {
            UrlProblem::Refused(refused) => Self::Refused(refused),
            other => Self::BadUrl(other),
        }
    }
}

impl Phase {
    fn missing(self) -> &'static str {
        match self {
            Self::Connect => "No connection",
            Self::Answer => "No answer",
        }
    }

    fn mend(self) -> &'static str {
        match self {
            Self::Connect => ": check that the server is up and that no firewall drops its port",
            Self::Answer => ": answer 200 at once and do the work afterwards",
        }
    }
}

/// What an error of the HTTP client means. `connect` is the time-out for connecting.
pub(super) fn classify(error: &reqwest::Error, origin: &str, connect: Duration) -> Failure {
    // The resolver's own verdict travels inside.
    if let Some(failure) = find::<Failure>(error) {
        return failure.clone();
    }
    if error.is_connect() {
        let origin = excerpt(origin);
        if let Some(problem) = find(error) {
            return Failure::Tls { origin, problem: tls_problem(problem) };
        }
        if error.is_timeout() {
            return Failure::TimedOut { phase: Phase::Connect, after: connect };
        }
        let problem = chain(error)
            .filter_map(|cause| cause.downcast_ref())
            .last()
            .map_or_else(|| excerpt(innermost(error)), connect_problem);
        return Failure::Connect { origin, problem };
    }
    match find::<hyper::Error>(error) {
        Some(cause) if cause.is_parse_too_large() => Failure::TooManyHeaders,
        Some(cause) if cause.is_parse() => Failure::Protocol { reason: excerpt(cause) },
        Some(_) => Failure::Closed,
        None => Failure::Protocol { reason: excerpt(innermost(error)) },
    }
}

/// The first 200 characters: others' words are bounded before they are stored.
pub(super) fn excerpt(words: impl Display) -> String {
    words.to_string().chars().take(200).collect()
}

fn connect_problem(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            "the server refused it; check that the receiver is running and that the URL has its port".to_owned()
        }
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            "there is no route to the server; check the name's DNS records".to_owned()
        }
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof => {
            "the server closed it at once; check that the URL's scheme and port belong together".to_owned()
        }
        _ => excerpt(error),
    }
}

fn tls_problem(error: &rustls::Error) -> String {
    use rustls::Error as E;
    let words = match error {
        E::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "the certificate has expired; renew it"
        }
        E::InvalidCertificate(CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }) => {
            "the certificate is not valid yet; check its dates"
        }
        E::InvalidCertificate(CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }) => {
            "the certificate is for another name; use a URL with the certificate's name"
        }
        E::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "the certificate's issuer is unknown; use one of a public authority and send its intermediate certificates too"
        }
        E::InvalidCertificate(CertificateError::Revoked) => "the certificate has been revoked; replace it",
        E::InvalidMessage(_) => "what answered does not speak TLS; use http:// or the port of the TLS server",
        E::PeerIncompatible(_) => {
            "the server and the gateway have no TLS version or cipher in common; offer TLS 1.2 or 1.3"
        }
        _ => return excerpt(error),
    };
    words.to_owned()
}

fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    chain(error).find_map(|cause| cause.downcast_ref())
}

fn innermost<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    chain(error).last().unwrap_or(error)
}

/// An error and its causes. An `io::Error` that wraps another error names that one's cause as its own, so its inside is
/// looked at instead.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    successors(Some(error), |cause| {
        let cause: &'a (dyn Error + 'static) = *cause;
        match cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => cause.source(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_found_through_wrapping_io_errors() {
        let inner = rustls::Error::InvalidCertificate(CertificateError::Expired);
        let error = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, inner.clone()));
        assert_eq!(find(&error), Some(&inner));
    }

    #[test]
    fn certificate_problems_say_what_to_do() {
        let words = |problem| tls_problem(&rustls::Error::InvalidCertificate(problem));
        assert!(words(CertificateError::Expired).contains("renew"));
        assert!(words(CertificateError::UnknownIssuer).contains("intermediate"));
        assert!(words(CertificateError::NotValidForName).contains("another name"));
    }

    #[test]
    fn a_time_out_says_what_was_missing_and_how_to_mend_it() {
        let words = Failure::TimedOut { phase: Phase::Answer, after: Duration::from_secs(15) }.to_string();
        assert_eq!(words, "No answer within 15000 ms: answer 200 at once and do the work afterwards.");
    }
}
