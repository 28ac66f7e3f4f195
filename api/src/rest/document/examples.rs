//! An example of every request and every success, put together from the examples of the fields.

use serde_json::{Map, Value};

use super::operations;

/// Fields of requests that an example does without: a time would pass, and what refers to another object, or moves
/// another than the first, would not work when it is tried out as it stands.
const NOT_ASKED: [(&str, &str); 7] = [
    ("ReplayWebhookDeliveries", "after"),
    ("CreatePaymentOrder", "expires_at"),
    ("CreateApiKey", "expires_at"),
    ("PayOrder", "amount"),
    ("PayOrder", "from"),
    ("PayOrder", "with_reference"),
    ("ChangeWallet", "blockchain"),
];

/// Deeper than any schema of ours; ends what would go round.
const MAX_DEPTH: usize = 12;

/// Adds the examples.
pub(super) fn add(document: &mut Value) {
    let schemas = document.pointer("/components/schemas").and_then(Value::as_object).cloned().unwrap_or_default();
    for (_, _, operation) in operations(document) {
        let answers = operation.get_mut("responses").and_then(Value::as_object_mut).into_iter().flatten();
        let answers = answers.filter_map(|(_, answer)| answer.get_mut("content"));
        for content in answers {
            illustrate(content, &schemas);
        }
        if let Some(content) = operation.pointer_mut("/requestBody/content") {
            illustrate(content, &schemas);
        }
    }
    let webhooks = document.get_mut("webhooks").and_then(Value::as_object_mut).into_iter().flatten();
    for (event, item) in webhooks {
        let Some(content) = item.pointer_mut("/post/requestBody/content") else { continue };
        illustrate(content, &schemas);
        if let Some(example) = content.pointer_mut("/application~1json/example/event") {
            *example = event.as_str().into();
        }
    }
}

fn illustrate(content: &mut Value, schemas: &Map<String, Value>) {
    for (_, media) in content.as_object_mut().into_iter().flatten() {
        let Some(media) = media.as_object_mut().filter(|media| !media.contains_key("examples")) else { continue };
        let example = media.get("schema").and_then(|schema| example(schema, "", schemas, MAX_DEPTH));
        if let Some(example) = example {
            media.insert("example".into(), example);
        }
    }
}

/// An example of a schema; `None` where it has none. `name` is that of the component it is.
pub(super) fn example(schema: &Value, name: &str, schemas: &Map<String, Value>, depth: usize) -> Option<Value> {
    let depth = depth.checked_sub(1)?;
    if let Some(known) = schema.get("examples").and_then(|examples| examples.get(0)) {
        return Some(known.clone());
    }
    if let Some(name) = schema.get("$ref").and_then(Value::as_str).and_then(|text| text.rsplit('/').next()) {
        return example(schemas.get(name)?, name, schemas, depth);
    }
    if let Some(one) = schema.get("oneOf").and_then(|alternatives| alternatives.get(0)) {
        return example(one, "", schemas, depth);
    }
    if let Some(items) = schema.get("items") {
        return Some(example(items, "", schemas, depth).into_iter().collect());
    }
    if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
        let asked = properties.iter().filter(|(field, _)| !NOT_ASKED.contains(&(name, field)));
        let fields = asked.filter_map(|(field, schema)| Some((field.clone(), example(schema, "", schemas, depth)?)));
        return Some(fields.collect::<Map<_, _>>().into());
    }
    if let Some(words) = schema.get("enum").and_then(Value::as_array) {
        return words.first().cloned();
    }
    (schema.get("type")? == "object").then(|| Map::new().into())
}
