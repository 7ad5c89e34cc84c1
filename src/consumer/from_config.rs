//! The one place where a consumer's configuration, as NATS writes it, gets its meaning.

use super::settings::{
    AckPolicy, ConsumerSettings, Mode, PullSettings, PushSettings, ReplayPolicy,
};
use crate::api::types::{self, ConsumerConfig, StorageType, StreamConfig};

impl ConsumerSettings {
    /// Settings from a checked configuration whose defaults are filled in. Of its stream's
    /// configuration only what never changes counts, and nothing of the server's: they are the same
    /// whenever they are made.
    pub fn of(stream: &StreamConfig, name: &str, c: &ConsumerConfig) -> Self {
        let mode = if c.is_push() {
            Mode::Push(PushSettings {
                deliver_subject: c.deliver_subject.clone().into_bytes(),
                flow_control: c.flow_control,
                idle_heartbeat: c.idle_heartbeat,
                rate_limit_bps: c.rate_limit_bps,
            })
        } else {
            Mode::Pull(PullSettings {
                max_waiting: limit(c.max_waiting) as usize,
                max_batch: c.max_batch,
                max_expires: c.max_expires,
                max_bytes: c.max_bytes,
            })
        };
        ConsumerSettings {
            stream: stream.name.as_bytes().to_vec(),
            name: name.as_bytes().to_vec(),
            mode,
            ack_policy: match c.ack_policy {
                types::AckPolicy::None => AckPolicy::None,
                types::AckPolicy::All => AckPolicy::All,
                // Flow-control acknowledgements are refused before.
                _ => AckPolicy::Explicit,
            },
            ack_wait: c.ack_wait,
            backoff: c.backoff.clone(),
            max_deliver: u32::try_from(limit(c.max_deliver)).unwrap_or(u32::MAX),
            max_ack_pending: limit(c.max_ack_pending) as usize,
            headers_only: c.headers_only,
            replay: match c.replay_policy {
                types::ReplayPolicy::Instant => ReplayPolicy::Instant,
                types::ReplayPolicy::Original => ReplayPolicy::Original,
            },
            inactive_threshold: c.inactive_threshold,
            volatile: c.mem_storage && stream.storage != StorageType::Memory,
        }
    }
}

/// What the rate limit of a push consumer lets pass at once, in bytes: the largest message that its
/// stream takes now. `max_payload` is the server's.
pub fn rate_burst_bytes(stream: &StreamConfig, max_payload: u64) -> u64 {
    u64::try_from(stream.max_msg_size).ok().filter(|&n| n > 0).unwrap_or(max_payload)
}

/// A limit as NATS writes it, -1 or 0 for none; here 0.
fn limit(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_and_modes() {
        let c = ConsumerConfig {
            ack_policy: types::AckPolicy::Explicit,
            max_deliver: -1,
            max_ack_pending: -1,
            max_waiting: 512,
            filter_subject: "a.*".to_owned(),
            mem_storage: true,
            ..Default::default()
        };
        let stream = StreamConfig { name: "S".to_owned(), ..Default::default() };
        let s = ConsumerSettings::of(&stream, "C", &c);
        assert_eq!((s.max_deliver, s.max_ack_pending, s.volatile), (0, 0, true));
        assert_eq!(s.pull().map(|p| p.max_waiting), Some(512));
        let memory = StreamConfig { storage: StorageType::Memory, ..stream.clone() };
        assert!(!ConsumerSettings::of(&memory, "C", &c).volatile);
        let push = ConsumerConfig { deliver_subject: "d".to_owned(), max_deliver: 3, ..c };
        let s = ConsumerSettings::of(&stream, "C", &push);
        assert_eq!(s.max_deliver, 3);
        assert_eq!(rate_burst_bytes(&stream, 7), 7);
        let stream = StreamConfig { max_msg_size: 5, ..stream };
        assert_eq!(rate_burst_bytes(&stream, 7), 5);
        assert_eq!(ConsumerSettings::of(&stream, "C", &push), s);
    }
}
