//! Routes that are none, and requests that no client library would send.

use cryptopay_test_support::{TestDatabase, block_on};
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Installation, Shop, raw, text};

#[test]
fn an_unknown_route_is_404_in_the_shape_of_every_error() {
    block_on(async {
        let db = TestDatabase::sqlite().await;
        let process = Installation::on(&db).start().await;
        let client = process.client();
        for path in [
            "/nothing",
            "/api",
            "/api/",
            "/api/nothing/",
            "/api/payment-orders/1/nothing/",
            "/api/payment-orders/1/2/3/4/5",
            "/graphql/nothing",
            "/order/",
            "/sandbox/inbox/",
            "/api/sandbox/",
            "/API/payment-orders/",
            "/.env",
            "/api/../../etc/passwd",
            "/%00",
            "/%C3%A9",
        ] {
            for method in [Method::GET, Method::POST, Method::DELETE] {
                client.send(method, path, Some(json!({}))).await.error(404, "NOT_FOUND");
            }
        }
        client.post("/sandbox/inbox/junk", json!({})).await.error(404, "NOT_FOUND");
        assert_eq!(client.get("/docs/nothing.js").await.status, 404);
    });
}

#[test]
fn a_route_is_the_same_with_and_without_its_last_slash() {
    block_on(async {
        let db = TestDatabase::sqlite().await;
        let process = Installation::on(&db).start().await;
        let shop = Shop::open(&process.client()).await;
        let order = shop.order(json!({})).await;
        let (id, public) = (order["id"].to_string(), text(&order["order_id"]));
        for path in [
            "/healthz",
            "/readyz",
            "/metrics",
            "/openapi.json",
            "/docs",
            "/graphql/schema.graphql",
            "/api/blockchains",
            "/api/blockchains/base",
            "/api/auth/me",
            "/api/payment-orders",
            &format!("/api/payment-orders/{id}"),
            &format!("/api/payment-orders/{public}/events"),
            &format!("/order/{public}"),
            &format!("/order/{public}/status"),
            "/api/sandbox/webhook-inbox",
        ] {
            for path in [path.to_owned(), format!("{path}/")] {
                assert_eq!(shop.client.get(&path).await.status, 200, "{path}");
            }
        }
    });
}

#[test]
fn garbage_on_the_wire_is_answered_or_cut_off_and_the_process_lives() {
    block_on(async {
        let db = TestDatabase::sqlite().await;
        let process = Installation::on(&db).start().await;
        let requests: Vec<(&[u8], &[&str])> = vec![
            (b"GET /api/payment-orders/%ff%fe/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", &["404", "400", "401"]),
            (b"GET /api/payment-orders/%/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", &["404", "400", "401"]),
            (b"GET /api/payment-orders/%zz/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", &["404", "400", "401"]),
            (b"GET /api/payment-orders/%2e%2e/events/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", &["401"]),
            (b"GET /order/%ff HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", &["404"]),
            (b"GET /qr/%ff?format=%ff HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", &["404", "400"]),
            (b"GET /api/blockchains/%ff/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", &["404"]),
            (b"GET /api/blockchains/?page=%ff HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", &["400"]),
            (b"GET /\xff HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", &["404", "400"]),
            (b"GET / HTTP/9.9\r\nHost: x\r\n\r\n", &["", "400", "505"]),
            (b"HELLO\r\n\r\n", &["", "400"]),
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", &["", "400"]),
            (b"POST /api/auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", &["", "400"]),
            (
                b"POST /api/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\
                  Connection: close\r\n\r\nzz\r\n",
                &["", "400"],
            ),
            (b"BREW /api/payment-orders/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", &["405", "401"]),
        ];
        for (request, statuses) in requests {
            let answer = raw(process.base(), request).await;
            let status = answer.split(' ').nth(1).unwrap_or_default();
            assert!(statuses.contains(&status), "{}\n-> {answer}", String::from_utf8_lossy(request));
            if let Some((_, body)) = answer.split_once("\r\n\r\n").filter(|(_, body)| body.starts_with('{')) {
                let body: Value = serde_json::from_str(body).unwrap();
                assert_eq!(body["success"], false, "{answer}");
            }
        }
        let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "x".repeat(200_000));
        let answer = raw(process.base(), long.as_bytes()).await;
        let status = answer.split(' ').nth(1).unwrap_or_default();
        assert!(["", "404", "414", "431"].contains(&status), "{}", answer.len());
        assert_eq!(process.client().get("/healthz").await.status, 200);
        assert!(!process.log().contains("panicked"), "{}", process.log());
    });
}

#[test]
fn head_and_options_are_understood() {
    block_on(async {
        let db = TestDatabase::sqlite().await;
        let process = Installation::on(&db).start().await;
        let client = process.client();
        for path in ["/", "/healthz", "/openapi.json", "/api/blockchains/", "/docs/"] {
            let (get, head) = (client.get(path).await, client.send(Method::HEAD, path, None).await);
            assert_eq!((head.status, head.bytes.len()), (200, 0), "{head}");
            assert_eq!(head.header("content-type"), get.header("content-type"), "{path}");
        }
        assert_eq!(client.send(Method::HEAD, "/api/payment-orders/", None).await.status, 401);
        assert_eq!(client.send(Method::HEAD, "/nothing", None).await.status, 404);
        let preflight = "OPTIONS /api/payment-orders/ HTTP/1.1\r\nHost: x\r\nOrigin: https://shop.example\r\n\
                         Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: authorization\r\n\
                         Connection: close\r\n\r\n";
        let answer = raw(process.base(), preflight.as_bytes()).await.to_lowercase();
        assert!(answer.starts_with("http/1.1 204"), "{answer}");
        for header in [
            "access-control-allow-origin: https://shop.example",
            "access-control-allow-headers: authorization, content-type, idempotency-key, x-request-id",
            "x-request-id: ",
        ] {
            assert!(answer.contains(header), "{header}: {answer}");
        }
        let allowed = answer.lines().find_map(|line| line.strip_prefix("access-control-allow-headers: ")).unwrap();
        let allowed: Vec<&str> = allowed.split(", ").collect();
        for name in [
            "apollographql-client-name",
            "apollographql-client-version",
            "apollo-require-preflight",
            "x-apollo-operation-name",
            "traceparent",
            "tracestate",
            "baggage",
            "sentry-trace",
        ] {
            assert!(allowed.contains(&name), "{name}: {allowed:?}");
        }
        // Without the headers of a preflight it is a method like any other.
        let answer = client.send(Method::OPTIONS, "/api/payment-orders/", None).await;
        assert!(answer.status == 405 || answer.status == 204 || answer.status == 200, "{answer}");
        let index = client.get("/").await.expect(200);
        for link in index["links"].as_object().unwrap().values().filter_map(Value::as_str) {
            assert_ne!(client.get(link).await.status, 404, "{link}");
        }
        assert_eq!(client.post("/", json!({})).await.header("allow"), Some("GET"));
        let docs = client.get("/docs/").await;
        assert!(String::from_utf8_lossy(&docs.bytes).contains("swagger"), "{docs}");
        let policy = docs.header("content-security-policy").unwrap();
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self'") && policy.contains("frame-ancestors 'none'")
        );
    });
}

#[test]
fn a_sane_request_id_comes_back_and_another_is_replaced() {
    block_on(async {
        let db = TestDatabase::sqlite().await;
        let process = Installation::on(&db).start().await;
        for (sent, is_kept) in [("abc-123", true), ("a b", false), (&*"x".repeat(300), false), ("<script>", false)] {
            let request =
                format!("GET /healthz HTTP/1.1\r\nHost: x\r\nX-Request-Id: {sent}\r\nConnection: close\r\n\r\n");
            let answer = raw(process.base(), request.as_bytes()).await.to_lowercase();
            assert!(answer.contains("x-request-id: "), "{answer}");
            assert_eq!(answer.contains(&format!("x-request-id: {sent}\r\n")), is_kept, "{answer}");
        }
    });
}

#[test]
fn a_request_without_one_clear_host_is_refused() {
    block_on(async {
        let db = TestDatabase::sqlite().await;
        let process = Installation::on(&db).start().await;
        for (version, hosts, status) in [
            ("1.1", "Host: x\r\n", "200"),
            ("1.0", "", "200"),
            ("1.1", "", "400"),
            ("1.1", "Host: x\r\nHost: x\r\n", "400"),
            ("1.1", "Host: x\r\nHost: y\r\n", "400"),
            ("1.0", "Host: x\r\nHost: y\r\n", "400"),
        ] {
            let request = format!("GET /healthz HTTP/{version}\r\n{hosts}Connection: close\r\n\r\n");
            let answer = raw(process.base(), request.as_bytes()).await;
            assert_eq!(answer.split(' ').nth(1), Some(status), "{request}-> {answer}");
            if status == "400" {
                let (head, body) = answer.split_once("\r\n\r\n").unwrap();
                let body: Value = serde_json::from_str(body).unwrap();
                assert!(body["error"]["details"]["Host"].is_array(), "{body}");
                assert!(head.to_lowercase().contains("x-request-id: "), "{head}");
            }
        }
    });
}

#[test]
fn a_request_body_with_a_byte_order_mark_is_read() {
    block_on(async {
        let db = TestDatabase::sqlite().await;
        let process = Installation::on(&db).start().await;
        let shop = Shop::open(&process.client()).await;
        let body = format!("\u{feff}{}", shop.request());
        let answer =
            shop.client.send_bytes(Method::POST, "/api/payment-orders/", body.into_bytes(), "application/json");
        answer.await.data(201);
        let twice = shop.request().to_string().replacen('{', "{\"nonce\":1,", 1).into_bytes();
        let answer = shop.client.send_bytes(Method::POST, "/api/payment-orders/", twice, "application/json").await;
        let error = answer.error(400, "MALFORMED_JSON");
        assert!(text(&error["message"]).contains("the key \"nonce\" is given twice"), "{error}");
    });
}

#[test]
fn a_browser_over_the_limit_gets_a_page_for_people() {
    block_on(async {
        let db = TestDatabase::sqlite().await;
        let process = Installation::on(&db).with("CRYPTOPAY_TRUSTED_PROXIES", "127.0.0.1/32").start().await;
        let client = reqwest::Client::new();
        let get = async |path: &str, accept: &str| {
            let request = client.get(format!("{}{path}", process.base())).header("Accept", accept);
            request.header("X-Forwarded-For", "203.0.113.7").send().await.unwrap()
        };
        let path = "/order/ORD-aaaaaaaaaaaa";
        let browser = "text/html,application/xhtml+xml,*/*;q=0.8";
        for _ in 0..600 {
            assert_eq!(get(path, browser).await.status(), 404);
        }
        let refused = get(path, browser).await;
        assert_eq!(refused.status().as_u16(), 429);
        assert_eq!(refused.headers()["content-type"], "text/html; charset=utf-8");
        let wait = refused.headers()["retry-after"].to_str().unwrap().to_owned();
        assert!(refused.headers().contains_key("x-ratelimit-reset") && refused.headers().contains_key("x-request-id"));
        let html = refused.text().await.unwrap();
        assert!(html.contains("Too many requests") && html.contains("loads again by itself in"), "{html}");
        assert!(html.contains(&format!("content=\"{wait}\"")), "{wait}: {html}");
        // A program is answered as before.
        for (path, accept) in [(path, "application/json"), ("/order/ORD-aaaaaaaaaaaa/events", browser)] {
            let answer: Value = get(path, accept).await.json().await.unwrap();
            assert_eq!(answer["error"]["code"], "RATE_LIMITED");
        }
    });
}
