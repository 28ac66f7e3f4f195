#![doc = include_str!("../README.md")]

mod confirm_payments;
mod context;
mod events;
pub mod metrics;
mod queue;
mod scan;
mod timers;
pub mod webhooks;
mod workers;

pub use context::{ChainAccess, Context, SigningSecrets};
pub use events::{Events, Listener};
pub use queue::{KeyedQueue, Queue, Taken};
pub use workers::{JOBS, STOP_WITHIN, Workers};
