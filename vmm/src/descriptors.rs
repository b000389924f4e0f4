//! How many files, sockets and events this process may have open at once (getrlimit(2), `RLIMIT_NOFILE`).

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Has as many as are allowed: the 1024 that many a shell gives are for programs with select(2), which nothing of ours uses.
pub fn raise() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!("the limit of descriptors stays as it is: {error}");
    }
}

/// The limit. None: there is none.
#[must_use]
pub fn most() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}
