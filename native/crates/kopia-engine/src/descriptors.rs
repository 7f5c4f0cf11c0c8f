//! How many files this process may have open, and what follows for those who hold many at once.

use rustix::process::{Resource, getrlimit, setrlimit};

/// What is assumed where there is no limit.
const MANY: usize = 1 << 16;
/// Below this nothing works anyway.
const LEAST: usize = 64;

/// Raises the soft limit to the hard one, as Go programs do by themselves: containerd 2 and systemd give a soft
/// limit of 1,024 for the sake of `select(2)`, which nothing here uses.
pub fn raise_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // What may not be raised stays: `limit` tells.
    let _ = setrlimit(Resource::Nofile, limit);
}

/// Files that this process may have open.
pub(crate) fn limit() -> usize {
    let current = getrlimit(Resource::Nofile).current.and_then(|current| usize::try_from(current).ok());
    current.unwrap_or(MANY).clamp(LEAST, MANY)
}
