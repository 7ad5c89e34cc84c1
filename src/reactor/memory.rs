//! Memory that the allocator keeps.

// The allocator of the binary.
use mimalloc as _;

/// Has the allocator give back to the kernel what is not in use: memory of this thread, which other
/// threads may have freed, and memory of nobody.
pub fn release() {
    unsafe extern "C" {
        // Declared by its crate only together with much else.
        fn mi_collect(force: bool);
    }
    // SAFETY: any thread may call it at any time.
    unsafe { mi_collect(true) };
}
