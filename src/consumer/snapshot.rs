//! A ledger as one blob, for checkpoints.
//!
//! # Layout (type 0x43, version 2)
//!
//! | bytes | meaning |
//! |---|---|
//! | 1 | type: 0x43 |
//! | 1 | version: 2 |
//! | LEB128 × 3 | next stream sequence, next consumer sequence, last delivered stream sequence |
//! | LEB128 × 2 | floors: stream sequence, consumer sequence |
//! | LEB128 × 3 | last sequence at creation, acknowledged ahead up to, resume position |
//! | LEB128 × 2 | the last jump over consumer sequences: after, up to; not in version 1 |
//! | LEB128 | count of unacknowledged messages; each as below |
//! | LEB128 × 4 | step of stream sequence, of consumer sequence, of due time; deliveries |
//! | LEB128 | count of dropped messages; each: step of stream sequence, deliveries |
//! | LEB128 | count of messages acknowledged ahead; each: step |
//! | LEB128 | bytes of the start set's members that are left, a 64-bit Roaring bitmap |
//!
//! A step is the zigzag difference to the one before, 0 at first.

use super::codec::{Corrupt, Reader, put, put_step};
use super::ledger::Ledger;
use super::settings::ConsumerSettings;
use super::start_set::{self, StartSet};

const TYPE: u8 = 0x43;
const VERSION: u8 = 2;
const VERSION_WITHOUT_JUMP: u8 = 1;

impl Ledger {
    /// Appends the whole state but for the settings.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[TYPE, VERSION]);
        for n in [
            self.next_seq,
            self.next_cseq,
            self.delivered_seq,
            self.floor_seq,
            self.floor_cseq,
            self.created_last_seq,
            self.ahead_all,
            self.resume_seq(),
            self.jump.0,
            self.jump.1,
        ] {
            put(out, n);
        }
        put(out, self.unacked.len() as u64);
        let (mut seq, mut cseq, mut due) = (0, 0, 0);
        for slot in self.unacked.iter() {
            put_step(out, seq, slot.seq);
            put_step(out, cseq, slot.consumer_seq);
            put_step(out, due, slot.due as u64);
            put(out, u64::from(slot.deliveries));
            (seq, cseq, due) = (slot.seq, slot.consumer_seq, slot.due as u64);
        }
        put(out, self.dropped.len() as u64);
        let mut seq = 0;
        for (&dropped, &deliveries) in &self.dropped {
            put_step(out, seq, dropped);
            put(out, u64::from(deliveries));
            seq = dropped;
        }
        put_all(out, self.ahead.len() as u64, self.ahead.iter().copied());
        self.start.encode(out);
    }

    /// Reads what [`Ledger::encode`] wrote.
    pub fn decode(settings: ConsumerSettings, bytes: &[u8]) -> Result<Self, Corrupt> {
        let mut r = Reader(bytes);
        let (of_type, version) = (r.byte()?, r.byte()?);
        if of_type != TYPE || !(VERSION_WITHOUT_JUMP..=VERSION).contains(&version) {
            return Err(Corrupt("unknown type or version of a snapshot"));
        }
        let mut l = Ledger::new(settings);
        l.next_seq = r.take()?;
        l.next_cseq = r.take()?;
        l.delivered_seq = r.take()?;
        l.floor_seq = r.take()?;
        l.floor_cseq = r.take()?;
        l.created_last_seq = r.take()?;
        l.ahead_all = r.take()?;
        let resume = r.take()?;
        if version > VERSION_WITHOUT_JUMP {
            l.jump = (r.take()?, r.take()?);
        }
        let positions = [l.next_seq, l.next_cseq, l.delivered_seq, l.floor_seq];
        let zero = l.next_seq == 0 || l.next_cseq == 0;
        if zero || l.floor_cseq >= l.next_cseq || positions.contains(&u64::MAX) {
            return Err(Corrupt("a floor lies above its position"));
        }
        if l.jump.0 > l.jump.1 || l.jump.1 >= l.next_cseq {
            return Err(Corrupt("a jump leads above its position"));
        }
        l.decode_unacked(&mut r)?;
        let mut seq = 0;
        for _ in 0..r.take()? {
            seq = ascending(&mut r, seq)?;
            let deliveries = r.take()?.min(u64::from(u32::MAX)) as u32;
            l.dropped.insert(seq, deliveries);
        }
        l.ahead = take_all(&mut r)?.into_iter().collect();
        l.start = StartSet::new(start_set::decode(&mut r, resume.max(1))?, resume);
        if !r.is_empty() {
            return Err(Corrupt("a snapshot has more bytes than it should"));
        }
        Ok(l)
    }

    fn decode_unacked(&mut self, r: &mut Reader<'_>) -> Result<(), Corrupt> {
        let (mut seq, mut cseq, mut due) = (0, 0, 0);
        for _ in 0..r.take()? {
            seq = ascending(r, seq)?;
            cseq = r.step(cseq)?;
            due = r.step(due)?;
            let deliveries = r.take()?.clamp(1, u64::from(u32::MAX)) as u32;
            if seq >= self.next_seq || cseq == 0 || cseq >= self.next_cseq {
                return Err(Corrupt("an unacknowledged message lies above the position"));
            }
            self.unacked.insert(seq, cseq, due as i64, deliveries);
        }
        Ok(())
    }
}

fn ascending(r: &mut Reader<'_>, last: u64) -> Result<u64, Corrupt> {
    let seq = r.step(last)?;
    if seq <= last || seq == u64::MAX { Err(Corrupt("sequences do not ascend")) } else { Ok(seq) }
}

fn put_all(out: &mut Vec<u8>, count: u64, seqs: impl Iterator<Item = u64>) {
    put(out, count);
    let mut last = 0;
    for seq in seqs {
        put_step(out, last, seq);
        last = seq;
    }
}

fn take_all(r: &mut Reader<'_>) -> Result<Vec<u64>, Corrupt> {
    let mut all = Vec::new();
    let mut seq = 0;
    for _ in 0..r.take()? {
        seq = ascending(r, seq)?;
        all.push(seq);
    }
    Ok(all)
}
