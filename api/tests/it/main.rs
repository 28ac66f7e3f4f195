//! The binary as its users meet it: over HTTP, WebSocket, webhooks, signals and the command line, on both databases.
//! Nothing here knows how it works inside, except where a test says so.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on should say so at once"
)]

mod harness;

mod audit;
mod bad_input;
mod contracts;
mod controls;
mod crowd;
mod demo;
mod deployment;
mod doctor;
mod door;
mod first_minutes;
mod guides;
mod hostile;
mod isolation;
mod journey;
mod kills;
mod latency;
mod limits;
mod metrics;
mod roles;
mod scenarios;
mod secrets;
mod starts;
mod statements;
mod vanishing;
mod webhooks;
mod world;
