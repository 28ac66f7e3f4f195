//! The limit of open files: every connection is one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit of open files to the hard one, and gives the limit that holds then. Most systems start processes
/// with a soft limit of 1,024, for programs that cannot cope with more.
pub(crate) fn raise_limit() -> u64 {
    let before = getrlimit(Resource::Nofile);
    if before.current == before.maximum {
        return limit(before);
    }
    let raised = Rlimit { current: before.maximum, maximum: before.maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit(raised),
        Err(error) => {
            tracing::warn!(%error, limit = limit(before), "the limit of open files could not be raised");
            limit(before)
        }
    }
}

/// No limit is a very large one.
fn limit(limits: Rlimit) -> u64 {
    limits.current.unwrap_or(u64::MAX)
}
