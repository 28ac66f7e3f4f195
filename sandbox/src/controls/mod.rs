//! What a person or a test does to the simulated chains. Each control opens its own transaction.

pub(crate) mod clock;
pub(crate) mod faucet;
pub(crate) mod fault;
pub(crate) mod forget;
pub(crate) mod inbox;
pub(crate) mod mine;
pub(crate) mod pay;
pub(crate) mod reorg;
pub(crate) mod scenario;
