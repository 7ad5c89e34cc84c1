//! Answers about streams that may have to wait: for a read, or until limits have removed what they
//! must.

use corelane_storage::log::ReadId;

use crate::api::types::{ResponseType, StreamCreated, StreamInfo, write_response};
use crate::shard::Shard;
use crate::shard::api::requests::Wait;
use crate::shard::effects::Outlet;
use crate::shard::jobs::Job;
use crate::shard::mailbox::{Asker, ShardMessage};
use crate::types::{ShardId, StreamId, Timestamp};

/// Streams that one step tells of.
const STEP_STREAMS: usize = 32;

/// What is to be told, and to whom.
pub enum Tell {
    /// A stream was created, or was there.
    Created(StreamId, Asker),
    /// A stream was updated: once the new limits hold.
    Updated(StreamId, Asker),
    /// What streams hold, to the shard that asked.
    List {
        /// The question.
        question: u64,
        /// Who asks.
        from: ShardId,
        /// Those still to be told of, the next last.
        left: Vec<StreamId>,
        /// What is to be told of the others.
        told: Vec<StreamInfo>,
    },
}

/// Why a step ended.
pub enum Told {
    /// It was told.
    Done,
    /// There is more to do.
    More(Tell),
    /// It waits for a read.
    Reading(ReadId, Tell),
}

impl Shard {
    /// Tells at once what can be told at once.
    pub(in crate::shard) fn tell(&mut self, now: Timestamp, tell: Tell, out: &mut impl Outlet) {
        match self.step_tell(now, tell, out) {
            Told::Done => {}
            Told::More(tell) => self.jobs.add(Job::Tell(tell)),
            Told::Reading(read, tell) => self.jobs.wait(read, Job::Tell(tell)),
        }
    }

    pub(in crate::shard) fn step_tell(
        &mut self,
        now: Timestamp,
        tell: Tell,
        out: &mut impl Outlet,
    ) -> Told {
        match tell {
            Tell::Created(stream, asker) => {
                let Some(&slot) = self.slots.get(&stream) else {
                    self.stream_is_gone(Some(&asker), ResponseType::StreamCreate, out);
                    return Told::Done;
                };
                let info = match self.created_info(now, slot) {
                    Ok(info) => info,
                    Err(wait) => return waits(wait, Tell::Created(stream, asker)),
                };
                let mut body = Vec::new();
                let created = StreamCreated { info: &info, did_create: true };
                write_response(&mut body, ResponseType::StreamCreate, &created);
                self.answer(&asker, &body, out);
            }
            Tell::Updated(stream, asker) => {
                let Some(&slot) = self.slots.get(&stream) else {
                    self.stream_is_gone(Some(&asker), ResponseType::StreamUpdate, out);
                    return Told::Done;
                };
                match self.evict_step(slot, out) {
                    Ok(true) => {}
                    Ok(false) => return Told::More(Tell::Updated(stream, asker)),
                    Err(read) => return Told::Reading(read, Tell::Updated(stream, asker)),
                }
                let info = match self.created_info(now, slot) {
                    Ok(info) => info,
                    Err(wait) => return waits(wait, Tell::Updated(stream, asker)),
                };
                let mut body = Vec::new();
                write_response(&mut body, ResponseType::StreamUpdate, &info);
                self.answer(&asker, &body, out);
            }
            Tell::List { question, from, mut left, mut told } => {
                for _ in 0..STEP_STREAMS {
                    let Some(&stream) = left.last() else {
                        let (streams, usage) = (told, self.usage());
                        out.tell(from, ShardMessage::Tell { question, streams, usage });
                        return Told::Done;
                    };
                    if let Some(&slot) = self.slots.get(&stream) {
                        match self.list_info(now, slot) {
                            Ok(info) => told.push(info),
                            Err(wait) => {
                                return waits(wait, Tell::List { question, from, left, told });
                            }
                        }
                    }
                    left.pop();
                }
                return Told::More(Tell::List { question, from, left, told });
            }
        }
        Told::Done
    }
}

fn waits(wait: Wait, tell: Tell) -> Told {
    match wait {
        Wait::Read(read) => Told::Reading(read, tell),
        Wait::Changed | Wait::Turn => Told::More(tell),
    }
}
