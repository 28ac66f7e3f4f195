//! Which requests are counted, and for whom.

/// For whom a request is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counted {
    /// For nobody: health, metrics, documentation, and whatever is no route of ours.
    Not,
    /// For the address it comes from.
    ByAddress,
    /// For the merchant whose token it carries, else for the address.
    ByToken,
}

/// Routes of the API that nobody needs a token for.
const OPEN: [&[&str]; 5] = [
    &["api", "auth", "register"],
    &["api", "auth", "login"],
    &["api", "auth", "token", "refresh"],
    &["api", "auth", "token", "verify"],
    &["api", "blockchains"],
];

/// How a request for this path is counted. Slashes that are doubled or left over do not matter, as they do not for routing.
pub(super) fn counted(path: &str) -> Counted {
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).take(8).collect();
    match segments.first() {
        Some(&"order" | &"qr") => Counted::ByAddress,
        Some(&"api") if OPEN.iter().any(|open| segments.starts_with(open)) => Counted::ByAddress,
        Some(&"api" | &"graphql") => Counted::ByToken,
        _ => Counted::Not,
    }
}

/// Whether answers to this path are in the form of GraphQL.
pub(super) fn is_graphql(path: &str) -> bool {
    path.split('/').find(|segment| !segment.is_empty()) == Some("graphql")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_and_documentation_are_not_counted_open_routes_by_address_the_rest_by_token() {
        for path in
            ["/", "/healthz", "/readyz", "/metrics", "/docs/", "/docs/x.js", "/openapi.json", "/sandbox/inbox/x"]
        {
            assert_eq!(counted(path), Counted::Not, "{path}");
        }
        for path in [
            "/api/auth/login",
            "/api/auth/login/",
            "//api//auth/register",
            "/api/auth/token/refresh/",
            "/api/auth/token/verify",
            "/api/blockchains/",
            "/api/blockchains/base/",
            "/order/ORD-1",
            "/order/ORD-1/events",
            "/qr/ORD-1",
        ] {
            assert_eq!(counted(path), Counted::ByAddress, "{path}");
        }
        for path in ["/api", "/api/", "/api/auth/me/", "/api/auth/logout", "/api/x", "/graphql", "/graphql/ws"] {
            assert_eq!(counted(path), Counted::ByToken, "{path}");
        }
    }

    /// Every documented route is counted, and those that need no token are the ones that the document says so of.
    #[test]
    fn the_document_and_this_table_agree() {
        let document = crate::rest::document::openapi().unwrap();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let needs_token = operation["security"].as_array().is_some_and(|schemes| !schemes.is_empty());
                let expected = if needs_token { Counted::ByToken } else { Counted::ByAddress };
                assert_eq!(counted(path), expected, "{method} {path}");
            }
        }
    }
}
