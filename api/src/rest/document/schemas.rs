//! Schemas: OpenAPI 3.0 as the generator writes it, turned into 3.1, and completed with what fields hold.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::facts;

/// Fields of answers that are left out where they have no value, so that they are never null.
pub(super) const LEFT_OUT: [(&str, &str); 4] = [
    ("ErrorBody", "details"),
    ("WebhookEndpoint", "secret"),
    ("WebhookDelivery", "history"),
    ("TransactionSummary", "unassigned_amount"),
];

/// Turns keywords of 3.0 into those of 3.1, and drops what says nothing.
pub(super) fn modernise(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if map.get("deprecated") == Some(&Value::Bool(false)) {
                map.remove("deprecated");
            }
            if map.get("explode") == Some(&Value::Bool(true)) {
                map.remove("explode");
            }
            plain_reference(map);
            plain_number(map);
            map.values_mut().for_each(modernise);
        }
        Value::Array(items) => items.iter_mut().for_each(modernise),
        _ => {}
    }
}

/// A reference may have a description beside it since 3.1.
fn plain_reference(map: &mut Map<String, Value>) {
    let reference = map.get("allOf").and_then(|parts| parts.get(0)?.get("$ref")).cloned();
    if let Some(reference) = reference {
        map.remove("allOf");
        map.insert("$ref".into(), reference);
    }
}

/// Bounds as whole numbers, and only formats that are registered.
fn plain_number(map: &mut Map<String, Value>) {
    if map.get("type").and_then(Value::as_str) != Some("integer") {
        return;
    }
    for bound in ["minimum", "maximum"] {
        if let Some(whole) = map.get(bound).and_then(Value::as_f64).map(|bound| format!("{bound:.0}"))
            && let Ok(whole) = whole.parse::<i64>()
        {
            map.insert(bound.into(), whole.into());
        }
    }
    let format = map.get("format").and_then(Value::as_str).unwrap_or_default();
    if format.starts_with("uint") {
        let wider = if matches!(format, "uint8" | "uint16") { "int32" } else { "int64" };
        map.insert("format".into(), wider.into());
        map.entry("minimum").or_insert(0.into());
    }
}

/// Tells every schema what its fields hold, and which of them may be null.
pub(super) fn complete(document: &mut Value) {
    let asked = reachable(document, "requestBody");
    let Some(schemas) = document.pointer_mut("/components/schemas").and_then(Value::as_object_mut) else { return };
    for (name, schema) in schemas {
        let is_request = asked.contains(name.as_str());
        if let Some(schema) = schema.as_object_mut() {
            schema.remove("title");
            complete_one(name, schema, is_request);
        }
    }
}

fn complete_one(name: &str, schema: &mut Map<String, Value>, is_request: bool) {
    let required: BTreeSet<String> = schema
        .get("required")
        .and_then(Value::as_array)
        .map(|names| names.iter().filter_map(Value::as_str).map(str::to_owned).collect())
        .unwrap_or_default();
    let Some(Value::Object(properties)) = schema.get_mut("properties") else { return };
    let mut always = Vec::new();
    for (field, property) in properties.iter_mut() {
        let Some(property) = property.as_object_mut() else { continue };
        if let Some(Value::String(words)) = property.get_mut("description") {
            *words = words.replace('\n', " ");
        }
        property.remove("title");
        if let Some(fact) = facts::of_field(name, field, is_request) {
            merge(property, fact);
        }
        let left_out = LEFT_OUT.contains(&(base(name), field));
        if !required.contains(field) && !left_out {
            or_null(property);
        }
        // An answer has every field, null or not; a request may leave out what it may.
        if required.contains(field) || (!is_request && !left_out) {
            always.push(Value::String(field.clone()));
        }
    }
    if !always.is_empty() {
        schema.insert("required".into(), always.into());
    }
}

/// The generic type's own name: `Page` of `Page_Wallet`.
fn base(name: &str) -> &str {
    name.split_once('_').map_or(name, |(generic, _)| generic)
}

/// A fact belongs to the items of a list, unless its example is a list.
fn merge(property: &mut Map<String, Value>, mut fact: Map<String, Value>) {
    if fact.get("examples").is_some_and(|examples| examples.get(0).is_some_and(Value::is_array)) {
        property.extend(fact.remove_entry("examples"));
    }
    match property.get_mut("items").and_then(Value::as_object_mut) {
        Some(items) => items.extend(fact),
        None => property.extend(fact),
    }
}

/// Lets a schema hold null as well.
fn or_null(property: &mut Map<String, Value>) {
    if let Some(reference) = property.remove("$ref") {
        property.insert("oneOf".into(), json!([{"$ref": reference}, {"type": "null"}]));
        return;
    }
    let kinds = match property.get("type").cloned() {
        Some(Value::String(kind)) => vec![Value::String(kind)],
        Some(Value::Array(kinds)) => kinds,
        _ => return,
    };
    if !kinds.iter().any(|kind| kind == "null") {
        property.insert("type".into(), kinds.into_iter().chain(["null".into()]).collect());
    }
    if let Some(Value::Array(words)) = property.get_mut("enum") {
        words.push(Value::Null);
    }
}

/// Names of the schemas that are named, through however many others, inside parts of the document with this key.
fn reachable(document: &Value, key: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = Vec::new();
    if let Some(paths) = document.get("paths") {
        parts(paths, key, &mut |part| named(part, &mut open));
    }
    while let Some(name) = open.pop() {
        if found.insert(name.clone())
            && let Some(schema) = document.pointer(&format!("/components/schemas/{name}"))
        {
            named(schema, &mut open);
        }
    }
    found
}

fn parts<'a>(value: &'a Value, key: &str, each: &mut impl FnMut(&'a Value)) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                if name == key { each(value) } else { parts(value, key, each) }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| parts(item, key, each)),
        _ => {}
    }
}

fn named(value: &Value, names: &mut Vec<String>) {
    parts(value, "$ref", &mut |reference| {
        names.extend(reference.as_str().and_then(|text| text.rsplit('/').next()).map(str::to_owned));
    });
}
