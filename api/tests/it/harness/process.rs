//! The real binary, started as an operator starts it and ended in every way that a process ends.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use cryptopay_test_support::{Signal, TestDatabase, send_signal};
use tempfile::TempDir;
use tokio::sync::watch;

use super::{Client, LIMIT, eventually, within};

/// How long a process may take to end after SIGTERM: the contract's 20 s, and a moment for the system.
const END_LIMIT: Duration = Duration::from_secs(21);

/// A data directory and the variables of the processes that run on it, one after the other.
pub(crate) struct Installation {
    data: TempDir,
    variables: Vec<(String, String)>,
}

impl Installation {
    /// On a database of the test's. It listens on a free port.
    pub(crate) fn on(db: &TestDatabase) -> Self {
        Self::bare().with("DATABASE_URL", db.url())
    }

    /// On the SQLite file that the binary makes by itself.
    pub(crate) fn bare() -> Self {
        let data = tempfile::Builder::new().prefix("cryptopay-data.").tempdir().unwrap();
        let folder = data.path().display().to_string();
        Self { data, variables: Vec::new() }
            .with("CRYPTOPAY_DATA_DIR", &folder)
            .with("CRYPTOPAY_BIND", "127.0.0.1:0")
            .with("CRYPTOPAY_LOG", "warn")
    }

    /// With no variable set, as on the day after the clone.
    pub(crate) fn unset() -> Self {
        Self { variables: Vec::new(), ..Self::bare() }
    }

    /// With one variable more, or with another value of it.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The folder of the data.
    pub(crate) fn folder(&self) -> &std::path::Path {
        self.data.path()
    }

    /// Starts `cryptopay serve`, and waits until it can do its work.
    pub(crate) async fn start(&self) -> Process {
        self.start_as("all").await
    }

    /// Starts a process with this role, and waits until it can do its work.
    pub(crate) async fn start_as(&self, role: &str) -> Process {
        self.start_with(role, &[]).await
    }

    /// The same with variables that only this process has.
    pub(crate) async fn start_with(&self, role: &str, variables: &[(&str, &str)]) -> Process {
        let mut command = self.command(["serve", "--role", role]);
        let mut process = Process::of(command.envs(variables.iter().copied()));
        let client = process.banner().await;
        eventually("ready", async || (client.get("/readyz").await.status == 200).then_some(())).await;
        process
    }

    /// Starts a command and waits for nothing.
    pub(crate) fn launch<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Process {
        Process::of(&mut self.command(arguments))
    }

    /// The binary with these arguments and this installation's variables alone.
    pub(crate) fn command<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cryptopay"));
        command
            .args(arguments)
            .env_clear()
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .current_dir(self.data.path())
            .stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub(crate) async fn run<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Ended {
        self.launch(arguments).end(LIMIT).await
    }
}

fn serves_on(text: &str) -> Option<&str> {
    text.split_once("serves on http://")?.1.split_whitespace().next()
}

/// A running process. Killed when it is dropped.
pub(crate) struct Process {
    child: Child,
    printed: Printed,
    complaints: Printed,
    base: String,
    database: String,
}

/// How a process ended and what it said.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// The exit status, or minus the signal.
    pub(crate) fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| -self.status.signal().unwrap_or_default())
    }
}

impl Process {
    fn of(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let printed = Printed::of(child.stdout.take().unwrap());
        let complaints = Printed::of(child.stderr.take().unwrap());
        let variable = |name: &str| {
            let found = command.get_envs().find(|(known, _)| *known == OsStr::new(name))?;
            found.1?.to_str().map(str::to_owned)
        };
        let default = variable("CRYPTOPAY_DATA_DIR").map(|folder| format!("sqlite://{folder}/cryptopay.db"));
        let database = variable("DATABASE_URL").or(default).unwrap_or_default();
        Self { child, printed, complaints, base: String::new(), database }
    }

    /// `http://127.0.0.1:<port>`.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// Waits until it says where it serves; a client without a token. It may not be ready yet.
    pub(crate) async fn banner(&mut self) -> Client {
        let said = self.printed.until(|text| serves_on(text).is_some()).await;
        let address = said.as_deref().and_then(serves_on).unwrap_or_else(|| panic!("no banner: {self:?}"));
        self.base = format!("http://{address}");
        self.client()
    }

    /// A client without a token.
    pub(crate) fn client(&self) -> Client {
        Client::new(&self.base).on_database(&self.database)
    }

    /// What it printed on standard output so far.
    pub(crate) fn printed(&self) -> String {
        self.printed.so_far()
    }

    /// What it logged so far.
    pub(crate) fn log(&self) -> String {
        self.complaints.so_far()
    }

    /// Ends it at once, with no chance to tidy up.
    pub(crate) fn kill_9(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to end, with SIGTERM.
    pub(crate) async fn terminate(self) -> Ended {
        send_signal(self.child.id(), Signal::TERM);
        self.end(END_LIMIT).await
    }

    /// Waits for its end.
    pub(crate) async fn end(mut self, limit: Duration) -> Ended {
        // Its pipes close when it ends: it has no children.
        within(limit, "the end of the process", async {
            self.printed.end().await;
            self.complaints.end().await;
        })
        .await;
        let status = self.child.wait().unwrap();
        Ended { status, stdout: self.printed.so_far(), stderr: self.complaints.so_far() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only when it has ended, which is as good.
        _ = self.child.kill();
        _ = self.child.wait();
        if thread::panicking() {
            eprintln!("{self:?}");
        }
    }
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "--- printed\n{}\n--- log\n{}", self.printed.so_far(), self.complaints.so_far())
    }
}

/// What comes out of a pipe.
struct Printed(watch::Receiver<String>);

impl Printed {
    fn of(pipe: impl Read + Send + 'static) -> Self {
        let (sender, receiver) = watch::channel(String::new());
        thread::spawn(move || {
            let mut lines = BufReader::new(pipe);
            let mut line = Vec::new();
            while lines.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
                sender.send_modify(|text| text.push_str(&String::from_utf8_lossy(&line)));
                line.clear();
            }
        });
        Self(receiver)
    }

    fn so_far(&self) -> String {
        self.0.borrow().clone()
    }

    /// The text as soon as `enough` says so; `None` when the process ends before.
    async fn until(&mut self, mut enough: impl FnMut(&str) -> bool) -> Option<String> {
        within(LIMIT, "what the process should print", self.0.wait_for(|text| enough(text)))
            .await
            .ok()
            .map(|t| t.clone())
    }

    async fn end(&mut self) {
        while self.0.changed().await.is_ok() {}
    }
}
