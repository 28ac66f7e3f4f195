//! Reads JSON-RPC answers, with the harmless deviations of public nodes: `"error": null` beside a result, `"result": null`
//! beside an error, an error that is a text, an error without a code, no `jsonrpc` and no id.

use alloy::rpc::json_rpc::{ErrorPayload, Id, Response, ResponsePacket, ResponsePayload};
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

/// An answer as nodes write it.
#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    id: Option<Id>,
    /// Present, and perhaps `null`.
    #[serde(default, deserialize_with = "present")]
    result: Option<Box<RawValue>>,
    #[serde(default)]
    error: Option<Value>,
}

/// Reads an answer to a call, or to a batch.
pub(crate) fn read(body: &[u8]) -> Result<ResponsePacket, serde_json::Error> {
    let is_batch = body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
    if is_batch {
        let answers: Vec<Answer> = serde_json::from_slice(body)?;
        return answers.into_iter().map(Answer::response).collect::<Result<_, _>>().map(ResponsePacket::Batch);
    }
    serde_json::from_slice::<Answer>(body)?.response().map(ResponsePacket::Single)
}

impl Answer {
    fn response(self) -> Result<Response, serde_json::Error> {
        let id = self.id.unwrap_or(Id::None);
        let payload = match (self.error, self.result) {
            (Some(error), _) => ResponsePayload::Failure(failure(&error)),
            (None, Some(result)) => ResponsePayload::Success(result),
            (None, None) => return Err(serde_json::Error::custom("it has neither a result nor an error")),
        };
        Ok(Response { id, payload })
    }
}

fn failure(error: &Value) -> ErrorPayload {
    let code = error.get("code").and_then(|code| code.as_i64().or_else(|| code.as_str()?.trim().parse().ok()));
    let words = error.get("message").and_then(Value::as_str).or_else(|| error.as_str()).unwrap_or_default();
    ErrorPayload { code: code.unwrap_or_default(), message: words.to_owned().into(), data: None }
}

fn present<'de, D: Deserializer<'de>>(field: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(field).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(body: &str) -> Response {
        match read(body.as_bytes()) {
            Ok(ResponsePacket::Single(response)) => response,
            other => panic!("{body}: {other:?}"),
        }
    }

    #[test]
    fn harmless_deviations_of_answers_are_read() {
        for body in [
            r#"{"jsonrpc":"2.0","id":1,"result":"0x1","error":null}"#,
            r#" {"id":1,"result":"0x1"}"#,
            r#"{"result":"0x1","id":1,"more":[[]]}"#,
        ] {
            let response = one(body);
            assert!(response.id == Id::Number(1) && response.payload.is_success(), "{body}");
        }
        assert_eq!(one(r#"{"id":1,"result":null}"#).payload.as_success().map(|raw| raw.get()), Some("null"));
    }

    #[test]
    fn errors_are_read_in_every_form() {
        for (body, code, message) in [
            (r#"{"id":1,"result":null,"error":{"code":-32000,"message":"busy"}}"#, -32000, "busy"),
            (r#"{"id":1,"error":{"code":"-32000","message":"busy","data":{}}}"#, -32000, "busy"),
            (r#"{"error":"text"}"#, 0, "text"),
            (r#"{"id":null,"error":{"message":"no code"}}"#, 0, "no code"),
        ] {
            let response = one(body);
            let error = response.payload.as_error().unwrap_or_else(|| panic!("{body}"));
            assert_eq!((error.code, error.message.as_ref()), (code, message), "{body}");
        }
    }

    #[test]
    fn nothing_else_is_taken_for_an_answer() {
        for body in ["", "null", "{}", "[1]", "<html>", r#"{"id":1}"#, r#"{"id":1,"error":null}"#] {
            assert!(read(body.as_bytes()).is_err(), "{body}");
        }
        assert!(matches!(read(b"[]"), Ok(ResponsePacket::Batch(none)) if none.is_empty()));
        let deep = format!(r#"{{"id":1,"error":{}{}}}"#, "[".repeat(1_000), "]".repeat(1_000));
        assert!(read(deep.as_bytes()).is_err());
    }
}
