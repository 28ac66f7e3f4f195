//! The throwaway PostgreSQL server of a test process that was not given one, and one that a test may stop.

use crate::{config, script::launch};
use std::{
    fmt,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdout},
    sync::OnceLock,
};

/// Starts a server and stops it once its standard input is closed. Compiled in: a test may run anywhere.
const SCRIPT: (&str, &str) = ("postgres-server.sh", include_str!("postgres-server.sh"));

static SERVER: OnceLock<Server> = OnceLock::new();

enum Server {
    /// `scripts/test` runs it.
    Given { admin_url: String },
    /// This process holds the script's standard input, never writes to it, and closes it by ending.
    Own { admin_url: String, _script: Child },
}

/// The address of the server's administrative database. The first call may take seconds, and blocks its thread: the
/// test has nothing better to do.
pub(super) fn admin_url() -> &'static str {
    match SERVER
        .get_or_init(|| config::postgres_admin_url().map_or_else(start, |admin_url| Server::Given { admin_url }))
    {
        Server::Given { admin_url } | Server::Own { admin_url, .. } => admin_url,
    }
}

/// A PostgreSQL server of a test's own, that it may stop and start again. It ends when this value is dropped, and with the
/// test's process.
pub struct PostgresServer {
    admin_url: String,
    script: Child,
    answers: BufReader<ChildStdout>,
}

impl PostgresServer {
    /// Starts one.
    ///
    /// # Panics
    ///
    /// When it cannot be started; the message says what is missing.
    #[must_use]
    pub fn start() -> Self {
        Self::launch(&["obedient"])
    }

    /// Starts one whose messages are in this language, such as `de_DE`.
    ///
    /// # Panics
    ///
    /// If it cannot be started; the message names the missing part.
    #[must_use]
    pub fn start_in(language: &str) -> Self {
        Self::launch(&["obedient", language])
    }

    fn launch(arguments: &[&str]) -> Self {
        let (script, answers, admin_url) = launch(SCRIPT, "PostgreSQL", arguments);
        Self { admin_url, script, answers }
    }

    /// Stops it in the midst of everything; what was committed will be there again. Connections break.
    ///
    /// # Panics
    ///
    /// When it does not run.
    pub fn crash(&mut self) {
        self.order("stop");
    }

    /// Starts it again at the same address, and waits until it takes connections.
    ///
    /// # Panics
    ///
    /// When it runs, or somebody else has taken its port.
    pub fn start_again(&mut self) {
        self.order("start");
    }

    pub(super) fn admin_url(&self) -> &str {
        &self.admin_url
    }

    fn order(&mut self, order: &str) {
        let input = self.script.stdin.as_mut().expect("standard input is piped");
        writeln!(input, "{order}").expect("the script should take orders");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("the script's output should be text");
        assert_eq!(answer.trim(), "done");
    }
}

impl fmt::Debug for PostgresServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresServer").finish_non_exhaustive()
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        drop(self.script.stdin.take());
        // Best effort: it ends by itself.
        _ = self.script.wait();
    }
}

fn start() -> Server {
    let (script, _, admin_url) = launch(SCRIPT, "PostgreSQL", &[]);
    Server::Own { admin_url, _script: script }
}
