#![doc = include_str!("../README.md")]

pub mod config;
pub mod graphql;
pub mod page;
pub mod security;
