//! Removals at rest, when nothing else is under way: what they do and answer is known exactly.

use std::collections::BTreeMap;

use crate::model::{Exists, State, Uid};
use crate::runner::Runner;
use crate::workload::{SUBJECTS, stream_config};

impl Runner {
    /// Removes messages of each stream in one way, and looks what is left.
    pub fn remove_exactly(&mut self) -> Result<(), String> {
        for at in 0..self.model.streams.len() {
            let s = &self.model.streams[at];
            let fits = s.exists == Exists::Yes && s.settings.max_age.is_none();
            if !fits || !self.world.plan.thorough {
                continue;
            }
            let name = s.name.clone();
            let found = self.walk_all(at, &name)?;
            let left = match self.more.below(4) {
                0 => self.delete_some(&name, found)?,
                // One that refuses what is new keeps what it has.
                1 if !self.model.streams[at].settings.discard_new => {
                    self.lower_limit(at, &name, found)?
                }
                _ => self.purge_some(at, &name, found)?,
            };
            let now = self.walk_all(at, &name)?;
            if now != left {
                let seqs = |m: &BTreeMap<u64, Uid>| format!("{:?}", m.keys().collect::<Vec<_>>());
                let (now, left) = (seqs(&now), seqs(&left));
                return Err(format!("{name}: {now} is left of a removal, and should be {left}"));
            }
            let generation = self.model.generation;
            for (seq, fact) in &mut self.model.streams[at].facts {
                if !left.contains_key(seq) && !matches!(fact.state, State::Gone(_)) {
                    fact.state = State::Gone(generation);
                }
            }
        }
        Ok(())
    }

    fn walk_all(&mut self, at: usize, name: &str) -> Result<BTreeMap<u64, Uid>, String> {
        let info = self.ask(&format!("$JS.API.STREAM.INFO.{name}"), "")?;
        let number = |field: &str| info["state"][field].as_u64().unwrap_or(0);
        self.walk(at, name, number("first_seq"), number("last_seq"))
    }

    fn delete_some(
        &mut self,
        name: &str,
        mut found: BTreeMap<u64, Uid>,
    ) -> Result<BTreeMap<u64, Uid>, String> {
        let api = format!("$JS.API.STREAM.MSG.DELETE.{name}");
        for _ in 0..10 {
            let from = 1 + self.more.below(found.keys().next_back().map_or(1, |last| last + 5));
            let Some((&seq, _)) = found.range(from..).next() else { continue };
            let body = format!("{{\"seq\":{seq}}}");
            let first = self.ask(&api, &body)?;
            let again = self.ask(&api, &body)?;
            let gone = [10043, 10057].iter().any(|code| again["error"]["err_code"] == *code);
            if first["success"] != true || !gone {
                return Err(format!("{api} {body}: {first}, and once more: {again}"));
            }
            found.remove(&seq);
        }
        Ok(found)
    }

    fn lower_limit(
        &mut self,
        at: usize,
        name: &str,
        mut found: BTreeMap<u64, Uid>,
    ) -> Result<BTreeMap<u64, Uid>, String> {
        let keep = 1 + self.more.below(found.len() as u64 + 1);
        let mut settings = self.model.streams[at].settings.clone();
        let kept = found.values().rev().take(keep as usize);
        let memory = settings.memory;
        let bytes: u64 = kept.map(|uid| self.model.publishes[uid].size_in(memory)).sum();
        // As many bytes as they have hold them exactly.
        if bytes > 0 && self.world.plan.large && self.large.chance(600_000) {
            settings.max_bytes = Some(settings.max_bytes.unwrap_or(u64::MAX).min(bytes));
        } else {
            settings.max_msgs = Some(settings.max_msgs.unwrap_or(u64::MAX).min(keep));
        }
        let api = format!("$JS.API.STREAM.UPDATE.{name}");
        let answer = self.ask(&api, &stream_config(name, at, &settings))?;
        if answer.get("error").is_some() {
            return Err(format!("{api}: {answer}"));
        }
        self.model.streams[at].settings = settings;
        while found.len() as u64 > keep {
            found.pop_first();
        }
        Ok(found)
    }

    fn purge_some(
        &mut self,
        at: usize,
        name: &str,
        mut found: BTreeMap<u64, Uid>,
    ) -> Result<BTreeMap<u64, Uid>, String> {
        let filter =
            self.more.chance(600_000).then(|| format!("s{at}.{}", self.more.below(SUBJECTS)));
        let subject = |uid: &Uid| &self.model.publishes[uid].subject;
        let wanted = |uid: &Uid| filter.as_ref().is_none_or(|f| f == subject(uid));
        let mut gone: Vec<u64> =
            found.iter().filter(|(_, uid)| wanted(uid)).map(|(&seq, _)| seq).collect();
        let mut fields = Vec::new();
        fields.extend(filter.as_ref().map(|f| format!("\"filter\":\"{f}\"")));
        match self.more.below(3) {
            0 => {
                let most = found.keys().next_back().map_or(1, |last| last + 1);
                let below = 1 + self.more.below(most);
                fields.push(format!("\"seq\":{below}"));
                gone.retain(|&seq| seq < below);
            }
            1 => {
                let keep = 1 + self.more.below(10);
                fields.push(format!("\"keep\":{keep}"));
                gone.truncate((gone.len() as u64).saturating_sub(keep) as usize);
            }
            _ => {}
        }
        let (api, body) = (format!("$JS.API.STREAM.PURGE.{name}"), fields.join(","));
        let answer = self.ask(&api, &format!("{{{body}}}"))?;
        if answer["purged"].as_u64() != Some(gone.len() as u64) {
            return Err(format!("{api} {body} should purge {gone:?}: {answer}"));
        }
        gone.iter().for_each(|seq| {
            found.remove(seq);
        });
        Ok(found)
    }
}
