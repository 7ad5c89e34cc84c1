//! Requests: what clients ask of streams and consumers. One that must wait for a read is run again
//! from its beginning.

use std::collections::VecDeque;

use crate::api::error::{ApiError, kinds};
use crate::api::types::{ResponseType, write_error};
use crate::interest::{Captured, Target};
use crate::shard::budget::Handler;
use crate::shard::effects::{Outgoing, ShardEffects};
use crate::shard::groups::pending::Change;
use crate::shard::groups::{GROUPS, GroupName};
use crate::shard::mailbox::Requester;
use crate::shard::request::{Handled, Request, Wait};
use crate::shard::state::Shard;
use crate::shard::state::jobs::Job;
use crate::subject::api as api_subject;
use crate::types::Timestamp;

/// Requests handled in one step.
const STEP_MAX: usize = 256;

/// Places for requests that an empty inbox keeps at most.
const INBOX_KEPT: usize = 1024;

impl Shard {
    /// Takes a request in. What it asks about must show what was published before it, so it waits
    /// for what is appended.
    pub(in crate::shard) fn request(&mut self, m: &Captured<'_>) {
        let request = Request::new(m);
        if matches!(request.target, Target::Api { .. }) {
            if let Some(request) = self.park_request(request) {
                self.behind_appended(request);
            }
        } else {
            self.requests.inbox.push_back(request);
        }
    }

    /// Has a request wait for what is appended: to its stream's group, or, if it is about none, to
    /// each.
    pub(in crate::shard) fn behind_appended(&mut self, request: Request) {
        self.behind_groups(&GROUPS, request);
    }

    /// A request has waited for `group`, and goes on to those behind it.
    pub(in crate::shard) fn behind_group(&mut self, group: GroupName, request: Request) {
        let behind = GROUPS.iter().position(|&g| g == group).map_or(0, |at| at + 1);
        self.behind_groups(&GROUPS[behind..], request);
    }

    /// A request waits for one group after the other. What is appended to a later one meanwhile is
    /// waited for, too, but no group twice.
    fn behind_groups(&mut self, groups: &[GroupName], request: Request) {
        let stream = match request.target {
            Target::Api { stream, .. } => stream.and_then(|id| self.slots.get(&id)),
            _ => None,
        };
        let of_stream = stream.map(|&slot| self.streams[slot].group());
        let concerns = |group: GroupName| of_stream.is_none_or(|of| of == group);
        let busy = |group: GroupName| !self.groups.get(group).is_idle();
        match groups.iter().copied().find(|&group| concerns(group) && busy(group)) {
            Some(group) => self.wait_for_appended(group, Change::Request(Box::new(request))),
            None => self.requests.inbox.push_back(request),
        }
    }

    pub(in crate::shard) fn run_requests(&mut self, now: Timestamp, out: &mut impl ShardEffects) {
        let before = self.tally.work;
        if std::mem::take(&mut self.requests.consumer_changed) {
            for request in std::mem::take(&mut self.requests.held_back).into_iter().rev() {
                self.requests.inbox.push_front(request);
            }
        }
        for _ in 0..STEP_MAX {
            if !self.turn.has_requests() || !self.has_room(out) {
                break;
            }
            let Some(request) = self.next_request(out) else { break };
            self.turn.request(matches!(request.target, Target::Api { .. }));
            self.tally.work.requests += 1;
            self.run_request(now, request, out);
        }
        self.tally.note(Handler::Requests, before);
        if self.requests.inbox.is_empty() && self.requests.inbox.capacity() > INBOX_KEPT {
            self.requests.inbox = VecDeque::new();
        }
    }

    /// Whether answers have where to go. At the end they are made in any case.
    fn has_room(&self, out: &impl ShardEffects) -> bool {
        out.has_room() || self.lifecycle.stopping.is_some()
    }

    /// Runs a request as far as it goes.
    pub(in crate::shard) fn run_request(
        &mut self,
        now: Timestamp,
        r: Request,
        out: &mut impl ShardEffects,
    ) {
        let handled = self.handle(now, &r, out);
        let Err(wait) = handled.map_err(|wait| self.hold_walk(&r, wait)) else {
            return self.request_is_over(&r);
        };
        match wait {
            Wait::Read(read) => self.requests.reading.push((read, r)),
            Wait::Changed => self.requests.held_back.push(r),
            Wait::Decided => {
                self.wait_for_appended(GroupName::Meta, Change::Request(Box::new(r)));
            }
            Wait::Unreadable => {
                self.refuse_unreadable(&r, out);
                self.request_is_over(&r);
            }
            Wait::Turn => self.jobs.add(Job::Request(Box::new(r))),
            Wait::Permit(permit) => self.requests.permits.wait(permit, r),
        }
    }

    /// A request was answered, or what is left to do has its credit.
    pub(in crate::shard) fn request_is_over(&mut self, r: &Request) {
        self.leave_walk(r);
        self.owe_credit(r.target.credit(&r.subject), r.origin, r.credit.take());
    }

    fn handle(&mut self, now: Timestamp, r: &Request, out: &mut impl ShardEffects) -> Handled {
        match r.target {
            Target::Stream { .. } => Ok(()),
            Target::Ack { stream, .. } => self.acknowledge(now, stream, r, out),
            Target::FlowControl { stream, .. } => self.flow_response(stream, r, out),
            Target::Api { stream, .. } => {
                let subject = r.subject.clone();
                let Some(request) = api_subject::parse(&subject) else {
                    if api_subject::is_served_by_assets(&subject) {
                        out.no_responders(r.origin, &r.subject, &r.reply);
                    }
                    return Ok(());
                };
                self.api(now, &request, stream, r, out)
            }
        }
    }

    /// A request about a consumer that cannot begin because the index cannot be read.
    fn refuse_unreadable(&mut self, r: &Request, out: &mut impl ShardEffects) {
        let kind = api_subject::parse(&r.subject).and_then(|request| request.response());
        let Some(kind) = kind else {
            return out.no_responders(r.origin, &r.subject, &r.reply);
        };
        let error = kinds::STREAM_STORE_FAILED.with("the index of the stream cannot be read");
        self.refuse_request(&r.requester(), kind, &error, out);
    }

    /// Reads are over: whoever waited for them goes on.
    pub(in crate::shard) fn reads_are_over(&mut self, _out: &mut impl ShardEffects) {
        if self.log.take_stalled_reads() {
            self.device.reads_over.push(crate::shard::request::ANY_READ);
        }
        for read in std::mem::take(&mut self.device.reads_over) {
            self.groups.read_is_over(read, crate::shard::request::ANY_READ);
            let mut i = 0;
            while i < self.requests.reading.len() {
                if self.requests.reading[i].0 == read
                    || self.requests.reading[i].0 == crate::shard::request::ANY_READ
                {
                    let (_, request) = self.requests.reading.swap_remove(i);
                    self.requests.inbox.push_back(request);
                } else {
                    i += 1;
                }
            }
            self.read_is_over(read);
            self.job_read_is_over(read);
            self.reclaim.read_is_over(read);
            self.sort.read_is_over(read);
        }
    }

    /// Nobody is left to answer a request: only its credit comes home.
    pub(in crate::shard) fn release(&mut self, by: &Requester, out: &mut impl ShardEffects) {
        if by.shard == self.id {
            self.owe_credit(by.kind, by.origin, by.credit);
        } else if by.credit > 0 {
            out.credit(by.origin.reactor, by.kind, by.shard, u64::from(by.credit));
        }
    }

    /// Answers a request at once.
    pub(in crate::shard) fn answer(
        &mut self,
        requester: &Requester,
        body: &[u8],
        out: &mut impl ShardEffects,
    ) {
        self.release(requester, out);
        if requester.reply.is_empty() {
            return;
        }
        self.turn.answered(body.len());
        out.send(&Outgoing {
            origin: Some(requester.origin),
            to: &requester.reply,
            shown: &[],
            reply: &[],
            headers: &[],
            payload: body,
        });
    }

    /// The stream that a request was about went away before it was answered.
    pub(in crate::shard) fn stream_is_gone(
        &mut self,
        requester: Option<&Requester>,
        kind: ResponseType,
        out: &mut impl ShardEffects,
    ) {
        if let Some(requester) = requester {
            self.refuse_request(requester, kind, &kinds::STREAM_NOT_FOUND.error(), out);
        }
    }

    /// Refuses a request.
    pub(in crate::shard) fn refuse_request(
        &mut self,
        requester: &Requester,
        kind: ResponseType,
        error: &ApiError,
        out: &mut impl ShardEffects,
    ) {
        self.requests.refused += 1;
        let mut body = Vec::new();
        write_error(&mut body, kind, error);
        self.answer(requester, &body, out);
    }
}
