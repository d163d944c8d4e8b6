//! File descriptors: as many as the configured connections need.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What the node needs besides client sockets: listeners, the log, epoll, admin connections, refusals under way.
const OTHERS: u64 = 256;

/// Raises the limit of this process as far as the system lets it, and warns when that is not enough.
pub(crate) fn raise_limit(max_connections: u32) {
    let wanted = u64::from(max_connections) + OTHERS;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // No limit is written as none.
    let Some(soft) = current.filter(|soft| *soft < wanted) else { return };
    let reachable = maximum.map_or(wanted, |hard| hard.min(wanted));
    let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(reachable), maximum });
    let limit = if raised.is_ok() { reachable } else { soft };
    if limit < wanted {
        tracing::warn!(
            limit,
            wanted,
            "limits.maxConnections asks for more file descriptors than this process may have: raise the limit \
             (ulimit -n, LimitNOFILE) or lower maxConnections"
        );
    }
}
