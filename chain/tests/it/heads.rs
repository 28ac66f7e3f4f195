//! Heads over a socket.

use std::sync::atomic::{AtomicUsize, Ordering};

use cryptopay_chain::Heads;
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpListener;
use tokio_tungstenite::accept_async;
use tokio_tungstenite::tungstenite::Message;

/// Serves one socket: waits for the subscription, sends these messages, and closes.
async fn socket(messages: Vec<Message>) -> Heads {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut socket = accept_async(stream).await.unwrap();
        let asked = socket.next().await.unwrap().unwrap();
        assert!(asked.to_text().unwrap().contains("newHeads"));
        for message in messages {
            if socket.send(message).await.is_err() {
                return;
            }
        }
        let _ = socket.close(None).await;
    });
    Heads::new(&format!("ws://127.0.0.1:{port}/s3cr3t-key-of-the-endpoint").parse().unwrap()).unwrap()
}

#[tokio::test]
async fn every_message_wakes_whatever_it_says_and_the_end_is_told() {
    let messages = ["{\"id\":1,\"result\":\"0x1\"}", "{\"params\":{}}", "nonsense"].map(Message::text).to_vec();
    let heads = socket(messages).await;
    let woken = AtomicUsize::new(0);
    let wake = || {
        woken.fetch_add(1, Ordering::Relaxed);
    };
    let ended = heads.listen(wake).await;
    assert!(ended.worked, "{ended:?}");
    assert_eq!(woken.into_inner(), 3);
}

#[tokio::test]
async fn a_message_that_is_too_large_ends_it() {
    let heads = socket(vec![Message::text("x".repeat(100_000))]).await;
    let ended = heads.listen(|| panic!("nothing was read")).await;
    assert!(!ended.worked && !ended.reason.is_empty());
}

#[tokio::test]
async fn nobody_there_is_told_without_the_key() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let heads = Heads::new(&format!("ws://127.0.0.1:{port}/s3cr3t-key-of-the-endpoint").parse().unwrap()).unwrap();
    let ended = heads.listen(|| {}).await;
    assert!(!ended.worked && !ended.reason.contains("s3cr3t") && !format!("{heads:?}").contains("s3cr3t"));
    assert!(Heads::new(&"https://127.0.0.1:1".parse().unwrap()).is_err());
}
