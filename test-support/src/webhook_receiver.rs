//! A merchant's web server, as a test would have it: it keeps what it gets and answers as it is told.

use poem::{
    Endpoint, Request, Response, Server,
    error::ResponseError,
    http::{HeaderName, HeaderValue, StatusCode},
    listener::TcpAcceptor,
};
use std::{
    collections::VecDeque,
    future::pending,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    net::TcpListener,
    sync::{oneshot, watch},
    task::JoinHandle,
    time::{sleep, timeout},
};

/// Most bytes of a request that are read; more is answered 413 and not recorded. Many times a webhook's limit.
const MAX_BODY_BYTES: usize = 4 * 1024 * 1024;
/// Requests that a failure lists: of thousands nobody reads more.
const LAST: usize = 20;

/// A real HTTP server on a port of 127.0.0.1. It ends when this value is dropped.
///
/// Every request is recorded as it arrives, before it is answered. The answers are those given to
/// [`answer_next`](Self::answer_next), one a request; when they are used up, the one given to
/// [`answer_always`](Self::answer_always), which is `200` with an empty body at first.
#[derive(Debug)]
pub struct WebhookReceiver {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    server: JoinHandle<()>,
}

impl WebhookReceiver {
    /// Listens on a free port.
    ///
    /// # Panics
    ///
    /// When the machine has no free port left.
    pub async fn start() -> Self {
        Self::start_on(0).await
    }

    /// Listens on this port of 127.0.0.1: the merchant's server is back after [`stop`](Self::stop), or comes late to a
    /// [`free_port`](crate::free_port).
    ///
    /// # Panics
    ///
    /// When somebody else listens there.
    pub async fn start_on(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .await
            .unwrap_or_else(|error| panic!("cannot listen on port {port} of 127.0.0.1: {error}"));
        let address = listener.local_addr().expect("a listener has an address");
        let acceptor = TcpAcceptor::from_tokio(listener).expect("a listener has an address");
        let shared = Arc::new(Shared::default());
        let (stop, stopped) = oneshot::channel();
        let endpoint = Recorder(Arc::clone(&shared));
        let server = tokio::spawn(async move {
            let stopped = async { _ = stopped.await };
            Server::new_with_acceptor(acceptor)
                .run_with_graceful_shutdown(endpoint, stopped, Some(Duration::ZERO))
                .await
                .expect("an accepted listener should serve");
        });
        Self { address, shared, stop: Some(stop), server }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address of a path, which begins with `/`: `http://127.0.0.1:<port><path>`.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Answers the next requests with these, in this order, after those already waiting.
    pub fn answer_next(&self, answers: impl IntoIterator<Item = Answer>) {
        self.shared.answers().next.extend(answers);
    }

    /// Answers every request for which no other answer waits with this one.
    pub fn answer_always(&self, answer: Answer) {
        self.shared.answers().standing = answer;
    }

    /// What has arrived so far, in order of arrival.
    #[must_use]
    pub fn journal(&self) -> Vec<ReceivedRequest> {
        self.shared.journal.borrow().clone()
    }

    /// The journal, as soon as `count` requests have arrived since the start.
    ///
    /// # Panics
    ///
    /// When they have not within `limit`; the message lists what has.
    pub async fn wait_for(&self, count: usize, limit: Duration) -> Vec<ReceivedRequest> {
        self.wait_until(limit, |journal| journal.len() >= count).await
    }

    /// The journal, as soon as `enough` says so. It is asked at once and at every arrival.
    ///
    /// # Panics
    ///
    /// When it has not within `limit`; the message lists what arrived last.
    pub async fn wait_until(
        &self,
        limit: Duration,
        mut enough: impl FnMut(&[ReceivedRequest]) -> bool,
    ) -> Vec<ReceivedRequest> {
        let mut journal = self.shared.journal.subscribe();
        match timeout(limit, journal.wait_for(|journal| enough(journal))).await {
            Ok(Ok(journal)) => journal.clone(),
            Ok(Err(closed)) => panic!("the receiver has ended: {closed}"),
            Err(_) => {
                let journal = self.journal();
                let (arrived, last) = (journal.len(), &journal[journal.len().saturating_sub(LAST)..]);
                panic!("not what was waited for within {limit:?}; {arrived} arrived, the last of them: {last:#?}")
            }
        }
    }

    /// Ends the server now: connections are cut, and once this returns the port refuses new ones.
    ///
    /// # Panics
    ///
    /// When the server had failed before.
    pub async fn stop(mut self) -> Vec<ReceivedRequest> {
        drop(self.stop.take());
        (&mut self.server).await.expect("the receiver should not have failed");
        self.journal()
    }
}

impl Drop for WebhookReceiver {
    fn drop(&mut self) {
        // Dropping `stop` cuts the open connections, but only while the server still runs: do not abort it.
        drop(self.stop.take());
    }
}

/// How the receiver answers one request.
#[derive(Debug, Clone)]
pub struct Answer {
    status: StatusCode,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Vec<u8>,
    delay: Option<Duration>,
}

impl Answer {
    /// An answer with this HTTP status, at once, with an empty body.
    ///
    /// # Panics
    ///
    /// When the status is not within 100 to 999.
    #[must_use]
    pub fn status(status: u16) -> Self {
        let status = StatusCode::from_u16(status).expect("an HTTP status has three digits");
        Self { status, headers: Vec::new(), body: Vec::new(), delay: Some(Duration::ZERO) }
    }

    /// No answer: the connection stays open and silent until the client or the receiver ends it.
    #[must_use]
    pub fn never() -> Self {
        Self { delay: None, ..Self::status(200) }
    }

    /// The same answer with this body.
    #[must_use]
    pub fn with_body(self, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..self }
    }

    /// The same answer with one header more.
    ///
    /// # Panics
    ///
    /// When HTTP does not allow such a name or value.
    #[must_use]
    pub fn with_header(mut self, name: &'static str, value: &str) -> Self {
        let value = HeaderValue::from_str(value).expect("a header value is printable ASCII");
        self.headers.push((HeaderName::from_static(name), value));
        self
    }

    /// The same answer, this long after the request.
    #[must_use]
    pub fn after(self, delay: Duration) -> Self {
        Self { delay: Some(delay), ..self }
    }

    async fn give(self) -> Response {
        match self.delay {
            Some(Duration::ZERO) => {}
            Some(delay) => sleep(delay).await,
            None => pending().await,
        }
        let mut response = Response::builder().status(self.status).body(self.body);
        response.headers_mut().extend(self.headers);
        response
    }
}

impl Default for Answer {
    fn default() -> Self {
        Self::status(200)
    }
}

/// One request as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedRequest {
    /// `POST`, in capitals.
    pub method: String,
    /// The path with its query: `/hook?shop=1`.
    pub path: String,
    /// Names in lower case, values as they came, in no particular order between names.
    pub headers: Vec<(String, String)>,
    /// The body, byte for byte, as signatures need it.
    pub body: Vec<u8>,
}

impl ReceivedRequest {
    /// The first value of a header, whatever the case of its name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The body as JSON.
    ///
    /// # Panics
    ///
    /// When it is none.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("not JSON ({error}): {}", String::from_utf8_lossy(&self.body)))
    }
}

#[derive(Debug, Default)]
struct Shared {
    journal: watch::Sender<Vec<ReceivedRequest>>,
    answers: Mutex<Answers>,
}

#[derive(Debug, Default)]
struct Answers {
    next: VecDeque<Answer>,
    standing: Answer,
}

impl Shared {
    fn answers(&self) -> MutexGuard<'_, Answers> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Under one lock, so that the n-th request of the journal is the one that got the n-th answer.
    fn record(&self, request: ReceivedRequest) -> Answer {
        let mut answers = self.answers();
        self.journal.send_modify(|journal| journal.push(request));
        answers.next.pop_front().unwrap_or_else(|| answers.standing.clone())
    }
}

struct Recorder(Arc<Shared>);

impl Endpoint for Recorder {
    type Output = Response;

    async fn call(&self, mut request: Request) -> poem::Result<Response> {
        let body = match request.take_body().into_bytes_limit(MAX_BODY_BYTES).await {
            Ok(body) => body,
            Err(error) => return Ok(error.as_response()),
        };
        let path = request.original_uri().path_and_query().map_or("/", |path| path.as_str());
        let answer = self.0.record(ReceivedRequest {
            method: request.method().to_string(),
            path: path.to_owned(),
            headers: request
                .headers()
                .iter()
                .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
                .collect(),
            body: body.to_vec(),
        });
        Ok(answer.give().await)
    }
}
