//! Servers that a shell script starts, and stops when its standard input is closed: however the test's process ends, the
//! kernel closes that pipe.

use std::{
    io::{BufRead, BufReader, Read},
    os::unix::process::CommandExt,
    process::{Child, ChildStdout, Command, Stdio},
};

/// A script that has printed its server's address, its first line. Blocks its thread meanwhile: the test has nothing
/// better to do. Panics with the script's complaint when there is no server.
pub(crate) fn launch(
    (name, script): (&str, &str),
    server: &str,
    arguments: &[&str],
) -> (Child, BufReader<ChildStdout>, String) {
    let mut child = Command::new("sh")
        .args(["-c", script, name])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Test runners end a slow test by killing its whole process group; the script has to survive that.
        .process_group(0)
        .spawn()
        .expect("tests need a POSIX shell");
    let mut address = String::new();
    let mut output = BufReader::new(child.stdout.take().expect("standard output is piped"));
    output.read_line(&mut address).expect("the script's output should be text");
    if address.is_empty() {
        let mut complaint = String::new();
        child.stderr.take().expect("standard error is piped").read_to_string(&mut complaint).unwrap_or_default();
        panic!("cannot start a throwaway {server} server: {}", complaint.trim());
    }
    (child, output, address.trim().to_owned())
}
