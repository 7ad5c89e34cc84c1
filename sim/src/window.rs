//! A duplicate window of several pages, and what a refused message leaves in it.

use crate::model::{Exists, Fate, State, Stream};
use crate::runner::Runner;
use crate::tally::Rare;
use crate::workload::SUBJECTS;

/// Message ids: more than a page of the window holds.
const IDS: u64 = 4_300;
/// Messages that are sent at once.
const BURST: u64 = 100;
/// Ids that are sent again after a restart.
const AGAIN: u64 = 60;
/// How long ids are known at least.
const WINDOW_MIN: i64 = 60_000_000_000;

impl Runner {
    /// Fills the window of a stream with more than a page, removes the messages, and restarts: the
    /// ids are known still.
    pub fn fill_window(&mut self) -> Result<(), String> {
        if !self.world.plan.later.window {
            return Ok(());
        }
        let fits = |s: &Stream| {
            let set = &s.settings;
            let limited = set.max_msgs.or(set.max_bytes).or(set.per_subject);
            let plain = limited.is_none() && set.max_age.is_none() && !set.memory;
            s.exists == Exists::Yes && plain && set.id_window() >= WINDOW_MIN
        };
        let Some(stream) = self.model.streams.iter().position(fits) else { return Ok(()) };
        let first = self.next_uid;
        for _ in 0..IDS.div_ceil(BURST) {
            for _ in 0..BURST {
                let subject = format!("s{stream}.{}", self.later.below(SUBJECTS));
                let id = format!("m{}", self.next_uid);
                self.send_new(0, stream, subject, &[("Nats-Msg-Id", id)], 0);
            }
            self.pump(self.world.now + 2_000_000)?;
        }
        self.rest()?;
        let name = self.model.streams[stream].name.clone();
        let purged = self.ask(&format!("$JS.API.STREAM.PURGE.{name}"), "")?;
        if purged["success"] != true {
            return Err(format!("{name} is not purged: {purged}"));
        }
        let generation = self.model.generation;
        for fact in self.model.streams[stream].facts.values_mut() {
            if !matches!(fact.state, State::Gone(_)) {
                fact.state = State::Gone(generation);
            }
        }
        self.pump(self.world.now + 500_000_000)?;
        self.crash();
        self.recover()?;
        self.rest()?;
        self.world.tally.add(Rare::WindowPages);
        for _ in 0..AGAIN {
            let uid = first + self.later.below(IDS);
            let acked = self.model.publishes.get(&uid).is_some_and(|p| p.fate == Fate::Acked);
            if acked {
                self.send_again(0, uid);
            }
        }
        self.rest()
    }

    /// Publishes what is refused, or sends what was refused once more under its id: it was never
    /// stored, so it is no duplicate.
    pub fn publish_refused(&mut self, client: usize, stream: usize) {
        let incarnation = self.model.streams[stream].incarnation;
        let from = self.later.below(self.next_uid);
        let refused = self.model.publishes.range(from..).take(300).find(|(_, p)| {
            let here = (p.stream, p.incarnation) == (stream, incarnation);
            here && p.with_id && p.fate == Fate::Refused && !p.sent_again && p.place.is_none()
        });
        if let Some((&uid, _)) = refused {
            self.world.tally.add(Rare::RefusedAgain);
            return self.send_refused_again(client, uid);
        }
        let subject = format!("s{stream}.{}", self.later.below(SUBJECTS));
        let id = format!("m{}", self.next_uid);
        // One is refused before its id is looked at, the other after.
        let wrong = if self.later.chance(500_000) {
            let never = self.model.streams[stream].floor + 1_000_000;
            ("Nats-Expected-Last-Sequence", never.to_string())
        } else {
            ("Nats-Expected-Last-Msg-Id", "another".to_owned())
        };
        let fields = [("Nats-Msg-Id", id), wrong];
        let len = self.later.below(100) as usize;
        self.send_new(client, stream, subject, &fields, len);
    }
}
