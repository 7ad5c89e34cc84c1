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
use crate::types::{CreditKind, Timestamp};

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
        for _ in 0..STEP_MAX.min(self.requests.inbox.len()) {
            if !self.turn.has_requests() {
                break;
            }
            let Some(request) = self.requests.inbox.pop_front() else { break };
            self.turn.request(matches!(request.target, Target::Api { .. }));
            self.tally.work.requests += 1;
            self.run_request(now, request, out);
        }
        self.tally.note(Handler::Requests, before);
        if self.requests.inbox.is_empty() && self.requests.inbox.capacity() > INBOX_KEPT {
            self.requests.inbox = VecDeque::new();
        }
    }

    /// Runs a request as far as it goes.
    pub(in crate::shard) fn run_request(
        &mut self,
        now: Timestamp,
        r: Request,
        out: &mut impl ShardEffects,
    ) {
        match self.handle(now, &r, out) {
            Ok(()) => self.owe_credit(CreditKind::Request, r.origin, r.credit),
            Err(Wait::Read(read)) => self.requests.reading.push((read, r)),
            Err(Wait::Changed) => self.requests.held_back.push(r),
            Err(Wait::Decided) => {
                self.wait_for_appended(GroupName::Meta, Change::Request(Box::new(r)));
            }
            Err(Wait::Unreadable) => {
                self.refuse_unreadable(&r, out);
                self.owe_credit(CreditKind::Request, r.origin, r.credit);
            }
            Err(Wait::Turn) => self.jobs.add(Job::Request(Box::new(r))),
        }
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

    /// Answers a request at once.
    pub(in crate::shard) fn answer(
        &mut self,
        requester: &Requester,
        body: &[u8],
        out: &mut impl ShardEffects,
    ) {
        if requester.reply.is_empty() {
            return;
        }
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
