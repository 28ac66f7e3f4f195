//! Redis' side of the bus: what one process tells all others, over one channel.
//!
//! Three messages: *something was committed* (somebody should number the events), *events up to N are numbered* (look for
//! them), *a job was queued*. Every one may be lost: each of those who listen also looks by itself, a second later at most.
//! So a listener that has been away only has to look once; nothing is repeated to it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use futures_util::StreamExt;
use redis::{AsyncCommands, RedisResult};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::context::Context;
use crate::queue::{Redis, RedisProblem};

/// How long telling may take.
const TELL_WITHIN: Duration = Duration::from_millis(250);
/// How often a process says something for its own ears, and how long its ears may hear nothing: a connection whose other
/// end has vanished without a word is found by that.
const HELLO_EVERY: Duration = Duration::from_secs(3);
const SILENCE: Duration = Duration::from_secs(10);
/// Pause before listening again.
const RETRY_EVERY: Duration = Duration::from_millis(250);

/// What is said on the bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Message {
    /// There are events without a number.
    Committed,
    /// There are numbered events, up to this one.
    Numbered(i64),
    /// A job of this kind waits.
    Queued(String),
    /// Somebody lives.
    Hello,
}

/// Which part a process has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// It numbers events itself.
    Worker,
    /// It asks others to.
    Api,
}

/// Tells and listens, for ever.
pub(crate) async fn run(context: &Context, redis: &Redis, part: Part) {
    tokio::join!(tell(context, redis, part), listen(context, redis, part));
}

async fn tell(context: &Context, redis: &Redis, part: Part) {
    let mut numbered = context.events.numbered();
    let mut hello = interval(HELLO_EVERY);
    hello.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let message = tokio::select! {
            () = context.queue.unpublished.notified(), if part == Part::Api => Message::Committed,
            Ok(()) = numbered.changed() => Message::Numbered(*numbered.borrow_and_update()),
            _ = hello.tick() => Message::Hello,
        };
        let told = timeout(TELL_WITHIN, redis.link().publish::<_, _, ()>(redis.channel(), message.to_string())).await;
        tracing::debug!(%message, ?told, "told");
    }
}

async fn listen(context: &Context, redis: &Redis, part: Part) {
    loop {
        // The connection that everything else uses says in the log when Redis is away.
        let ended = hear(context, redis, part).await;
        redis.note_deaf(Some(ended.as_ref().err().map_or(RedisProblem::Away, RedisProblem::of)));
        tracing::debug!(?ended, "listening again");
        tokio::time::sleep(RETRY_EVERY).await;
    }
}

async fn hear(context: &Context, redis: &Redis, part: Part) -> RedisResult<()> {
    let mut connection = redis.link().listen().await?;
    timeout(SILENCE, connection.subscribe(redis.channel())).await.unwrap_or_else(|_| Err(timed_out()))?;
    redis.note_deaf(None);
    // Whatever was said before may be unheard.
    act(context, redis, part, &Message::Numbered(0));
    act(context, redis, part, &Message::Committed);
    let mut messages = connection.into_on_message();
    loop {
        let Some(message) = timeout(SILENCE, messages.next()).await.map_err(|_| timed_out())? else { return Ok(()) };
        // What cannot be read was said by somebody else.
        if let Ok(message) = message.get_payload::<String>().unwrap_or_default().parse() {
            act(context, redis, part, &message);
        }
    }
}

fn act(context: &Context, redis: &Redis, part: Part, message: &Message) {
    match message {
        Message::Committed if part == Part::Worker => context.queue.unpublished.notify_one(),
        Message::Numbered(sequence) => context.events.hear(*sequence),
        Message::Queued(job) if part == Part::Worker => redis.wake(job),
        _ => {}
    }
}

fn timed_out() -> redis::RedisError {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Committed => f.write_str("committed"),
            Self::Numbered(sequence) => write!(f, "numbered:{sequence}"),
            Self::Queued(job) => write!(f, "queued:{job}"),
            Self::Hello => f.write_str("hello"),
        }
    }
}

impl FromStr for Message {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text.split_once(':') {
            Some(("numbered", sequence)) => sequence.parse().map(Self::Numbered).map_err(|_| ()),
            Some(("queued", job)) => Ok(Self::Queued(job.to_owned())),
            None if text == "committed" => Ok(Self::Committed),
            None if text == "hello" => Ok(Self::Hello),
            _ => Err(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_as_it_was_said_and_noise_is_none() {
        let messages =
            [Message::Committed, Message::Numbered(i64::MAX), Message::Queued("scan_chain".to_owned()), Message::Hello];
        for message in messages {
            assert_eq!(message.to_string().parse(), Ok(message));
        }
        for noise in ["", "numbered:", "numbered:x", "commit", "hello:1"] {
            assert_eq!(noise.parse::<Message>(), Err(()), "{noise}");
        }
    }
}
