//! What a browser sees at `/graphql`: a small page to try operations on. It is whole in itself: no other host is asked for
//! anything, and its policy forbids it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use poem::http::header;
use poem::{Response, handler};
use sha2::{Digest, Sha256};

const PAGE: &str = include_str!("explorer/explorer.html");
const STYLE: &str = include_str!("explorer/explorer.css");
const SCRIPT: &str = include_str!("explorer/explorer.js");

/// The explorer.
pub(super) fn page() -> Response {
    let body = PAGE.replace("/*style*/", STYLE).replace("/*script*/", SCRIPT);
    let policy = format!(
        "default-src 'none'; connect-src 'self'; style-src '{}'; script-src '{}'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'",
        hash(STYLE),
        hash(SCRIPT)
    );
    Response::builder()
        .content_type("text/html; charset=utf-8")
        .header(header::CONTENT_SECURITY_POLICY, policy)
        .header(header::REFERRER_POLICY, "no-referrer")
        .header(header::VARY, "Accept")
        .body(body)
}

/// The schema, for people and for tools.
#[handler]
pub(super) fn schema_text() -> Response {
    Response::builder().content_type("text/plain; charset=utf-8").body(super::sdl())
}

fn hash(text: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(text)))
}
