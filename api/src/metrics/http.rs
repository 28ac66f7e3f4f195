//! Requests by route. The route is the pattern of the path, so that its values can be counted on two hands; paths that
//! are none of ours count together.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use metrics::{Counter, Histogram, Unit, counter, describe_counter, describe_histogram, histogram};
use poem::http::{Method, StatusCode};

const REQUESTS: &str = "cryptopay_http_requests_total";
const SECONDS: &str = "cryptopay_http_request_seconds";

const METHODS: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other"];
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
/// What paths are counted under that are no route of ours.
const ELSEWHERE: &str = "other";

pub(super) fn describe() {
    describe_counter!(REQUESTS, Unit::Count, "HTTP requests, by route, method and class of the status.");
    describe_histogram!(SECONDS, Unit::Seconds, "Time from a request's head to the head of its answer, by route.");
}

/// Counts requests. Cheap to clone.
#[derive(Clone)]
pub(crate) struct HttpMeter(Arc<Vec<Route>>);

struct Route {
    segments: Vec<String>,
    label: String,
    seconds: OnceLock<Histogram>,
    requests: [[OnceLock<Counter>; CLASSES.len()]; METHODS.len()],
}

impl HttpMeter {
    /// Knows these routes, each in the form `/order/{id}`.
    pub(crate) fn of(routes: impl IntoIterator<Item = String>) -> Self {
        let mut known: Vec<Route> = routes.into_iter().map(Route::new).collect();
        // Words before placeholders, where both fit.
        known.sort_by_key(|route| route.segments.iter().filter(|segment| segment.starts_with('{')).count());
        known.push(Route::new(ELSEWHERE.to_owned()));
        Self(Arc::new(known))
    }

    /// Notes an answered request.
    pub(crate) fn note(&self, method: &Method, path: &str, status: StatusCode, took: Duration) {
        let route = self.0.iter().find(|route| route.fits(path)).or(self.0.last());
        if let Some(route) = route {
            route.note(method, status, took);
        }
    }
}

impl Route {
    fn new(pattern: String) -> Self {
        let segments = segments(&pattern).map(str::to_owned).collect();
        Self { segments, label: pattern, seconds: OnceLock::new(), requests: Default::default() }
    }

    /// `{*}` at the end stands for whatever follows.
    fn fits(&self, path: &str) -> bool {
        let mut path = segments(path);
        for segment in &self.segments {
            match (segment.as_str(), path.next()) {
                ("{*}", _) => return true,
                (_, None) => return false,
                (known, Some(found)) if known.starts_with('{') || known == found => {}
                _ => return false,
            }
        }
        path.next().is_none() && self.label != ELSEWHERE
    }

    fn note(&self, method: &Method, status: StatusCode, took: Duration) {
        self.seconds.get_or_init(|| histogram!(SECONDS, "route" => self.label.clone())).record(took);
        let known = METHODS.iter().position(|known| *known == method.as_str());
        let method = known.unwrap_or(METHODS.len().saturating_sub(1));
        let class = usize::from(status.as_u16() / 100).saturating_sub(1);
        let counted = self.requests.get(method).and_then(|classes| classes.get(class));
        let (Some(counter), Some(method), Some(class)) = (counted, METHODS.get(method), CLASSES.get(class)) else {
            return;
        };
        let labels = [("route", self.label.clone()), ("method", (*method).to_owned()), ("status", (*class).to_owned())];
        counter.get_or_init(|| counter!(REQUESTS, &labels)).increment(1);
    }
}

fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|segment| !segment.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_counted_under_its_pattern_and_a_strange_one_under_other() {
        let routes = ["/", "/api/orders/", "/api/orders/{id}/", "/api/orders/stats/", "/docs/{*}"];
        let meter = HttpMeter::of(routes.map(str::to_owned));
        for (path, label) in [
            ("/", "/"),
            ("/api/orders", "/api/orders/"),
            ("/api/orders/", "/api/orders/"),
            ("/api/orders/ORD-1/", "/api/orders/{id}/"),
            ("/api/orders/stats/", "/api/orders/stats/"),
            ("/docs/", "/docs/{*}"),
            ("/docs/a/b.js", "/docs/{*}"),
            ("/wp-admin.php", "other"),
            ("/other", "other"),
            ("/api/orders/ORD-1/x/", "other"),
        ] {
            let found = meter.0.iter().find(|route| route.fits(path)).or(meter.0.last()).unwrap();
            assert_eq!(found.label, label, "{path}");
        }
    }
}
