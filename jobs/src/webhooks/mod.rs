//! Webhooks: everything that leaves this process as a signed POST.

pub mod client;
