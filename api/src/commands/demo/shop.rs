//! The shop: an HTTP server that takes webhooks and checks their signatures with what the documentation tells it.

use std::sync::{Arc, Mutex, PoisonError};

use cryptopay_domain::webhook::signature;
use poem::http::StatusCode;
use poem::listener::{Acceptor, Listener, TcpListener};
use poem::web::Data;
use poem::{EndpointExt, Request, Route, handler, post};
use serde_json::Value;
use tokio::sync::mpsc;

use super::Failure;

/// A webhook as it arrived.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) event: String,
    pub(super) id: String,
    pub(super) attempt: String,
    pub(super) signature: String,
    pub(super) verified: bool,
    pub(super) order_status: String,
    pub(super) fulfillable: bool,
}

/// The shop's server.
pub(super) struct Shop {
    pub(super) url: String,
    secret: Arc<Mutex<String>>,
    arrivals: mpsc::UnboundedReceiver<Arrived>,
}

#[derive(Clone)]
struct Desk {
    secret: Arc<Mutex<String>>,
    arrivals: mpsc::UnboundedSender<Arrived>,
}

impl Shop {
    /// Listens on a free port.
    pub(super) async fn open() -> Result<Self, Failure> {
        let acceptor = TcpListener::bind("127.0.0.1:0").into_acceptor().await.map_err(Failure::other)?;
        let address = acceptor.local_addr().first().and_then(|address| address.as_socket_addr().copied());
        let address = address.ok_or_else(|| Failure::other("The shop got no address."))?;
        let (sender, arrivals) = mpsc::unbounded_channel();
        let secret = Arc::new(Mutex::new(String::new()));
        let desk = Desk { secret: secret.clone(), arrivals: sender };
        let routes = Route::new().at("/hook", post(take)).data(desk);
        tokio::spawn(poem::Server::new_with_acceptor(acceptor).run(routes));
        Ok(Self { url: format!("http://{address}/hook"), secret, arrivals })
    }

    /// Checks signatures with this secret from now on.
    pub(super) fn trust(&self, secret: &str) {
        *self.secret.lock().unwrap_or_else(PoisonError::into_inner) = secret.to_owned();
    }

    /// Waits for a webhook of this event.
    pub(super) async fn until(&mut self, event: &str) -> Result<Arrived, Failure> {
        while let Some(arrived) = self.arrivals.recv().await {
            if arrived.event == event {
                return Ok(arrived);
            }
        }
        Err(Failure::other("The shop has closed."))
    }
}

#[handler]
async fn take(request: &Request, desk: Data<&Desk>, body: Vec<u8>) -> StatusCode {
    let header = |name: &str| request.header(name).unwrap_or_default().to_owned();
    let secret = desk.secret.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let told: Value = serde_json::from_slice(&body).unwrap_or_default();
    let sent = header("X-Webhook-Signature");
    let arrived = Arrived {
        event: header("X-Webhook-Event"),
        id: header("X-Webhook-Id"),
        attempt: header("X-Webhook-Attempt"),
        verified: signature(&secret, &body) == sent,
        signature: sent,
        order_status: told.pointer("/data/order_status").and_then(Value::as_str).unwrap_or_default().to_owned(),
        fulfillable: told.pointer("/data/fulfillable").and_then(Value::as_bool).unwrap_or_default(),
    };
    // Nobody waiting any more is fine.
    let _ = desk.arrivals.send(arrived);
    StatusCode::OK
}
