//! Pages for monitoring.

use std::ops::Bound;

use crate::api::types::{ConsumerInfo, StreamInfo};
use crate::consumer::GONE_CHECKS_MAX;
use crate::inspect::{PAGE_ITEMS, PAGE_VISITS};
use crate::shard::effects::ShardEffects;
use crate::shard::state::Shard;
use crate::types::Timestamp;

impl Shard {
    /// Streams from the place `from` on, and where the next page begins. The time of a stream's
    /// first message is left out while it has to be read.
    pub fn stream_page(&mut self, now: Timestamp, from: usize) -> (Vec<StreamInfo>, Option<usize>) {
        let mut page = Vec::new();
        let end = from.saturating_add(PAGE_VISITS);
        for slot in from..end {
            if slot >= self.streams.capacity() {
                return (page, None);
            }
            if page.len() == PAGE_ITEMS {
                return (page, Some(slot));
            }
            if self.streams.get(slot).is_some_and(|stream| !stream.removing) {
                page.push(self.shown_info(now, slot));
            }
        }
        (page, Some(end))
    }

    /// Consumers of a stream that come after `after` by name, and whether more follow; `None`
    /// where the stream is not here.
    pub fn consumer_page(
        &mut self,
        now: Timestamp,
        stream: &str,
        after: &str,
        out: &mut impl ShardEffects,
    ) -> Option<(Vec<ConsumerInfo>, bool)> {
        let slot = self.slot_named(stream)?;
        let begin = if after.is_empty() { Bound::Unbounded } else { Bound::Excluded(after) };
        let names = &self.streams[slot].consumers.by_name;
        let mut found = names.range::<str, _>((begin, Bound::Unbounded)).map(|(_, at)| *at);
        let places: Vec<usize> = found.by_ref().take(PAGE_ITEMS).collect();
        let more = found.next().is_some();
        let mut checks = GONE_CHECKS_MAX;
        let page = places.into_iter();
        let page = page.map(|at| self.info_of_consumer(now, slot, at, &mut checks, out)).collect();
        Some((page, more))
    }

    /// Whether a consumer is there; `None` where its stream is not here.
    pub fn finds(&self, stream: &str, consumer: &str) -> Option<bool> {
        let slot = self.slot_named(stream)?;
        Some(self.streams[slot].consumers.find(consumer).is_some())
    }

    fn slot_named(&self, stream: &str) -> Option<usize> {
        let slot = *self.names.get(stream.as_bytes())?;
        self.streams.get(slot).filter(|state| !state.removing).map(|_| slot)
    }
}
