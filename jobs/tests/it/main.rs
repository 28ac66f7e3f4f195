//! The jobs against a simulated chain, now and then a real node, a real receiver and both databases.
//!
//! Jobs are drained explicitly and time is moved by hand, so that a test decides what happens when. What is asked of the
//! chain goes through a client that can be told to lag, fail or lie.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on should say so at once"
)]

mod beginnings;
mod deadlines;
mod deliveries;
mod endpoints;
mod faults;
mod histories;
mod inventions;
mod isolation;
mod leases;
mod lies;
mod node;
mod numbering;
mod opinions;
mod payments;
mod removed;
mod reorganisations;
mod resets;
mod set_aside;
mod signed;
mod starting;
mod sweeping;
mod tampered;
mod thrift;
mod vanishing;
mod widths;
mod workers;
mod world;
