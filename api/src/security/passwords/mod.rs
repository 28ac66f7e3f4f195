//! Passwords: argon2id off the async threads, and which passwords are refused.
//!
//! No more passwords are checked at once than there are cores, so that a burst of logins takes neither the runtime's
//! threads nor the memory (19 MiB each). New passwords are estimated and hashed in a line of their own, so that
//! registrations do not delay logins. A few more may wait; the next request is refused at once. A login of an unknown user
//! costs the same work as one with a wrong password.

mod rules;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::available_parallelism;
use std::time::Duration;

use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, Params, PasswordHasher, PasswordVerifier};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::security::entropy;

pub use rules::{MAX_PASSWORD_CHARS, MIN_PASSWORD_CHARS};

/// How long a request waits for its turn before it is told to come back.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many requests may wait for each turn. At 30 ms a hash the last of them waits a second.
const WAITING_FOR_EACH: usize = 32;
/// Bytes of salt: what RFC 9106, section 3.1, recommends.
const SALT_BYTES: usize = 16;

/// Hashes and checks passwords. Cheap to clone; all clones share the bound.
#[derive(Debug, Clone)]
pub struct Passwords {
    /// Of passwords that are checked.
    checks: Line,
    /// Of passwords that are new.
    news: Line,
    /// Hashes computed so far.
    computed: Arc<AtomicU64>,
    /// A hash that no password has.
    nobody: Arc<str>,
}

/// Work that is done so much of at once.
#[derive(Debug, Clone)]
struct Line {
    turns: Arc<Semaphore>,
    /// Places to wait for a turn.
    places: Arc<Semaphore>,
    patience: Duration,
}

/// What came of checking a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is another one.
    Wrong,
    /// It is the one.
    Right {
        /// A hash of it with today's costs, to be stored: the stored one was made with others.
        renewed: Option<String>,
    },
}

/// Why a password was neither hashed nor checked.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// More are waiting than can be served; trying again later helps.
    #[error("too many passwords are being checked at once; try again in a few seconds")]
    Busy,
    /// The hash in the table is none; says nothing about the password.
    #[error("the stored password hash cannot be read: {0}")]
    StoredHash(argon2::password_hash::phc::Error),
    /// Hashing failed, such as for want of memory.
    #[error("the password could not be hashed: {0}")]
    Hashing(#[from] argon2::password_hash::Error),
    /// The thread that worked on it ended early.
    #[error("the password could not be worked on: {0}")]
    Interrupted(#[from] tokio::task::JoinError),
}

impl Default for Passwords {
    fn default() -> Self {
        Self::new()
    }
}

impl Passwords {
    /// With one turn for each core, and half as many for new passwords.
    pub fn new() -> Self {
        let cores = available_parallelism().map_or(1, usize::from);
        Self::with_lines(Line::new(cores, PATIENCE), Line::new(cores.div_ceil(2), PATIENCE))
    }

    /// What is wrong with a new password, in words for its field; nothing if it will do. `username` and `email` are
    /// those of the account: a password made of them is no secret.
    ///
    /// # Errors
    /// If there was no turn for it in time.
    pub async fn problems(
        &self,
        password: SecretString,
        username: &str,
        email: &str,
    ) -> Result<Vec<&'static str>, PasswordError> {
        let (username, email) = (username.to_owned(), email.to_owned());
        self.news.in_turn(move || rules::problems(password.expose_secret(), &username, &email)).await
    }

    /// The hash of a password, in PHC form, with a salt of its own.
    ///
    /// # Errors
    /// If there was no turn for it in time, or hashing fails.
    pub async fn hash(&self, password: SecretString) -> Result<String, PasswordError> {
        let salt = entropy::bytes::<SALT_BYTES>();
        let computed = Arc::clone(&self.computed);
        self.news.in_turn(move || hashed(&password, &salt, &computed)).await?
    }

    /// Whether a password is the one of `stored`, a hash in PHC form. `None` means that there is no such user: the
    /// answer is no, after the same work. Where the hash was made with other costs than today's, the right password is
    /// hashed again in the same turn.
    ///
    /// # Errors
    /// If there was no turn for it in time, or `stored` is no hash.
    pub async fn verify(&self, password: SecretString, stored: Option<&str>) -> Result<Verdict, PasswordError> {
        let nobody = Arc::clone(&self.nobody);
        let stored = stored.map_or_else(|| Arc::clone(&nobody), Arc::from);
        let salt = entropy::bytes::<SALT_BYTES>();
        let computed = Arc::clone(&self.computed);
        let work = move || {
            let hash = PasswordHash::new(&stored).map_err(PasswordError::StoredHash)?;
            computed.fetch_add(1, Ordering::Relaxed);
            match Argon2::default().verify_password(password.expose_secret().as_bytes(), &hash) {
                Ok(()) if is_as_dear(&hash, &nobody)? => Ok(Verdict::Right { renewed: None }),
                Ok(()) => Ok(Verdict::Right { renewed: Some(hashed(&password, &salt, &computed)?) }),
                Err(argon2::password_hash::Error::PasswordInvalid) => Ok(Verdict::Wrong),
                Err(error) => Err(PasswordError::Hashing(error)),
            }
        };
        self.checks.in_turn(work).await?
    }

    /// How many hashes were computed so far: what a login costs is counted in these.
    pub fn computed(&self) -> u64 {
        self.computed.load(Ordering::Relaxed)
    }

    fn with_lines(checks: Line, news: Line) -> Self {
        Self { checks, news, computed: Arc::default(), nobody: nobody().into() }
    }
}

impl Line {
    fn new(turns: usize, patience: Duration) -> Self {
        Self {
            turns: Arc::new(Semaphore::new(turns)),
            places: Arc::new(Semaphore::new(turns.saturating_mul(WAITING_FOR_EACH))),
            patience,
        }
    }

    async fn in_turn<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, PasswordError> {
        let turn = self.turn().await?;
        // The turn ends with the work, not with the request: a client that hangs up frees no core.
        Ok(spawn_blocking(move || {
            let result = work();
            drop(turn);
            result
        })
        .await?)
    }

    async fn turn(&self) -> Result<OwnedSemaphorePermit, PasswordError> {
        if let Ok(turn) = Arc::clone(&self.turns).try_acquire_owned() {
            return Ok(turn);
        }
        let _place = self.places.try_acquire().map_err(|_| PasswordError::Busy)?;
        let turn = timeout(self.patience, Arc::clone(&self.turns).acquire_owned()).await;
        turn.ok().and_then(Result::ok).ok_or(PasswordError::Busy)
    }
}

fn hashed(password: &SecretString, salt: &[u8], computed: &AtomicU64) -> Result<String, PasswordError> {
    computed.fetch_add(1, Ordering::Relaxed);
    let hash: PasswordHash = Argon2::default().hash_password_with_salt(password.expose_secret().as_bytes(), salt)?;
    Ok(hash.to_string())
}

/// Whether a hash was made in the way and with the costs of today's.
fn is_as_dear(hash: &PasswordHash, today: &str) -> Result<bool, PasswordError> {
    let today = PasswordHash::new(today).map_err(PasswordError::StoredHash)?;
    Ok((hash.algorithm, hash.version) == (today.algorithm, today.version) && hash.params == today.params)
}

/// A well-formed hash with today's costs whose result is random: no password has it, and checking one against it takes
/// the work of a real one.
fn nobody() -> String {
    let params = Params::default();
    format!(
        "$argon2id$v=19$m={},t={},p={}${}${}",
        params.m_cost(),
        params.t_cost(),
        params.p_cost(),
        STANDARD_NO_PAD.encode(entropy::bytes::<SALT_BYTES>()),
        STANDARD_NO_PAD.encode(entropy::bytes::<{ Params::DEFAULT_OUTPUT_LEN }>()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_is_recognised_and_no_other_is() {
        let passwords = Passwords::new();
        let hash = passwords.hash("correct-horse-9".into()).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        let right = Verdict::Right { renewed: None };
        assert_eq!(passwords.verify("correct-horse-9".into(), Some(&hash)).await.unwrap(), right);
        assert_eq!(passwords.verify("correct-horse-8".into(), Some(&hash)).await.unwrap(), Verdict::Wrong);
        assert_ne!(hash, passwords.hash("correct-horse-9".into()).await.unwrap());
    }

    #[tokio::test]
    async fn an_unknown_user_costs_the_same_work_and_gets_a_no() {
        let passwords = Passwords::new();
        let before = passwords.computed();
        assert_eq!(passwords.verify("correct-horse-9".into(), None).await.unwrap(), Verdict::Wrong);
        assert_eq!(passwords.computed(), before + 1);
        let real = passwords.hash("correct-horse-9".into()).await.unwrap();
        let (real, nobody) = (PasswordHash::new(&real).unwrap(), PasswordHash::new(&passwords.nobody).unwrap());
        assert_eq!((real.algorithm, real.version), (nobody.algorithm, nobody.version));
        assert_eq!(real.params.to_string(), nobody.params.to_string());
        let lengths = |hash: &PasswordHash| (hash.salt.map(|salt| salt.len()), hash.hash.map(|output| output.len()));
        assert_eq!(lengths(&real), lengths(&nobody));
    }

    #[tokio::test]
    async fn a_broken_hash_in_the_table_is_an_error_and_not_a_wrong_password() {
        let checked = Passwords::new().verify("correct-horse-9".into(), Some("plain")).await;
        assert!(matches!(checked, Err(PasswordError::StoredHash(_))), "{checked:?}");
    }

    #[tokio::test]
    async fn who_gets_no_turn_in_time_is_told_so() {
        let line = || Line::new(1, Duration::ZERO);
        let passwords = Passwords::with_lines(line(), line());
        let turn = passwords.checks.turn().await.unwrap();
        let refused = passwords.clone().verify("correct-horse-9".into(), None).await;
        assert!(matches!(refused, Err(PasswordError::Busy)), "{refused:?}");
        drop(turn);
        assert_eq!(passwords.verify("correct-horse-9".into(), None).await.unwrap(), Verdict::Wrong);
    }

    #[tokio::test]
    async fn new_passwords_that_wait_do_not_hold_up_a_login() {
        let (checks, news) = (Line::new(1, PATIENCE), Line::new(1, Duration::ZERO));
        let passwords = Passwords::with_lines(checks, news);
        let turn = passwords.news.turn().await.unwrap();
        assert!(matches!(passwords.hash("correct-horse-9".into()).await, Err(PasswordError::Busy)));
        let estimated = passwords.problems("correct-horse-9".into(), "shop", "a@b.example").await;
        assert!(matches!(estimated, Err(PasswordError::Busy)), "{estimated:?}");
        assert_eq!(passwords.verify("correct-horse-9".into(), None).await.unwrap(), Verdict::Wrong);
        drop(turn);
    }

    #[tokio::test]
    async fn so_many_may_wait_and_the_next_is_told_at_once() {
        let line = Line::new(1, Duration::from_secs(3_600));
        let turn = line.turn().await.unwrap();
        let mut waiting: Vec<_> = (0..WAITING_FOR_EACH).map(|_| Box::pin(line.turn())).collect();
        for waits in &mut waiting {
            assert!(futures_util::poll!(waits.as_mut()).is_pending());
        }
        assert!(matches!(line.turn().await, Err(PasswordError::Busy)));
        // Whoever gives up makes room.
        waiting.pop();
        let last = Box::pin(line.turn());
        drop(turn);
        waiting.push(last);
        for waits in waiting {
            drop(waits.await.unwrap());
        }
    }

    #[tokio::test]
    async fn a_hash_with_the_costs_of_former_times_is_made_anew() {
        let cheap = Argon2::from(Params::new(8 * 1_024, 1, 1, None).unwrap());
        let stored: PasswordHash = cheap.hash_password_with_salt(b"correct-horse-9", &[7; SALT_BYTES]).unwrap();
        let passwords = Passwords::new();
        let verdict = passwords.verify("correct-horse-9".into(), Some(&stored.to_string())).await.unwrap();
        let Verdict::Right { renewed: Some(renewed) } = verdict else { panic!("{verdict:?}") };
        assert!(renewed.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{renewed}");
        let right = Verdict::Right { renewed: None };
        assert_eq!(passwords.verify("correct-horse-9".into(), Some(&renewed)).await.unwrap(), right);
        let wrong = passwords.verify("correct-horse-8".into(), Some(&stored.to_string())).await.unwrap();
        assert_eq!(wrong, Verdict::Wrong);
    }

    #[tokio::test]
    async fn the_rules_are_asked_off_the_async_threads_too() {
        let problems = Passwords::new().problems("short".into(), "shop", "a@b.example").await.unwrap();
        assert_eq!(problems.len(), 2, "{problems:?}");
    }
}
