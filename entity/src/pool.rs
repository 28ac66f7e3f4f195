//! Connections to PostgreSQL of which none is waited for without end.
//!
//! A server that vanishes without a word (its host lost power, a router forgot the connection) answers nothing and closes
//! nothing. What asks the database bounds its own patience; but a question that was given up leaves its connection to the
//! pool, which asks it whether it can still be used, and waits for that answer for ever: with the place that the connection
//! has among those that are allowed. So both questions of the pool are bounded here, and a connection that does not answer
//! is thrown away.
//!
//! A connection that comes back after an answer owes none, and is not asked by this module: the pool does so itself, within
//! microseconds of that answer. Asking twice cost as much as a small query, for every query.

use std::io;
use std::time::Duration;

use sea_orm::sqlx::postgres::{PgConnection, PgPoolOptions};
use sea_orm::sqlx::{Connection, Error};
use tokio::time::timeout;

/// How long a connection may take to answer that nobody has used for a moment. Several fit into the time that the pool
/// gives to whoever wants one, so that some dead ones in a row cost one failure and not one each.
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);
/// For how long a connection is taken to be well that answered when it came back.
const FRESH: Duration = Duration::from_secs(1);
/// How long a connection may take that comes back: what was given up on it ends first, and is rolled back.
const SETTLES_WITHIN: Duration = Duration::from_secs(5);

/// These options, with connections thrown away that do not answer in time.
pub fn without_the_dead(options: PgPoolOptions) -> PgPoolOptions {
    options
        // The same question, without an end.
        .test_before_acquire(false)
        .before_acquire(|connection, known| {
            Box::pin(async move {
                // It has answered when it came back; asking again each time would cost as much as many a question does.
                if known.idle_for >= FRESH {
                    answers(connection, ANSWERS_WITHIN).await?;
                }
                Ok(true)
            })
        })
        .after_release(|connection, _| Box::pin(async move { settles(connection).await.map(|()| true) }))
}

async fn answers(connection: &mut PgConnection, within: Duration) -> Result<(), Error> {
    timeout(within, connection.ping()).await.unwrap_or_else(|_| Err(silent()))
}

/// Waits for what the server still owes: the answer to a question that was given up, and to the rollback behind it.
async fn settles(connection: &mut PgConnection) -> Result<(), Error> {
    timeout(SETTLES_WITHIN, connection.flush()).await.unwrap_or_else(|_| Err(silent()))
}

fn silent() -> Error {
    Error::Io(io::Error::new(io::ErrorKind::TimedOut, "the connection does not answer"))
}
