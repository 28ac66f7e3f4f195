//! The merchant's HTTP client.

use reqwest::Method;
use serde_json::Value;

use super::Failure;

/// A client of one gateway, with a token once there is one.
pub(super) struct Client {
    http: reqwest::Client,
    base: String,
    token: String,
}

impl Client {
    pub(super) fn new(base: &str) -> Self {
        Self { http: reqwest::Client::new(), base: base.to_owned(), token: String::new() }
    }

    pub(super) fn authenticate(&mut self, token: &str) {
        self.token = token.to_owned();
    }

    pub(super) fn token(&self) -> &str {
        &self.token
    }

    pub(super) async fn is_ready(&self) -> bool {
        let answer = self.http.get(format!("{}/readyz", self.base)).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    pub(super) async fn get(&self, path: &str) -> Result<Value, Failure> {
        self.send(Method::GET, path, None).await
    }

    pub(super) async fn post(&self, path: &str, body: Value) -> Result<Value, Failure> {
        self.send(Method::POST, path, Some(body)).await
    }

    async fn send(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value, Failure> {
        let failed = |problem: String| Failure::other(format!("The demo stopped: {method} {path}: {problem}"));
        let mut request = self.http.request(method.clone(), format!("{}{path}", self.base));
        if !self.token.is_empty() {
            request = request.bearer_auth(&self.token);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.map_err(|error| failed(error.to_string()))?;
        let status = answer.status();
        let value: Value = answer.json().await.map_err(|error| failed(error.to_string()))?;
        if status.is_success() { Ok(value) } else { Err(failed(format!("{status} {value}"))) }
    }
}
