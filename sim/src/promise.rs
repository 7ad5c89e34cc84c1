//! `sync_interval` with a duration promises less: what was acknowledged longer ago than that
//! survives a power cut, and of the rest what survives has no gaps.
//!
//! Only this phase cuts the power in a seed with an interval: everything else is flushed by then,
//! and a stream of its own gets all the messages, so that what may be missing is known.

use crate::model;
use crate::runner::{Runner, What};
use crate::tally::Rare;

/// The stream.
const NAME: &str = "PROMISE";
/// Messages, and the pieces in which they are sent.
const MESSAGES: u64 = 150;
const PIECE: u64 = 6;
/// How long reactors take at most to see what is due, in nanoseconds.
const LATE: i64 = 20_000_000;

/// A message that was sent: its body's number, and when it was acknowledged, as which sequence.
struct Sent {
    op: u64,
    uid: u64,
    acked: Option<(i64, u64)>,
}

impl Runner {
    /// Cuts the power while messages are acknowledged and not flushed.
    pub fn cut_power_between_flushes(&mut self) -> Result<(), String> {
        let Some(interval) = self.world.plan.later.sync_interval else { return Ok(()) };
        self.rest()?;
        // What nothing else brings about must not take longer than it has to: something always
        // wakes a reactor, and then it flushes.
        self.pump(self.world.now + interval + 3 * self.world.plan.disk_op_max())?;
        let slow = self.world.plan.faults.slow_flush_ppm;
        self.world.set_faults(|f| f.slow_flush_ppm = 0);
        // A flush that is under way, and one after it, each behind a write.
        let promised = interval + 6 * self.world.plan.faults.latency_ns_max + LATE;
        let config = format!(
            "{{\"name\":\"{NAME}\",\"subjects\":[\"promise\"],\"storage\":\"file\",\
             \"retention\":\"limits\",\"num_replicas\":1}}"
        );
        let made = self.ask(&format!("$JS.API.STREAM.CREATE.{NAME}"), &config)?;
        if made.get("error").is_some() {
            return Err(format!("{NAME} is not created: {made}"));
        }
        self.pump(self.world.now + promised)?;
        let mut sent = self.send_promised(interval)?;
        // Now and then nothing comes for so long that all of it must survive.
        if self.later.chance(700_000) {
            let quiet = self.world.now + promised + 5_000_000;
            while self.world.now < quiet {
                self.pump(quiet.min(self.world.now + 500_000))?;
                self.note_acknowledged(&mut sent)?;
            }
        }
        let cut = self.world.now;
        self.world.set_faults(|f| f.slow_flush_ppm = slow);
        self.world.tally.add(Rare::PowerCut);
        self.end_life(true);
        while !self.world.start(false)? {}
        self.connect_all()?;
        let info = self.ask(&format!("$JS.API.STREAM.INFO.{NAME}"), "")?;
        let last = info["state"]["last_seq"].as_u64().unwrap_or(0);
        for Sent { uid, acked, .. } in &sent {
            let Some((at, seq)) = *acked else { continue };
            if seq > last && at + promised < cut {
                let ago = (cut - at) / 1_000;
                return Err(format!(
                    "message {uid} was acknowledged {ago} µs before the power was cut, and is lost"
                ));
            }
            if seq > last {
                self.world.tally.add(Rare::PowerCutLost);
            }
        }
        self.check_survivors(&sent, last)?;
        let gone = self.ask(&format!("$JS.API.STREAM.DELETE.{NAME}"), "")?;
        if gone["success"] != true {
            return Err(format!("{NAME} is not deleted: {gone}"));
        }
        self.rest()?;
        self.pump(self.world.now + promised)?;
        self.audit_all()
    }

    /// Publishes, with pauses of up to a few intervals, and notes when each was acknowledged.
    fn send_promised(&mut self, interval: i64) -> Result<Vec<Sent>, String> {
        let mut sent: Vec<Sent> = Vec::new();
        for _ in 0..1 + self.later.below(MESSAGES / PIECE) {
            for _ in 0..1 + self.later.below(PIECE) {
                let uid = self.next_uid;
                self.next_uid += 1;
                let Some((op, reply)) = self.begin(0, What::Probe) else { continue };
                let body = model::body(uid, self.later.below(3_000) as usize);
                self.publish(0, "promise", &reply, &[], &body);
                sent.push(Sent { op, uid, acked: None });
            }
            let pause = match self.later.below(8) {
                0 => 2 * interval as u64,
                1 => interval as u64 / 2,
                _ => 2_000_000,
            };
            let until = self.world.now + self.later.below(pause) as i64;
            while self.world.now < until {
                self.pump(until.min(self.world.now + 500_000))?;
                self.note_acknowledged(&mut sent)?;
            }
        }
        Ok(sent)
    }

    fn note_acknowledged(&mut self, sent: &mut [Sent]) -> Result<(), String> {
        let now = self.world.now;
        for s in sent.iter_mut().filter(|s| s.acked.is_none()) {
            let Some((_, answer)) = self.answers.remove(&s.op) else { continue };
            let json: serde_json::Value =
                serde_json::from_slice(&answer).map_err(|e| e.to_string())?;
            let seq = json["seq"].as_u64().ok_or_else(|| format!("no PubAck: {json}"))?;
            s.acked = Some((now, seq));
        }
        Ok(())
    }

    /// Everything up to the last sequence is there, and is what was sent.
    fn check_survivors(&mut self, sent: &[Sent], last: u64) -> Result<(), String> {
        for seq in 1..=last {
            let got =
                self.ask(&format!("$JS.API.STREAM.MSG.GET.{NAME}"), &format!("{{\"seq\":{seq}}}"))?;
            let body = crate::answers::base64(got["message"]["data"].as_str().unwrap_or_default());
            let uid = model::uid_of(&body);
            let of_seq = |s: &&Sent| s.acked.is_some_and(|(_, acked)| acked == seq);
            let right = match sent.iter().find(of_seq) {
                Some(s) => uid == Some(s.uid),
                None => sent.iter().any(|s| s.acked.is_none() && uid == Some(s.uid)),
            };
            if !right {
                return Err(format!("{NAME} seq {seq} after a power cut: {got}"));
            }
        }
        Ok(())
    }
}
