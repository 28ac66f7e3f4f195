//! The chain as it is stored: how blocks and transactions are made, mined and replaced.

pub(crate) mod block;
pub(crate) mod mining;
pub(crate) mod replacing;
pub(crate) mod transaction;
