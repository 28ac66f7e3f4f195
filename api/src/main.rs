//! The binary `cryptopay`; everything is in the library.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    // Refused only when somebody installed one before, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    cryptopay_api::commands::run().await
}
