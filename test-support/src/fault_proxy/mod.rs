//! Stands between a gateway and a node, and makes the node's answers wrong in the ways in which providers are wrong.

mod fault;
mod lag;
mod wire;

use fault::Kind;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    future::pending,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};
use url::Url;
use wire::{Connection, Request};

pub use fault::Fault;

/// A JSON-RPC endpoint on a port of 127.0.0.1 that passes everything on to another one, until it is told to do otherwise.
/// It ends when this value is dropped. WebSockets pass as they are.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

/// What has been asked since the start, or since the counts were taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// HTTP requests; a batch is one.
    pub requests: u64,
    /// Calls by method; a batch of three is three.
    pub calls: BTreeMap<String, u64>,
}

impl Counts {
    /// Calls of one method.
    #[must_use]
    pub fn of(&self, method: &str) -> u64 {
        self.calls.get(method).copied().unwrap_or_default()
    }
}

#[derive(Debug)]
struct Shared {
    upstream: Mutex<Url>,
    /// Each with the number of requests that it was about so far.
    faults: Mutex<Vec<(Fault, u64)>>,
    /// How often they were changed, which ends what hangs.
    changes: watch::Sender<u64>,
    counts: watch::Sender<Counts>,
    http: reqwest::Client,
}

impl FaultProxy {
    /// Listens on a free port, before the endpoint with this URL.
    ///
    /// # Panics
    ///
    /// When the URL is none, or the machine has no free port left.
    pub async fn start(upstream: &str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("127.0.0.1 should have a free port");
        let address = listener.local_addr().expect("a listener has an address");
        // Refused only when there is one already, which is as good.
        _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().build().expect("TLS should have a provider");
        let shared = Arc::new(Shared {
            upstream: Mutex::new(upstream.parse().expect("the upstream should be a URL")),
            faults: Mutex::default(),
            changes: watch::Sender::default(),
            counts: watch::Sender::default(),
            http,
        });
        let serving = Arc::clone(&shared);
        let server = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&serving);
                // A client that goes away is no failure. Aborted with the server.
                connections.spawn(async move { drop(shared.serve(BufReader::new(stream)).await) });
                while connections.try_join_next().is_some() {}
            }
        });
        Self { address, shared, server }
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its URL for WebSockets.
    #[must_use]
    pub fn ws_url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// From now on passes on to another endpoint.
    ///
    /// # Panics
    ///
    /// When the URL is none.
    pub fn pass_to(&self, upstream: &str) {
        *lock(&self.shared.upstream) = upstream.parse().expect("the upstream should be a URL");
    }

    /// From now on has these faults, and no others. The first one that strikes a request has it. Connections that hang
    /// are cut.
    pub fn inject(&self, faults: impl IntoIterator<Item = Fault>) {
        *lock(&self.shared.faults) = faults.into_iter().map(|fault| (fault, 0)).collect();
        self.shared.changes.send_modify(|changes| *changes = changes.wrapping_add(1));
    }

    /// From now on has no fault. Connections that hang are cut.
    pub fn heal(&self) {
        self.inject([]);
    }

    /// What has been asked.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.shared.counts.borrow().clone()
    }

    /// The same, and begins to count anew.
    #[must_use]
    pub fn take_counts(&self) -> Counts {
        self.shared.counts.send_replace(Counts::default())
    }

    /// The counts, as soon as `enough` says so. It is asked at once and at every request.
    ///
    /// # Panics
    ///
    /// When it has not within `limit`.
    pub async fn wait_until(&self, limit: Duration, mut enough: impl FnMut(&Counts) -> bool) -> Counts {
        let mut counts = self.shared.counts.subscribe();
        match timeout(limit, counts.wait_for(|counts| enough(counts))).await {
            Ok(Ok(counts)) => counts.clone(),
            other => panic!("not what was waited for within {limit:?} ({}): {:?}", other.is_ok(), self.counts()),
        }
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Shared {
    async fn serve(&self, mut connection: Connection) -> io::Result<()> {
        while let Some(request) = wire::read(&mut connection).await? {
            if request.wants_socket() {
                let upstream = TcpStream::connect(self.upstream_address()).await?;
                return wire::splice(connection, upstream, &request.head).await;
            }
            self.answer(&mut connection, &request).await?;
        }
        Ok(())
    }

    /// Answers one request; an error ends the connection.
    async fn answer(&self, connection: &mut Connection, request: &Request) -> io::Result<()> {
        let mut asked: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let fault = self.note(&asked);
        match fault.as_ref().map(|fault| &fault.kind) {
            None => {}
            Some(Kind::Delay(delay)) => sleep(*delay).await,
            Some(Kind::Hang) => return hang(connection, self.changes.subscribe()).await,
            Some(Kind::Cut) => return Err(io::ErrorKind::ConnectionAborted.into()),
            Some(Kind::Status { code, retry_after }) => {
                let retry_after = retry_after.map(|seconds| format!("retry-after: {seconds}\r\n")).unwrap_or_default();
                return wire::write(connection, &format!("{code} Fault"), &retry_after, b"out of order").await;
            }
            Some(Kind::Answer { code, body }) => {
                return wire::write(connection, &format!("{code} Fault"), "", body).await;
            }
            Some(Kind::Error { code, message }) => {
                each(&mut asked, |call| {
                    *call = json!({"jsonrpc": "2.0", "id": call["id"], "error": {"code": code, "message": message}});
                });
                return wire::write(connection, "200 OK", "", asked.to_string().as_bytes()).await;
            }
            Some(Kind::CallError { code, message }) => {
                let by_id = ids(&asked);
                let is_about = |id: &Value| {
                    let method = by_id.get(&id.to_string());
                    method.is_some_and(|method| fault.as_ref().is_some_and(|fault| fault.is_about(method)))
                };
                return self
                    .pass(connection, request.body.clone(), |answer| {
                        each(answer, |answer| {
                            if is_about(&answer["id"]) {
                                let error = json!({"code": code, "message": message});
                                *answer = json!({"jsonrpc": "2.0", "id": answer["id"], "error": error});
                            }
                        });
                    })
                    .await;
            }
            Some(Kind::Huge(bytes)) => return blanks(connection, *bytes).await,
            Some(Kind::NotUtf8) => return wire::write(connection, "200 OK", "", b"{\"jsonrpc\":\"\xff\xfe\"}").await,
            Some(Kind::Lag(blocks)) => {
                let Some(head) = self.head().await.map(|head| head.saturating_sub(*blocks)) else {
                    return wire::write(connection, "502 Bad Gateway", "", b"").await;
                };
                let by_id = ids(&asked);
                each(&mut asked, |call| lag::narrow(call, head));
                return self
                    .pass(connection, asked.to_string().into_bytes(), |answer| {
                        results(answer, &by_id, |method, result| lag::forget(method, result, head));
                    })
                    .await;
            }
            Some(Kind::Truncated) => {
                let Some(body) = self.forward(request.body.clone()).await else {
                    return wire::write(connection, "502 Bad Gateway", "", b"").await;
                };
                wire::announce(connection, "200 OK", "", body.len()).await?;
                let half = body.get(..body.len() / 2).unwrap_or_default();
                connection.write_all(half).await?;
                connection.flush().await?;
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            Some(Kind::Rewrite(change)) => {
                let by_id = ids(&asked);
                return self
                    .pass(connection, request.body.clone(), |answer| {
                        results(answer, &by_id, |method, result| {
                            if fault.as_ref().is_some_and(|fault| fault.is_about(method)) {
                                change(method, result);
                            }
                        });
                    })
                    .await;
            }
        }
        match self.forward(request.body.clone()).await {
            Some(body) => wire::write(connection, "200 OK", "", &body).await,
            None => wire::write(connection, "502 Bad Gateway", "", b"").await,
        }
    }

    /// Counts a request; gives the fault that strikes it.
    fn note(&self, asked: &Value) -> Option<Fault> {
        self.counts.send_modify(|counts| {
            counts.requests = counts.requests.saturating_add(1);
            for method in methods(asked) {
                let calls = counts.calls.entry(method).or_default();
                *calls = calls.saturating_add(1);
            }
        });
        let mut faults = lock(&self.faults);
        let calls = asked.as_array().map_or_else(|| std::slice::from_ref(asked), Vec::as_slice);
        let about = faults.iter_mut().filter(|(fault, _)| fault.is_about_packet(calls));
        let mut struck = None;
        for (fault, count) in about {
            *count = count.saturating_add(1);
            if struck.is_none() && fault.strikes(*count) {
                struck = Some(fault.clone());
            }
        }
        struck
    }

    /// Asks the node, changes its answer, passes it on.
    async fn pass(
        &self,
        connection: &mut Connection,
        request: Vec<u8>,
        change: impl FnOnce(&mut Value),
    ) -> io::Result<()> {
        let Some(mut answer) = self.forward(request).await.and_then(|body| serde_json::from_slice(&body).ok()) else {
            return wire::write(connection, "502 Bad Gateway", "", b"").await;
        };
        change(&mut answer);
        wire::write(connection, "200 OK", "", answer.to_string().as_bytes()).await
    }

    /// What the node answers; `None` when it does not.
    async fn forward(&self, body: Vec<u8>) -> Option<Vec<u8>> {
        let url = lock(&self.upstream).clone();
        let request = self.http.post(url).header("content-type", "application/json").body(body);
        Some(request.send().await.ok()?.bytes().await.ok()?.to_vec())
    }

    async fn head(&self) -> Option<u64> {
        let call = json!({"jsonrpc": "2.0", "id": 1, "method": "eth_blockNumber", "params": []});
        let answer: Value = serde_json::from_slice(&self.forward(call.to_string().into_bytes()).await?).ok()?;
        lag::number(&answer["result"])
    }

    fn upstream_address(&self) -> String {
        let url = lock(&self.upstream);
        format!("{}:{}", url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default())
    }
}

/// Waits until the client has had enough, or the fault is over.
async fn hang(connection: &mut Connection, mut changes: watch::Receiver<u64>) -> io::Result<()> {
    let silence = async {
        let mut ignored = [0; 1024];
        while connection.read(&mut ignored).await.is_ok_and(|length| length > 0) {}
    };
    tokio::select! {
        () = silence => {}
        _ = changes.changed() => {}
    }
    Err(io::ErrorKind::ConnectionAborted.into())
}

/// An answer that begins with so many blanks, and never gets further.
async fn blanks(connection: &mut Connection, bytes: u64) -> io::Result<()> {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    connection.write_all(head.as_bytes()).await?;
    let chunk = [b' '; 64 * 1024];
    let mut left = bytes;
    while left > 0 {
        connection.write_all(format!("{:x}\r\n", chunk.len()).as_bytes()).await?;
        connection.write_all(&chunk).await?;
        connection.write_all(b"\r\n").await?;
        left = left.saturating_sub(64 * 1024);
    }
    connection.flush().await?;
    // A client that reads on gets nothing more.
    pending().await
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Does something with the call, or with each of a batch.
fn each(packet: &mut Value, mut with: impl FnMut(&mut Value)) {
    match packet {
        Value::Array(items) => items.iter_mut().for_each(with),
        item => with(item),
    }
}

fn methods(asked: &Value) -> Vec<String> {
    ids(asked).into_values().collect()
}

/// The methods of the calls by their ids, as text.
fn ids(asked: &Value) -> BTreeMap<String, String> {
    let calls = asked.as_array().map_or_else(|| std::slice::from_ref(asked), Vec::as_slice);
    let named = |call: &Value| Some((call["id"].to_string(), call["method"].as_str()?.to_owned()));
    calls.iter().filter_map(named).collect()
}

/// Does something with the result of each call; errors are left alone.
fn results(answer: &mut Value, by_id: &BTreeMap<String, String>, mut with: impl FnMut(&str, &mut Value)) {
    each(answer, |answer| {
        let Some(method) = by_id.get(&answer["id"].to_string()) else { return };
        if let Some(result) = answer.get_mut("result") {
            with(method, result);
        }
    });
}
