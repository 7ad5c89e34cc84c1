//! The state of the file system: what is durable lies in a directory, what is not in memory.
//!
//! - A write changes pages in memory. `fsync` of the file writes them to the backing file and makes
//!   the size durable.
//! - A name that is made, moved or removed is durable when its directory is synchronised, or at
//!   once where names are journalled (`names_at_once`).
//! - A cut loses all that is not durable, except for what a disk might have written on its own:
//!   a random part of the dirty pages, of the sizes and of the names (`cut`).
//!
//! The backing directory holds `data/<inode>` and `tree`, the durable names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// Size of the pages that are kept or lost.
pub const PAGE: u64 = 4096;
/// The inode of the root directory.
pub const ROOT: u64 = 1;

type Page = Box<[u8; PAGE as usize]>;
type Names = BTreeMap<String, u64>;

struct Inode {
    backing: File,
    dirty: BTreeMap<u64, Page>,
    size: u64,
    /// What of the backing file still counts: a truncation hides the rest.
    valid: u64,
}

#[derive(Default)]
struct Dir {
    names: Names,
    durable: Names,
}

/// The file system.
pub struct Disk {
    home: PathBuf,
    files: BTreeMap<u64, Inode>,
    dirs: BTreeMap<u64, Dir>,
    next: u64,
    names_at_once: bool,
    /// Bytes that all files may take together.
    pub limit: u64,
}

fn error(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}

impl Disk {
    /// Opens what is durable in `home`.
    pub fn open(home: PathBuf, names_at_once: bool, limit: u64) -> io::Result<Disk> {
        fs::create_dir_all(home.join("data"))?;
        let (files, dirs) = (BTreeMap::new(), BTreeMap::from([(ROOT, Dir::default())]));
        let mut disk = Disk { home, files, dirs, next: ROOT + 1, names_at_once, limit };
        let tree = fs::read_to_string(disk.home.join("tree")).unwrap_or_default();
        for line in tree.lines() {
            let mut words = line.splitn(4, ' ');
            let (kind, parent) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
            let (ino, name) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
            let bad = |_| io::Error::other(format!("bad line in the tree: {line}"));
            let (parent, ino) = (parent.parse().map_err(bad)?, ino.parse::<u64>().map_err(bad)?);
            let dir: &mut Dir = disk.dirs.entry(parent).or_default();
            dir.names.insert(name.to_owned(), ino);
            dir.durable.insert(name.to_owned(), ino);
            match kind {
                "d" => drop(disk.dirs.entry(ino).or_default()),
                _ => disk.load(ino)?,
            }
        }
        for entry in fs::read_dir(disk.home.join("data"))?.flatten() {
            let ino = entry.file_name().to_string_lossy().parse().unwrap_or(0);
            disk.next = disk.next.max(ino + 1);
            if !disk.files.contains_key(&ino) {
                fs::remove_file(entry.path())?;
            }
        }
        disk.next = disk.dirs.keys().copied().fold(disk.next, |next, ino| next.max(ino + 1));
        Ok(disk)
    }

    fn load(&mut self, ino: u64) -> io::Result<()> {
        let path = self.home.join("data").join(ino.to_string());
        let backing =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let size = backing.metadata()?.len();
        self.files.insert(ino, Inode { backing, dirty: BTreeMap::new(), size, valid: size });
        Ok(())
    }

    fn dir(&mut self, ino: u64) -> io::Result<&mut Dir> {
        self.dirs.get_mut(&ino).ok_or_else(|| error(libc::ENOTDIR))
    }

    fn file(&mut self, ino: u64) -> io::Result<&mut Inode> {
        self.files.get_mut(&ino).ok_or_else(|| error(libc::ENOENT))
    }

    /// The inode that a name stands for.
    pub fn lookup(&mut self, parent: u64, name: &str) -> io::Result<u64> {
        self.dir(parent)?.names.get(name).copied().ok_or_else(|| error(libc::ENOENT))
    }

    /// The size of a file, or nothing for a directory.
    pub fn size(&self, ino: u64) -> io::Result<Option<u64>> {
        match (self.files.get(&ino), self.dirs.contains_key(&ino)) {
            (Some(file), _) => Ok(Some(file.size)),
            (None, true) => Ok(None),
            (None, false) => Err(error(libc::ENOENT)),
        }
    }

    /// The names of a directory with their inodes, and whether each is a directory.
    pub fn list(&mut self, ino: u64) -> io::Result<Vec<(String, u64, bool)>> {
        let names = self.dir(ino)?.names.clone();
        let is_dir = |ino| self.dirs.contains_key(&ino);
        Ok(names.into_iter().map(|(name, ino)| (name, ino, is_dir(ino))).collect())
    }

    /// Makes a file or a directory.
    pub fn create(&mut self, parent: u64, name: &str, directory: bool) -> io::Result<u64> {
        if self.dir(parent)?.names.contains_key(name) {
            return Err(error(libc::EEXIST));
        }
        let ino = self.next;
        self.next += 1;
        match directory {
            true => drop(self.dirs.insert(ino, Dir::default())),
            false => self.load(ino)?,
        }
        self.dir(parent)?.names.insert(name.to_owned(), ino);
        self.named()?;
        Ok(ino)
    }

    /// Removes a name. What it stood for stays open to those who have it open.
    pub fn remove(&mut self, parent: u64, name: &str) -> io::Result<()> {
        let ino = self.lookup(parent, name)?;
        if self.dirs.get(&ino).is_some_and(|dir| !dir.names.is_empty()) {
            return Err(error(libc::ENOTEMPTY));
        }
        self.dir(parent)?.names.remove(name);
        self.named()
    }

    /// Moves a name, over another one if need be.
    pub fn rename(&mut self, parent: u64, name: &str, to: u64, new: &str) -> io::Result<()> {
        let ino = self.lookup(parent, name)?;
        self.dir(to)?;
        self.dir(parent)?.names.remove(name);
        self.dir(to)?.names.insert(new.to_owned(), ino);
        self.named()
    }

    fn named(&mut self) -> io::Result<()> {
        if !self.names_at_once {
            return Ok(());
        }
        self.dirs.values_mut().for_each(|dir| dir.durable = dir.names.clone());
        self.write_tree()
    }

    /// Reads up to `len` bytes.
    pub fn read(&mut self, ino: u64, offset: u64, len: u64) -> io::Result<Vec<u8>> {
        let file = self.file(ino)?;
        let end = (offset + len).min(file.size);
        if end <= offset {
            return Ok(Vec::new());
        }
        let mut out = vec![0; (end - offset) as usize];
        let kept = file.valid.min(end).saturating_sub(offset) as usize;
        file.backing.read_exact_at(&mut out[..kept], offset)?;
        for (&index, page) in file.dirty.range(offset / PAGE..end.div_ceil(PAGE)) {
            let start = (index * PAGE).max(offset);
            let stop = ((index + 1) * PAGE).min(end);
            if start < stop {
                let from = (start - index * PAGE) as usize;
                let piece = &page[from..from + (stop - start) as usize];
                out[(start - offset) as usize..(stop - offset) as usize].copy_from_slice(piece);
            }
        }
        Ok(out)
    }

    /// Bytes that all files take.
    pub fn used(&self) -> u64 {
        self.files.values().map(|file| file.size).sum()
    }

    fn room(&mut self, ino: u64, end: u64) -> io::Result<()> {
        let (used, limit) = (self.used(), self.limit);
        let growth = end.saturating_sub(self.file(ino)?.size);
        if growth > 0 && used + growth > limit { Err(error(libc::ENOSPC)) } else { Ok(()) }
    }

    /// Writes into memory.
    pub fn write(&mut self, ino: u64, offset: u64, data: &[u8]) -> io::Result<()> {
        let end = offset + data.len() as u64;
        self.room(ino, end)?;
        let mut at = offset;
        while at < end {
            let index = at / PAGE;
            let stop = ((index + 1) * PAGE).min(end);
            if !self.file(ino)?.dirty.contains_key(&index) {
                let mut page = Box::new([0; PAGE as usize]);
                let old = match stop - at == PAGE {
                    true => Vec::new(),
                    false => self.read(ino, index * PAGE, PAGE)?,
                };
                page[..old.len()].copy_from_slice(&old);
                self.file(ino)?.dirty.insert(index, page);
            }
            let file = self.file(ino)?;
            if let Some(page) = file.dirty.get_mut(&index) {
                let from = (at - index * PAGE) as usize;
                let piece = &data[(at - offset) as usize..(stop - offset) as usize];
                page[from..from + piece.len()].copy_from_slice(piece);
            }
            at = stop;
        }
        let file = self.file(ino)?;
        file.size = file.size.max(end);
        Ok(())
    }

    /// Sets the size; what is cut off reads as zero when the file grows again.
    pub fn truncate(&mut self, ino: u64, size: u64) -> io::Result<()> {
        self.room(ino, size)?;
        let file = self.file(ino)?;
        file.valid = file.valid.min(size);
        file.dirty.split_off(&size.div_ceil(PAGE));
        if let Some(page) = file.dirty.get_mut(&(size / PAGE)) {
            page[(size % PAGE) as usize..].fill(0);
        }
        file.size = size;
        Ok(())
    }

    /// `fallocate`: grows the file, or makes a range read as zero.
    pub fn allocate(&mut self, ino: u64, offset: u64, len: u64, mode: i32) -> io::Result<()> {
        let keeps_size = mode & libc::FALLOC_FL_KEEP_SIZE != 0;
        let clears = mode & (libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_ZERO_RANGE) != 0;
        let size = self.file(ino)?.size;
        if !keeps_size && offset + len > size {
            self.truncate(ino, offset + len)?;
        }
        let end = (offset + len).min(if clears { size } else { 0 });
        if offset < end {
            self.write(ino, offset, &vec![0; (end - offset) as usize])?;
        }
        Ok(())
    }

    /// `fsync` of a file.
    pub fn sync(&mut self, ino: u64) -> io::Result<()> {
        let file = self.file(ino)?;
        file.backing.set_len(file.valid)?;
        for (index, page) in std::mem::take(&mut file.dirty) {
            file.backing.write_all_at(&page[..], index * PAGE)?;
        }
        file.backing.set_len(file.size)?;
        file.valid = file.size;
        Ok(())
    }

    /// `fsync` of a directory.
    pub fn sync_dir(&mut self, ino: u64) -> io::Result<()> {
        let dir = self.dir(ino)?;
        dir.durable = dir.names.clone();
        self.write_tree()
    }

    fn write_tree(&self) -> io::Result<()> {
        let mut text = String::new();
        for (parent, dir) in &self.dirs {
            for (name, ino) in &dir.durable {
                let kind = if self.dirs.contains_key(ino) { "d" } else { "f" };
                text.push_str(&format!("{kind} {parent} {ino} {name}\n"));
            }
        }
        let new = self.home.join("tree.new");
        fs::write(&new, text)?;
        fs::rename(new, self.home.join("tree"))
    }

    /// The power goes. With a seed, a random part of what was not durable has reached the disk.
    pub fn cut(&mut self, seed: Option<u64>) -> io::Result<BTreeSet<u64>> {
        let mut kept = BTreeSet::new();
        let Some(mut state) = seed.map(|seed| seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1) else {
            return Ok(kept);
        };
        let mut coin = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state & 1 == 0
        };
        for (&ino, file) in &mut self.files {
            let durable = file.backing.metadata()?.len();
            let end = if coin() { file.size.max(durable) } else { durable };
            file.backing.set_len(end)?;
            for (index, page) in std::mem::take(&mut file.dirty) {
                if (index + 1) * PAGE <= end && coin() {
                    file.backing.write_all_at(&page[..], index * PAGE)?;
                    kept.insert(ino);
                }
            }
        }
        for dir in self.dirs.values_mut() {
            if coin() {
                dir.durable = dir.names.clone();
            }
        }
        self.write_tree()?;
        Ok(kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home(name: &str) -> PathBuf {
        let home = std::env::temp_dir().join(format!("powercut-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&home);
        home
    }

    fn open(home: &PathBuf) -> Disk {
        Disk::open(home.clone(), false, u64::MAX).unwrap()
    }

    #[test]
    fn what_was_not_synchronised_is_lost() {
        let home = home("lost");
        let mut disk = open(&home);
        let a = disk.create(ROOT, "a", false).unwrap();
        disk.write(a, 0, b"one").unwrap();
        disk.sync(a).unwrap();
        disk.sync_dir(ROOT).unwrap();
        disk.write(a, 1, b"NE and more").unwrap();
        disk.create(ROOT, "b", false).unwrap();
        assert_eq!(disk.read(a, 0, 100).unwrap(), b"oNE and more");
        drop(disk);
        let mut disk = open(&home);
        let a = disk.lookup(ROOT, "a").unwrap();
        assert_eq!(disk.read(a, 0, 100).unwrap(), b"one");
        assert!(disk.lookup(ROOT, "b").is_err());
        fs::remove_dir_all(home).unwrap();
    }

    #[test]
    fn a_name_that_was_moved_is_durable_with_its_directory() {
        let home = home("names");
        let mut disk = open(&home);
        let a = disk.create(ROOT, "new", false).unwrap();
        disk.write(a, 0, b"x").unwrap();
        disk.sync(a).unwrap();
        disk.sync_dir(ROOT).unwrap();
        disk.rename(ROOT, "new", ROOT, "real").unwrap();
        drop(disk);
        let mut disk = open(&home);
        assert!(disk.lookup(ROOT, "real").is_err());
        disk.rename(ROOT, "new", ROOT, "real").unwrap();
        disk.sync_dir(ROOT).unwrap();
        drop(disk);
        let mut disk = open(&home);
        let real = disk.lookup(ROOT, "real").unwrap();
        assert_eq!(disk.read(real, 0, 9).unwrap(), b"x");
        fs::remove_dir_all(home).unwrap();
    }

    /// Against a plain vector of bytes, with the same operations.
    #[test]
    fn reads_what_was_written() {
        let home = home("model");
        let mut disk = open(&home);
        let ino = disk.create(ROOT, "f", false).unwrap();
        disk.sync_dir(ROOT).unwrap();
        let (mut model, mut durable) = (Vec::new(), Vec::new());
        let mut state = 7_u64;
        let mut random = move |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % below
        };
        for round in 0..2000 {
            let (offset, len) = (random(20_000), random(9_000));
            match random(7) {
                0..=2 => {
                    let data = vec![round as u8 | 1; len as usize];
                    disk.write(ino, offset, &data).unwrap();
                    let end = (offset + len) as usize;
                    model.resize(model.len().max(end), 0);
                    model[offset as usize..end].copy_from_slice(&data);
                }
                3 => {
                    disk.truncate(ino, offset).unwrap();
                    model.resize(offset as usize, 0);
                }
                4 => {
                    disk.allocate(ino, offset, len, libc::FALLOC_FL_ZERO_RANGE).unwrap();
                    let end = (offset + len) as usize;
                    model.resize(model.len().max(end), 0);
                    model[offset as usize..end].fill(0);
                }
                5 => {
                    disk.sync(ino).unwrap();
                    durable = model.clone();
                }
                _ if random(5) == 0 => {
                    drop(disk);
                    disk = open(&home);
                    model = durable.clone();
                }
                _ => {}
            }
            assert_eq!(disk.read(ino, 0, 1 << 20).unwrap(), model, "round {round}");
        }
        fs::remove_dir_all(home).unwrap();
    }

    #[test]
    fn a_full_disk() {
        let home = home("full");
        let mut disk = Disk::open(home.clone(), false, 10_000).unwrap();
        let a = disk.create(ROOT, "a", false).unwrap();
        disk.write(a, 0, &[1; 9000]).unwrap();
        let full = disk.write(a, 9000, &[1; 2000]).unwrap_err();
        assert_eq!(full.raw_os_error(), Some(libc::ENOSPC));
        disk.write(a, 0, &[2; 9000]).unwrap();
        fs::remove_dir_all(home).unwrap();
    }
}
