//! What a client still sends when its answer is ready.
//!
//! A request may be refused before its body was read: who asks is unknown, the path is none, there were too many. A
//! connection that is closed then is a broken one to the client, which never reads the answer; so the rest of the body is
//! read on first, within bounds.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::Stream;
use futures_util::stream::BoxStream;
use hyper::body::Bytes;
use poem::http::header;
use poem::{Body, Request};
use tokio::io::AsyncReadExt;
use tokio::sync::oneshot;

/// How much is read on, in bytes.
const AT_MOST: u64 = 1024 * 1024;
/// For how long.
const WITHIN: Duration = Duration::from_secs(5);

/// The rest of a request's body, once nobody reads it any more.
pub(super) struct Unread(Option<oneshot::Receiver<Body>>);

impl Unread {
    /// Of this request.
    pub(super) fn of(request: &mut Request) -> Self {
        let headers = request.headers();
        let has_body = headers.contains_key(header::TRANSFER_ENCODING)
            || headers.get(header::CONTENT_LENGTH).is_some_and(|length| length != "0");
        // Who waits for leave to send is told not to by the answer, and would send if its body was read.
        if !has_body || headers.contains_key(header::EXPECT) {
            return Self(None);
        }
        let (back, left) = oneshot::channel();
        let body = request.take_body().into_bytes_stream();
        request.set_body(Body::from_bytes_stream(Lent { body: Some(Box::pin(body)), back: Some(back) }));
        Self(Some(left))
    }

    /// Reads it. Whatever goes wrong with that is the client's loss.
    pub(super) async fn read_on(self) {
        let Some(body) = self.0.and_then(|mut left| left.try_recv().ok()) else { return };
        let mut reader = body.into_async_read().take(AT_MOST);
        let _ = tokio::time::timeout(WITHIN, tokio::io::copy(&mut reader, &mut tokio::io::sink())).await;
    }
}

/// A body that is handed back by whoever does not read it to its end.
struct Lent {
    /// `None` after its end.
    body: Option<BoxStream<'static, io::Result<Bytes>>>,
    back: Option<oneshot::Sender<Body>>,
}

impl Stream for Lent {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(body) = self.body.as_mut() else { return Poll::Ready(None) };
        let next = body.as_mut().poll_next(context);
        if matches!(next, Poll::Ready(None | Some(Err(_)))) {
            self.body = None;
        }
        next
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let (Some(body), Some(back)) = (self.body.take(), self.back.take()) {
            // Nobody waits for it where the whole request was given up.
            let _ = back.send(Body::from_bytes_stream(body));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::{StreamExt, stream};

    use super::*;

    const PIECE: &[u8] = &[b'x'; 1000];

    /// A request with a body of this many pieces, and how many of them were read.
    fn request(pieces: usize, name: header::HeaderName, value: &str) -> (Request, Arc<AtomicUsize>) {
        let read = Arc::new(AtomicUsize::new(0));
        let count = read.clone();
        let body = stream::iter(0..pieces).map(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            Ok::<_, io::Error>(PIECE)
        });
        (Request::builder().header(name, value).body(Body::from_bytes_stream(body)), read)
    }

    #[tokio::test]
    async fn what_is_left_is_read_on_up_to_a_mebibyte() {
        for (pieces, most) in [(3, 3), (1_000, 1_000), (1_000_000, 1_050)] {
            let (mut request, read) = request(pieces, header::TRANSFER_ENCODING, "chunked");
            let unread = Unread::of(&mut request);
            let mut body = request.take_body().into_bytes_stream();
            assert_eq!(body.next().await.unwrap().unwrap(), PIECE);
            drop(body);
            unread.read_on().await;
            // The first piece was the reader's.
            assert_eq!(read.load(Ordering::SeqCst), most);
        }
    }

    #[tokio::test]
    async fn a_body_arrives_whole_and_nothing_is_left_of_it() {
        let (mut request, read) = request(3, header::CONTENT_LENGTH, "3000");
        let unread = Unread::of(&mut request);
        assert_eq!(request.take_body().into_vec().await.unwrap().len(), 3_000);
        unread.read_on().await;
        assert_eq!(read.load(Ordering::SeqCst), 3);
    }

    #[tokio::test]
    async fn who_asks_for_leave_is_not_given_it_by_reading() {
        let (mut request, read) = request(3, header::EXPECT, "100-continue");
        let unread = Unread::of(&mut request);
        drop(request);
        unread.read_on().await;
        assert_eq!(read.load(Ordering::SeqCst), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_ends_is_given_up() {
        let mut request = Request::builder()
            .header(header::CONTENT_LENGTH, "10")
            .body(Body::from_bytes_stream(stream::pending::<io::Result<Bytes>>()));
        let unread = Unread::of(&mut request);
        drop(request);
        let started = tokio::time::Instant::now();
        unread.read_on().await;
        assert_eq!(started.elapsed(), WITHIN);
    }
}
