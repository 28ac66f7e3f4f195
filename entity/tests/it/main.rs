//! Lists on real databases: every page once, and by an index however deep.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should say so at once")]

mod pages;
mod plans;
mod rows;
