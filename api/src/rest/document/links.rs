//! Where to go on from an answer: which operations take the id of what was made, and where in the answer it stands. Tools
//! that walk an API follow them.

use serde_json::{Map, Value, json};

/// Operations that take a value of another answer, which no path tells: the operation that gives it, where it stands, the
/// operation that takes it and its parameter.
const ELSEWHERE: [(&str, &str, &str, &str); 9] = [
    ("createPaymentOrder", "/data/id", "simulatePayment", "id"),
    ("createPaymentOrder", "/data/order_id", "getPaymentPage", "order_id"),
    ("createPaymentOrder", "/data/order_id", "getPaymentStatus", "order_id"),
    ("createPaymentOrder", "/data/order_id", "claimPayment", "order_id"),
    ("createPaymentOrder", "/data/order_id", "simulateOnPaymentPage", "order_id"),
    ("simulatePayment", "/data/transaction_hash", "getTransaction", "hash"),
    ("simulateOnPaymentPage", "/data/transaction_hash", "getTransaction", "hash"),
    ("testWebhookEndpoint", "/data/id", "getWebhookDelivery", "id"),
    ("testWebhookEndpoint", "/data/id", "redeliverWebhookDelivery", "id"),
];

/// Adds the links.
pub(super) fn add(document: &mut Value) {
    let mut links = Vec::new();
    for (path, item) in document.get("paths").and_then(Value::as_object).into_iter().flatten() {
        let Some(creating) = id_of(item.get("post")).filter(|_| makes_something(item)) else { continue };
        links.extend(of_object(document, path).map(|taking| (creating.clone(), "/data/id".to_owned(), taking, "id")));
    }
    links.extend(
        ELSEWHERE.map(|(giving, place, taking, parameter)| {
            (giving.to_owned(), place.to_owned(), taking.to_owned(), parameter)
        }),
    );
    for (giving, place, taking, parameter) in links {
        for (_, _, operation) in super::operations(document) {
            if operation.get("operationId").is_none_or(|id| *id != giving) {
                continue;
            }
            let answers = operation.get_mut("responses").and_then(Value::as_object_mut).into_iter().flatten();
            let success = answers.filter(|(status, _)| status.starts_with('2')).map(|(_, answer)| answer);
            for answer in success.filter_map(Value::as_object_mut) {
                let link = json!({
                    "operationId": taking,
                    "parameters": {parameter: format!("$response.body#{place}")},
                });
                let links = answer.entry("links").or_insert_with(|| Map::new().into());
                if let Some(links) = links.as_object_mut() {
                    links.insert(taking.clone(), link);
                }
            }
        }
    }
}

/// Whether a `POST` of a path makes an object.
fn makes_something(item: &Value) -> bool {
    item.pointer("/post/responses/201").is_some()
}

/// The operations on one object of the list at a path.
fn of_object<'a>(document: &'a Value, list: &'a str) -> impl Iterator<Item = String> + 'a {
    let paths = document.get("paths").and_then(Value::as_object).into_iter().flatten();
    let of_list =
        move |(path, _): &(&String, &Value)| path.strip_prefix(list).is_some_and(|rest| rest.starts_with("{id}"));
    let operations = paths.filter(of_list).flat_map(|(_, item)| item.as_object().into_iter().flatten());
    operations.filter_map(|(_, operation)| id_of(Some(operation)))
}

fn id_of(operation: Option<&Value>) -> Option<String> {
    Some(operation?.get("operationId")?.as_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rest::document::openapi;

    #[test]
    fn what_was_made_leads_to_everything_that_can_be_done_with_it() {
        let document = openapi().unwrap();
        let links = |path: &str, status: &str| {
            let answer = &document["paths"][path]["post"]["responses"][status];
            answer["links"].as_object().unwrap().keys().cloned().collect::<Vec<_>>()
        };
        assert_eq!(
            links("/api/payment-orders/", "201"),
            [
                "allocateTransfer",
                "cancelPaymentOrder",
                "claimPayment",
                "getPaymentOrder",
                "getPaymentPage",
                "getPaymentStatus",
                "listPaymentOrderEvents",
                "resolvePaymentOrder",
                "simulateOnPaymentPage",
                "simulatePayment",
            ]
        );
        assert_eq!(links("/api/api-keys/", "201"), ["deleteApiKey"]);
        assert!(links("/api/merchant-wallets/", "201").contains(&"verifyMerchantWallet".to_owned()));
        assert!(links("/api/webhook-endpoints/", "201").contains(&"rotateWebhookEndpointSecret".to_owned()));
    }

    #[test]
    fn every_link_names_an_operation_and_one_of_its_parameters() {
        let mut document = openapi().unwrap();
        let known: Vec<(String, Vec<String>)> = super::super::operations(&mut document)
            .map(|(_, _, operation)| {
                let parameters = operation["parameters"].as_array().into_iter().flatten();
                let names = parameters.map(|parameter| parameter["name"].as_str().unwrap().to_owned()).collect();
                (operation["operationId"].as_str().unwrap().to_owned(), names)
            })
            .collect();
        let mut seen = Vec::new();
        for (_, _, operation) in super::super::operations(&mut document) {
            for (_, answer) in operation["responses"].as_object().unwrap() {
                for (name, link) in answer["links"].as_object().into_iter().flatten() {
                    let parameter = link["parameters"].as_object().unwrap().keys().next().unwrap();
                    let taking = known.iter().find(|(id, _)| link["operationId"] == id.as_str());
                    assert!(taking.is_some_and(|(_, names)| names.contains(parameter)), "{name}: {link}");
                    seen.push((operation["operationId"].as_str().unwrap().to_owned(), name.clone()));
                }
            }
        }
        for (giving, _, taking, _) in ELSEWHERE {
            assert!(seen.contains(&(giving.to_owned(), taking.to_owned())), "{giving} to {taking}");
        }
    }
}
