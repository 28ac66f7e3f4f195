//! The binary `cryptopay`; everything is in the library.

use std::process::ExitCode;

use mimalloc::MiMalloc;
use tokio::runtime::Builder;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Stack of a worker thread, in bytes: address space, of which a request takes what it needs. An unoptimised build nests
/// the frames of a request deeper than the usual 2 MiB.
const STACK_SIZE: usize = 8 * 1024 * 1024;

fn main() -> ExitCode {
    // Refused only when somebody installed one before, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match Builder::new_multi_thread().thread_stack_size(STACK_SIZE).enable_all().build() {
        Ok(runtime) => runtime.block_on(cryptopay_api::commands::run()),
        Err(error) => {
            eprintln!("the system gives no threads: {error}");
            ExitCode::FAILURE
        }
    }
}
