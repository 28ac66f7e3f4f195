//! Secrets and whoever shows one: password hashes, access and refresh tokens, API keys, encryption at rest.
//!
//! Every function here works on values: the time, and the keys from [`Keys`], are handed in; rows are read and written
//! by the operations. Nothing that is printed with `Debug` holds a secret.
//!
//! | file | what it is for |
//! |---|---|
//! | `passwords` | argon2id off the async threads, and which passwords are refused |
//! | `tokens` | access tokens (JWT) and refresh tokens (opaque) |
//! | `api_keys` | `sk_test_…` and `sk_live_…` |
//! | `secret_box` | encryption of what must be read again, such as webhook secrets |
//! | `challenges` | nonces that nobody has to remember |
//! | `keys` | the keys of `CRYPTOPAY_SECRET`, and of the one before while rotating |
//! | `entropy` | where chance comes from |
//! | `digest` | SHA-256 of secrets that are only ever compared |

pub mod api_keys;
pub mod challenges;
pub mod digest;
pub mod entropy;
pub mod keys;
pub mod passwords;
pub mod secret_box;
pub mod tokens;

pub use keys::{KeyError, Keys};
