//! Memory that the allocator keeps.

// The allocator of the binary.
use mimalloc as _;

unsafe extern "C" {
    // Declared by its crate only together with much else.
    fn mi_collect(force: bool);
}

/// Has the allocator give back to the kernel what is in use nowhere. Takes its time: not for a
/// reactor's thread.
pub fn release() {
    // SAFETY: any thread may call it at any time.
    unsafe { mi_collect(true) };
}

/// Lets go of memory of this thread that other threads have freed, and that would stay with it for
/// as long as it has nothing to do.
pub fn let_go() {
    // SAFETY: any thread may call it at any time.
    unsafe { mi_collect(false) };
}
