//! `/graphql/ws` with a real client.

use cryptopay_test_support::{TestDatabase, on_both_databases};
use futures_util::{SinkExt, StreamExt};
use poem::listener::{Acceptor, Listener, TcpListener};
use poem::{Route, Server};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::http::token;
use super::*;
use crate::operations::{accounts, api_keys};
use crate::principal::authenticate;
use crate::rest::api_keys::CreateApiKey;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Serves the gateway; gives its address.
async fn serve(app: &App) -> String {
    let acceptor = TcpListener::bind("127.0.0.1:0").into_acceptor().await.unwrap();
    let address = acceptor.local_addr()[0].as_socket_addr().unwrap().to_string();
    let routes = crate::graphql::routes(Route::new(), app, CancellationToken::new());
    tokio::spawn(Server::new_with_acceptor(acceptor).run(routes));
    address
}

async fn connect(address: &str, headers: &[(&'static str, &str)]) -> Result<Socket, Error> {
    let mut request = format!("ws://{address}/graphql/ws").into_client_request()?;
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    connect_async(request).await.map(|(socket, _)| socket)
}

async fn say(socket: &mut Socket, message: Value) {
    socket.send(Message::text(message.to_string())).await.unwrap();
}

async fn hear(socket: &mut Socket) -> Value {
    match socket.next().await.unwrap().unwrap() {
        Message::Text(text) => serde_json::from_str(&text).unwrap(),
        Message::Close(Some(frame)) => json!(u16::from(frame.code)),
        other => panic!("{other:?}"),
    }
}

const PROTOCOL: (&str, &str) = ("sec-websocket-protocol", "graphql-transport-ws");

on_both_databases!(a_socket_tells_an_orders_changes_to_who_brings_a_token, async |db: TestDatabase| {
    let app = testing::app(&db).await;
    let _tailer = Tailer::start(&app);
    let shop = Shop::open(&app, "alice").await;
    let order = shop.order(1).await;
    shop.publish().await;
    let address = serve(&app).await;
    let mut socket = connect(&address, &[PROTOCOL]).await.unwrap();
    let bearer = format!("Bearer {}", token(&shop).await);
    say(&mut socket, json!({"type": "connection_init", "payload": {"Authorization": bearer}})).await;
    assert_eq!(hear(&mut socket).await, json!({"type": "connection_ack"}));
    let query = format!(
        "subscription {{ orderUpdated(orderId: \"{order}\", after: \"0\") {{ sequence order {{ version }} }} }}"
    );
    say(&mut socket, json!({"type": "subscribe", "id": "s", "payload": {"query": query}})).await;
    for version in 1..=3 {
        let update = json!({"orderUpdated": {"sequence": version.to_string(), "order": {"version": version}}});
        assert_eq!(hear(&mut socket).await, json!({"type": "next", "id": "s", "payload": {"data": update}}));
        shop.tell(&order).await;
    }
    say(&mut socket, json!({"type": "complete", "id": "s"})).await;
    say(&mut socket, json!({"type": "subscribe", "id": "q", "payload": {"query": "{ me { username } }"}})).await;
    while hear(&mut socket).await["id"] != "q" {}
    assert_eq!(hear(&mut socket).await, json!({"type": "complete", "id": "q"}));

    for payload in [json!({}), json!({"token": "x"}), json!({"Authorization": "Bearer sk_test_x"})] {
        let mut socket = connect(&address, &[PROTOCOL]).await.unwrap();
        say(&mut socket, json!({"type": "connection_init", "payload": payload})).await;
        assert_eq!(hear(&mut socket).await, json!(4403), "{payload}");
    }
});

/// A socket that this token has opened and that follows an order.
async fn following(address: &str, token: &str, order: &OrderRef) -> Socket {
    let mut socket = connect(address, &[PROTOCOL]).await.unwrap();
    say(&mut socket, json!({"type": "connection_init", "payload": {"token": token}})).await;
    assert_eq!(hear(&mut socket).await, json!({"type": "connection_ack"}));
    let query = format!("subscription {{ orderUpdated(orderId: \"{order}\") {{ sequence }} }}");
    say(&mut socket, json!({"type": "subscribe", "id": "s", "payload": {"query": query}})).await;
    socket
}

on_both_databases!(a_socket_ends_when_what_opened_it_is_revoked_or_over, async |db: TestDatabase| {
    let app = testing::app(&db).await;
    let shop = Shop::open(&app, "alice").await;
    let order = shop.order(1).await;
    let address = serve(&app).await;
    let key = async |expires_in: Option<u64>| {
        let expires_at = match expires_in {
            Some(secs) => {
                let now = clock::database_now(app.database()).await.unwrap();
                Some(now.plus(std::time::Duration::from_secs(secs)).to_string())
            }
            None => None,
        };
        let body = testing::fields::<CreateApiKey>(json!({"name": "till", "expires_at": expires_at}));
        api_keys::create(&app, &shop.principal, body, testing::once()).await.unwrap().made().unwrap()
    };
    let (kept, other) = (token(&shop).await, token(&shop).await);
    let (revoked, by_revoked) = key(None).await;
    let (_, short) = key(Some(6)).await;
    let mut with_short = following(&address, short.expose(), &order).await;
    let mut stays = following(&address, &kept, &order).await;
    let mut logged_out = following(&address, &other, &order).await;
    let mut with_revoked = following(&address, by_revoked.expose(), &order).await;
    // By another process, as far as this one knows.
    let elsewhere = testing::app(&db).await;
    accounts::logout(&elsewhere, &authenticate(&elsewhere, &other).await.unwrap()).await.unwrap();
    api_keys::revoke(&elsewhere, &shop.principal, &revoked.id.to_string()).await.unwrap();
    for socket in [&mut logged_out, &mut with_revoked, &mut with_short] {
        assert_eq!(hear(socket).await, json!(4403));
    }
    say(&mut stays, json!({"type": "subscribe", "id": "q", "payload": {"query": "{ me { username } }"}})).await;
    assert_eq!(hear(&mut stays).await["id"], "q");
});

on_both_databases!(pages_of_other_origins_open_no_socket, async |db: TestDatabase| {
    let app = testing::app_with(&db, &[("CRYPTOPAY_CORS_ORIGINS", "https://shop.example")]).await;
    let address = serve(&app).await;
    let refused = |outcome: Result<Socket, Error>| match outcome {
        Err(Error::Http(response)) => response.status().as_u16(),
        other => panic!("{other:?}"),
    };
    for origin in ["https://shop.example", testing::PUBLIC_URL] {
        assert!(connect(&address, &[PROTOCOL, ("origin", origin)]).await.is_ok(), "{origin}");
    }
    for origin in ["https://evil.example", "null", "https://shop.example.evil"] {
        assert_eq!(refused(connect(&address, &[PROTOCOL, ("origin", origin)]).await), 403, "{origin}");
    }
    assert_eq!(refused(connect(&address, &[("sec-websocket-protocol", "graphql-ws")]).await), 400);
    assert_eq!(refused(connect(&address, &[]).await), 400);
});
