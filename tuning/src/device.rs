//! The block device under a directory.

use rustix::fs::{major, minor, stat, statvfs};
use std::fs;
use std::path::{Path, PathBuf};

/// A block device as the kernel describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its name under `/dev`.
    pub name: String,
    /// What it calls itself; empty if it does not.
    pub model: String,
    /// True for spinning disks.
    pub rotational: bool,
    /// True if it keeps writes in a volatile cache, so that a flush is needed.
    pub volatile_cache: bool,
    /// Smallest unit of a direct write, in bytes.
    pub logical_block: u32,
    /// Smallest unit that is written whole, in bytes.
    pub physical_block: u32,
}

/// The device that holds `path`; `None` where there is none to see (tmpfs, overlays, network).
pub fn device_of(path: &Path) -> Option<Device> {
    let device = stat(path).ok()?.st_dev;
    let link = format!("/sys/dev/block/{}:{}", major(device), minor(device));
    let mut dir = fs::canonicalize(link).ok()?;
    // A partition has no queue of its own; its disk is the directory above.
    if !dir.join("queue").is_dir() {
        dir.pop();
    }
    read_device(&dir)
}

fn read_device(dir: &Path) -> Option<Device> {
    let queue = dir.join("queue");
    if !queue.is_dir() {
        return None;
    }
    let text = |path: PathBuf| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let number = |name: &str, default: u32| text(queue.join(name)).parse().unwrap_or(default);
    Some(Device {
        name: dir.file_name()?.to_string_lossy().into_owned(),
        model: text(dir.join("device/model")),
        rotational: number("rotational", 0) == 1,
        volatile_cache: text(queue.join("write_cache")) == "write back",
        logical_block: number("logical_block_size", 512),
        physical_block: number("physical_block_size", 512),
    })
}

/// Bytes that the file system of `path`, or of its nearest directory that exists, has free for this
/// user.
pub fn disk_free_bytes(path: &Path) -> Option<u64> {
    let here = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let found = here.ancestors().find_map(|dir| {
        let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        statvfs(dir).ok()
    })?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_read_from_the_kernels_files() {
        let dir = std::env::temp_dir().join(format!("corelane-tune-{}", std::process::id()));
        let disk = dir.join("vdx");
        fs::create_dir_all(disk.join("queue")).unwrap();
        fs::create_dir_all(disk.join("device")).unwrap();
        for (file, text) in [
            ("queue/rotational", "0\n"),
            ("queue/write_cache", "write back\n"),
            ("queue/logical_block_size", "512\n"),
            ("queue/physical_block_size", "4096\n"),
            ("device/model", "QUICK  \n"),
        ] {
            fs::write(disk.join(file), text).unwrap();
        }
        let device = read_device(&disk).unwrap();
        assert_eq!((device.name.as_str(), device.model.as_str()), ("vdx", "QUICK"));
        assert!(device.volatile_cache && !device.rotational);
        assert_eq!((device.logical_block, device.physical_block), (512, 4096));
        assert_eq!(read_device(&dir), None);
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn free_space_is_that_of_the_nearest_directory() {
        let free = disk_free_bytes(Path::new("/")).unwrap();
        assert!(free > 0);
        assert!(disk_free_bytes(Path::new("/not/there/yet")).is_some());
        assert!(disk_free_bytes(Path::new("not-there-yet/x")).is_some());
    }
}
