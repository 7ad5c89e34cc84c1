//! The asking half of every scenario with answers: a window of numbered requests in flight, each
//! answered on a subject that ends in its number.
//!
//! *Closed loop*: an answer frees a place in the window; latency counts from the write.
//! *Open loop*: requests fall due by the clock, and latency counts from when each was due, so that
//! a server that stalls is charged for the requests that had to wait (no coordinated omission).

use crate::{
    clock::{Nanos, SECOND},
    run::{Meter, Shared},
    stats::Latencies,
    template::{TOKEN_LEN, Template, read_token},
};

/// When requests are sent.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// As soon as the window has a place.
    Closed,
    /// Request `n` at `start + n / rate`.
    Open {
        /// When request 0 is due.
        start: Nanos,
        /// Requests per second of this client.
        rate: f64,
    },
}

impl Pace {
    /// When request `number` is due.
    #[inline]
    pub fn due(&self, number: u64) -> Nanos {
        match *self {
            Self::Closed => 0,
            Self::Open { start, rate } => start + (number as f64 * SECOND as f64 / rate) as Nanos,
        }
    }

    /// How many requests are due by `now`.
    #[inline]
    fn due_by(&self, now: Nanos) -> u64 {
        match *self {
            Self::Closed => u64::MAX,
            Self::Open { start, rate } => {
                let elapsed = now.saturating_sub(start) as f64 / SECOND as f64;
                (elapsed * rate) as u64 + u64::from(now >= start)
            }
        }
    }
}

/// The window of one client. Its template has a token in the reply subject.
pub struct Window<'a> {
    template: Template,
    meter: &'a Meter,
    shared: &'a Shared,
    pace: Pace,
    in_flight_max: usize,
    /// Requests to make in all.
    quota: u64,
    sent: u64,
    answered: u64,
    /// When the request in each place was sent; 0 for a place that is free.
    sent_at: Vec<Nanos>,
    latencies: Latencies,
    batch: u64,
    unexpected: u64,
}

impl<'a> Window<'a> {
    /// A window of `in_flight_max` requests over `template`.
    pub fn new(
        template: Template,
        meter: &'a Meter,
        shared: &'a Shared,
        (in_flight_max, pace, quota): (usize, Pace, u64),
    ) -> Self {
        Self {
            template,
            meter,
            shared,
            pace,
            in_flight_max,
            quota,
            sent: 0,
            answered: 0,
            sent_at: vec![0; in_flight_max.next_power_of_two()],
            latencies: Latencies::new(),
            batch: 0,
            unexpected: 0,
        }
    }

    /// Takes the answer to the request whose number ends `subject`; a refusal counts neither as
    /// received nor as a latency. Returns whether it was one that was waited for.
    #[inline]
    pub fn answer(&mut self, subject: &[u8], at: Nanos, good: bool) -> bool {
        let number = subject.len().checked_sub(TOKEN_LEN).and_then(|n| read_token(&subject[n..]));
        let Some(number) = number.filter(|&number| number < self.sent) else {
            self.unexpected += 1;
            return false;
        };
        let mask = self.sent_at.len() as u64 - 1;
        let sent_at = std::mem::take(&mut self.sent_at[(number & mask) as usize]);
        if sent_at == 0 {
            self.unexpected += 1;
            return false;
        }
        self.answered += 1;
        self.batch += u64::from(good);
        if good && self.shared.is_recording() {
            self.latencies.record(at.saturating_sub(sent_at));
        }
        true
    }

    /// Counts the answers of one read.
    pub fn end_of_read(&mut self) {
        self.meter.add_received(std::mem::take(&mut self.batch));
    }

    /// Numbers as many requests as may go now. Returns their bytes, and the number of the first.
    #[inline]
    pub fn prepare(&mut self, now: Nanos) -> (usize, u64, usize) {
        let first = self.sent;
        let in_flight = (self.sent - self.answered) as usize;
        if self.shared.is_stopped() || in_flight >= self.in_flight_max {
            return (0, first, 0);
        }
        let due = self.pace.due_by(now).min(self.quota).saturating_sub(self.sent);
        let places = (self.in_flight_max - in_flight).min(self.template.capacity());
        let mut count = places.min(usize::try_from(due).unwrap_or(usize::MAX));
        let mask = self.sent_at.len() as u64 - 1;
        for index in 0..count {
            let number = first + index as u64;
            let place = &mut self.sent_at[(number & mask) as usize];
            if *place != 0 {
                // Answers may come out of order: the oldest still holds this place.
                count = index;
                break;
            }
            *place = match self.pace {
                Pace::Closed => now,
                Pace::Open { .. } => self.pace.due(number),
            };
        }
        self.sent += count as u64;
        self.meter.add_sent(count as u64);
        (self.template.number(first, count), first, count)
    }

    /// The bytes that `prepare` spoke of.
    pub fn output(&self) -> &[u8] {
        self.template.bytes()
    }

    /// The template, to patch what `prepare` made ready.
    pub fn template(&mut self) -> &mut Template {
        &mut self.template
    }

    /// When the next request is due, if that is what the window waits for.
    pub fn wake_at(&self) -> Option<Nanos> {
        let may_send = self.sent < self.quota
            && ((self.sent - self.answered) as usize) < self.in_flight_max
            && !self.shared.is_stopped();
        match self.pace {
            Pace::Open { .. } if may_send => Some(self.pace.due(self.sent)),
            _ => None,
        }
    }

    /// Whether nothing more will be sent and everything is answered.
    pub fn is_done(&self) -> bool {
        (self.shared.is_stopped() || self.sent >= self.quota) && self.answered == self.sent
    }

    /// Requests without an answer.
    pub fn unanswered(&self) -> u64 {
        self.sent - self.answered
    }

    /// Answers to nothing that was asked, or to something answered before.
    pub fn unexpected(&self) -> u64 {
        self.unexpected
    }

    /// The latencies so far.
    pub fn latencies(&self) -> &Latencies {
        &self.latencies
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::TOKEN;

    fn subject(number: u64) -> Vec<u8> {
        let mut place = [0; TOKEN_LEN];
        crate::template::write_token(&mut place, number);
        [b"in.".as_slice(), &place].concat()
    }

    fn window(shared: &Shared, in_flight: usize, pace: Pace, quota: u64) -> Window<'_> {
        let template = Template::new("s", &format!("in.{TOKEN}"), 1, in_flight);
        Window::new(template, shared.meter(0), shared, (in_flight, pace, quota))
    }

    #[test]
    fn a_closed_window_holds_no_more_than_it_may() {
        let shared = Shared::new(1);
        let mut window = window(&shared, 3, Pace::Closed, 5);
        assert_eq!(window.prepare(10).2, 3);
        assert_eq!(window.prepare(10).0, 0);
        assert!(window.answer(&subject(1), 20, true));
        assert!(!window.answer(&subject(1), 20, true), "twice");
        assert!(!window.answer(&subject(9), 20, true), "never asked");
        assert!(!window.answer(b"in.x", 20, true), "no number");
        assert_eq!(window.unexpected(), 3);
        let (_, first, count) = window.prepare(30);
        assert_eq!((first, count), (3, 1));
        for number in [0, 2, 3] {
            assert!(window.answer(&subject(number), 40, true));
        }
        assert_eq!(window.prepare(50).2, 1, "the quota is five");
        assert!(!window.is_done());
        assert_eq!(window.unanswered(), 1);
        assert!(window.answer(&subject(4), 60, true));
        assert!(window.is_done());
        window.end_of_read();
        assert_eq!((shared.meter(0).sent(), shared.meter(0).received()), (5, 5));
    }

    #[test]
    fn an_open_window_follows_the_clock() {
        let shared = Shared::new(1);
        let pace = Pace::Open { start: 1000, rate: 1e6 };
        let mut window = window(&shared, 8, pace, u64::MAX);
        assert_eq!(window.prepare(999).2, 0);
        assert_eq!(window.wake_at(), Some(1000));
        assert_eq!(window.prepare(1000).2, 1);
        assert_eq!(window.wake_at(), Some(2000));
        // A late turn sends what was missed, and each keeps the time at which it was due.
        assert_eq!(window.prepare(4000).2, 3);
        assert_eq!(window.sent_at[..4], [1000, 2000, 3000, 4000]);
    }
}
