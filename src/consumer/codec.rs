//! Variable-length numbers for deltas and snapshots.

/// Bytes that are not what they claim to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupt(pub &'static str);

impl std::fmt::Display for Corrupt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "consumer state is corrupt: {}", self.0)
    }
}

impl std::error::Error for Corrupt {}

/// Appends `n` in groups of seven bits, low first (LEB128).
pub fn put(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Appends a signed difference `to - from`, small either way.
pub fn put_step(out: &mut Vec<u8>, from: u64, to: u64) {
    let d = to.wrapping_sub(from) as i64;
    put(out, ((d << 1) ^ (d >> 63)) as u64);
}

/// Reads what [`put`] wrote.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a>(pub &'a [u8]);

impl Reader<'_> {
    /// True when all is read.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One byte.
    pub fn byte(&mut self) -> Result<u8, Corrupt> {
        let (&first, rest) = self.0.split_first().ok_or(Corrupt("it ends early"))?;
        self.0 = rest;
        Ok(first)
    }

    /// One number.
    pub fn take(&mut self) -> Result<u64, Corrupt> {
        let mut n = 0u64;
        for shift in (0..64).step_by(7) {
            let b = self.byte()?;
            let part = u64::from(b & 0x7f);
            if shift == 63 && part > 1 {
                break;
            }
            n |= part << shift;
            if b < 0x80 {
                return Ok(n);
            }
        }
        Err(Corrupt("a number is too large"))
    }

    /// One number after `from`.
    pub fn step(&mut self, from: u64) -> Result<u64, Corrupt> {
        let z = self.take()?;
        let d = (z >> 1) as i64 ^ -((z & 1) as i64);
        Ok(from.wrapping_add(d as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_survive() {
        for n in [0, 1, 127, 128, 300, 1 << 35, u64::MAX - 1, u64::MAX] {
            let mut out = Vec::new();
            put(&mut out, n);
            put_step(&mut out, 100, n);
            let mut r = Reader(&out);
            assert_eq!(r.take(), Ok(n));
            assert_eq!(r.step(100), Ok(n));
            assert!(r.is_empty());
        }
        assert!(Reader(&[0x80]).take().is_err());
        assert!(Reader(&[0xff; 11]).take().is_err());
    }
}
