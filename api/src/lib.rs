#![doc = include_str!("../README.md")]

pub mod app;
mod caller;
pub mod commands;
pub mod config;
pub mod database;
pub mod error;
pub mod fields;
pub mod gateway;
pub mod graphql;
mod http;
pub mod limits;
pub mod live;
mod metrics;
mod nodes;
mod open_files;
pub mod operations;
pub mod page;
pub mod principal;
pub mod readiness;
pub mod rest;
pub mod security;
#[cfg(test)]
mod testing;
