//! graphql

pub mod websocket;
