//! A JSON client of one gateway.

use std::time::Duration;

use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use sea_orm::{ConnectOptions, ConnectionTrait, Database, Statement};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{LIMIT, within};

/// Longer than the longest wait that the API offers.
const TIMEOUT: Duration = Duration::from_secs(70);

/// A client, with a token or without.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
    token: Option<String>,
    database: String,
}

/// An answer, whatever its status.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) asked: String,
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Vec<u8>,
    /// `null` if the body is no JSON.
    pub(crate) body: Value,
}

impl Client {
    pub(crate) fn new(base: &str) -> Self {
        // Refused only when there is one already, which is as good.
        _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build().unwrap();
        Self { http, base: base.to_owned(), token: None, database: String::new() }
    }

    /// The same of a gateway on this database.
    pub(crate) fn on_database(self, url: &str) -> Self {
        Self { database: url.to_owned(), ..self }
    }

    /// Lets a merchant send as much as a test likes, as an operator would, if it is known where.
    pub(crate) async fn lift_limit(&self, username: &str) {
        if self.database.is_empty() {
            return;
        }
        let mut options = ConnectOptions::new(&self.database);
        options.max_connections(1);
        let database = Database::connect(options).await.unwrap();
        let (backend, values) = (database.get_database_backend(), [username.into()]);
        let lift = "UPDATE merchant SET limit_override = 1000000000 WHERE username = $1";
        let lifted = database.execute_raw(Statement::from_sql_and_values(backend, lift, values)).await.unwrap();
        assert_eq!(lifted.rows_affected(), 1, "{username}");
        database.close().await.unwrap();
    }

    /// The same with a token.
    pub(crate) fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    /// The same for another process.
    pub(crate) fn at(&self, base: &str) -> Self {
        Self { base: base.to_owned(), ..self.clone() }
    }

    pub(crate) fn token(&self) -> &str {
        self.token.as_deref().unwrap_or_default()
    }

    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(Method::POST, path, Some(body)).await
    }

    /// Sends JSON, or nothing.
    pub(crate) async fn send(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let body = body.map(|body| (body.to_string().into_bytes(), "application/json"));
        let (bytes, content_type) = body.unwrap_or_default();
        self.send_bytes(method, path, bytes, content_type).await
    }

    /// Sends these bytes; no content type if that is empty.
    pub(crate) async fn send_bytes(&self, method: Method, path: &str, body: Vec<u8>, content_type: &str) -> Answer {
        let answer = self.try_send(method.clone(), path, body, content_type).await;
        answer.unwrap_or_else(|error| panic!("{method} {path}: {error:?}"))
    }

    /// The same; an error when there is no answer.
    pub(crate) async fn try_send(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
        content_type: &str,
    ) -> reqwest::Result<Answer> {
        let asked = format!("{method} {path} {}", String::from_utf8_lossy(&body).chars().take(500).collect::<String>());
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if !content_type.is_empty() {
            request = request.header(CONTENT_TYPE, content_type);
        }
        let response = request.body(body).send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = response.bytes().await?.to_vec();
        let body = serde_json::from_slice(&bytes).unwrap_or_default();
        Ok(Answer { asked, status, headers, bytes, body })
    }

    /// Sends a GraphQL operation; its `data`.
    pub(crate) async fn graphql(&self, query: &str, variables: Value) -> Value {
        let answer = self.post("/graphql", json!({"query": query, "variables": variables})).await;
        let body = answer.expect(200);
        assert!(body["errors"].is_null(), "{body}");
        body["data"].clone()
    }
}

impl Answer {
    /// The whole body, which must come with this status.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self}");
        self.body
    }

    /// `data` of a success with this status, in an envelope of the documented shape.
    #[track_caller]
    pub(crate) fn data(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self}");
        assert_eq!(self.body["success"], true, "{self}");
        assert!(self.body["message"].is_string() && is_stamp(&self.body["timestamp"]), "{self}");
        assert!(self.header("x-request-id").is_some(), "{self}");
        self.body["data"].clone()
    }

    /// `error` of an answer with this status and code, in the documented shape and nothing beside it.
    #[track_caller]
    pub(crate) fn error(self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{self}");
        let error = &self.body["error"];
        assert_eq!((&self.body["success"], &error["code"]), (&json!(false), &json!(code)), "{self}");
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{self}");
        assert!(is_stamp(&self.body["timestamp"]), "{self}");
        assert_eq!(self.body.as_object().map_or(0, serde_json::Map::len), 3, "{self}");
        assert!(self.header("x-request-id").is_some(), "{self}");
        assert_eq!(self.header("content-type"), Some("application/json"), "{self}");
        error.clone()
    }

    /// The names of the fields at fault, sorted, of a `VALIDATION_ERROR`.
    #[track_caller]
    pub(crate) fn faults(self) -> Vec<String> {
        let shown = self.to_string();
        let error = self.error(400, "VALIDATION_ERROR");
        let details = error["details"].as_object().unwrap_or_else(|| panic!("no details: {shown}"));
        let says_something = |problems: &Value| problems.as_array().is_some_and(|list| !list.is_empty());
        assert!(details.values().all(says_something), "{shown}");
        details.keys().cloned().collect()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let body = String::from_utf8_lossy(&self.bytes);
        write!(f, "{} -> {} {}", self.asked, self.status, body.chars().take(2_000).collect::<String>())
    }
}

/// `2026-01-31T23:59:59Z`.
pub(crate) fn is_stamp(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.len() == 20 && text.ends_with('Z') && text.as_bytes()[10] == b'T')
}

/// Sends bytes as they are and reads the answer to its end; for requests that no client library would send. They
/// should ask for the connection to be closed.
pub(crate) async fn raw(base: &str, request: &[u8]) -> String {
    let exchange = async {
        let mut stream = TcpStream::connect(base.trim_start_matches("http://")).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        // A server that hangs up on garbage has answered too.
        _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    };
    within(LIMIT, "an answer to raw bytes", exchange).await
}
