//! Aligned memory that a device reads from and writes to.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// Alignment of every buffer: no device that we accept asks for more.
pub const BUF_ALIGN: usize = 4096;

/// Buffers of this size and more are aligned to it, and had better lie in huge pages: what a device
/// transfers is looked up page by page. The allocator itself uses small ones, see decision 0016.
const HUGE_PAGE: usize = 2 << 20;

/// An owned buffer aligned to 4 KiB.
///
/// Its memory comes zeroed from the allocator and is not touched before it is used: large ones
/// cost address space and no memory until then.
pub struct IoBuf {
    base: NonNull<u8>,
    layout: Layout,
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: IoBuf owns its memory exclusively, like a Vec<u8>.
unsafe impl Send for IoBuf {}
// SAFETY: shared references only allow reading.
unsafe impl Sync for IoBuf {}

impl IoBuf {
    /// `len` zero bytes.
    pub fn zeroed(len: usize) -> IoBuf {
        let align = if len < HUGE_PAGE { BUF_ALIGN } else { HUGE_PAGE };
        assert!(len > 0 && len < isize::MAX as usize - align);
        // An allocator asked for zeroes *and* a large alignment writes the zeroes itself and
        // touches every page; so ask for more and align by hand.
        let layout = Layout::from_size_align(len + align, 16).expect("length was checked");
        // SAFETY: the layout's size is not zero.
        let base = unsafe { alloc_zeroed(layout) };
        let Some(base) = NonNull::new(base) else { handle_alloc_error(layout) };
        let skip = base.as_ptr().align_offset(align);
        assert!(skip <= align);
        // SAFETY: skip + len lies within the allocation of len + align bytes.
        let start = unsafe { base.add(skip) };
        advise_huge_pages(start, len / HUGE_PAGE * HUGE_PAGE);
        IoBuf { base, layout, start, len }
    }

    /// The first byte, for a device.
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// A view of a part that outlives this borrow.
    ///
    /// # Safety
    /// The caller keeps the buffer alive, and the part unchanged, until the view is gone.
    pub(crate) unsafe fn view(&self, from: usize, to: usize) -> WriteView {
        assert!(from < to && to <= self.len);
        // SAFETY: from is within the buffer.
        WriteView { start: unsafe { self.start.add(from) }, len: to - from }
    }
}

/// Advice only: where the kernel does not follow it, pages are small.
fn advise_huge_pages(start: NonNull<u8>, len: usize) {
    if len > 0 {
        // SAFETY: the range lies within one allocation of ours, and advice changes no byte of it.
        unsafe { libc::madvise(start.as_ptr().cast(), len, libc::MADV_HUGEPAGE) };
    }
}

impl Deref for IoBuf {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: start..start+len is within our allocation and initialised (zeroed).
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl DerefMut for IoBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for deref, and &mut self makes us the only one.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Drop for IoBuf {
    fn drop(&mut self) {
        // SAFETY: base was allocated with this layout and is freed once.
        unsafe { dealloc(self.base.as_ptr(), self.layout) }
    }
}

impl std::fmt::Debug for IoBuf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IoBuf").field("len", &self.len).finish()
    }
}

/// Bytes of a log's block that are being written.
///
/// The log keeps them alive and unchanged until it is handed the write's `Done`; a log dropped
/// before that leaks them.
#[derive(Debug)]
pub struct WriteView {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the bytes do not change while the view exists, so any thread may read them.
unsafe impl Send for WriteView {}

impl WriteView {
    /// The first byte; aligned to the device block.
    pub fn as_ptr(&self) -> *const u8 {
        self.start.as_ptr()
    }

    /// How many bytes.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// The bytes.
    ///
    /// # Safety
    /// The `Done` of the operation has not been handed to the log yet.
    pub unsafe fn bytes(&self) -> &[u8] {
        // SAFETY: the log keeps them alive until it has the Done, says the contract above.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

/// Bytes that come into the processor's cache together.
const CACHE_LINE: usize = 64;

/// Asks the processor to bring `len` bytes from `at` on into its cache, to be read or written soon,
/// if they are there. Nothing waits for it.
#[inline]
pub fn prefetch(bytes: &[u8], at: usize, len: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in bytes.get(at..at + len).unwrap_or_default().chunks(CACHE_LINE) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint, of an address that is valid to read.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (bytes, at, len);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_zeroed_and_writable() {
        let large = if cfg!(miri) { 5000 } else { 1 << 20 };
        for len in [1, 511, 4096, 70_000.min(large), large] {
            let mut buf = IoBuf::zeroed(len);
            assert_eq!(buf.as_mut_ptr() as usize % BUF_ALIGN, 0);
            assert_eq!(buf.len(), len);
            assert!(buf.iter().all(|b| *b == 0));
            buf[len - 1] = 7;
            // SAFETY: buf lives on, unchanged, while view is used.
            let view = unsafe { buf.view(len - 1, len) };
            // SAFETY: as above.
            assert_eq!(unsafe { view.bytes() }, &[7]);
        }
    }
}
