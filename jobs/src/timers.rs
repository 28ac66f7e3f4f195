//! What happens by the clock. Each timer looks at the database and does what is missing, so that a lost nudge, a restart
//! or a second process costs nothing but a moment.

use std::sync::Arc;
use std::time::Duration;

use cryptopay_entity::transact;
use cryptopay_entity::webhook_delivery::Clocks;
use cryptopay_entity::{clock, event, idempotency_key, refresh_token, timer_lease, webhook_delivery};
use cryptopay_ledger::{DeliveryKey, LedgerError, Occasion};
use sea_orm::{ColumnTrait, DbErr, EntityTrait, QueryFilter};
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::context::Context;

/// How often the sweep looks for work that nobody was told about.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// How often deadlines are compared with the verified blocks.
const EXPIRE_EVERY: Duration = Duration::from_secs(1);
/// How long events wait for a number at most when nobody says that there are some.
const PUBLISH_EVERY: Duration = Duration::from_secs(1);
/// How often what nobody needs any more is removed.
const PURGE_EVERY: Duration = Duration::from_secs(3600);
/// Endpoints that one sweep wakes.
const SWEEP_ENDPOINTS: u64 = 1_000;
/// How long a stored answer is kept for its idempotency key.
const IDEMPOTENCY_KEPT: Duration = Duration::from_secs(24 * 3600);
/// How long a refresh token is kept after it has expired, so that its reuse is noticed.
const EXPIRED_TOKENS_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);
/// A timer's lease: longer than its period, so that its holder keeps it.
const LEASE: Duration = Duration::from_secs(3);

/// Runs every timer until `stop`.
pub(crate) async fn run(context: Arc<Context>, stop: CancellationToken) {
    let sweep = async {
        let mut ticks = ticking(SWEEP_EVERY);
        loop {
            ticks.tick().await;
            report("sweep", sweep(&context).await);
        }
    };
    let expire = async {
        let mut ticks = ticking(EXPIRE_EVERY);
        loop {
            ticks.tick().await;
            report("expire_orders", expire_orders(&context).await);
        }
    };
    let publish = async {
        loop {
            // A lost nudge is a second's delay.
            let _ = timeout(PUBLISH_EVERY, context.queue.unpublished.notified()).await;
            report("publish_events", publish_events(&context).await);
        }
    };
    let purge = async {
        let mut ticks = ticking(PURGE_EVERY);
        loop {
            ticks.tick().await;
            report("purge", purge(&context).await);
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = sweep => {}
        () = expire => {}
        () = publish => {}
        () = purge => {}
    }
}

fn ticking(every: Duration) -> Interval {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

pub(crate) fn report<E: std::fmt::Display>(timer: &'static str, outcome: Result<(), E>) {
    if let Err(error) = outcome {
        crate::metrics::timer_failed(timer);
        tracing::warn!(timer, %error, "a timer failed; it runs again");
    }
}

/// Wakes chains and endpoints that are due and that nobody is working on.
async fn sweep(context: &Context) -> Result<(), DbErr> {
    for key in due_queues(context).await? {
        context.queue.deliveries.push(key);
    }
    for chain in context.chains.keys() {
        // A chain that waits for its next block keeps its time: the earlier of the two counts, and this is late.
        context.queue.scan_after(chain, Duration::from_secs(10));
    }
    Ok(())
}

/// Queues with a due delivery that nobody is sending.
pub(crate) async fn due_queues(context: &Context) -> Result<Vec<DeliveryKey>, DbErr> {
    let clocks = Clocks {
        business: clock::business_now(&context.database).await?,
        database: clock::database_now(&context.database).await?,
    };
    let due = webhook_delivery::Entity::due_queues(&context.database, clocks, SWEEP_ENDPOINTS).await?;
    Ok(due.into_iter().map(|(endpoint, origin)| DeliveryKey { endpoint, origin }).collect())
}

/// Closes orders and releases amounts, chain by chain, by verified block time.
async fn expire_orders(context: &Context) -> Result<(), LedgerError> {
    if holds(context, "expire_orders").await? { pass_deadlines(context).await } else { Ok(()) }
}

/// The work of `expire_orders`, which is safe to do twice at once: the cursor's row is locked.
pub(crate) async fn pass_deadlines(context: &Context) -> Result<(), LedgerError> {
    for access in context.chains.values() {
        let cause = format!("a block after the deadline was verified on {}", access.chain.slug);
        loop {
            if !cryptopay_ledger::deadlines_due(&context.database, &access.chain).await? {
                break;
            }
            let passed = transact!(&context.database, |txn| {
                let now = clock::business_now(txn).await?;
                let occasion = Occasion { registry: &context.registry, cause: &cause, now };
                cryptopay_ledger::pass_deadlines(txn, occasion, &access.chain).await
            })?;
            context.queue.nudge(passed.nudges);
            if !passed.more {
                break;
            }
        }
    }
    Ok(())
}

/// Numbers committed events and tells the bus.
pub(crate) async fn publish_events(context: &Context) -> Result<(), DbErr> {
    while let Some(last) = event::Entity::publish(&context.database).await? {
        context.events.publish(last);
    }
    Ok(())
}

/// Removes what nobody needs any more.
async fn purge(context: &Context) -> Result<(), LedgerError> {
    if !holds(context, "purge").await? {
        return Ok(());
    }
    let now = clock::database_now(&context.database).await?;
    idempotency_key::Entity::delete_many()
        .filter(idempotency_key::Column::CreatedAt.lt(now.minus(IDEMPOTENCY_KEPT)))
        .exec(&context.database)
        .await?;
    refresh_token::Entity::delete_many()
        .filter(refresh_token::Column::ExpiresAt.lt(now.minus(EXPIRED_TOKENS_KEPT)))
        .exec(&context.database)
        .await?;
    for access in context.chains.values() {
        transact!(&context.database, |txn| {
            let now = clock::business_now(txn).await?;
            cryptopay_ledger::release_addresses(txn, &access.chain, now).await
        })?;
    }
    Ok(())
}

async fn holds(context: &Context, timer: &str) -> Result<bool, DbErr> {
    let now = clock::database_now(&context.database).await?;
    timer_lease::Entity::take(&context.database, timer, &context.owner, now, now.plus(LEASE)).await
}
