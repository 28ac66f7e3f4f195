//! A Redis for tests: one that they share, each under a prefix of its own, and one that a test may stop and start.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::process::Child;
use std::sync::OnceLock;
use std::time::Duration;

use redis::{Client, Commands, Connection};
use url::Url;

use crate::config;
use crate::script::launch;
use crate::signal::{Signal, send_signal};

/// Starts a server and stops it once its standard input is closed. Compiled in: a test may run anywhere.
const SCRIPT: (&str, &str) = ("redis-server.sh", include_str!("redis-server.sh"));

/// How long a connection may take: far longer than on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(10);

static SHARED: OnceLock<RedisServer> = OnceLock::new();

/// A part of a Redis for one test alone: every key and channel of the test begins with [`prefix`](Self::prefix). The keys
/// are deleted when this value is dropped.
///
/// It lives in the server that `CRYPTOPAY_TEST_REDIS` names (`scripts/test` sets it), else in a throwaway server that is
/// started once per test process and ends with it.
pub struct TestRedis {
    url: String,
    prefix: String,
}

impl TestRedis {
    /// An empty one.
    ///
    /// # Panics
    ///
    /// When there is no server and none can be started; the message says what is missing.
    #[must_use]
    pub fn new() -> Self {
        let url = config::redis_url().unwrap_or_else(|| SHARED.get_or_init(RedisServer::start).url().to_owned());
        Self { url, prefix: format!("test_{:016x}:", RandomState::new().hash_one(())) }
    }

    /// The address, as `REDIS_URL` takes it.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What every key of this test begins with, as `CRYPTOPAY_KEY_PREFIX` takes it.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Every key of this test.
    ///
    /// # Panics
    ///
    /// When Redis is away.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        keys(&mut connect(&self.url), &format!("{}*", self.prefix))
    }
}

impl Default for TestRedis {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for TestRedis {
    /// Best effort: the server ends soon, and takes with it what is left.
    fn drop(&mut self) {
        let Ok(mut connection) =
            Client::open(self.url.as_str()).and_then(|client| client.get_connection_with_timeout(PATIENCE))
        else {
            return;
        };
        for key in keys(&mut connection, &format!("{}*", self.prefix)) {
            let _ = connection.unlink::<_, ()>(key);
        }
    }
}

impl fmt::Debug for TestRedis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestRedis").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// A Redis server of a test's own, that it may stop and start again, empty and at the same address. Killed when this value
/// is dropped, and with the test's process.
pub struct RedisServer {
    url: String,
    /// Its standard input is held, and closed to stop the server.
    script: Option<Child>,
    /// The process that is held still.
    paused: Option<u32>,
}

impl RedisServer {
    /// Starts one.
    ///
    /// # Panics
    ///
    /// When it cannot be started; the message says what is missing.
    #[must_use]
    pub fn start() -> Self {
        let (script, _, url) = launch(SCRIPT, "Redis", &[]);
        Self { url, script: Some(script), paused: None }
    }

    /// The address, as `REDIS_URL` takes it. It stays the same.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Kills the server; what it held is gone.
    pub fn stop(&mut self) {
        if let Some(mut script) = self.script.take() {
            drop(script.stdin.take());
            let _ = script.wait();
        }
    }

    /// Holds the server still: it takes connections and answers nothing.
    ///
    /// # Panics
    ///
    /// When it does not run.
    pub fn pause(&mut self) {
        let about: String =
            redis::cmd("INFO").arg("server").query(&mut connect(&self.url)).expect("Redis should take INFO");
        let process = about.lines().find_map(|line| line.strip_prefix("process_id:")).expect("Redis tells its process");
        let process = process.trim().parse().expect("Redis tells a process id");
        send_signal(process, Signal::STOP);
        self.paused = Some(process);
    }

    /// Lets it go on after [`pause`](Self::pause).
    ///
    /// # Panics
    ///
    /// When it was not paused.
    pub fn resume(&mut self) {
        send_signal(self.paused.take().expect("the server is not paused"), Signal::CONT);
    }

    /// Starts it again, empty.
    ///
    /// # Panics
    ///
    /// When it runs, or somebody else has taken its port.
    pub fn restart(&mut self) {
        assert!(self.script.is_none(), "the server runs");
        let url = Url::parse(&self.url).expect("the script prints a URL");
        let port = url.port().expect("the script prints a port").to_string();
        let (script, _, url) = launch(SCRIPT, "Redis", &[&port, url.password().unwrap_or_default()]);
        assert_eq!(url, self.url);
        self.script = Some(script);
    }

    /// Deletes everything that it holds, as an operator might.
    ///
    /// # Panics
    ///
    /// When it does not run.
    pub fn flush(&self) {
        redis::cmd("FLUSHALL").exec(&mut connect(&self.url)).expect("Redis should take FLUSHALL");
    }

    /// Cuts every connection, as a restarted proxy would.
    ///
    /// # Panics
    ///
    /// When it does not run.
    pub fn cut_connections(&self) {
        for kind in ["normal", "pubsub"] {
            let mut kill = redis::cmd("CLIENT");
            kill.arg("KILL")
                .arg("TYPE")
                .arg(kind)
                .exec(&mut connect(&self.url))
                .expect("Redis should take CLIENT KILL");
        }
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for RedisServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisServer").field("runs", &self.script.is_some()).finish_non_exhaustive()
    }
}

/// A connection for a few commands. Blocks its thread, for a moment.
fn connect(url: &str) -> Connection {
    Client::open(url)
        .and_then(|client| client.get_connection_with_timeout(PATIENCE))
        .unwrap_or_else(|error| panic!("cannot reach the test's Redis: {error}"))
}

fn keys(connection: &mut Connection, pattern: &str) -> Vec<String> {
    connection.scan_match::<_, String>(pattern).map(|keys| keys.filter_map(Result::ok).collect()).unwrap_or_default()
}
