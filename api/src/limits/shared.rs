//! Counts in Redis, for all processes together: one script, over one connection that all requests share. Requests that
//! come while an answer is awaited go together with the next call, each counted by itself: many at once cost little more
//! than one. Under load one call takes permits for several requests of a bucket (`held.rs`).
//!
//! No request waits for Redis longer than [`ANSWER_WITHIN`], and once one has waited in vain, none waits at all until a
//! task in the background has found Redis well again: counts are then kept elsewhere. The log says when it goes and when
//! it is back. Nothing that Redis says is repeated: it may quote what it was sent.

use std::fmt;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, IntoConnectionInfo, RedisResult, Script};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use super::bucket::{Begins, Bucket, Change, Outcome};
use super::held::{Counted, Held, PART, Taken};

/// How long a request waits for its count. Source: the architecture.
const ANSWER_WITHIN: Duration = Duration::from_millis(250);
/// How long connecting may take, with TLS and the password.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// Pause between attempts to use a Redis that is away.
const RETRY_EVERY: Duration = Duration::from_millis(500);

/// Most requests that one call counts: the script holds Redis up for as long as it runs.
const MOST_AT_ONCE: usize = 128;
/// How often permits that were held for long enough go back.
const GIVE_BACK_EVERY: Duration = Duration::from_millis(500);
/// Requests that wait for the next call before more have to wait for their place.
const MOST_WAITING: usize = 4_096;

static TAKE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("take.lua")));

/// `REDIS_URL` is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is no redis:// or rediss:// URL")]
pub struct LimitsUrlError;

/// The counts. Cheap to clone.
#[derive(Clone)]
pub(super) struct Shared(Arc<Inner>);

struct Inner {
    client: Client,
    prefix: String,
    link: watch::Sender<Link>,
    held: Held,
}

/// What is to be counted, and who is told what came of it.
struct Wish {
    buckets: Vec<Bucket>,
    change: Change,
    /// How many are taken at most, or given back.
    many: u64,
    told: Option<oneshot::Sender<Outcome>>,
}

/// What came of a wish.
struct Answer {
    outcome: Outcome,
    /// How many were taken.
    taken: u64,
    /// How its buckets were left.
    counted: Vec<Counted>,
}

/// The connection, as requests see it.
#[derive(Clone)]
enum Link {
    /// Nobody has asked for it yet.
    Idle,
    /// It is being made for the first time.
    Connecting,
    /// It is well. The number says which it is, so that a late failure does not throw away a newer one.
    Well(mpsc::Sender<Wish>, u64),
    /// Redis is away; somebody tries again.
    Away,
}

impl Shared {
    /// Counts in the Redis at `url`, under `prefix`. Does not connect yet.
    ///
    /// # Errors
    /// If the URL is none; it may hold a password, so the error repeats nothing of it.
    pub(super) fn new(url: &str, prefix: &str) -> Result<Self, LimitsUrlError> {
        let client = url.into_connection_info().and_then(Client::open).map_err(|_| LimitsUrlError)?;
        let (prefix, link) = (format!("{prefix}limit:"), watch::Sender::new(Link::Idle));
        Ok(Self(Arc::new(Inner { client, prefix, link, held: Held::new(Instant::now()) })))
    }

    /// Does this to every bucket, or to none if one has no room; `None` if Redis does not answer in time.
    pub(super) async fn apply(&self, buckets: &[Bucket], change: Change) -> Option<Outcome> {
        let mut many = 1;
        let mut back = None;
        if let (&[bucket], Change::Take) = (buckets, change) {
            match self.0.held.take(bucket, Instant::now(), ANSWER_WITHIN) {
                Taken::Permit(standing) => return Some(Outcome { full: None, standings: vec![standing] }),
                Taken::Ask(permits, others) => (many, back) = (permits, others),
            }
        }
        let (counter, number) = self.counter().await?;
        let (told, outcome) = oneshot::channel();
        let wish = Wish { buckets: buckets.to_vec(), change, many, told: Some(told) };
        let counted = async {
            if let Some(back) = back {
                counter.send(Wish::give_back(back)).await.ok()?;
            }
            counter.send(wish).await.ok().and(outcome.await.ok())
        };
        let counted = timeout(ANSWER_WITHIN, counted).await.ok().flatten();
        if counted.is_none() {
            self.lose(number);
        }
        counted
    }

    /// Counts what requests wish for, until nobody can wish any more or Redis fails: then whoever waits is told nothing.
    async fn count(self, mut connection: MultiplexedConnection, mut wishes: mpsc::Receiver<Wish>) {
        let mut batch = Vec::new();
        let mut turn = tokio::time::interval(GIVE_BACK_EVERY);
        loop {
            tokio::select! {
                came = wishes.recv_many(&mut batch, MOST_AT_ONCE) => if came == 0 { return },
                _ = turn.tick() => {
                    let overdue = self.0.held.overdue(Instant::now());
                    batch.extend(overdue.into_iter().map(Wish::give_back));
                }
            }
            while !batch.is_empty() {
                let now = batch.split_off(batch.len().saturating_sub(MOST_AT_ONCE));
                let asked = timeout(ANSWER_WITHIN, self.ask(&mut connection, &now)).await;
                let Ok(Ok(answers)) = asked else { return };
                for (wish, answer) in now.into_iter().zip(answers) {
                    batch.extend(self.tell(wish, answer));
                }
            }
        }
    }

    /// Tells what came of a wish. Gives what is to be given back because nobody wants it any more.
    fn tell(&self, wish: Wish, answer: Answer) -> Option<Wish> {
        let Answer { outcome, taken, counted } = answer;
        let mut back = None;
        if let (&[bucket], &[counted]) = (&*wish.buckets, &*counted)
            && wish.is_for_several()
        {
            let unwanted = self.0.held.keep(bucket, taken.saturating_sub(1), counted, Instant::now());
            back = (unwanted > 0).then(|| Wish::give_back((bucket, unwanted)));
        }
        // Who has gone meanwhile is counted all the same.
        let _ = wish.told.map(|told| told.send(outcome));
        back
    }

    async fn ask(&self, connection: &mut MultiplexedConnection, wishes: &[Wish]) -> RedisResult<Vec<Answer>> {
        let mut call = TAKE.prepare_invoke();
        call.arg(PART);
        for Wish { buckets, change, many, .. } in wishes {
            let change = match change {
                Change::Take => 1,
                Change::GiveBack => -1,
                Change::Look => 0,
            };
            call.arg(change).arg(*many).arg(buckets.len());
            for bucket in buckets {
                let on_the_dot = u8::from(bucket.window.begins == Begins::OnTheDot);
                call.key(format!("{}{}", self.0.prefix, bucket.key));
                call.arg(bucket.limit).arg(bucket.window.secs).arg(on_the_dot);
            }
        }
        let answer: Vec<u64> = call.invoke_async(connection).await?;
        read(wishes, &answer).ok_or_else(|| std::io::Error::from(std::io::ErrorKind::InvalidData).into())
    }

    /// Who counts, if there is a connection. Only the first one ever is waited for.
    async fn counter(&self) -> Option<(mpsc::Sender<Wish>, u64)> {
        let mut link = match &*self.0.link.borrow() {
            Link::Well(counter, number) => return Some((counter.clone(), *number)),
            Link::Away => return None,
            Link::Idle | Link::Connecting => self.0.link.subscribe(),
        };
        let is_first = self.0.link.send_if_modified(|link| {
            let is_idle = matches!(link, Link::Idle);
            if is_idle {
                *link = Link::Connecting;
            }
            is_idle
        });
        if is_first {
            tokio::spawn(self.clone().connect(0));
        }
        let known = link.wait_for(|link| matches!(link, Link::Well(..) | Link::Away));
        match &*timeout(ANSWER_WITHIN, known).await.ok()?.ok()? {
            Link::Well(counter, number) => Some((counter.clone(), *number)),
            _ => None,
        }
    }

    /// Notes that a connection has failed, and begins to look for a better one.
    fn lose(&self, number: u64) {
        let is_news = self.0.link.send_if_modified(|link| {
            let is_this = matches!(link, Link::Well(_, current) if *current == number);
            if is_this {
                *link = Link::Away;
            }
            is_this
        });
        if is_news {
            tokio::spawn(self.clone().connect(number.wrapping_add(1)));
        }
    }

    /// Tries until Redis is well. A count is part of the trial: a Redis that takes no writes is as good as none.
    async fn connect(self, number: u64) {
        let began = Instant::now();
        let mut is_said = false;
        loop {
            if let Some(connection) = self.attempt().await {
                if is_said || number > 0 {
                    let away_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
                    tracing::info!(away_ms, "Redis counts requests again");
                }
                let (counter, wishes) = mpsc::channel(MOST_WAITING);
                tokio::spawn(self.clone().count(connection, wishes));
                self.0.link.send_replace(Link::Well(counter, number));
                return;
            }
            self.0.link.send_replace(Link::Away);
            if !is_said {
                is_said = true;
                tracing::warn!("Redis cannot count requests: each process holds the limits by itself until it is back");
            }
            tokio::time::sleep(RETRY_EVERY).await;
        }
    }

    async fn attempt(&self) -> Option<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_WITHIN))
            .set_response_timeout(Some(CONNECT_WITHIN));
        let connecting = self.0.client.get_multiplexed_async_connection_with_config(&config);
        let mut connection = timeout(CONNECT_WITHIN, connecting).await.ok()?.ok()?;
        timeout(CONNECT_WITHIN, TAKE.prepare_invoke().load_async(&mut connection)).await.ok()?.ok()?;
        let trial = Wish { buckets: vec![Bucket::TRIAL], change: Change::Take, many: 1, told: None };
        timeout(ANSWER_WITHIN, self.ask(&mut connection, &[trial])).await.ok()?.ok()?;
        Some(connection)
    }
}

impl Wish {
    /// Whether permits are wanted for requests to come, too.
    fn is_for_several(&self) -> bool {
        self.change == Change::Take && self.many > 1
    }

    /// Permits that go back; nobody waits for it.
    fn give_back((bucket, many): (Bucket, u64)) -> Self {
        Self { buckets: vec![bucket], change: Change::GiveBack, many, told: None }
    }
}

/// Understands the script's answer.
fn read(wishes: &[Wish], answer: &[u64]) -> Option<Vec<Answer>> {
    let (&now, mut rest) = answer.split_first()?;
    let mut answers = Vec::new();
    for wish in wishes {
        let (&[full, taken], counts) = rest.split_first_chunk()?;
        let (counts, others) = counts.split_at_checked(wish.buckets.len().saturating_mul(2))?;
        rest = others;
        let counted: Vec<Counted> =
            counts.as_chunks().0.iter().map(|&[used, ends_at]| Counted { used, ends_at, now }).collect();
        // Permits for others are none that this request has used.
        let others = taken.saturating_sub(1);
        let standing = |(bucket, counted): (&Bucket, &Counted)| {
            bucket.standing(counted.used.saturating_sub(others), counted.ends_at, now)
        };
        let standings = wish.buckets.iter().zip(&counted).map(standing).collect();
        let full = usize::try_from(full).ok()?.checked_sub(1);
        answers.push(Answer { outcome: Outcome { full, standings }, taken, counted });
    }
    rest.is_empty().then_some(answers)
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("prefix", &self.0.prefix).finish_non_exhaustive()
    }
}
