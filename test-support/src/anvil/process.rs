//! The program: how it is started, held still and ended.

use crate::signal::{Signal, send_signal};
use std::{
    io::{self, BufRead, BufReader, Read},
    net::TcpListener,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
};

/// A running node. Killed when it is dropped, and by the kernel when the test's process is gone without a drop.
#[derive(Debug)]
pub(super) struct Process(Child);

/// What the program is started with.
#[derive(Debug, Clone)]
pub(super) struct Start<'a> {
    pub(super) anvil: &'a Path,
    pub(super) port: u16,
    pub(super) chain_id: u64,
    /// Read at the start, if it is there, and written at an orderly end.
    pub(super) state: Option<&'a Path>,
}

impl Process {
    /// Starts it and waits until it listens; `None` when another program has the port.
    ///
    /// # Panics
    ///
    /// When it ends for another reason; the message contains its complaint.
    pub(super) fn start(start: &Start<'_>) -> Option<Self> {
        let mut arguments = vec![
            "--no-mining".to_owned(),
            // A block holds its transactions in the order in which they were sent.
            "--order=fifo".to_owned(),
            format!("--port={}", start.port),
            format!("--chain-id={}", start.chain_id),
        ];
        if let Some(state) = start.state {
            arguments.push(format!("--state={}", state.display()));
            // So that a reorganisation may reach below the restart.
            arguments.push("--preserve-historical-states".to_owned());
        }
        let mut child = spawn(start.anvil, &arguments);
        let mut output = BufReader::new(child.stdout.take().expect("standard output is piped"));
        let mut line = String::new();
        loop {
            line.clear();
            if output.read_line(&mut line).expect("the node's output should be text") == 0 {
                let mut complaint = String::new();
                let mut errors = child.stderr.take().expect("standard error is piped");
                errors.read_to_string(&mut complaint).expect("the node's complaint should be text");
                let status = child.wait().expect("the node was started here");
                let is_taken = TcpListener::bind(("127.0.0.1", start.port)).is_err();
                assert!(is_taken, "{} ended with {status}: {}", start.anvil.display(), complaint.trim());
                return None;
            }
            if line.starts_with("Listening on") {
                break;
            }
        }
        // It logs every call, and would stand still before a full pipe.
        thread::spawn(move || io::copy(&mut output, &mut io::sink()));
        let mut errors = child.stderr.take().expect("standard error is piped");
        thread::spawn(move || io::copy(&mut errors, &mut io::sink()));
        Some(Self(child))
    }

    /// Sends a signal.
    pub(super) fn signal(&self, signal: Signal) {
        send_signal(self.0.id(), signal);
    }

    /// Asks it to end, which lets it write its state, and waits until it has.
    pub(super) fn end(mut self) -> ExitStatus {
        self.signal(Signal::CONT);
        self.signal(Signal::TERM);
        self.0.wait().expect("the node was started here")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only when it has ended, which is as good.
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// Through `setpriv`, where there is one: it asks the kernel to kill the node when the thread ends that has started it,
/// and becomes the node.
fn spawn(anvil: &Path, arguments: &[String]) -> Child {
    let mut bound = Command::new("setpriv");
    bound.args(["--pdeathsig", "KILL", "--"]).arg(anvil);
    let mut plain = Command::new(anvil);
    for command in [&mut bound, &mut plain] {
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        match command.spawn() {
            Ok(child) => return child,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => panic!("{} cannot be started: {error}", anvil.display()),
        }
    }
    panic!("{} is missing: run scripts/test, or install anvil 1.7 of Foundry", anvil.display());
}
