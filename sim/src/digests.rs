//! State is a function of the log: what a shard had applied when it stopped is what it has after it
//! replayed as much, whichever way it came there. Compared at every stop after which the last
//! entry that was applied is also the last that is found.

use corelane::shard::{Shard, StateDigest};
use corelane::types::StreamId;

use crate::tally::Rare;
use crate::world::World;

/// What the shards had applied when the node stopped.
#[derive(Default)]
pub struct Digests {
    /// By shard; nothing where an entry was applied in part.
    shards: Vec<Option<StateDigest>>,
}

impl Digests {
    /// The medium was changed: nothing is known any more.
    pub fn forget(&mut self) {
        self.shards.clear();
    }

    /// Compares with a shard that was opened now. Whether there was something to compare.
    fn compare(&mut self, at: usize, shard: &Shard) -> Result<bool, String> {
        let Some(was) = self.shards.get(at).and_then(Option::as_ref) else { return Ok(false) };
        let Some(is) = shard.state_digest().filter(|is| is.applied == was.applied) else {
            return Ok(false);
        };
        let catalogues = was.catalogue.zip(is.catalogue);
        if let Some((was, is)) = catalogues.filter(|(was, is)| was.0 == is.0 && was.1 != is.1) {
            return Err(format!(
                "shard {at}: the catalogue was {was:?}, and replayed it is {is:?}"
            ));
        }
        let index = was.applied.0;
        let stays = |id: &&StreamId| !was.leaving.contains(id) && !is.leaving.contains(id);
        for id in was.streams.keys().chain(is.streams.keys()).filter(stays) {
            let (was, is) = (was.streams.get(id), is.streams.get(id));
            if was != is {
                return Err(format!(
                    "shard {at}: with entry {index} applied, there was {was:?}\nand replayed is \
                     {is:?}"
                ));
            }
        }
        Ok(true)
    }
}

impl World {
    /// The node is about to stop.
    pub fn note_digests(&mut self) {
        let mut shards = vec![None; usize::from(self.plan.shards)];
        for (id, reactor) in self.reactors.iter().enumerate() {
            let Some(r) = reactor else { continue };
            for (position, digest) in r.core.state_digests().enumerate() {
                shards[position * self.reactors.len() + id] = digest;
            }
        }
        self.digests = Digests { shards };
    }

    /// A shard was opened after the node had stopped.
    pub fn compare_digests(&mut self, at: usize, shard: &Shard) -> Result<(), String> {
        if self.digests.compare(at, shard)? {
            self.tally.add(Rare::Replayed);
        }
        Ok(())
    }
}
