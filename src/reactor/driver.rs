//! The io_uring of one reactor: submission with room kept, one wait per turn, and the provided
//! receive buffers.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::{IoUring, cqueue, squeue, types};

/// Submission entries: what one turn may queue before an extra submit is made.
const SQ_ENTRIES: u32 = 1024;
/// Completion entries: bounds what one wait can bring back; the kernel keeps an overflow list
/// beyond it.
const CQ_ENTRIES: u32 = 8192;
/// The buffer group of receive buffers.
pub const RECEIVE_GROUP: u16 = 1;

/// One completion, copied out of the completion queue.
#[derive(Clone, Copy, Debug)]
pub struct Completion {
    /// What the submission was tagged with.
    pub user_data: u64,
    /// Result: a count, or a negated errno.
    pub result: i32,
    /// Completion flags (buffer id, more to come).
    pub flags: u32,
}

/// The ring itself. Must be created and used on one thread (SINGLE_ISSUER).
pub struct Driver {
    ring: IoUring,
}

impl Driver {
    /// Creates the ring of this thread.
    pub fn new() -> io::Result<Self> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            // Tells that completions wait to be run: a turn that does not wait must run them too.
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(CQ_ENTRIES)
            .build(SQ_ENTRIES)?;
        Ok(Driver { ring })
    }

    /// The ring's file descriptor: what a neighbour sends MSG_RING to.
    pub fn fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }

    /// Keeps a file open for as long as the kernel works for this ring. That may be longer than the
    /// process lives.
    pub fn hold(&mut self, file: RawFd) -> io::Result<()> {
        self.ring.submitter().register_files(&[file])
    }

    /// Queues one entry, submitting what is queued if there is no room.
    ///
    /// The caller keeps every pointer in `entry` valid until its completion arrives.
    pub fn push(&mut self, entry: &squeue::Entry) {
        loop {
            // SAFETY: whoever queues an entry keeps its buffers and descriptors alive until the
            // completion arrives: outbounds and log blocks are owned by structures that free them
            // only after that, see `sockets` and `disk`.
            if unsafe { self.ring.submission().push(entry) }.is_ok() {
                return;
            }
            self.submit_now();
        }
    }

    /// Cancels whatever can be: each operation ends with a completion of its own.
    pub fn cancel_all(&mut self) {
        let entry = io_uring::opcode::AsyncCancel2::new(types::CancelBuilder::any())
            .build()
            .user_data(super::tag::pack(super::tag::Kind::Ignore, 0));
        self.push(&entry);
    }

    /// Makes sure that `count` entries fit without a submit in between: linked entries must go in
    /// together.
    pub fn reserve(&mut self, count: usize) {
        let queue = self.ring.submission();
        let room = queue.capacity() - queue.len();
        drop(queue);
        if room < count {
            self.submit_now();
        }
    }

    fn submit_now(&mut self) {
        match self.ring.submit() {
            Ok(_) => {}
            Err(e)
                if matches!(
                    e.raw_os_error(),
                    Some(libc::EBUSY | libc::EINTR | libc::EAGAIN | libc::ENOMEM)
                ) => {}
            Err(e) => panic!("io_uring submit failed: {e}"),
        }
    }

    /// Submits what is queued and waits for at least `want` completions or until `timeout` has
    /// passed.
    pub fn submit_and_wait(&mut self, want: usize, timeout: Option<std::time::Duration>) {
        let spec;
        let args = match timeout {
            Some(t) if want > 0 => {
                spec = types::Timespec::from(t);
                types::SubmitArgs::new().timespec(&spec)
            }
            _ => types::SubmitArgs::new(),
        };
        match self.ring.submitter().submit_with_args(want, &args) {
            Ok(_) => {}
            Err(e)
                if matches!(
                    e.raw_os_error(),
                    Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN | libc::ENOMEM)
                ) => {}
            Err(e) => panic!("io_uring wait failed: {e}"),
        }
    }

    /// Moves all completions that are there into `into`.
    pub fn completions(&mut self, into: &mut Vec<Completion>) {
        for c in self.ring.completion() {
            into.push(Completion {
                user_data: c.user_data(),
                result: c.result(),
                flags: c.flags(),
            });
        }
    }

    /// Registers a ring of receive buffers.
    pub fn receive_buffers(&mut self, count: u16, bytes: usize) -> io::Result<ReceiveBuffers> {
        ReceiveBuffers::new(self, count, bytes)
    }
}

/// True if the multishot operation stays armed.
pub fn more(flags: u32) -> bool {
    cqueue::more(flags)
}

/// A ring of buffers that the kernel picks receive buffers from. Few and large: they stay in the
/// cache.
pub struct ReceiveBuffers {
    entries: NonNull<types::BufRingEntry>,
    memory: NonNull<u8>,
    count: u16,
    bytes: usize,
    tail: u16,
}

impl ReceiveBuffers {
    fn new(driver: &mut Driver, count: u16, bytes: usize) -> io::Result<Self> {
        assert!(count.is_power_of_two() && bytes > 0);
        let entries = map(usize::from(count) * size_of::<types::BufRingEntry>())?.cast();
        let memory = map(usize::from(count) * bytes)?;
        // SAFETY: the ring of entries is page-aligned, zeroed and lives as long as this value,
        // which the reactor drops after its ring.
        unsafe {
            driver.ring.submitter().register_buf_ring_with_flags(
                entries.as_ptr() as u64,
                count,
                RECEIVE_GROUP,
                0,
            )?;
        }
        let mut buffers = ReceiveBuffers { entries, memory, count, bytes, tail: 0 };
        for id in 0..count {
            buffers.put(id);
        }
        buffers.publish();
        Ok(buffers)
    }

    /// The first `len` bytes of buffer `id`, which the kernel has handed out and not got back yet.
    pub fn get(&self, id: u16, len: usize) -> &[u8] {
        assert!(id < self.count && len <= self.bytes);
        // SAFETY: in range by the assertion; the kernel does not write to a buffer between its
        // completion and `put`.
        unsafe {
            std::slice::from_raw_parts(self.memory.as_ptr().add(usize::from(id) * self.bytes), len)
        }
    }

    /// Gives buffer `id` back; visible to the kernel after `publish`.
    pub fn put(&mut self, id: u16) {
        let slot = usize::from(self.tail & (self.count - 1));
        // SAFETY: slot < count, and the entry array is ours; the kernel reads entries only below
        // the published tail.
        unsafe {
            let entry = &mut *self.entries.as_ptr().add(slot);
            entry.set_addr(self.memory.as_ptr().add(usize::from(id) * self.bytes) as u64);
            entry.set_len(self.bytes as u32);
            entry.set_bid(id);
        }
        self.tail = self.tail.wrapping_add(1);
    }

    /// Publishes what was `put` to the kernel.
    pub fn publish(&mut self) {
        // SAFETY: the tail word lies in the first entry of the page-aligned ring; the kernel reads
        // it with acquire.
        unsafe {
            let tail = types::BufRingEntry::tail(self.entries.as_ptr()) as *const AtomicU16;
            (*tail).store(self.tail, Ordering::Release);
        }
    }
}

impl Drop for ReceiveBuffers {
    fn drop(&mut self) {
        // SAFETY: both mappings were made by `map` with these sizes and nothing refers to them any
        // more.
        unsafe {
            libc::munmap(
                self.entries.as_ptr().cast(),
                usize::from(self.count) * size_of::<types::BufRingEntry>(),
            );
            libc::munmap(self.memory.as_ptr().cast(), usize::from(self.count) * self.bytes);
        }
    }
}

fn map(bytes: usize) -> io::Result<NonNull<u8>> {
    // SAFETY: an anonymous private mapping has no preconditions.
    let p = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if p == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(p.cast()).ok_or_else(|| io::Error::other("mmap returned null"))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_turn_that_does_not_wait_sees_what_is_complete() {
        let mut driver = Driver::new().expect("a ring");
        let (reader, mut writer) = io::pipe().expect("a pipe");
        let mut buffer = [0u8; 8];
        let fd = types::Fd(reader.as_raw_fd());
        let read = io_uring::opcode::Read::new(fd, buffer.as_mut_ptr(), 8).build().user_data(7);
        driver.push(&read);
        driver.submit_and_wait(0, None);
        writer.write_all(b"8 bytes.").expect("written");
        let mut seen = Vec::new();
        for _ in 0..1_000 {
            driver.submit_and_wait(0, None);
            driver.completions(&mut seen);
        }
        assert_eq!(seen.iter().map(|c| (c.user_data, c.result)).collect::<Vec<_>>(), [(7, 8)]);
        assert_eq!(&buffer, b"8 bytes.");
    }
}
