//! Who may begin what holds much until it is answered, and who waits for that.

use crate::shard::effects::ShardEffects;
use crate::shard::request::permits::{PERMITS, Permit};
use crate::shard::request::{Handled, Request, Wait};
use crate::shard::state::Shard;
use crate::subject::api::{self as api_subject, ApiRequest};

impl Shard {
    fn is_free(&self, permit: Permit) -> bool {
        let questions = || self.meta.as_ref().map_or([0; 2], |meta| meta.questions());
        let taken = match permit {
            Permit::Search => self.requests.permits.walks,
            Permit::Listing => questions()[0],
            Permit::Account => questions()[1],
            Permit::Purge => self.jobs.requested_purges,
        };
        taken < permit.count()
    }

    /// Whether a request may begin what needs a permit.
    pub(in crate::shard) fn permit_for(&self, permit: Permit) -> Handled {
        if self.is_free(permit) { Ok(()) } else { Err(Wait::Permit(permit)) }
    }

    /// Whether some request can be handled at once.
    pub(in crate::shard) fn requests_are_ready(&self) -> bool {
        let waiting = |p: Permit| &self.requests.permits.waiting[p as usize];
        self.requests.are_ready()
            || PERMITS.iter().any(|&p| !waiting(p).is_empty() && self.is_free(p))
    }

    /// The next request to be handled: one for which there is a permit again, or the first that
    /// came. One that waited for a permit and changes nothing is left out if nobody listens for its
    /// answer any more.
    pub(in crate::shard) fn next_request(
        &mut self,
        out: &mut impl ShardEffects,
    ) -> Option<Request> {
        for permit in PERMITS {
            while self.is_free(permit) && self.turn.has_requests() {
                let waiting = &mut self.requests.permits.waiting[permit as usize];
                let Some(request) = waiting.pop_front() else { break };
                if changes_something(&request) || out.has_interest(&request.reply, b"") {
                    return Some(request);
                }
                self.turn.request(false);
                self.request_is_over(&request);
            }
        }
        self.requests.inbox.pop_front()
    }

    /// A request is not finished: it keeps what it has seen if it has a permit for that, or gets
    /// one. Answers what it waits for.
    pub(in crate::shard) fn hold_walk(&mut self, r: &Request, wait: Wait) -> Wait {
        if !r.walk.borrow().is_kept() {
            self.leave_walk(r);
            return wait;
        }
        self.turn.visited(self.options.job_visits);
        if !r.has_permit.get() {
            if !self.is_free(Permit::Search) {
                r.walk.take();
                return Wait::Permit(Permit::Search);
            }
            self.requests.permits.walks += 1;
            r.has_permit.set(true);
        }
        wait
    }

    /// A request holds nothing any more.
    pub(in crate::shard) fn leave_walk(&mut self, r: &Request) {
        self.requests.permits.walks -= usize::from(r.has_permit.take());
    }
}

/// Whether a request that waits for a permit would change what the shard holds.
fn changes_something(r: &Request) -> bool {
    let request = api_subject::parse(&r.subject);
    matches!(request, Some(ApiRequest::StreamPurge(_) | ApiRequest::ConsumerCreate(_)))
}
