//! HTTP/1.1 by hand, as far as a JSON-RPC client speaks it: an answer that is wrong on purpose has to be written so.

use std::io;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    net::TcpStream,
};

/// Longest head and body of a request: many times those of the largest batch.
const MAX_HEAD_BYTES: usize = 64 * 1024;
const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;

/// A connection with a client.
pub(super) type Connection = BufReader<TcpStream>;

/// A request.
pub(super) struct Request {
    /// The head as it came, with the blank line.
    pub(super) head: Vec<u8>,
    pub(super) body: Vec<u8>,
}

impl Request {
    /// Whether it asks for a WebSocket.
    pub(super) fn wants_socket(&self) -> bool {
        header(&self.head, "upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket"))
    }
}

/// The next request; `None` when the client has closed the connection.
pub(super) async fn read(connection: &mut Connection) -> io::Result<Option<Request>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if connection.read(&mut byte).await? == 0 {
            return if head.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
        head.extend_from_slice(&byte);
        if head.len() > MAX_HEAD_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    let length: usize = header(&head, "content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
    if length > MAX_BODY_BYTES {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut body = vec![0; length];
    connection.read_exact(&mut body).await?;
    Ok(Some(Request { head, body }))
}

fn header(head: &[u8], name: &str) -> Option<String> {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned())
}

/// Writes an answer with this status line (`200 OK`) and further header lines, each with its line end.
pub(super) async fn write(connection: &mut Connection, status: &str, headers: &str, body: &[u8]) -> io::Result<()> {
    announce(connection, status, headers, body.len()).await?;
    connection.write_all(body).await?;
    connection.flush().await
}

/// Writes the head of an answer of so many bytes.
pub(super) async fn announce(
    connection: &mut Connection,
    status: &str,
    headers: &str,
    length: usize,
) -> io::Result<()> {
    let head =
        format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n{headers}\r\n");
    connection.write_all(head.as_bytes()).await
}

/// Copies both ways until one side ends.
pub(super) async fn splice(
    mut client: impl AsyncRead + AsyncWrite + Unpin,
    mut upstream: TcpStream,
    head: &[u8],
) -> io::Result<()> {
    upstream.write_all(head).await?;
    tokio::io::copy_bidirectional(&mut client, &mut upstream).await.map(drop)
}
