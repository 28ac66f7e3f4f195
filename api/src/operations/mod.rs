//! What the gateway can be asked to do, one file per subject. REST and GraphQL call the same operations; an operation
//! opens the transaction, and nothing below it does.

pub mod accounts;
pub mod api_keys;
pub mod audit;
pub mod blockchains;
pub mod claims;
pub mod counts;
pub mod events;
pub mod once;
pub mod pages;
pub mod payment_orders;
pub mod payment_page;
pub mod reseal;
pub mod sandbox;
pub mod searches;
pub mod settings;
#[cfg(test)]
pub(crate) mod shop;
mod stop;
pub mod transactions;
pub mod wallets;
pub mod webhook_endpoints;

/// The number in a path or a filter, written as we write it: without a sign or leading zeros.
pub(crate) fn number(text: &str) -> Option<i64> {
    text.parse().ok().filter(|number: &i64| number.to_string() == text)
}
