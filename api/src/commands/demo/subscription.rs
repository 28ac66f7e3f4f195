//! The merchant's dashboard: a GraphQL subscription over WebSocket.

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::Failure;

/// What the dashboard asks for.
const QUERY: &str = "subscription($orderId: String!) { orderUpdated(orderId: $orderId) { sequence event order { status confirmations version } } }";

/// An open subscription to one order.
pub(super) struct Subscription(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Subscription {
    /// Subscribes.
    pub(super) async fn open(base: &str, token: &str, order_id: &str) -> Result<Self, Failure> {
        let url = format!("{}/graphql/ws", base.replacen("http", "ws", 1));
        let mut request = url.into_client_request().map_err(Failure::other)?;
        let protocol = HeaderValue::from_static("graphql-transport-ws");
        request.headers_mut().insert("Sec-WebSocket-Protocol", protocol);
        let (socket, _) = connect_async(request).await.map_err(Failure::other)?;
        let mut subscription = Self(socket);
        let authorization = format!("Bearer {token}");
        subscription.say(json!({"type": "connection_init", "payload": {"Authorization": authorization}})).await?;
        let answer = subscription.hear().await?;
        if answer.get("type") != Some(&"connection_ack".into()) {
            return Err(Failure::other(format!("The subscription was refused: {answer}")));
        }
        let payload = json!({"query": QUERY, "variables": {"orderId": order_id}});
        subscription.say(json!({"id": "1", "type": "subscribe", "payload": payload})).await?;
        Ok(subscription)
    }

    /// Waits for an event of the order; gives it in a line.
    pub(super) async fn until(&mut self, event: &str) -> Result<String, Failure> {
        let wanted = event.to_uppercase().replace('.', "_");
        loop {
            let message = self.hear().await?;
            let Some(update) = message.pointer("/payload/data/orderUpdated") else {
                if message.get("type") == Some(&"next".into()) || message.get("type") == Some(&"error".into()) {
                    return Err(Failure::other(format!("The subscription failed: {message}")));
                }
                continue;
            };
            let heard = update.get("event").and_then(Value::as_str).unwrap_or_default();
            if heard == event || heard == wanted {
                let status = update.pointer("/order/status").and_then(Value::as_str).unwrap_or_default();
                let version = update.pointer("/order/version").map(Value::to_string).unwrap_or_default();
                return Ok(format!("{event}, the order is {} (version {version})", status.to_lowercase()));
            }
        }
    }

    async fn say(&mut self, message: Value) -> Result<(), Failure> {
        self.0.send(Message::text(message.to_string())).await.map_err(Failure::other)
    }

    async fn hear(&mut self) -> Result<Value, Failure> {
        while let Some(message) = self.0.next().await {
            match message.map_err(Failure::other)? {
                Message::Text(text) => return serde_json::from_str(&text).map_err(Failure::other),
                Message::Close(reason) => {
                    return Err(Failure::other(format!("The subscription was closed: {reason:?}")));
                }
                _ => {}
            }
        }
        Err(Failure::other("The subscription has ended."))
    }
}
