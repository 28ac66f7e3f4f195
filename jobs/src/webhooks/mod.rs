//! Webhooks on their way out: claimed in batches, posted with bounded concurrency, recorded in batches.
//!
//! A delivery is claimed under a token for thirty seconds; whoever records a result names that token, so that a worker
//! which was paused beyond its claim changes nothing.

pub mod client;
mod deliver;
mod outcome;
mod request;
mod test_delivery;

pub(crate) use deliver::run;
pub use test_delivery::{TestDelivery, TestError, send_test};
