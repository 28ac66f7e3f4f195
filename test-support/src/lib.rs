#![doc = include_str!("../README.md")]
#![expect(clippy::expect_used, clippy::panic, reason = "a test that cannot go on should say so at once")]

mod config;
mod database;
mod parts;
mod port;
mod redis;
mod webhook_receiver;

pub use config::long_tests_wanted;
pub use database::{TestDatabase, block_on};
pub use parts::Parts;
pub use port::free_port;
pub use redis::{RedisServer, TestRedis};
pub use webhook_receiver::{Answer, ReceivedRequest, WebhookReceiver};
