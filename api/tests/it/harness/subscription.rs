//! A client of `graphql-transport-ws`.

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::{Client, LIMIT, within};

/// A connection with at most one subscription, to one order.
pub(crate) struct Subscription(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Subscription {
    /// A connection over which nothing has been said.
    pub(crate) async fn connect(base: &str) -> Self {
        let url = format!("{}/graphql/ws", base.replacen("http", "ws", 1));
        let mut request = url.into_client_request().unwrap();
        let protocol = HeaderValue::from_static("graphql-transport-ws");
        request.headers_mut().insert("Sec-WebSocket-Protocol", protocol.clone());
        let (socket, answer) = within(LIMIT, "the upgrade", connect_async(request)).await.unwrap();
        assert_eq!(answer.headers().get("Sec-WebSocket-Protocol"), Some(&protocol));
        Self(socket)
    }

    /// Subscribes to an order; with `after`, from behind that sequence on.
    pub(crate) async fn open(client: &Client, order_id: &str, after: Option<&str>) -> Self {
        let mut subscription = Self::connect(client.base()).await;
        let authorization = format!("Bearer {}", client.token());
        subscription.say(json!({"type": "connection_init", "payload": {"Authorization": authorization}})).await;
        assert_eq!(subscription.hear().await.unwrap()["type"], "connection_ack");
        let after = after.map(|after| format!(", after: \"{after}\"")).unwrap_or_default();
        let query = format!(
            "subscription {{ orderUpdated(orderId: \"{order_id}\"{after}) {{ sequence event at order {{ \
             orderId status version fulfillable amountReceived }} }} }}"
        );
        subscription.say(json!({"id": "1", "type": "subscribe", "payload": {"query": query}})).await;
        subscription
    }

    /// The next update: `{sequence, event, at, order}`.
    pub(crate) async fn next(&mut self) -> Value {
        let message = self.hear().await.unwrap_or_else(|closed| panic!("closed: {closed}"));
        let update = &message["payload"]["data"]["orderUpdated"];
        assert!(message["type"] == "next" && update.is_object(), "{message}");
        update.clone()
    }

    /// The updates up to the one of this event (`PAYMENT_CONFIRMED`), that one included.
    pub(crate) async fn until(&mut self, event: &str) -> Vec<Value> {
        let mut updates = vec![self.next().await];
        while updates[updates.len() - 1]["event"] != event {
            updates.push(self.next().await);
        }
        updates
    }

    pub(crate) async fn say(&mut self, message: Value) {
        self.0.send(Message::text(message.to_string())).await.unwrap();
    }

    /// The next message, or the code and reason with which the server closed.
    pub(crate) async fn hear(&mut self) -> Result<Value, String> {
        // Of all of it: pings alone are no answer.
        within(LIMIT, "a message over the socket", async {
            loop {
                match self.0.next().await {
                    Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).unwrap()),
                    Some(Ok(Message::Close(Some(frame)))) => return Err(format!("{} {}", frame.code, frame.reason)),
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                    other => return Err(format!("{other:?}")),
                }
            }
        })
        .await
    }
}
