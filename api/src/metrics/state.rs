//! What the database says when somebody asks: how far each chain is, what waits. Read at most once a second however many
//! ask, by look-ups in indexes, within a second; what could not be read is left out, so that nothing old passes for new.

use std::sync::Arc;
use std::time::Duration;

use cryptopay_domain::time::Timestamp;
use cryptopay_entity::webhook_delivery::{Backlog, Clocks};
use cryptopay_entity::{chain_cursor, clock, event, event_counter, webhook_delivery};
use metrics::{Unit, gauge, with_local_recorder, with_recorder};
use metrics_exporter_prometheus::PrometheusHandle;
use sea_orm::{DatabaseConnection, DbErr};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::number;
use super::process::Usage;
use crate::app::App;

const DATABASE_UP: &str = "cryptopay_database_up";
const HEAD: &str = "cryptopay_chain_head_height";
const VERIFIED: &str = "cryptopay_chain_verified_height";
const LAG_BLOCKS: &str = "cryptopay_chain_lag_blocks";
const LAG_SECONDS: &str = "cryptopay_chain_lag_seconds";
const HEALTHY: &str = "cryptopay_chain_healthy";
const FROZEN: &str = "cryptopay_chain_frozen";
const SEQUENCE: &str = "cryptopay_event_sequence";
const UNNUMBERED: &str = "cryptopay_event_oldest_unnumbered_seconds";
const DELIVERIES: &str = "cryptopay_webhook_deliveries";
const OLDEST_DUE: &str = "cryptopay_webhook_oldest_due_seconds";

/// How long an answer is good for.
const KEPT: Duration = Duration::from_secs(1);
/// Longest wait for the database.
const LIMIT: Duration = Duration::from_secs(1);
/// Waiting deliveries that are looked at; more are not counted.
const MOST_DELIVERIES: u32 = 10_000;

const GAUGES: [(&str, Unit, &str); 11] = [
    (DATABASE_UP, Unit::Count, "1 if the database answered within a second, else 0; what it knows is left out then."),
    (HEAD, Unit::Count, "Newest block that an endpoint of the chain has shown."),
    (VERIFIED, Unit::Count, "Newest block that is verified and scanned."),
    (LAG_BLOCKS, Unit::Count, "Blocks between the two."),
    (LAG_SECONDS, Unit::Seconds, "Age of the newest verified block."),
    (HEALTHY, Unit::Count, "1 while the last look at the chain went well, else 0."),
    (FROZEN, Unit::Count, "1 while nothing of the chain is credited after a reorganisation deeper than the window."),
    (SEQUENCE, Unit::Count, "Number of the newest event."),
    (UNNUMBERED, Unit::Seconds, "Age of the oldest event that has no number yet; 0 if all have one."),
    (DELIVERIES, Unit::Count, "Webhook deliveries that wait (at most 10,000 are counted): due, held or waiting."),
    (OLDEST_DUE, Unit::Seconds, "How long the oldest delivery that could go out has waited; 0 if there is none."),
];

pub(super) fn describe() {
    with_recorder(|recorder| {
        for (name, unit, words) in GAUGES {
            recorder.describe_gauge(name.into(), Some(unit), words.into());
        }
    });
}

/// Answers for `/metrics`, each kept for a second. Cheap to clone.
#[derive(Clone)]
pub(crate) struct State(Arc<Mutex<Option<Answer>>>);

/// What was told last, and when.
type Answer = (Instant, Arc<str>);

impl State {
    /// Nothing read yet.
    pub(crate) fn new() -> Self {
        Self(Arc::default())
    }

    /// Everything that is known, in Prometheus' text form.
    pub(crate) async fn render(&self, app: &App, recorder: &PrometheusHandle) -> Arc<str> {
        // Held while reading: who asks meanwhile gets the same answer.
        let mut kept = self.0.lock().await;
        if let Some((_, text)) = kept.as_ref().filter(|(read_at, _)| read_at.elapsed() < KEPT) {
            return text.clone();
        }
        let facts = timeout(LIMIT, Facts::read(app.database())).await;
        let facts = match facts {
            Ok(Ok(facts)) => Some(facts),
            Ok(Err(error)) => {
                tracing::debug!(%error, "the database did not say how it is");
                None
            }
            Err(_) => None,
        };
        app.context.measure_queues().await;
        let mut text = recorder.render();
        text.push_str(&describe_now(facts.as_ref(), app));
        let text: Arc<str> = text.into();
        *kept = Some((Instant::now(), text.clone()));
        text
    }
}

/// Rendered by a recorder of its own, which forgets: a chain that is not there any more leaves no line behind.
fn describe_now(facts: Option<&Facts>, app: &App) -> String {
    let Ok(builder) = super::builder() else { return String::new() };
    let recorder = builder.build_recorder();
    let usage = Usage::now();
    with_local_recorder(&recorder, || {
        super::process::describe();
        describe();
        usage.record();
        gauge!(DATABASE_UP).set(if facts.is_some() { 1.0 } else { 0.0 });
        if let Some(facts) = facts {
            facts.record(app);
        }
    });
    recorder.handle().render()
}

struct Facts {
    clocks: Clocks,
    cursors: Vec<chain_cursor::Model>,
    sequence: i64,
    oldest_unnumbered: Option<Timestamp>,
    backlog: Backlog,
}

impl Facts {
    async fn read(database: &DatabaseConnection) -> Result<Self, DbErr> {
        let clocks =
            Clocks { business: clock::business_now(database).await?, database: clock::database_now(database).await? };
        Ok(Self {
            clocks,
            cursors: chain_cursor::Entity::list(database).await?,
            sequence: event_counter::Entity::peek(database).await?,
            oldest_unnumbered: event::Entity::oldest_unnumbered(database).await?,
            backlog: webhook_delivery::Entity::backlog(database, clocks, MOST_DELIVERIES).await?,
        })
    }

    fn record(&self, app: &App) {
        let now = self.clocks.business;
        let age = |since: Option<Timestamp>| since.map_or(0.0, |since| now.since(since).as_secs_f64());
        // Others may share the database, and chains leave the registry.
        for cursor in self.cursors.iter().filter(|cursor| app.chain(&cursor.chain).is_some()) {
            let labels = [("chain", cursor.chain.clone())];
            let behind = cursor.head_height.saturating_sub(cursor.height).max(0);
            gauge!(HEAD, &labels).set(number(cursor.head_height));
            gauge!(VERIFIED, &labels).set(number(cursor.height));
            gauge!(LAG_BLOCKS, &labels).set(number(behind));
            gauge!(LAG_SECONDS, &labels).set(age(Some(cursor.block_time)));
            gauge!(HEALTHY, &labels).set(flag(cursor.health == "ok"));
            gauge!(FROZEN, &labels).set(flag(cursor.health == "frozen"));
        }
        gauge!(SEQUENCE).set(number(self.sequence));
        gauge!(UNNUMBERED).set(age(self.oldest_unnumbered));
        gauge!(DELIVERIES, "state" => "due").set(number(self.backlog.due));
        gauge!(DELIVERIES, "state" => "held").set(number(self.backlog.held));
        gauge!(DELIVERIES, "state" => "waiting").set(number(self.backlog.waiting));
        gauge!(OLDEST_DUE).set(age(self.backlog.oldest_due));
    }
}

fn flag(holds: bool) -> f64 {
    if holds { 1.0 } else { 0.0 }
}
