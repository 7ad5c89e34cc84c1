//! The disks of a reactor's shards: device operations as ring submissions, and a thread for what
//! the ring must not do.
//!
//! A write with a flush is one write and one linked data flush; both report as one. Creating and
//! removing files goes to a thread, because reserving and zeroing space blocks.

use std::collections::BTreeMap;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::mpsc;

use corelane_storage::device::blocking::{Directory, open_file};
use corelane_storage::device::{Blocking, DeviceError, Done, File, IoBuf, Op, Token, WriteView};
use corelane_storage::log::EXTENSION_BYTES_MAX;
use io_uring::{opcode, squeue, types};

use super::driver::Driver;
use super::run::Mailbox;
use super::tag::{self, Kind};
use crate::turn::Command;
use crate::turn::report::DiskReport;

/// The disks of one reactor, by position among its shards.
pub struct Disks {
    shards: Vec<Disk>,
    running: slab::Slab<Running>,
    finished: Option<mpsc::Receiver<(usize, Done)>>,
    worker: Option<mpsc::Sender<(usize, Op)>>,
    thread: Option<std::thread::JoinHandle<()>>,
    /// What follows a write that is to have zeroes behind it.
    zeroes: IoBuf,
}

struct Disk {
    directory: PathBuf,
    files: BTreeMap<File, std::fs::File>,
    counted: DiskReport,
}

/// An operation in the ring.
struct Running {
    shard: usize,
    token: Token,
    what: What,
    /// What it reports when its last part is over and nothing failed.
    result: Result<usize, DeviceError>,
    /// The pieces of a write that has two.
    pieces: Option<Box<[libc::iovec; 2]>>,
}

enum What {
    Write { file: File, offset: u64, data: WriteView, zeroes: u32 },
    Flush,
    Read { buf: Option<IoBuf> },
}

impl Disks {
    /// The disks in `directories`. Their thread wakes the reactor through `mailbox`.
    pub fn new(directories: Vec<PathBuf>, mailbox: Mailbox) -> std::io::Result<Self> {
        let mut disks = Disks {
            shards: Vec::new(),
            running: slab::Slab::new(),
            finished: None,
            worker: None,
            thread: None,
            zeroes: IoBuf::zeroed(EXTENSION_BYTES_MAX as usize),
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
        let token = op.token();
        match op {
            Op::Create { .. } | Op::Remove { .. } => {
                if let Op::Remove { slot, .. } = &op {
                    self.shards[shard].files.remove(&File::Segment(*slot));
                }
                if let Some(worker) = &self.worker {
                    let _ = worker.send((shard, op));
                }
            }
            Op::Write { file, offset, data, zeroes, flush, .. } => {
                let what = What::Write { file, offset, data, zeroes };
                self.write(Running::new(shard, token, what), flush, driver);
            }
            Op::Flush { file, .. } => {
                self.shards[shard].counted.flushes += 1;
                let fd = self.fd(shard, file);
                let slot = self.running.insert(Running::new(shard, token, What::Flush));
                let entry = opcode::Fsync::new(fd)
                    .flags(types::FsyncFlags::DATASYNC)
                    .build()
                    .user_data(tag::pack(Kind::Disk, slot << 1 | 1));
                driver.push(&entry);
            }
            Op::Read { file, offset, len, mut buf, .. } => {
                let fd = self.fd(shard, file);
                let pointer = buf.as_mut_ptr();
                let what = What::Read { buf: Some(buf) };
                let slot = self.running.insert(Running::new(shard, token, what));
                let entry = opcode::Read::new(fd, pointer, len as u32)
                    .offset(offset)
                    .build()
                    .user_data(tag::pack(Kind::Disk, slot << 1));
                driver.push(&entry);
            }
        }
    }

    fn write(&mut self, mut running: Running, flush: bool, driver: &mut Driver) {
        let What::Write { file, offset, data, zeroes } = &running.what else { return };
        let fd = self.fd(running.shard, *file);
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

    fn fd(&mut self, shard: usize, file: File) -> types::Fd {
        let disk = &mut self.shards[shard];
        let handle = disk.files.entry(file).or_insert_with(|| {
            open_file(&disk.directory, file).unwrap_or_else(|e| {
                panic!("cannot open {file:?} in {}: {e}", disk.directory.display())
            })
        });
        types::Fd(handle.as_raw_fd())
    }

    /// A completion of the ring: part `tagged & 1` (1 is the flush) of operation `tagged >> 1`.
    pub fn complete(&mut self, tagged: usize, result: i32, mut done: impl FnMut(usize, Done)) {
        let (slot, is_flush) = (tagged >> 1, tagged & 1 == 1);
        let Some(mut running) = self.running.try_remove(slot) else { return };
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

impl Running {
    fn new(shard: usize, token: Token, what: What) -> Self {
        Running { shard, token, what, result: Ok(0), pieces: None }
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
    let mut directories: Vec<_> = paths.iter().map(|p| Directory::open(p)).collect();
    while let Ok((shard, op)) = jobs.recv() {
        let token = op.token();
        let result = match &mut directories[shard] {
            Err(e) => Err(e.clone()),
            Ok(directory) => match op {
                Op::Create { slot, bytes, fill, .. } => {
                    directory.create(File::Segment(slot), bytes, fill)
                }
                Op::Remove { slot, .. } => directory.remove(File::Segment(slot)),
                _ => Ok(()),
            },
        };
        let done = Done { token, result: result.map(|()| 0), buf: None };
        if results.send((shard, done)).is_err() || !mailbox.send(Command::Nothing) {
            return;
        }
    }
}
