//! When the messages of a stream were stored, by the steady clock.
//!
//! A message carries the wall clock's time. Its age is a duration, and the wall clock may have been
//! set since; while it is behind the stream's last message, all messages get that one's time. So a
//! stream notes how far the times it gives are ahead of the steady clock, as a list of [`Mark`]s,
//! one more whenever that has changed. What an earlier process stored has no mark: its age counts
//! from its time, or from when this process took the stream over if that is earlier.
//!
//! Exists once per stream, where its group is led; nothing of it is recorded. What follows from an
//! age goes through the log. An estimate is never too early, so nothing expires too soon, and it is
//! too late by [`TOLERANCE`] at most while there are fewer than [`MARKS_MAX`] marks. Then
//! neighbours are merged that cost least: after an hour at one time, marks are about two minutes
//! apart, and closer where messages live shorter, as marks of what was removed are dropped first.

use std::collections::VecDeque;
use std::ops::Range;

use crate::types::{Timestamp, WallTime};

/// By how much the difference of the clocks may vary within a mark, in nanoseconds.
pub const TOLERANCE: i64 = 10_000_000;
/// Marks of a stream at most.
pub const MARKS_MAX: usize = 64;

/// What is known of the messages from a sequence on, up to the next mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    /// The first sequence.
    first: u64,
    /// When it was stored; all before it were stored earlier, and no later one was.
    begun: Timestamp,
    /// The least and the most that times of these messages are ahead of the steady clock.
    ahead: (i64, i64),
}

impl Mark {
    /// How far from the truth an estimate may be if this is one mark up to the moment `end`.
    fn error(&self, end: Timestamp) -> i64 {
        let varies = self.ahead.1.saturating_sub(self.ahead.0);
        varies.min(end.since(self.begun))
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct StoreTimes {
    /// When this process took the stream over.
    taken_over: Timestamp,
    marks: VecDeque<Mark>,
}

impl Default for StoreTimes {
    fn default() -> Self {
        StoreTimes { taken_over: Timestamp(i64::MAX), marks: VecDeque::new() }
    }
}

impl StoreTimes {
    /// What the stream holds was stored before this moment.
    pub fn take_over(&mut self, now: Timestamp) {
        self.taken_over = now;
        self.marks.clear();
    }

    /// A message gets a sequence and a time; `first_seq` is the first one
    /// that the stream holds or knows the id of.
    #[inline]
    pub fn note(&mut self, now: Timestamp, seq: u64, at: WallTime, first_seq: u64) {
        let ahead = at.0.saturating_sub(now.0);
        if let Some(last) = self.marks.back_mut() {
            let (least, most) = (last.ahead.0.min(ahead), last.ahead.1.max(ahead));
            if most.saturating_sub(least) <= TOLERANCE {
                last.ahead = (least, most);
                return;
            }
        }
        self.mark(Mark { first: seq, begun: now, ahead: (ahead, ahead) }, first_seq);
    }

    #[cold]
    fn mark(&mut self, mark: Mark, first_seq: u64) {
        while self.marks.get(1).is_some_and(|second| second.first <= first_seq) {
            self.marks.pop_front();
        }
        if self.marks.len() >= MARKS_MAX {
            self.merge();
        }
        self.marks.push_back(mark);
    }

    /// Makes one mark of two neighbours, but for the last, which is still growing.
    fn merge(&mut self) {
        let merged = |at: usize| {
            let (a, b) = (&self.marks[at], &self.marks[at + 1]);
            let ahead = (a.ahead.0.min(b.ahead.0), a.ahead.1.max(b.ahead.1));
            Mark { ahead, ..*a }
        };
        let ends = 2..self.marks.len();
        let cost = |end: &usize| merged(end - 2).error(self.marks[*end].begun);
        let Some(end) = ends.min_by_key(cost) else { return };
        let mark = merged(end - 2);
        self.marks.remove(end - 1);
        self.marks[end - 2] = mark;
    }

    /// The mark that a sequence belongs to, and when the next one begins.
    fn of(&self, seq: u64) -> (Option<&Mark>, Timestamp) {
        let next = self.marks.partition_point(|mark| mark.first <= seq);
        let end = self.marks.get(next).map_or(Timestamp(i64::MAX), |mark| mark.begun);
        (next.checked_sub(1).map(|at| &self.marks[at]), end)
    }

    /// When a message was stored, at the latest.
    pub fn stored(&self, seq: u64, at: WallTime) -> Timestamp {
        match self.of(seq) {
            (None, end) => Timestamp(at.0).min(self.taken_over).min(end),
            (Some(mark), end) => {
                Timestamp(at.0.saturating_sub(mark.ahead.0)).clamp(mark.begun, end.max(mark.begun))
            }
        }
    }

    /// Where those begin that were stored after a moment: what lies before these sequences was not,
    /// what lies behind them was, and within them those were that have a later time than this.
    pub fn stored_after(&self, moment: Timestamp) -> (Range<u64>, WallTime) {
        let next = self.marks.partition_point(|mark| mark.begun <= moment);
        let end = self.marks.get(next).map_or(u64::MAX, |mark| mark.first);
        match next.checked_sub(1).map(|at| &self.marks[at]) {
            None if moment >= self.taken_over => (end..end, WallTime(moment.0)),
            None => (0..end, WallTime(moment.0)),
            Some(mark) => (mark.first..end, WallTime(moment.0.saturating_add(mark.ahead.0))),
        }
    }

    /// Sequences from this one on are given anew.
    pub fn drop_from(&mut self, seq: u64) {
        while self.marks.back().is_some_and(|mark| mark.first >= seq) {
            self.marks.pop_back();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;
    const HOUR: i64 = 3_600 * SECOND;
    const START: i64 = 1_000 * HOUR;

    /// A stream's messages: when each was stored, and the time it got.
    struct Stream {
        times: StoreTimes,
        messages: Vec<(i64, WallTime)>,
        first: u64,
    }

    impl Stream {
        fn new() -> Self {
            Stream { times: StoreTimes::default(), messages: Vec::new(), first: 1 }
        }

        /// A message at this moment, while the wall clock is ahead by so much.
        fn store(&mut self, now: i64, ahead: i64) {
            let last = self.messages.last().map_or(WallTime(0), |m| m.1);
            let at = WallTime(now + ahead).max(last);
            self.messages.push((now, at));
            let seq = self.messages.len() as u64;
            self.times.note(Timestamp(now), seq, at, self.first);
        }

        /// One message every `gap` from one moment to another.
        fn fill(&mut self, from: i64, to: i64, gap: i64, ahead: impl Fn(i64) -> i64) {
            let mut now = from;
            while now < to {
                self.store(now, ahead(now));
                now += gap;
            }
        }

        /// The first sequence that is younger, as a search by time finds it.
        fn first_after(&self, moment: i64) -> u64 {
            let (within, time) = self.times.stored_after(Timestamp(moment));
            let found = self.messages.partition_point(|m| m.1 <= time) as u64 + 1;
            found.clamp(within.start, within.end).min(self.messages.len() as u64 + 1)
        }

        /// How much too late the estimates are at most. None may be too early, and they rise.
        fn worst(&self) -> i64 {
            let (mut worst, mut before) = (0, Timestamp(0));
            for (seq, &(now, at)) in (1..).zip(&self.messages).skip(self.first as usize - 1) {
                let stored = self.times.stored(seq, at);
                assert!(stored.0 >= now, "{seq}: {} too early", now - stored.0);
                assert!(stored >= before, "{seq}");
                before = stored;
                worst = worst.max(stored.0 - now);
            }
            worst
        }

        /// Searches find what the estimates say.
        fn check_searches(&self) {
            let mut moment = self.messages[self.first as usize - 1].0 - SECOND;
            while moment < self.messages[self.messages.len() - 1].0 + 2 * HOUR {
                let expired =
                    |(seq, m): &(u64, &(i64, WallTime))| self.times.stored(*seq, m.1).0 <= moment;
                let all = (1..).zip(&self.messages).skip(self.first as usize - 1);
                let expired = all.take_while(expired).count() as u64;
                assert_eq!(self.first_after(moment).max(self.first), self.first + expired);
                moment += 7 * SECOND;
            }
        }
    }

    #[test]
    fn steps_and_drift() {
        // What the wall clock is ahead by, when it is so by seconds from the start on; by how much
        // the worst estimate may be late, and how many marks there are.
        type Ahead = fn(i64) -> i64;
        let steps: [(&str, Ahead, i64, usize); 6] = [
            ("none", |_| 0, 0, 1),
            ("an hour forwards", |t| if t < 600 { 0 } else { HOUR }, 0, 2),
            ("back and forth", |t| if t % 200 < 100 { 0 } else { HOUR }, HOUR / 20, 64),
            ("an hour backwards", |t| if t < 600 { 0 } else { -HOUR }, HOUR / 16, 64),
            ("a second backwards", |t| if t < 600 { 0 } else { -SECOND }, TOLERANCE, 3),
            ("drift", |t| t * 50_000, TOLERANCE, 36),
        ];
        for (what, ahead, late, marks) in steps {
            let mut stream = Stream::new();
            stream.fill(START, START + 2 * HOUR, SECOND, |now| ahead((now - START) / SECOND));
            let worst = stream.worst();
            assert!(worst <= late, "{what}: {worst} late");
            assert!(stream.times.marks.len() <= marks, "{what}: {:?}", stream.times.marks);
            stream.check_searches();
        }
    }

    #[test]
    fn marks_of_what_was_removed_make_room() {
        let mut stream = Stream::new();
        let limit = 10 * SECOND;
        for n in 0..600_000 {
            let now = START + n * 10_000_000;
            stream.store(now, if n < 2_000 { 0 } else { -HOUR });
            stream.first = stream.first_after(now - limit).max(stream.first);
            if n % 10_000 == 9_999 {
                let worst = stream.worst();
                assert!(worst <= limit / 16, "{worst} late at {n}");
                let live = stream.messages.len() as u64 + 1 - stream.first;
                assert!((1_000..1_063).contains(&live), "{live} live at {n}");
            }
        }
    }

    #[test]
    fn what_an_earlier_process_stored() {
        let mut stream = Stream::new();
        // The wall clock was an hour ahead at last, and is right again.
        let times = [START - 2 * HOUR, START - HOUR, START + HOUR / 2, START + HOUR];
        stream.messages = times.iter().map(|&at| (at.min(START), WallTime(at))).collect();
        stream.times.take_over(Timestamp(START));
        assert_eq!(stream.worst(), 0);
        stream.fill(START + SECOND, START + HOUR / 2, SECOND, |_| 0);
        assert!(stream.worst() <= HOUR / 32);
        for (moment, first) in
            [(START - 2 * HOUR - 1, 1), (START - 2 * HOUR, 2), (START - 1, 3), (START, 5)]
        {
            assert_eq!(stream.first_after(moment), first);
        }
        stream.check_searches();
    }

    #[test]
    fn sequences_that_are_given_anew() {
        let mut stream = Stream::new();
        stream.fill(START, START + 10 * SECOND, SECOND, |_| 0);
        stream.store(START + 10 * SECOND, HOUR);
        stream.messages.truncate(5);
        stream.times.drop_from(6);
        stream.fill(START + 20 * SECOND, START + 30 * SECOND, SECOND, |_| HOUR);
        assert_eq!((stream.worst(), stream.times.marks.len()), (0, 2));
        stream.check_searches();
    }
}
