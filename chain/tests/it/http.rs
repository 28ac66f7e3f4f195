//! The HTTP transport against a server that does what servers do on bad days.

use std::time::Duration;

use cryptopay_chain::{ChainClient, ChainError, EvmClient, Limits};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use url::Url;

const LIMITS: Limits = Limits { timeout: Duration::from_secs(5), max_body_bytes: 64 * 1024, max_batch_calls: 50 };
/// Stands for an API key in a path.
const KEY: &str = "s3cr3t-key-of-the-endpoint";

/// Serves one connection after another with `answer`, forever.
async fn serve<F>(answer: impl Fn(TcpStream) -> F + Send + 'static) -> Url
where
    F: Future<Output = ()> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            answer(stream).await;
        }
    });
    format!("http://127.0.0.1:{port}/v2/{KEY}").parse().unwrap()
}

/// Serves one fixed answer: status line and headers, then the body.
async fn fixed(head: &'static str, body: &'static str) -> Url {
    serve(move |mut stream| async move {
        let _ = stream.write_all(format!("HTTP/1.1 {head}\r\nconnection: close\r\n\r\n{body}").as_bytes()).await;
    })
    .await
}

async fn ask(url: &Url) -> ChainError {
    let error = EvmClient::http(url, LIMITS).unwrap().chain_id().await.unwrap_err();
    let mut told = format!("{error} {error:?}");
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(&error);
    while let Some(inner) = cause {
        told += &format!(" {inner} {inner:?}");
        cause = inner.source();
    }
    assert!(!told.contains(KEY), "{told}");
    error
}

#[tokio::test]
async fn a_good_answer_is_read() {
    let url = fixed("200 OK", r#"{"jsonrpc":"2.0","id":1,"result":"0x2105"}"#).await;
    let client = EvmClient::http(&url, LIMITS).unwrap();
    assert_eq!(client.chain_id().await.unwrap(), 8453);
    assert!(!format!("{client:?}").contains(KEY) && client.name().starts_with("http://127.0.0.1:"));
}

#[tokio::test]
async fn an_endless_body_is_cut_off() {
    let url = serve(|mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n").await;
        while stream.write_all(&[b' '; 8192]).await.is_ok() {}
    })
    .await;
    assert!(matches!(ask(&url).await, ChainError::BodyTooLarge { limit_bytes: 65_536 }));
}

#[tokio::test]
async fn a_body_that_announces_too_much_is_not_read() {
    let url = fixed("200 OK\r\ncontent-length: 99999999999", "").await;
    assert!(matches!(ask(&url).await, ChainError::BodyTooLarge { .. }));
}

#[tokio::test]
async fn truncated_or_foreign_bodies_are_malformed() {
    for body in
        [r#"{"jsonrpc":"2.0","id":1,"resu"#, "<html>busy</html>", "", "[]", r#"{"id":7,"result":"0x1"}"#, "null"]
    {
        let url = fixed("200 OK", body).await;
        let error = ask(&url).await;
        assert!(matches!(error, ChainError::Malformed { .. }) && error.is_retryable(), "{body}: {error:?}");
    }
    let cut = fixed("200 OK\r\ncontent-length: 500", r#"{"jsonrpc":"2.0","id":1,"#).await;
    assert!(matches!(ask(&cut).await, ChainError::Unreachable(_)));
}

#[tokio::test]
async fn an_error_with_status_200_is_an_error_and_keeps_no_secret() {
    let url = fixed(
        "200 OK",
        r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"no plan for s3cr3t-key-of-the-endpoint"}}"#,
    )
    .await;
    let ChainError::Node { code: -32000, message, .. } = ask(&url).await else { panic!("not a node error") };
    assert_eq!(message, "no plan for ***");
}

#[tokio::test]
async fn an_error_without_an_id_counts_for_the_whole_packet() {
    let url = fixed(
        "400 Bad Request",
        r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32601,"message":"the method does not exist"}}"#,
    )
    .await;
    assert!(matches!(ask(&url).await, ChainError::MethodMissing { method: "eth_chainId" }));
}

#[tokio::test]
async fn statuses_say_whether_and_when_to_come_back() {
    let url = fixed("429 Too Many Requests\r\nretry-after: 7", "").await;
    let error = ask(&url).await;
    assert_eq!((error.is_retryable(), error.retry_after()), (true, Some(Duration::from_secs(7))));
    assert!(matches!(error, ChainError::RateLimited { .. }));

    let url = fixed("503 Service Unavailable\r\nretry-after: 999999999", "<html>").await;
    let error = ask(&url).await;
    assert_eq!((error.is_retryable(), error.retry_after()), (true, Some(Duration::from_secs(3_600))));

    let url = fixed("401 Unauthorized", "{}").await;
    let error = ask(&url).await;
    assert!(matches!(error, ChainError::Refused { status: 401 }) && !error.is_retryable());
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let url = fixed("302 Found\r\nlocation: http://127.0.0.1:1/", "").await;
    assert!(matches!(ask(&url).await, ChainError::Refused { status: 302 }));
}

#[tokio::test]
async fn silence_ends_at_the_time_out() {
    let url = serve(|stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let limits = Limits { timeout: Duration::from_millis(50), ..LIMITS };
    let error = EvmClient::http(&url, limits).unwrap().chain_id().await.unwrap_err();
    assert!(matches!(error, ChainError::TimedOut { after } if after == limits.timeout) && error.is_retryable());
}

#[tokio::test]
async fn nobody_there_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let url = format!("http://127.0.0.1:{port}/{KEY}").parse().unwrap();
    assert!(matches!(ask(&url).await, ChainError::Unreachable(_)));
}

#[test]
fn only_http_urls_are_endpoints() {
    for url in ["ws://127.0.0.1:1", "file:///etc/passwd", "data:,x"] {
        assert!(matches!(EvmClient::http(&url.parse().unwrap(), LIMITS), Err(ChainError::Endpoint(_))), "{url}");
    }
}
