//! What waits for the client to read.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::Sink;
use poem::web::websocket::{Message, WebSocketStream};
use tokio::time::Instant;

use super::Limits;

/// A queue in front of a socket, which itself holds one message at most.
#[derive(Default)]
pub(super) struct Outbox {
    queue: VecDeque<Message>,
    bytes: usize,
    unflushed: bool,
    blocked_since: Option<Instant>,
}

impl Outbox {
    /// Adds a message. The caller asks [`Self::is_full`] before it makes more of them.
    pub(super) fn push(&mut self, message: Message) {
        self.bytes = self.bytes.saturating_add(message.as_bytes().len());
        self.queue.push_back(message);
    }

    /// Whether the client has to read before more may be made.
    pub(super) fn is_full(&self, limits: &Limits) -> bool {
        self.queue.len() >= limits.queued_messages || self.bytes >= limits.queued_bytes
    }

    /// Since when the socket has taken nothing although something waits.
    pub(super) fn blocked_since(&self) -> Option<Instant> {
        self.blocked_since
    }

    /// Hands over as much as the socket takes. Ready only when it failed.
    pub(super) fn poll_send(&mut self, socket: &mut WebSocketStream, cx: &mut Context<'_>) -> Poll<io::Error> {
        match self.poll_empty(socket, cx) {
            Poll::Ready(Ok(())) => self.blocked_since = None,
            Poll::Ready(Err(error)) => return Poll::Ready(error),
            Poll::Pending => {
                self.blocked_since.get_or_insert_with(Instant::now);
            }
        }
        Poll::Pending
    }

    fn poll_empty(&mut self, socket: &mut WebSocketStream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut socket = Pin::new(socket);
        while !self.queue.is_empty() {
            std::task::ready!(socket.as_mut().poll_ready(cx))?;
            let Some(message) = self.queue.pop_front() else { break };
            self.bytes = self.bytes.saturating_sub(message.as_bytes().len());
            self.blocked_since = None;
            self.unflushed = true;
            socket.as_mut().start_send(message)?;
        }
        if self.unflushed {
            std::task::ready!(socket.poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}
