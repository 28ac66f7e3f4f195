//! JSON text from a client, read as a value.
//!
//! Guarantees: an object with the same key twice is refused at any depth, because parsers disagree on which one counts;
//! the problem names the key. A byte order mark of UTF-8 is skipped, and one of UTF-16 is named. The depth is bounded by
//! `serde_json`, the size by the caller.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Longest part of a key that a message repeats, in characters.
const KEY_CHARS: usize = 64;
/// U+FEFF in UTF-8, which some editors and libraries put before a text.
const UTF8_MARK: &[u8] = b"\xef\xbb\xbf";

/// Reads a JSON text.
///
/// # Errors
/// The problem as the end of a sentence, without a full stop.
pub(crate) fn parse(bytes: &[u8]) -> Result<Value, String> {
    if bytes.starts_with(b"\xfe\xff") || bytes.starts_with(b"\xff\xfe") {
        return Err("it begins with the byte order mark of UTF-16; send UTF-8".to_owned());
    }
    let text = bytes.strip_prefix(UTF8_MARK).unwrap_or(bytes);
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let value = UniqueKeys.deserialize(&mut deserializer).map_err(|error| error.to_string())?;
    deserializer.end().map_err(|error| error.to_string())?;
    Ok(value)
}

/// Builds a [`Value`] whose objects have each key once.
#[derive(Clone, Copy)]
struct UniqueKeys;

impl<'de> DeserializeSeed<'de> for UniqueKeys {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for UniqueKeys {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if object.contains_key(&key) {
                let shown: String = key.chars().take(KEY_CHARS).collect();
                return Err(A::Error::custom(format_args!("the key {} is given twice", Value::String(shown))));
            }
            let value = entries.next_value_seed(self)?;
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_with_a_repeated_key_is_refused_by_name() {
        for (text, key) in [
            (r#"{"amount":"1","amount":"2"}"#, r#"the key "amount" is given twice"#),
            (r#"{"a":{"b":1,"c":[{"d":1,"d":1}]}}"#, r#"the key "d" is given twice"#),
            (r#"{"a":1,"\u0061":2}"#, r#"the key "a" is given twice"#),
            (r#"[{"":1,"":2}]"#, r#"the key "" is given twice"#),
        ] {
            let problem = parse(text.as_bytes()).unwrap_err();
            assert!(problem.starts_with(key) && problem.contains("line 1"), "{problem}");
        }
        let long = format!("{{\"{0}\":1,\"{0}\":2}}", "é".repeat(10_000));
        assert!(parse(long.as_bytes()).unwrap_err().len() < 300);
        // The same key in two objects is no repetition.
        assert_eq!(parse(br#"[{"a":1},{"a":2}]"#), Ok(json!([{"a": 1}, {"a": 2}])));
    }

    #[test]
    fn a_byte_order_mark_before_a_text_is_read_or_named() {
        assert_eq!(parse(b"\xef\xbb\xbf{\"a\":1}"), Ok(json!({"a": 1})));
        for bytes in [&b"\xff\xfe{\0}\0"[..], b"\xfe\xff\0{\0}"] {
            assert!(parse(bytes).unwrap_err().contains("byte order mark of UTF-16"));
        }
        // One mark is one mark.
        assert!(parse(b"\xef\xbb\xbf\xef\xbb\xbf{}").is_err());
    }

    #[test]
    fn a_text_that_is_no_json_is_refused_with_a_reason() {
        for text in ["", "{", "{} {}", "{\"a\":1,}", "nan", "\"\\ud800\"", &"[".repeat(1_000)] {
            assert!(parse(text.as_bytes()).is_err(), "{text:.20}");
        }
    }

    proptest! {
        #[test]
        fn a_text_without_repeated_keys_is_read_like_by_serde(text in "[\\[\\]{}\",:a0-9. eE+-]{0,40}") {
            let expected = serde_json::from_str::<Value>(&text).ok();
            match parse(text.as_bytes()) {
                Ok(value) => prop_assert_eq!(Some(value), expected),
                Err(problem) => prop_assert!(expected.is_none() || problem.contains("given twice"), "{}", problem),
            }
        }
    }
}
