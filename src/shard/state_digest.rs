//! Digests of what is applied: the same in a node that lives and in one that replayed its log.
//!
//! State is a function of the log, so two shards that applied the same entries must agree on every
//! stream: its messages and settings, its duplicate window, and the ledgers of its consumers. Tests
//! and the simulator compare them; replicas will. What lives in memory alone is left out: no log
//! has it.

use std::collections::{BTreeMap, BTreeSet};

use xxhash_rust::xxh3::xxh3_64;

use crate::api::types::StorageType;
use crate::meta::Catalogue;
use crate::shard::groups::GroupName;
use crate::shard::state::Shard;
use crate::shard::state::consumers::ShardConsumer;
use crate::shard::state::stream::ShardStream;
use crate::types::{LogIndex, StreamId};

/// What is applied, in short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateDigest {
    /// The last entry that file streams applied.
    pub applied: LogIndex,
    /// A line for each file stream.
    pub streams: BTreeMap<StreamId, String>,
    /// The last entry that the catalogue applied, and what its file streams are; of shard 0.
    pub catalogue: Option<(LogIndex, u64)>,
    /// Streams that were removed, of which something is left.
    pub leaving: BTreeSet<StreamId>,
}

impl Shard {
    /// What file streams have applied. `None` where an entry is applied in part.
    pub fn state_digest(&self) -> Option<StateDigest> {
        let applied = self.groups.get(GroupName::File).applied_index()?;
        let (mut streams, mut leaving) = (BTreeMap::new(), BTreeSet::new());
        for (_, stream) in self.streams.iter().filter(|(_, stream)| !stream.is_memory()) {
            if stream.removing {
                leaving.insert(stream.id);
            } else {
                streams.insert(stream.id, line_of(stream));
            }
        }
        let catalogue = self.groups.get(GroupName::Meta).applied_index();
        let catalogue = catalogue.zip(self.meta.as_ref().map(|meta| digest_of(&meta.catalogue)));
        Some(StateDigest { applied, streams, catalogue, leaving })
    }
}

fn digest_of(catalogue: &Catalogue) -> u64 {
    let files = catalogue.streams_after(None);
    let files = files.filter(|(_, entry)| entry.config.storage == StorageType::File);
    xxh3_64(format!("{:?}", files.collect::<Vec<_>>()).as_bytes())
}

fn line_of(s: &ShardStream) -> String {
    let index = &s.index;
    let (first, last) = (index.first_seq(), index.last_seq());
    let config = xxh3_64(format!("{:?}", s.config).as_bytes());
    let mut line = format!(
        "{}: {first}..={last}, {} messages, {} bytes, index {:x}, config {config:x}, \
         created {}, last at {}, ids {:x}, over its limits {}",
        s.config.name,
        index.messages(),
        index.bytes(),
        index.digest(),
        s.created.0,
        s.last_time.0,
        s.admission.ids_digest(),
        s.enforcing,
    );
    let logged = s.consumers.slab.iter().map(|(_, c)| c).filter(|c| !c.config.mem_storage);
    let mut consumers: Vec<&ShardConsumer> = logged.collect();
    consumers.sort_unstable_by_key(|c| c.id);
    for c in consumers {
        let config = xxh3_64(format!("{:?}", c.config).as_bytes());
        line += &format!(", consumer {} {config:x} {:x}", c.name, c.ledger.digest());
    }
    line
}
