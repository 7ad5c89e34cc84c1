//! Bits rot on the medium: what happens then must be told, and nothing may be deleted for it.

use corelane_storage::device::File;
use corelane_storage::superblock::{SUPERBLOCK_COPY_BYTES, Superblock};

use crate::model::{self, Exists, State};
use crate::runner::{Runner, What};
use crate::tally::Rare;
use crate::wire;

/// Bits that flip in a seed.
const FLIPS: usize = 4;
/// Gets that are asked for at once.
const GETS: usize = 64;
/// Bytes around a flipped bit that must stay as they are once it was told.
const AROUND: usize = 512;

/// A flipped bit.
struct Spot {
    disk: usize,
    file: File,
    offset: u64,
    mask: u8,
    /// The bytes around it, after the flip.
    around: Vec<u8>,
}

impl Runner {
    /// Flips bits between two lives of the server, one after another, and turns each back.
    pub fn rot(&mut self) -> Result<(), String> {
        for _ in 0..FLIPS {
            let more = 150_000_000 + self.rng.below(400_000_000) as i64;
            self.pump(self.world.now + more)?;
            self.crash();
            if self.world.plan.later.superblock_rot && self.later.chance(400_000) {
                self.rot_superblock()?;
                continue;
            }
            let Some(spot) = self.flip() else { return self.recover() };
            (self.rotten, self.damage_told) = (true, false);
            let started = self.start_once();
            if let Err(why) = started {
                if !why.contains("does not open") {
                    return Err(why);
                }
                // It says what it cannot read and touches nothing.
                self.world.tally.add(Rare::RotFound);
                self.must_be_there(&spot)?;
                self.turn_back(&spot)?;
            } else if self.damage_told {
                self.world.tally.add(Rare::RotFound);
                self.isolated = true;
                self.pump(self.world.now + 3_000_000_000)?;
                return self.must_be_there(&spot);
            } else {
                let unreadable = self.look_at_all()?;
                self.pump(self.world.now + 3_000_000_000)?;
                if unreadable > 0 {
                    self.world.tally.add(Rare::RotFound);
                    self.must_be_there(&spot)?;
                }
                self.turn_back(&spot)?;
            }
        }
        Ok(())
    }

    fn flip(&mut self) -> Option<Spot> {
        let disk = self.rng.below(self.world.disks.len() as u64) as usize;
        let (file, offset) = self.world.disks[disk].some_byte(&mut self.rng)?;
        let mask = 1 << self.rng.below(8);
        self.world.digests.forget();
        self.world.disks[disk].rot(file, offset, mask);
        if self.world.print {
            println!("---- bit {mask:#04x} of byte {offset} of {file:?} of disk {disk} flips");
        }
        let mut spot = Spot { disk, file, offset, mask, around: Vec::new() };
        spot.around = self.around(&spot).to_vec();
        Some(spot)
    }

    /// Flips bits of one copy of a superblock, which the other makes good, or of both: then the
    /// node refuses to start and touches nothing.
    fn rot_superblock(&mut self) -> Result<(), String> {
        let disk = self.later.below(self.world.disks.len() as u64) as usize;
        self.world.digests.forget();
        let before = self.superblock(disk);
        let Some(length) = Superblock::decode(&before).map(|s| s.length()) else {
            return self.recover();
        };
        let both = self.later.chance(300_000);
        let first = self.later.below(2) as usize;
        let copies = if both { vec![0, 1] } else { vec![first] };
        let mut flipped = Vec::new();
        for copy in copies {
            let at =
                copy * SUPERBLOCK_COPY_BYTES as usize + self.later.below(length as u64) as usize;
            let mask = 1 << self.later.below(8);
            self.world.disks[disk].rot(File::Superblock, at as u64, mask);
            flipped.push((at, mask));
        }
        if self.world.print {
            println!("---- bits of the superblock of disk {disk} flip: {flipped:?}");
        }
        self.world.tally.add(Rare::SuperblockRot);
        self.rotten = true;
        let rotten = self.superblock(disk);
        let started = self.world.start(false);
        if both {
            match started {
                Err(why) if why.contains("superblock") => {}
                other => return Err(format!("both copies of a superblock are bad: {other:?}")),
            }
            if self.superblock(disk) != rotten {
                return Err("a superblock with two bad copies was written to".into());
            }
            for (at, mask) in flipped {
                self.world.disks[disk].rot(File::Superblock, at as u64, mask);
            }
            self.world.start(false)?;
        } else {
            started?;
            if !self.world.lines.iter().any(|line| line.contains("copy of the superblock")) {
                return Err("a superblock was damaged, and nothing is said of it".into());
            }
        }
        self.connect_all()?;
        self.rotten = false;
        let copies = self.superblock(disk);
        let (one, two) = copies.split_at(SUPERBLOCK_COPY_BYTES as usize);
        let (one, two) = (Superblock::decode(one), Superblock::decode(two));
        if one.is_none() || one != two {
            return Err(format!("after a start, the superblock's copies are {one:?} and {two:?}"));
        }
        self.rest()?;
        self.audit_all()
    }

    fn superblock(&self, disk: usize) -> Vec<u8> {
        let both = 2 * SUPERBLOCK_COPY_BYTES as usize;
        self.world.disks[disk].durable(File::Superblock, 0, both).to_vec()
    }

    fn around(&self, spot: &Spot) -> &[u8] {
        let from = spot.offset & !(AROUND as u64 - 1);
        self.world.disks[spot.disk].durable(spot.file, from, AROUND)
    }

    fn must_be_there(&self, spot: &Spot) -> Result<(), String> {
        if self.around(spot) == spot.around {
            return Ok(());
        }
        let Spot { disk, file, offset, .. } = spot;
        Err(format!("what was damaged at {offset} of {file:?} of disk {disk} is gone"))
    }

    /// The bit is right again (unless what it was part of was needed no more): all must be there.
    fn turn_back(&mut self, spot: &Spot) -> Result<(), String> {
        self.crash();
        self.world.digests.forget();
        if self.around(spot) == spot.around {
            self.world.disks[spot.disk].rot(spot.file, spot.offset, spot.mask);
        }
        self.rotten = false;
        self.start_once()?;
        self.rest()?;
        self.audit_all()
    }

    fn start_once(&mut self) -> Result<(), String> {
        self.world.start(false)?;
        self.connect_all()
    }

    /// Gets every message that must be there, and counts those that cannot be read. What comes is
    /// right, and nothing is said not to be there.
    fn look_at_all(&mut self) -> Result<usize, String> {
        let mut unreadable = 0;
        for at in 0..self.model.streams.len() {
            let s = &self.model.streams[at];
            if s.exists != Exists::Yes {
                continue;
            }
            let live = s.facts.iter().filter(|(_, f)| f.state == State::Live);
            let live: Vec<(u64, u64)> = live.map(|(&seq, f)| (seq, f.uid)).collect();
            for some in live.chunks(GETS) {
                unreadable += self.look_at(at, some)?;
            }
        }
        Ok(unreadable)
    }

    fn look_at(&mut self, at: usize, live: &[(u64, u64)]) -> Result<usize, String> {
        let (name, direct) = {
            let s = &self.model.streams[at];
            (s.name.clone(), s.settings.direct)
        };
        let verb = if direct { "DIRECT" } else { "STREAM.MSG" };
        let mut asked = Vec::new();
        for &(seq, uid) in live {
            let Some((id, reply)) = self.begin(0, What::Probe) else { break };
            let (subject, body) =
                (format!("$JS.API.{verb}.GET.{name}"), format!("{{\"seq\":{seq}}}"));
            self.publish(0, &subject, &reply, &[], body.as_bytes());
            asked.push((id, seq, uid));
        }
        if !self.pump_until(|r| asked.iter().all(|(id, ..)| r.answers.contains_key(id)))? {
            return Err(format!("{name}: gets are not answered"));
        }
        let mut unreadable = 0;
        for (id, seq, uid) in asked {
            let (headers, body) = self.answers.remove(&id).unwrap_or_default();
            match judge(direct, &headers, &body) {
                Got::Message(found) if found == Some(uid) => {}
                Got::Unreadable => unreadable += 1,
                Got::NotThere if self.model.may_be_evicted(at, seq) => {}
                got => return Err(format!("{name} seq {seq} under rot: {got:?}, not {uid}")),
            }
        }
        Ok(unreadable)
    }
}

#[derive(Debug)]
enum Got {
    Message(Option<model::Uid>),
    NotThere,
    Unreadable,
}

/// What an answer to a get says.
fn judge(direct: bool, headers: &[u8], body: &[u8]) -> Got {
    if direct {
        return match wire::status(headers) {
            0 => Got::Message(model::uid_of(body)),
            500 => Got::Unreadable,
            _ => Got::NotThere,
        };
    }
    let json: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    match json["error"]["err_code"].as_u64() {
        None => {
            let data = json["message"]["data"].as_str().unwrap_or_default();
            Got::Message(model::uid_of(&crate::answers::base64(data)))
        }
        Some(10051) => Got::Unreadable,
        Some(_) => Got::NotThere,
    }
}
