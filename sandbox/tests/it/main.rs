//! The simulated chain as the gateway meets it, on both databases.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on should say so at once")]

mod clock;
mod faults;
mod giving;
mod inbox;
mod mining;
mod paying;
mod reading;
mod reorganising;
mod scenarios;
mod world;
