//! Logins that wait, since many of their account have failed lately, from all addresses together.
//!
//! A wait by itself never refuses: strangers cannot keep out the right password. Addresses from which the account has
//! been logged in to before do not wait. A login that waits holds its connection and nothing else; of one address and
//! account only one waits at a time, so that connections bound the tries.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::bucket::Key;

/// A way to let time pass.
#[derive(Clone)]
pub(crate) struct Sleep(Arc<dyn Fn(Duration) -> BoxFuture<'static, ()> + Send + Sync>);

impl Sleep {
    /// By the real clock.
    pub(super) fn real() -> Self {
        Self(Arc::new(|delay| tokio::time::sleep(delay).boxed()))
    }

    /// Another way, for tests.
    #[cfg(test)]
    pub(crate) fn by(sleep: impl Fn(Duration) -> BoxFuture<'static, ()> + Send + Sync + 'static) -> Self {
        Self(Arc::new(sleep))
    }

    /// Lets this much time pass.
    pub(super) async fn sleep(&self, delay: Duration) {
        (self.0)(delay).await;
    }
}

impl fmt::Debug for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sleep")
    }
}

/// The logins of this process that wait, by account and address.
#[derive(Debug, Clone, Default)]
pub(super) struct Delayed(Arc<Mutex<HashSet<Key>>>);

/// One of them; its place is free when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    delayed: Delayed,
    key: Key,
}

impl Delayed {
    /// A place for a login of this account and address, unless one waits already.
    pub(super) fn enter(&self, key: Key) -> Option<Place> {
        let entered = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key);
        entered.then(|| Place { delayed: self.clone(), key })
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.lock().unwrap().is_empty()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.delayed.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}
