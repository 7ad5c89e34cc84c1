//! Answers about streams that may have to wait: for a read, or until limits have removed what they
//! must.

use corelane_storage::log::ReadId;

use crate::api::types::{ResponseType, StreamCreated, StreamInfo, write_response};
use crate::shard::Shard;
use crate::shard::api::requests::Wait;
use crate::shard::effects::ShardEffects;
use crate::shard::jobs::Job;
use crate::shard::mailbox::{Requester, ShardMessage};
use crate::types::{ShardId, StreamId, Timestamp};

/// Streams that one step tells of.
const STEP_STREAMS: usize = 32;

/// What is to be listed, and to whom.
pub enum Reply {
    /// A stream was created, or was there.
    Created(StreamId, Requester),
    /// A stream was updated: once the new limits hold.
    Updated(StreamId, Requester),
    /// What streams hold, to the shard that asked.
    List {
        /// The question.
        question: u64,
        /// Who asks.
        from: ShardId,
        /// Those still to be listed of, the next last.
        left: Vec<StreamId>,
        /// What is to be listed of the others.
        listed: Vec<StreamInfo>,
    },
}

/// Why a step ended.
pub enum Answered {
    /// It was listed.
    Done,
    /// There is more to do.
    More(Reply),
    /// It waits for a read.
    Reading(ReadId, Reply),
}

impl Shard {
    /// Tells at once what can be listed at once.
    pub(in crate::shard) fn reply(
        &mut self,
        now: Timestamp,
        reply: Reply,
        out: &mut impl ShardEffects,
    ) {
        match self.step_reply(now, reply, out) {
            Answered::Done => {}
            Answered::More(reply) => self.jobs.add(Job::Reply(reply)),
            Answered::Reading(read, reply) => self.jobs.wait(read, Job::Reply(reply)),
        }
    }

    pub(in crate::shard) fn step_reply(
        &mut self,
        now: Timestamp,
        reply: Reply,
        out: &mut impl ShardEffects,
    ) -> Answered {
        match reply {
            Reply::Created(stream, requester) => {
                let Some(&slot) = self.slots.get(&stream) else {
                    self.stream_is_gone(Some(&requester), ResponseType::StreamCreate, out);
                    return Answered::Done;
                };
                let info = match self.created_info(now, slot) {
                    Ok(info) => info,
                    Err(wait) => return waits(wait, Reply::Created(stream, requester)),
                };
                let mut body = Vec::new();
                let created = StreamCreated { info: &info, did_create: true };
                write_response(&mut body, ResponseType::StreamCreate, &created);
                self.answer(&requester, &body, out);
            }
            Reply::Updated(stream, requester) => {
                let Some(&slot) = self.slots.get(&stream) else {
                    self.stream_is_gone(Some(&requester), ResponseType::StreamUpdate, out);
                    return Answered::Done;
                };
                let info = match self.created_info(now, slot) {
                    Ok(info) => info,
                    Err(wait) => return waits(wait, Reply::Updated(stream, requester)),
                };
                let mut body = Vec::new();
                write_response(&mut body, ResponseType::StreamUpdate, &info);
                self.answer(&requester, &body, out);
            }
            Reply::List { question, from, mut left, mut listed } => {
                for _ in 0..STEP_STREAMS {
                    let Some(&stream) = left.last() else {
                        let (streams, usage) = (listed, self.usage());
                        out.send_to_shard(
                            from,
                            ShardMessage::QueryAnswer { question, streams, usage },
                        );
                        return Answered::Done;
                    };
                    if let Some(&slot) = self.slots.get(&stream) {
                        match self.list_info(now, slot) {
                            Ok(info) => listed.push(info),
                            Err(wait) => {
                                return waits(wait, Reply::List { question, from, left, listed });
                            }
                        }
                    }
                    left.pop();
                }
                return Answered::More(Reply::List { question, from, left, listed });
            }
        }
        Answered::Done
    }
}

fn waits(wait: Wait, reply: Reply) -> Answered {
    match wait {
        Wait::Read(read) => Answered::Reading(read, reply),
        Wait::Changed | Wait::Unreadable | Wait::Decided | Wait::Turn => Answered::More(reply),
    }
}
