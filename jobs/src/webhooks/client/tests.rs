//! The client against real sockets on this machine.

use std::net::SocketAddr;

use futures_util::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;

/// What the receiver of `serve` was sent.
struct Received {
    url: Url,
    request: JoinHandle<String>,
}

fn loopback() -> ClientPolicy {
    ClientPolicy { allow: vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()], https_only: false }
}

fn client() -> WebhookClient {
    WebhookClient::new(loopback()).unwrap()
}

fn impatient(limits: impl FnOnce(&mut Limits)) -> WebhookClient {
    let mut bounds = Limits::default();
    limits(&mut bounds);
    WebhookClient::with_limits(loopback(), bounds).unwrap()
}

fn url(scheme: &str, address: SocketAddr) -> Url {
    Url::parse(&format!("{scheme}://{address}/hook?shop=1")).unwrap()
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Reads one request, head and body.
async fn read_request(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let lower = head.to_lowercase();
            let length =
                lower.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |n| n.parse().unwrap());
            if body.len() >= length {
                return text;
            }
        }
        if stream.read_buf(&mut bytes).await.unwrap() == 0 {
            return text;
        }
    }
}

/// Answers one request with `answer`, byte for byte, and closes.
async fn serve(answer: impl Into<Vec<u8>>) -> Received {
    let (listener, address) = listen().await;
    let answer = answer.into();
    let request = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let request = read_request(&mut stream).await;
        // The client may have closed already, having read enough.
        let _ = stream.write_all(&answer).await;
        let _ = stream.shutdown().await;
        request
    });
    Received { url: url("http", address), request }
}

async fn post(client: &WebhookClient, url: &Url) -> Outcome {
    client.post(url, &[], "{}").await
}

async fn answer_to(answer: impl Into<Vec<u8>>) -> Result<Answer, Failure> {
    let server = serve(answer).await;
    post(&client(), &server.url).await.result
}

#[tokio::test]
async fn a_post_arrives_as_it_was_given_and_its_answer_is_kept() {
    let server = serve("HTTP/1.1 202 Accepted\r\nContent-Length: 5\r\n\r\ndanke").await;
    let headers = [("X-Webhook-Id", "wh_1".to_owned()), ("webhook-id", "wh_1".to_owned())];
    let outcome = client().post(&server.url, &headers, "{\"event\":\"payment.confirmed\"}").await;
    let answer = outcome.result.unwrap();
    assert_eq!(answer, Answer { status: 202, body: "danke".to_owned(), retry_after: None });
    assert!(outcome.duration > Duration::ZERO && outcome.duration < TOTAL);

    let request = server.request.await.unwrap();
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert_eq!(body, "{\"event\":\"payment.confirmed\"}");
    assert!(head.starts_with("POST /hook?shop=1 HTTP/1.1\r\n"), "{head}");
    for line in ["Content-Type: application/json", "X-Webhook-Id: wh_1", "Webhook-Id: wh_1", "Content-Length: 29"] {
        assert!(head.lines().any(|l| l == line), "{line} in {head}");
    }
    assert!(head.contains(concat!("User-Agent: CryptoPay/", env!("CARGO_PKG_VERSION"))), "{head}");
    for name in ["accept-encoding", "cookie", "referer", "authorization"] {
        assert!(!head.to_lowercase().contains(name), "{name} in {head}");
    }
}

#[tokio::test]
async fn a_body_is_read_up_to_four_kibibytes() {
    let mut long = b"HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n".to_vec();
    long.extend(vec![b'x'; 10_000_000]);
    let answer = answer_to(long).await.unwrap();
    assert_eq!((answer.status, answer.body), (200, "x".repeat(MAX_BODY_BYTES)));
}

#[tokio::test]
async fn a_compressed_body_is_kept_as_it_is() {
    let answer = answer_to("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd").await.unwrap();
    assert_eq!(answer.body, "abcd");
}

#[tokio::test]
async fn a_body_that_breaks_off_does_not_undo_the_status() {
    let answer = answer_to("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this").await.unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (200, "only this"));
}

#[tokio::test]
async fn sixty_four_headers_are_read_and_one_more_is_a_failure() {
    let with = |n: usize| {
        let extra: String = (1..n).map(|i| format!("X-H{i}: 1\r\n")).collect();
        format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{extra}\r\n")
    };
    assert_eq!(answer_to(with(MAX_HEADERS)).await.unwrap().status, 200);
    assert_eq!(answer_to(with(MAX_HEADERS + 1)).await, Err(Failure::TooManyHeaders));
}

#[tokio::test]
async fn a_redirect_is_reported_and_not_followed() {
    let (elsewhere, address) = listen().await;
    let answer =
        answer_to(format!("HTTP/1.1 302 Found\r\nLocation: http://{address}/\r\nContent-Length: 0\r\n\r\n")).await;
    assert_eq!(answer.unwrap().status, 302);
    assert!(elsewhere.accept().now_or_never().is_none());
}

#[tokio::test]
async fn retry_after_is_understood_in_both_forms() {
    let head = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n";
    let seconds = answer_to(format!("{head}Retry-After: 90\r\n\r\n")).await.unwrap();
    assert_eq!((seconds.status, seconds.retry_after), (503, Some(Duration::from_secs(90))));
    let dates = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nRetry-After: Sun, 06 Nov 1994 09:49:38 GMT\r\n";
    let date = answer_to(format!("{head}{dates}\r\n")).await.unwrap();
    assert_eq!(date.retry_after, Some(MAX_RETRY_AFTER));
}

#[tokio::test]
async fn a_receiver_that_never_answers_times_out_and_its_connection_is_closed() {
    let (listener, address) = listen().await;
    let closed = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.is_ok()
    });
    let after = Duration::from_millis(300);
    let outcome = post(&impatient(|limits| limits.total = after), &url("http", address)).await;
    assert_eq!(outcome.result, Err(Failure::TimedOut { phase: Phase::Answer, after }));
    assert!(outcome.duration >= after);
    assert!(closed.await.unwrap());
}

#[tokio::test]
async fn a_body_that_never_ends_costs_the_time_for_bodies_only() {
    let (listener, address) = listen().await;
    let closed = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_request(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly").await.unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.is_ok()
    });
    let outcome = post(&impatient(|limits| limits.body = Duration::from_millis(50)), &url("http", address)).await;
    let answer = outcome.result.unwrap();
    assert_eq!(answer.status, 200);
    assert!("only".starts_with(&answer.body));
    assert!(closed.await.unwrap());
}

#[tokio::test]
async fn a_connection_that_is_refused_says_so() {
    let (listener, address) = listen().await;
    drop(listener);
    let failure = post(&client(), &url("http", address)).await.result.unwrap_err();
    assert_eq!(failure.code(), "connect");
    assert!(failure.to_string().contains("the server refused it"), "{failure}");
    assert!(failure.to_string().contains(&format!("http://{address}")), "{failure}");
}

#[tokio::test]
async fn a_receiver_that_hangs_up_is_told_from_one_that_talks_nonsense() {
    assert_eq!(answer_to("").await, Err(Failure::Closed));
    assert_eq!(answer_to("HTTP/1.1 200 OK\r\nContent-").await, Err(Failure::Closed));
    assert_eq!(answer_to("SSH-2.0-OpenSSH_9.2\r\n\r\n").await.unwrap_err().code(), "protocol");
}

#[tokio::test]
async fn https_to_a_server_without_tls_says_so() {
    let (listener, address) = listen().await;
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut hello = [0; 1];
        stream.read_exact(&mut hello).await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
    });
    let failure = post(&client(), &url("https", address)).await.result.unwrap_err();
    assert_eq!(failure.code(), "tls");
    assert!(failure.to_string().contains("does not speak TLS"), "{failure}");
    server.await.unwrap();
}

#[tokio::test]
async fn a_tls_server_that_never_speaks_is_a_connect_time_out() {
    let (listener, address) = listen().await;
    let connect = Duration::from_millis(200);
    let failure = post(&impatient(|limits| limits.connect = connect), &url("https", address)).await.result.unwrap_err();
    assert_eq!(failure, Failure::TimedOut { phase: Phase::Connect, after: connect });
    drop(listener);
}

#[tokio::test]
async fn a_name_that_means_this_machine_is_refused_before_a_connection_is_opened() {
    let (listener, address) = listen().await;
    let client = WebhookClient::new(ClientPolicy::default()).unwrap();
    let named = Url::parse(&format!("http://localhost:{}/", address.port())).unwrap();
    let Err(Failure::Refused(refused)) = post(&client, &named).await.result else { panic!("not refused") };
    assert_eq!((refused.host.as_deref(), refused.kind), (Some("localhost"), "loopback"));
    let words = refused.to_string();
    assert!(words.contains("CRYPTOPAY_WEBHOOK_ALLOW") && words.contains(&refused.cidr().to_string()), "{words}");
    assert!(listener.accept().now_or_never().is_none());
}

#[tokio::test]
async fn a_literal_address_is_refused_before_a_connection_is_opened() {
    let (listener, address) = listen().await;
    let client = WebhookClient::new(ClientPolicy::default()).unwrap();
    for host in ["127.0.0.1", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1"] {
        let literal = Url::parse(&format!("http://{host}:{}/", address.port())).unwrap();
        let failure = post(&client, &literal).await.result.unwrap_err();
        assert!(failure.to_string().contains("adds 127.0.0.1/32 to CRYPTOPAY_WEBHOOK_ALLOW"), "{failure}");
    }
    assert!(listener.accept().now_or_never().is_none());
}

#[tokio::test]
async fn a_name_of_an_allowed_network_is_reached() {
    let mut server = serve("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    server.url.set_host(Some("localhost")).unwrap();
    assert_eq!(post(&client(), &server.url).await.result.unwrap().status, 200);
}

#[tokio::test]
async fn a_name_without_address_is_a_dns_failure_that_names_it() {
    let nowhere = Url::parse("http://nowhere.invalid/").unwrap();
    let failure = post(&client(), &nowhere).await.result.unwrap_err();
    assert!(matches!(failure.code(), "dns" | "connect_timeout"), "{failure}");
}

#[tokio::test]
async fn plain_http_credentials_and_bad_headers_are_refused_at_sending_too() {
    let live = WebhookClient::new(ClientPolicy { https_only: true, ..loopback() }).unwrap();
    let plain = Url::parse("http://example.com/").unwrap();
    assert_eq!(post(&live, &plain).await.result, Err(Failure::BadUrl(UrlProblem::HttpsOnly)));
    let secret = Url::parse("http://a:b@127.0.0.1/").unwrap();
    assert_eq!(post(&client(), &secret).await.result, Err(Failure::BadUrl(UrlProblem::Credentials)));
    let bad = [("X-Webhook-Id", "a\r\nHost: b".to_owned())];
    let outcome = client().post(&Url::parse("http://127.0.0.1/").unwrap(), &bad, "{}").await;
    assert_eq!(outcome.result, Err(Failure::Header { name: "X-Webhook-Id" }));
}

#[tokio::test]
async fn no_more_requests_are_open_than_there_are_slots() {
    let client = impatient(|limits| {
        limits.in_flight = 1;
        limits.slot_wait = Duration::from_millis(20);
    });
    let (listener, address) = listen().await;
    let (accepted, is_accepted) = oneshot::channel();
    let (go_on, may_go_on) = oneshot::channel::<()>();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_request(&mut stream).await;
        accepted.send(()).unwrap();
        may_go_on.await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    });
    let target = url("http", address);
    let first = tokio::spawn({
        let (client, target) = (client.clone(), target.clone());
        async move { post(&client, &target).await }
    });
    is_accepted.await.unwrap();
    assert_eq!(client.free_slots(), 0);
    assert_eq!(post(&client, &target).await.result, Err(Failure::Busy));
    go_on.send(()).unwrap();
    assert_eq!(first.await.unwrap().result.unwrap().status, 200);
    assert_eq!(client.free_slots(), 1);
    server.await.unwrap();
}

#[tokio::test]
async fn an_origin_without_a_seat_is_served_all_the_same() {
    let client = impatient(|limits| limits.kept_origins = 0);
    let server = serve("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(post(&client, &server.url).await.result.unwrap().status, 200);
}

#[test]
fn requests_and_idle_connections_together_stay_under_the_bound() {
    let limits = Limits::default();
    assert_eq!(limits.in_flight + limits.kept_origins * limits.idle_per_origin, OPEN_CONNECTIONS);
}

#[test]
fn a_client_can_be_built_without_certificates() {
    let resolver = Arc::new(PublicResolver::new(Arc::new(loopback())));
    let _ = rustls::crypto::ring::default_provider().install_default();
    assert!(builder(&loopback(), &Limits::default(), &resolver, 0, Roots::None).build().is_ok());
}
