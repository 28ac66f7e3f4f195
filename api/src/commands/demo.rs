//! `cryptopay demo`: the main job, told step by step.

use super::Failure;

pub(super) async fn run(exit: bool) -> Result<(), Failure> {
    let _ = exit;
    Err(Failure::other("being filled"))
}
