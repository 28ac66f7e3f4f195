//! The server against a real client over a real socket.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_graphql::{Context, Data, Object, Schema, Subscription};
use futures_util::{SinkExt, Stream, StreamExt, stream};
use poem::endpoint::make;
use poem::listener::{Acceptor, Listener, TcpListener};
use poem::web::websocket::WebSocket;
use poem::{FromRequest, Request, Server};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use tokio_util::sync::CancellationToken;

use super::{Ended, InitRefusal, Limits, PROTOCOL, Session, serve, token_of};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// The merchant's name, as the session holds it.
struct Name(String);

/// Tells when a subscription is dropped.
struct Dropped(watch::Sender<bool>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.send_replace(true);
    }
}

type Ticks = Arc<Mutex<mpsc::Receiver<i32>>>;

struct Query;

#[Object]
impl Query {
    async fn name(&self, context: &Context<'_>) -> async_graphql::Result<String> {
        Ok(context.data::<Name>()?.0.clone())
    }

    async fn add(&self, a: i32, b: i32) -> i32 {
        a.saturating_add(b)
    }

    async fn wrong(&self) -> async_graphql::Result<Option<i32>> {
        Err("wrong".into())
    }
}

struct Mutation;

#[Object]
impl Mutation {
    async fn shout(&self, text: String) -> String {
        text.to_uppercase()
    }
}

struct Subscriptions;

#[Subscription]
impl Subscriptions {
    /// What the test sends.
    async fn ticks(&self, context: &Context<'_>) -> impl Stream<Item = i32> + use<> {
        let ticks = Arc::clone(context.data_unchecked::<Ticks>());
        let dropped = Dropped(context.data_unchecked::<watch::Sender<bool>>().clone());
        stream::unfold((ticks, dropped), |(ticks, dropped)| async move {
            let tick = ticks.lock().await.recv().await?;
            Some((tick, (ticks, dropped)))
        })
    }

    /// More than anybody reads.
    async fn flood(&self, context: &Context<'_>) -> impl Stream<Item = String> + use<> {
        let dropped = Dropped(context.data_unchecked::<watch::Sender<bool>>().clone());
        stream::unfold(dropped, |dropped| async move {
            tokio::task::yield_now().await;
            Some(("x".repeat(100_000), dropped))
        })
    }
}

/// A running server, a client connected to it, and the strings that a test pulls.
struct Play {
    client: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// What `ticks` yields.
    ticks: mpsc::Sender<i32>,
    /// Whether a subscription has been dropped.
    dropped: watch::Receiver<bool>,
    ended: mpsc::Receiver<Ended>,
    shutdown: CancellationToken,
    revoked: CancellationToken,
}

impl Play {
    async fn begin(limits: Limits, valid_for: Option<Duration>) -> Self {
        let (ticks, receiver) = mpsc::channel(1000);
        let (drops, dropped) = watch::channel(false);
        let (ends, ended) = mpsc::channel(1);
        let (shutdown, revoked) = (CancellationToken::new(), CancellationToken::new());
        let schema = Schema::build(Query, Mutation, Subscriptions)
            .data::<Ticks>(Arc::new(Mutex::new(receiver)))
            .data(drops)
            .finish();

        let acceptor = TcpListener::bind("127.0.0.1:0").into_acceptor().await.unwrap();
        let address: SocketAddr = *acceptor.local_addr()[0].as_socket_addr().unwrap();
        let (stop, revocation) = (shutdown.clone(), revoked.clone());
        let endpoint = make(move |request: Request| {
            let (schema, ends, stop, revocation) = (schema.clone(), ends.clone(), stop.clone(), revocation.clone());
            async move {
                let (request, mut body) = request.split();
                let upgrade = WebSocket::from_request(&request, &mut body).await?;
                let upgrade = upgrade.protocols([PROTOCOL]).config(limits.socket_config());
                Ok::<_, poem::Error>(upgrade.on_upgrade(move |socket| async move {
                    let authenticate =
                        |payload: Value| async move { authenticate(&payload, valid_for, revocation).await };
                    let end = serve(socket, schema, authenticate, limits, stop).await;
                    ends.send(end).await.unwrap();
                }))
            }
        });
        tokio::spawn(Server::new_with_acceptor(acceptor).run(endpoint));

        let mut request = format!("ws://{address}/graphql/ws").into_client_request().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", PROTOCOL.parse().unwrap());
        let (client, response) = connect_async(request).await.unwrap();
        assert_eq!(response.headers()["sec-websocket-protocol"], PROTOCOL);
        Self { client, ticks, dropped, ended, shutdown, revoked }
    }

    /// Connected and let in.
    async fn ready(limits: Limits) -> Self {
        let mut play = Self::begin(limits, None).await;
        play.init().await;
        play
    }

    async fn init(&mut self) {
        self.say(json!({"type": "connection_init", "payload": {"Authorization": "Bearer good"}})).await;
        assert_eq!(self.hear().await, json!({"type": "connection_ack"}));
    }

    async fn say(&mut self, message: Value) {
        self.client.send(Message::text(message.to_string())).await.unwrap();
    }

    async fn subscribe(&mut self, id: &str, query: &str) {
        self.say(json!({"type": "subscribe", "id": id, "payload": {"query": query}})).await;
    }

    /// The next thing that is no WebSocket ping.
    async fn frame(&mut self) -> Message {
        loop {
            let frame = timeout(PATIENCE, self.client.next()).await.expect("nothing came");
            match frame.expect("no close frame came").unwrap() {
                Message::Ping(_) => {}
                frame => return frame,
            }
        }
    }

    async fn hear(&mut self) -> Value {
        match self.frame().await {
            Message::Text(text) => serde_json::from_str(&text).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    async fn hears_close(&mut self) -> u16 {
        match self.frame().await {
            Message::Close(Some(frame)) => self.answer_close(frame.code.into()).await,
            other => panic!("{other:?}"),
        }
    }

    /// Reads to the end, with which the library sends its own close.
    async fn answer_close(&mut self, code: u16) -> u16 {
        while let Some(Ok(_)) = timeout(PATIENCE, self.client.next()).await.expect("the server does not hang up") {}
        code
    }

    async fn end(&mut self) -> Ended {
        timeout(PATIENCE, self.ended.recv()).await.expect("the server goes on").unwrap()
    }

    async fn subscription_is_dropped(&mut self) {
        timeout(PATIENCE, self.dropped.wait_for(|dropped| *dropped)).await.expect("it lives on").unwrap();
    }
}

async fn authenticate(
    payload: &Value,
    valid_for: Option<Duration>,
    revoked: CancellationToken,
) -> Result<Session, InitRefusal> {
    match token_of(payload) {
        Some("good") => {
            let mut data = Data::default();
            data.insert(Name("shop".to_owned()));
            Ok(Session { data, valid_for, revoked: Some(revoked) })
        }
        Some("slow") => std::future::pending().await,
        Some("busy") => Err(InitRefusal::Unavailable("Too many connections".to_owned())),
        _ => Err(InitRefusal::Forbidden("Send a valid token".to_owned())),
    }
}

fn next(id: &str, data: Value) -> Value {
    json!({"id": id, "type": "next", "payload": {"data": data}})
}

fn complete(id: &str) -> Value {
    json!({"id": id, "type": "complete"})
}

#[tokio::test]
async fn queries_and_mutations_run_and_see_who_is_connected() {
    let mut play = Play::ready(Limits::default()).await;
    let query = "query Sum($a: Int!) { name add(a: $a, b: 2) } query Other { name }";
    play.say(json!({"type": "subscribe", "id": "q", "payload":
        {"query": query, "operationName": "Sum", "variables": {"a": 1}, "extensions": {}}}))
        .await;
    assert_eq!(play.hear().await, next("q", json!({"name": "shop", "add": 3})));
    assert_eq!(play.hear().await, complete("q"));

    play.subscribe("m", r#"mutation { shout(text: "hi") }"#).await;
    assert_eq!(play.hear().await, next("m", json!({"shout": "HI"})));
    assert_eq!(play.hear().await, complete("m"));
}

#[tokio::test]
async fn a_request_that_cannot_run_is_an_error_and_a_field_that_fails_is_a_result() {
    let mut play = Play::ready(Limits::default()).await;
    for query in ["{ nothing }", "{", "subscription { nothing }"] {
        play.subscribe("e", query).await;
        let error = play.hear().await;
        assert_eq!((&error["type"], &error["id"]), (&json!("error"), &json!("e")), "{query}");
        assert!(error["payload"][0]["message"].is_string());
    }
    play.subscribe("e", "{ wrong name }").await;
    let result = play.hear().await;
    assert_eq!(result["payload"]["data"]["name"], "shop");
    assert_eq!(result["payload"]["errors"][0]["path"], json!(["wrong"]));
    assert_eq!(play.hear().await, complete("e"));
}

#[tokio::test]
async fn a_subscription_streams_until_its_source_ends() {
    let mut play = Play::ready(Limits::default()).await;
    play.subscribe("s", "subscription { ticks }").await;
    for tick in 1..=100 {
        play.ticks.send(tick).await.unwrap();
        assert_eq!(play.hear().await, next("s", json!({"ticks": tick})));
    }
    let (closed, _) = mpsc::channel(1);
    play.ticks = closed;
    assert_eq!(play.hear().await, complete("s"));
}

#[tokio::test]
async fn completing_drops_the_subscription_and_frees_its_id() {
    let mut play = Play::ready(Limits::default()).await;
    play.subscribe("s", "subscription { ticks }").await;
    play.ticks.send(1).await.unwrap();
    assert_eq!(play.hear().await, next("s", json!({"ticks": 1})));
    play.say(complete("s")).await;
    play.subscription_is_dropped().await;
    play.subscribe("s", "{ name }").await;
    assert_eq!(play.hear().await, next("s", json!({"name": "shop"})));
    assert_eq!(play.hear().await, complete("s"));
}

#[tokio::test]
async fn two_operations_run_side_by_side() {
    let mut play = Play::ready(Limits::default()).await;
    play.subscribe("s", "subscription { ticks }").await;
    play.subscribe("q", "{ name }").await;
    assert_eq!(play.hear().await, next("q", json!({"name": "shop"})));
    assert_eq!(play.hear().await, complete("q"));
    play.ticks.send(7).await.unwrap();
    assert_eq!(play.hear().await, next("s", json!({"ticks": 7})));
}

#[tokio::test]
async fn a_bad_token_closes_with_4403_and_a_full_house_with_1013() {
    for (payload, code) in [
        (json!({"token": "bad"}), 4403),
        (json!({"Authorization": "good"}), 4403),
        (Value::Null, 4403),
        (json!({"authorization": "bearer busy"}), 1013),
    ] {
        let mut play = Play::begin(Limits::default(), None).await;
        play.say(json!({"type": "connection_init", "payload": payload})).await;
        assert_eq!(play.hears_close().await, code, "{payload}");
        assert!(matches!(play.end().await, Ended::ByServer(close) if u16::from(close.code) == code));
    }
}

#[tokio::test]
async fn an_expired_or_revoked_token_closes_with_4403() {
    let mut play = Play::begin(Limits::default(), Some(Duration::from_millis(50))).await;
    play.init().await;
    assert_eq!(play.hears_close().await, 4403);

    let mut play = Play::ready(Limits::default()).await;
    play.revoked.cancel();
    assert_eq!(play.hears_close().await, 4403);
}

#[tokio::test]
async fn an_init_that_does_not_come_or_is_not_answered_in_time_closes_with_4408() {
    let limits = Limits { init_within: Duration::from_millis(50), ..Limits::default() };
    let mut play = Play::begin(limits, None).await;
    assert_eq!(play.hears_close().await, 4408);

    let mut play = Play::begin(limits, None).await;
    play.say(json!({"type": "connection_init", "payload": {"token": "slow"}})).await;
    assert_eq!(play.hears_close().await, 4408);
}

#[tokio::test]
async fn breaches_of_the_protocol_close_with_its_codes() {
    let mut play = Play::begin(Limits::default(), None).await;
    play.subscribe("s", "{ name }").await;
    assert_eq!(play.hears_close().await, 4401);

    let mut play = Play::ready(Limits::default()).await;
    play.say(json!({"type": "connection_init"})).await;
    assert_eq!(play.hears_close().await, 4429);

    let mut play = Play::ready(Limits::default()).await;
    play.subscribe("s", "subscription { ticks }").await;
    play.subscribe("s", "subscription { ticks }").await;
    assert_eq!(play.hears_close().await, 4409);
    play.subscription_is_dropped().await;

    let mut play = Play::ready(Limits::default()).await;
    play.client.send(Message::text("hello")).await.unwrap();
    assert_eq!(play.hears_close().await, 4400);

    let mut play = Play::ready(Limits::default()).await;
    play.client.send(Message::binary(b"{}".to_vec())).await.unwrap();
    assert_eq!(play.hears_close().await, 4400);
}

#[tokio::test]
async fn a_frame_of_the_longest_size_is_read_and_a_longer_one_closes_with_4400() {
    let limits = Limits { close_within: PATIENCE, ..Limits::default() };
    let mut play = Play::ready(limits).await;
    let ping = json!({"type": "ping", "payload": {"x": ""}}).to_string();
    let longest = json!({"type": "ping", "payload": {"x": "x".repeat(limits.frame_bytes - ping.len())}});
    assert_eq!(longest.to_string().len(), limits.frame_bytes);
    play.say(longest).await;
    assert_eq!(play.hear().await["type"], "pong");
    play.client.send(Message::text("x".repeat(limits.frame_bytes + 1))).await.unwrap();
    let Message::Close(Some(frame)) = play.frame().await else { panic!("no close frame came") };
    assert_eq!(u16::from(frame.code), 4400);
}

#[tokio::test]
async fn a_shutdown_closes_with_1012_and_drops_the_operations() {
    let mut play = Play::ready(Limits::default()).await;
    play.subscribe("s", "subscription { ticks }").await;
    play.ticks.send(1).await.unwrap();
    play.hear().await;
    play.shutdown.cancel();
    assert_eq!(play.hears_close().await, 1012);
    play.subscription_is_dropped().await;
    assert!(matches!(play.end().await, Ended::ByServer(_)));
}

#[tokio::test]
async fn a_reader_that_stalls_is_closed_with_1013_and_little_is_kept_for_it() {
    let limits = Limits {
        stalled_after: Duration::from_millis(100),
        close_within: PATIENCE,
        queued_messages: 4,
        ..Limits::default()
    };
    let mut play = Play::ready(limits).await;
    play.subscribe("s", "subscription { flood }").await;
    // Nothing is read until the server has given up.
    play.subscription_is_dropped().await;
    let mut messages = 0;
    let code = loop {
        match play.frame().await {
            Message::Text(_) => messages += 1,
            Message::Close(Some(frame)) => break play.answer_close(frame.code.into()).await,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(code, 1013);
    // What the two kernels' buffers hold, in messages of 100 kB; the flood itself has no end.
    assert!(messages < 1000, "{messages}");
    assert!(matches!(play.end().await, Ended::ByServer(_)));
}

#[tokio::test]
async fn a_reader_that_keeps_up_gets_everything_in_order_however_much_it_is() {
    let limits = Limits { queued_messages: 2, queued_bytes: 64, ..Limits::default() };
    let mut play = Play::ready(limits).await;
    play.subscribe("s", "subscription { ticks }").await;
    for tick in 0..500 {
        play.ticks.send(tick).await.unwrap();
    }
    for tick in 0..500 {
        assert_eq!(play.hear().await, next("s", json!({"ticks": tick})));
    }
}

#[tokio::test]
async fn pings_keep_a_living_client_and_find_out_a_dead_one() {
    let limits = Limits { ping_every: Duration::from_millis(300), close_within: PATIENCE, ..Limits::default() };
    let mut play = Play::ready(limits).await;
    for _ in 0..2 {
        let frame = timeout(PATIENCE, play.client.next()).await.unwrap().unwrap().unwrap();
        assert!(matches!(frame, Message::Ping(_)), "{frame:?}");
    }
    // The client library answers pings only while it is read from.
    assert!(matches!(play.ended.try_recv(), Err(mpsc::error::TryRecvError::Empty)));
    play.subscribe("s", "subscription { ticks }").await;
    play.subscription_is_dropped().await;
    assert_eq!(play.hears_close().await, 1013);
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_operations() {
    for politely in [true, false] {
        let mut play = Play::ready(Limits::default()).await;
        play.subscribe("s", "subscription { ticks }").await;
        play.ticks.send(1).await.unwrap();
        play.hear().await;
        if politely {
            play.client.close(None).await.unwrap();
            assert!(matches!(play.client.next().await, Some(Ok(Message::Close(_))) | None));
        }
        let Play { client, mut dropped, mut ended, .. } = play;
        drop(client);
        timeout(PATIENCE, dropped.wait_for(|dropped| *dropped)).await.unwrap().unwrap();
        let end = timeout(PATIENCE, ended.recv()).await.unwrap().unwrap();
        assert!(matches!(end, Ended::ByClient | Ended::Broken(_)), "{end:?}");
    }
}

#[test]
fn a_token_is_found_wherever_clients_put_it() {
    assert_eq!(token_of(&json!({"Authorization": "Bearer a.b.c"})), Some("a.b.c"));
    assert_eq!(token_of(&json!({"authorization": "bearer  x "})), Some("x"));
    assert_eq!(token_of(&json!({"token": "sk_test_1"})), Some("sk_test_1"));
    for payload in [
        Value::Null,
        json!({}),
        json!("Bearer x"),
        json!({"Authorization": 1}),
        json!({"Authorization": "Bearer "}),
        json!({"Authorization": "Basic x"}),
        json!({"token": ""}),
    ] {
        assert_eq!(token_of(&payload), None, "{payload}");
    }
}
