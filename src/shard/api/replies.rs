//! Answers about streams that may have to wait: for a read, or until limits have removed what they
//! must.

use crate::api::types::{ResponseType, StreamCreated, write_response};
use crate::shard::effects::ShardEffects;
use crate::shard::mailbox::ShardMessage;
use crate::shard::request::{Answered, Reply, Wait};
use crate::shard::state::Shard;
use crate::shard::state::jobs::Job;
use crate::types::Timestamp;

/// Streams that one step lists.
const STEP_STREAMS: usize = 32;

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
                        self.turn.visited(self.streams.len() as u32);
                        let (streams, usage) = (listed, self.usage());
                        out.send_to_shard(
                            from,
                            ShardMessage::QueryAnswer { question, streams, usage },
                        );
                        return Answered::Done;
                    };
                    if let Some(&slot) = self.slots.get(&stream) {
                        match self.list_info(now, slot) {
                            Ok(info) => {
                                self.turn.listed(1);
                                listed.push(info);
                            }
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
        _ => Answered::More(reply),
    }
}
