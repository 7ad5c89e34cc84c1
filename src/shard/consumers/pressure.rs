//! Consumers wait for receivers that are slow.
//!
//! A consumer delivers as long as it has heard of no slow receiver since its own took more. Then it
//! asks them, and goes on when they have all answered. It asks again after a while: so it finds out
//! that it has waited long enough, or that a receiver is another one now.

use crate::shard::effects::ShardEffects;
use crate::shard::state::Shard;
use crate::shard::state::consumers::NO_PRESSURE;
use crate::types::{ConsumerPlace, Pressure, PressureQuery, ReactorId, Timestamp};

/// How soon a consumer that waits asks again, in nanoseconds.
const ASK_AGAIN: i64 = 2_000_000_000;
impl Shard {
    /// Whether a consumer may deliver, as far as its receivers are concerned. If that is not known,
    /// they are asked, and it waits.
    pub(in crate::shard) fn may_deliver(
        &mut self,
        now: Timestamp,
        slot: usize,
        at: usize,
        out: &mut impl ShardEffects,
    ) -> bool {
        let pressure = out.pressure();
        let (shard, stream) = (self.id, self.streams[slot].id);
        let c = &mut self.streams[slot].consumers.slab[at];
        c.retry_at = None;
        if pressure == NO_PRESSURE || c.pace.clear_at == pressure {
            return true;
        }
        let Some((subject, requester, shared)) =
            c.delivery.as_mut().and_then(|delivery| delivery.receiver())
        else {
            return true;
        };
        c.pace.asked += 1;
        // The reactor is known outside.
        let consumer = ConsumerPlace { reactor: ReactorId(0), shard, stream, consumer: c.id };
        let query = PressureQuery { consumer, nth: c.pace.asked, shared };
        c.pace.answers = out.ask_receivers(subject, requester, query);
        c.pace.asked_at = pressure;
        if c.pace.answers > 0 {
            c.retry_at = Some(now.plus(ASK_AGAIN));
            self.after_consumer(slot, at);
            return false;
        }
        c.pace.clear_at = pressure;
        true
    }

    /// The receivers of a consumer have answered.
    pub fn pressure_answered(&mut self, query: PressureQuery, pressure: Pressure) {
        let place = query.consumer;
        let Some((slot, at)) = self.locate(place.stream, place.consumer) else { return };
        let c = &mut self.streams[slot].consumers.slab[at];
        if c.pace.asked != query.nth || c.pace.answers == 0 {
            return;
        }
        c.pace.answers = match pressure {
            Pressure::Clear => c.pace.answers - 1,
            // The others may have filled meanwhile.
            Pressure::Drained => 0,
        };
        if c.pace.answers > 0 {
            return;
        }
        if pressure == Pressure::Clear {
            c.pace.clear_at = c.pace.asked_at;
        }
        c.retry_at = None;
        self.wake_consumer(slot, at);
    }
}
