//! Who waits for an outbound to drain: publishers that are stalled, and consumers.
//!
//! Publishers are stalled while it is more than half full, and released when it is down to a
//! quarter. Consumers are held much earlier: an outbound is *full* for them from when it holds
//! [`full_at`] bytes until it is down to half of that.

use super::clients::STALL_PART;
use super::{Clients, MILLISECOND};
use crate::interest::SubId;
use crate::types::{ConsumerPlace, Origin, PressureQuery, Timestamp};
use std::collections::BTreeMap;

/// An outbound that holds so many bytes is full for consumers. It keeps the fastest reader busy
/// for several turns. More would only be copied and wait, most often into memory that is new to the
/// process, where each page takes microseconds.
const FULL_BYTES: usize = 8 << 20;
/// Nor is it filled by consumers beyond this part.
const FULL_PART: usize = 2;
/// One that is full is reported again whenever this part of what may be pending was added since.
const REPORT_PART: usize = 16;
/// How long consumers with other receivers, too, wait for one in all, in nanoseconds.
pub(crate) const SHARED_WAIT_MAX: i64 = 2_000 * MILLISECOND;

/// From how many bytes on an outbound is full for consumers.
#[inline]
pub(super) fn full_at(max_pending: usize) -> usize {
    FULL_BYTES.min(max_pending / FULL_PART)
}

/// Those who wait for one outbound.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    /// 0 unless the outbound is full; then the bytes in it when that is reported next.
    report_at: usize,
    publishers: Vec<Origin>,
    /// With the number of their question.
    consumers: BTreeMap<ConsumerPlace, u64>,
    /// Since when the first of them waits.
    since: Option<Timestamp>,
}

impl Waiters {
    /// True while the outbound is full.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.report_at > 0
    }

    /// The outbound is full: true if that is new, or it has filled further.
    pub fn is_to_report(&mut self, pending: usize, max_pending: usize) -> bool {
        let reports = pending >= self.report_at;
        if reports {
            self.report_at = pending + max_pending / REPORT_PART;
        }
        reports
    }

    /// A publisher is stalled until the outbound has drained.
    pub fn add_publisher(&mut self, publisher: Origin) {
        if !self.publishers.contains(&publisher) {
            self.publishers.push(publisher);
        }
    }

    /// Lets a consumer wait until the outbound has drained. False if it need not: the outbound is
    /// not full, or others have waited long enough for it.
    pub fn add_consumer(&mut self, now: Timestamp, query: &PressureQuery) -> bool {
        if !self.is_full() {
            return false;
        }
        let since = *self.since.get_or_insert(now);
        if query.shared && now.since(since) >= SHARED_WAIT_MAX {
            return false;
        }
        self.consumers.insert(query.consumer, query.nth);
        true
    }

    /// Lets those go on for whom an outbound with so many bytes has drained.
    pub fn drained(
        &mut self,
        pending: usize,
        max_pending: usize,
        publishers: &mut Vec<Origin>,
        consumers: &mut Vec<PressureQuery>,
    ) {
        if pending < max_pending / STALL_PART / 2 {
            publishers.append(&mut self.publishers);
        }
        if pending < full_at(max_pending) / 2 {
            self.release(publishers, consumers);
        }
    }

    /// Lets all of them go on: the outbound has drained, or is gone.
    pub fn release(&mut self, publishers: &mut Vec<Origin>, consumers: &mut Vec<PressureQuery>) {
        let waiters = std::mem::take(self);
        publishers.extend(waiters.publishers);
        let queries = waiters.consumers.into_iter();
        consumers.extend(queries.map(|(consumer, nth)| PressureQuery {
            consumer,
            nth,
            shared: false,
        }));
    }
}

impl Clients {
    /// The connections that earned a stall release `publisher` when they have drained.
    pub(crate) fn wait_for_full(&mut self, publisher: Origin) {
        for slot in &self.full {
            if let Some(conn) = self.conns.get_mut(*slot as usize) {
                conn.waiters.add_publisher(publisher);
            }
        }
    }

    /// Lets a consumer wait until the outbound of a subscription has drained, if it is full. False
    /// if it need not wait.
    pub(crate) fn wait_for_outbound(
        &mut self,
        now: Timestamp,
        sub: SubId,
        query: &PressureQuery,
    ) -> bool {
        let sub = &self.subs[sub.0 as usize];
        let conn = &mut self.conns[sub.conn as usize];
        !conn.deaf && !sub.is_expired() && conn.waiters.add_consumer(now, query)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{ConsumerId, ReactorId, ShardId, StreamId};

    fn query(consumer: u64, shared: bool) -> PressureQuery {
        let (reactor, shard, stream) = (ReactorId(1), ShardId(1), StreamId(1));
        let consumer = ConsumerPlace { reactor, shard, stream, consumer: ConsumerId(consumer) };
        PressureQuery { consumer, nth: 7, shared }
    }

    #[test]
    fn consumers_go_on_later_than_publishers() {
        const MIB: usize = 1 << 20;
        assert_eq!((full_at(64 * MIB), full_at(4000)), (8 * MIB, 2000));
        let publisher = Origin { reactor: ReactorId(0), conn: crate::types::ConnId(3) };
        let mut waiters = Waiters::default();
        assert!(waiters.is_to_report(40 * MIB, 64 * MIB));
        waiters.add_publisher(publisher);
        assert!(waiters.add_consumer(Timestamp(5), &query(1, false)));
        let (mut publishers, mut consumers) = (Vec::new(), Vec::new());
        for (pending, released) in [(16, (0, 0)), (15, (1, 0)), (4, (1, 0)), (3, (1, 1))] {
            waiters.drained(pending * MIB, 64 * MIB, &mut publishers, &mut consumers);
            assert_eq!((publishers.len(), consumers.len()), released, "{pending} MiB");
        }
        assert!(!waiters.is_full());
    }

    #[test]
    fn consumers_wait_for_a_full_outbound_alone_and_not_for_long_with_others() {
        let mut waiters = Waiters::default();
        let start = Timestamp(5);
        assert!(!waiters.add_consumer(start, &query(1, false)), "it is not full");
        assert!(waiters.is_to_report(510, 1000));
        assert!(!waiters.is_to_report(520, 1000), "it was reported");
        assert!(waiters.is_to_report(580, 1000), "it has filled further");
        assert!(waiters.add_consumer(start, &query(1, false)));
        assert!(waiters.add_consumer(start, &query(2, true)));
        let late = start.plus(SHARED_WAIT_MAX);
        assert!(!waiters.add_consumer(late, &query(2, true)));
        assert!(waiters.add_consumer(late, &query(1, false)));
        let (mut publishers, mut consumers) = (Vec::new(), Vec::new());
        waiters.release(&mut publishers, &mut consumers);
        assert_eq!(consumers, [query(1, false), query(2, false)], "each once");
        assert!(!waiters.is_full());
    }
}
