//! Reading ahead of a consumer: what it will want next is read before it asks.
//!
//! Where its messages lie together, one long read after another is enough, and the log does that by
//! itself. Where they are scattered, because many streams were written at the same time or because
//! few messages match, the places of the next ones are taken from the index and read side by side;
//! neighbours share a read.

use corelane_storage::device::Op;
use corelane_storage::index::{Entry, FilterSet, PageKey, ScanEnd, StreamIndex};
use corelane_storage::log::{Log, ReadHint};
use corelane_storage::types::Position;

/// Messages that one look takes in.
const LOOK_MESSAGES: usize = 1_024;
/// Long reads that one look takes in.
const LOOK_READS: u64 = 2;
/// Stretches of the log that one look takes in.
const LOOK_RUNS: usize = 128;
/// Index entries that one look visits.
const LOOK_VISITS: u32 = 2_048;
/// It is time to look again when one part in so many of what was seen is used: scattered messages
/// are read side by side only while there are reads to come.
const USED: usize = 4;
/// What lies between two messages is read along if it is at most one part in so many of a long
/// read: that costs less than another read.
const GAP: u32 = 40;
/// A stretch of which one part in so many is wanted counts as straight.
const STRAIGHT: u64 = 4;
/// What a record has beyond the bytes that its stream counts for it, at most.
const RECORD_EXTRA: u32 = 64;

/// Messages after which to look again when there was no room for reads.
const AGAIN: usize = 16;

/// How far a consumer has looked ahead.
#[derive(Debug)]
pub struct ReadAhead {
    /// The last look was from this sequence on.
    from: u64,
    /// From this one on it is time to look again.
    until: u64,
    /// What comes next lies together.
    straight: bool,
    /// Messages that the next look takes in.
    most: usize,
    /// An index page that is needed soon.
    pub page: Option<PageKey>,
}

impl Default for ReadAhead {
    fn default() -> Self {
        ReadAhead { from: 0, until: 0, straight: true, most: LOOK_MESSAGES, page: None }
    }
}

/// A stretch of the log with messages that are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    at: Position,
    len: u32,
    /// Of that, bytes that are wanted.
    wanted: u64,
}

impl ReadAhead {
    /// The message `seq` is about to be read: looks ahead if it is time, and says how to read it.
    #[inline]
    pub fn hint(
        &mut self,
        seq: u64,
        entry: &Entry,
        (index, filter): (&StreamIndex, &mut FilterSet),
        (log, ops): (&mut Log, &mut Vec<Op>),
    ) -> ReadHint {
        if seq >= self.until || seq < self.from {
            self.from = seq;
            if log.peek(entry.position).is_some() {
                self.until = seq + AGAIN as u64;
            } else {
                self.look(seq, (index, filter), (log, ops));
            }
        }
        if self.straight { ReadHint::Ahead } else { ReadHint::One }
    }

    #[cold]
    fn look(
        &mut self,
        seq: u64,
        (index, filter): (&StreamIndex, &mut FilterSet),
        (log, ops): (&mut Log, &mut Vec<Op>),
    ) {
        let longest = log.options().read_ahead_bytes;
        let mut entries = Vec::with_capacity(self.most);
        let mut visits = LOOK_VISITS;
        let range = seq..u64::MAX;
        let end = index.scan_into(filter, range, self.most, &mut visits, &mut entries);
        self.page = match end {
            ScanEnd::NeedPage { key, .. } => Some(key),
            _ => None,
        };
        let gap = longest / GAP;
        let mut runs = Runs { entries: &entries, gap, longest: u32::MAX };
        let only = runs.next().filter(|_| runs.entries.is_empty());
        // What goes on is read without an end.
        let goes_on = !matches!(end, ScanEnd::End);
        self.straight = goes_on && only.is_some_and(|(run, _)| run.is_straight());
        let covered = match self.straight {
            true => entries.len(),
            false => prefetch(&entries, longest, log, ops),
        };
        self.most = (2 * covered).clamp(4 * AGAIN, LOOK_MESSAGES);
        let part = if self.straight { covered / 2 } else { covered / USED };
        let next = part.max(AGAIN).min(entries.len().saturating_sub(1));
        self.until = entries.get(next).map_or(0, |(at, _)| *at).max(seq + 1);
    }
}

/// Reads what is not at hand. Answers how many of the messages that covers.
fn prefetch(entries: &[(u64, Entry)], longest: u32, log: &mut Log, ops: &mut Vec<Op>) -> usize {
    let mut from = 0;
    let mut bytes = 0;
    for _ in 0..LOOK_RUNS {
        if bytes >= LOOK_READS * u64::from(longest) {
            break;
        }
        let lacks = |(_, e): &(u64, Entry)| !log.is_at_hand(e.position, e.size + RECORD_EXTRA);
        let Some(next) = entries[from..].iter().position(lacks) else { return entries.len() };
        from += next;
        let mut runs = Runs { entries: &entries[from..], gap: longest / GAP, longest };
        let Some((run, count)) = runs.next() else { break };
        if !log.prefetch(run.at, run.len, ops) {
            break;
        }
        from += count;
        bytes += u64::from(run.len);
    }
    from
}

/// Cuts messages into stretches, each with how many of them it holds.
struct Runs<'a> {
    entries: &'a [(u64, Entry)],
    /// What may lie between two messages.
    gap: u32,
    longest: u32,
}

impl Iterator for Runs<'_> {
    type Item = (Run, usize);

    fn next(&mut self) -> Option<(Run, usize)> {
        let ((_, first), rest) = self.entries.split_first()?;
        let mut run = Run {
            at: first.position,
            len: first.size.saturating_add(RECORD_EXTRA),
            wanted: u64::from(first.size),
        };
        let (gap, longest) = (self.gap, self.longest);
        let joins = rest.iter().take_while(|(_, e)| run.join(e, gap, longest)).count();
        self.entries = &rest[joins..];
        Some((run, joins + 1))
    }
}

impl Run {
    /// Takes in a message that lies close behind.
    fn join(&mut self, e: &Entry, gap: u32, longest: u32) -> bool {
        let Position { segment, offset } = e.position;
        let Some(from) = offset.checked_sub(self.at.offset) else { return false };
        let to = from.saturating_add(e.size.saturating_add(RECORD_EXTRA));
        let near = from <= self.len.saturating_add(gap);
        let fits = segment == self.at.segment && near && to <= longest;
        if fits {
            self.len = self.len.max(to);
            self.wanted += u64::from(e.size);
        }
        fits
    }

    fn is_straight(&self) -> bool {
        self.wanted * STRAIGHT >= u64::from(self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use corelane_storage::types::SegmentId;

    fn entries(places: &[(u32, u32, u32)]) -> Vec<(u64, Entry)> {
        let entry = |&(segment, offset, size)| Entry {
            position: Position { segment: SegmentId(segment), offset },
            size,
            subject: Default::default(),
        };
        (1..).zip(places.iter().map(entry)).collect()
    }

    fn runs(places: &[(u32, u32, u32)]) -> Vec<(u32, u32, u32, usize, bool)> {
        let entries = entries(places);
        let runs = Runs { entries: &entries, gap: 24 << 10, longest: 1 << 20 };
        runs.map(|(r, n)| (r.at.segment.0, r.at.offset, r.len, n, r.is_straight())).collect()
    }

    #[test]
    fn neighbours_share_a_read() {
        assert_eq!(runs(&[]), []);
        // Together.
        let together = [(1, 0, 1000), (1, 1050, 1000), (1, 2100, 1000)];
        assert_eq!(runs(&together), [(1, 0, 3164, 3, true)]);
        // Near, but most of what lies there is of others.
        let near = [(1, 0, 1000), (1, 20_000, 1000)];
        assert_eq!(runs(&near), [(1, 0, 21_064, 2, false)]);
        // Far, another segment, backwards.
        let far = [(1, 50_000, 100), (1, 90_000, 100), (2, 90_100, 100), (2, 0, 100)];
        let alone = |segment, offset| (segment, offset, 164, 1, false);
        let expected = [alone(1, 50_000), alone(1, 90_000), alone(2, 90_100), alone(2, 0)];
        let got: Vec<_> =
            runs(&far).into_iter().map(|(s, o, l, n, _)| (s, o, l, n, false)).collect();
        assert_eq!(got, expected);
        // Not longer than one read.
        let long: Vec<_> = (0..100).map(|n| (1, n * 60_000, 60_000)).collect();
        assert_eq!(runs(&long).iter().map(|r| r.3).sum::<usize>(), 100);
        assert!(runs(&long).iter().all(|r| r.2 <= 1 << 20));
    }
}
