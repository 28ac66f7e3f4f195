//! Parameters, which the generator knows as text only: they are read by hand, so that every fault is collected.

use serde_json::{Map, Value, json};

use super::{facts, operations};

/// Tells every parameter what it holds.
pub(super) fn complete(document: &mut Value) {
    for (path, _, operation) in operations(document) {
        let parameters = operation.get_mut("parameters").and_then(Value::as_array_mut);
        for parameter in parameters.into_iter().flatten().filter_map(Value::as_object_mut) {
            complete_one(path, parameter);
        }
    }
}

fn complete_one(path: &str, parameter: &mut Map<String, Value>) {
    let name = parameter.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let Some(mut schema) = facts::of_parameter(path, &name) else { return };
    // An example is filled in when the document is tried out: filters would then find nothing.
    let example = schema.remove("examples").and_then(|examples| examples.get(0).cloned());
    let example = example.filter(|_| parameter.get("in").is_some_and(|place| place == "path"));
    if schema.get("type").and_then(Value::as_str) == Some("array") {
        // `status=pending,confirmed`
        parameter.insert("style".into(), "form".into());
        parameter.insert("explode".into(), json!(false));
    }
    parameter.insert("schema".into(), schema.into());
    if let Some(example) = example {
        parameter.insert("example".into(), example);
    }
}
