//! What a seed aims at: things that chance alone hardly ever brings together. Drawn apart, and off
//! in the seeds that `seeds.txt` had by then (all up to 2637), so that those stay what they were.

use corelane_storage::device::sim::SimRng;

use crate::later::Later;
use crate::model::Exists;
use crate::runner::Runner;
use crate::workload::SUBJECTS;

/// Sets these choices apart.
pub const AIMED: u64 = 0x4157_d000_0000;

/// How often a machine that stops leaves of what was not flushed one sector and not the next.
const TORN_PPM: u32 = 500_000;
/// Messages of a burst at most, and their bytes: several writes, and a new segment among them.
const BURST: u64 = 24;
const BURST_BYTES: u64 = 9_000;

/// What a seed aims at.
#[derive(Clone, Debug, Default)]
pub struct Aimed {
    /// Many short lives. Starts end between two writes of a superblock that is longer than a
    /// sector, and other lives in a burst of writes that begins a new segment.
    pub lives: bool,
    /// A reactor whose control does not fit into a lane is held up, while the others go on.
    pub lanes: bool,
    /// A stream gets index pages that are not its first, its last, or stored.
    pub pages: bool,
    /// Reads of index pages fail.
    pub page_reads: bool,
}

impl Aimed {
    /// The choices of a seed, and what they need of the others.
    pub fn new(rng: &mut SimRng, later: &mut Later) -> Aimed {
        if !rng.chance(500_000) {
            return Aimed::default();
        }
        let mut on = |ppm| rng.chance(ppm);
        let (lives, lanes, pages, page_reads) =
            (on(200_000), on(300_000), on(150_000), on(300_000));
        // With a flush now and then, machines do not stop, and failures lose more.
        let flushes = later.sync_interval.is_none();
        let aimed =
            Aimed { lives: lives && flushes, lanes, pages, page_reads: page_reads && flushes };
        later.lives |= aimed.lives;
        later.paged |= aimed.pages || aimed.page_reads;
        if aimed.page_reads {
            (later.single_failures, later.descriptors) = (true, None);
        }
        aimed
    }

    /// Stops, per million, that leave one sector and not the next.
    pub fn torn_ppm(&self) -> u32 {
        if self.lives { TORN_PPM } else { 0 }
    }
}

impl Runner {
    /// A client sends more than a block holds at once, to one stream.
    pub fn burst(&mut self) {
        let client = self.aims.below(self.clients.len() as u64) as usize;
        let there = |at: &usize| self.model.streams[*at].exists == Exists::Yes;
        let streams: Vec<usize> = (0..self.model.streams.len()).filter(there).collect();
        if streams.is_empty() {
            return;
        }
        let stream = streams[self.aims.below(streams.len() as u64) as usize];
        for _ in 0..self.aims.below(BURST) {
            let subject = format!("s{stream}.{}", self.aims.below(SUBJECTS));
            let len = self.aims.below(BURST_BYTES) as usize;
            self.send_new(client, stream, subject, &[], len);
        }
    }
}
