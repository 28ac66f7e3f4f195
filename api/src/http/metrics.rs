//! `GET /metrics`, for those who watch over the gateway: Prometheus' text form.
//!
//! It holds no secret, but what it tells of the shop's business is nobody else's. So it is answered to peers of a
//! private network only (loopback included), and never to a request that came through a proxy, which every proxy says
//! of it: forgetting to close the path there gives nothing away. Everybody else is told that there is no such route.

use std::net::IpAddr;

use metrics_exporter_prometheus::PrometheusHandle;
use poem::http::{HeaderMap, header};
use poem::web::Data;
use poem::{Request, Response, handler};

use crate::app::App;
use crate::error::ApiError;
use crate::metrics::State;

/// Headers by which proxies say that they pass something on.
const PASSED_ON: [&str; 6] =
    ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "via"];

#[handler]
pub(super) async fn metrics(
    request: &Request,
    app: Data<&App>,
    state: Data<&State>,
    recorder: Data<&PrometheusHandle>,
) -> Result<Response, poem::Error> {
    let peer = request.remote_addr().as_socket_addr().map(|address| address.ip());
    if !may_read(peer, request.headers()) {
        return Err(ApiError::not_found("route").into());
    }
    let text = state.render(&app, &recorder).await;
    Ok(Response::builder()
        .header(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")
        .body(text.to_string()))
}

/// A peer that is no IP address is a socket of this host.
fn may_read(peer: Option<IpAddr>, headers: &HeaderMap) -> bool {
    peer.is_none_or(is_private) && !PASSED_ON.iter().any(|name| headers.contains_key(*name))
}

fn is_private(peer: IpAddr) -> bool {
    match peer.to_canonical() {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_private_peers_that_come_without_a_proxy_may_read() {
        let none = HeaderMap::new();
        for (peer, may) in [
            ("127.0.0.1", true),
            ("::1", true),
            ("10.1.2.3", true),
            ("::ffff:192.168.1.1", true),
            ("fd00::1", true),
            ("203.0.113.7", false),
            ("2001:db8::1", false),
            ("172.32.0.1", false),
        ] {
            assert_eq!(may_read(Some(peer.parse().unwrap()), &none), may, "{peer}");
        }
        for name in PASSED_ON {
            let mut headers = HeaderMap::new();
            headers.insert(name, "203.0.113.7".parse().unwrap());
            assert!(!may_read(Some("127.0.0.1".parse().unwrap()), &headers), "{name}");
        }
    }
}
