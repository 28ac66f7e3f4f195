//! The OpenAPI document: generated from the handlers, then told what the generator cannot know.

use serde_json::{Map, Value, json};

/// The document as it is served and committed.
///
/// # Errors
/// Only if the generator's output is no JSON.
pub fn openapi() -> Result<Value, serde_json::Error> {
    let mut document: Value = serde_json::from_str(&super::service().spec())?;
    if let Some(root) = document.as_object_mut() {
        root.insert("openapi".into(), "3.1.0".into());
        root.insert("jsonSchemaDialect".into(), "https://json-schema.org/draft/2020-12/schema".into());
        describe(root);
        if let Some(Value::Object(paths)) = root.get_mut("paths") {
            *paths = with_slashes(std::mem::take(paths));
        }
        root.remove("servers");
        root.insert("servers".into(), json!([{"url": "/", "description": "This gateway"}]));
    }
    modernise(&mut document);
    Ok(document)
}

/// The document as text, as it is committed: sorted by the generator, indented, with a line end.
///
/// # Errors
/// As [`openapi`].
pub fn openapi_text() -> Result<String, serde_json::Error> {
    Ok(serde_json::to_string_pretty(&openapi()?)? + "\n")
}

fn describe(root: &mut Map<String, Value>) {
    if let Some(Value::Object(info)) = root.get_mut("info") {
        info.insert(
            "description".into(),
            "Non-custodial payments on EVM chains. Every answer is an envelope; errors name every faulty field at once. \
             Authenticate with `Authorization: Bearer <token>`: an access token from login, or an API key."
                .into(),
        );
        info.insert("license".into(), json!({"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"}));
    }
}

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

/// OpenAPI 3.0 keywords in their 3.1 form, and names that only the implementation needs taken out.
fn modernise(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if map.get("title").and_then(Value::as_str) == Some(crate::fields::LENIENT_INTEGER) {
                map.remove("title");
            }
            if map.remove("nullable") == Some(Value::Bool(true))
                && let Some(Value::String(kind)) = map.get("type").cloned()
            {
                map.insert("type".into(), json!([kind, "null"]));
            }
            map.values_mut().for_each(modernise);
        }
        Value::Array(items) => items.iter_mut().for_each(modernise),
        _ => {}
    }
}
