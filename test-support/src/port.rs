//! Ports for servers that cannot be asked to listen on port 0.

use std::net::{Ipv4Addr, TcpListener};

/// A TCP port of 127.0.0.1 on which nobody listens.
///
/// Another process can take it between this call and its use. A server that can bind port 0 and say what it got should
/// do that.
///
/// # Panics
///
/// When the machine has no free port left.
#[must_use]
pub fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .expect("127.0.0.1 should have a free port")
        .port()
}
