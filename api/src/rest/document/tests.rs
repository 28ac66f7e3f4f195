//! What must be said of every operation is counted; examples are what their schemas say.

use std::collections::{BTreeMap, BTreeSet};

use cryptopay_domain::event::EventType;
use cryptopay_domain::order::OrderSnapshot;
use cryptopay_domain::time::Timestamp;
use cryptopay_domain::webhook;
use jsonschema::Validator;
use serde_json::{Map, Value, json};

use super::{examples, openapi};

fn document() -> Value {
    openapi().unwrap()
}

/// A validator of one schema of the document, in which its references mean what they mean there.
fn validator(document: &Value, schema: &Value) -> Validator {
    let mut whole = schema.as_object().cloned().unwrap_or_default();
    whole.insert("components".into(), document["components"].clone());
    let options = jsonschema::draft202012::options().should_validate_formats(true);
    options.build(&whole.into()).unwrap()
}

#[track_caller]
fn assert_valid(document: &Value, schema: &Value, value: &Value, what: &str) {
    let problems: Vec<String> = validator(document, schema)
        .iter_errors(value)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(problems.is_empty(), "{what}: {problems:#?}\n{value:#}");
}

/// Every operation, with its method and path.
fn operations(document: &Value) -> Vec<(String, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    let items = paths.iter().flat_map(|(path, item)| item.as_object().unwrap().iter().map(move |it| (path, it)));
    items.map(|(path, (method, operation))| (format!("{method} {path}"), operation)).collect()
}

/// What a reference means, or the value itself.
fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    value["$ref"].as_str().map_or(value, |reference| document.pointer(&reference[1..]).expect(reference))
}

fn is_said(value: &Value) -> bool {
    value.as_str().is_some_and(|text| !text.trim().is_empty())
}

#[test]
fn every_operation_says_what_it_is_who_may_ask_and_what_it_answers() {
    let document = document();
    let tags: Vec<&str> = document["tags"].as_array().unwrap().iter().filter_map(|tag| tag["name"].as_str()).collect();
    assert_eq!(tags, super::TAGS);
    let mut ids = BTreeSet::new();
    for (what, operation) in operations(&document) {
        assert!(ids.insert(operation["operationId"].as_str().expect(&what)), "{what}: its id is taken");
        assert!(is_said(&operation["summary"]), "{what}: no summary: the first line of the handler's documentation");
        assert!(is_said(&operation["description"]), "{what}: no description: what follows its first line");
        let tag = operation["tags"][0].as_str().expect(&what);
        assert!(tags.contains(&tag), "{what}: {tag}");
        assert!(operation["security"].is_array(), "{what}: whether it needs a token is not said");
        let secured = operation["security"] == json!([{"bearerAuth": []}]);
        assert!(secured || operation["security"] == json!([]), "{what}");
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let name = &parameter["name"];
            assert!(is_said(&parameter["description"]), "{what}: {name} has no description");
            assert!(parameter["schema"]["type"].is_string(), "{what}: {name} is not in facts::of_parameter");
            if parameter["in"] != "path" {
                continue;
            }
            assert!(!parameter["example"].is_null(), "{what}: {name} has no example in facts::of_parameter");
            assert_valid(&document, &parameter["schema"], &parameter["example"], &format!("{what}: {name}"));
        }
        let responses = operation["responses"].as_object().unwrap();
        let has = |status: &str| responses.contains_key(status);
        assert!(responses.keys().any(|status| status.starts_with('2')), "{what}");
        for status in ["429", "500", "503"] {
            assert!(has(status), "{what}: {status}");
        }
        assert!(!secured || (has("401") && has("403")), "{what}");
        let body = operation.get("requestBody").is_some();
        assert_eq!((has("413"), has("415"), !body || has("400")), (body, body, true), "{what}");
        for (status, response) in responses {
            let what = format!("{what}: {status}");
            let response = resolved(&document, response);
            assert!(is_said(&response["description"]), "{what}: no description");
            let mut media = response["content"].as_object().into_iter().flatten();
            assert!(media.all(|(_, media)| !media["schema"].is_null()), "{what}: no schema");
            assert!(what.ends_with("204") || !response["content"].is_null(), "{what}: no content");
            let headers = response["headers"].as_object().expect(&what);
            let counted = ["X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"];
            for name in counted.iter().chain(&["X-Request-Id"]) {
                assert!(headers.contains_key(*name), "{what}: {name}");
            }
            let come_again = matches!(status.as_str(), "409" | "429" | "503");
            assert_eq!(headers.contains_key("Retry-After"), come_again, "{what}");
        }
    }
    for (name, header) in document["components"]["headers"].as_object().unwrap() {
        assert!(is_said(&header["description"]), "{name}");
        assert_valid(&document, &header["schema"], &header["example"], name);
    }
}

#[test]
fn every_field_has_a_description_and_an_example_that_it_may_hold() {
    let document = document();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    for (name, schema) in schemas {
        for (field, property) in schema["properties"].as_object().into_iter().flatten() {
            let what = format!("{name}.{field}");
            assert!(is_said(&property["description"]), "{what} has no description");
            let shown = examples::example(property, "", schemas, 12);
            let optional = [("CreatePaymentOrder", "expires_at"), ("CreateApiKey", "expires_at")];
            if optional.contains(&(name, field)) {
                continue;
            }
            let shown = shown.unwrap_or_else(|| panic!("{what} has no example: add it to rest/document/facts.rs"));
            assert_valid(&document, property, &shown, &what);
        }
    }
}

#[test]
fn every_example_is_what_its_schema_says() {
    let document = document();
    let mut checked = 0;
    let mut check = |what: &str, media: &Value| {
        let several = media["examples"].as_object().into_iter().flat_map(|map| map.values().map(|one| &one["value"]));
        let examples: Vec<&Value> = several.chain(media.get("example")).collect();
        assert!(!examples.is_empty(), "{what}: no example");
        for example in examples {
            assert_valid(&document, &media["schema"], example, what);
            checked += 1;
        }
    };
    for (what, operation) in operations(&document) {
        if let Some(body) = operation.get("requestBody") {
            check(&what, &body["content"]["application/json"]);
        }
        for (status, response) in operation["responses"].as_object().unwrap() {
            let media = &resolved(&document, response)["content"]["application/json"];
            if !media.is_null() {
                check(&format!("{what}: {status}"), media);
            }
        }
    }
    for (event, item) in document["webhooks"].as_object().unwrap() {
        check(event, &item["post"]["requestBody"]["content"]["application/json"]);
    }
    assert!(checked > 300, "{checked}");
}

/// Every reference, wherever it stands.
fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            found.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
            map.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

#[test]
fn every_reference_leads_somewhere_and_nothing_is_left_over() {
    let document = document();
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    for reference in &found {
        assert!(document.pointer(&reference[1..]).is_some(), "{reference}");
    }
    for kind in ["schemas", "responses", "headers"] {
        for name in document["components"][kind].as_object().unwrap().keys() {
            assert!(found.contains(&format!("#/components/{kind}/{name}")), "nobody refers to {kind}/{name}");
        }
    }
}

#[test]
fn every_event_has_a_webhook_and_its_body_is_what_is_sent() {
    let document = document();
    let webhooks = document["webhooks"].as_object().unwrap();
    let names: BTreeSet<&str> = EventType::ALL.iter().map(|event| event.as_str()).collect();
    assert_eq!(webhooks.keys().map(String::as_str).collect::<BTreeSet<_>>(), names);

    let order: OrderSnapshot = serde_json::from_value(json!({
        "id": 7, "order_id": "ORD-k3vq7xw2m5ab", "amount": "100.00", "currency": "USDC", "blockchain": "base",
        "status": "confirmed", "receiving_address": "0x52908400098527886E0F7030069857D2E4169EE7", "order_info": "{}",
        "nonce": 1, "created_at": "2026-01-31T12:00:00Z", "expires_at": "2026-01-31T14:00:00Z",
        "transfer": {
            "id": 9,
            "transaction_hash": format!("0x{}", "ab".repeat(32)), "status": "confirmed", "state": "final",
            "amount": "100.00", "currency": "USDC", "block_number": 12, "block_timestamp": "2026-01-31T12:00:00Z",
            "confirmations": 12, "from_address": "0x8617E340B3D01FA5F11F306F4090FD50E238070D",
            "to_address": "0x52908400098527886E0F7030069857D2E4169EE7", "created_at": "2026-01-31T12:00:00Z",
        },
        "pay_amount": "100.00", "exact_amount": true, "amount_received": "100.00", "amount_remaining": "0.00",
        "fulfillable": true, "flags": ["finalized"], "late_decision": null, "confirmations": 12,
        "required_confirmations": 12, "webhook_url": null, "redirect_url": null, "updated_at": "2026-01-31T12:00:00Z",
        "version": 3, "confirmed_at": null, "failure_reason": null,
    }))
    .unwrap();
    let (event_id, webhook_id) = ("evt_b7wq5mzk3xvhc2ydn4ufa6te", "wh_4hq2xk7mvz5c3wnybd6ufa2t");
    let (event_id, webhook_id) = (event_id.parse().unwrap(), webhook_id.parse().unwrap());
    let at = Timestamp::from_micros(1_769_860_800_000_000);
    for event in EventType::ALL {
        let sent = match event {
            EventType::TransferUnmatched | EventType::WebhookTest => continue,
            _ => webhook::order_body(*event, &event_id, &webhook_id, at, &order).unwrap(),
        };
        let media = &webhooks[event.as_str()]["post"]["requestBody"]["content"]["application/json"];
        let sent: Value = serde_json::from_str(&sent).unwrap();
        assert_valid(&document, &media["schema"], &sent, event.as_str());
        // Nothing is sent that is not described.
        for part in ["", "/data"] {
            let keys = |value: &Value| -> BTreeSet<String> {
                value.pointer(part).and_then(Value::as_object).unwrap().keys().cloned().collect()
            };
            assert_eq!(keys(&sent), keys(&media["example"]), "{event}{part}");
        }
    }
    let test = webhook::plain_body(
        EventType::WebhookTest,
        &event_id,
        &webhook_id,
        at,
        &Map::from_iter([
            ("endpoint_id".to_owned(), json!(7)),
            ("message".to_owned(), json!("This is a test. Nothing has happened.")),
        ]),
    );
    let media = &webhooks["webhook.test"]["post"]["requestBody"]["content"]["application/json"];
    assert_valid(&document, &media["schema"], &serde_json::from_str(&test.unwrap()).unwrap(), "webhook.test");
}

#[test]
fn what_may_be_left_out_of_a_request_may_be_null_and_an_answer_has_every_field() {
    let document = document();
    let request = json!({"$ref": "#/components/schemas/CreatePaymentOrder"});
    let order = json!({
        "amount": "1", "currency": "USDC", "blockchain": "base", "order_info": "{}", "nonce": "9007199254740993",
        "webhook_url": null,
    });
    assert_valid(&document, &request, &order, "an order");
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let answer = &schemas["PaymentOrder"];
    let fields: BTreeMap<&str, ()> =
        answer["properties"].as_object().unwrap().keys().map(|name| (name.as_str(), ())).collect();
    let required: BTreeMap<&str, ()> =
        answer["required"].as_array().unwrap().iter().map(|name| (name.as_str().unwrap(), ())).collect();
    assert_eq!(fields, required);
    assert_eq!(answer["properties"]["webhook_url"]["type"], json!(["string", "null"]));
    assert_eq!(answer["properties"]["transaction"]["oneOf"][1], json!({"type": "null"}));
}
