//! `/graphql` as HTTP clients meet it.

use cryptopay_test_support::{TestDatabase, on_both_databases};
use poem::http::{Method, StatusCode, header};
use poem::{Endpoint, Response, Route};
use tokio::io::AsyncReadExt;

use super::*;
use crate::security::tokens::{ACCESS_LIFETIME, FamilyId};
use cryptopay_entity::refresh_token;

/// An access token for a shop's login.
pub(super) async fn token(shop: &Shop) -> String {
    let now = clock::database_now(shop.app.database()).await.unwrap();
    let family = FamilyId::generate();
    let merchant = shop.principal.merchant_id();
    let until = now.plus(ACCESS_LIFETIME);
    refresh_token::Entity::add(shop.app.database(), merchant, family.as_str(), family.as_str(), now, until)
        .await
        .unwrap();
    shop.app.keys.tokens().sign(merchant, &family, now).unwrap().0
}

struct Gateway {
    shop: Shop,
    routes: Route,
    token: String,
    shutdown: CancellationToken,
}

impl Gateway {
    async fn open(db: &TestDatabase) -> Self {
        let app = testing::app(db).await;
        let shop = Shop::open(&app, "alice").await;
        let shutdown = CancellationToken::new();
        let routes = graphql_routes(&app, shutdown.clone());
        let token = token(&shop).await;
        Self { shop, routes, token, shutdown }
    }

    async fn send(&self, method: Method, uri: &str, headers: &[(&str, &str)], body: &str) -> Response {
        let mut request = poem::Request::builder().method(method).uri(uri.parse().unwrap());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.routes.get_response(request.body(body.to_owned())).await
    }

    async fn post(&self, accept: &str, token: Option<&str>, body: &str) -> (StatusCode, Value) {
        let bearer = token.map(|token| format!("Bearer {token}"));
        let mut headers = vec![("content-type", "application/json"), ("accept", accept)];
        headers.extend(bearer.as_deref().map(|bearer| ("authorization", bearer)));
        let response = self.send(Method::POST, "/graphql", &headers, body).await;
        assert!(response.content_type().unwrap().ends_with("charset=utf-8"));
        read(response).await
    }

    async fn get(&self, parameters: &[(&str, &str)]) -> Response {
        let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
        let bearer = format!("Bearer {}", self.token);
        let headers = [("authorization", bearer.as_str()), ("accept", "application/graphql-response+json")];
        self.send(Method::GET, &format!("/graphql?{query}"), &headers, "").await
    }
}

fn graphql_routes(app: &App, shutdown: CancellationToken) -> Route {
    crate::graphql::routes(Route::new(), app, shutdown)
}

async fn read(response: Response) -> (StatusCode, Value) {
    let status = response.status();
    let text = response.into_body().into_string().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

const NEW: &str = "application/graphql-response+json";
const OLD: &str = "application/json";

on_both_databases!(the_status_says_whether_the_operation_ran, async |db: TestDatabase| {
    let gateway = Gateway::open(&db).await;
    let me = r#"{"query": "{ me { username } }"}"#;
    for (accept, token, body, status, code) in [
        (NEW, Some(gateway.token.as_str()), me, 200, None),
        (OLD, Some(gateway.token.as_str()), me, 200, None),
        (
            "*/*",
            None,
            r#"{"query": "{ __typename }", "variables": null, "operationName": null, "extensions": {}}"#,
            200,
            None,
        ),
        (NEW, None, me, 200, Some("AUTHENTICATION_REQUIRED")),
        (NEW, Some("sk_test_x"), me, 401, Some("TOKEN_INVALID")),
        (OLD, Some("x"), r#"{"query": "{ __typename }"}"#, 401, Some("TOKEN_INVALID")),
        (NEW, None, r#"{"query": "{"}"#, 400, Some("VALIDATION_ERROR")),
        (OLD, None, r#"{"query": "{"}"#, 200, Some("VALIDATION_ERROR")),
        (NEW, None, r#"{"query": "{ nothing }"}"#, 400, Some("VALIDATION_ERROR")),
        (OLD, None, r#"{"query": "{ nothing }"}"#, 200, Some("VALIDATION_ERROR")),
        (NEW, None, "{", 400, Some("MALFORMED_JSON")),
        (OLD, None, "[]", 400, Some("MALFORMED_JSON")),
        (OLD, None, "", 400, Some("MALFORMED_JSON")),
        (NEW, None, "{}", 400, Some("VALIDATION_ERROR")),
        (NEW, None, r#"{"query": 1}"#, 400, Some("VALIDATION_ERROR")),
        (NEW, None, r#"{"query": "{ __typename }", "variables": []}"#, 400, Some("VALIDATION_ERROR")),
        (NEW, None, r#"{"query": "{ __typename }", "operationName": {}}"#, 400, Some("VALIDATION_ERROR")),
        (NEW, None, r#"{"query": "{ __typename }", "extensions": 1}"#, 400, Some("VALIDATION_ERROR")),
        (OLD, None, r#"{"query": "subscription { __typename }"}"#, 400, Some("VALIDATION_ERROR")),
    ] {
        let (found, answer) = gateway.post(accept, token, body).await;
        assert_eq!(found.as_u16(), status, "{accept} {body} {answer}");
        match code {
            Some(wanted) => assert_eq!(super::code(&answer), wanted, "{body}"),
            None => assert_eq!(answer.get("errors"), None, "{answer}"),
        }
        // A request that did not run has no data, not even null; one that ran has.
        let ran = code.is_none() || code == Some("AUTHENTICATION_REQUIRED");
        assert_eq!(answer.get("data").is_some(), ran, "{answer}");
    }
});

on_both_databases!(a_get_is_for_queries_and_other_methods_are_named, async |db: TestDatabase| {
    let gateway = Gateway::open(&db).await;
    let query = "query A($first: Int) { paymentOrders(first: $first) { totalCount } } query B { me { username } }";
    for (operation, variables, data) in [
        ("A", r#"{"first": 1}"#, json!({"paymentOrders": {"totalCount": 0}})),
        ("B", "{}", json!({"me": {"username": "alice"}})),
    ] {
        let parameters = [("query", query), ("operationName", operation), ("variables", variables)];
        let (status, answer) = read(gateway.get(&parameters).await).await;
        assert_eq!((status, &answer["data"]), (StatusCode::OK, &data), "{answer}");
    }
    for document in ["mutation { __typename }", "subscription { orderUpdated(orderId: \"x\") { sequence } }"] {
        let response = gateway.get(&[("query", document)]).await;
        assert_eq!(response.headers()[header::ALLOW], "POST");
        let (status, answer) = read(response).await;
        assert_eq!((status, code(&answer).as_str()), (StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED"));
    }
    let (status, answer) = read(gateway.get(&[("query", "{ me { id } }"), ("variables", "{")]).await).await;
    assert_eq!((status, code(&answer).as_str()), (StatusCode::BAD_REQUEST, "MALFORMED_JSON"));
    assert_eq!(gateway.get(&[]).await.status(), StatusCode::BAD_REQUEST);
    let deleted = gateway.send(Method::DELETE, "/graphql", &[], "").await;
    assert_eq!(deleted.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(deleted.headers()[header::ALLOW], "GET, POST");
    let form = gateway.send(Method::POST, "/graphql", &[("content-type", "text/plain")], "{ me }").await;
    assert_eq!(form.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let large = format!("{{\"query\": \"{}\"}}", " ".repeat(300_000));
    assert_eq!(gateway.post(NEW, None, &large).await.0, StatusCode::PAYLOAD_TOO_LARGE);
});

on_both_databases!(an_error_names_the_request_that_had_it, async |db: TestDatabase| {
    let gateway = Gateway::open(&db).await;
    for (query, header) in [("{ me { id } }", "a-b_1"), ("{", "a-b_1"), ("{ me { id } }", "not sane")] {
        let body = json!({"query": query}).to_string();
        let headers = [("content-type", OLD), ("x-request-id", header)];
        let (_, answer) = read(gateway.send(Method::POST, "/graphql", &headers, &body).await).await;
        let id = &answer["errors"][0]["extensions"]["requestId"];
        assert_eq!(*id, if header == "a-b_1" { json!("a-b_1") } else { Value::Null }, "{answer}");
    }
});

on_both_databases!(a_browser_gets_a_page_that_asks_no_other_host, async |db: TestDatabase| {
    let gateway = Gateway::open(&db).await;
    let accept = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
    let response = gateway.send(Method::GET, "/graphql", &[("accept", accept)], "").await;
    assert_eq!((response.status(), response.content_type()), (StatusCode::OK, Some("text/html; charset=utf-8")));
    assert!(response.headers()["content-security-policy"].to_str().unwrap().starts_with("default-src 'none'"));
    let page = response.into_body().into_string().await.unwrap();
    assert!(page.contains("/graphql/schema.graphql") && !page.contains("://") && !page.contains("/*script*/"));
    let schema = gateway.send(Method::GET, "/graphql/schema.graphql", &[], "").await;
    assert_eq!(schema.into_body().into_string().await.unwrap(), crate::graphql::sdl());
});

on_both_databases!(a_subscription_streams_as_server_sent_events, async |db: TestDatabase| {
    let gateway = Gateway::open(&db).await;
    let _tailer = Tailer::start(&gateway.shop.app);
    let order = gateway.shop.order(1).await;
    gateway.shop.publish().await;
    let query = format!(
        "subscription {{ orderUpdated(orderId: \"{order}\", after: 0) {{ sequence event order {{ status }} }} }}"
    );
    let bearer = format!("Bearer {}", gateway.token);
    let headers = [("content-type", OLD), ("accept", "text/event-stream"), ("authorization", bearer.as_str())];
    let body = json!({"query": query}).to_string();
    let response = gateway.send(Method::POST, "/graphql", &headers, &body).await;
    assert_eq!((response.status(), response.content_type()), (StatusCode::OK, Some("text/event-stream")));
    let mut stream = response.into_body().into_async_read();
    let mut heard = String::new();
    let update = r#"{"sequence":"1","event":"ORDER_CREATED","order":{"status":"PENDING"}}"#;
    let first = format!("event: next\ndata: {{\"data\":{{\"orderUpdated\":{update}}}}}\n\n");
    while heard.len() < first.len() {
        heard.push(char::from(stream.read_u8().await.unwrap()));
    }
    assert_eq!(heard, first);
    gateway.shop.tell(&order).await;
    while !heard.ends_with("\"sequence\":\"2\"") {
        heard.push(char::from(stream.read_u8().await.unwrap()));
    }
    // A stop of the process ends the stream without `complete`: clients come again.
    gateway.shutdown.cancel();
    stream.read_to_string(&mut heard).await.unwrap();
    assert!(heard.ends_with("\n\n") && !heard.contains("complete"), "{heard}");

    let gateway = Gateway { shutdown: CancellationToken::new(), ..gateway };
    let routes = graphql_routes(&gateway.shop.app, gateway.shutdown.clone());
    let gateway = Gateway { routes, ..gateway };
    // So does the end of the login.
    let response = gateway.send(Method::POST, "/graphql", &headers, &body).await;
    let mut stream = response.into_body().into_async_read();
    assert_eq!(stream.read_u8().await.unwrap(), b'e');
    let who = crate::principal::authenticate(&gateway.shop.app, &gateway.token).await.unwrap();
    crate::operations::accounts::logout(&gateway.shop.app, &who).await.unwrap();
    let mut heard = String::new();
    stream.read_to_string(&mut heard).await.unwrap();
    assert!(heard.ends_with("\n\n") && !heard.contains("complete"), "{heard}");

    let bearer = format!("Bearer {}", token(&gateway.shop).await);
    let headers = [("content-type", OLD), ("accept", "text/event-stream"), ("authorization", bearer.as_str())];
    let query = r#"{"query": "{ me { username } }"}"#;
    let gateway = Gateway { shutdown: CancellationToken::new(), ..gateway };
    let routes = graphql_routes(&gateway.shop.app, gateway.shutdown.clone());
    let gateway = Gateway { routes, ..gateway };
    let whole = gateway.send(Method::POST, "/graphql", &headers, query).await.into_body().into_string().await.unwrap();
    assert_eq!(whole, "event: next\ndata: {\"data\":{\"me\":{\"username\":\"alice\"}}}\n\nevent: complete\ndata:\n\n");
});

on_both_databases!(a_persisted_query_is_answered_in_apollos_words, async |db: TestDatabase| {
    let gateway = Gateway::open(&db).await;
    let extensions = json!({"persistedQuery": {"version": 1, "sha256Hash": "ab".repeat(32)}});
    let expected = ("PersistedQueryNotSupported", "PERSISTED_QUERY_NOT_SUPPORTED");
    let told = |answer: &Value| {
        let error = answer["errors"][0].clone();
        assert_eq!(answer.get("data"), None, "{answer}");
        (error["message"].as_str().unwrap().to_owned(), error["extensions"]["code"].as_str().unwrap().to_owned())
    };
    for document in [Value::Null, json!("")] {
        for (accept, status) in [(OLD, 200), (NEW, 400)] {
            let body = json!({"query": document, "operationName": "Me", "extensions": extensions}).to_string();
            let (found, answer) = gateway.post(accept, Some(&gateway.token), &body).await;
            let (message, code) = told(&answer);
            assert_eq!((found.as_u16(), (message.as_str(), code.as_str())), (status, expected));
        }
    }
    let (status, answer) = read(gateway.get(&[("extensions", &extensions.to_string())]).await).await;
    let (message, code) = told(&answer);
    assert_eq!((status.as_u16(), (message.as_str(), code.as_str())), (400, expected));
    // With its document the same operation runs.
    let body = json!({"query": "{ me { username } }", "extensions": extensions}).to_string();
    let (_, answer) = gateway.post(OLD, Some(&gateway.token), &body).await;
    assert_eq!(answer["data"]["me"]["username"], "alice");
});

on_both_databases!(a_key_given_twice_is_named_in_bodies_and_variables, async |db: TestDatabase| {
    let gateway = Gateway::open(&db).await;
    let body = r#"{"query": "{ me { id } }", "variables": {"a": {"b": 1, "b": 2}}}"#;
    let (status, answer) = gateway.post(NEW, Some(&gateway.token), body).await;
    assert_eq!((status.as_u16(), code(&answer).as_str()), (400, "MALFORMED_JSON"));
    assert!(answer["errors"][0]["message"].as_str().unwrap().contains("the key \"b\" is given twice"), "{answer}");
    let repeated = gateway.get(&[("query", "{ me { id } }"), ("variables", r#"{"a": 1, "a": 2}"#)]).await;
    assert_eq!(code(&read(repeated).await.1), "MALFORMED_JSON");
    let marked = "\u{feff}{\"query\": \"{ me { username } }\"}";
    let (_, answer) = gateway.post(OLD, Some(&gateway.token), marked).await;
    assert_eq!(answer["data"]["me"]["username"], "alice");
});
