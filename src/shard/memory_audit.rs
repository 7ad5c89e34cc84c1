//! Compares what a shard holds in memory with what its streams and consumers explain.
//!
//! What is held for something that is gone shows in no answer: memory grows until the process dies.
//! Each owner of lists says whether they outgrew what they are for; tests and the
//! simulator ask at rest.

use crate::shard::state::Shard;
use crate::shard::state::stream::ShardStream;

impl Shard {
    /// The first thing that takes more memory than it should.
    pub fn audit_memory(&self) -> Result<(), String> {
        let of = |id: u64, why: String| format!("shard {}, stream {id}: {why}", self.id.0);
        for (slot, stream) in &self.streams {
            audit_stream(stream).map_err(|why| of(stream.id.0, why))?;
            if self.slots.get(&stream.id) != Some(&slot) {
                return Err(of(stream.id.0, "nobody finds it".into()));
            }
        }
        let streams = self.streams.len();
        if self.slots.len() != streams || self.names.len() > streams {
            let (ids, names) = (self.slots.len(), self.names.len());
            return Err(format!(
                "shard {}: {streams} streams, {ids} ids, {names} names",
                self.id.0
            ));
        }
        let pushed = self.consumers.watches.len();
        let consumers: usize = self.streams.iter().map(|(_, s)| s.consumers.slab.len()).sum();
        match pushed > consumers {
            true => Err(format!("shard {}: {pushed} watches, {consumers} consumers", self.id.0)),
            false => Ok(()),
        }
    }
}

fn audit_stream(stream: &ShardStream) -> Result<(), String> {
    if let Some(seq) = stream.memory.as_ref().and_then(|memory| memory.find_waste()) {
        return Err(format!("the messages from {seq} on take more memory than they should"));
    }
    if let Some(key) = stream.index.find_waste() {
        return Err(format!("page {key:?} holds more than what lives in it"));
    }
    let consumers = &stream.consumers;
    let (all, joined) = (consumers.slab.len(), consumers.by_name.len());
    if consumers.by_id.len() != all || joined > all {
        let ids = consumers.by_id.len();
        return Err(format!("{all} consumers, {ids} ids, {joined} names"));
    }
    consumers.groups.audit(joined, stream.index.subjects().len())?;
    for (_, consumer) in &consumers.slab {
        if consumer.delivery.as_ref().is_some_and(|delivery| delivery.is_wasteful()) {
            return Err(format!("consumer {} holds lists of what is gone", consumer.name));
        }
    }
    Ok(())
}
