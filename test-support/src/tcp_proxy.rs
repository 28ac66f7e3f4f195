//! Stands between a gateway and a server, and makes the server vanish without a word: as one does whose host has lost its
//! power, or whose connections a router on the way has forgotten.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};
use tokio::{
    io::{self, AsyncReadExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
};

/// A port of 127.0.0.1 that passes connections on to a server, until it is told to do otherwise. It ends, and closes every
/// connection, when this value is dropped.
#[derive(Debug)]
pub struct TcpProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    upstream: SocketAddr,
    /// Counts up when connections die; odd while new ones do as well.
    age: watch::Sender<u64>,
}

impl TcpProxy {
    /// Listens on a free port, before the server at this address.
    ///
    /// # Panics
    ///
    /// When the machine has no free port left.
    pub async fn start(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("127.0.0.1 should have a free port");
        let address = listener.local_addr().expect("a listener has an address");
        let shared = Arc::new(Shared { upstream, age: watch::Sender::default() });
        let serving = Arc::clone(&shared);
        let server = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&serving);
                // Aborted with the server.
                connections.spawn(async move { shared.serve(stream).await });
                while connections.try_join_next().is_some() {}
            }
        });
        Self { address, shared, server }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on nothing is answered and nothing is closed, on connections that are there and on new ones.
    ///
    /// # Panics
    ///
    /// When the server has vanished already.
    pub fn vanish(&self) {
        self.shared.age.send_modify(|age| *age += 1);
        assert!(is_away(*self.shared.age.borrow()), "it has vanished already");
    }

    /// New connections are passed on again. Those of before stay dead, and open.
    ///
    /// # Panics
    ///
    /// When the server has not vanished.
    pub fn come_back(&self) {
        self.shared.age.send_modify(|age| *age += 1);
        assert!(!is_away(*self.shared.age.borrow()), "it has not vanished");
    }
}

impl Drop for TcpProxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn is_away(age: u64) -> bool {
    age % 2 == 1
}

impl Shared {
    async fn serve(&self, mut client: TcpStream) {
        let mut age = self.age.subscribe();
        let begun = *age.borrow_and_update();
        if !is_away(begun) {
            // The server hears that its end is closed, as after a restart it knows of none: no lock stays behind.
            let Ok(mut server) = TcpStream::connect(self.upstream).await else { return };
            tokio::select! {
                // One that was closed at either end.
                _ = io::copy_bidirectional(&mut client, &mut server) => return,
                _ = age.wait_for(|age| *age != begun) => {}
            }
        }
        // Whatever is asked, until whoever asks has enough of it.
        let mut asked = [0; 1_024];
        while client.read(&mut asked).await.is_ok_and(|bytes| bytes > 0) {}
    }
}
