//! Checksums made right again after bytes were changed, so that what lies behind them is reached.

use corelane_storage::envelope::{ENVELOPE_BYTES, FRAME_HEADER_BYTES};
use corelane_storage::record::RecordView;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// What is mended.
#[derive(Clone, Copy)]
pub struct Which(pub u8);

impl Which {
    fn has(self, bit: u8) -> bool {
        // All of them by default, so that inputs that say nothing get far.
        self.0 & 1 << bit == 0
    }
}

fn u32_at(b: &[u8], at: usize) -> usize {
    b.get(at..at + 4).map_or(0, |n| u32::from_le_bytes([n[0], n[1], n[2], n[3]]) as usize)
}

fn put(b: &mut [u8], at: usize, sum: u64) {
    b[at..at + 8].copy_from_slice(&sum.to_le_bytes());
}

fn get(b: &[u8], at: usize) -> u64 {
    b[at..at + 8].iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// As `bytes::chain` of the storage crate, and `record`'s opening comment.
fn chain(sum: u64, next: u64) -> u64 {
    let product = u128::from(sum ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xd6e8_feb8_6659_fd93);
    (product as u64 ^ (product >> 64) as u64).rotate_left(29) ^ next
}

/// Mends the record at the start of `bytes`; its padded length and checksum.
fn record(bytes: &mut [u8], mend: bool) -> Option<(usize, u64)> {
    let view = RecordView::decode(bytes).ok()?;
    let length = view.as_bytes().len();
    let padded = view.padded_len() as usize;
    if mend {
        let tail = match bytes[12] {
            2 => 32,
            _ => 48 + usize::from(u16::from_le_bytes([bytes[14], bytes[15]])) + u32_at(bytes, 40),
        };
        let sum = chain(xxh3_64(&bytes[8..tail]), xxh3_64(&bytes[tail..length]));
        put(bytes, 0, sum);
    }
    Some((padded, get(bytes, 0)))
}

/// Mends the write at the start of `bytes`, as far as its lengths make sense.
pub fn write(bytes: &mut [u8], key: u64, which: Which) {
    let head = ENVELOPE_BYTES as usize;
    if bytes.len() < head {
        return;
    }
    let length = u32_at(bytes, 28).min(bytes.len());
    let (mut at, mut bodies) = (head, 0);
    for _ in 0..u32_at(bytes, 36) {
        let Some(sum) = bytes.get_mut(at..length).and_then(|b| frame(b, which)) else { break };
        bodies = chain(bodies, sum);
        at += u32_at(bytes, at + 40).max(FRAME_HEADER_BYTES as usize);
    }
    if which.has(2) {
        put(bytes, 64, bodies);
    }
    if which.has(3) {
        put(bytes, 0, xxh3_64_with_seed(&bytes[8..head], key));
    }
}

/// Mends a frame; its checksum.
fn frame(bytes: &mut [u8], which: Which) -> Option<u64> {
    let head = FRAME_HEADER_BYTES as usize;
    if bytes.len() < head {
        return None;
    }
    let (mut at, mut sums) = (head, 0);
    for _ in 0..u32_at(bytes, 44) {
        let Some((len, sum)) = bytes.get_mut(at..).and_then(|b| record(b, which.has(0))) else {
            break;
        };
        sums = chain(sums, sum);
        at += len;
    }
    if which.has(1) {
        let sum = chain(sums, xxh3_64(&bytes[8..head]));
        put(bytes, 0, sum);
    }
    Some(get(bytes, 0))
}

/// Mends both headers of a segment file and every write that begins on one of its device blocks.
pub fn segment(bytes: &mut [u8], device_block: usize, which: Which) {
    for copy in [0, device_block] {
        if let Some(header) = bytes.get_mut(copy..copy + 512).filter(|_| which.has(4)) {
            let sum = xxh3_64(&header[..504]);
            put(header, 504, sum);
        }
    }
    if bytes.len() < 2 * device_block {
        return;
    }
    // The header that counts: the one with the larger segment.
    let newer = if u32_at(bytes, device_block + 32) > u32_at(bytes, 32) { device_block } else { 0 };
    let key = get(bytes, newer + 72);
    for at in (2 * device_block..bytes.len()).step_by(device_block) {
        if bytes[at..].get(8..12) == Some(b"CLW1") {
            write(&mut bytes[at..], key, which);
        }
    }
}

/// Mends one copy of a superblock.
pub fn superblock(bytes: &mut [u8], which: Which) {
    if bytes.len() < 128 || !which.has(5) {
        return;
    }
    let length = 128 + 24 * u32_at(bytes, 60);
    if let Some(copy) = bytes.get_mut(..length) {
        copy[20..24].copy_from_slice(&(length as u32).to_le_bytes());
        let sum = xxh3_64(&copy[8..]);
        put(copy, 0, sum);
    }
}
