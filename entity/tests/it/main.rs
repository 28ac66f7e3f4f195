//! On real databases: every page of a list once, and by an index however deep; what a new order depends on.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should say so at once")]

mod errors;
mod pages;
mod plans;
mod preconditions;
mod rows;
