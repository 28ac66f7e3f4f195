//! A real node with a chain of its own that a test rules: blocks, reorganisations, faults of the process.
//!
//! Blocks come only when a test mines them, with the transactions that were sent since, in the order of their sending.
//! Every account is unlocked, so that nobody signs here.

mod payments;
mod process;

use crate::contracts::{Installed, installed};
use crate::signal::Signal;
use alloy::{
    primitives::{Address, B256, Bytes, U64, U256},
    providers::{Provider, RootProvider},
    rpc::client::RpcClient,
    transports::http::Http,
};
use process::{Process, Start};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::{
    collections::hash_map::RandomState,
    fmt,
    hash::BuildHasher,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tempfile::TempDir;

pub use payments::{Manner, Payment, TokenTransfer};

/// Ports that the node listens on: below the range from which the kernel hands out ports, so that nobody takes the port
/// while the node is stopped, and below that of the test databases.
const FIRST_PORT: u16 = 10_000;
const PORTS: u16 = 9_000;
/// Tries to find a free one.
const TRIES: usize = 20;
/// Longest that an answer of the node may take before a test says so: it mines hundreds of blocks in one call.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// A throwaway node. It ends when this value is dropped.
pub struct Anvil {
    installed: &'static Installed,
    folder: TempDir,
    port: u16,
    chain_id: u64,
    /// `None` while it is stopped.
    process: Mutex<Option<Process>>,
    rpc: RootProvider,
    accounts: Vec<Address>,
    /// Held while a transaction is handed in: the node gives two that come at once the same nonce.
    sending: tokio::sync::Mutex<()>,
}

impl Anvil {
    /// Starts a node of a new chain with this id.
    ///
    /// # Panics
    ///
    /// When there is none to start; the message says what is missing.
    pub async fn start(chain_id: u64) -> Self {
        let installed = installed();
        let folder = tempfile::Builder::new().prefix("cryptopay-anvil.").tempdir();
        let folder = folder.expect("the temporary folder should be writable");
        let state = folder.path().join("state.json");
        for _ in 0..TRIES {
            let port = some_port();
            let start = Start { anvil: &installed.anvil, port, chain_id, state: Some(&state) };
            if let Some(process) = Process::start(&start) {
                let rpc = connect(port);
                let mut node = Self {
                    sending: tokio::sync::Mutex::default(),
                    installed,
                    folder,
                    port,
                    chain_id,
                    process: Mutex::new(Some(process)),
                    rpc,
                    accounts: Vec::new(),
                };
                node.accounts = node.call("eth_accounts", json!([])).await;
                return node;
            }
        }
        panic!("no free port for the node in {TRIES} tries");
    }

    /// The URL of its JSON-RPC, the same over all restarts.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The URL at which it tells of new heads.
    #[must_use]
    pub fn ws_url(&self) -> String {
        format!("ws://127.0.0.1:{}", self.port)
    }

    /// The id of its chain.
    #[must_use]
    pub fn chain_id(&self) -> u64 {
        self.chain_id
    }

    /// One of ten accounts with coins. The first deploys contracts and holds their tokens at first.
    ///
    /// # Panics
    ///
    /// When there are not so many.
    #[must_use]
    pub fn account(&self, number: usize) -> Address {
        *self.accounts.get(number).unwrap_or_else(|| panic!("the node has no account {number}"))
    }

    // The process.

    /// Holds the process still: it takes connections and answers nothing.
    ///
    /// # Panics
    ///
    /// When it is stopped.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    ///
    /// # Panics
    ///
    /// When it is stopped.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Ends the process in order; it keeps its chain.
    ///
    /// # Panics
    ///
    /// When it did not run.
    pub fn stop(&self) {
        let process = self.process().take().expect("the node is stopped already");
        let status = process.end();
        assert!(status.success(), "the node ended with {status}");
    }

    /// Starts it again with its chain, after [`stop`](Self::stop) or [`replace`](Self::replace).
    ///
    /// # Panics
    ///
    /// When somebody has taken its port meanwhile.
    pub fn start_again(&self) {
        drop(self.process().take());
        let state = self.state_file();
        self.launch(self.chain_id, Some(state));
    }

    /// Puts another node in its place, at the same URL: of a new, empty chain with another id. If it ran, it is stopped
    /// in order, and [`start_again`](Self::start_again) brings it back.
    ///
    /// # Panics
    ///
    /// When somebody has taken its port meanwhile.
    pub fn replace(&self, chain_id: u64) {
        if self.process().is_some() {
            self.stop();
        }
        self.launch(chain_id, None);
    }

    // The chain.

    /// The height of the head.
    pub async fn height(&self) -> u64 {
        self.call::<U64>("eth_blockNumber", json!([])).await.to()
    }

    /// The hash of a block of the chain.
    ///
    /// # Panics
    ///
    /// When the chain is shorter.
    pub async fn block_hash(&self, number: u64) -> B256 {
        let block: Value = self.call("eth_getBlockByNumber", json!([U64::from(number), false])).await;
        let hash = block["hash"].as_str().unwrap_or_else(|| panic!("the chain has no block {number}"));
        hash.parse().expect("a hash has 32 bytes")
    }

    /// Mines blocks. The first holds what was sent since the last.
    pub async fn mine(&self, blocks: u64) {
        self.call::<Value>("anvil_mine", json!([U64::from(blocks)])).await;
    }

    /// Mines a block of this time, in Unix seconds; no later block will be before it.
    pub async fn mine_at(&self, time: u64) {
        self.call::<Value>("anvil_setNextBlockTimestamp", json!([time])).await;
        self.mine(1).await;
    }

    /// Takes the newest blocks away, with their transactions.
    pub async fn rollback(&self, blocks: u64) {
        self.call::<Value>("anvil_rollback", json!([blocks])).await;
    }

    /// Replaces the newest blocks, all at once, by as many others. These hold the given signed transactions, each in the
    /// new block of that index (from 0, the oldest), and nothing else.
    pub async fn reorg(&self, blocks: u64, transactions: &[(Bytes, u64)]) {
        self.call::<Value>("anvil_reorg", json!([blocks, transactions])).await;
    }

    /// Remembers the chain as it is.
    pub async fn snapshot(&self) -> U256 {
        self.call("evm_snapshot", json!([])).await
    }

    /// Makes the chain what it was, once for each snapshot.
    pub async fn revert(&self, snapshot: U256) {
        assert!(self.call::<bool>("evm_revert", json!([snapshot])).await, "there is no such snapshot");
    }

    /// Any other call.
    ///
    /// # Panics
    ///
    /// When the node refuses it, or has ended.
    pub async fn call<T>(&self, method: &'static str, params: impl Serialize) -> T
    where
        T: DeserializeOwned + fmt::Debug + Send + Sync + Unpin + 'static,
    {
        let params = serde_json::to_value(params).expect("parameters should be JSON");
        let _turn = if method == "eth_sendTransaction" { Some(self.sending.lock().await) } else { None };
        let answer = self.rpc.raw_request(method.into(), params).await;
        answer.unwrap_or_else(|error| panic!("the node refused {method}: {error}"))
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn signal(&self, signal: Signal) {
        self.process().as_ref().expect("the node is stopped").signal(signal);
    }

    fn state_file(&self) -> PathBuf {
        self.folder.path().join("state.json")
    }

    fn launch(&self, chain_id: u64, state: Option<PathBuf>) {
        let start = Start { anvil: &self.installed.anvil, port: self.port, chain_id, state: state.as_deref() };
        let process = Process::start(&start);
        *self.process() =
            Some(process.unwrap_or_else(|| panic!("port {} is taken, or the state is broken", self.port)));
    }
}

impl fmt::Debug for Anvil {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Anvil").field("url", &self.url()).field("chain_id", &self.chain_id).finish_non_exhaustive()
    }
}

fn some_port() -> u16 {
    let offset = RandomState::new().hash_one(()).checked_rem(u64::from(PORTS)).unwrap_or_default();
    FIRST_PORT.saturating_add(u16::try_from(offset).unwrap_or_default())
}

/// Without the proxies that the environment may name: this is a process of the same machine.
fn connect(port: u16) -> RootProvider {
    // Refused only when there is one already, which is as good.
    _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().timeout(ANSWER_LIMIT).build();
    let client = client.expect("TLS should have a provider");
    let url = format!("http://127.0.0.1:{port}").parse().expect("this is a URL");
    RootProvider::new(RpcClient::new(Http::with_client(client, url), true))
}
