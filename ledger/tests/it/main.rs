//! The ledger on real databases: every case of the payment rules by name, races, and random histories.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on should say so at once"
)]

mod fake_chain;
mod world;

mod checker;
mod deadlines;
mod decisions;
mod histories;
mod orders;
mod ownership;
mod payments;
mod published;
mod races;
mod reorganisations;
mod scanning;
mod seed;
mod settings;
mod sight;
