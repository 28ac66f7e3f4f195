#![doc = include_str!("../README.md")]

mod bus;
mod confirm_payments;
mod context;
pub mod doctor;
mod events;
pub mod metrics;
mod queue;
mod scan;
mod supervise;
mod timers;
mod vouching;
pub mod webhooks;
mod workers;

pub use context::{ChainAccess, Context, Deadlines, SigningSecrets};
pub use events::{Events, Listener};
pub use queue::{KeyedQueue, Queue, Redis, RedisProblem, RedisUrlError, Taken};
pub use scan::begin_at_once;
pub use supervise::keep_running;
pub use workers::{JOBS, STOP_WITHIN, Workers};
