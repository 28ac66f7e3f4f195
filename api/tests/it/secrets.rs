//! Whatever a merchant, a node or an operator would not want others to read is in no line of the log, at any level and in
//! either form, and not in `/metrics`.

use cryptopay_test_support::{TestDatabase, TestRedis, WebhookReceiver, block_on};
use reqwest::Method;
use serde_json::{Value, json};
use url::Url;

use crate::harness::{Client, Installation, LIMIT, Process, Shop, Subscription, WALLET, raw, text, told};

/// The bytes 1 to 32.
const MASTER: &str = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=";
const RPC_KEYS: [&str; 3] = ["rpc-key-in-path-7Qd2", "rpc-key-in-query-8Re3", "rpc-key-of-socket-9Sf4"];

/// What nobody may read, each by what it is.
#[derive(Default)]
struct Secrets(Vec<(&'static str, String)>);

impl Secrets {
    fn keep(&mut self, what: &'static str, secret: impl Into<String>) -> String {
        let secret = secret.into();
        assert!(secret.len() >= 8, "{what}: {secret} may stand somewhere by chance");
        self.0.push((what, secret.clone()));
        secret
    }

    /// Keeps both tokens of an answer. A part of an access token is as bad as all of it.
    fn keep_session(&mut self, session: &Value) -> String {
        self.keep("refresh token", text(&session["refresh"]));
        let access = text(&session["access"]);
        for part in access.split('.').skip(1) {
            self.keep("part of an access token", part);
        }
        access.to_owned()
    }

    #[track_caller]
    fn are_not_in(&self, place: &str, said: &str) {
        for (what, secret) in &self.0 {
            let line = said.lines().find(|line| line.contains(secret.as_str()));
            assert!(line.is_none(), "{place} has the {what}: {}", line.unwrap_or_default());
        }
    }
}

#[test]
fn nothing_secret_is_logged_as_json_with_postgres_and_redis() {
    block_on(async {
        let (db, redis) = (TestDatabase::postgres().await, TestRedis::new());
        let mut secrets = Secrets::default();
        for (what, url) in [("database's password", db.url()), ("password of Redis", redis.url())] {
            let url: Url = url.parse().unwrap();
            if let Some(password) = url.password() {
                secrets.keep(what, password);
            }
        }
        let installation = Installation::on(&db)
            .with("REDIS_URL", redis.url())
            .with("CRYPTOPAY_KEY_PREFIX", redis.prefix())
            .with("CRYPTOPAY_LOG_FORMAT", "json");
        live_through(installation, secrets).await;
    });
}

#[test]
fn nothing_secret_is_logged_as_text_on_sqlite() {
    block_on(async {
        let db = TestDatabase::sqlite().await;
        live_through(Installation::on(&db), Secrets::default()).await;
    });
}

/// Does all that is done with secrets, well and badly, and reads what was said meanwhile.
async fn live_through(installation: Installation, mut secrets: Secrets) {
    secrets.keep("master secret", MASTER);
    let [in_path, in_query, of_socket] = RPC_KEYS.map(|key| secrets.keep("key of a node", key));
    // Nobody listens there, which is said again and again.
    let nodes = format!("http://127.0.0.1:9/v3/{in_path}?key={in_query},ws://127.0.0.1:9/{of_socket}");
    let process = installation
        .with("CRYPTOPAY_SECRET", MASTER)
        .with("CRYPTOPAY_RPC_POLYGON", &nodes)
        .with("CRYPTOPAY_LOG", "trace")
        .start()
        .await;
    let shop = account(&process, &mut secrets).await;
    payment(&shop, &mut secrets).await;
    refusals(&process, &shop.client, &mut secrets).await;
    let metrics = process.client().get("/metrics").await;
    secrets.are_not_in("/metrics", &String::from_utf8(metrics.bytes).unwrap());
    let ended = process.terminate().await;
    for (name, said) in [("the log", &ended.stderr), ("standard output", &ended.stdout)] {
        secrets.are_not_in(name, said);
    }
    // It did say what happened.
    for said in ["/api/auth/login", "/api/payment-orders/", "polygon", "DEBUG"] {
        assert!(ended.stderr.contains(said), "{said} was not logged");
    }
}

/// Registration, logins, new tokens, a new profile, a new password, a key.
async fn account(process: &Process, secrets: &mut Secrets) -> Shop {
    let client = process.client();
    let email = secrets.keep("e-mail address", "owner.3Mz1@shop.example");
    let password = secrets.keep("password", "correct-horse-4Na2-battery");
    let body = json!({"username": "shop", "email": email, "password": password, "shop_name": "Shop"});
    secrets.keep_session(&client.post("/api/auth/register", body.clone()).await.expect(201));
    client.post("/api/auth/register", body).await.faults();

    let guess = secrets.keep("wrong password", "wrong-horse-5Ob3-battery");
    let wrong = json!({"username": email, "password": guess});
    client.post("/api/auth/login", wrong).await.error(401, "INVALID_CREDENTIALS");
    let typed = secrets.keep("password in the wrong field", "mistyped-horse-6Pc4");
    let wrong = json!({"username": typed, "password": password});
    client.post("/api/auth/login", wrong).await.error(401, "INVALID_CREDENTIALS");

    let session = client.post("/api/auth/login", json!({"username": email, "password": password})).await.expect(200);
    secrets.keep_session(&session);
    let refresh = json!({"refresh": session["refresh"]});
    let session = client.post("/api/auth/token/refresh/", refresh.clone()).await.expect(200);
    secrets.keep_session(&session);
    let again = client.post("/api/auth/token/refresh/", refresh).await.expect(200);
    let access = secrets.keep_session(&again);
    client.post("/api/auth/token/verify/", json!({"token": access})).await.data(200);

    let owner = client.with_token(&access);
    let email = secrets.keep("new e-mail address", "other.owner.7Qd5@shop.example");
    owner.send(Method::PATCH, "/api/auth/me/", Some(json!({"email": email}))).await.data(200);
    let new = secrets.keep("new password", "staple-8Re6-gravel-teapot");
    let change = json!({"current_password": guess, "new_password": new});
    owner.post("/api/auth/password/", change).await.faults();
    let change = json!({"current_password": password, "new_password": new});
    owner.post("/api/auth/password/", change).await.data(200);
    owner.get("/api/auth/me/").await.error(401, "TOKEN_INVALID");

    let session = client.post("/api/auth/login", json!({"username": "shop", "password": new})).await.expect(200);
    let owner = client.with_token(&secrets.keep_session(&session));
    let scopes = json!({"name": "till", "scopes": ["read", "write", "manage"]});
    let key = owner.post("/api/api-keys/", scopes).await.data(201);
    let key = secrets.keep("API key", text(&key["secret"]));
    Shop::with_key(&client, new, &key)
}

/// An order, its payment, and whoever is told of it, reachable or not.
async fn payment(shop: &Shop, secrets: &mut Secrets) {
    let receiver = WebhookReceiver::start().await;
    let token = secrets.keep("token of an endpoint", "endpoint-token-9Sf7");
    let url = receiver.url(&format!("/hook?token={token}"));
    let lost = secrets.keep("token of an endpoint that is away", "endpoint-token-1Tg8");
    for url in [url, format!("http://hook:{lost}@127.0.0.1:9/{lost}?token={lost}")] {
        let answer = shop.client.post("/api/webhook-endpoints/", json!({"url": url, "events": ["*"]})).await;
        // One with a password in its url may be refused, which is said too.
        if answer.status == 201 {
            secrets.keep("signing secret", text(&answer.body["data"]["secret"]));
        }
    }
    let lost = format!("http://127.0.0.1:9/hook?token={lost}");
    shop.client.post("/api/webhook-endpoints/", json!({"url": lost, "events": ["*"]})).await.data(201);
    let listed = shop.client.get("/api/webhook-endpoints/").await.data(200);
    for endpoint in listed["results"].as_array().unwrap() {
        if let Some((_, token)) = endpoint["url"].as_str().unwrap_or_default().split_once("/sandbox/inbox/") {
            secrets.keep("token of the inbox", token);
        }
        let path = format!("/api/webhook-endpoints/{}/secret/", endpoint["id"]);
        secrets.keep("signing secret", text(&shop.client.get(&path).await.data(200)["secret"]));
    }

    shop.client.post("/api/merchant-wallets/", json!({"blockchain": "base", "address": WALLET})).await.data(201);
    shop.wait_for_chain().await;
    let token = secrets.keep("token of an order's url", "order-token-2Uh9");
    let basket = secrets.keep("order_info", "private-basket-3Vi1");
    let order = shop
        .order(json!({
            "order_info": json!({"basket": basket}).to_string(),
            "webhook_url": receiver.url(&format!("/orders?token={token}")),
            "redirect_url": format!("https://shop.example/thanks?token={token}"),
        }))
        .await;
    let mut live = Subscription::open(&shop.client, text(&order["order_id"]), Some("0")).await;
    live.next().await;
    let query = "query($text: String!) { paymentOrders(filter: {search: $text}) { edges { node { orderInfo } } } }";
    shop.client.post("/graphql", json!({"query": query, "variables": {"text": basket}})).await;
    shop.client.get(&format!("/api/payment-orders/?search={basket}")).await.data(200);
    shop.pay(&order, json!({})).await;
    shop.mine(13).await;
    receiver.wait_until(LIMIT, |journal| told(journal, "payment.confirmed", &order).len() == 2).await;
}

/// Requests that are refused, whatever they carry.
async fn refusals(process: &Process, client: &Client, secrets: &mut Secrets) {
    let token = secrets.keep("token that is none", "bearer-token-4Wj2");
    process.client().with_token(&token).get("/api/auth/me/").await.error(401, "TOKEN_INVALID");
    process.client().with_token(&token).post("/graphql", json!({"query": "{ me { username } }"})).await;
    let query = secrets.keep("token in a query", "query-token-5Xk3");
    for path in ["/api/auth/me/", "/api/nothing/", "/order/nothing", "/graphql", "/api/payment-orders/nothing/"] {
        process.client().get(&format!("{path}?access_token={query}")).await;
        client.get(&format!("{path}?page={query}")).await;
    }
    let body = secrets.keep("what a body says", "body-secret-6Yl4");
    for bytes in [format!("{{\"password\": \"{body}\", "), format!("{{\"{body}\": 1}}"), format!("[\"{body}\"]")] {
        for path in ["/api/auth/login", "/api/auth/token/refresh/", "/api/payment-orders/", "/graphql"] {
            client.send_bytes(Method::POST, path, bytes.clone().into_bytes(), "application/json").await;
            client.send_bytes(Method::POST, path, bytes.clone().into_bytes(), "text/plain").await;
        }
    }
    let header = secrets.keep("what a header says", "header-secret-7Zm5");
    for line in [
        format!("Authorization: Basic {header}"),
        format!("Authorization: Bearer {header}"),
        format!("Cookie: session={header}"),
        format!("X-Api-Key: {header}"),
        format!("Idempotency-Key: {header} \u{e9}"),
        format!("X-Request-Id: {header} with blanks"),
    ] {
        let request = format!("POST /api/payment-orders/ HTTP/1.1\r\nHost: x\r\n{line}\r\nConnection: close\r\n\r\n");
        raw(process.base(), request.as_bytes()).await;
    }
    for payload in [json!({"token": token}), json!({"Authorization": header})] {
        let mut socket = Subscription::connect(process.base()).await;
        socket.say(json!({"type": "connection_init", "payload": payload})).await;
        socket.hear().await.unwrap_err();
    }
}
