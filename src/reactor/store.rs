//! The store's directory: who made it, how many shards it has, and opening them.
//!
//! `<store_dir>/corelane/lock` is locked by the process that uses the store.
//! `<store_dir>/corelane/store` is a text of two lines: `corelane store 1` and `<id> <shards>`; the
//! shards lie beside it in `shard-<n>`. The number of shards is fixed when the store is made.

use std::fs;
use std::io::Read;
use std::os::fd::{AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use corelane_storage::device::blocking::{Directory, refuse_foreign_store};
use corelane_storage::log::{LogOptions, SyncPolicy};
use corelane_storage::recovery;

use crate::config::go_error;
use crate::config::options::{self, Options};
use crate::shard::{
    APPLY_ITEMS, CheckpointOptions, JOB_VISITS, Opened, Shard, ShardOptions, SortOptions,
};
use crate::types::{ShardId, Timestamp};

const FIRST_LINE: &str = "corelane store 1";
/// How long a lock is waited for: the kernel finishes the writes of a killed process in the
/// background.
const LOCK_WAIT: Duration = Duration::from_secs(5);
const LOCK_PAUSE: Duration = Duration::from_millis(2);

/// A store that is there.
#[derive(Clone, Debug)]
pub struct Store {
    directory: PathBuf,
    id: u128,
    lock: Arc<fs::File>,
    /// Its shards.
    pub shards: u16,
}

/// Random bytes of the system.
pub fn random<const N: usize>() -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

impl Store {
    /// Opens the store in `store_dir`, or makes one of `shards` shards.
    pub fn open(store_dir: &Path, shards: u16) -> Result<Store, String> {
        refuse_foreign_store(store_dir).map_err(|e| e.to_string())?;
        let directory = store_dir.join("corelane");
        let file = directory.join("store");
        let failed = |e: std::io::Error| format!("store {}: {e}", file.display());
        let entries = durable_with(store_dir);
        make(store_dir)?;
        make(&directory)?;
        let lock = Arc::new(lock(&directory, LOCK_WAIT)?);
        match fs::read_to_string(&file) {
            Ok(text) => {
                // Who made it may have been killed before its names were durable.
                let store = Self::parse(&text, directory.clone(), lock)
                    .ok_or_else(|| format!("{} is not a corelane store", file.display()))?;
                fs::File::open(&file).and_then(|f| f.sync_all()).map_err(failed)?;
                sync_directories(&directory, &entries).map_err(failed)?;
                store.refuse_unknown()?;
                Ok(store)
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let id = u128::from_le_bytes(random().map_err(failed)?);
                let text = format!("{FIRST_LINE}\n{id:032x} {shards}\n");
                let store = Store { directory, id, lock, shards };
                // Made here, they become durable with the rest.
                for shard in 0..shards {
                    make(&store.shard_directory(ShardId(shard)))?;
                }
                let new = store.directory.join("store.new");
                fs::write(&new, text).map_err(failed)?;
                fs::File::open(&new).and_then(|f| f.sync_all()).map_err(failed)?;
                fs::rename(&new, &file).map_err(failed)?;
                sync_directories(&store.directory, &entries).map_err(failed)?;
                Ok(store)
            }
            Err(e) => Err(failed(e)),
        }
    }

    fn parse(text: &str, directory: PathBuf, lock: Arc<fs::File>) -> Option<Store> {
        let mut lines = text.lines();
        if lines.next()? != FIRST_LINE {
            return None;
        }
        let (id, shards) = lines.next()?.split_once(' ')?;
        let id = u128::from_str_radix(id, 16).ok()?;
        let shards = shards.parse().ok().filter(|&n| n > 0)?;
        Some(Store { directory, id, lock, shards })
    }

    /// Before any shard is changed: none of them may be of a later release.
    fn refuse_unknown(&self) -> Result<(), String> {
        for shard in (0..self.shards).map(ShardId) {
            let directory = self.shard_directory(shard);
            let mut device = Directory::open(&directory).map_err(|e| e.to_string())?;
            recovery::refuse_unknown(&mut device).map_err(|e| format!("shard {}: {e}", shard.0))?;
        }
        Ok(())
    }

    /// The descriptor that holds the store's lock.
    pub fn lock(&self) -> RawFd {
        self.lock.as_raw_fd()
    }

    /// The directory of a shard.
    pub fn shard_directory(&self, shard: ShardId) -> PathBuf {
        self.directory.join(format!("shard-{}", shard.0))
    }

    /// Opens one shard.
    pub fn open_shard(
        &self,
        shard: ShardId,
        options: &Options,
        server_name: &str,
        now: Timestamp,
    ) -> Result<Opened, String> {
        let mut device =
            Directory::open(&self.shard_directory(shard)).map_err(|e| e.to_string())?;
        let seed = u64::from_le_bytes(random().map_err(|e| e.to_string())?);
        Shard::open(&mut device, self.shard_options(shard, options, server_name, seed), now)
    }

    fn shard_options(
        &self,
        id: ShardId,
        options: &Options,
        server_name: &str,
        seed: u64,
    ) -> ShardOptions {
        let engine = &options.engine;
        let share = |bytes: u64| (bytes / u64::from(self.shards)) as usize;
        let defaults = LogOptions::new(self.id, id, self.shards);
        let block = defaults.block_bytes as usize;
        let js = options.jetstream.as_ref();
        let sync = match js.map(|j| j.sync) {
            Some(options::SyncPolicy::Interval(d)) => {
                SyncPolicy::Interval(i64::try_from(d.as_nanos()).unwrap_or(i64::MAX))
            }
            _ => SyncPolicy::Always,
        };
        let in_flight = u32::from(engine.writes_in_flight);
        let log = LogOptions {
            segment_bytes: engine.segment_bytes as u32,
            tail_bytes: share(engine.tail_cache_bytes).max(2 * block),
            writes_in_flight: if in_flight > 0 { in_flight } else { defaults.writes_in_flight },
            large_writes_in_flight: match in_flight {
                0 => defaults.large_writes_in_flight,
                n => n,
            },
            sync,
            gather_ns: i64::try_from(engine.flush_gather.as_nanos()).unwrap_or(0),
            ..defaults
        };
        let mut consumer_limits = crate::consumer::config::ConsumerServerLimits::default();
        let mut meta_limits = crate::meta::MetaLimits::default();
        if let Some(js) = js {
            consumer_limits.max_ack_pending = i64::from(js.ack_pending_max);
            consumer_limits.max_consumers = js.consumers_max.max(0);
            consumer_limits.max_request_batch = i64::from(js.request_batch_max);
            let limit =
                |bytes: Option<u64>| bytes.and_then(|b| i64::try_from(b).ok()).unwrap_or(-1);
            meta_limits.server_memory = limit(js.memory_bytes_max);
            meta_limits.server_storage = limit(js.store_bytes_max);
            meta_limits.stream.duplicate_window =
                i64::try_from(js.duplicate_window_max.as_nanos()).unwrap_or(0);
        }
        ShardOptions {
            id,
            shards: self.shards,
            seed,
            server_name: server_name.to_owned(),
            consumer_limits,
            meta_limits,
            strict: js.is_none_or(|js| js.strict),
            max_payload: u64::from(options.limits.payload_bytes_max),
            index_cache_bytes: share(32 << 20),
            job_visits: JOB_VISITS,
            apply_items: APPLY_ITEMS,
            checkpoint: CheckpointOptions::default(),
            sort: SortOptions {
                memory_bytes: share(32 << 20).max(8 << 20),
                ..SortOptions::default()
            },
            log,
        }
    }
}

/// Makes a directory and those above it; errors in nats-server's words.
fn make(directory: &Path) -> Result<(), String> {
    match fs::metadata(directory) {
        Ok(there) if there.is_dir() => return Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        _ => return Err("storage directory is not a directory".to_owned()),
    }
    if let Some(above) = directory.parent().filter(|p| !p.as_os_str().is_empty()) {
        make(above)?;
    }
    fs::create_dir(directory).or_else(|e| match e.kind() {
        std::io::ErrorKind::AlreadyExists => Ok(()),
        _ => {
            let (path, why) = (directory.display(), go_error(&e));
            Err(format!("could not create storage directory - mkdir {path}: {why}"))
        }
    })
}

/// Locks a store for this process, and waits a little for one that was killed to be gone
/// completely.
fn lock(directory: &Path, wait: Duration) -> Result<fs::File, String> {
    let path = directory.join("lock");
    let failed = |e: std::io::Error| format!("store {}: {e}", path.display());
    let file = fs::OpenOptions::new().create(true).append(true).open(&path).map_err(failed)?;
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(fs::TryLockError::WouldBlock) if begun.elapsed() < wait => {
                std::thread::sleep(LOCK_PAUSE);
            }
            Err(fs::TryLockError::WouldBlock) => {
                return Err(format!("store {}: another process uses it", directory.display()));
            }
            Err(fs::TryLockError::Error(e)) => return Err(failed(e)),
        }
    }
}

/// The directories whose entries must be durable for a store in `store_dir` to be found again:
/// itself, what has to be made above it, and the first directory that is there already.
fn durable_with(store_dir: &Path) -> Vec<PathBuf> {
    let mut all = vec![store_dir.to_path_buf()];
    for above in store_dir.ancestors().skip(1) {
        let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
        all.push(above.to_path_buf());
        if above.exists() {
            break;
        }
    }
    all
}

fn sync_directories(directory: &Path, above: &[PathBuf]) -> std::io::Result<()> {
    fs::File::open(directory)?.sync_all()?;
    for path in above {
        match fs::File::open(path).and_then(|d| d.sync_all()) {
            // A directory that we may not read was not made by us.
            Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {}
            other => other?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_keeps_its_number_of_shards() {
        let dir = std::env::temp_dir().join(format!("corelane-store-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        let made = Store::open(&dir, 3).unwrap();
        let refused = lock(&dir.join("corelane"), Duration::ZERO).unwrap_err();
        assert!(refused.contains("another process uses it"), "{refused}");
        let id = made.id;
        drop(made);
        let again = Store::open(&dir, 8).unwrap();
        assert_eq!((again.shards, again.id), (3, id));
        drop(again);
        fs::write(dir.join("corelane/store"), "something else").unwrap();
        assert!(Store::open(&dir, 1).unwrap_err().contains("not a corelane store"));
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn names_are_durable_up_to_what_was_there() {
        let dir = std::env::temp_dir().join(format!("corelane-names-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        let store = dir.join("a/b");
        let up = std::env::temp_dir();
        assert_eq!(durable_with(&store), [store.clone(), dir.join("a"), dir.clone(), up]);
        fs::create_dir_all(&store).unwrap();
        assert_eq!(durable_with(&store), [store.clone(), dir.join("a")]);
        assert_eq!(durable_with(Path::new("data")), [Path::new("data"), Path::new(".")]);
        fs::remove_dir_all(&dir).unwrap();
    }
}
