//! Signals to processes, sent by system call: a minimal machine has no `kill` program.

use rustix::process::{Pid, kill_process};

pub use rustix::process::Signal;

/// Sends a signal to the process of this id.
///
/// # Panics
///
/// If the process does not exist.
pub fn send_signal(process: u32, signal: Signal) {
    let id = i32::try_from(process).ok().and_then(Pid::from_raw).expect("a process has a positive id");
    kill_process(id, signal).unwrap_or_else(|error| panic!("process {process} takes no {signal:?}: {error}"));
}

#[cfg(test)]
mod tests {
    use std::{os::unix::process::ExitStatusExt, process::Command};

    use super::{Signal, send_signal};

    #[test]
    fn a_terminated_process_ends_by_that_signal() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        send_signal(child.id(), Signal::TERM);
        assert_eq!(child.wait().unwrap().signal(), Some(Signal::TERM.as_raw()));
    }
}
