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
            paths.values_mut().filter_map(Value::as_object_mut).for_each(name_headers);
        }
        if let Some(Value::Object(components)) = root.get_mut("components") {
            components.insert("headers".into(), headers());
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

/// Headers that every answer has, whatever its status.
const ALWAYS: [&str; 4] = ["X-Request-Id", "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"];
/// Statuses whose answers may say when to come again.
const COME_AGAIN: [&str; 3] = ["409", "429", "503"];

/// Headers that the gateway adds around its handlers.
fn headers() -> Value {
    json!({
        "X-Request-Id": {
            "description": "Names the request in the log: the caller's own, if it sent one, else a new one",
            "required": true,
            "schema": {"type": "string", "maxLength": 64},
            "example": "5f0c2b7e9a114d23",
        },
        "X-RateLimit-Limit": {
            "description": "Requests an hour that the merchant's plan allows to API keys, and as many to access tokens; \
                            without a valid token, requests an hour from one address",
            "required": true,
            "schema": {"type": "integer", "format": "int64", "minimum": 0},
            "example": 1000,
        },
        "X-RateLimit-Remaining": {
            "description": "How many of them are left in this hour",
            "required": true,
            "schema": {"type": "integer", "format": "int64", "minimum": 0},
            "example": 999,
        },
        "X-RateLimit-Reset": {
            "description": "When the next hour begins: seconds since 1970, UTC",
            "required": true,
            "schema": {"type": "integer", "format": "int64", "minimum": 0},
            "example": 1_767_225_600,
        },
        "Retry-After": {
            "description": "When to come again: in so many seconds",
            "schema": {"type": "integer", "format": "int64", "minimum": 1},
            "example": 720,
        },
    })
}

/// Names those headers on every answer of every operation of a path, and shows what a refused one looks like.
fn name_headers(item: &mut Map<String, Value>) {
    let operations = item.values_mut().filter_map(|operation| operation.get_mut("responses")?.as_object_mut());
    for responses in operations {
        for (status, response) in responses {
            let Some(response) = response.as_object_mut() else { continue };
            let mut named: Vec<&str> = ALWAYS.to_vec();
            if COME_AGAIN.contains(&status.as_str()) {
                named.push("Retry-After");
            }
            let references = named.into_iter().map(|name| {
                let reference = format!("#/components/headers/{name}");
                (name.to_owned(), json!({"$ref": reference}))
            });
            if let Some(headers) = response.entry("headers").or_insert_with(|| json!({})).as_object_mut() {
                headers.extend(references);
            }
            if status == "429"
                && let Some(content) =
                    response.get_mut("content").and_then(|content| content.get_mut("application/json")?.as_object_mut())
            {
                let example = json!({
                    "success": false,
                    "error": {
                        "code": "RATE_LIMITED",
                        "message": "Your plan's 1000 requests for this hour are used up. Send it again in 12 minutes, \
                                    or ask the operator for a larger plan.",
                    },
                    "timestamp": "2026-01-31T12:48:00Z",
                });
                content.insert("example".into(), example);
            }
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_of_every_operation_names_the_headers_of_limits_and_every_operation_may_be_too_many() {
        let document = openapi().unwrap();
        let known = document["components"]["headers"].as_object().unwrap();
        let mut operations = 0;
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let responses = operation["responses"].as_object().unwrap();
                assert!(responses.contains_key("429"), "{method} {path}");
                for (status, response) in responses {
                    for name in ALWAYS {
                        let reference = response["headers"][name]["$ref"].as_str().unwrap();
                        assert_eq!(reference, format!("#/components/headers/{name}"), "{method} {path} {status}");
                        assert!(known[name]["description"].is_string() && known[name]["required"] == true);
                    }
                    let come_again = !response["headers"]["Retry-After"].is_null();
                    assert_eq!(come_again, COME_AGAIN.contains(&status.as_str()), "{method} {path} {status}");
                }
                let example = &responses["429"]["content"]["application/json"]["example"];
                assert_eq!(example["error"]["code"], "RATE_LIMITED", "{method} {path}");
                operations += 1;
            }
        }
        assert!(operations > 40, "{operations}");
    }
}
