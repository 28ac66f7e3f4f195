//! Which answers an operation can give, with their headers and examples of every error.
//!
//! The generator gives every operation every error, since all handlers share one error type. Which of them it can meet
//! follows from what it takes: a body can be too large, an id can be another merchant's, a token can be missing.

use serde_json::{Map, Value, json};

use super::facts::object;
use super::operations;
use crate::error::ErrorCode;

/// When the examples were answered.
const TIMESTAMP: &str = "2026-01-31T12:00:00Z";

/// Gives every operation its answers.
pub(super) fn complete(document: &mut Value) {
    let schemas = document.pointer("/components/schemas").cloned().unwrap_or_default();
    for (path, method, operation) in operations(document) {
        if let Some(operation) = operation.as_object_mut() {
            operation.entry("security").or_insert_with(|| json!([]));
            if let Some(Value::Object(body)) = operation.get_mut("requestBody").filter(|_| method != "post") {
                body.insert("required".into(), json!(true));
            }
            complete_one(path, method, operation, &schemas);
        }
    }
    let Some(Value::Object(components)) = document.get_mut("components") else { return };
    components.insert("headers".into(), headers());
    let shared = SHARED.iter().map(|(status, name)| ((*name).to_owned(), error(status, words(status), &codes(status))));
    components.insert("responses".into(), shared.collect::<Map<_, _>>().into());
}

/// Answers that are the same everywhere, by status.
const SHARED: [(&str, &str); 9] = [
    ("401", "Unauthorized"),
    ("403", "Forbidden"),
    ("404", "NotFound"),
    ("409", "Conflict"),
    ("413", "PayloadTooLarge"),
    ("415", "UnsupportedMediaType"),
    ("429", "TooManyRequests"),
    ("500", "InternalServerError"),
    ("503", "ServiceUnavailable"),
];

fn complete_one(path: &str, method: &str, operation: &mut Map<String, Value>, schemas: &Value) {
    let takes = Takes::of(path, method, operation, schemas);
    let Some(Value::Object(responses)) = operation.get_mut("responses") else { return };
    responses.retain(|status, _| takes.can_answer(status));
    if takes.key {
        responses.insert("409".into(), Value::Null);
    }
    for (status, response) in responses.iter_mut() {
        // The payment page says in its own words that there is no such order.
        if response.pointer("/content/text~1html").is_some() {
            response.as_object_mut().into_iter().for_each(add_headers);
            continue;
        }
        let shared = SHARED.iter().find(|(known, _)| known == status);
        if let Some((_, name)) = shared.filter(|_| status != "401" || takes.token) {
            *response = json!({"$ref": format!("#/components/responses/{name}")});
        } else if status == "400" {
            *response =
                error("400", "A field is at fault, or the object's state does not allow this", &takes.refusals());
        } else if status == "401" {
            let code = if path.ends_with("login") { ErrorCode::InvalidCredentials } else { ErrorCode::TokenInvalid };
            *response = error("401", "The password is wrong, or the token is not good", &[(code, None)]);
        } else if let Some(response) = response.as_object_mut() {
            add_headers(response);
        }
    }
}

/// What an operation takes, as far as its answers depend on it.
struct Takes {
    /// The names of the body's fields that are required, or of all of them if none is; `None` without a body.
    fields: Option<Vec<String>>,
    /// The names of the parameters in the query.
    query: Vec<String>,
    /// An `Idempotency-Key`.
    key: bool,
    /// A token.
    token: bool,
    /// Whether the path names something.
    id: bool,
    /// Whether it may change something that has a state.
    changes: bool,
    /// Whether it opens an account, which the operator may have closed.
    registers: bool,
    /// Whether it judges a password or a token in its body.
    judges: bool,
    /// Whether it exists in the sandbox only.
    sandbox: bool,
}

impl Takes {
    fn of(path: &str, method: &str, operation: &Map<String, Value>, schemas: &Value) -> Self {
        let parameters = operation.get("parameters").and_then(Value::as_array).cloned().unwrap_or_default();
        let named = |place: &str| {
            let there = parameters.iter().filter(|parameter| parameter.get("in").is_some_and(|known| known == place));
            there.filter_map(|parameter| parameter.get("name")?.as_str().map(str::to_owned)).collect::<Vec<_>>()
        };
        let token = operation.get("security").and_then(Value::as_array).is_some_and(|schemes| !schemes.is_empty());
        let is = |id: &str| operation.get("operationId").is_some_and(|known| known == id);
        Self {
            fields: operation.get("requestBody").map(|body| fields(body, schemas)),
            query: named("query"),
            key: named("header").iter().any(|name| name == "Idempotency-Key"),
            token,
            id: path.contains('{'),
            changes: method != "get" && path.contains('{') || path.starts_with("/api/sandbox/") && method == "post",
            registers: is("register"),
            judges: !token && path.starts_with("/api/auth/") && !is("register"),
            sandbox: path.starts_with("/api/sandbox/"),
        }
    }

    fn can_answer(&self, status: &str) -> bool {
        match status {
            "400" => self.fields.is_some() || !self.query.is_empty() || self.key || self.changes,
            "401" => self.token || self.judges,
            "403" => self.token || self.registers,
            "404" => self.id || self.sandbox || self.query.iter().any(|name| name == "page"),
            "413" | "415" => self.fields.is_some(),
            "409" => self.key,
            _ => true,
        }
    }

    /// The codes of status 400, each with the field that its example is about.
    fn refusals(&self) -> Vec<(ErrorCode, Option<&str>)> {
        let mut codes = Vec::new();
        let field = self.fields.iter().flatten().chain(&self.query).next().map(String::as_str);
        let field = field.or(self.key.then_some("Idempotency-Key"));
        if field.is_some() {
            codes.push((ErrorCode::ValidationError, field));
        }
        if self.fields.is_some() {
            codes.push((ErrorCode::MalformedJson, None));
        }
        if self.key {
            codes.push((ErrorCode::IdempotencyKeyReused, None));
        }
        if self.changes {
            codes.push((ErrorCode::InvalidState, None));
        }
        codes
    }
}

/// The fields of a body, required ones first.
fn fields(body: &Value, schemas: &Value) -> Vec<String> {
    let schema = body.pointer("/content/application~1json/schema/$ref").and_then(Value::as_str);
    let schema = schema.and_then(|reference| schemas.get(reference.rsplit('/').next()?));
    let required = schema.and_then(|schema| schema.get("required")?.as_array()).into_iter().flatten();
    let all = schema.and_then(|schema| schema.get("properties")?.as_object()).into_iter().flat_map(|map| map.keys());
    required.filter_map(Value::as_str).map(str::to_owned).chain(all.cloned()).collect()
}

/// An answer that is an error, with an example for each of its codes.
fn error(status: &str, description: &str, codes: &[(ErrorCode, Option<&str>)]) -> Value {
    let examples: Map<String, Value> =
        codes.iter().map(|(code, field)| (code.as_str().to_owned(), example(*code, *field))).collect();
    let mut response = object(json!({
        "description": description,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}, "examples": examples}},
    }));
    add_headers(&mut response);
    if let Some(headers) = response.get_mut("headers").and_then(Value::as_object_mut) {
        let more = match status {
            "401" => Some("WWW-Authenticate"),
            "409" | "429" | "503" => Some("Retry-After"),
            _ => None,
        };
        headers.extend(more.map(|name| (name.to_owned(), header(name))));
    }
    response.into()
}

fn example(code: ErrorCode, field: Option<&str>) -> Value {
    let message = match code {
        ErrorCode::ValidationError => "2 fields are at fault; details names them.",
        ErrorCode::MalformedJson => "The body is no JSON that can be read: expected `,` or `}` at line 3 column 5.",
        ErrorCode::IdempotencyKeyReused => {
            "This Idempotency-Key was used for another request. Use a new one for each request."
        }
        ErrorCode::InvalidState => "This order is confirmed; only an order that has received nothing can be canceled.",
        ErrorCode::AuthenticationRequired => {
            "Send the header Authorization: Bearer <token>, with an access token from login or an API key."
        }
        ErrorCode::InvalidCredentials => "User name or password is wrong.",
        ErrorCode::TokenExpired => {
            "This access token has expired. Get a new pair from /api/auth/token/refresh/, or use an API key."
        }
        ErrorCode::TokenInvalid => "This token is unknown, malformed or revoked.",
        ErrorCode::PermissionDenied => "This API key lacks the scope \"manage\".",
        ErrorCode::NotFound => "There is no such order.",
        ErrorCode::MethodNotAllowed => "This route exists, but not with this method.",
        ErrorCode::IdempotencyKeyInUse => {
            "The first request with this Idempotency-Key still runs. Send it again in a second."
        }
        ErrorCode::SequenceGone => {
            "What follows event 17 is no longer kept; the oldest that is follows 4200. Read the state anew, and go on from its eventCursor."
        }
        ErrorCode::PayloadTooLarge => "The body is larger than 256 KiB.",
        ErrorCode::UnsupportedMediaType => "Send the header Content-Type: application/json.",
        ErrorCode::RateLimited => {
            "Your plan's 1000 requests for this hour are used up. Send it again in 12 minutes, or ask the operator for a larger plan."
        }
        ErrorCode::InternalError => "Something broke on our side. The request id finds it in the log.",
        ErrorCode::ServiceUnavailable => {
            "A part of the gateway is away at the moment. Nothing was changed; try again in a few seconds."
        }
        ErrorCode::NoFreeAmount => {
            "No amount near this price is free at your receiving address: open and recent orders hold all of them. Add another wallet address for this blockchain, or wait until orders are over."
        }
    };
    let mut body = object(json!({"code": code.as_str(), "message": message}));
    if let Some(field) = field {
        let problem = match field {
            "page" | "page_size" => "Must be a positive whole number.",
            "after" => "Must be a sequence: a whole number from 0, such as next_after of the last answer.",
            "format" => "Must be one of: svg, png.",
            _ => "This field is required",
        };
        body.insert("message".into(), format!("{field}: {problem}").into());
        body.insert("details".into(), json!({field: [problem]}));
    }
    json!({"summary": code.meaning().trim(), "value": {"success": false, "error": body, "timestamp": TIMESTAMP}})
}

fn codes(status: &str) -> Vec<(ErrorCode, Option<&'static str>)> {
    let about_credentials = ErrorCode::InvalidCredentials;
    let fits = |code: &&ErrorCode| code.status().as_str() == status && **code != about_credentials;
    ErrorCode::ALL.iter().filter(fits).map(|code| (*code, None)).collect()
}

fn words(status: &str) -> &'static str {
    match status {
        "401" => "No valid token",
        "403" => "The token's scope does not cover this, or the operator has closed it",
        "404" => "No such object, or none of yours; a page past the end of a list",
        "409" => "The first request with this `Idempotency-Key` still runs",
        "413" => "The body is larger than 256 KiB",
        "415" => "The body is not `application/json`",
        "429" => "Too many requests",
        "500" => "Something broke on our side",
        _ => "A part of the gateway is away; nothing was changed",
    }
}

/// Headers of every answer of every documented route.
const ALWAYS: [&str; 4] = ["X-Request-Id", "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"];

fn add_headers(response: &mut Map<String, Value>) {
    let Some(headers) = response.entry("headers").or_insert_with(|| json!({})).as_object_mut() else { return };
    headers.extend(ALWAYS.iter().map(|name| ((*name).to_owned(), header(name))));
}

fn header(name: &str) -> Value {
    json!({"$ref": format!("#/components/headers/{name}")})
}

fn headers() -> Value {
    json!({
        "X-Request-Id": {
            "description": "Finds this request in the gateway's log. The caller's own, if it sent 1 to 64 letters, digits and `-_.:`.",
            "required": true, "schema": {"type": "string", "minLength": 1, "maxLength": 64}, "example": "f3a9c1d2e4b50617",
        },
        "X-RateLimit-Limit": {
            "description": "Requests an hour that the merchant's plan allows to API keys, and as many to access tokens; without a valid token, \
                            requests an hour from one address.",
            "required": true, "schema": {"type": "integer", "minimum": 0}, "example": 1_000,
        },
        "X-RateLimit-Remaining": {
            "description": "How many of them are left in this hour.",
            "required": true, "schema": {"type": "integer", "minimum": 0}, "example": 999,
        },
        "X-RateLimit-Reset": {
            "description": "When the next hour begins, in Unix seconds, UTC.",
            "required": true, "schema": {"type": "integer", "format": "int64", "minimum": 0}, "example": 1_769_864_400,
        },
        "Retry-After": {
            "description": "Seconds after which it is worth asking again.",
            "schema": {"type": "integer", "minimum": 1}, "example": 720,
        },
        "WWW-Authenticate": {
            "description": "`Bearer`, where no token was sent; with `error=\"invalid_token\"` for one that is no longer or was never good.",
            "schema": {"type": "string"}, "example": "Bearer",
        },
    })
}
