#![doc = include_str!("../README.md")]

mod chain;
mod controls;
mod error;
mod rpc;
mod transport;

pub use controls::clock::{ClockError, MAX_ADVANCE, advance_clock};
pub use controls::faucet::{FaucetError, Given, give};
pub use controls::fault::{FaultError, FaultKind, MAX_FAULT, fault};
pub use controls::forget::forget_payments;
pub use controls::inbox::{
    InboxError, MAX_BODY_BYTES, MAX_HEADERS_BYTES, MAX_MESSAGES, Received, create_inbox, delete_messages,
    inbox_of_token, messages, record_message,
};
pub use controls::mine::{MAX_MINED_BLOCKS, MineError, Mined, mine};
pub use controls::pay::{Paid, PayError, Payment, pay};
pub use controls::reorg::{KeepTransactions, MAX_REORG_DEPTH, ReorgError, Reorganised, reorg};
pub use controls::scenario::Scenario;
pub use cryptopay_entity::sandbox_message::MessageFilter;
pub use error::SimulationError;
pub use transport::SimulatedChain;
