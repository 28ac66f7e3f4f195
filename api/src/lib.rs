#![doc = include_str!("../README.md")]

pub mod app;
pub mod config;
pub mod error;
pub mod fields;
pub mod graphql;
pub mod live;
pub mod operations;
pub mod page;
pub mod principal;
pub mod rest;
pub mod security;
