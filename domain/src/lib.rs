#![doc = include_str!("../README.md")]

pub mod address;
pub mod amount;
pub mod event;
pub mod ids;
pub mod matching;
pub mod merchant;
pub mod order;
pub mod reference;
pub mod registry;
pub mod reservation;
pub mod retry;
pub mod text;
pub mod time;
pub mod transfer;
pub mod units;
pub mod webhook;
