//! `cryptopay merchant`.
use clap::Subcommand;
use super::Failure;
/// x
#[derive(Debug, Subcommand)]
pub(super) enum Merchant { /// x
 Create { /// x
 username: String } }
pub(super) async fn run(_: Merchant) -> Result<(), Failure> { Err(Failure::other("being filled")) }
