//! A directory of files with direct I/O, waited for. For opening and recovery, and for the thread
//! that creates and removes files while the log runs.

use super::buf::BUF_ALIGN;
use super::{Blocking, DeviceError, File, Fill, IoBuf, Slot};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const ZERO_BYTES: usize = 1 << 20;
/// Files that a directory keeps open at most.
pub const OPEN_FILES_MAX: usize = 16;

/// The files of one shard.
pub struct Directory {
    path: PathBuf,
    /// The directory itself, to make what was created or removed last.
    handle: fs::File,
    open: BTreeMap<File, fs::File>,
}

/// The path of a shard's file.
pub fn file_path(directory: &Path, file: File) -> PathBuf {
    match file {
        File::Superblock => directory.join("superblock"),
        File::Segment(slot) => directory.join(format!("segment-{:08x}", slot.0)),
    }
}

/// Opens an existing file for direct reading and writing.
pub fn open_file(directory: &Path, file: File) -> io::Result<fs::File> {
    fs::OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_DIRECT | libc::O_CLOEXEC)
        .open(file_path(directory, file))
}

impl Directory {
    /// Makes the directory if there is none, and opens it.
    pub fn open(path: &Path) -> Result<Directory, DeviceError> {
        fs::create_dir_all(path).map_err(|e| failed(&e, "create", path))?;
        if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            sync_directory(parent)?;
        }
        // A process that was killed may have left files that are not in the directory for good.
        let handle = fs::File::open(path).map_err(|e| failed(&e, "open", path))?;
        handle.sync_all().map_err(|e| failed(&e, "flush the directory", path))?;
        Ok(Directory { path: path.to_path_buf(), handle, open: BTreeMap::new() })
    }

    fn sync(&self) -> Result<(), DeviceError> {
        self.handle.sync_all().map_err(|e| failed(&e, "flush the directory", &self.path))
    }

    fn file(&mut self, file: File) -> Result<&fs::File, DeviceError> {
        if !self.open.contains_key(&file) {
            if self.open.len() >= OPEN_FILES_MAX {
                self.open.clear();
            }
            let path = file_path(&self.path, file);
            let opened = open_file(&self.path, file).map_err(|e| failed(&e, "open", &path))?;
            self.open.insert(file, opened);
        }
        Ok(&self.open[&file])
    }

    fn fill(&mut self, file: File, bytes: u64, fill: Fill) -> Result<(), DeviceError> {
        let path = file_path(&self.path, file);
        let handle = self.file(file)?;
        handle.set_len(bytes).map_err(|e| failed(&e, "set the length of", &path))?;
        // SAFETY: the descriptor is open; fallocate has no other requirement.
        let result = unsafe { libc::fallocate(handle.as_raw_fd(), 0, 0, bytes as libc::off_t) };
        if result != 0 {
            let error = io::Error::last_os_error();
            // A file system without fallocate still gets its zeroes written.
            if error.raw_os_error() != Some(libc::EOPNOTSUPP) {
                return Err(failed(&error, "reserve space for", &path));
            }
        }
        if fill == Fill::Zero {
            let zeroes = IoBuf::zeroed(ZERO_BYTES);
            let mut at = 0;
            while at < bytes {
                let n = (bytes - at).min(ZERO_BYTES as u64);
                handle
                    .write_all_at(&zeroes[..n as usize], at)
                    .map_err(|e| failed(&e, "write", &path))?;
                at += n;
            }
        }
        handle.sync_all().map_err(|e| failed(&e, "flush", &path))
    }
}

fn failed(error: &io::Error, verb: &str, path: &Path) -> DeviceError {
    DeviceError::from_io(error, &format!("cannot {verb} {}", path.display()))
}

/// Makes what was created in or removed from a directory last.
fn sync_directory(path: &Path) -> Result<(), DeviceError> {
    fs::File::open(path)
        .and_then(|d| d.sync_all())
        .map_err(|e| failed(&e, "flush the directory", path))
}

impl Blocking for Directory {
    fn list(&mut self) -> Result<Vec<(Slot, u64)>, DeviceError> {
        let mut found = Vec::new();
        let entries = fs::read_dir(&self.path).map_err(|e| failed(&e, "list", &self.path))?;
        for entry in entries {
            let entry = entry.map_err(|e| failed(&e, "list", &self.path))?;
            let name = entry.file_name();
            let slot = name
                .to_str()
                .and_then(|n| n.strip_prefix("segment-"))
                .filter(|n| n.len() == 8)
                .and_then(|n| u32::from_str_radix(n, 16).ok());
            if let Some(slot) = slot {
                let data = entry.metadata().map_err(|e| failed(&e, "stat", &entry.path()))?;
                found.push((Slot(slot), data.len()));
            }
        }
        found.sort();
        Ok(found)
    }

    fn file_len(&mut self, file: File) -> Result<Option<u64>, DeviceError> {
        let path = file_path(&self.path, file);
        match fs::metadata(&path) {
            Ok(data) => Ok(Some(data.len())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(failed(&e, "stat", &path)),
        }
    }

    fn read_at(&mut self, file: File, offset: u64, buf: &mut [u8]) -> Result<usize, DeviceError> {
        debug_assert_eq!(buf.as_ptr() as usize % BUF_ALIGN, 0);
        let path = file_path(&self.path, file);
        let handle = self.file(file)?;
        let mut read = 0;
        while read < buf.len() {
            match handle.read_at(&mut buf[read..], offset + read as u64) {
                Ok(0) => break,
                Ok(n) => read += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(failed(&e, "read", &path)),
            }
            if read % 512 != 0 {
                break; // the unaligned end of a file
            }
        }
        Ok(read)
    }

    fn write_at(&mut self, file: File, offset: u64, data: &[u8]) -> Result<(), DeviceError> {
        debug_assert_eq!(data.as_ptr() as usize % BUF_ALIGN, 0);
        let path = file_path(&self.path, file);
        self.file(file)?.write_all_at(data, offset).map_err(|e| failed(&e, "write", &path))
    }

    fn flush(&mut self, file: File) -> Result<(), DeviceError> {
        let path = file_path(&self.path, file);
        self.file(file)?.sync_data().map_err(|e| failed(&e, "flush", &path))
    }

    fn create(&mut self, file: File, bytes: u64, fill: Fill) -> Result<(), DeviceError> {
        let path = file_path(&self.path, file);
        let existed = self.file_len(file)?.is_some();
        if !existed {
            let handle = fs::OpenOptions::new()
                .read(true)
                .write(true)
                .create_new(true)
                .custom_flags(libc::O_DIRECT | libc::O_CLOEXEC)
                .mode(0o600)
                .open(&path)
                .map_err(|e| failed(&e, "create", &path))?;
            if self.open.len() >= OPEN_FILES_MAX {
                self.open.clear();
            }
            self.open.insert(file, handle);
        }
        let filled = self.fill(file, bytes, fill);
        // The log uses its own descriptors; one kept here would keep a removed file's space.
        self.open.remove(&file);
        if filled.is_err() && !existed {
            let _ = fs::remove_file(&path);
        }
        filled?;
        self.sync()
    }

    fn remove(&mut self, file: File) -> Result<(), DeviceError> {
        let path = file_path(&self.path, file);
        self.open.remove(&file);
        fs::remove_file(&path).map_err(|e| failed(&e, "remove", &path))?;
        self.sync()
    }

    fn free_bytes(&mut self) -> Result<u64, DeviceError> {
        let path = CString::new(self.path.as_os_str().as_bytes())
            .map_err(|_| DeviceError::from_errno(libc::EINVAL, "statvfs"))?;
        // SAFETY: statvfs is plain data; all zeroes is a value of it.
        let mut stat: libc::statvfs = unsafe { std::mem::zeroed() };
        // SAFETY: path ends with a zero byte and stat is writable.
        if unsafe { libc::statvfs(path.as_ptr(), &mut stat) } != 0 {
            return Err(failed(&io::Error::last_os_error(), "stat", &self.path));
        }
        Ok(stat.f_bavail * stat.f_frsize)
    }
}

/// The directory holds what is not ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignStore(String);

impl std::fmt::Display for ForeignStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ForeignStore {}

/// Refuses a `store_dir` in which nats-server keeps its data.
pub fn refuse_foreign_store(store_dir: &Path) -> Result<(), ForeignStore> {
    let theirs = store_dir.join("jetstream");
    if theirs.is_dir() {
        return Err(ForeignStore(format!(
            "store_dir {} holds the data of a nats-server ({}), which corelane cannot read; \
             give corelane a store_dir of its own",
            store_dir.display(),
            theirs.display()
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("corelane-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        path
    }

    #[test]
    #[cfg_attr(miri, ignore = "it knows no direct I/O")]
    fn files_are_created_written_read_listed_and_removed() {
        let path = scratch("directory");
        let mut dir = match Directory::open(&path) {
            Ok(dir) => dir,
            Err(e) => panic!("{e}"),
        };
        let file = File::Segment(Slot(0x1f));
        assert_eq!(dir.file_len(file), Ok(None));
        match dir.create(file, 64 << 10, Fill::Zero) {
            Err(DeviceError::Io { errno: libc::EINVAL, .. }) => return, // no direct I/O here
            other => other.unwrap(),
        }
        assert_eq!(dir.list().unwrap(), vec![(Slot(0x1f), 64 << 10)]);
        let mut buf = IoBuf::zeroed(8192);
        buf[..8192].fill(9);
        dir.write_at(file, 4096, &buf).unwrap();
        dir.flush(file).unwrap();
        let mut back = IoBuf::zeroed(16384);
        assert_eq!(dir.read_at(file, 0, &mut back).unwrap(), 16384);
        assert!(back[..4096].iter().all(|b| *b == 0) && back[4096..12288] == buf[..]);
        assert_eq!(dir.read_at(file, (64 << 10) - 4096, &mut back).unwrap(), 4096);
        assert!(dir.free_bytes().unwrap() > 0);
        dir.remove(file).unwrap();
        assert!(dir.list().unwrap().is_empty());
        fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn a_store_of_nats_server_is_refused_by_name() {
        let path = scratch("foreign");
        fs::create_dir_all(&path).unwrap();
        assert_eq!(refuse_foreign_store(&path), Ok(()));
        fs::create_dir_all(path.join("jetstream")).unwrap();
        let error = refuse_foreign_store(&path).unwrap_err().to_string();
        assert!(error.contains("nats-server"), "{error}");
        fs::remove_dir_all(&path).unwrap();
    }
}
