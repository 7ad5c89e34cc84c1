//! Consumers: configuration, state, info.

use std::collections::BTreeMap;

use serde::Serialize;

use super::enums::{self, AckPolicy, DeliverPolicy, PriorityPolicy, ReplayPolicy};
use super::skip;
use super::stream::ClusterInfo;
use crate::api::json;
use crate::api::time::{GoTime, optional_time};
use crate::json_object;

/// A consumer's configuration. As decoded it is what the client wrote; `consumer::config` fills
/// in defaults.
#[derive(
    Clone,
    Debug,
    Default,
    PartialEq,
    Eq,
    Serialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
pub struct ConsumerConfig {
    /// The name of a durable consumer.
    #[serde(skip_serializing_if = "skip::zero")]
    pub durable_name: String,
    /// The name.
    #[serde(skip_serializing_if = "skip::zero")]
    pub name: String,
    /// For humans.
    #[serde(skip_serializing_if = "skip::zero")]
    pub description: String,
    /// Where it starts.
    pub deliver_policy: DeliverPolicy,
    /// The sequence for `by_start_sequence`.
    #[serde(skip_serializing_if = "skip::zero")]
    pub opt_start_seq: u64,
    /// The time for `by_start_time`.
    #[serde(skip_serializing_if = "skip::zero")]
    pub opt_start_time: Option<GoTime>,
    /// What an acknowledgement means.
    pub ack_policy: AckPolicy,
    /// Nanoseconds until a delivery is repeated.
    #[serde(skip_serializing_if = "skip::zero")]
    pub ack_wait: i64,
    /// Most deliveries of one message, -1 for any number.
    #[serde(skip_serializing_if = "skip::zero")]
    pub max_deliver: i64,
    /// Nanoseconds until each repetition.
    #[serde(skip_serializing_if = "skip::zero")]
    pub backoff: Vec<i64>,
    /// The only filter.
    #[serde(skip_serializing_if = "skip::zero")]
    pub filter_subject: String,
    /// Several filters.
    #[serde(skip_serializing_if = "skip::zero")]
    pub filter_subjects: Vec<String>,
    /// How fast it replays.
    pub replay_policy: ReplayPolicy,
    /// Bits per second, 0 for any number.
    #[serde(skip_serializing_if = "skip::zero")]
    pub rate_limit_bps: u64,
    /// Percent of acknowledgements that are told.
    #[serde(skip_serializing_if = "skip::zero")]
    pub sample_freq: String,
    /// Most pull requests that wait.
    #[serde(skip_serializing_if = "skip::zero")]
    pub max_waiting: i64,
    /// Most deliveries that wait for their acknowledgement, -1 for any number.
    #[serde(skip_serializing_if = "skip::zero")]
    pub max_ack_pending: i64,
    /// Push: the client answers flow control.
    #[serde(skip_serializing_if = "skip::zero")]
    pub flow_control: bool,
    /// Without payloads.
    #[serde(skip_serializing_if = "skip::zero")]
    pub headers_only: bool,
    /// Pull: most messages a request may ask for.
    #[serde(skip_serializing_if = "skip::zero")]
    pub max_batch: i64,
    /// Pull: most nanoseconds a request may wait.
    #[serde(skip_serializing_if = "skip::zero")]
    pub max_expires: i64,
    /// Pull: most bytes a request may ask for.
    #[serde(skip_serializing_if = "skip::zero")]
    pub max_bytes: i64,
    /// Push: where it delivers.
    #[serde(skip_serializing_if = "skip::zero")]
    pub deliver_subject: String,
    /// Push: the queue group it delivers to.
    #[serde(skip_serializing_if = "skip::zero")]
    pub deliver_group: String,
    /// Push: nanoseconds without a delivery until a heartbeat.
    #[serde(skip_serializing_if = "skip::zero")]
    pub idle_heartbeat: i64,
    /// Nanoseconds without interest until it is deleted, 0 for never.
    #[serde(skip_serializing_if = "skip::zero")]
    pub inactive_threshold: i64,
    /// Replicas, 0 for the stream's.
    pub num_replicas: i64,
    /// Its state is kept in memory only.
    #[serde(skip_serializing_if = "skip::zero")]
    pub mem_storage: bool,
    /// Internal to mirrors and sources.
    #[serde(skip_serializing_if = "skip::zero")]
    pub direct: bool,
    /// Internal to mirrors and sources.
    #[serde(skip_serializing_if = "skip::zero")]
    pub sourcing: bool,
    /// For humans and tools; keys that start with `_nats.` are the server's.
    #[serde(skip_serializing_if = "skip::zero")]
    pub metadata: BTreeMap<String, String>,
    /// No deliveries until then.
    #[serde(skip_serializing_if = "skip::zero")]
    pub pause_until: Option<GoTime>,
    /// Groups of pull requests.
    #[serde(skip_serializing_if = "skip::zero")]
    pub priority_groups: Vec<String>,
    /// Who in a group is served.
    #[serde(skip_serializing_if = "skip::zero")]
    pub priority_policy: PriorityPolicy,
    /// Nanoseconds until a pin is lost.
    #[serde(skip_serializing_if = "skip::zero")]
    pub priority_timeout: i64,
}

json_object!(ConsumerConfig, "ConsumerConfig", {
    "durable_name" => json::string, durable_name;
    "name" => json::string, name;
    "description" => json::string, description;
    "deliver_policy" => enums::deliver_policy, deliver_policy;
    "opt_start_seq" => json::unsigned, opt_start_seq;
    "opt_start_time" => optional_time, opt_start_time;
    "ack_policy" => enums::ack_policy, ack_policy;
    "ack_wait" => json::duration, ack_wait;
    "max_deliver" => json::integer, max_deliver;
    "backoff" => json::durations, backoff;
    "filter_subject" => json::string, filter_subject;
    "filter_subjects" => json::strings, filter_subjects;
    "replay_policy" => enums::replay_policy, replay_policy;
    "rate_limit_bps" => json::unsigned, rate_limit_bps;
    "sample_freq" => json::string, sample_freq;
    "max_waiting" => json::integer, max_waiting;
    "max_ack_pending" => json::integer, max_ack_pending;
    "flow_control" => json::boolean, flow_control;
    "headers_only" => json::boolean, headers_only;
    "max_batch" => json::integer, max_batch;
    "max_expires" => json::duration, max_expires;
    "max_bytes" => json::integer, max_bytes;
    "deliver_subject" => json::string, deliver_subject;
    "deliver_group" => json::string, deliver_group;
    "idle_heartbeat" => json::duration, idle_heartbeat;
    "inactive_threshold" => json::duration, inactive_threshold;
    "num_replicas" => json::integer, num_replicas;
    "mem_storage" => json::boolean, mem_storage;
    "direct" => json::boolean, direct;
    "sourcing" => json::boolean, sourcing;
    "metadata" => json::string_map, metadata;
    "pause_until" => optional_time, pause_until;
    "priority_groups" => json::strings, priority_groups;
    "priority_policy" => enums::priority_policy, priority_policy;
    "priority_timeout" => json::duration, priority_timeout;
});

impl ConsumerConfig {
    /// Pushes to a delivery subject.
    pub fn is_push(&self) -> bool {
        !self.deliver_subject.is_empty()
    }

    /// The filters, whichever way they were given; none means everything.
    pub fn filters(&self) -> &[String] {
        if self.filter_subject.is_empty() {
            &self.filter_subjects
        } else {
            std::slice::from_ref(&self.filter_subject)
        }
    }
}

/// A pair of sequences: the consumer's own and the stream's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SequenceInfo {
    /// Deliveries.
    pub consumer_seq: u64,
    /// The stream's sequence.
    pub stream_seq: u64,
    /// When it last moved.
    #[serde(skip_serializing_if = "skip::zero")]
    pub last_active: Option<GoTime>,
}

/// A consumer as its API shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ConsumerInfo {
    /// Its stream.
    pub stream_name: String,
    /// Its name.
    pub name: String,
    /// When it was created.
    pub created: GoTime,
    /// Its configuration.
    #[serde(skip_serializing_if = "skip::zero")]
    pub config: Option<ConsumerConfig>,
    /// The last delivery.
    pub delivered: SequenceInfo,
    /// All up to here are acknowledged.
    pub ack_floor: SequenceInfo,
    /// Deliveries that wait for their acknowledgement.
    pub num_ack_pending: u64,
    /// Those of them that were repeated.
    pub num_redelivered: u64,
    /// Pull requests that wait.
    pub num_waiting: u64,
    /// Messages not delivered yet.
    pub num_pending: u64,
    /// Absent on a stand-alone server.
    #[serde(skip_serializing_if = "skip::zero")]
    pub cluster: Option<ClusterInfo>,
    /// Someone subscribes to the delivery subject.
    #[serde(skip_serializing_if = "skip::zero")]
    pub push_bound: bool,
    /// Deliveries are paused.
    #[serde(skip_serializing_if = "skip::zero")]
    pub paused: bool,
    /// Nanoseconds until they go on.
    #[serde(skip_serializing_if = "skip::zero")]
    pub pause_remaining: i64,
    /// When this was told.
    pub ts: GoTime,
}
