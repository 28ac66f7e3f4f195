//! Limits as requests meet them, and counts in a Redis that is shared, forgets, and goes away.

use std::num::NonZeroU32;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use cryptopay_domain::ids::MerchantId;
use cryptopay_domain::merchant::{Plan, Scope};
use cryptopay_entity::merchant_wallet;
use cryptopay_test_support::{RedisServer, TestDatabase, TestRedis, block_on, on_both_databases};
use futures_util::FutureExt;
use poem::endpoint::BoxEndpoint;
use poem::http::{Method, header};
use poem::{Endpoint, Request, Response};
use sea_orm::{EntityTrait, PaginatorTrait};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::bucket::{Begins, Key, Window};
use super::*;
use crate::app::App;
use crate::operations::accounts::{Accounts, set_plan};
use crate::readiness::Readiness;
use crate::testing::{PASSWORD, app, app_with};

/// The gateway without workers, behind a proxy on this host.
struct Gateway {
    app: App,
    routes: BoxEndpoint<'static, Response>,
}

/// Somebody at an address.
fn client(address: &str) -> Client {
    Client::of(address.parse().unwrap())
}

/// An answer whose body was read.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: poem::http::HeaderMap,
    body: Value,
}

impl Answer {
    fn number(&self, name: &str) -> u64 {
        let value = self.headers.get(name).unwrap_or_else(|| panic!("no {name}: {self:?}"));
        value.to_str().unwrap().parse().unwrap()
    }

    fn limit_and_remaining(&self) -> (u64, u64) {
        (self.number("x-ratelimit-limit"), self.number("x-ratelimit-remaining"))
    }
}

impl Gateway {
    async fn on(db: &TestDatabase) -> Self {
        let app = app_with(db, &[("CRYPTOPAY_TRUSTED_PROXIES", "127.0.0.1")]).await;
        let readiness = Readiness::default();
        readiness.set(None);
        let recorder = metrics::recorder().unwrap();
        let routes = crate::http::routes(app.clone(), readiness, recorder, CancellationToken::new());
        Self { app, routes }
    }

    async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Option<Value>) -> Answer {
        let mut request = Request::builder().method(method).uri(path.parse().unwrap());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = match body {
            Some(body) => request.header(header::CONTENT_TYPE, "application/json").body(body.to_string()),
            None => request.finish(),
        };
        let mut response = self.routes.get_response(request).await;
        let body = response.take_body().into_bytes().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Answer { status, headers, body: serde_json::from_slice(&body).unwrap_or_default() }
    }

    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send(Method::GET, path, headers, None).await
    }

    async fn login(&self, name: &str, password: &str, from: &str) -> Answer {
        let body = json!({"username": name, "password": password});
        self.send(Method::POST, "/api/auth/login", &[("x-forwarded-for", from)], Some(body)).await
    }

    /// A merchant: `Bearer …` of a login, and of a key that may do everything.
    async fn merchant(&self, name: &str) -> (String, String) {
        let body = json!({
            "username": name, "email": format!("{name}@b.example"), "password": PASSWORD, "shop_name": "Shop",
        });
        let registered = self.send(Method::POST, "/api/auth/register", &[], Some(body)).await;
        let login = format!("Bearer {}", registered.body["access"].as_str().unwrap());
        let body = json!({"name": "Till", "scopes": Scope::ALL.iter().map(|scope| scope.as_str()).collect::<Vec<_>>()});
        let made = self.send(Method::POST, "/api/api-keys/", &[("authorization", &login)], Some(body)).await;
        let key = format!("Bearer {}", made.body["data"]["secret"].as_str().unwrap());
        (login, key)
    }

    async fn allow(&self, name: &str, limit: u32) {
        set_plan(Accounts::from(&self.app), name, Plan::Standard, NonZeroU32::new(limit)).await.unwrap();
    }
}

on_both_databases!(every_counted_answer_tells_how_its_limit_stands, async |db: TestDatabase| {
    let gateway = Gateway::on(&db).await;
    let (login, key) = gateway.merchant("shop").await;
    let by_key = [("authorization", key.as_str()), ("origin", "https://shop.example")];
    let mut left = 1_000;
    for (method, path, body, status) in [
        (Method::GET, "/api/auth/me/", None, 200),
        (Method::GET, "/api/payment-orders/ORD-nothing/", None, 404),
        (Method::GET, "/api/no/such/route", None, 404),
        (Method::DELETE, "/api/payment-orders/", None, 405),
        (Method::POST, "/api/payment-orders/", Some(json!({})), 400),
        (Method::POST, "/api/merchant-wallets/", Some(json!({"label": "x".repeat(300_000)})), 413),
        (Method::POST, "/graphql", Some(json!({"query": "{ me { id } }"})), 200),
        (Method::POST, "/graphql", Some(json!({"query": "{"})), 200),
        (Method::POST, "/graphql", Some(json!([])), 400),
        (Method::GET, "/graphql/ws", None, 400),
    ] {
        let answer = gateway.send(method.clone(), path, &by_key, body).await;
        left -= 1;
        assert_eq!(
            (answer.status, answer.limit_and_remaining()),
            (status, (1_000, left)),
            "{method} {path} {answer:?}"
        );
        assert_eq!(answer.number("x-ratelimit-reset"), 1_800_003_600);
        assert!(answer.headers.contains_key("x-request-id"));
        let exposed = answer.headers["access-control-expose-headers"].to_str().unwrap();
        for name in ["X-Request-Id", "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "Retry-After"] {
            assert!(exposed.contains(name), "{exposed}");
        }
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
    }
    // One that made the key, none by the key.
    let answer = gateway.get("/api/auth/me/", &[("authorization", &login)]).await;
    assert_eq!(answer.limit_and_remaining(), (1_000, 998), "tokens of logins have a bucket of their own");

    let stranger = [("x-forwarded-for", "203.0.113.7")];
    for (path, status, remaining) in
        [("/api/auth/me/", 401, 599), ("/api/blockchains/", 200, 598), ("/order/ORD-x/status", 404, 597)]
    {
        let answer = gateway.get(path, &stranger).await;
        assert_eq!((answer.status, answer.limit_and_remaining()), (status, (600, remaining)), "{path}");
    }
    let made_up = [("authorization", "Bearer sk_test_x"), ("x-forwarded-for", "203.0.113.7")];
    assert_eq!(gateway.get("/api/auth/me/", &made_up).await.limit_and_remaining(), (600, 596));
    assert_eq!(gateway.get("/api/auth/me/", &[]).await.limit_and_remaining(), (600, 600), "loopback is exempt");

    for path in ["/", "/healthz", "/readyz", "/metrics", "/openapi.json", "/docs/", "/elsewhere"] {
        assert!(!gateway.get(path, &[]).await.headers.contains_key("x-ratelimit-limit"), "{path}");
    }
    let preflight = [
        ("origin", "https://shop.example"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization,idempotency-key"),
        ("x-forwarded-for", "203.0.113.7"),
    ];
    let answer = gateway.send(Method::OPTIONS, "/api/payment-orders/", &preflight, None).await;
    assert_eq!((answer.status, answer.headers.contains_key("x-ratelimit-limit")), (204, false));
    for name in ["Authorization", "Content-Type", "Idempotency-Key", "X-Request-Id"] {
        assert!(answer.headers["access-control-allow-headers"].to_str().unwrap().contains(name));
    }
    assert_eq!(gateway.get("/api/auth/me/", &stranger).await.limit_and_remaining(), (600, 595));
});

on_both_databases!(a_plan_that_is_used_up_refuses_and_changes_nothing_until_it_is_larger, async |db: TestDatabase| {
    let gateway = Gateway::on(&db).await;
    let (login, key) = gateway.merchant("shop").await;
    gateway.allow("shop", 3).await;
    let by_key = [("authorization", key.as_str()), ("origin", "https://shop.example")];
    for remaining in [2, 1, 0] {
        assert_eq!(gateway.get("/api/auth/me/", &by_key).await.limit_and_remaining(), (3, remaining));
    }
    let wallet = json!({"blockchain": "base", "address": "0x00000000000000000000000000000000000000a1"});
    let refused = gateway.send(Method::POST, "/api/merchant-wallets/", &by_key, Some(wallet.clone())).await;
    assert_eq!((refused.status, refused.limit_and_remaining()), (429, (3, 0)));
    assert_eq!(refused.number("retry-after"), 3_000);
    assert_eq!(refused.headers["access-control-allow-origin"], "https://shop.example");
    assert!(refused.headers.contains_key("x-request-id"));
    let error = &refused.body["error"];
    assert_eq!((&refused.body["success"], &error["code"]), (&json!(false), &json!("RATE_LIMITED")));
    assert!(error["message"].as_str().unwrap().contains("in 50 minutes, or ask the operator"), "{error}");
    let query = Some(json!({"query": "{ me { id } }"}));
    let refused = gateway.send(Method::POST, "/graphql", &by_key, query).await;
    assert_eq!((refused.status, &refused.body["errors"][0]["extensions"]["code"]), (429, &json!("RATE_LIMITED")));
    let wallets = async || merchant_wallet::Entity::find().count(gateway.app.database()).await.unwrap();
    assert_eq!(wallets().await, 0);

    // Neither what fails to authenticate nor the other bucket has to do with it.
    assert_eq!(gateway.get("/api/auth/me/", &[("authorization", "Bearer x")]).await.status, 401);
    assert_eq!(gateway.get("/api/auth/me/", &[("authorization", &login)]).await.limit_and_remaining(), (3, 1));
    gateway.allow("shop", 5).await;
    let made = gateway.send(Method::POST, "/api/merchant-wallets/", &by_key, Some(wallet)).await;
    assert_eq!((made.status, made.limit_and_remaining(), wallets().await), (201, (5, 1), 1));
    set_plan(Accounts::from(&gateway.app), "shop", Plan::Premium, None).await.unwrap();
    assert_eq!(gateway.get("/api/auth/me/", &by_key).await.limit_and_remaining(), (5_000, 4_995));
});

on_both_databases!(an_address_without_a_token_has_600_requests_an_hour, async |db: TestDatabase| {
    let gateway = Gateway::on(&db).await;
    let (_, key) = gateway.merchant("shop").await;
    for left in (0..600).rev() {
        let from = if left % 2 == 0 { "2001:db8:1:2::1" } else { "[2001:db8:1:2:ffff::9]:4711" };
        let answer = gateway.get("/api/auth/me/", &[("x-forwarded-for", from)]).await;
        assert_eq!((answer.status, answer.number("x-ratelimit-remaining")), (401, left));
    }
    let here = ("x-forwarded-for", "2001:db8:1:2::1");
    let refused = gateway.get("/api/blockchains/", &[here]).await;
    assert_eq!((refused.status, &refused.body["error"]["code"]), (429, &json!("RATE_LIMITED")));
    assert_eq!(gateway.get("/api/auth/me/", &[here, ("authorization", &key)]).await.status, 200);
    assert_eq!(gateway.get("/api/auth/me/", &[("x-forwarded-for", "2001:db8:1:3::1")]).await.status, 401);
    assert_eq!(gateway.get("/api/auth/me/", &[]).await.status, 401);
});

on_both_databases!(ten_failed_logins_end_the_tries_of_an_address_under_a_name, async |db: TestDatabase| {
    let gateway = Gateway::on(&db).await;
    gateway.merchant("anna").await;
    let (here, there) = ("203.0.113.7", "203.0.113.8");
    let right = gateway.login("anna", PASSWORD, here).await;
    // The plan pays for it, nobody else: one for the key that was made.
    assert_eq!((right.status, right.limit_and_remaining()), (200, (1_000, 998)));
    // One account, whatever it is called.
    for (number, name) in (0..10).zip(["anna", "ANNA", "anna@b.example"].into_iter().cycle()) {
        let wrong = gateway.login(name, "not the password", here).await;
        assert_eq!((wrong.status, wrong.limit_and_remaining()), (401, (600, 599 - number)));
    }
    let refused = gateway.login("Anna", PASSWORD, here).await;
    assert_eq!((refused.status, &refused.body["error"]["code"]), (429, &json!("RATE_LIMITED")));
    assert_eq!(refused.number("retry-after"), 900);
    assert_eq!(gateway.login("nobody", PASSWORD, here).await.status, 401, "another name");
    let elsewhere = gateway.login("anna", PASSWORD, there).await;
    assert_eq!((elsewhere.status, elsewhere.limit_and_remaining()), (200, (1_000, 997)), "failures cost no plan");
    // Faulty requests are no failed logins, and cost their address a request.
    let faulty = gateway.login("", "", there).await;
    assert_eq!((faulty.status, faulty.limit_and_remaining()), (400, (600, 599)));

    gateway.allow("anna", 3).await;
    let used_up = gateway.login("anna", PASSWORD, there).await;
    assert_eq!((used_up.status, used_up.limit_and_remaining()), (429, (3, 0)));
    // Who does not know the password does not learn that.
    let stranger = gateway.login("anna", "not the password", there).await;
    assert_eq!((stranger.status, stranger.limit_and_remaining()), (401, (600, 597)));
});

on_both_databases!(a_stolen_token_is_no_way_to_try_more_passwords, async |db: TestDatabase| {
    let gateway = Gateway::on(&db).await;
    let (login, _) = gateway.merchant("anna").await;
    let change = async |current: &str| {
        let headers = [("x-forwarded-for", "203.0.113.7"), ("authorization", login.as_str())];
        let body = json!({"current_password": current, "new_password": "unicorn-teapot-gravel"});
        gateway.send(Method::POST, "/api/auth/password/", &headers, Some(body)).await
    };
    assert_eq!(change("").await.status, 400, "which is no try");
    for _ in 0..10 {
        let wrong = change("not the password").await;
        assert_eq!((wrong.status, wrong.limit_and_remaining().0), (400, 1_000));
    }
    assert_eq!(change(PASSWORD).await.status, 429);
    assert_eq!(gateway.login("anna", PASSWORD, "203.0.113.7").await.status, 429, "it is the same count");
    assert_eq!(gateway.login("anna", PASSWORD, "203.0.113.8").await.status, 200);
});

on_both_databases!(a_hundred_failed_logins_end_the_tries_of_an_address, async |db: TestDatabase| {
    let gateway = Gateway::on(&db).await;
    let visit = Visit::of(&gateway.app, client("203.0.113.7"));
    let wrong = || ApiError::new(ErrorCode::InvalidCredentials, "User name or password is wrong.");
    for number in 0..100 {
        let tried = visit.login(&format!("name-{number}"), async { Err::<(), _>(wrong()) }).await;
        assert_eq!(tried.unwrap_err().code, ErrorCode::InvalidCredentials);
    }
    // What is no failure of the password is not counted, and neither is what is refused.
    let refused = visit.login("name-100", async { Ok(()) }).await.unwrap_err();
    assert_eq!((refused.code, refused.retry_after_secs), (ErrorCode::RateLimited, Some(3_600)));
    let visit = Visit::of(&gateway.app, client("203.0.113.8"));
    for _ in 0..30 {
        let tried = visit.login("name-1", async { Err::<(), _>(ApiError::unavailable("busy")) }).await;
        assert_eq!(tried.unwrap_err().code, ErrorCode::ServiceUnavailable);
    }
    assert!(visit.login("name-1", async { Ok(()) }).await.is_ok());
});

on_both_databases!(each_list_of_an_operation_counts_like_a_request, async |db: TestDatabase| {
    let gateway = Gateway::on(&db).await;
    let (_, key) = gateway.merchant("shop").await;
    gateway.allow("shop", 10).await;
    let ask = async |query: &str| {
        let body = json!({"query": query});
        gateway.send(Method::POST, "/graphql", &[("authorization", key.as_str())], Some(body)).await
    };
    let list = |alias: usize| format!("l{alias}: paymentOrders(filter: {{search: \"x\"}}) {{ totalCount }} ");
    let lists = |many: usize| format!("{{ {} }}", (0..many).map(list).collect::<String>());
    assert_eq!(ask("{ me { id } a: me { id } }").await.limit_and_remaining(), (10, 9));
    assert_eq!(ask(&lists(1)).await.limit_and_remaining(), (10, 8));
    let answer = ask(&lists(3)).await;
    assert_eq!((answer.limit_and_remaining(), &answer.body["data"]["l2"]["totalCount"]), ((10, 5), &json!(0)));
    // Too many are refused whole, and cost the one that the request is.
    let refused = ask(&lists(7)).await;
    assert_eq!((refused.status, &refused.body["errors"][0]["extensions"]["code"]), (429, &json!("RATE_LIMITED")));
    assert!(refused.number("retry-after") > 0);
    assert_eq!(refused.limit_and_remaining(), (10, 4));
    assert_eq!(ask(&lists(4)).await.limit_and_remaining(), (10, 0));
});

on_both_databases!(failures_from_everywhere_delay_logins_and_refuse_none, async |db: TestDatabase| {
    let base = app(&db).await;
    crate::testing::merchant(&base, "shop").await;
    let slept = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&slept);
    let sleep = Sleep::by(move |delay| {
        log.lock().unwrap().push(delay.as_secs());
        async {}.boxed()
    });
    let app = crate::testing::app_limited(&db, Limiter::embedded_with(|| 1_800_000_600, sleep));
    let attempt = async |address: &str, password: &str| {
        let client = client(address);
        let body = json!({"username": "shop", "password": password});
        let login = crate::operations::accounts::login(&app, crate::testing::fields::<crate::rest::auth::Login>(body));
        let login = crate::caller::on_behalf_of(Some(client.address), login);
        Visit::of(&app, client).login("shop", login).await.map(|_| ()).map_err(|error| error.code)
    };
    let wrong = Err(ErrorCode::InvalidCredentials);
    let last = || slept.lock().unwrap().pop();
    attempt("203.0.113.1", PASSWORD).await.unwrap();
    for number in 0..11 {
        assert_eq!((attempt(&format!("198.51.100.{number}"), "wrong-horse-9").await, last()), (wrong, None));
    }
    // Each further one waits a second longer, wherever it comes from; up to half a minute.
    for number in 11..50 {
        let waited = last_of(number);
        assert_eq!((attempt(&format!("198.51.100.{number}"), "wrong-horse-9").await, last()), (wrong, Some(waited)));
    }
    // The owner gets in from anywhere: at once from where a login succeeded before, elsewhere after the delay.
    assert_eq!((attempt("203.0.113.1", PASSWORD).await, last()), (Ok(()), None));
    assert_eq!((attempt("203.0.113.2", PASSWORD).await, last()), (Ok(()), Some(30)));
    assert_eq!((attempt("203.0.113.2", PASSWORD).await, last()), (Ok(()), None));
    // Unknown names are delayed alike, and other accounts are not.
    let stranger = Visit::of(&app, client("198.51.100.99"));
    let tried =
        stranger.login("other", async { Err::<(), _>(ApiError::new(ErrorCode::InvalidCredentials, "x")) }).await;
    assert_eq!((tried.unwrap_err().code, last()), (ErrorCode::InvalidCredentials, None));
});

/// Seconds that a login waits after so many failures.
fn last_of(failures: u64) -> u64 {
    failures.saturating_sub(10).min(30)
}

on_both_databases!(one_delayed_login_of_an_address_waits_and_holds_nothing, async |db: TestDatabase| {
    let waiting = Arc::new(tokio::sync::Notify::new());
    let gate = Arc::clone(&waiting);
    let sleep = Sleep::by(move |_| {
        let gate = Arc::clone(&gate);
        async move { gate.notified().await }.boxed()
    });
    let app = crate::testing::app_limited(&db, Limiter::embedded_with(|| 1_800_000_600, sleep));
    let fail = || async { Err::<(), _>(ApiError::new(ErrorCode::InvalidCredentials, "x")) };
    for number in 0..11 {
        let visit = Visit::of(&app, client(&format!("198.51.100.{number}")));
        assert_eq!(visit.login("shop", fail()).await.unwrap_err().code, ErrorCode::InvalidCredentials);
    }
    let here = Visit::of(&app, client("203.0.113.7"));
    let visit = here.clone();
    let first = tokio::spawn(async move { visit.login("shop", async { Ok(()) }).await });
    while app.limiter.0.delayed.is_empty() {
        tokio::task::yield_now().await;
    }
    let refused = here.login("shop", async { Ok(()) }).await.unwrap_err();
    assert_eq!((refused.code, refused.retry_after_secs.is_some()), (ErrorCode::RateLimited, true));
    waiting.notify_one();
    first.await.unwrap().unwrap();
    assert!(app.limiter.0.delayed.is_empty());
});

#[test]
fn twenty_registrations_an_hour_may_be_tried_from_an_address() {
    block_on(async {
        let db = TestDatabase::sqlite().await;
        let live = app_with(
            &db,
            &[
                ("CRYPTOPAY_MODE", "live"),
                ("CRYPTOPAY_PUBLIC_URL", "https://pay.example.com"),
                ("CRYPTOPAY_RPC_BASE", "https://rpc.example"),
            ],
        )
        .await;
        let visit = Visit::of(&live, client("203.0.113.7"));
        // One that is refused counts, since it costs as much; one that the gateway failed does not.
        let failed = visit.register(async { Err::<(), _>(ApiError::field("password", "x")) }).await;
        assert_eq!(failed.unwrap_err().code, ErrorCode::ValidationError);
        let failed = visit.register(async { Err::<(), _>(ApiError::unavailable("x")) }).await;
        assert_eq!(failed.unwrap_err().code, ErrorCode::ServiceUnavailable);
        for _ in 0..19 {
            visit.register(async { Ok(()) }).await.unwrap();
        }
        let refused = visit.register(async { Ok(()) }).await.unwrap_err();
        assert_eq!((refused.code, refused.retry_after_secs), (ErrorCode::RateLimited, Some(3_600)));
        let visit = Visit::of(&app(&db).await, client("203.0.113.7"));
        for _ in 0..30 {
            visit.register(async { Ok(()) }).await.unwrap();
        }
    });
}

on_both_databases!(before_the_database_is_ready_nothing_is_counted, async |db: TestDatabase| {
    let app = app(&db).await;
    let recorder = metrics::recorder().unwrap();
    let routes = crate::http::routes(app.clone(), Readiness::default(), recorder, CancellationToken::new());
    let gateway = Gateway { app, routes };
    for _ in 0..3 {
        let answer = gateway.get("/api/auth/me/", &[("authorization", "Bearer sk_test_x")]).await;
        assert_eq!((answer.status, answer.limit_and_remaining()), (503, (600, 600)));
    }
});

fn bucket(id: i64, limit: u64, secs: u64) -> Bucket {
    Bucket { key: Key::ApiKeys(MerchantId(id)), limit, window: Window { secs, begins: Begins::OnTheDot } }
}

/// Ten years: no test meets its turn.
const LONG: u64 = 10 * 365 * 24 * 3_600;

#[test]
fn processes_that_share_a_redis_hold_one_limit_exactly_however_many_ask_at_once() {
    block_on(async {
        let redis = TestRedis::new();
        let processes = [(); 3].map(|()| Limiter::shared(redis.url(), redis.prefix()).unwrap());
        for limiter in &processes {
            // The first question connects.
            assert_eq!(limiter.look(bucket(1, 50, LONG)).await.remaining, 50);
        }
        let asked = (0..120).map(|number| {
            let limiter = processes[number % 3].clone();
            tokio::spawn(async move { limiter.take(bucket(1, 50, LONG)).await })
        });
        let mut remaining = Vec::new();
        for answer in asked.collect::<Vec<_>>() {
            if let Ok(standing) = answer.await.unwrap() {
                remaining.push(standing.remaining);
            }
        }
        remaining.sort_unstable();
        assert_eq!(remaining, (0..50).collect::<Vec<_>>(), "each place is given away once");

        // All or none, and back, as in one process.
        let pair = [bucket(2, 5, LONG), bucket(3, 1, LONG)];
        let outcomes = [Change::Take, Change::Take, Change::GiveBack, Change::GiveBack, Change::Look];
        let mut seen = Vec::new();
        for change in outcomes {
            let outcome = processes[0].apply(&pair, change).await;
            seen.push((outcome.full, outcome.standings[0].remaining, outcome.standings[1].remaining));
        }
        assert_eq!(seen, [(None, 4, 0), (Some(1), 4, 0), (None, 5, 1), (None, 5, 1), (None, 5, 1)]);
        let keys = redis.keys();
        assert!(keys.iter().all(|key| key.starts_with(&format!("{}limit:", redis.prefix()))), "{keys:?}");
    });
}

#[test]
fn processes_under_load_hold_one_limit_too_and_give_back_what_they_took_too_much() {
    block_on(async {
        let redis = TestRedis::new();
        let processes = [(); 3].map(|()| Limiter::shared(redis.url(), redis.prefix()).unwrap());
        let limit = 3_000;
        let asked = (0..8_u64).map(|number| {
            let limiter = processes[usize::try_from(number % 3).unwrap()].clone();
            tokio::spawn(async move {
                let mut accepted = 0_u64;
                for _ in 0..300 {
                    accepted += u64::from(limiter.take(bucket(1, limit, LONG)).await.is_ok());
                }
                accepted
            })
        });
        let mut accepted = 0;
        for answer in asked.collect::<Vec<_>>() {
            accepted += answer.await.unwrap();
        }
        assert_eq!(accepted, 2_400, "there is room for all");
        // What is held and not used counts as used, until it is back.
        let until = Instant::now() + Duration::from_secs(20);
        while processes[0].look(bucket(1, limit, LONG)).await.remaining != limit - accepted {
            assert!(Instant::now() < until, "not given back");
            tokio::task::yield_now().await;
        }
        let mut refused = 0;
        while refused < 3 {
            assert!(Instant::now() < until, "{accepted} of {limit}");
            for limiter in &processes {
                match limiter.take(bucket(1, limit, LONG)).await {
                    Ok(_) => (accepted, refused) = (accepted + 1, 0),
                    Err(standing) => (refused, _) = (refused + 1, assert_eq!(standing.remaining, 0)),
                }
            }
        }
        let until = Instant::now() + Duration::from_secs(20);
        while accepted < limit {
            assert!(Instant::now() < until, "{accepted} of {limit}");
            accepted += u64::from(processes[0].take(bucket(1, limit, LONG)).await.is_ok());
        }
        for limiter in &processes {
            assert!(limiter.take(bucket(1, limit, LONG)).await.is_err());
        }
    });
}

#[test]
fn a_window_in_redis_turns_by_redis_clock() {
    block_on(async {
        let redis = TestRedis::new();
        let limiter = Limiter::shared(redis.url(), redis.prefix()).unwrap();
        let mut accepted = std::collections::BTreeMap::<u64, u64>::new();
        let until = Instant::now() + Duration::from_secs(20);
        // Three windows of a second each, asked as fast as it goes.
        while accepted.len() < 3 {
            assert!(Instant::now() < until, "windows do not turn: {accepted:?}");
            let standing = limiter.take(bucket(1, 3, 1)).await;
            if let Ok(standing) = standing {
                assert_eq!(standing.ends_in, 1);
                *accepted.entry(standing.ends_at).or_default() += 1;
            }
        }
        assert!(accepted.values().all(|accepted| *accepted <= 3), "{accepted:?}");
    });
}

#[test]
fn while_redis_is_away_each_process_counts_by_itself_and_nobody_waits_for_it() {
    block_on(async {
        let mut redis = RedisServer::start();
        let limiter = Limiter::shared(redis.url(), "ours:").unwrap();
        let bucket = bucket(1, 5, LONG);
        assert_eq!(limiter.take(bucket).await.unwrap().remaining, 4);
        redis.stop();
        let began = Instant::now();
        let mut accepted = 0;
        for _ in 0..200 {
            accepted += u32::from(limiter.take(bucket).await.is_ok());
        }
        // The first may have waited; a machine that does much else is slow, but not two hundred times a quarter second.
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        assert_eq!(accepted, 5, "the limit holds in this process");
        redis.restart();
        let until = Instant::now() + Duration::from_secs(20);
        while limiter.look(bucket).await.remaining != 5 {
            assert!(Instant::now() < until, "Redis is not used again");
            tokio::task::yield_now().await;
        }
        assert_eq!(limiter.take(bucket).await.unwrap().remaining, 4);

        // Connections that are cut, and a Redis that forgets, cost nothing but the count.
        redis.cut_connections();
        let until = Instant::now() + Duration::from_secs(20);
        while limiter.look(bucket).await.remaining != 4 {
            assert!(Instant::now() < until, "the connection is not made anew");
            tokio::task::yield_now().await;
        }
        redis.flush();
        assert_eq!(limiter.take(bucket).await.unwrap().remaining, 4);
    });
}

/// Not a test of anything: what counting costs. Run with `--run-ignored only --no-capture`.
#[test]
#[ignore = "a measurement"]
fn what_counting_costs() {
    block_on(async {
        let redis = TestRedis::new();
        for (place, limiter) in
            [("in process", Limiter::embedded()), ("in Redis", Limiter::shared(redis.url(), redis.prefix()).unwrap())]
        {
            limiter.look(bucket(1, u64::MAX, LONG)).await;
            let began = Instant::now();
            for _ in 0..5_000 {
                limiter.take(bucket(1, u64::MAX, LONG)).await.unwrap();
            }
            eprintln!("{place}: {:?} each, one after the other", began.elapsed() / 5_000);
        }
    });
}

#[test]
fn what_is_refused_is_refused_in_words_that_tell_how_long() {
    for (ends_in, words) in [(1, "in a second."), (90, "in 90 seconds."), (121, "in 3 minutes.")] {
        let standing = Standing { limit: 1, remaining: 0, ends_at: 0, ends_in };
        let error = refusal(standing, "Too many.", ".");
        assert_eq!(
            (error.message, error.retry_after_secs),
            (format!("Too many. Send it again {words}"), Some(ends_in))
        );
    }
}
