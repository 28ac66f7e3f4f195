use cryptopay_test_support::{Answer, WebhookReceiver, block_on, free_port};
use std::time::Duration;
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(10);

/// A raw request over a connection of its own; the answer up to its end.
async fn send(receiver: &WebhookReceiver, path: &str, body: &str) -> std::io::Result<String> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(receiver.address()).await?;
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: shop\r\nX-Sign: a=b\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[test]
fn a_request_is_recorded_byte_for_byte() {
    block_on(async {
        let receiver = WebhookReceiver::start().await;
        send(&receiver, "/hook?shop=1", "{\"a\": 1 }\n").await.unwrap();
        let journal = receiver.wait_for(1, LIMIT).await;
        assert_eq!(journal.len(), 1);
        assert_eq!((journal[0].method.as_str(), journal[0].path.as_str()), ("POST", "/hook?shop=1"));
        assert_eq!(journal[0].body, b"{\"a\": 1 }\n");
        assert_eq!(journal[0].json()["a"], 1);
        assert_eq!(journal[0].header("x-sign"), Some("a=b"));
        assert_eq!(journal[0].header("X-Sign"), Some("a=b"));
        assert_eq!(journal[0].header("x-other"), None);
    });
}

#[test]
fn answers_come_in_order_and_the_standing_one_after_them() {
    block_on(async {
        let receiver = WebhookReceiver::start().await;
        receiver.answer_next([
            Answer::status(503).with_body("busy").with_header("retry-after", "7"),
            Answer::status(204).after(Duration::from_millis(1)),
        ]);
        receiver.answer_always(Answer::status(410));
        let first = send(&receiver, "/", "1").await.unwrap();
        assert!(first.starts_with("HTTP/1.1 503") && first.ends_with("busy"), "{first}");
        assert!(first.contains("retry-after: 7"), "{first}");
        assert!(send(&receiver, "/", "2").await.unwrap().starts_with("HTTP/1.1 204"));
        assert!(send(&receiver, "/", "3").await.unwrap().starts_with("HTTP/1.1 410"));
        assert!(send(&receiver, "/", "4").await.unwrap().starts_with("HTTP/1.1 410"));
        let bodies: Vec<_> = receiver.journal().into_iter().map(|request| request.body).collect();
        assert_eq!(bodies, [b"1", b"2", b"3", b"4"]);
    });
}

#[test]
fn waiting_ends_with_the_arrival_that_was_waited_for() {
    block_on(async {
        let receiver = WebhookReceiver::start().await;
        let waiting = receiver.wait_until(LIMIT, |journal| journal.iter().any(|request| request.path == "/second"));
        let sending = async {
            send(&receiver, "/first", "").await.unwrap();
            send(&receiver, "/second", "").await.unwrap();
        };
        let (journal, ()) = tokio::join!(waiting, sending);
        assert_eq!(journal.len(), 2);
    });
}

#[test]
#[should_panic(expected = "not what was waited for within 1ms")]
fn waiting_in_vain_fails_with_the_journal() {
    block_on(async { WebhookReceiver::start().await.wait_for(1, Duration::from_millis(1)).await });
}

#[test]
fn an_endpoint_that_never_answers_keeps_the_client_waiting_until_it_stops() {
    block_on(async {
        let receiver = WebhookReceiver::start().await;
        receiver.answer_always(Answer::never());
        let mut sending = Box::pin(send(&receiver, "/", "x"));
        let recorded = async {
            tokio::select! {
                answer = &mut sending => panic!("answered: {answer:?}"),
                journal = receiver.wait_for(1, LIMIT) => journal,
            }
        };
        assert_eq!(recorded.await.len(), 1, "a request is recorded before it is answered");
        drop(sending);
        assert_eq!(timeout(LIMIT, receiver.stop()).await.unwrap().len(), 1, "stopping does not wait for answers");
    });
}

#[test]
fn a_stopped_receiver_refuses_and_can_come_back_on_its_port() {
    block_on(async {
        let receiver = WebhookReceiver::start_on(free_port()).await;
        let address = receiver.address();
        receiver.stop().await;
        assert!(tokio::net::TcpStream::connect(address).await.is_err());
        let receiver = WebhookReceiver::start_on(address.port()).await;
        assert!(send(&receiver, "/", "").await.unwrap().starts_with("HTTP/1.1 200"));
    });
}

#[test]
fn a_request_of_more_than_4_mib_is_refused_and_not_recorded() {
    block_on(async {
        let receiver = WebhookReceiver::start().await;
        // The server may hang up before it has read everything, which the client sees as a broken pipe.
        if let Ok(answer) = send(&receiver, "/", &"x".repeat(4 * 1024 * 1024 + 1)).await {
            assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
        }
        assert!(receiver.journal().is_empty());
    });
}
