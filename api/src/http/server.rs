//! The door itself: connections in, requests to the routes.
//!
//! Nothing that a client does, or leaves undone, holds a connection for ever: a request's head has a time to be complete,
//! which also bounds how long a connection may be idle between two requests; an answer that nobody reads is given up; and
//! so many connections are served at once, and no more, of one address fewer still. How long a body may take is said where bodies are read
//! (`json_body`), and what becomes of bodies that nobody reads (`unread`). HTTP/1.0 and 1.1: what speaks HTTP/2 to the world stands in front.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use poem::endpoint::BoxEndpoint;
use poem::http::uri::Scheme;
use poem::listener::{Acceptor, TcpAcceptor};
use poem::web::{LocalAddr, RemoteAddr};
use poem::{Endpoint, Response};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Sleep, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::host::HostProblem;
use super::peers::Peers;
use super::unread::Unread;

/// What a client may take up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// How long the head of a request may take to arrive, the wait for its first byte included.
    pub(crate) head: Duration,
    /// How long an answer may wait for the client to read on.
    pub(crate) stalled: Duration,
    /// Connections that are served at once; others wait to be accepted.
    pub(crate) connections: usize,
    /// Connections of one address; further ones are closed at once.
    pub(crate) of_address: usize,
}

/// Most connections: twice the streams of payment pages, which have a bound of their own.
const MOST_CONNECTIONS: u64 = 20_000;
/// Most open files that are kept for the rest: databases, nodes, webhooks on their way.
const MOST_OTHER_FILES: u64 = 2_048;

impl Limits {
    /// The bounds of a process that may have so many files open. A quarter of them, up to [`MOST_OTHER_FILES`], is for
    /// the rest; one address gets at most three quarters of the connections.
    pub(crate) fn of_files(files: u64) -> Self {
        let others = (files / 4).min(MOST_OTHER_FILES);
        let connections = usize::try_from(files.saturating_sub(others).min(MOST_CONNECTIONS)).unwrap_or(usize::MAX);
        let connections = connections.max(4);
        let of_address = connections.saturating_sub(connections / 4);
        Self { connections, of_address, ..Self::default() }
    }
}

impl Default for Limits {
    /// The head's is longer than the 60 s for which proxies keep an idle connection, so that none of them sends a request
    /// into one that is just being closed.
    fn default() -> Self {
        Self {
            head: Duration::from_secs(75),
            stalled: Duration::from_secs(60),
            connections: 20_000,
            of_address: 15_000,
        }
    }
}

/// How long to wait after a connection could not be accepted: most often the process has too many open files, and asking
/// again at once would only burn time.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Minimum time between two log lines about addresses with too many connections.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// Serves until `stop`; then accepts nobody, lets requests finish for `stop_within`, and cuts the rest off.
pub(crate) async fn serve(
    mut acceptor: TcpAcceptor,
    routes: BoxEndpoint<'static, Response>,
    limits: Limits,
    peers: Peers,
    stop: CancellationToken,
    stop_within: Duration,
) {
    let mut said_at: Option<Instant> = None;
    let routes = Arc::new(routes);
    let places = Arc::new(Semaphore::new(limits.connections));
    let (open, cut) = (TaskTracker::new(), CancellationToken::new());
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = async {
                // Never closed.
                let place = places.clone().acquire_owned().await.ok();
                (place, acceptor.accept().await)
            } => accepted,
        };
        let (place, accepted) = accepted;
        match accepted {
            Ok((socket, local, remote, scheme)) => {
                let address = remote.as_socket_addr().map(|address| address.ip());
                let Some(of_address) = peers.enter(address) else {
                    if said_at.is_none_or(|said_at| said_at.elapsed() >= SAY_EVERY) {
                        said_at = Some(Instant::now());
                        tracing::warn!(?address, most = limits.of_address, "an address has too many connections");
                    }
                    continue;
                };
                let connection = connection(socket, (local, remote, scheme), routes.clone(), limits, stop.clone());
                let cut = cut.clone();
                open.spawn(async move {
                    let _places = (place, of_address);
                    tokio::select! {
                        () = connection => {}
                        () = cut.cancelled() => {}
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(acceptor);
    open.close();
    if timeout(stop_within, open.wait()).await.is_err() {
        tracing::warn!(connections = open.len(), "connections were cut off");
        cut.cancel();
        open.wait().await;
    }
}

/// Serves one connection to its end.
async fn connection(
    socket: TcpStream,
    ends: (LocalAddr, RemoteAddr, Scheme),
    routes: Arc<BoxEndpoint<'static, Response>>,
    limits: Limits,
    stop: CancellationToken,
) {
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let (local, remote, scheme) = ends.clone();
        let routes = routes.clone();
        async move {
            let host_problem = HostProblem::of(request.version(), request.headers());
            let mut request: poem::Request = (request, local, remote, scheme).into();
            if let Some(problem) = host_problem {
                request.set_data(problem);
            }
            let unread = Unread::of(&mut request);
            let response = routes.get_response(request).await;
            unread.read_on().await;
            Ok::<hyper::Response<_>, Infallible>(response.into())
        }
    });
    let mut http = http1::Builder::new();
    // Half-closed: a client may say that it has nothing more to ask, and still wait for its answer.
    http.timer(TokioTimer::new()).header_read_timeout(limits.head).half_close(true);
    let served = http.serve_connection(TokioIo::new(Patient::new(socket, limits.stalled)), service).with_upgrades();
    tokio::pin!(served);
    // How a connection ended is the client's affair; each request was logged.
    let _ = tokio::select! {
        ended = served.as_mut() => ended,
        () = stop.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
}

/// A socket whose writes fail once the other side has read nothing for too long.
struct Patient {
    socket: TcpStream,
    stalled: Duration,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Patient {
    fn new(socket: TcpStream, stalled: Duration) -> Self {
        Self { socket, stalled, waiting: None }
    }

    /// An attempt to write, or its end when none has gone on for too long.
    fn bounded<T>(
        &mut self,
        context: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut TcpStream>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if let Poll::Ready(written) = write(Pin::new(&mut self.socket), context) {
            self.waiting = None;
            return Poll::Ready(written);
        }
        let stalled = self.stalled;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(stalled)));
        match waiting.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(context, buffer)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.bounded(context, |socket, context| socket.poll_write(context, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.bounded(context, |socket, context| socket.poll_flush(context))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.bounded(context, |socket, context| socket.poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use poem::http::StatusCode;
    use poem::listener::{Listener, TcpListener};
    use poem::{EndpointExt, Request};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const BRIEF: Duration = Duration::from_millis(100);
    const LONG: Duration = Duration::from_secs(30);
    const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

    /// Serves 16 MiB at `/large` and a word elsewhere; gives where, and what stops it.
    async fn door(limits: Limits) -> (std::net::SocketAddr, CancellationToken, tokio::task::JoinHandle<()>) {
        let acceptor = TcpListener::bind("127.0.0.1:0").into_acceptor().await.unwrap();
        let address = *acceptor.local_addr()[0].as_socket_addr().unwrap();
        let routes = poem::endpoint::make(|request: Request| async move {
            let large = request.uri().path() == "/large";
            let body = if large { vec![b'x'; 16 * 1024 * 1024] } else { b"here".to_vec() };
            Response::builder().status(StatusCode::OK).body(body)
        });
        let stop = CancellationToken::new();
        let peers = Peers::new(limits.of_address, Vec::new());
        let routes = routes.map_to_response().boxed();
        let server = tokio::spawn(serve(acceptor, routes, limits, peers, stop.clone(), BRIEF));
        (address, stop, server)
    }

    async fn read_to_end(mut stream: TcpStream) -> Vec<u8> {
        let mut bytes = Vec::new();
        // A reset is an end too.
        let _ = timeout(LONG, stream.read_to_end(&mut bytes)).await.expect("the server hung up");
        bytes
    }

    #[tokio::test]
    async fn who_says_nothing_or_too_little_is_hung_up_on() {
        let limits = Limits { head: BRIEF, stalled: LONG, ..Limits::default() };
        let (address, ..) = door(limits).await;
        for said in [&b""[..], b"GET", b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(said).await.unwrap();
            assert_eq!(read_to_end(stream).await, b"", "{said:?}");
        }
        // Between two requests as well.
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(GET).await.unwrap();
        assert!(read_to_end(stream).await.ends_with(b"here"));
    }

    #[tokio::test]
    async fn a_head_that_comes_in_drops_does_not_extend_its_time() {
        let limits = Limits { head: BRIEF * 5, stalled: LONG, ..Limits::default() };
        let (address, ..) = door(limits).await;
        let (mut reading, mut writing) = TcpStream::connect(address).await.unwrap().into_split();
        let dripping = tokio::spawn(async move {
            let mut drops = 0_u32;
            let mut pause = tokio::time::interval(BRIEF);
            while writing.write_all(if drops == 0 { b"GET / HTTP/1.1\r\nX: " } else { b"x" }).await.is_ok() {
                drops += 1;
                pause.tick().await;
            }
            drops
        });
        let mut bytes = Vec::new();
        let _ = timeout(LONG, reading.read_to_end(&mut bytes)).await.expect("the server hung up");
        assert_eq!(bytes, b"");
        assert!(timeout(LONG, dripping).await.unwrap().unwrap() < 100);
    }

    #[tokio::test]
    async fn an_answer_that_nobody_reads_is_given_up() {
        let limits = Limits { head: LONG, stalled: BRIEF, connections: 1, ..Limits::default() };
        let (address, ..) = door(limits).await;
        let mut silent = TcpStream::connect(address).await.unwrap();
        silent.write_all(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        // There is one place, and the silent one has it until then.
        let mut next = TcpStream::connect(address).await.unwrap();
        next.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
        assert!(read_to_end(next).await.ends_with(b"here"));
        assert!(read_to_end(silent).await.len() < 16 * 1024 * 1024);
    }

    #[tokio::test]
    async fn who_has_nothing_more_to_ask_still_gets_the_answer() {
        let (address, ..) = door(Limits::default()).await;
        for request in [GET, b"GET / HTTP/1.0\r\n\r\n"] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(request).await.unwrap();
            stream.shutdown().await.unwrap();
            assert!(read_to_end(stream).await.ends_with(b"here"));
        }
        // Several at once are answered in turn.
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(&GET.repeat(20)).await.unwrap();
        stream.shutdown().await.unwrap();
        let answers = String::from_utf8(read_to_end(stream).await).unwrap();
        assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 20);
    }

    #[test]
    fn connections_leave_files_for_the_rest_and_for_other_addresses() {
        for (files, connections, of_address) in [
            (1_024, 768, 576),
            (20_000, 17_952, 13_464),
            (65_536, 20_000, 15_000),
            (u64::MAX, 20_000, 15_000),
            (0, 4, 3),
        ] {
            let limits = Limits::of_files(files);
            assert_eq!((limits.connections, limits.of_address), (connections, of_address), "{files}");
        }
    }

    #[tokio::test]
    async fn idle_connections_of_one_address_leave_others_served() {
        let (address, ..) = door(Limits { connections: 4, of_address: 2, ..Limits::default() }).await;
        let idle = [TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap()];
        // The next one is closed at once, and none of the places for others is taken.
        for _ in 0..5 {
            let mut refused = TcpStream::connect(address).await.unwrap();
            _ = refused.write_all(GET).await;
            assert_eq!(read_to_end(refused).await, b"");
        }
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        let mut other = socket.connect(address).await.unwrap();
        other.write_all(GET).await.unwrap();
        other.shutdown().await.unwrap();
        assert!(read_to_end(other).await.ends_with(b"here"));
        drop(idle);
    }

    #[tokio::test]
    async fn a_stop_ends_idle_connections_at_once_and_others_in_time() {
        let (address, stop, server) = door(Limits { stalled: LONG, ..Limits::default() }).await;
        let mut idle = TcpStream::connect(address).await.unwrap();
        idle.write_all(GET).await.unwrap();
        let mut head = [0; 4];
        idle.read_exact(&mut head).await.unwrap();
        let mut silent = TcpStream::connect(address).await.unwrap();
        silent.write_all(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        silent.read_exact(&mut head).await.unwrap();
        stop.cancel();
        timeout(LONG, server).await.expect("the server ended").unwrap();
        assert!(read_to_end(idle).await.ends_with(b"here"));
        assert!(TcpStream::connect(address).await.is_err());
    }
}
