//! What happens by the clock. Each timer looks at the database and does what is missing, so that a lost nudge, a restart
//! or a second process costs nothing but a moment.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use cryptopay_entity::transact;
use cryptopay_entity::webhook_delivery::Clocks;
use cryptopay_entity::{
    chain_cursor, clock, event, failed_login, idempotency_key, receiving_address, refresh_token, timer_lease,
    webhook_delivery,
};
use cryptopay_ledger::{DeliveryKey, LedgerError, Occasion};
use sea_orm::{ColumnTrait, DbErr, EntityTrait, QueryFilter};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::confirm_payments;
use crate::context::{ChainAccess, Context};
use crate::supervise::keep_running;

/// How often the sweep looks for work that nobody was told about.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// How often deadlines are compared with the verified blocks.
const EXPIRE_EVERY: Duration = Duration::from_secs(1);
/// How long events wait for a number at most when nobody says that there are some.
const PUBLISH_EVERY: Duration = Duration::from_secs(1);
/// How often what nobody needs any more is removed.
const PURGE_EVERY: Duration = Duration::from_secs(3600);
/// How long that may take.
const PURGE_WITHIN: Duration = Duration::from_secs(600);
/// How often the log says that a timer still fails.
const SAY_EVERY: Duration = Duration::from_secs(30);
/// Endpoints that one sweep wakes.
const SWEEP_ENDPOINTS: u64 = 1_000;
/// How long a refresh token is kept after it has expired, so that its reuse is noticed.
const EXPIRED_TOKENS_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);
/// A timer's lease: longer than its period, so that its holder keeps it. Renewed when half of it is over.
const LEASE: Duration = Duration::from_secs(3);
/// After how long without a look a chain is overdue on which something is watched, and any chain. Where processes share
/// their queue: the next look may have died with the process that meant to ask for it.
const WATCHED_IS_OVERDUE: Duration = Duration::from_secs(4);
const IDLE_IS_OVERDUE: Duration = Duration::from_secs(15);
/// How often it is looked whether something is deep enough and not confirmed. Found so twice, it is done.
const CONFIRM_AGAIN: Duration = Duration::from_secs(4);
/// How often a chain is looked at by a process that does everything, should it have lost the time of the next look.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// Runs every timer until `stop`, each for itself: one that breaks off is started again, and stops no other.
pub(crate) async fn run(context: Arc<Context>, stop: CancellationToken) {
    let context = context.as_ref();
    let sweep = || async {
        let mut ticks = ticking(SWEEP_EVERY);
        let (mut sweep, mut health) = (Sweep::default(), Health::of("sweep"));
        loop {
            ticks.tick().await;
            health.note(context.deadlines.step(sweep.run(context)).await);
        }
    };
    let expire = || async {
        let mut ticks = ticking(EXPIRE_EVERY);
        let (mut lease, mut health) = (Lease::of("expire_orders"), Health::of("expire_orders"));
        loop {
            ticks.tick().await;
            health.note(expire_orders(context, &mut lease).await);
        }
    };
    let publish = || async {
        let mut health = Health::of("publish_events");
        loop {
            // A lost nudge is a second's delay.
            let _ = timeout(PUBLISH_EVERY, context.queue.unpublished.notified()).await;
            health.note(publish_events(context).await);
        }
    };
    let purge = || async {
        let mut ticks = ticking(PURGE_EVERY);
        let (mut lease, mut health) = (Lease::of("purge"), Health::of("purge"));
        loop {
            ticks.tick().await;
            let purged = timeout(PURGE_WITHIN, purge(context, &mut lease)).await;
            // Statements over whole tables, so there is no telling which of them hangs; the next hour tries again.
            health.note(purged.unwrap_or_else(|_| Err(DbErr::Custom("it took too long".to_owned()).into())));
        }
    };
    tokio::join!(
        keep_running("sweep", stop.clone(), sweep),
        keep_running("expire_orders", stop.clone(), expire),
        keep_running("publish_events", stop.clone(), publish),
        keep_running("purge", stop, purge),
    );
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

/// How a timer fares, for the log: when it begins to fail, now and then while it does, and when it works again.
struct Health {
    timer: &'static str,
    failing_since: Option<Instant>,
    said_at: Option<Instant>,
}

impl Health {
    fn of(timer: &'static str) -> Self {
        Self { timer, failing_since: None, said_at: None }
    }

    fn note<E: std::fmt::Display>(&mut self, outcome: Result<(), E>) {
        let now = Instant::now();
        match outcome {
            Ok(()) => {
                if let Some(since) = self.failing_since.take() {
                    self.said_at = None;
                    let failed_ms = u64::try_from(now.duration_since(since).as_millis()).unwrap_or(u64::MAX);
                    tracing::info!(timer = self.timer, failed_ms, "the timer works again");
                }
            }
            Err(error) => {
                crate::metrics::timer_failed(self.timer);
                self.failing_since.get_or_insert(now);
                if self.said_at.is_none_or(|said_at| now.duration_since(said_at) >= SAY_EVERY) {
                    self.said_at = Some(now);
                    tracing::warn!(timer = self.timer, %error, "a timer failed; it runs again");
                }
            }
        }
    }
}

/// Wakes chains and endpoints that are due and that nobody is working on.
struct Sweep {
    lease: Lease,
    /// The last queue of deliveries that was woken. The next sweep goes on behind it, so that a thousand queues which stay
    /// due, whyever they do, keep no other from its turn.
    last: Option<DeliveryKey>,
    /// When it was last looked what is deep enough, and on which chains something was.
    confirmed_at: Option<Instant>,
    unconfirmed: BTreeSet<String>,
}

impl Default for Sweep {
    fn default() -> Self {
        Self { lease: Lease::of("sweep"), last: None, confirmed_at: None, unconfirmed: BTreeSet::new() }
    }
}

impl Sweep {
    async fn run(&mut self, context: &Context) -> Result<(), LedgerError> {
        let is_shared = context.queue.redis().is_some();
        if is_shared && !self.lease.hold(context).await? {
            return Ok(());
        }
        let due = due_queues(context, self.last.as_ref()).await?;
        let is_all = u64::try_from(due.len()).unwrap_or(u64::MAX) < SWEEP_ENDPOINTS;
        self.last = due.last().filter(|_| !is_all).cloned();
        for key in due {
            context.queue.deliveries.push(key);
        }
        self.sweep_confirmations(context).await?;
        if is_shared {
            return Ok(sweep_chains(context).await?);
        }
        for chain in context.chains.keys() {
            // A chain that waits for its next block keeps its time: the earlier of the two counts, and this is late.
            context.queue.scan_after(chain, LOOK_AGAIN);
        }
        Ok(())
    }
}

impl Sweep {
    /// Wakes the confirmations of chains where something has been deep enough for a while: whoever should have confirmed it
    /// has failed, or was never told. One that has only just become so is left to the scan that has made it so.
    async fn sweep_confirmations(&mut self, context: &Context) -> Result<(), LedgerError> {
        if self.confirmed_at.is_some_and(|at| at.elapsed() < CONFIRM_AGAIN) {
            return Ok(());
        }
        self.confirmed_at = Some(Instant::now());
        let mut waiting = BTreeSet::new();
        // As with looks: what this process cannot read, another may.
        for chain in context.registry.chains() {
            if confirm_payments::is_due(context, chain).await? {
                waiting.insert(chain.slug.clone());
            }
        }
        for chain in self.unconfirmed.intersection(&waiting) {
            context.queue.confirmations.push(chain.clone());
        }
        self.unconfirmed = waiting;
        Ok(())
    }
}

/// Wakes chains that somebody should have looked at by now, also those that this process cannot read and others may.
async fn sweep_chains(context: &Context) -> Result<(), DbErr> {
    let cursors = chain_cursor::Entity::list(&context.database).await?;
    let now = clock::database_now(&context.database).await?;
    for chain in context.registry.chains().iter().map(|chain| &chain.slug) {
        let cursor = cursors.iter().find(|cursor| cursor.chain == *chain);
        if cursor.is_none() && !context.chains.contains_key(chain) {
            // Perhaps nobody reads it.
            continue;
        }
        let unseen = cursor.map_or(Duration::MAX, |cursor| now.since(cursor.last_look(now)));
        let is_overdue = cursor.is_some_and(|cursor| cursor.is_abandoned(now))
            || unseen >= IDLE_IS_OVERDUE
            || unseen >= WATCHED_IS_OVERDUE
                && receiving_address::Entity::is_any_watched(&context.database, chain).await?;
        if is_overdue {
            context.queue.scan(chain);
        }
    }
    Ok(())
}

/// Queues with a due delivery that nobody is sending, behind `after` in the order of their keys.
pub(crate) async fn due_queues(context: &Context, after: Option<&DeliveryKey>) -> Result<Vec<DeliveryKey>, DbErr> {
    let clocks = Clocks {
        business: clock::business_now(&context.database).await?,
        database: clock::database_now(&context.database).await?,
    };
    let after = after.map(|key| webhook_delivery::Queue { endpoint: key.endpoint, origin: &key.origin });
    let due = webhook_delivery::Entity::due_queues(&context.database, clocks, after, SWEEP_ENDPOINTS).await?;
    Ok(due.into_iter().map(|(endpoint, origin)| DeliveryKey { endpoint, origin }).collect())
}

/// Closes orders and releases amounts, chain by chain, by verified block time.
async fn expire_orders(context: &Context, lease: &mut Lease) -> Result<(), LedgerError> {
    // Looked at first: a lease that is renewed every second is a write every second, for nothing mostly.
    let holds_if_due = async {
        for access in context.chains.values() {
            if cryptopay_ledger::deadlines_due(&context.database, &access.chain).await? {
                return Ok::<_, LedgerError>(lease.hold(context).await?);
            }
        }
        Ok(false)
    };
    if context.deadlines.step(holds_if_due).await? { pass_deadlines(context).await } else { Ok(()) }
}

/// The work of `expire_orders`, which is safe to do twice at once: the cursor's row is locked.
pub(crate) async fn pass_deadlines(context: &Context) -> Result<(), LedgerError> {
    for access in context.chains.values() {
        // However many orders have reached theirs, each step is a transaction of its own.
        while context.deadlines.step(pass_some_deadlines(context, access)).await? {}
    }
    Ok(())
}

/// Whether there may be more.
async fn pass_some_deadlines(context: &Context, access: &ChainAccess) -> Result<bool, LedgerError> {
    if !cryptopay_ledger::deadlines_due(&context.database, &access.chain).await? {
        return Ok(false);
    }
    let cause = format!("a block after the deadline was verified on {}", access.chain.slug);
    let passed = transact!(&context.database, |txn| {
        let now = clock::business_now(txn).await?;
        let occasion = Occasion { registry: &context.registry, cause: &cause, now };
        cryptopay_ledger::pass_deadlines(txn, occasion, &access.chain).await
    })?;
    context.queue.nudge(passed.nudges);
    Ok(passed.more)
}

/// Numbers committed events and tells the bus.
pub(crate) async fn publish_events(context: &Context) -> Result<(), DbErr> {
    while let Some(last) = context.deadlines.step(event::Entity::publish(&context.database)).await? {
        context.events.publish(last);
    }
    Ok(())
}

/// Removes what nobody needs any more.
async fn purge(context: &Context, lease: &mut Lease) -> Result<(), LedgerError> {
    if !lease.hold(context).await? {
        return Ok(());
    }
    let now = clock::database_now(&context.database).await?;
    idempotency_key::Entity::delete_many()
        .filter(idempotency_key::Column::CreatedAt.lt(now.minus(idempotency_key::KEPT_FOR)))
        .exec(&context.database)
        .await?;
    refresh_token::Entity::delete_many()
        .filter(refresh_token::Column::ExpiresAt.lt(now.minus(EXPIRED_TOKENS_KEPT)))
        .exec(&context.database)
        .await?;
    failed_login::Entity::purge(&context.database, now).await?;
    for access in context.chains.values() {
        transact!(&context.database, |txn| {
            let now = clock::business_now(txn).await?;
            cryptopay_ledger::release_addresses(txn, &access.chain, now).await
        })?;
    }
    Ok(())
}

/// A timer's lease, as its holder remembers it.
struct Lease {
    timer: &'static str,
    /// Until then it is ours without asking.
    sure_until: Option<Instant>,
}

impl Lease {
    fn of(timer: &'static str) -> Self {
        Self { timer, sure_until: None }
    }

    /// Whether this process runs the timer: takes the lease, or renews it when half of it is over.
    async fn hold(&mut self, context: &Context) -> Result<bool, DbErr> {
        let asked = Instant::now();
        if self.sure_until.is_some_and(|sure_until| sure_until > asked) {
            return Ok(true);
        }
        self.sure_until = None;
        let now = clock::database_now(&context.database).await?;
        let holds =
            timer_lease::Entity::take(&context.database, self.timer, &context.owner, now, now.plus(LEASE)).await?;
        self.sure_until = holds.then(|| asked + LEASE / 2);
        Ok(holds)
    }
}
