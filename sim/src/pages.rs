//! A stream with several index pages, of which next to none stays in memory. What changed and is
//! not stored yet must stay, whatever is read meanwhile; and what a limit removes is removed
//! although the device does not read its page at the first attempt.

use crate::model;
use crate::runner::{Runner, What};
use crate::tally::Rare;

const NAME: &str = "PAGES";
/// Messages whose places one page tells.
const PAGE: u64 = 4_096;
/// Messages in the first page, and in the third, which is the last.
const BEFORE: u64 = 20;
const AFTER: u64 = 40;
/// Messages that are sent at once.
const BURST: u64 = 128;
/// Messages that a stream with a limit keeps.
const LIMIT: u64 = BEFORE + PAGE;
/// Messages that are looked at in the end, chosen from all.
const LOOKS: u64 = 60;

impl Runner {
    /// Fills a page and begins the next, while messages of another one are asked for or removed.
    pub fn fill_pages(&mut self) -> Result<(), String> {
        if !self.world.plan.aimed.pages {
            return Ok(());
        }
        let limit = if self.aims.chance(500_000) { LIMIT } else { u64::MAX };
        let config = format!(
            "{{\"name\":\"{NAME}\",\"subjects\":[\"pages\"],\"storage\":\"file\",\
             \"retention\":\"limits\",\"num_replicas\":1,\"first_seq\":{},\"max_msgs\":{}}}",
            PAGE - BEFORE,
            i64::try_from(limit).unwrap_or(-1)
        );
        self.must(&format!("$JS.API.STREAM.CREATE.{NAME}"), &config)?;
        let mut uids = Vec::new();
        let edge = BEFORE + PAGE - self.aims.below(20);
        while (uids.len() as u64) < edge {
            let count = BURST.min(edge - uids.len() as u64);
            self.fill(&mut uids, count)?;
        }
        // Time for checkpoints: what they stored need not stay.
        let pause = self.aims.below(3_000_000_000) as i64;
        self.pump(self.world.now + pause)?;
        while (uids.len() as u64) < BEFORE + PAGE + AFTER {
            if limit == LIMIT {
                self.push_out(&mut uids)?;
                continue;
            }
            let count = 1 + self.aims.below(12);
            self.fill(&mut uids, count)?;
            let old = self.aims.below(BEFORE);
            self.look_at_filled(&uids, old)?;
        }
        let first = (uids.len() as u64).saturating_sub(limit);
        self.look_at_some(&uids, first)?;
        if self.aims.chance(500_000) {
            self.crash();
            self.recover()?;
            self.rest()?;
            self.look_at_some(&uids, first)?;
        }
        self.world.tally.add(Rare::PagesFilled);
        self.must(&format!("$JS.API.STREAM.DELETE.{NAME}"), "")
    }

    /// One message more: the oldest one goes. Its page has left memory for another one, and the
    /// device reads it at the second attempt.
    fn push_out(&mut self, uids: &mut Vec<u64>) -> Result<(), String> {
        // The second page, of which hardly anything is pushed out.
        let other = BEFORE + PAGE / 2 + self.aims.below(100);
        self.look_at_filled(uids, other)?;
        let disks = usize::from(self.world.plan.shards);
        self.world.single.arm_page_read(&mut self.aims, disks);
        self.fill(uids, 1)?;
        self.pump(self.world.now + 3 * self.world.plan.disk_op_max())?;
        self.world.single.disarm();
        let info = self.ask(&format!("$JS.API.STREAM.INFO.{NAME}"), "")?;
        match info["state"]["messages"].as_u64() {
            Some(held) if held == LIMIT.min(uids.len() as u64) => Ok(()),
            _ => Err(format!("{NAME} holds at most {LIMIT} messages: {info}")),
        }
    }

    /// Publishes messages, and waits until they are stored.
    fn fill(&mut self, uids: &mut Vec<u64>, count: u64) -> Result<(), String> {
        let mut sent = Vec::new();
        for _ in 0..count {
            let uid = self.next_uid;
            self.next_uid += 1;
            let Some((op, reply)) = self.begin(0, What::Probe) else { continue };
            self.publish(0, "pages", &reply, &[], &model::body(uid, 0));
            sent.push((op, uid));
        }
        if !self.pump_until(|r| sent.iter().all(|(op, _)| r.answers.contains_key(op)))? {
            return Err(format!("{NAME}: publishes are not answered"));
        }
        for (op, uid) in sent {
            uids.push(uid);
            let (_, answer) = self.answers.remove(&op).unwrap_or_default();
            let json: serde_json::Value = serde_json::from_slice(&answer).unwrap_or_default();
            let seq = PAGE - BEFORE + uids.len() as u64 - 1;
            if json["seq"] != seq {
                return Err(format!("{NAME}: {json} should be sequence {seq}"));
            }
        }
        Ok(())
    }

    /// Looks at messages from the `first` on.
    fn look_at_some(&mut self, uids: &[u64], first: u64) -> Result<(), String> {
        (0..LOOKS).try_for_each(|_| {
            let nth = first + self.aims.below(uids.len() as u64 - first);
            self.look_at_filled(uids, nth)
        })
    }

    /// The message that came as the `nth` is what was sent.
    fn look_at_filled(&mut self, uids: &[u64], nth: u64) -> Result<(), String> {
        let seq = PAGE - BEFORE + nth;
        let got =
            self.ask(&format!("$JS.API.STREAM.MSG.GET.{NAME}"), &format!("{{\"seq\":{seq}}}"))?;
        let body = crate::answers::base64(got["message"]["data"].as_str().unwrap_or_default());
        if model::uid_of(&body) != Some(uids[nth as usize]) {
            return Err(format!("{NAME} seq {seq}: {got}"));
        }
        Ok(())
    }
}
