//! The tests of the tests' own tools, and of the rules between the crates of this workspace.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on should say so at once")]

mod anvil;
mod fault_proxy;
mod layers;
mod test_database;
mod webhook_receiver;
