//! The `Host` header of a request. HTTP/1.1 requires it exactly once (RFC 9112, section 3.2): two proxies that each choose
//! another one of two headers disagree on the site that is asked.

use poem::http::{HeaderMap, Version, header};

use crate::error::ApiError;

/// A request without a clear `Host`, noted where the request arrives and answered where every error is.
#[derive(Debug, Clone, Copy)]
pub(super) struct HostProblem(&'static str);

impl HostProblem {
    /// The problem of a request with this version and these headers; `None` for a request that has its host.
    pub(super) fn of(version: Version, headers: &HeaderMap) -> Option<Self> {
        match headers.get_all(header::HOST).iter().count() {
            0 if version == Version::HTTP_11 => Some(Self("Send the header Host, as HTTP/1.1 requires.")),
            0 | 1 => None,
            _ => Some(Self("Send the header Host once.")),
        }
    }

    /// The answer to such a request.
    pub(super) fn error(self) -> ApiError {
        ApiError::field("Host", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_1_1_needs_one_host_and_http_1_0_at_most_one() {
        for (version, hosts, refused) in [
            (Version::HTTP_11, &["shop.example"][..], false),
            (Version::HTTP_11, &[][..], true),
            (Version::HTTP_11, &["shop.example", "shop.example"][..], true),
            (Version::HTTP_10, &[][..], false),
            (Version::HTTP_10, &["a.example", "b.example"][..], true),
        ] {
            let mut headers = HeaderMap::new();
            for host in hosts {
                headers.append(header::HOST, host.parse().unwrap());
            }
            assert_eq!(HostProblem::of(version, &headers).is_some(), refused, "{version:?} {hosts:?}");
        }
    }
}
