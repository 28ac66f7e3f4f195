//! The OpenAPI document: generated from the handlers, then told what the generator cannot know.
//!
//! The generator knows routes, types and the words beside them. Added here: what strings hold (`facts`), which answers each
//! operation can give (`answers`), an example of every request and answer (`examples`), where to go on from it (`links`),
//! and what the gateway itself sends (`webhooks`). All of it goes by rules over the generated document, so that a new route gets its share unasked; what the
//! rules cannot know of a new field fails a test that names the field and the table.

mod answers;
mod examples;
mod facts;
mod links;
mod pages;
mod parameters;
mod schemas;
#[cfg(test)]
mod tests;
pub mod webhooks;

pub(crate) use facts::example_of;

use serde_json::{Map, Value, json};

/// The document as it is served and committed: OpenAPI 3.1.
///
/// # Errors
/// Only if the generator's output is no JSON.
pub fn openapi() -> Result<Value, serde_json::Error> {
    let mut document: Value = serde_json::from_str(&super::service().spec())?;
    webhooks::add(&mut document)?;
    if let Some(root) = document.as_object_mut() {
        root.insert("openapi".into(), "3.1.0".into());
        root.insert("servers".into(), json!([{"url": "/", "description": "This gateway"}]));
        describe(root);
        if let Some(Value::Object(paths)) = root.get_mut("paths") {
            *paths = with_slashes(std::mem::take(paths));
        }
    }
    pages::add(&mut document);
    schemas::modernise(&mut document);
    schemas::complete(&mut document);
    parameters::complete(&mut document);
    answers::complete(&mut document);
    examples::add(&mut document);
    links::add(&mut document);
    Ok(document)
}

/// The document as text, as it is committed: sorted by name, indented, with a line end.
///
/// # Errors
/// As [`openapi`].
pub fn openapi_text() -> Result<String, serde_json::Error> {
    Ok(serde_json::to_string_pretty(&openapi()?)? + "\n")
}

/// Every operation of the document's paths, with its path.
fn operations(document: &mut Value) -> impl Iterator<Item = (&str, &str, &mut Value)> {
    let paths = document.get_mut("paths").and_then(Value::as_object_mut).into_iter().flatten();
    paths.flat_map(|(path, item)| {
        let operations = item.as_object_mut().into_iter().flatten();
        operations.map(|(method, operation)| (path.as_str(), method.as_str(), operation))
    })
}

fn describe(root: &mut Map<String, Value>) {
    if let Some(Value::Object(info)) = root.get_mut("info") {
        info.insert("summary".into(), "Non-custodial payments on EVM chains".into());
        info.insert("description".into(), INTRODUCTION.into());
        info.insert("contact".into(), json!({"name": "Whoever runs this gateway"}));
        info.insert("license".into(), json!({"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"}));
    }
    if let Some(Value::Array(tags)) = root.get_mut("tags") {
        let place = |tag: &Value| TAGS.iter().position(|name| tag.get("name").is_some_and(|known| known == name));
        tags.sort_by_key(|tag| place(tag).unwrap_or(TAGS.len()));
    }
    let scheme =
        root.get_mut("components").and_then(|components| components.pointer_mut("/securitySchemes/bearerAuth"));
    if let Some(Value::Object(scheme)) = scheme {
        let words = "An access token from login, good for 24 hours, or an API key (`sk_test_…`, `sk_live_…`). A key does \
                     what its scopes say: `read`, `write`, `manage`.";
        scheme.insert("description".into(), words.into());
    }
}

/// The subjects, in the order in which an integrator meets them.
const TAGS: [&str; 10] = [
    "Authentication",
    "MerchantWallets",
    "Settings",
    "PaymentOrders",
    "PaymentPage",
    "Transactions",
    "Webhooks",
    "Events",
    "Blockchains",
    "Sandbox",
];

const INTRODUCTION: &str = "\
Payments on EVM chains that go from the customer straight into your own wallet.

**From nothing to a paid order**, all of which works in the sandbox:

1. `POST /api/auth/register`, and take `access` from the answer. Under \"Authorize\", paste it.
2. `POST /api/merchant-wallets/` with the address that you want to be paid at.
3. `POST /api/payment-orders/`, and send your customer to `payment_url`.
4. `POST /api/sandbox/payment-orders/{id}/pay/` plays the customer.
5. Ship when `fulfillable` is true: a webhook tells you, or `GET /api/payment-orders/{id}/` does.

**Every answer is an envelope.** Success: `success`, `data`, `message`, `timestamp`. Otherwise: `success`, `error` with `code`, \
`message` and, where fields are at fault, `details` with every one of them at once, `timestamp`.

**Money is a decimal string**, never a number. Times are RFC 3339 in UTC, to the second. Fields that are not known are ignored and \
named in `message`; a field that is `null` counts as not sent.

**Repeat safely**: a POST that creates something takes an `Idempotency-Key`.

**Limits**: requests are counted by the hour; `X-RateLimit-Remaining` and `X-RateLimit-Reset` say how it stands.";

/// Paths end in a slash, except those that the contract writes without one.
fn with_slashes(paths: Map<String, Value>) -> Map<String, Value> {
    const WITHOUT: [&str; 4] = ["/api/auth/register", "/api/auth/login", "/api/auth/logout", "/order/"];
    paths
        .into_iter()
        .map(|(path, item)| {
            let bare = WITHOUT.iter().any(|known| path == *known || (known.ends_with('/') && path.starts_with(known)))
                || path.starts_with("/qr/")
                || path.ends_with('/');
            (if bare { path } else { format!("{path}/") }, item)
        })
        .collect()
}
