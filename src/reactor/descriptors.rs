//! How the descriptors that a process may open are shared out: the log has its own, and what is
//! left bounds the connections. So a client can use up connections, but never the disk.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Open files of a shard at least: the segments being written, read and copied, the superblock.
pub const SHARD_FILES_MIN: usize = corelane_storage::device::blocking::OPEN_FILES_MAX;
/// Open files of a shard at most: beyond these, those not used for longest are closed.
const SHARD_FILES_MAX: usize = 1024;
/// What the thread of a shard's files has open at a time: the file and its directory.
const SHARD_THREAD: usize = 2;
/// A reactor's ring, its event, its watch on the listener, its demand for short wake-ups.
const REACTOR_OWN: usize = 4;
/// Descriptors that are open for a moment only: log and pid files, directories being flushed.
const SPARE: usize = 32;
/// Connections beyond the limit that are open at a time, to be refused.
const REFUSED_MAX: usize = 8;

/// What descriptors are needed for.
#[derive(Clone, Copy, Debug)]
pub struct Demand {
    /// What the process may open.
    pub limit: usize,
    /// What is open, before there are reactors.
    pub open: usize,
    /// What others than reactors may still open.
    pub others: usize,
    /// Reactors of the node.
    pub reactors: usize,
    /// Shards of the node.
    pub shards: usize,
}

/// How they are shared out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shares {
    /// Open files of each shard.
    pub shard_files: usize,
    /// Connections that are served.
    pub connections: usize,
    /// Connections that are open, those that are being refused included.
    pub accepted: usize,
}

impl Demand {
    /// Shares them out, or says how many are needed.
    pub fn share(&self) -> Result<Shares, String> {
        let fixed = self.open + self.others + self.reactors * REACTOR_OWN + SPARE + REFUSED_MAX;
        let each = SHARD_FILES_MIN + SHARD_THREAD;
        let needed = fixed + self.shards * each + 1;
        if self.limit < needed {
            let limit = self.limit;
            return Err(format!("RLIMIT_NOFILE allows {limit}, at least {needed} is needed"));
        }
        let left = self.limit - fixed - self.shards * SHARD_THREAD;
        let shard_files = (left / 4 / self.shards.max(1)).clamp(SHARD_FILES_MIN, SHARD_FILES_MAX);
        let connections = left - self.shards * shard_files;
        Ok(Shares { shard_files, connections, accepted: connections + REFUSED_MAX })
    }
}

/// What this process may open.
pub fn limit() -> usize {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the call only writes `limit`.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0 {
        return 0;
    }
    usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX)
}

/// What this process has open.
pub fn open() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

/// True where an error says that no descriptor is to be had for now.
pub fn ran_out(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// The node's connections, counted by all its reactors.
pub struct Connections {
    /// Open sockets, by reactor.
    open: Box<[AtomicUsize]>,
    /// Those that are served, and not refused or closing.
    served: AtomicUsize,
}

impl Connections {
    /// No connections yet.
    pub fn new(reactors: usize) -> Self {
        let open = (0..reactors).map(|_| AtomicUsize::new(0)).collect();
        Connections { open, served: AtomicUsize::new(0) }
    }

    /// A socket is to be carried by reactor `on`.
    pub fn opened(&self, on: usize, served: bool) {
        self.open[on].fetch_add(1, Ordering::Relaxed);
        self.served.fetch_add(usize::from(served), Ordering::Relaxed);
    }

    /// A connection that was served is so no longer.
    pub fn ended(&self) {
        self.served.fetch_sub(1, Ordering::Relaxed);
    }

    /// The descriptor of a socket of reactor `on` is closed.
    pub fn closed(&self, on: usize) {
        self.open[on].fetch_sub(1, Ordering::Relaxed);
    }

    /// Sockets that are open.
    pub fn open(&self) -> usize {
        self.open.iter().map(|n| n.load(Ordering::Relaxed)).sum()
    }

    /// Connections that are served.
    pub fn served(&self) -> usize {
        self.served.load(Ordering::Relaxed)
    }

    /// The reactor with the fewest sockets.
    pub fn least_loaded(&self) -> usize {
        let load = |i: &usize| self.open[*i].load(Ordering::Relaxed);
        (0..self.open.len()).min_by_key(load).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_has_its_descriptors_before_connections_do() {
        let demand = |limit| Demand { limit, open: 30, others: 0, reactors: 2, shards: 2 };
        for limit in [115, 300, 1_024, 20_000, 1 << 20] {
            let shares = demand(limit).share().unwrap();
            let log = 2 * (shares.shard_files + SHARD_THREAD);
            let all = 30 + 2 * REACTOR_OWN + SPARE + log + shares.accepted;
            assert_eq!(all, limit, "{shares:?}");
            assert!((SHARD_FILES_MIN..=SHARD_FILES_MAX).contains(&shares.shard_files));
            assert!(shares.connections >= 1);
        }
        let refused = demand(114).share().unwrap_err();
        assert_eq!(refused, "RLIMIT_NOFILE allows 114, at least 115 is needed");
    }

    #[test]
    fn a_refused_connection_is_open_and_not_served() {
        let counted = Connections::new(2);
        counted.opened(0, true);
        counted.opened(counted.least_loaded(), false);
        assert_eq!((counted.open(), counted.served(), counted.least_loaded()), (2, 1, 0));
        counted.closed(1);
        counted.ended();
        assert_eq!((counted.open(), counted.served(), counted.least_loaded()), (1, 0, 1));
    }
}
