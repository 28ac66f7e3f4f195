//! What no client library sends, over raw TCP against the running binary: never a 500, never a hang, and whoever comes
//! next is served.
//!
//! Times are not waited for here: how long a head may take is tested beside the server (`http/server.rs`), and how long a
//! body may, beside the reader of bodies (`http/json_body.rs`), both with short or simulated times.

use cryptopay_test_support::{TestDatabase, block_on};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Client, Installation, LIMIT, Process, Shop, raw, text, within};

/// The statuses of all answers that came, in their order.
fn statuses(answer: &str) -> Vec<&str> {
    let heads = answer.match_indices("HTTP/1.").filter(|(at, _)| *at == 0 || !answer[..*at].ends_with('"'));
    heads.filter_map(|(at, _)| answer[at..].get(9..12)).collect()
}

/// The JSON of the last answer.
fn body(answer: &str) -> Value {
    let (_, body) = answer.rsplit_once("\r\n\r\n").unwrap_or_default();
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
}

/// A process with a shop, and how it is asked.
struct Door {
    process: Process,
    shop: Shop,
}

impl Door {
    async fn open(db: &TestDatabase) -> Self {
        let process = Installation::on(db).start().await;
        let shop = Shop::open(&process.client()).await;
        Self { process, shop }
    }

    /// Sends these bytes, says that nothing more will come, and reads to the end.
    async fn half_closed(&self, request: &[u8]) -> String {
        let exchange = async {
            let mut stream = TcpStream::connect(self.process.base().trim_start_matches("http://")).await.unwrap();
            // It may be refused before it was sent whole.
            _ = stream.write_all(request).await;
            _ = stream.shutdown().await;
            let mut answer = Vec::new();
            _ = stream.read_to_end(&mut answer).await;
            String::from_utf8_lossy(&answer).into_owned()
        };
        within(LIMIT, "an answer to half a connection", exchange).await
    }

    /// A request for an order with this body, as it goes over the wire; its own headers after the usual ones.
    fn order(&self, headers: &str, body: &[u8]) -> Vec<u8> {
        let head = format!(
            "POST /api/payment-orders/ HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
             Connection: close\r\n{headers}\r\n",
            self.shop.client.token()
        );
        [head.as_bytes(), body].concat()
    }

    /// The same with a length.
    fn sized(&self, body: &[u8]) -> Vec<u8> {
        self.order(&format!("Content-Length: {}\r\n", body.len()), body)
    }

    async fn lives(&self) {
        assert_eq!(self.process.client().get("/healthz").await.status, 200);
        assert!(!self.process.log().contains("panicked"), "{}", self.process.log());
        assert!(!self.process.log().contains("internal error"), "{}", self.process.log());
    }
}

#[test]
fn heads_of_any_size_are_answered() {
    block_on(async {
        let db = TestDatabase::sqlite().await;
        let door = Door::open(&db).await;
        let ask = async |path: &str, headers: &str| {
            let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n");
            raw(door.process.base(), request.as_bytes()).await
        };
        let many: String = (0..90).map(|number| format!("X-Header-{number}: {number}\r\n")).collect();
        assert_eq!(statuses(&ask("/api/blockchains/", &many).await), ["200"]);
        let more: String = (0..200).map(|number| format!("X-Header-{number}: {number}\r\n")).collect();
        assert_eq!(statuses(&ask("/api/blockchains/", &more).await), ["431"]);
        let large = format!("X-Large: {}\r\n", "x".repeat(64 * 1024));
        assert_eq!(statuses(&ask("/api/blockchains/", &large).await), ["200"]);
        let huge = format!("X-Huge: {}\r\n", "x".repeat(1024 * 1024));
        // Answered, or hung up on while it was still being sent.
        assert!(matches!(statuses(&ask("/api/blockchains/", &huge).await)[..], [] | ["431"]));
        let address = format!("/api/blockchains/{}", "x".repeat(60 * 1024));
        assert_eq!(statuses(&ask(&address, "").await), ["404"]);
        // A number without end is past the end of every list; a word is no number.
        for (digit, status) in [("9", "404"), ("x", "400")] {
            let address = format!("/api/blockchains/?page={}", digit.repeat(60 * 1024));
            assert_eq!(statuses(&ask(&address, "").await), [status]);
        }
        let address = format!("/{}", "x".repeat(64 * 1024));
        assert_eq!(statuses(&ask(&address, "").await), ["414"]);
        door.lives().await;
    });
}

#[test]
fn requests_in_a_row_are_answered_in_a_row() {
    block_on(async {
        let db = TestDatabase::sqlite().await;
        let door = Door::open(&db).await;
        let get = "GET /api/blockchains/base/ HTTP/1.1\r\nHost: x\r\n\r\n";
        let last = "GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        let answer = raw(door.process.base(), format!("{}{last}", get.repeat(20)).as_bytes()).await;
        assert_eq!(statuses(&answer), [["200"; 20].as_slice(), &["404"]].concat());
        // What is wrong with one does not hold up those before it; after it, nobody knows where the next begins.
        let broken = format!("{}GARBAGE\r\n\r\n{get}", get.repeat(3));
        assert_eq!(statuses(&raw(door.process.base(), broken.as_bytes()).await), ["200", "200", "200", "400"]);
        door.lives().await;
    });
}

#[test]
fn who_closes_one_half_of_the_connection_is_answered_on_the_other() {
    block_on(async {
        let db = TestDatabase::sqlite().await;
        let door = Door::open(&db).await;
        let answer = door.half_closed(&door.sized(door.shop.request().to_string().as_bytes())).await;
        assert_eq!((statuses(&answer), &body(&answer)["success"]), (vec!["201"], &json!(true)));
        assert_eq!(statuses(&door.half_closed(b"GET /healthz HTTP/1.0\r\n\r\n").await), ["200"]);
        // A body that is shorter than it was said to be.
        let answer = door.half_closed(&door.order("Content-Length: 500\r\n", b"{\"amount\":")).await;
        assert!(matches!(statuses(&answer)[..], [] | ["400"]), "{answer}");
        // Half a head.
        assert_eq!(statuses(&door.half_closed(b"GET /healthz HTTP/1.1\r\nHost:").await), Vec::<&str>::new());
        assert_eq!(door.shop.client.get("/api/payment-orders/").await.data(200)["count"], 1);
        door.lives().await;
    });
}

#[test]
fn http_1_0_is_spoken() {
    block_on(async {
        let db = TestDatabase::sqlite().await;
        let door = Door::open(&db).await;
        // PHP's file_get_contents: no Host, the answer ends with the connection.
        let order = door.shop.request().to_string();
        let request = format!(
            "POST /api/payment-orders/ HTTP/1.0\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{order}",
            door.shop.client.token(),
            order.len()
        );
        let answer = raw(door.process.base(), request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.0 201"), "{answer}");
        let order = body(&answer)["data"]["order_id"].clone();
        assert!(!answer.to_lowercase().contains("transfer-encoding"), "{answer}");
        assert_eq!(door.shop.look(&json!({"order_id": order})).await["order_id"], order);
        // With the connection kept, as PHP's cURL may ask.
        let get = "GET /api/blockchains/base/ HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
        let last = "GET /api/blockchains/base/ HTTP/1.0\r\n\r\n";
        assert_eq!(statuses(&raw(door.process.base(), format!("{get}{last}").as_bytes()).await), ["200", "200"]);
        door.lives().await;
    });
}

#[test]
fn a_length_is_said_once_and_chunks_are_chunks() {
    block_on(async {
        let db = TestDatabase::sqlite().await;
        let door = Door::open(&db).await;
        let good = door.shop.request().to_string();
        let chunked = |body: &str| door.order("Transfer-Encoding: chunked\r\n", body.as_bytes());
        let in_two =
            format!("{:x}\r\n{}\r\n{:x};a=b\r\n{}\r\n0\r\n\r\n", 10, &good[..10], good.len() - 10, &good[10..]);
        assert_eq!(statuses(&raw(door.process.base(), &chunked(&in_two)).await), ["201"]);
        for refused in [
            door.order("Content-Length: 2\r\nContent-Length: 3\r\n", b"{} "),
            door.order("Content-Length: 2, 3\r\n", b"{} "),
            door.order("Content-Length: +2\r\n", b"{}"),
            door.order("Content-Length: 99999999999999999999999\r\n", b"{}"),
            door.order("Content-Length: 2\r\nTransfer-Encoding: gzip\r\n", b"{}"),
            chunked("zz\r\n{}\r\n0\r\n\r\n"),
            chunked("ffffffffffffffffff\r\n{}\r\n0\r\n\r\n"),
            chunked("2\r\n{}XX0\r\n\r\n"),
            chunked(&format!("2;{}\r\n{{}}\r\n0\r\n\r\n", "x".repeat(100_000))),
            chunked(&format!("2\r\n{{}}\r\n0\r\n{}\r\n", "X-Trailer: x\r\n".repeat(5_000))),
            chunked("-2\r\n{}\r\n0\r\n\r\n"),
        ] {
            let answer = door.half_closed(&refused).await;
            let shown = String::from_utf8_lossy(&refused).chars().take(400).collect::<String>();
            assert!(matches!(statuses(&answer)[..], [] | ["400"]), "{shown}\n-> {answer}");
        }
        // Both lengths: the chunks count, as the standard says, or nothing does.
        let both = door.order("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", b"2\r\n{}\r\n0\r\n\r\n");
        assert!(matches!(statuses(&door.half_closed(&both).await)[..], [] | ["400"]));
        door.lives().await;
    });
}

#[test]
fn bodies_too_large_hear_it_up_to_a_mebibyte() {
    block_on(async {
        let db = TestDatabase::sqlite().await;
        let door = Door::open(&db).await;
        for size in [256 * 1024 + 1, 1024 * 1024] {
            let answer = raw(door.process.base(), &door.sized(" ".repeat(size).as_bytes())).await;
            assert_eq!(
                (statuses(&answer), &body(&answer)["error"]["code"]),
                (vec!["413"], &json!("PAYLOAD_TOO_LARGE"))
            );
        }
        // Nor does one whose sender is unknown, whose path is none, or whose method, break the connection.
        for (from, to, status) in
            [("Bearer ", "Bearer x", "401"), ("/api/payment-orders/", "/api/nothing/", "404"), ("POST", "PATCH", "405")]
        {
            let request = door.sized(" ".repeat(1024 * 1024).as_bytes());
            let request = String::from_utf8(request).unwrap().replacen(from, to, 1);
            assert_eq!(statuses(&raw(door.process.base(), request.as_bytes()).await), [status]);
        }
        // Beyond, the connection may be closed while it is still being sent.
        let answer = door.half_closed(&door.sized(" ".repeat(8 * 1024 * 1024).as_bytes())).await;
        assert!(matches!(statuses(&answer)[..], [] | ["413"]), "{answer}");
        // One that asks first is told not to send it, or is let send it and told then.
        let asked = door.order("Content-Length: 9999999\r\nExpect: 100-continue\r\n", b"");
        let answer = door.half_closed(&asked).await;
        assert!(matches!(statuses(&answer)[..], [] | ["100"] | ["413"] | ["100", "400"] | ["400"]), "{answer}");
        door.lives().await;
    });
}

#[test]
fn letters_that_are_none_are_told_apart_from_those_that_are() {
    block_on(async {
        let db = TestDatabase::sqlite().await;
        let door = Door::open(&db).await;
        let token = door.shop.client.token();
        for path in [
            "/api/payment-orders/%ff%fe/",
            "/api/payment-orders/%/",
            "/api/payment-orders/%zz/",
            "/api/payment-orders/%00/",
            "/api/payment-orders/%2f/",
            "/api/payment-orders/%2e%2e/",
            "/api/payment-orders/..%2f..%2fetc/",
            "/api/merchant-wallets/%ED%A0%80/",
            "/api/webhook-deliveries/%F0%9F%92%B8/",
            "/api/transactions/%ff/",
            "/order/%ff/status",
            "/qr/%00",
        ] {
            let request =
                format!("GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n");
            let answer = raw(door.process.base(), request.as_bytes()).await;
            assert_eq!(statuses(&answer), ["404"], "{path}: {answer}");
            assert_eq!(body(&answer)["error"]["code"], "NOT_FOUND", "{path}");
        }
        for query in [
            "search=%ff",
            "search=%",
            "search=%00",
            "status=%ff",
            "nonce=%ff",
            "currency=%ED%A0%80",
            "%ff=1",
            "&&&",
            "=",
        ] {
            let request = format!(
                "GET /api/payment-orders/?{query} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
            );
            let answer = raw(door.process.base(), request.as_bytes()).await;
            assert!(["200", "400"].contains(&statuses(&answer)[0]), "{query}: {answer}");
        }
        // A key that cannot be read is not taken for none.
        let order = door.shop.request().to_string();
        for keys in [
            &b"Idempotency-Key: caf\xe9\r\n"[..],
            b"Idempotency-Key: a\r\nIdempotency-Key: a\r\n",
            b"Idempotency-Key:\r\n",
        ] {
            let sized = format!("Content-Length: {}\r\n", order.len());
            let request = door.order(&format!("{sized}X-Key: here\r\n"), order.as_bytes());
            let at = request.windows(14).position(|window| window == b"X-Key: here\r\n\r").unwrap_or_default();
            let request = [&request[..at], keys, &request[at..]].concat();
            let answer = raw(door.process.base(), &request).await;
            assert_eq!(
                body(&answer)["error"]["details"].as_object().unwrap().keys().collect::<Vec<_>>(),
                ["Idempotency-Key"]
            );
        }
        for value in [&b"\xff\xfe"[..], b"caf\xc3\xa9", b"\x01"] {
            let request = [
                b"GET /api/auth/me/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer ",
                value,
                b"\r\n\r\n",
            ];
            let answer = raw(door.process.base(), &request.concat()).await;
            assert!(["400", "401"].contains(&statuses(&answer)[0]), "{answer}");
        }
        door.lives().await;
    });
}

#[test]
fn json_that_few_would_write_is_understood_or_named() {
    block_on(async {
        let db = TestDatabase::sqlite().await;
        let door = Door::open(&db).await;
        let send = async |body: &[u8]| raw(door.process.base(), &door.sized(body)).await;
        // Where the reading stopped is said.
        let answer = send(b"{\n  \"amount\": \"1\",\n  \"currency\": USDC\n}").await;
        assert_eq!(body(&answer)["error"]["code"], "MALFORMED_JSON", "{answer}");
        assert!(text(&body(&answer)["error"]["message"]).contains("line 3 column 15"), "{answer}");
        let malformed: Vec<Vec<u8>> = vec![
            b"{\"amount\": \"\\ud800\"}".to_vec(),
            b"{\"amount\": \"\\udc00\\ud800\"}".to_vec(),
            b"{\"amount\": \"\xed\xa0\x80\"}".to_vec(),
            b"{\"amount\": \"a\x00b\"}".to_vec(),
            b"{\"amount\": 01}".to_vec(),
            b"{\"amount\": 1e}".to_vec(),
            b"\xff\xfe{\0}\0".to_vec(),
            "{\"a\":".repeat(200).into_bytes(),
            format!("{{\"order_info\": {}1{}}}", "[".repeat(200), "]".repeat(200)).into_bytes(),
        ];
        for sent in malformed {
            let answer = send(&sent).await;
            assert_eq!(body(&answer)["error"]["code"], "MALFORMED_JSON", "{}", String::from_utf8_lossy(&sent));
        }
        // A field that stands there twice is named; a number out of range is a fault of its field.
        let mut order = door.shop.request().to_string();
        order.insert_str(1, "\"amount\": \"5.00\", ");
        let answer = send(order.as_bytes()).await;
        assert_eq!(body(&answer)["error"]["code"], "MALFORMED_JSON", "{answer}");
        assert!(text(&body(&answer)["error"]["message"]).contains("amount"), "{answer}");
        // Some editors write a mark before the text.
        let marked = format!("\u{feff}{}", door.shop.request());
        let answer = send(marked.as_bytes()).await;
        assert_eq!(body(&answer)["data"]["amount"], "100.00", "{answer}");
        for (field, value) in [
            ("nonce", "99999999999999999999999999"),
            ("nonce", "-9223372036854775809"),
            ("nonce", "1e308"),
            ("nonce", "-0.5"),
            ("amount", "\"1\\u0000\""),
            ("order_info", "\"{}\\u0000\""),
            ("order_info", "\"\\\"\\\\u0000\""),
            ("webhook_url", "\"http://a\\u0000b/\""),
            ("redirect_url", "\"https://shop.example/\\u0000\""),
        ] {
            let mut order = door.shop.request();
            order[field] = "PLACE".into();
            let answer = send(order.to_string().replace("\"PLACE\"", value).as_bytes()).await;
            let error = &body(&answer)["error"];
            assert_eq!(error["code"], "VALIDATION_ERROR", "{field}: {value}: {answer}");
            assert_eq!(error["details"].as_object().unwrap().keys().collect::<Vec<_>>(), [field], "{answer}");
        }
        // Too large for any float: no JSON number that can be read.
        let mut order = door.shop.request();
        order["nonce"] = "PLACE".into();
        let answer = send(order.to_string().replace("\"PLACE\"", "1e400").as_bytes()).await;
        assert_eq!(statuses(&answer), ["400"], "{answer}");
        // Names of fields, which are shown to the client, may be anything.
        let mut order = door.shop.request();
        order["\u{0}\u{1f4b8}\"<script>"] = json!(1);
        let answer = send(order.to_string().as_bytes()).await;
        assert_eq!(statuses(&answer), ["201"], "{answer}");
        door.lives().await;
    });
}

#[test]
fn every_error_has_the_envelope_and_the_protocol_its_headers() {
    block_on(async {
        let db = TestDatabase::sqlite().await;
        let door = Door::open(&db).await;
        let client: &Client = &door.shop.client;
        let answer =
            client.send_bytes("POST".parse().unwrap(), "/api/payment-orders/", b"{}".to_vec(), "text/xml").await;
        answer.error(415, "UNSUPPORTED_MEDIA_TYPE");
        for path in
            ["/api/payment-orders/1/cancel/", "/order/ORD-aaaaaaaaaaaa/status", "/healthz", "/openapi.json", "/docs/"]
        {
            let answer = client.send("TRACE".parse().unwrap(), path, None).await;
            assert!(answer.header("allow").is_some_and(|allow| !allow.is_empty()), "{answer}");
            answer.error(405, "METHOD_NOT_ALLOWED");
        }
        for (path, allow) in
            [("/api/payment-orders/", "GET, POST"), ("/order/ORD-aaaaaaaaaaaa", "GET"), ("/readyz", "GET")]
        {
            let answer = client.send("OPTIONS".parse().unwrap(), path, None).await;
            assert_eq!(answer.header("allow"), Some(allow), "{answer}");
        }
        let request = format!(
            "HEAD /api/payment-orders/ HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\r\n",
            client.token()
        );
        let answer = raw(door.process.base(), request.as_bytes()).await;
        assert_eq!(statuses(&answer), ["200"]);
        assert!(answer.ends_with("\r\n\r\n") && answer.to_lowercase().contains("content-length: "), "{answer}");
        door.lives().await;
    });
}
