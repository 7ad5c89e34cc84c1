//! Input of a connection that is not read: what arrived before the kernel had stopped receiving.
//!
//! It is handed over in the pieces in which it came, of at most `PIECE` bytes, without another
//! copy: a stall delays each such piece, as it would have delayed a read.

use std::collections::VecDeque;

/// Bytes of a piece at most, unless more arrived at once.
const PIECE: usize = 128 << 10;
/// Buffers that are kept to be used again.
const SPARES_MAX: usize = 16;

/// The input of one connection.
#[derive(Debug, Default)]
pub struct Parked(VecDeque<Vec<u8>>);

/// Buffers to be used again, of all connections of a reactor.
#[derive(Debug, Default)]
pub struct Spares(Vec<Vec<u8>>);

impl Parked {
    /// True if there is nothing.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds what arrived.
    pub fn push(&mut self, bytes: &[u8], spares: &mut Spares) {
        match self.0.back_mut().filter(|last| last.len() + bytes.len() <= PIECE) {
            Some(last) => last.extend_from_slice(bytes),
            None => {
                let mut piece = spares.0.pop().unwrap_or_default();
                piece.extend_from_slice(bytes);
                self.0.push_back(piece);
            }
        }
    }

    /// Takes the next piece.
    pub fn pop(&mut self) -> Option<Vec<u8>> {
        self.0.pop_front()
    }
}

impl Spares {
    /// Takes a piece back that was handled.
    pub fn give(&mut self, mut piece: Vec<u8>) {
        if self.0.len() < SPARES_MAX && (PIECE / 4..=2 * PIECE).contains(&piece.capacity()) {
            piece.clear();
            self.0.push(piece);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_hold_what_arrived_in_order() {
        let (mut parked, mut spares) = (Parked::default(), Spares::default());
        let input: Vec<u8> = (0..PIECE * 3).map(|i| (i / 1_000) as u8).collect();
        for sizes in [vec![7, 100, 1], vec![PIECE, 1, PIECE - 1, 1, 5], vec![PIECE + 9, 4]] {
            let mut rest = &input[..];
            for size in &sizes {
                parked.push(&rest[..*size], &mut spares);
                rest = &rest[*size..];
            }
            let mut got = Vec::new();
            while let Some(piece) = parked.pop() {
                assert!(piece.len() <= PIECE || sizes.contains(&piece.len()));
                got.extend_from_slice(&piece);
                spares.give(piece);
            }
            assert!(parked.is_empty());
            assert_eq!(got, input[..sizes.iter().sum()], "{sizes:?}");
        }
        assert!(!spares.0.is_empty() && spares.0.iter().all(Vec::is_empty));
    }

    #[test]
    fn small_and_huge_buffers_are_not_kept() {
        let mut spares = Spares::default();
        spares.give(Vec::with_capacity(100));
        spares.give(Vec::with_capacity(4 * PIECE));
        assert!(spares.0.is_empty());
        (0..2 * SPARES_MAX).for_each(|_| spares.give(Vec::with_capacity(PIECE)));
        assert_eq!(spares.0.len(), SPARES_MAX);
    }
}
