//! What comes in wrong goes out with the documented status, every faulty field named, and nothing stored.
//!
//! The operations are taken from the OpenAPI document, so that a new route is asked the same questions without anybody
//! thinking of it; what a table here lacks for it fails the test.

mod bodies;
mod ids;
mod lists;
mod tokens;
mod values;
mod wire;

use std::collections::BTreeMap;

use cryptopay_test_support::{TestDatabase, WebhookReceiver};
use reqwest::Method;
use sea_orm::{ConnectionTrait, Statement};
use serde_json::{Value, json};

use crate::harness::{Answer, Installation, LIMIT, Process, Shop, WALLET, text, told};

/// One of the document's operations.
#[derive(Debug, Clone)]
pub(crate) struct Operation {
    pub(crate) id: String,
    pub(crate) method: Method,
    /// With parameters: `/api/payment-orders/{id}/`.
    pub(crate) path: String,
    /// Names of the parameters in the query.
    pub(crate) query: Vec<String>,
    /// Schema of the body, resolved.
    pub(crate) body: Option<Value>,
    pub(crate) is_secured: bool,
    /// Whether it answers in JSON; what does not is a page, a picture or a stream.
    pub(crate) is_json: bool,
}

impl Operation {
    /// Every operation of the document.
    pub(crate) fn all(document: &Value) -> Vec<Self> {
        let paths = document["paths"].as_object().unwrap();
        let items = paths.iter().flat_map(|(path, item)| item.as_object().unwrap().iter().map(move |it| (path, it)));
        items.map(|(path, (method, operation))| Self::read(document, path, method, operation)).collect()
    }

    fn read(document: &Value, path: &str, method: &str, operation: &Value) -> Self {
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        let query = parameters.iter().filter(|parameter| parameter["in"] == "query");
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
        let mut answers =
            operation["responses"].as_object().unwrap().iter().filter(|(status, _)| status.starts_with('2'));
        Self {
            is_json: answers.any(|(_, answer)| answer["content"].get("application/json").is_some()),
            id: text(&operation["operationId"]).to_owned(),
            method: method.to_uppercase().parse().unwrap(),
            path: path.to_owned(),
            query: query.map(|parameter| text(&parameter["name"]).to_owned()).collect(),
            body: (!schema.is_null()).then(|| resolved(document, schema)),
            is_secured: operation["security"].as_array().is_some_and(|security| !security.is_empty()),
        }
    }

    /// Whether the path names an object of a merchant.
    pub(crate) fn names_an_object(&self) -> bool {
        self.path.contains('{') && !self.path.contains("{slug}")
    }

    /// The path with this in place of its parameter.
    pub(crate) fn at(&self, parameter: &str) -> String {
        match (self.path.find('{'), self.path.find('}')) {
            (Some(start), Some(end)) => format!("{}{parameter}{}", &self.path[..start], &self.path[end + 1..]),
            _ => self.path.clone(),
        }
    }

    /// The fields of the body.
    fn fields(&self) -> Vec<(String, Value)> {
        let properties = self.body.as_ref().and_then(|body| body["properties"].as_object());
        properties
            .map(|fields| fields.iter().map(|(name, schema)| (name.clone(), schema.clone())).collect())
            .unwrap_or_default()
    }

    /// The fields that the body must have.
    fn required(&self) -> Vec<String> {
        let required = self.body.as_ref().and_then(|body| body["required"].as_array());
        required.map(|names| names.iter().map(|name| text(name).to_owned()).collect()).unwrap_or_default()
    }
}

/// A schema with its reference, and those of its fields and items, replaced by what they mean.
fn resolved(document: &Value, schema: &Value) -> Value {
    let mut schema = match schema["$ref"].as_str() {
        Some(reference) => document.pointer(reference.trim_start_matches('#')).unwrap().clone(),
        None => schema.clone(),
    };
    for (_, field) in schema["properties"].as_object_mut().into_iter().flatten() {
        *field = resolved(document, field);
    }
    if !schema["items"].is_null() {
        schema["items"] = resolved(document, &schema["items"]);
    }
    schema
}

/// What the gateway signs with: the 32 bytes 0 to 31.
pub(crate) const SECRET: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// What nobody but the owner says, in its order.
pub(crate) const OWN_WORDS: &str = "words of the owner alone";

/// A gateway with two merchants, one of whom has one of everything.
pub(crate) struct World {
    pub(crate) process: Process,
    /// Those that answer in JSON.
    pub(crate) operations: Vec<Operation>,
    /// Those that do not.
    pub(crate) pages: Vec<Operation>,
    /// Has one of everything.
    pub(crate) owner: Shop,
    /// Has a wallet.
    pub(crate) stranger: Shop,
    /// The owner's objects, by the beginning of the path that names them.
    pub(crate) objects: BTreeMap<&'static str, Vec<String>>,
}

impl World {
    pub(crate) async fn create(db: &TestDatabase) -> Self {
        let installation = Installation::on(db).with("CRYPTOPAY_SECRET", SECRET);
        let document = installation.run(["export", "openapi"]).await.stdout;
        let operations = Operation::all(&serde_json::from_str(&document).unwrap());
        let (operations, pages): (Vec<_>, Vec<_>) = operations.into_iter().partition(|operation| operation.is_json);
        assert!(operations.len() > 30, "{}", operations.len());
        let process = installation.start().await;
        let owner = Shop::open(&process.client()).await;
        let stranger = Shop::open(&process.client()).await;
        let receiver = WebhookReceiver::start().await;
        owner.listen(&receiver).await;
        let order = owner.order(json!({"order_info": json!({"note": OWN_WORDS}).to_string()})).await;
        let paid = owner.pay(&order, json!({})).await;
        owner.mine(1).await;
        let journal = receiver.wait_until(LIMIT, |journal| !told(journal, "payment.pending", &order).is_empty()).await;
        let delivery = told(&journal, "payment.pending", &order)[0].json();
        let key = owner.client.post("/api/api-keys/", json!({"name": "key"})).await.data(201);
        let wallets = owner.client.get("/api/merchant-wallets/").await.data(200);
        let endpoints = owner.client.get("/api/webhook-endpoints/").await.data(200);
        let one = |value: &Value| vec![value.as_str().map_or_else(|| value.to_string(), str::to_owned)];
        let order_ids = || vec![order["id"].to_string(), text(&order["order_id"]).to_owned()];
        let objects = BTreeMap::from([
            ("/api/payment-orders/", order_ids()),
            ("/api/sandbox/payment-orders/", order_ids()),
            ("/order/", vec![text(&order["order_id"]).to_owned()]),
            ("/qr/", vec![text(&order["order_id"]).to_owned()]),
            ("/api/transactions/", one(&paid["transaction_hash"])),
            ("/api/merchant-wallets/", one(&wallets["results"][0]["id"])),
            ("/api/webhook-endpoints/", one(&endpoints["results"][0]["id"])),
            ("/api/webhook-deliveries/", one(&delivery["webhook_id"])),
            ("/api/api-keys/", one(&key["id"])),
        ]);
        // From here on nobody takes webhooks; no test of this folder makes an event.
        Self { process, operations, pages, owner, stranger, objects }
    }

    /// The owner's objects that a path of this operation can name.
    pub(crate) fn objects_of(&self, operation: &Operation) -> &[String] {
        let found = self.objects.iter().find(|(prefix, _)| operation.path.starts_with(**prefix));
        found.unwrap_or_else(|| panic!("{} names an object that this test does not have", operation.path)).1
    }

    /// A path of this operation that works for the owner.
    pub(crate) fn path(&self, operation: &Operation) -> String {
        if operation.names_an_object() { operation.at(&self.objects_of(operation)[0]) } else { operation.at("base") }
    }

    /// A body in which nothing is wrong with the fields.
    pub(crate) fn good_body(&self, operation: &Operation) -> Value {
        let order = self.owner.request();
        match operation.id.as_str() {
            "register" => json!({
                "username": "somebody.else", "email": "somebody.else@example.com",
                "password": "correct-horse-battery", "shop_name": "Somebody else",
            }),
            "login" => json!({"username": "nobody", "password": "correct-horse-battery"}),
            "refreshToken" => json!({"refresh": "junk"}),
            "verifyToken" => json!({"token": "junk"}),
            "updateMe" => json!({"email": "somebody.else@example.com", "shop_name": "Somebody else"}),
            "changePassword" => json!({
                "current_password": self.owner.password, "new_password": "unicorn-teapot-gravel",
            }),
            "createApiKey" => json!({"name": "key", "scopes": ["read"], "expires_at": "2099-01-01T00:00:00Z"}),
            "createPaymentOrder" => json!({
                "amount": order["amount"], "currency": order["currency"], "blockchain": order["blockchain"],
                "order_info": order["order_info"], "nonce": order["nonce"],
                "webhook_url": "http://127.0.0.1:9/hook", "redirect_url": "https://shop.example/",
                "expires_at": null,
            }),
            "replayWebhookDeliveries" => json!({
                "since": "2026-01-01T00:00:00Z", "until": "2099-01-01T00:00:00Z", "status": "dead,delivered",
                "after": self.objects["/api/webhook-deliveries/"][0],
            }),
            "claimPayment" => json!({"transaction_hash": format!("0x{}", "ab".repeat(32))}),
            "resolvePaymentOrder" => json!({"decision": "accept", "note": "fine"}),
            "allocateTransfer" => json!({
                "transaction_hash": format!("0x{}", "ab".repeat(32)), "position": "0", "amount": "1", "note": "fine",
            }),
            "createMerchantWallet" => json!({
                "blockchain": "ethereum", "address": WALLET, "label": "till", "is_active": true, "dedicated": false,
            }),
            "replaceMerchantWallet" | "updateMerchantWallet" => json!({
                "blockchain": "base", "address": WALLET, "label": "till", "is_active": true, "dedicated": false,
            }),
            "verifyMerchantWallet" => json!({"signature": format!("0x{}", "00".repeat(65))}),
            "changePaymentSettings" => json!({
                "late_policy": "review", "confirmations": {"base": 3}, "default_expiry_seconds": 900,
                "tolerance_bps": 0, "tolerance_max": "0.00",
            }),
            "createWebhookEndpoint" | "replaceWebhookEndpoint" | "updateWebhookEndpoint" => json!({
                "url": "http://127.0.0.1:9/hook", "events": ["payment.confirmed"], "description": "till",
                "is_active": true,
            }),
            "simulatePayment" => json!({
                "scenario": "exact", "amount": "1.00", "from": format!("0x{}", "0b".repeat(20)),
                "with_reference": true, "confirm": false,
            }),
            "mineBlocks" => json!({"blocks": 1}),
            "breakNode" => json!({"kind": "down", "seconds": 0}),
            "askFaucet" => json!({
                "blockchain": "base", "address": format!("0x{}", "0b".repeat(20)), "currency": "USDC", "amount": "1.00",
            }),
            "changeInbox" => json!({"status": 200, "delay_seconds": 0}),
            "reorganiseChain" => json!({"depth": 1, "keep_transactions": true}),
            "advanceClock" => json!({"seconds": 1}),
            _ => json!({}),
        }
    }

    /// Sends as the owner.
    async fn send(&self, operation: &Operation, path: &str, body: Value) -> Answer {
        let body = operation.body.is_some().then_some(body);
        self.owner.client.send(operation.method.clone(), path, body).await
    }

    /// The operations with a body.
    fn with_body(&self) -> impl Iterator<Item = &Operation> {
        self.operations.iter().filter(|operation| operation.body.is_some())
    }
}

/// Rows of every table that a request could fill. What the jobs write by themselves is not counted.
pub(crate) async fn rows(db: &TestDatabase) -> BTreeMap<&'static str, i64> {
    let mut counts = BTreeMap::new();
    for table in [
        "merchant",
        "refresh_token",
        "api_key",
        "merchant_wallet",
        "receiving_address",
        "payment_order",
        "amount_reservation",
        "transfer",
        "allocation",
        "event",
        "webhook_endpoint",
        "webhook_delivery",
        "idempotency_key",
        "audit_log",
        "sandbox_fault",
        "sandbox_inbox",
        "sandbox_transaction",
        "sandbox_clock",
    ] {
        let backend = db.connection().get_database_backend();
        let count = Statement::from_string(backend, format!("SELECT count(*) AS count FROM {table}"));
        let row = db.connection().query_one_raw(count).await.unwrap().unwrap();
        counts.insert(table, row.try_get("", "count").unwrap());
    }
    counts
}
