//! Looking closer at what is at rest: counts, subjects, times, and how soon answers come.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::answers::base64;
use crate::consumers::AckPolicy;
use crate::model::{self, Uid};
use crate::runner::Runner;
use crate::tally::Rare;
use crate::workload::SUBJECTS;

/// How long one request may take when nothing else is under way, in nanoseconds.
const ANSWER_MAX: i64 = 500_000_000;
/// The same of a purge, whose records wait for several flushes in turn, any of which may be slow.
const PURGE_MAX: i64 = 2_000_000_000;

impl Runner {
    /// A request at rest was answered after so long.
    pub fn answered_in(&mut self, ns: i64, subject: &str) -> Result<(), String> {
        let purges = subject.starts_with("$JS.API.STREAM.PURGE.");
        let most = if purges { PURGE_MAX } else { ANSWER_MAX };
        if self.world.plan.thorough && ns > most {
            return Err(format!("{subject} was answered after {} ms, at rest", ns / 1_000_000));
        }
        Ok(())
    }

    /// A message has one time, and times do not fall within a stream.
    pub fn came_at(&mut self, at: usize, seq: u64, time: String) -> Result<(), String> {
        let incarnation = self.model.streams[at].incarnation;
        let known = self.times.entry((at, incarnation, seq)).or_insert_with(|| time.clone());
        if *known != time {
            let name = &self.model.streams[at].name;
            return Err(format!("{name} seq {seq} came at {known}, and now at {time}"));
        }
        // Fractions are of different lengths; without the zone, texts compare as times do.
        let of = |time: &String| time.trim_end_matches('Z').to_owned();
        let before = self.times.range((at, incarnation, 0)..(at, incarnation, seq)).next_back();
        let mut after = self.times.range((at, incarnation, seq + 1)..=(at, incarnation, u64::MAX));
        if before.is_some_and(|(_, earlier)| of(earlier) > of(&time))
            || after.next().is_some_and(|(_, later)| of(&time) > of(later))
        {
            let name = &self.model.streams[at].name;
            return Err(format!("{name} seq {seq}: times fall around {time}"));
        }
        Ok(())
    }

    /// Counts, subjects and searches of a stream, against what was found in it.
    pub fn look_closer(
        &mut self,
        at: usize,
        name: &str,
        found: &BTreeMap<u64, Uid>,
    ) -> Result<(), String> {
        // What ages goes on changing.
        if !self.world.plan.thorough || self.model.streams[at].settings.max_age.is_some() {
            return Ok(());
        }
        let mut subjects: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for (&seq, uid) in found {
            subjects.entry(self.model.publishes[uid].subject.clone()).or_default().push(seq);
        }
        self.check_counts(at, name, found, &subjects)?;
        let api = format!("$JS.API.STREAM.MSG.GET.{name}");
        for nth in 0..SUBJECTS {
            let subject = format!("s{at}.{nth}");
            let seqs = subjects.get(&subject).cloned().unwrap_or_default();
            let asked = format!("{{\"last_by_subj\":\"{subject}\"}}");
            self.check_search(&api, &asked, seqs.last().copied(), found)?;
            let s = &self.model.streams[at];
            let from = s.base() + 1 + self.more.below(s.seen() + 1);
            let next = seqs.iter().copied().find(|&seq| seq >= from);
            let asked = format!("{{\"seq\":{from},\"next_by_subj\":\"{subject}\"}}");
            self.check_search(&api, &asked, next, found)?;
        }
        self.world.tally.add(Rare::LookedCloser);
        Ok(())
    }

    fn check_counts(
        &mut self,
        at: usize,
        name: &str,
        found: &BTreeMap<u64, Uid>,
        subjects: &BTreeMap<String, Vec<u64>>,
    ) -> Result<(), String> {
        let asked = "{\"deleted_details\":true,\"subjects_filter\":\">\"}";
        let info = self.ask(&format!("$JS.API.STREAM.INFO.{name}"), asked)?;
        let state = &info["state"];
        // As in NATS, a stream that never held anything says that sequence 0 is deleted.
        if state["last_seq"] == 0 {
            return Ok(());
        }
        let wrong = |what: &str| Err(format!("{name}: {what} do not agree: {state}"));
        let (first, last) = (found.keys().next().copied(), state["last_seq"].as_u64());
        let span = first.zip(last).map_or(0, |(first, last)| last + 1 - first);
        let mut deleted = span - (found.len() as u64).min(span);
        // A file that was never used tells of sequence 0, as nats-server's does.
        let unused = state["first_seq"] == 0 && !self.model.streams[at].settings.memory;
        deleted += u64::from(unused);
        if state["num_deleted"].as_u64().unwrap_or(0) != deleted {
            return wrong("deleted sequences");
        }
        let listed = state["deleted"].as_array().map_or(&[][..], Vec::as_slice);
        let gone = |seq: &Value| seq.as_u64().is_some_and(|seq| !found.contains_key(&seq));
        if listed.len() as u64 != deleted || !listed.iter().all(gone) {
            return wrong("deleted sequences");
        }
        if state["num_subjects"].as_u64().unwrap_or(0) != subjects.len() as u64 {
            return wrong("subjects");
        }
        let counts = subjects.iter().map(|(s, seqs)| (s.clone(), Value::from(seqs.len())));
        let counts: serde_json::Map<String, Value> = counts.collect();
        let told = state["subjects"].as_object().cloned().unwrap_or_default();
        if told != counts {
            return wrong("counts of subjects");
        }
        let incarnation = self.model.streams[at].incarnation;
        for (seq, field) in [(first, "first_ts"), (last, "last_ts")] {
            let time = seq.and_then(|seq| self.times.get(&(at, incarnation, seq)));
            if time.is_some_and(|time| state[field] != time.as_str()) {
                return wrong(field);
            }
        }
        Ok(())
    }

    /// A search finds what it must, or nothing.
    fn check_search(
        &mut self,
        api: &str,
        asked: &str,
        want: Option<u64>,
        found: &BTreeMap<u64, Uid>,
    ) -> Result<(), String> {
        let answer = self.ask(api, asked)?;
        let seq = answer["message"]["seq"].as_u64();
        let body = base64(answer["message"]["data"].as_str().unwrap_or_default());
        let known = want.and_then(|seq| found.get(&seq)).copied();
        let missing = answer["error"]["err_code"] == 10037;
        if seq != want || want.is_none() != missing || known != model::uid_of(&body) {
            return Err(format!("{api} {asked} should find {want:?}: {answer}"));
        }
        Ok(())
    }

    /// A push consumer whose client is there, and which may deliver and does not deliver again, has
    /// delivered all at rest.
    pub fn push_stands_still(&self, consumer: usize, pending: u64, info: &Value) -> bool {
        let open = info["num_ack_pending"].as_u64().unwrap_or(0);
        if info["num_redelivered"].as_u64().unwrap_or(0) > 0 {
            return false;
        }
        let c = &self.consumers[consumer];
        let push = !c.deliver.is_empty() && (c.ordered.is_none() || self.has_its_client(c));
        self.world.plan.thorough && push && pending > 0 && open < c.tuning.max_open
    }

    /// A crowd's messages come from slow disks one after the other: it is still at them if it
    /// delivers more in a while.
    pub fn push_moves(&mut self, consumer: usize, subject: &str) -> Result<bool, String> {
        let before = self.consumers[consumer].last_cseq;
        self.pump(self.world.now + 2_000_000_000)?;
        if self.consumers[consumer].last_cseq > before {
            return Ok(true);
        }
        // It may have come to its end meanwhile.
        let info = self.ask(subject, "")?;
        Ok(info["num_pending"].as_u64() == Some(0))
    }

    /// What a consumer without open deliveries may not lose by a restart.
    pub fn note_progress(&mut self, consumer: usize, info: &Value) {
        let c = &self.consumers[consumer];
        let number = |v: &Value| v.as_u64().unwrap_or(u64::MAX);
        if self.world.plan.thorough && c.ack != AckPolicy::None {
            let progress = Progress {
                floor: number(&info["ack_floor"]["stream_seq"]),
                pending: number(&info["num_pending"]),
                open: number(&info["num_ack_pending"]),
            };
            self.progress.insert(consumer, progress);
        }
    }

    /// What consumers say after a restart at rest, against what they said before.
    pub fn compare_progress(&self, before: &BTreeMap<usize, Progress>) -> Result<(), String> {
        for (&at, was) in before {
            let Some(is) = self.progress.get(&at) else { continue };
            if is.floor < was.floor || is.pending != was.pending || is.open > was.open {
                let name = &self.consumers[at].name;
                return Err(format!("consumer {name} was {was:?}, and after a restart is {is:?}"));
            }
        }
        Ok(())
    }
}

/// How far a consumer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    floor: u64,
    pending: u64,
    open: u64,
}
