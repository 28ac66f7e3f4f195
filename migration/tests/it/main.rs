//! The schema on both databases.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say so at once")]

mod schema;
