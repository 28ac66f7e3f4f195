//! Which streams end because what they were opened with is no longer good: a login that has ended, a key that was deleted.
//!
//! One look a second serves the whole process, however many streams are open, and costs what was revoked lately, not what
//! is open. Nobody looks while no stream is open.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cryptopay_domain::ids::ApiKeyId;
use cryptopay_entity::{api_key, clock, refresh_token};
use sea_orm::{DatabaseConnection, DbErr};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::principal::Credential;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How much further back each look goes than the one before it. A revocation carries the time at which its transaction
/// read the clock, and is seen when it commits: no transaction takes this long.
const MARGIN: Duration = Duration::from_secs(60);

/// By what the open streams of this process were let in. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Credentials(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    open: Mutex<HashMap<Key, Holders>>,
    /// Rings when a stream is opened.
    opened: Notify,
}

/// A credential, without what it may do.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    /// The family of a login's tokens.
    Login(String),
    /// An API key.
    Key(ApiKeyId),
}

/// Streams that hold one credential.
#[derive(Debug, Default)]
struct Holders {
    revoked: CancellationToken,
    streams: usize,
}

/// One stream's hold on its credential, until it is dropped.
#[derive(Debug)]
pub(super) struct Hold {
    credentials: Credentials,
    key: Key,
    revoked: CancellationToken,
}

impl Hold {
    /// Cancelled when the credential is revoked.
    pub(super) fn revoked(&self) -> CancellationToken {
        self.revoked.clone()
    }
}

impl Credentials {
    /// Looks after what a stream was let in by.
    pub(super) fn hold(&self, credential: &Credential) -> Hold {
        let key = match credential {
            Credential::Login { family, .. } => Key::Login(family.as_str().to_owned()),
            Credential::Key { id, .. } => Key::Key(*id),
        };
        let mut open = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        let holders = open.entry(key.clone()).or_default();
        holders.streams = holders.streams.saturating_add(1);
        let revoked = holders.revoked.clone();
        drop(open);
        self.0.opened.notify_one();
        Hold { credentials: self.clone(), key, revoked }
    }

    /// Looks until `stop`, as long as streams are open.
    pub(super) async fn watch(self, database: DatabaseConnection, stop: CancellationToken) {
        let watching = async {
            loop {
                while self.is_idle() {
                    self.0.opened.notified().await;
                }
                self.watch_while_open(&database).await;
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = watching => {}
        }
    }

    async fn watch_while_open(&self, database: &DatabaseConnection) {
        let mut looked_at = Instant::now();
        let mut waits = false;
        while !self.is_idle() {
            let now = Instant::now();
            match self.look(database, now.duration_since(looked_at)).await {
                Ok(()) => {
                    looked_at = now;
                    waits = false;
                }
                Err(error) => {
                    if !waits {
                        tracing::warn!(%error, "whether logins of open streams have ended waits for the database");
                    }
                    waits = true;
                }
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Ends the streams whose credential was revoked since the last look, which was so long ago.
    async fn look(&self, database: &DatabaseConnection, ago: Duration) -> Result<(), DbErr> {
        let after = clock::database_now(database).await?.minus(ago.saturating_add(MARGIN));
        let families = refresh_token::Entity::families_revoked_after(database, after).await?;
        let keys = api_key::Entity::revoked_after(database, after).await?;
        let open = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        for key in families.into_iter().map(Key::Login).chain(keys.into_iter().map(Key::Key)) {
            if let Some(holders) = open.get(&key) {
                holders.revoked.cancel();
            }
        }
        Ok(())
    }

    fn is_idle(&self) -> bool {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut open = self.credentials.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(holders) = open.get_mut(&self.key) {
            holders.streams = holders.streams.saturating_sub(1);
            if holders.streams == 0 {
                open.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use cryptopay_test_support::{TestDatabase, on_both_databases};
    use serde_json::json;

    use super::*;
    use crate::operations::{accounts, api_keys};
    use crate::principal::authenticate;
    use crate::rest::api_keys::CreateApiKey;
    use crate::testing::{app, fields, merchant, once};

    on_both_databases!(a_look_ends_what_was_revoked_and_nothing_else, async |db: TestDatabase| {
        let app = app(&db).await;
        let (one, other) = (merchant(&app, "one").await, merchant(&app, "other").await);
        let body = fields::<CreateApiKey>(json!({"name": "till"}));
        let (key, secret) = api_keys::create(&app, &one, body, once()).await.unwrap().made().unwrap();
        let by_key = authenticate(&app, secret.expose()).await.unwrap();
        let credentials = Credentials::default();
        let holds: Vec<Hold> =
            [&one, &one, &other, &by_key].iter().map(|who| credentials.hold(&who.credential)).collect();
        let ended = || holds.iter().map(|hold| hold.revoked().is_cancelled()).collect::<Vec<_>>();
        let look = async || credentials.look(app.database(), Duration::from_secs(1)).await.unwrap();
        look().await;
        assert_eq!(ended(), [false, false, false, false]);
        accounts::logout(&app, &one).await.unwrap();
        look().await;
        assert_eq!(ended(), [true, true, false, false]);
        api_keys::revoke(&app, &one, &key.id.to_string()).await.unwrap();
        look().await;
        assert_eq!(ended(), [true, true, false, true]);
        drop(holds);
        assert!(credentials.is_idle());
    });
}
