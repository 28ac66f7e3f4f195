#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on should say so at once")]
//! The client against nodes that answer well, badly, falsely and not at all.

mod heads;
mod http;
mod lies;
mod node;
mod nonsense;
mod server;
mod signatures;
mod spoiled;
mod transfers;
