#![doc = include_str!("../README.md")]
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on should say so at once"
)]

mod anvil;
mod config;
mod contracts;
mod database;
mod fault_proxy;
mod parts;
mod port;
mod redis;
mod script;
mod signal;
mod signer;
mod tcp_proxy;
mod webhook_receiver;

pub use alloy::primitives::{Address, B256, Bytes, U256};

pub use anvil::{Anvil, Manner, Payment, TokenTransfer};
pub use config::long_tests_wanted;
pub use database::{PostgresServer, TestDatabase, block_on};
pub use fault_proxy::{Counts, Fault, FaultProxy};
pub use parts::Parts;
pub use port::free_port;
pub use redis::{RedisServer, TestRedis};
pub use signal::{Signal, send_signal};
pub use signer::Signer;
pub use tcp_proxy::TcpProxy;
pub use webhook_receiver::{Answer, ReceivedRequest, WebhookReceiver};
