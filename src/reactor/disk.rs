//! The disks of a reactor's shards: device operations as ring submissions, and a thread for what
//! the ring must not do.
//!
//! A write with a flush is one write and one linked data flush; both report as one. Creating and
//! removing files goes to a thread, because reserving and zeroing space blocks.
//!
//! A shard has a share of the process's descriptors. Files that were not used for longest are
//! closed for others; an operation whose file cannot be opened for want of a descriptor waits for
//! one.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use corelane_storage::device::blocking::{Directory, open_file};
use corelane_storage::device::{Blocking, DeviceError, Done, File, IoBuf, Op, Token, WriteView};
use corelane_storage::log::EXTENSION_BYTES_MAX;
use io_uring::{opcode, squeue, types};

use super::descriptors;
use super::driver::Driver;
use super::run::Mailbox;
use super::tag::{self, Kind};
use crate::turn::Command;
use crate::turn::report::DiskReport;
use crate::types::Timestamp;

/// When an operation that waits for a descriptor is tried again, if no other has ended before.
const RETRY: Duration = Duration::from_millis(10);

/// The disks of one reactor, by position among its shards.
pub struct Disks {
    shards: Vec<Disk>,
    running: slab::Slab<Running>,
    finished: Option<mpsc::Receiver<(usize, Done)>>,
    worker: Option<mpsc::Sender<(usize, Op)>>,
    thread: Option<std::thread::JoinHandle<()>>,
    /// What follows a write that is to have zeroes behind it.
    zeroes: IoBuf,
    /// Files that a shard has open at most.
    files_max: usize,
    /// Uses of files so far.
    uses: u64,
    /// Operations that wait for a descriptor. The log bounds how many it has under way.
    waiting: VecDeque<(usize, Op)>,
    /// Operations whose file could not be opened.
    failed: Vec<(usize, Done)>,
}

struct Disk {
    directory: PathBuf,
    files: BTreeMap<File, OpenFile>,
    counted: DiskReport,
}

struct OpenFile {
    handle: std::fs::File,
    /// Operations under way. None of them is in the kernel for sure, so the descriptor stays.
    busy: u32,
    /// The number of its last use.
    used: u64,
}

/// Why there is no descriptor of a file.
enum NotOpen {
    /// All that may be open are, and in use.
    Wait,
    Failed(DeviceError),
}

/// An operation in the ring.
struct Running {
    shard: usize,
    file: File,
    token: Token,
    what: What,
    /// What it reports when its last part is over and nothing failed.
    result: Result<usize, DeviceError>,
    /// The pieces of a write that has two.
    pieces: Option<Box<[libc::iovec; 2]>>,
}

enum What {
    Write { offset: u64, data: WriteView, zeroes: u32 },
    Flush,
    Read { buf: Option<IoBuf> },
}

impl Disks {
    /// The disks in `directories`, each with up to `files_max` open files. Their thread wakes the
    /// reactor through `mailbox`.
    pub fn new(
        directories: Vec<PathBuf>,
        files_max: usize,
        mailbox: Mailbox,
    ) -> std::io::Result<Self> {
        let mut disks = Disks {
            shards: Vec::new(),
            running: slab::Slab::new(),
            finished: None,
            worker: None,
            thread: None,
            zeroes: IoBuf::zeroed(EXTENSION_BYTES_MAX as usize),
            files_max,
            uses: 0,
            waiting: VecDeque::new(),
            failed: Vec::new(),
        };
        if directories.is_empty() {
            return Ok(disks);
        }
        let (to_worker, jobs) = mpsc::channel::<(usize, Op)>();
        let (results, finished) = mpsc::channel();
        let paths = directories.clone();
        let thread = std::thread::Builder::new()
            .name("corelane-files".into())
            .spawn(move || files_thread(&paths, &jobs, &results, &mailbox))?;
        disks.shards = directories
            .into_iter()
            .map(|directory| Disk {
                directory,
                files: BTreeMap::new(),
                counted: DiskReport::default(),
            })
            .collect();
        disks.finished = Some(finished);
        disks.worker = Some(to_worker);
        disks.thread = Some(thread);
        Ok(disks)
    }

    /// Starts an operation of the shard at position `shard`.
    pub fn submit(&mut self, shard: usize, op: Op, driver: &mut Driver) {
        let file = match &op {
            Op::Create { .. } | Op::Remove { .. } => {
                if let Op::Remove { slot, .. } = &op {
                    self.shards[shard].files.remove(&File::Segment(*slot));
                }
                if let Some(worker) = &self.worker {
                    let _ = worker.send((shard, op));
                }
                return;
            }
            Op::Write { file, .. } | Op::Flush { file, .. } | Op::Read { file, .. } => *file,
        };
        match self.fd(shard, file) {
            Ok(fd) => self.begin(shard, file, fd, op, driver),
            Err(NotOpen::Wait) => self.waiting.push_back((shard, op)),
            Err(NotOpen::Failed(error)) => {
                let token = op.token();
                let buf = match op {
                    Op::Read { buf, .. } => Some(buf),
                    _ => None,
                };
                self.failed.push((shard, Done { token, result: Err(error), buf }));
            }
        }
    }

    /// Tries again what waited for a descriptor, and hands over what failed for want of its file.
    pub fn settle(&mut self, driver: &mut Driver, mut done: impl FnMut(usize, Done)) {
        for _ in 0..self.waiting.len() {
            let Some((shard, op)) = self.waiting.pop_front() else { break };
            self.submit(shard, op, driver);
        }
        for (shard, d) in self.failed.drain(..) {
            done(shard, d);
        }
    }

    /// When `settle` must be called at the latest.
    pub fn deadline(&self, now: Timestamp) -> Option<Timestamp> {
        if !self.failed.is_empty() {
            return Some(now);
        }
        let retry = RETRY.as_nanos() as i64;
        (!self.waiting.is_empty()).then(|| now.plus(retry))
    }

    /// True if the kernel works on anything.
    pub fn any_busy(&self) -> bool {
        !self.running.is_empty()
    }

    fn begin(&mut self, shard: usize, file: File, fd: types::Fd, op: Op, driver: &mut Driver) {
        let token = op.token();
        match op {
            Op::Write { offset, data, zeroes, flush, .. } => {
                let what = What::Write { offset, data, zeroes };
                self.write(Running::new(shard, file, token, what), fd, flush, driver);
            }
            Op::Flush { .. } => {
                self.shards[shard].counted.flushes += 1;
                let slot = self.running.insert(Running::new(shard, file, token, What::Flush));
                let entry = opcode::Fsync::new(fd)
                    .flags(types::FsyncFlags::DATASYNC)
                    .build()
                    .user_data(tag::pack(Kind::Disk, slot << 1 | 1));
                driver.push(&entry);
            }
            Op::Read { offset, len, mut buf, .. } => {
                let pointer = buf.as_mut_ptr();
                let what = What::Read { buf: Some(buf) };
                let slot = self.running.insert(Running::new(shard, file, token, what));
                let entry = opcode::Read::new(fd, pointer, len as u32)
                    .offset(offset)
                    .build()
                    .user_data(tag::pack(Kind::Disk, slot << 1));
                driver.push(&entry);
            }
            Op::Create { .. } | Op::Remove { .. } => {}
        }
    }

    fn write(&mut self, mut running: Running, fd: types::Fd, flush: bool, driver: &mut Driver) {
        let What::Write { offset, data, zeroes } = &running.what else { return };
        let zeroes = *zeroes as usize;
        // What a write with a flush reports when the flush is through.
        running.result = Ok(data.len() + zeroes);
        let counted = &mut self.shards[running.shard].counted;
        counted.writes += 1;
        counted.written_bytes += data.len() as u64;
        counted.flushes += u64::from(flush);
        let write = if zeroes == 0 {
            opcode::Write::new(fd, data.as_ptr(), data.len() as u32).offset(*offset).build()
        } else {
            let piece = |from: *const u8, len| libc::iovec {
                iov_base: from.cast_mut().cast(),
                iov_len: len,
            };
            let behind = &self.zeroes[..zeroes];
            let pieces = [piece(data.as_ptr(), data.len()), piece(behind.as_ptr(), zeroes)];
            let pieces = running.pieces.insert(Box::new(pieces));
            opcode::Writev::new(fd, pieces.as_ptr(), 2).offset(*offset).build()
        };
        let slot = self.running.insert(running);
        let write = write.user_data(tag::pack(Kind::Disk, slot << 1));
        if !flush {
            driver.push(&write);
            return;
        }
        driver.reserve(2);
        // The pair completes once: with the flush, or with a write that failed or was short, whose
        // flush is then cancelled without a word.
        let flags = squeue::Flags::IO_LINK | squeue::Flags::SKIP_SUCCESS;
        driver.push(&write.flags(flags));
        let sync = opcode::Fsync::new(fd)
            .flags(types::FsyncFlags::DATASYNC)
            .build()
            .user_data(tag::pack(Kind::Disk, slot << 1 | 1));
        driver.push(&sync);
    }

    /// The descriptor of a file, for one more operation.
    fn fd(&mut self, shard: usize, file: File) -> Result<types::Fd, NotOpen> {
        self.uses += 1;
        let (disk, used) = (&mut self.shards[shard], self.uses);
        if let Some(open) = disk.files.get_mut(&file) {
            open.busy += 1;
            open.used = used;
            return Ok(types::Fd(open.handle.as_raw_fd()));
        }
        if disk.files.len() >= self.files_max && !disk.close_one() {
            return Err(NotOpen::Wait);
        }
        let handle = loop {
            match open_file(&disk.directory, file) {
                Ok(handle) => break handle,
                Err(e) if descriptors::ran_out(&e) => {
                    if !disk.close_one() {
                        return Err(NotOpen::Wait);
                    }
                }
                Err(e) => {
                    let what = format!("cannot open {file:?} in {}", disk.directory.display());
                    return Err(NotOpen::Failed(DeviceError::from_io(&e, &what)));
                }
            }
        };
        let fd = types::Fd(handle.as_raw_fd());
        disk.files.insert(file, OpenFile { handle, busy: 1, used });
        Ok(fd)
    }

    /// A completion of the ring: part `tagged & 1` (1 is the flush) of operation `tagged >> 1`.
    pub fn complete(&mut self, tagged: usize, result: i32, mut done: impl FnMut(usize, Done)) {
        let (slot, is_flush) = (tagged >> 1, tagged & 1 == 1);
        let Some(mut running) = self.running.try_remove(slot) else { return };
        if let Some(open) = self.shards[running.shard].files.get_mut(&running.file) {
            open.busy -= 1;
        }
        running.note(result, is_flush);
        let buf = match running.what {
            What::Read { buf } => buf,
            _ => None,
        };
        done(running.shard, Done { token: running.token, result: running.result, buf });
    }

    /// Hands over what the thread has finished.
    pub fn worker_done(&mut self, mut done: impl FnMut(usize, Done)) {
        let Some(finished) = &self.finished else { return };
        while let Ok((shard, d)) = finished.try_recv() {
            done(shard, d);
        }
    }

    /// What each shard's device was asked for.
    pub fn report(&self) -> Vec<DiskReport> {
        self.shards.iter().map(|disk| disk.counted).collect()
    }

    /// Ends the thread.
    pub fn finish(&mut self) {
        self.worker = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Disk {
    /// Closes the file that was not used for longest. False if all are in use.
    fn close_one(&mut self) -> bool {
        let idle = self.files.iter().filter(|(_, open)| open.busy == 0);
        let oldest = idle.min_by_key(|(_, open)| open.used).map(|(file, _)| *file);
        oldest.is_some_and(|file| self.files.remove(&file).is_some())
    }
}

impl Running {
    fn new(shard: usize, file: File, token: Token, what: What) -> Self {
        Running { shard, file, token, what, result: Ok(0), pieces: None }
    }

    fn note(&mut self, result: i32, is_flush: bool) {
        match &self.what {
            _ if result < 0 => {
                let verb = if is_flush { "flush the log" } else { "write or read the log" };
                self.result = Err(DeviceError::from_errno(-result, verb));
            }
            What::Write { data, zeroes, .. } if !is_flush => {
                let want = data.len() + *zeroes as usize;
                if result as usize != want {
                    self.result = Err(DeviceError::Io {
                        errno: 0,
                        message: format!("write the log: {result} of {want} bytes written"),
                    });
                }
            }
            What::Read { .. } => self.result = Ok(result as usize),
            _ => {}
        }
    }
}

fn files_thread(
    paths: &[PathBuf],
    jobs: &mpsc::Receiver<(usize, Op)>,
    results: &mpsc::Sender<(usize, Done)>,
    mailbox: &Mailbox,
) {
    let mut directories: Vec<Option<Directory>> = paths.iter().map(|_| None).collect();
    while let Ok((shard, op)) = jobs.recv() {
        let token = op.token();
        let result = carry_out(&paths[shard], &mut directories[shard], &op);
        let done = Done { token, result: result.map(|()| 0), buf: None };
        if results.send((shard, done)).is_err() || !mailbox.send(Command::Nothing) {
            return;
        }
    }
}

/// Creates or removes a file, as soon as there are descriptors for it.
fn carry_out(path: &Path, place: &mut Option<Directory>, op: &Op) -> Result<(), DeviceError> {
    loop {
        match try_once(path, place, op) {
            Err(DeviceError::Io { errno: libc::EMFILE | libc::ENFILE, .. }) => {
                std::thread::sleep(RETRY);
            }
            done => return done,
        }
    }
}

fn try_once(path: &Path, place: &mut Option<Directory>, op: &Op) -> Result<(), DeviceError> {
    let directory = match place {
        Some(directory) => directory,
        None => place.insert(Directory::open(path)?),
    };
    match op {
        Op::Create { slot, bytes, fill, .. } => {
            directory.create(File::Segment(*slot), *bytes, *fill)
        }
        Op::Remove { slot, .. } => directory.remove(File::Segment(*slot)),
        _ => Ok(()),
    }
}
