//! Webhooks on their way out: claimed in batches, posted with bounded concurrency, recorded in batches.
//!
//! A delivery is claimed under a token for a few seconds, and kept claimed by whoever lives; whoever records a result names
//! that token, so that a worker which was paused beyond its claim changes nothing.

mod claims;
pub mod client;
mod deliver;
mod outcome;
mod record;
mod request;
mod test_delivery;

pub use claims::Claims;
pub(crate) use claims::keep as keep_claims;
pub(crate) use deliver::run;
pub use test_delivery::{TestDelivery, TestError, send_test};
