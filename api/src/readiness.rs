//! Whether the database has been brought up to date since this process started.

use std::sync::{Arc, Mutex, PoisonError};

/// Shared between start-up and the routes.
#[derive(Debug, Clone)]
pub struct Readiness(Arc<Mutex<Option<String>>>);

impl Default for Readiness {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Some("the database has not been reached yet".to_owned()))))
    }
}

impl Readiness {
    /// Why nothing can be served yet, or `None` once it can.
    pub fn not_migrated(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes why start-up still waits, or that it does not.
    pub fn set(&self, reason: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }
}
