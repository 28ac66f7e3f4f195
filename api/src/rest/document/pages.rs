//! The public routes that answer no JSON, and so are none of the generator's: the payment page, its events, its QR code.

use serde_json::{Map, Value, json};

/// Adds the routes.
pub(super) fn add(document: &mut Value) {
    let Some(paths) = document.get_mut("paths").and_then(Value::as_object_mut) else { return };
    for (path, operation) in
        [("/order/{order_id}", page()), ("/order/{order_id}/events", events()), ("/qr/{order_id}", code())]
    {
        paths.insert(path.to_owned(), json!({"get": operation}));
    }
}

fn page() -> Value {
    let html = |words: &str| json!({"description": words, "content": {"text/html": {"schema": {"type": "string"}}}});
    let mut answers =
        answers(&[("200", html("The page")), ("404", html("A page that says that there is no such order"))]);
    answers.remove("400");
    json!({
        "operationId": "getPaymentPage",
        "summary": "Get the payment page of an order",
        "description": "For your customer's browser: what to pay, where, until when, and what has come. An order's `payment_url` leads \
                        here. It says nothing of `order_info` or of other orders.",
        "tags": ["PaymentPage"],
        "parameters": [order_id()],
        "responses": answers,
    })
}

fn events() -> Value {
    let stream = json!({
        "description": "Server-sent events: `data` is the `data` of `GET /order/{order_id}/status`, at once and again whenever it \
                        changes; `id` is to be sent as `Last-Event-ID` after a break",
        "content": {"text/event-stream": {
            // Of each event, as clients of such streams hand them on.
            "schema": {"type": "object", "required": ["data"], "properties": {
                "id": {"type": "string", "description": "Sequence of the event that it tells of", "examples": ["42"]},
                "data": {
                    "type": "string", "description": "The status, as JSON",
                    "examples": ["{\"order_id\":\"ORD-k3vq7xw2m5ab\",\"status\":\"confirming\"}"],
                },
            }},
        }},
    });
    let over = json!({"description": "You have seen everything, and nothing can happen any more"});
    let mut answers = answers(&[("200", stream), ("204", over)]);
    answers.remove("400");
    json!({
        "operationId": "followPaymentStatus",
        "summary": "Follow the public status of a payment order",
        "description": "The stream ends when nothing can happen to the order any more.",
        "tags": ["PaymentPage"],
        "parameters": [order_id(), {
            "name": "Last-Event-ID", "in": "header",
            "description": "Where the last stream broke off, as browsers send it by themselves",
        }],
        "responses": answers,
    })
}

fn code() -> Value {
    let picture = json!({
        "description": "The picture",
        "content": {
            "image/svg+xml": {"schema": {"type": "string"}},
            "image/png": {"schema": {"type": "string", "contentMediaType": "image/png"}},
        },
    });
    json!({
        "operationId": "getQrCode",
        "summary": "Get the QR code of a payment order",
        "description": "An order's `qr_code_url` leads here.",
        "tags": ["PaymentPage"],
        "parameters": [
            order_id(),
            {"name": "format", "in": "query", "description": "How it is drawn"},
            {
                "name": "content", "in": "query",
                "description": "What it says: the address alone, which every wallet understands, or an ERC-681 URI with the amount",
            },
        ],
        "responses": answers(&[("200", picture)]),
    })
}

fn order_id() -> Value {
    json!({"name": "order_id", "in": "path", "required": true, "description": "Public id, `ORD-…`"})
}

/// These, and errors as every route has them.
fn answers(own: &[(&str, Value)]) -> Map<String, Value> {
    let errors = ["400", "404", "429", "500", "503"].map(|status| (status.to_owned(), Value::Null));
    errors.into_iter().chain(own.iter().map(|(status, answer)| ((*status).to_owned(), answer.clone()))).collect()
}
