//! Recounts the live bytes of every segment and compares them with the log's counters.
//!
//! Bytes that are counted and belong to nothing keep their segment's file until the store is
//! removed; bytes that belong to something and are not counted lose it with the segment. Neither
//! shows in any answer, so tests and the simulator recount: on a shard at rest, from the index and
//! the places of everything that checkpoints wrote. Index pages that are not in memory are read, so
//! a recount may take several calls.

use std::collections::BTreeMap;

use corelane_storage::index::{Location, Lookup};
use corelane_storage::log::SegmentUse;

use crate::shard::state::Shard;
use crate::shard::streams::read::Fetched;
use crate::types::{Lsn, SegmentId};

/// A recount under way.
#[derive(Debug, Default)]
pub struct LiveAudit {
    /// What was appended to either lane when it began: it begins anew when more is.
    appended: (Lsn, Lsn),
    /// The stream's slot and the sequence where it goes on.
    slot: usize,
    seq: u64,
    live: BTreeMap<SegmentId, u64>,
}

/// How far a recount is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Audited {
    /// All counters are right; these closed segments hold nothing and have a file.
    Done(Vec<SegmentUse>),
    /// It waits for a page: call again after a turn.
    Waiting,
}

impl Shard {
    /// Goes on with a recount. Fails with the first counter that is wrong.
    pub fn audit_live(&mut self, audit: &mut LiveAudit) -> Result<Audited, String> {
        self.settle_live();
        let appended = (self.log.appended(), self.log.cold_appended());
        if audit.appended != appended {
            *audit = LiveAudit { appended, ..LiveAudit::default() };
        }
        while audit.slot < self.streams.capacity() {
            if !self.count_messages(audit)? {
                return Ok(Audited::Waiting);
            }
            (audit.slot, audit.seq) = (audit.slot + 1, 0);
        }
        let mut live = audit.live.clone();
        *audit = LiveAudit::default();
        for l in self.written_records() {
            *live.entry(l.position.segment).or_default() += u64::from(l.len);
        }
        for (segment, bytes) in self.reclaim.unsettled().chain(self.checkpoint.moved()) {
            *live.entry(segment).or_default() += u64::from(bytes);
        }
        let mut dead = Vec::new();
        for s in self.log.segments() {
            let counted = live.remove(&s.segment).unwrap_or(0);
            if s.live != counted {
                let (id, segment, live) = (self.id.0, s.segment.0, s.live);
                return Err(format!(
                    "shard {id}: segment {segment} has {counted} live bytes, and {live} are known"
                ));
            }
            dead.extend((s.live == 0 && !s.open).then_some(s));
        }
        match live.iter().find(|(_, bytes)| **bytes > 0) {
            Some((segment, bytes)) => {
                let id = self.id.0;
                Err(format!(
                    "shard {id}: {bytes} bytes live in segment {}, which is gone",
                    segment.0
                ))
            }
            None => Ok(Audited::Done(dead)),
        }
    }

    /// Adds what a stream's messages take. False if it waits for a page.
    fn count_messages(&mut self, audit: &mut LiveAudit) -> Result<bool, String> {
        loop {
            let stream = self.streams.get(audit.slot).filter(|stream| !stream.is_memory());
            let Some(seq) = stream.and_then(|stream| stream.index.next_live(audit.seq)) else {
                return Ok(true);
            };
            audit.seq = seq;
            match self.streams[audit.slot].index.get(seq) {
                Lookup::Found(entry) => {
                    let segment = entry.position.segment;
                    *audit.live.entry(segment).or_default() += u64::from(entry.size);
                    audit.seq = seq + 1;
                }
                Lookup::Deleted | Lookup::OutOfRange => audit.seq = seq + 1,
                Lookup::NeedPage(key) => match self.fetch_page(audit.slot, key) {
                    Fetched::Loaded => {}
                    Fetched::Pending(_) => return Ok(false),
                    Fetched::Failed(why) | Fetched::Damaged(why) => return Err(why),
                },
            }
        }
    }

    /// Every record that a checkpoint wrote and that is not dead.
    fn written_records(&self) -> Vec<Location> {
        let mut records: Vec<Location> = self.checkpoint.locations().collect();
        for (_, stream) in &self.streams {
            records.extend(stream.index.locations().map(|(_, l)| l));
            records.extend(stream.index.released());
            records.extend(stream.checkpointed.locations());
            records
                .extend(stream.consumers.slab.iter().filter_map(|(_, c)| c.checkpointed.location));
        }
        records
    }
}
