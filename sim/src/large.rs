//! Messages that are larger than a block and have a segment each: they are read while they are
//! removed. And the id of a stream's last message, which a refusal tells.

use crate::model::{Exists, State};
use crate::runner::Runner;
use crate::tally::Rare;
use crate::workload::SUBJECTS;

/// What is surely larger than a block.
const LARGE: usize = 34_000;
/// Those that are looked through for one that is there.
const SEARCH: usize = 50;

impl Runner {
    /// Publishes a large message, or removes one that somebody reads.
    pub fn large_operation(&mut self, client: usize) {
        let stream = self.large.below(self.model.streams.len() as u64) as usize;
        let new = self.world.plan.stalls && self.model.is_new(stream);
        if self.model.streams[stream].exists != Exists::Yes || new {
            return;
        }
        match self.large_seq(stream).filter(|_| self.large.chance(500_000)) {
            Some(seq) => self.read_and_remove(client, stream, seq),
            None => {
                let subject = format!("s{stream}.{}", self.large.below(SUBJECTS));
                let len = LARGE + self.large.below(30_000) as usize;
                self.send_new(client, stream, subject, &[], len);
            }
        }
    }

    /// A large message that is there, and that nobody removes.
    fn large_seq(&mut self, stream: usize) -> Option<u64> {
        let s = &self.model.streams[stream];
        let large = |uid: &u64| self.model.publishes[uid].len >= LARGE;
        let there = s.facts.iter().filter(|(_, f)| f.state == State::Live && large(&f.uid));
        let there: Vec<u64> = there.map(|(&seq, _)| seq).take(SEARCH).collect();
        let nth = self.large.below(there.len().max(1) as u64) as usize;
        there.get(nth).copied()
    }

    /// Its removal is under way to the disk when reads of it begin, some of them slow ones.
    fn read_and_remove(&mut self, client: usize, stream: usize, seq: u64) {
        self.world.tally.add(Rare::ReadAndRemoved);
        let before = self.large.chance(300_000);
        if before {
            self.get_seq(client, stream, seq);
        }
        self.delete_seq(client, stream, seq);
        self.get_seq(client, stream, seq);
    }

    /// The id of a stream's last message is the one that was published with it. At rest.
    pub fn check_last_ids(&mut self) -> Result<(), String> {
        if !self.world.plan.large {
            return Ok(());
        }
        for at in 0..self.model.streams.len() {
            let s = &self.model.streams[at];
            if s.exists != Exists::Yes {
                continue;
            }
            let name = s.name.clone();
            let info = self.ask(&format!("$JS.API.STREAM.INFO.{name}"), "")?;
            let last = info["state"]["last_seq"].as_u64().unwrap_or(0);
            let Some(fact) = self.model.streams[at].facts.get(&last) else { continue };
            let uid = fact.uid;
            let with_id = self.model.publishes[&uid].with_id;
            let id = if with_id { format!("m{uid}") } else { String::new() };
            // Only a refusal tells it.
            let fields = [("Nats-Expected-Last-Msg-Id", "another".to_owned())];
            let answer = self.ask_with(&format!("s{at}.0"), &fields, "")?;
            let told = answer["error"]["description"].as_str().unwrap_or_default();
            if answer["error"]["err_code"] != 10070 || told != format!("wrong last msg ID: {id}") {
                return Err(format!("{name}: the last id is {id:?}, was told: {answer}"));
            }
            self.world.tally.add(Rare::LastId);
        }
        Ok(())
    }
}
