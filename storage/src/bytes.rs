//! Little-endian numbers at fixed offsets, for the hand-laid formats.
//!
//! The callers have checked the length; an offset outside the slice is a bug and panics.

pub(crate) fn get_u16(b: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([b[at], b[at + 1]])
}

pub(crate) fn get_u32(b: &[u8], at: usize) -> u32 {
    let mut n = [0; 4];
    n.copy_from_slice(&b[at..at + 4]);
    u32::from_le_bytes(n)
}

pub(crate) fn get_u64(b: &[u8], at: usize) -> u64 {
    let mut n = [0; 8];
    n.copy_from_slice(&b[at..at + 8]);
    u64::from_le_bytes(n)
}

pub(crate) fn put_u16(b: &mut [u8], at: usize, n: u16) {
    b[at..at + 2].copy_from_slice(&n.to_le_bytes());
}

pub(crate) fn put_u32(b: &mut [u8], at: usize, n: u32) {
    b[at..at + 4].copy_from_slice(&n.to_le_bytes());
}

pub(crate) fn put_u64(b: &mut [u8], at: usize, n: u64) {
    b[at..at + 8].copy_from_slice(&n.to_le_bytes());
}

/// `n` rounded up to a multiple of `unit`, a power of two.
pub(crate) const fn round_up(n: u32, unit: u32) -> u32 {
    debug_assert!(unit.is_power_of_two());
    (n + unit - 1) & !(unit - 1)
}

/// Mixes one more checksum into a chain of them: order matters, every bit counts.
pub(crate) const fn chain(sum: u64, next: u64) -> u64 {
    let product = ((sum ^ 0x9e37_79b9_7f4a_7c15) as u128).wrapping_mul(0xd6e8_feb8_6659_fd93);
    ((product as u64) ^ ((product >> 64) as u64)).rotate_left(29) ^ next
}
