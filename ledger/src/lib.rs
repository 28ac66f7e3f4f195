#![doc = include_str!("../README.md")]

mod amounts;
pub mod audit;
mod confirm;
mod create_order;
mod decisions;
mod error;
mod inbox;
mod matching;
mod nudges;
mod outbox;
mod ownership;
mod record;
mod rederive;
mod remainder;
mod reorg;
mod reset;
mod restart;
mod view;
mod windows;

pub use confirm::{Checked, ToCheck, blocks_to_check, confirm, has_final, has_work, transfers_to_check};
pub use create_order::{NewOrder, Prospect, create_order, nonce_owner};
pub use decisions::{Assignment, assign, cancel, resolve};
pub use error::{LedgerError, Refusal};
pub use nudges::{DeliveryKey, Nudges};
pub use outbox::test_delivery;
pub use ownership::{Claimant, TakenOver, take_over};
pub use record::{Batch, Fence, Rechecked, record_batch, settle_reports, skip_to};
pub use rederive::Occasion;
pub use reorg::{SecondLook, doubt, rewind, settle_doubts};
pub use reset::{Deleted, reset};
pub use restart::restart_chain;
pub use view::{decimals, newest, payment, snapshot, transfer_snapshot};
pub use windows::{Passed, deadlines_due, pass_deadlines, release_addresses};
