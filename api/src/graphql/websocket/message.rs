//! The protocol's messages as text: reading the client's, writing ours.

use async_graphql::{Request, Response, ServerError};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::http::json_value;

/// Longest id of an operation, in bytes. Clients use UUIDs or counters.
const LONGEST_ID: usize = 256;

/// What a client may say.
#[derive(Debug)]
pub(super) enum ClientMessage {
    /// Asks to be let in.
    ConnectionInit(Value),
    /// Wants a pong with the same payload.
    Ping(Option<Value>),
    /// Answers a ping, or just shows life.
    Pong,
    /// Starts an operation.
    Subscribe {
        /// The client's name for it.
        id: String,
        /// What to do.
        request: Box<Request>,
    },
    /// Ends an operation.
    Complete {
        /// The client's name for it.
        id: String,
    },
}

/// Why a text is no message. The words are the reason of the close.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("Send a JSON object with each key once and a \"type\" that is a string.")]
    NoMessage,
    #[error("This is no type of a message from a client to a graphql-transport-ws server.")]
    UnknownType,
    #[error("Send an \"id\": a string of 1 to 256 bytes.")]
    Id,
    #[error("\"payload\" must be an object, or left out.")]
    Payload,
    #[error("\"payload\" must hold \"query\" (string), \"operationName\", \"variables\", \"extensions\".")]
    Operation,
}

#[derive(Deserialize)]
struct Envelope {
    r#type: String,
    #[serde(default)]
    id: Value,
    #[serde(default)]
    payload: Value,
}

impl ClientMessage {
    /// Reads one text frame.
    pub(super) fn parse(text: &str) -> Result<Self, Malformed> {
        let message = json_value::parse(text.as_bytes()).map_err(|_| Malformed::NoMessage)?;
        let Envelope { r#type, id, payload } = serde_json::from_value(message).map_err(|_| Malformed::NoMessage)?;
        let id = || match id {
            Value::String(id) if !id.is_empty() && id.len() <= LONGEST_ID => Ok(id),
            _ => Err(Malformed::Id),
        };
        match r#type.as_str() {
            "connection_init" => Ok(Self::ConnectionInit(optional_object(payload)?.unwrap_or_default())),
            "ping" => optional_object(payload).map(Self::Ping),
            "pong" => optional_object(payload).map(|_| Self::Pong),
            "subscribe" => Ok(Self::Subscribe { id: id()?, request: Box::new(request(payload)?) }),
            "complete" => Ok(Self::Complete { id: id()? }),
            _ => Err(Malformed::UnknownType),
        }
    }
}

/// Lets the client in.
pub(super) fn connection_ack() -> String {
    json!({"type": "connection_ack"}).to_string()
}

/// Answers a ping.
pub(super) fn pong(payload: Option<Value>) -> String {
    match payload {
        Some(payload) => json!({"type": "pong", "payload": payload}).to_string(),
        None => json!({"type": "pong"}).to_string(),
    }
}

/// A result of an operation.
pub(super) fn next(id: &str, response: &Response) -> serde_json::Result<String> {
    let (id, payload) = (serde_json::to_string(id)?, serde_json::to_string(response)?);
    Ok(format!(r#"{{"id":{id},"type":"next","payload":{payload}}}"#))
}

/// The end of an operation that could not run.
pub(super) fn error(id: &str, errors: &[ServerError]) -> String {
    json!({"id": id, "type": "error", "payload": errors}).to_string()
}

/// The end of an operation that ran.
pub(super) fn complete(id: &str) -> String {
    json!({"id": id, "type": "complete"}).to_string()
}

fn optional_object(payload: Value) -> Result<Option<Value>, Malformed> {
    match payload {
        Value::Null => Ok(None),
        Value::Object(_) => Ok(Some(payload)),
        _ => Err(Malformed::Payload),
    }
}

fn request(payload: Value) -> Result<Request, Malformed> {
    // async-graphql takes a request without a query for an empty one.
    if !payload.get("query").is_some_and(Value::is_string) {
        return Err(Malformed::Operation);
    }
    serde_json::from_value(payload).map_err(|_| Malformed::Operation)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn malformed(text: &str) -> Malformed {
        ClientMessage::parse(text).unwrap_err()
    }

    #[test]
    fn an_operation_is_read_with_all_its_parts() {
        let text = r#"{"id":"1","type":"subscribe","payload":{"query":"query A($x:Int){a(x:$x)}","operationName":"A",
            "variables":{"x":1},"extensions":{"e":true}},"more":"is ignored"}"#;
        let ClientMessage::Subscribe { id, request } = ClientMessage::parse(text).unwrap() else { panic!() };
        assert_eq!(id, "1");
        assert_eq!(request.query, "query A($x:Int){a(x:$x)}");
        assert_eq!(request.operation_name.as_deref(), Some("A"));
        assert_eq!(request.variables.to_string(), "{x: 1}");
        assert_eq!(request.extensions.0.len(), 1);
    }

    #[test]
    fn what_may_be_left_out_may_be_null() {
        let text = r#"{"id":"1","type":"subscribe","payload":{"query":"{a}","operationName":null,"variables":null,
            "extensions":null}}"#;
        assert!(matches!(ClientMessage::parse(text), Ok(ClientMessage::Subscribe { .. })));
        assert!(matches!(
            ClientMessage::parse(r#"{"type":"connection_init","payload":null}"#),
            Ok(ClientMessage::ConnectionInit(Value::Null))
        ));
        assert!(matches!(ClientMessage::parse(r#"{"type":"ping"}"#), Ok(ClientMessage::Ping(None))));
    }

    #[test]
    fn what_is_no_message_says_why() {
        let repeated = r#"{"type":"ping","payload":{"a":1,"a":2}}"#;
        let deep = "[".repeat(10_000);
        for text in ["", "null", "[]", "{}", r#"{"type":1}"#, "{\"type\":\"ping\"", repeated, &deep] {
            assert_eq!(malformed(text), Malformed::NoMessage, "{text:.40}");
        }
        assert_eq!(malformed(r#"{"type":"next","id":"1"}"#), Malformed::UnknownType);
        assert_eq!(malformed(r#"{"type":"complete"}"#), Malformed::Id);
        assert_eq!(malformed(r#"{"type":"complete","id":""}"#), Malformed::Id);
        assert_eq!(malformed(r#"{"type":"complete","id":7}"#), Malformed::Id);
        assert_eq!(malformed(&format!(r#"{{"type":"complete","id":"{}"}}"#, "x".repeat(257))), Malformed::Id);
        assert_eq!(malformed(r#"{"type":"ping","payload":"x"}"#), Malformed::Payload);
        for payload in ["null", "{}", r#"{"query":1}"#, r#"{"query":"{a}","variables":[]}"#] {
            assert_eq!(
                malformed(&format!(r#"{{"type":"subscribe","id":"1","payload":{payload}}}"#)),
                Malformed::Operation
            );
        }
    }
}
