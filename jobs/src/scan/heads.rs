//! Wakes scans when a WebSocket tells of a new head. Nothing that it says is believed: a socket that is dead or lies costs
//! a moment, because chains are looked at by the clock as well.

use std::sync::Arc;
use std::time::Duration;

use cryptopay_chain::Heads;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::context::Context;

/// Shortest and longest pause before the next attempt to connect.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// Listens to every socket of every chain until `stop`.
pub(crate) async fn run(context: Arc<Context>, stop: CancellationToken) {
    let tracker = TaskTracker::new();
    for (slug, access) in &context.chains {
        for heads in &access.heads {
            let (context, slug, heads) = (context.clone(), slug.clone(), heads.clone());
            let stopped = stop.clone();
            tracker.spawn(async move {
                tokio::select! {
                    () = stopped.cancelled() => {}
                    () = listen(&context, &slug, &heads) => {}
                }
            });
        }
    }
    tracker.close();
    tracker.wait().await;
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
