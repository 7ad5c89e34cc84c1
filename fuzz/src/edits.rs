//! A fuzzer's bytes as edits of valid bytes.

/// Reads numbers off the fuzzer's bytes; zeroes once they are used up.
pub struct Source<'a>(pub &'a [u8]);

impl Source<'_> {
    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        self.number(1) as u8
    }

    /// The next `n` bytes as a little-endian number.
    pub fn number(&mut self, n: usize) -> u64 {
        let taken = n.min(self.0.len());
        let (head, tail) = self.0.split_at(taken);
        self.0 = tail;
        head.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
    }

    /// True once all are used up.
    pub fn is_over(&self) -> bool {
        self.0.is_empty()
    }
}

/// One edit within `bytes`, of six bytes or more of the source.
pub fn edit(source: &mut Source<'_>, bytes: &mut Vec<u8>) {
    const UNIT: usize = 4096;
    let op = source.byte();
    let block = source.byte() as usize;
    // Most of what matters stands at the beginning of a device block.
    let inside = match op & 0x80 {
        0 => source.number(1) as usize,
        _ => source.number(2) as usize % UNIT,
    };
    if bytes.is_empty() {
        return;
    }
    let blocks = bytes.len().div_ceil(UNIT);
    let at = (block % blocks * UNIT + inside).min(bytes.len() - 1);
    let put = |bytes: &mut Vec<u8>, number: u64, size: usize| {
        let end = (at + size).min(bytes.len());
        bytes[at..end].copy_from_slice(&number.to_le_bytes()[..end - at]);
    };
    match op & 0x0f {
        0 => bytes[at] ^= 1 << (source.byte() & 7),
        1 => put(bytes, source.number(1), 1),
        2 => put(bytes, source.number(2), 2),
        3 => put(bytes, source.number(4), 4),
        4 => put(bytes, source.number(8), 8),
        5 => put(bytes, u64::MAX, 4),
        6 => put(bytes, u64::MAX, 8),
        7 => put(bytes, 0, 8),
        8 => bytes[at] = bytes[at].wrapping_add(1),
        9 => bytes[at] = bytes[at].wrapping_sub(1),
        10 => {
            let end = (at + UNIT).min(bytes.len());
            bytes[at..end].fill(0);
        }
        11 => {
            // One block over another.
            let from = source.byte() as usize % blocks * UNIT;
            let to = block % blocks * UNIT;
            let len = UNIT.min(bytes.len() - from.max(to));
            bytes.copy_within(from..from + len, to);
        }
        12 => bytes.truncate(block % blocks * UNIT),
        13 => bytes.truncate(at),
        14 => {
            let byte = source.byte();
            let end = (at + usize::from(source.byte())).min(bytes.len());
            bytes[at..end].fill(byte);
        }
        _ => {
            let number = source.number(8) as i8 as i64 as u64;
            put(bytes, number, 8);
        }
    }
}
