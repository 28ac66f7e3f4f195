//! A merchant with an account and a wallet, who creates orders and has customers that pay.

use std::sync::atomic::{AtomicU64, Ordering};

use cryptopay_test_support::WebhookReceiver;
use serde_json::{Value, json};

use super::{Client, eventually};

/// The address that every shop of the tests is paid at; on the sandbox shops may share one.
pub(crate) const WALLET: &str = "0x00000000000000000000000000000000000000a1";

static SHOPS: AtomicU64 = AtomicU64::new(0);

/// A shop on Base.
pub(crate) struct Shop {
    pub(crate) client: Client,
    pub(crate) password: String,
    nonces: AtomicU64,
}

impl Shop {
    /// Registers a shop with a name of its own, that may send as much as a test likes.
    pub(crate) async fn register(client: &Client) -> Self {
        let (shop, name) = Self::limited(client).await;
        shop.client.lift_limit(&name).await;
        shop
    }

    /// Registers a shop on the plan that every shop begins with; and its name.
    pub(crate) async fn limited(client: &Client) -> (Self, String) {
        let number = SHOPS.fetch_add(1, Ordering::Relaxed);
        let password = format!("correct-horse-{number}-battery");
        let body = json!({
            "username": format!("shop-{number}"),
            "email": format!("shop-{number}@example.com"),
            "password": password,
            "shop_name": format!("Shop {number}"),
        });
        let session = client.post("/api/auth/register", body).await.data(201);
        let client = client.with_token(session["access"].as_str().unwrap());
        (Self { client, password, nonces: AtomicU64::new(1) }, format!("shop-{number}"))
    }

    /// A shop that has an account with this password, and a key to it.
    pub(crate) fn with_key(client: &Client, password: String, key: &str) -> Self {
        Self { client: client.with_token(key), password, nonces: AtomicU64::new(1) }
    }

    /// The same shop at another process.
    pub(crate) fn at(self, base: &str) -> Self {
        Self { client: self.client.at(base), ..self }
    }

    /// The same shop, seen through another process as well. Its nonces are its own: only one of the two creates orders.
    pub(crate) fn at_too(&self, base: &str) -> Self {
        Self { client: self.client.at(base), password: self.password.clone(), nonces: AtomicU64::new(1) }
    }

    /// Registers a shop with a wallet on Base.
    pub(crate) async fn open(client: &Client) -> Self {
        let shop = Self::register(client).await;
        shop.client.post("/api/merchant-wallets/", json!({"blockchain": "base", "address": WALLET})).await.data(201);
        shop.wait_for_chain().await;
        shop
    }

    /// Orders can be created once the scanner has seen its first block, which it tells nobody.
    pub(crate) async fn wait_for_chain(&self) {
        eventually("a scanned block", async || {
            let chain = self.client.get("/api/blockchains/base/").await.data(200);
            chain["scanned_height"].is_u64().then_some(())
        })
        .await;
    }

    /// Registers an endpoint for every event; gives its secret.
    pub(crate) async fn listen(&self, receiver: &WebhookReceiver) -> String {
        let body = json!({"url": receiver.url("/hook"), "events": ["*"]});
        let endpoint = self.client.post("/api/webhook-endpoints/", body).await.data(201);
        endpoint["secret"].as_str().unwrap().to_owned()
    }

    /// A good request for an order, with a nonce of its own.
    pub(crate) fn request(&self) -> Value {
        json!({
            "amount": "100.00",
            "currency": "USDC",
            "blockchain": "base",
            "order_info": "{\"product\": \"Premium Plan\"}",
            "nonce": self.nonces.fetch_add(1, Ordering::Relaxed),
        })
    }

    /// Creates an order with these fields beside or instead of the usual ones; gives it as it was answered.
    pub(crate) async fn order(&self, fields: Value) -> Value {
        let mut request = self.request();
        for (name, value) in fields.as_object().unwrap() {
            request[name] = value.clone();
        }
        self.client.post("/api/payment-orders/", request).await.data(201)
    }

    /// Sends a simulated payment.
    pub(crate) async fn pay(&self, order: &Value, how: Value) -> Value {
        let path = format!("/api/sandbox/payment-orders/{}/pay/", text(&order["order_id"]));
        self.client.post(&path, how).await.data(201)
    }

    /// Mines blocks on Base.
    pub(crate) async fn mine(&self, blocks: u32) {
        self.client.post("/api/sandbox/blockchains/base/mine/", json!({"blocks": blocks})).await.data(200);
    }

    /// The order as it is now.
    pub(crate) async fn look(&self, order: &Value) -> Value {
        self.client.get(&format!("/api/payment-orders/{}/", text(&order["order_id"]))).await.data(200)
    }

    /// The order as soon as it has this status, for tests without a receiver.
    pub(crate) async fn until(&self, order: &Value, status: &str) -> Value {
        eventually(&format!("order {} becoming {status}", order["order_id"]), async || {
            let order = self.look(order).await;
            (order["status"] == status).then_some(order)
        })
        .await
    }

    /// The order's history, oldest first.
    pub(crate) async fn events(&self, order: &Value) -> Vec<Value> {
        let path = format!("/api/payment-orders/{}/events/?page_size=100", text(&order["order_id"]));
        self.client.get(&path).await.data(200)["results"].as_array().unwrap().clone()
    }

    /// The names of the events of the order's history.
    pub(crate) async fn event_names(&self, order: &Value) -> Vec<String> {
        self.events(order).await.iter().map(|event| text(&event["event"]).to_owned()).collect()
    }
}

/// A JSON string's text.
#[track_caller]
pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}
