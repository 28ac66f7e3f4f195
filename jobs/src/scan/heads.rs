//! Wakes scans when a WebSocket tells of a new head. Nothing that it says is believed: a socket that is dead or lies costs
//! a moment, because chains are looked at by the clock as well.

use std::time::Duration;

use cryptopay_chain::Heads;
use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;

use crate::context::Context;

/// Shortest and longest pause before the next attempt to connect.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// Listens to every socket of every chain until `stop`.
pub(crate) async fn run(context: &Context, stop: &CancellationToken) {
    let sockets = context.chains.iter().flat_map(|(slug, access)| access.heads.iter().map(move |heads| (slug, heads)));
    join_all(sockets.map(|(slug, heads)| listen(context, slug, heads))).await;
    // Where there is none, nothing has ended.
    stop.cancelled().await;
}

async fn listen(context: &Context, slug: &str, heads: &Heads) {
    let mut pause = PAUSE.0;
    loop {
        let ended = heads
            .listen(|| {
                // A chain on which nothing is watched is left to the clock, or every block would cost a look.
                if context.chains.get(slug).is_some_and(|access| access.state.was_watched()) {
                    context.queue.scan(slug);
                }
            })
            .await;
        pause = if ended.worked { PAUSE.0 } else { pause.saturating_mul(2).min(PAUSE.1) };
        let (endpoint, reason) = (heads.name(), ended.reason);
        tracing::warn!(chain = slug, endpoint, reason, "no new heads over the socket; it is connected again");
        tokio::time::sleep(pause).await;
    }
}
