//! What a push consumer keeps besides the ledger: interest, the flow-control window, heartbeats and
//! the rate limit.

use super::settings::{ConsumerSettings, FLOW_WINDOW_BYTES_MAX, PushSettings, SECOND};
use corelane_storage::random::Random;

/// The push side of a consumer.
#[derive(Clone, Debug, Default)]
pub struct Push {
    /// The deliver subject has interest.
    pub active: bool,
    /// When the next heartbeat is due, if there are any.
    pub heartbeat_at: Option<i64>,
    window: u64,
    under_way: u64,
    requested: u64,
    /// The subject of the flow-control request that waits for its answer.
    request: Vec<u8>,
    random: Random,
    /// When the rate limit's bucket is full again.
    full_at: i64,
    /// What the rate limit lets pass at once.
    burst_bytes: u64,
}

impl Push {
    /// A push side that has no interest yet. `seed` feeds the tokens of flow-control subjects.
    pub fn new(now: i64, settings: &PushSettings, seed: u64, burst_bytes: u64) -> Self {
        let mut push = Push { random: Random::new(seed), burst_bytes, ..Default::default() };
        if settings.flow_control {
            push.window = FLOW_WINDOW_BYTES_MAX / 16;
        }
        push.delivered_at(now, settings);
        push
    }

    /// The rate limit lets so many bytes pass at once from now on.
    pub fn set_burst_bytes(&mut self, bytes: u64) {
        self.burst_bytes = bytes;
    }

    /// Starts the wait for the next heartbeat anew.
    pub fn delivered_at(&mut self, now: i64, settings: &PushSettings) {
        let beats = settings.idle_heartbeat > 0;
        self.heartbeat_at = beats.then(|| now.saturating_add(settings.idle_heartbeat));
    }

    /// True while the window is full and the client has not answered.
    pub fn stalled(&self) -> bool {
        self.window > 0 && self.under_way > self.window
    }

    /// The flow-control subject the client is to answer, or nothing.
    pub fn request(&self) -> &[u8] {
        &self.request
    }

    /// Notes `bytes` under way; true if a flow-control request is to be sent now (then
    /// [`Push::request`] is its reply).
    pub fn sent(&mut self, bytes: u64, settings: &ConsumerSettings) -> bool {
        if self.window == 0 {
            return false;
        }
        self.under_way += bytes;
        if self.request.is_empty() && self.under_way > self.window / 2 {
            self.requested = self.under_way;
            self.request.extend_from_slice(b"$JS.FC.");
            self.request.extend_from_slice(&settings.stream);
            self.request.push(b'.');
            self.request.extend_from_slice(&settings.name);
            self.request.push(b'.');
            self.push_token();
            return true;
        }
        if !self.request.is_empty() && self.under_way - self.requested >= self.window {
            self.requested += bytes;
        }
        false
    }

    fn push_token(&mut self) {
        const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        // Enough to tell an old answer from a new one.
        let mut z = self.random.bits();
        for _ in 0..4 {
            self.request.push(DIGITS[(z % 62) as usize]);
            z /= 62;
        }
    }

    /// The client answered on `subject`: the window grows, and what it covers has arrived. False
    /// for an old answer.
    pub fn answered(&mut self, subject: &[u8]) -> bool {
        if self.request.is_empty() || subject != self.request {
            return false;
        }
        self.window = (self.window * 2).min(FLOW_WINDOW_BYTES_MAX);
        self.under_way = self.under_way.saturating_sub(self.requested);
        self.requested = 0;
        self.request.clear();
        true
    }

    /// When `bytes` may be sent by the rate limit; `now` or earlier if at once. A message larger
    /// than the bucket waits for a full one.
    pub fn allowed_at(&self, bytes: u64, settings: &PushSettings) -> i64 {
        if settings.rate_limit_bps == 0 {
            return i64::MIN;
        }
        let burst = cost(self.burst_bytes, settings.rate_limit_bps);
        let cost = cost(bytes, settings.rate_limit_bps).min(burst);
        self.full_at.saturating_add(cost).saturating_sub(burst)
    }

    /// Takes `bytes` out of the rate limit's bucket.
    pub fn spend(&mut self, now: i64, bytes: u64, settings: &PushSettings) {
        if settings.rate_limit_bps > 0 {
            let spent = cost(bytes, settings.rate_limit_bps);
            self.full_at = self.full_at.max(now).saturating_add(spent);
        }
    }
}

/// Nanoseconds that `bytes` take at a rate of `bps` bits a second.
fn cost(bytes: u64, bps: u64) -> i64 {
    let ns = u128::from(bytes) * 8 * SECOND as u128 / u128::from(bps.max(1));
    ns.min(i64::MAX as u128) as i64
}
