//! What the tests meet the binary with: a process to start and end, an HTTP client, a subscription, a shop.

mod client;
mod journal;
mod process;
mod shop;
mod subscription;

use std::time::Duration;

use tokio::time::{Instant, interval, timeout};

pub(crate) use client::{Answer, Client, is_stamp, raw};
pub(crate) use journal::{
    assert_no_gaps, assert_repeats_are_the_same, id_of, is_signed, once_all_told, once_told, told,
};
pub(crate) use process::{Ended, Installation, Process};
pub(crate) use shop::{Shop, WALLET, text};
pub(crate) use subscription::Subscription;

/// How long anything may take before a test says that it does not happen: far longer than a loaded machine takes.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// Asks again and again until there is an answer. Only for what tells nobody when it happens: whether a process is
/// ready, and states that only a `GET` shows.
pub(crate) async fn eventually<T>(what: &str, ask: impl AsyncFnMut() -> Option<T>) -> T {
    eventually_within(LIMIT, what, ask).await
}

/// The same with another patience, for what a fault holds up.
pub(crate) async fn eventually_within<T>(limit: Duration, what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asked_until = Instant::now() + limit;
    let mut pause = interval(Duration::from_millis(25));
    while Instant::now() < asked_until {
        pause.tick().await;
        if let Some(answer) = ask().await {
            return answer;
        }
    }
    panic!("not within {limit:?}: {what}");
}

/// What comes of something, or a panic when it takes too long.
pub(crate) async fn within<T>(limit: Duration, what: &str, something: impl Future<Output = T>) -> T {
    timeout(limit, something).await.unwrap_or_else(|_| panic!("not within {limit:?}: {what}"))
}
