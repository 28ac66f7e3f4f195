//! Drives one socket: reads frames, runs operations, writes what the client can take, and watches the clock.
//!
//! All of it is one task and one future, so that an idle connection costs little; whatever waits is polled in turn by
//! [`Connection::poll_turn`].

use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_graphql::{Data, Executor, Request, Response};
use futures_util::stream::{AbortHandle, Abortable, BoxStream, SelectAll};
use futures_util::{Sink, Stream, StreamExt, stream};
use poem::web::websocket::{Message, WebSocketStream};
use serde_json::Value;
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::outbox::Outbox;
use super::protocol::{Action, Protocol, Reply};
use super::{Close, Code, Ended, InitRefusal, Limits, Session};

/// Something that may have the next turn.
type Source<E> = fn(&mut Connection<E>, &mut Context<'_>) -> Poll<Turn>;
type Cancelled = Pin<Box<WaitForCancellationFutureOwned>>;

/// One connection.
pub(super) struct Connection<E> {
    socket: WebSocketStream,
    executor: E,
    limits: Limits,
    protocol: Protocol,
    outbox: Outbox,
    operations: SelectAll<Abortable<BoxStream<'static, Report>>>,
    handles: HashMap<String, AbortHandle>,
    data: Arc<Data>,
    shutdown: Cancelled,
    revoked: Option<Cancelled>,
    timer: Pin<Box<Sleep>>,
    init_until: Instant,
    expires_at: Option<Instant>,
    ping_at: Instant,
    /// Whether anything has been heard since the last ping.
    heard: bool,
    /// Whose turn it is to be polled first, so that neither side can starve the other.
    operations_first: bool,
}

/// What an operation reports: a result, or its end.
struct Report {
    id: Arc<str>,
    response: Option<Response>,
}

/// What happened next.
enum Turn {
    /// The client sent a frame, or nothing will come from it any more.
    Read(Option<io::Result<Message>>),
    /// An operation reported.
    Operation(Report),
    /// It is known who the client is.
    Authenticated(Result<Session, InitRefusal>),
    /// A deadline has passed.
    Timer,
    /// The token was revoked.
    Revoked,
    /// The process shuts down.
    Shutdown,
    /// Nothing can be written any more.
    WriteFailed(io::Error),
}

/// Why a connection ends.
enum End {
    /// The server wants it to.
    Close(Close),
    /// What came was no WebSocket frame, or too long a one; nothing can be read after it.
    Unreadable,
    /// The client closed it, or its side of the connection is gone.
    ByClient,
    /// The network failed.
    Broken(io::Error),
}

impl<E: Executor> Connection<E> {
    /// A connection just upgraded.
    pub(super) fn new(socket: WebSocketStream, executor: E, limits: Limits, shutdown: CancellationToken) -> Self {
        let now = Instant::now();
        let init_until = later(now, limits.init_within);
        Self {
            socket,
            executor,
            limits,
            protocol: Protocol::new(limits.operations),
            outbox: Outbox::default(),
            operations: SelectAll::new(),
            handles: HashMap::new(),
            data: Arc::default(),
            shutdown: Box::pin(shutdown.cancelled_owned()),
            revoked: None,
            timer: Box::pin(sleep_until(init_until)),
            init_until,
            expires_at: None,
            ping_at: later(now, limits.ping_every),
            heard: true,
            operations_first: false,
        }
    }

    /// Serves until either side ends it.
    pub(super) async fn run<A, F>(mut self, authenticate: A) -> Ended
    where
        A: FnOnce(Value) -> F,
        F: Future<Output = Result<Session, InitRefusal>>,
    {
        let mut authenticate = Some(authenticate);
        let mut authentication: Option<Pin<Box<F>>> = None;
        loop {
            let turn = poll_fn(|cx| {
                if let Some(waiting) = &mut authentication
                    && let Poll::Ready(outcome) = waiting.as_mut().poll(cx)
                {
                    authentication = None;
                    return Poll::Ready(Turn::Authenticated(outcome));
                }
                self.poll_turn(cx)
            })
            .await;
            match self.take(turn) {
                Ok(None) => {}
                // The protocol state asks for this once at most.
                Ok(Some(payload)) => authentication = authenticate.take().map(|start| Box::pin(start(payload))),
                Err(end) => {
                    drop(authentication);
                    return self.end(end).await;
                }
            }
        }
    }

    /// Writes what can be written; ready with the next thing that happens.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        if let Poll::Ready(error) = self.outbox.poll_send(&mut self.socket, cx) {
            return Poll::Ready(Turn::WriteFailed(error));
        }
        if self.shutdown.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Turn::Shutdown);
        }
        if let Some(revoked) = &mut self.revoked
            && revoked.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Turn::Revoked);
        }
        let deadline = self.next_deadline();
        if self.timer.deadline() != deadline {
            self.timer.as_mut().reset(deadline);
        }
        if self.timer.as_mut().poll(cx).is_ready() {
            // After a ping, what has come counts even if nobody has looked at it yet.
            if !self.heard
                && let Poll::Ready(turn) = self.poll_read(cx)
            {
                return Poll::Ready(turn);
            }
            return Poll::Ready(Turn::Timer);
        }
        // A client that does not read is not read either, and its operations rest: nothing more piles up.
        if self.outbox.is_full(&self.limits) {
            return Poll::Pending;
        }
        self.operations_first = !self.operations_first;
        let (first, second): (Source<E>, Source<E>) = if self.operations_first {
            (Self::poll_operations, Self::poll_read)
        } else {
            (Self::poll_read, Self::poll_operations)
        };
        match first(self, cx) {
            Poll::Pending => second(self, cx),
            ready => ready,
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        self.socket.poll_next_unpin(cx).map(Turn::Read)
    }

    fn poll_operations(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        match self.operations.poll_next_unpin(cx) {
            Poll::Ready(Some(report)) => Poll::Ready(Turn::Operation(report)),
            // None are running; a frame will start the next.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    fn next_deadline(&self) -> Instant {
        let init = (!self.protocol.is_ready()).then_some(self.init_until);
        [init, self.expires_at, self.stalled_at()].into_iter().flatten().fold(self.ping_at, Instant::min)
    }

    fn stalled_at(&self) -> Option<Instant> {
        self.outbox.blocked_since().map(|since| later(since, self.limits.stalled_after))
    }

    /// Does what follows; `Some` is the payload of `connection_init`, for `authenticate`.
    fn take(&mut self, turn: Turn) -> Result<Option<Value>, End> {
        match turn {
            Turn::Read(None) => return Err(End::ByClient),
            // poem hands on the network's errors as they are and wraps tungstenite's own in `Other`.
            Turn::Read(Some(Err(error))) if error.kind() == io::ErrorKind::Other => return Err(End::Unreadable),
            Turn::Read(Some(Err(error))) | Turn::WriteFailed(error) => return Err(End::Broken(error)),
            Turn::Read(Some(Ok(message))) => return self.receive(message),
            Turn::Operation(report) => self.report(&report),
            Turn::Authenticated(Ok(session)) => self.admit(session),
            Turn::Authenticated(Err(refusal)) => return Err(End::Close(refusal.into())),
            Turn::Timer => self.look_at_the_clock()?,
            Turn::Revoked => {
                return Err(End::Close(Close::new(Code::Forbidden, "This token was revoked: log in again")));
            }
            Turn::Shutdown => return Err(End::Close(Close::new(Code::Restart, "Restarting: connect again"))),
        }
        Ok(None)
    }

    fn receive(&mut self, message: Message) -> Result<Option<Value>, End> {
        self.heard = true;
        let text = match message {
            Message::Text(text) if text.len() <= self.limits.frame_bytes => text,
            Message::Text(_) => return Err(End::Unreadable),
            Message::Binary(_) => return Err(End::Close(Close::new(Code::BadRequest, "Send text frames"))),
            // The WebSocket layer answers pings.
            Message::Ping(_) | Message::Pong(_) => return Ok(None),
            Message::Close(_) => return Err(End::ByClient),
        };
        match self.protocol.receive(&text) {
            Action::Nothing => {}
            Action::Authenticate(payload) => return Ok(Some(payload)),
            Action::Send(text) => self.outbox.push(Message::Text(text)),
            Action::Start { id, request } => self.start(id, *request),
            Action::Cancel { id } => self.forget(&id),
            Action::Close(close) => return Err(End::Close(close)),
        }
        Ok(None)
    }

    fn admit(&mut self, session: Session) {
        self.data = Arc::new(session.data);
        self.expires_at = session.valid_for.map(|left| later(Instant::now(), left));
        self.revoked = session.revoked.map(|token| Box::pin(token.cancelled_owned()));
        let text = self.protocol.acknowledge();
        self.outbox.push(Message::Text(text));
    }

    fn start(&mut self, id: String, request: Request) {
        let name: Arc<str> = id.as_str().into();
        let reports = self
            .executor
            .execute_stream(request, Some(Arc::clone(&self.data)))
            .map(Some)
            .chain(stream::iter([None]))
            .map(move |response| Report { id: Arc::clone(&name), response })
            .boxed();
        let (handle, registration) = AbortHandle::new_pair();
        self.operations.push(Abortable::new(reports, registration));
        self.handles.insert(id, handle);
    }

    fn report(&mut self, Report { id, response }: &Report) {
        let Some(response) = response else {
            self.handles.remove(&**id);
            if let Some(text) = self.protocol.finish(id) {
                self.outbox.push(Message::Text(text));
            }
            return;
        };
        match self.protocol.respond(id, response) {
            Reply::Send(text) => self.outbox.push(Message::Text(text)),
            Reply::SendLast(text) => {
                self.outbox.push(Message::Text(text));
                self.forget(id);
            }
            Reply::Forget => self.forget(id),
        }
    }

    /// Drops an operation. Its stream says nothing from here on, so that its id may be used again at once.
    fn forget(&mut self, id: &str) {
        if let Some(handle) = self.handles.remove(id) {
            handle.abort();
        }
    }

    fn look_at_the_clock(&mut self) -> Result<(), End> {
        let now = Instant::now();
        let close = |code, reason: &str| Err(End::Close(Close::new(code, reason)));
        if !self.protocol.is_ready() && now >= self.init_until {
            return close(Code::InitTimeout, "Connection initialisation timeout");
        }
        if self.expires_at.is_some_and(|at| now >= at) {
            return close(Code::Forbidden, "This token has expired: refresh it and connect again");
        }
        if self.stalled_at().is_some_and(|at| now >= at) {
            return close(Code::TryAgainLater, "Too slow: read what is sent, or ask for less");
        }
        if now >= self.ping_at {
            if !self.heard {
                return close(Code::TryAgainLater, "Nothing heard since the last ping");
            }
            self.heard = false;
            self.ping_at = later(now, self.limits.ping_every);
            self.outbox.push(Message::Ping(Vec::new()));
        }
        Ok(())
    }

    /// Ends the connection: says why, then waits for the client to close, though not for ever.
    async fn end(mut self, end: End) -> Ended {
        // Operations and their permits go first, however long the client takes.
        self.operations.clear();
        self.data = Arc::default();
        let (close, readable) = match end {
            End::Broken(error) => return Ended::Broken(error),
            End::ByClient => (None, true),
            End::Close(close) => (Some(close), true),
            End::Unreadable => {
                let most = self.limits.frame_bytes;
                let reason = format!("Send proper WebSocket text frames of at most {most} bytes");
                (Some(Close::new(Code::BadRequest, reason)), false)
            }
        };
        if let Some(Close { code, reason }) = &close {
            let message = Message::close_with(u16::from(*code), reason.as_str());
            // It joins what the socket has accepted; what waits in the outbox is dropped.
            if Pin::new(&mut self.socket).start_send(message).is_err() {
                return Ended::ByClient;
            }
        }
        let socket = &mut self.socket;
        // A socket that is closed while unread bytes wait is reset, and the reason with it: so read until the client
        // closes, or, where nothing can be read, leave it the time to do so.
        let _ = timeout(self.limits.close_within, poll_fn(|cx| poll_closed(socket, cx, readable))).await;
        close.map_or(Ended::ByClient, Ended::ByServer)
    }
}

fn poll_closed(socket: &mut WebSocketStream, cx: &mut Context<'_>, readable: bool) -> Poll<()> {
    if let Poll::Ready(Err(_)) = Pin::new(&mut *socket).poll_flush(cx) {
        return Poll::Ready(());
    }
    if !readable {
        return Poll::Pending;
    }
    loop {
        match Pin::new(&mut *socket).poll_next(cx) {
            Poll::Ready(Some(Ok(_))) => {}
            Poll::Ready(None | Some(Err(_))) => return Poll::Ready(()),
            Poll::Pending => return Poll::Pending,
        }
    }
}

/// `from` and `duration` later; a duration beyond a year is a year, so that no sum overflows.
fn later(from: Instant, duration: Duration) -> Instant {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
    from + duration.min(YEAR)
}
