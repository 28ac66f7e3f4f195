//! Bodies that are no JSON, too large, of another type, or whose fields have wrong types.

use cryptopay_test_support::{TestDatabase, block_on, on_both_databases};
use reqwest::Method;
use serde_json::{Value, json};

use super::{World, rows};

const MAX_BODY_BYTES: usize = 256 * 1024;

/// Values of every JSON type that a field of this schema is not.
fn wrong_values(schema: &Value) -> Vec<Value> {
    let kind = match &schema["type"] {
        Value::Array(kinds) => kinds[0].clone(),
        kind => kind.clone(),
    };
    let all = [
        ("string", json!("text")),
        ("integer", json!(1)),
        ("number", json!(1.5)),
        ("boolean", json!(true)),
        ("array", json!(["a", 1])),
        ("object", json!({"a": 1})),
    ];
    all.into_iter().filter(|(name, _)| kind != *name).map(|(_, value)| value).collect()
}

/// Whether the faults are about this field, and about nothing else.
fn only(faults: &[String], field: &str) -> bool {
    !faults.is_empty()
        && faults
            .iter()
            .all(|fault| fault.strip_prefix(field).is_some_and(|rest| rest.is_empty() || rest.starts_with('[')))
}

/// A body with another value of one field.
fn with(body: &Value, field: &str, value: &Value) -> Value {
    let mut body = body.clone();
    body[field] = value.clone();
    body
}

#[test]
fn a_body_that_is_no_json_object_is_refused_as_a_whole() {
    block_on(async {
        let db = TestDatabase::sqlite().await;
        let world = World::create(&db).await;
        let before = rows(&db).await;
        let deep = "[".repeat(10_000);
        let deep_object = "{\"a\":".repeat(10_000);
        let broken: Vec<&[u8]> = vec![
            b"{\"amount\":",
            b"{\"amount\": \"1\",}",
            b"{'amount': 1}",
            b"[]",
            b"[{}]",
            b"\"text\"",
            b"1",
            b"null",
            b"NaN",
            b"{\"a\": NaN}",
            b"{} {}",
            b"\xff\xfe",
            b"{\"a\": \"\xff\"}",
            b"{\"a\": \"\\ud800\"}",
            b"a=1&b=2",
            b"{\"amount\": \"1\", \"amount\": \"2\"}",
            b"{\"a\": [{\"b\": 1, \"b\": 1}]}",
            b"\xff\xfe{\0}\0",
            deep.as_bytes(),
            deep_object.as_bytes(),
            b" ",
        ];
        let client = &world.owner.client;
        for operation in world.with_body() {
            let path = world.path(operation);
            let send = async |body: &[u8], content_type: &str| {
                client.send_bytes(operation.method.clone(), &path, body.to_vec(), content_type).await
            };
            for body in &broken {
                send(body, "application/json").await.error(400, "MALFORMED_JSON");
            }
            for content_type in ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", ""] {
                send(b"{}", content_type).await.error(415, "UNSUPPORTED_MEDIA_TYPE");
            }
            let large = format!("{{\"note\":\"{}\"}}", "x".repeat(MAX_BODY_BYTES));
            send(large.as_bytes(), "application/json").await.error(413, "PAYLOAD_TOO_LARGE");
        }
        assert_eq!(rows(&db).await, before);
    });
}

#[test]
fn a_body_of_exactly_256_kib_is_read_and_one_of_a_mebibyte_still_gets_its_answer() {
    block_on(async {
        let db = TestDatabase::sqlite().await;
        let world = World::create(&db).await;
        let client = &world.owner.client;
        let mut body = world.owner.request().to_string();
        body.push_str(&" ".repeat(MAX_BODY_BYTES - body.len()));
        let send = async |body: String, kind: &str| {
            client.send_bytes(Method::POST, "/api/payment-orders/", body.into_bytes(), kind).await
        };
        send(body, "application/json; charset=utf-8").await.data(201);
        send(" ".repeat(1024 * 1024), "application/json").await.error(413, "PAYLOAD_TOO_LARGE");
    });
}

on_both_databases!(every_field_of_a_wrong_type_is_named, async |db: TestDatabase| {
    let world = World::create(&db).await;
    let before = rows(&db).await;
    for operation in world.with_body() {
        let path = world.path(operation);
        let good = world.good_body(operation);
        let fields = operation.fields();
        for (name, _) in &fields {
            assert!(!good[name].is_null() || name == "expires_at", "no good value for {name} of {}", operation.id);
        }
        // Each by itself…
        for (name, schema) in &fields {
            for value in wrong_values(schema) {
                let answer = world.send(operation, &path, with(&good, name, &value)).await;
                let shown = answer.to_string();
                let faults = answer.faults();
                assert!(only(&faults, name), "{name}: {faults:?}\n{shown}");
            }
            if schema["type"] == "array" || schema["type"][0] == "array" {
                let answer = world.send(operation, &path, with(&good, name, &json!([1, {}]))).await;
                assert_eq!(answer.faults(), [format!("{name}[0]"), format!("{name}[1]")]);
            }
            let with_nul = with(&good, name, &json!("a\u{0}b"));
            if schema["type"] == "string" || schema["type"][0] == "string" {
                let faults = world.send(operation, &path, with_nul).await.faults();
                assert!(only(&faults, name), "{name}: {faults:?}");
            }
        }
        if fields.is_empty() {
            continue;
        }
        // … and all at once.
        let mut all = json!({});
        for (name, schema) in &fields {
            all[name] = wrong_values(schema).last().unwrap().clone();
        }
        let names: Vec<&String> = fields.iter().map(|(name, _)| name).collect();
        let mut wanted = names.clone();
        wanted.sort();
        assert_eq!(
            world.send(operation, &path, all).await.faults().iter().collect::<Vec<_>>(),
            wanted,
            "{}",
            operation.id
        );
    }
    assert_eq!(rows(&db).await, before);
});

#[test]
fn every_field_that_is_missing_is_named() {
    block_on(async {
        let db = TestDatabase::sqlite().await;
        let world = World::create(&db).await;
        let before = rows(&db).await;
        let mut checked = 0;
        for operation in world.with_body() {
            let path = world.path(operation);
            let mut required = operation.required();
            required.sort();
            if required.is_empty() {
                continue;
            }
            checked += 1;
            let nulls: Value = required.iter().map(|name| (name.clone(), Value::Null)).collect();
            for body in [json!({}), nulls, json!({"nothing": "known"})] {
                assert_eq!(world.send(operation, &path, body).await.faults(), required, "{}", operation.id);
            }
            if operation.method == Method::POST {
                let answer = world.owner.client.send(Method::POST, &path, None).await;
                assert_eq!(answer.faults(), required, "{}", operation.id);
            }
            let good = world.good_body(operation);
            for name in &required {
                let mut body = good.clone();
                body.as_object_mut().unwrap().remove(name);
                let faults = world.send(operation, &path, body).await.faults();
                assert!(faults.iter().eq([name]), "{name} of {}: {faults:?}", operation.id);
            }
        }
        assert!(checked > 8, "{checked}");
        assert_eq!(rows(&db).await, before);
    });
}
