//! The variables that tests read. `scripts/test` sets them; a plain `cargo test` does without.
#![expect(clippy::disallowed_methods, reason = "this is the config.rs of the tests")]

use std::env;

/// Names a PostgreSQL server that may be filled with databases: the address of its administrative database.
const POSTGRES: &str = "CRYPTOPAY_TEST_POSTGRES";
/// Names a Redis that may be filled with keys.
const REDIS: &str = "CRYPTOPAY_TEST_REDIS";
/// Asks for the tests that take minutes.
const LONG: &str = "CRYPTOPAY_TEST_LONG";

/// The PostgreSQL server that `scripts/test` started, if it did.
pub(crate) fn postgres_admin_url() -> Option<String> {
    env::var(POSTGRES).ok().filter(|url| !url.is_empty())
}

/// The Redis that `scripts/test` started, if it did.
pub(crate) fn redis_url() -> Option<String> {
    env::var(REDIS).ok().filter(|url| !url.is_empty())
}

/// Whether the tests that take minutes are wanted: `scripts/test --long` says so by `CRYPTOPAY_TEST_LONG=1`.
#[must_use]
pub fn long_tests_wanted() -> bool {
    env::var(LONG).is_ok_and(|value| value == "1")
}
