//! The money rules, tried by somebody who wants to break them.
//!
//! `book` plays the part of the ledger between two derivations; `derive`, `flags` and `change` name each rule; `model` applies
//! random histories and checks what must hold after every step.

mod book;
mod change;
mod derive;
mod flags;
mod model;
