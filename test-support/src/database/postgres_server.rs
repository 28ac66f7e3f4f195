//! The throwaway PostgreSQL server of a test process that was not given one.

use crate::config;
use std::{
    io::{BufRead, BufReader, Read},
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
    sync::OnceLock,
};

/// Starts a server and stops it once its standard input is closed. Compiled in: a test may run anywhere.
const SCRIPT: &str = include_str!("postgres-server.sh");

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

fn start() -> Server {
    let mut script = Command::new("sh")
        .args(["-c", SCRIPT, "postgres-server.sh"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Test runners end a slow test by killing its whole process group; the script has to survive that.
        .process_group(0)
        .spawn()
        .expect("tests need a POSIX shell");
    let mut admin_url = String::new();
    let output = script.stdout.take().expect("standard output is piped");
    BufReader::new(output).read_line(&mut admin_url).expect("the script's output should be text");
    if admin_url.is_empty() {
        let mut complaint = String::new();
        script.stderr.take().expect("standard error is piped").read_to_string(&mut complaint).unwrap_or_default();
        panic!("cannot start a throwaway PostgreSQL server: {}", complaint.trim());
    }
    Server::Own { admin_url: admin_url.trim().to_owned(), _script: script }
}
