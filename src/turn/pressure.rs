//! Back pressure: consumers wait for receivers whose outbounds are full for them, wherever on the
//! node these are. See decision 0015.
//!
//! Whenever an outbound is found to be full, and whenever it has filled further by a sixteenth of
//! `max_pending`, that is counted, on every reactor. A consumer that sees the count grow asks the
//! reactors of its receivers before it delivers more. Where one of them is full, the answer comes
//! when half of that has drained, or it is gone.

use super::control::Control;
use super::net::Net;
use crate::interest::AccountId;
use crate::types::{Pressure, PressureQuery, ReactorId, Timestamp};

impl Net {
    /// Grows whenever an outbound of the node is found to be full: who asked before asks again.
    #[inline]
    pub fn pressure(&self) -> u64 {
        self.clients.pressure + self.pressure_elsewhere
    }

    /// Lets the others know how often outbounds here were found full. To be called at the end of a
    /// turn.
    pub fn report_pressure(&mut self) {
        if self.clients.pressure != self.pressure_reported {
            self.pressure_reported = self.clients.pressure;
            self.mesh.send_all(&Control::Full);
        }
    }

    /// Asks whether those who receive `subject` take more: all of them, or, for an answer that is
    /// routed on reactor `at`, those that are there. Returns how many answers follow; without any,
    /// they do.
    pub fn ask_receivers(
        &mut self,
        now: Timestamp,
        account: AccountId,
        subject: &[u8],
        at: Option<ReactorId>,
        query: PressureQuery,
    ) -> u32 {
        let mut reactors = std::mem::take(&mut self.reactors);
        reactors.clear();
        match at.filter(|&at| at != self.own) {
            Some(at) => reactors.push(at),
            None => {
                let id = self.interest.plan(account, subject);
                let plan = self.interest.get(id);
                reactors.extend_from_slice(&plan.plain_reactors);
                reactors.extend(plan.groups.iter().flat_map(|g| &g.remote).map(|&(r, _)| r));
                reactors.sort_unstable();
                reactors.dedup();
            }
        }
        for &reactor in &reactors {
            let subject = subject.into();
            self.mesh.send_control(reactor, Control::PressureQuery { account, subject, query });
        }
        let is_here = at.is_none_or(|at| at == self.own);
        let waits = is_here && self.has_full_receiver(now, account, subject, &query);
        let answers = reactors.len() as u32 + u32::from(waits);
        self.reactors = reactors;
        answers
    }

    /// Lets a consumer wait for one of the receivers of `subject` here, if any is full.
    fn has_full_receiver(
        &mut self,
        now: Timestamp,
        account: AccountId,
        subject: &[u8],
        query: &PressureQuery,
    ) -> bool {
        let id = self.interest.plan(account, subject);
        let plan = self.interest.get(id);
        let members = plan.groups.iter().map(|g| g.members() as usize).sum::<usize>();
        let receivers = plan.plain.len() + plan.plain_reactors.len() + members;
        self.work.deliveries(receivers, 0);
        let query = PressureQuery { shared: query.shared || receivers > 1, ..*query };
        let clients = &mut self.clients;
        plan.plain
            .iter()
            .chain(plan.groups.iter().flat_map(|g| &g.local))
            .any(|&sub| clients.wait_for_outbound(now, sub, &query))
    }

    /// A consumer of another reactor asks: what is not answered now is when the receiver that it
    /// waits for has drained.
    pub(super) fn pressure_query(
        &mut self,
        now: Timestamp,
        account: AccountId,
        subject: &[u8],
        query: PressureQuery,
    ) {
        if !self.has_full_receiver(now, account, subject, &query) {
            self.answer(query, Pressure::Clear);
        }
    }

    /// Answers those who waited for an outbound that has drained.
    pub(super) fn answer_drained(&mut self) {
        for query in std::mem::take(&mut self.clients.drained) {
            self.answer(query, Pressure::Drained);
        }
    }

    fn answer(&mut self, query: PressureQuery, pressure: Pressure) {
        let to = query.consumer.reactor;
        if to == self.own {
            self.answers.push((query, pressure));
        } else {
            self.mesh.send_control(to, Control::Pressure { query, pressure });
        }
    }

    /// True if consumers of this reactor have answers.
    pub fn has_answers(&self) -> bool {
        !self.answers.is_empty()
    }

    /// Takes what was answered to consumers of this reactor.
    pub fn take_answers(&mut self) -> Vec<(PressureQuery, Pressure)> {
        std::mem::take(&mut self.answers)
    }
}
