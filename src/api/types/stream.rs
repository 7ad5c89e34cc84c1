//! Streams: configuration, state, info.

use std::collections::BTreeMap;

use serde::Serialize;

use super::enums::{self, Compression, DiscardPolicy, PersistMode, RetentionPolicy, StorageType};
use super::skip;
use crate::api::json;
use crate::api::time::{GoTime, optional_time};
use crate::json_object;

/// A stream's configuration. As decoded it is what the client wrote; `stream::config` fills in
/// defaults.
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
pub struct StreamConfig {
    /// Its name.
    pub name: String,
    /// For humans.
    #[serde(skip_serializing_if = "skip::zero")]
    pub description: String,
    /// What it captures.
    #[serde(skip_serializing_if = "skip::zero")]
    pub subjects: Vec<String>,
    /// What makes messages leave.
    pub retention: RetentionPolicy,
    /// Most consumers, -1 for any number.
    pub max_consumers: i64,
    /// Most messages, -1 for any number.
    pub max_msgs: i64,
    /// Most bytes, -1 for any number.
    pub max_bytes: i64,
    /// Nanoseconds a message may stay, 0 for ever.
    pub max_age: i64,
    /// Most messages of one subject, -1 for any number.
    #[serde(rename = "max_msgs_per_subject")]
    pub max_msgs_per_subject: i64,
    /// Most bytes of headers and payload, -1 for any number.
    pub max_msg_size: i32,
    /// What happens at a limit.
    pub discard: DiscardPolicy,
    /// Where messages are kept.
    pub storage: StorageType,
    /// Replicas.
    pub num_replicas: i64,
    /// Publishes are not acknowledged.
    #[serde(skip_serializing_if = "skip::zero")]
    pub no_ack: bool,
    /// Nanoseconds a message id is remembered.
    #[serde(skip_serializing_if = "skip::zero")]
    pub duplicate_window: i64,
    /// Where replicas may be.
    #[serde(skip_serializing_if = "skip::zero")]
    pub placement: Option<Placement>,
    /// The stream this one mirrors.
    #[serde(skip_serializing_if = "skip::zero")]
    pub mirror: Option<StreamSource>,
    /// Streams this one gathers from.
    #[serde(skip_serializing_if = "skip::zero")]
    pub sources: Vec<StreamSource>,
    /// Compression of what is stored.
    pub compression: Compression,
    /// The first sequence, 0 for 1.
    #[serde(skip_serializing_if = "skip::zero")]
    pub first_seq: u64,
    /// How subjects are rewritten on the way in.
    #[serde(skip_serializing_if = "skip::zero")]
    pub subject_transform: Option<SubjectTransform>,
    /// Where stored messages are published again.
    #[serde(skip_serializing_if = "skip::zero")]
    pub republish: Option<Republish>,
    /// Direct gets are answered.
    pub allow_direct: bool,
    /// Direct gets of the mirrored stream are answered.
    pub mirror_direct: bool,
    /// A subject's limit refuses instead of evicting.
    #[serde(skip_serializing_if = "skip::zero")]
    pub discard_new_per_subject: bool,
    /// Nothing may be published or deleted any more.
    pub sealed: bool,
    /// Single messages may not be deleted.
    pub deny_delete: bool,
    /// The stream may not be purged.
    pub deny_purge: bool,
    /// `Nats-Rollup` is obeyed.
    pub allow_rollup_hdrs: bool,
    /// Defaults and limits for consumers.
    pub consumer_limits: ConsumerLimits,
    /// `Nats-TTL` is obeyed.
    pub allow_msg_ttl: bool,
    /// Nanoseconds a delete marker stays, 0 for no markers.
    #[serde(skip_serializing_if = "skip::zero")]
    pub subject_delete_marker_ttl: i64,
    /// Every message is a counter's increment.
    #[serde(skip_serializing_if = "skip::zero")]
    pub allow_msg_counter: bool,
    /// Atomic batches are allowed.
    #[serde(rename = "allow_atomic", skip_serializing_if = "skip::zero")]
    pub allow_atomic: bool,
    /// Messages may be schedules.
    #[serde(skip_serializing_if = "skip::zero")]
    pub allow_msg_schedules: bool,
    /// How the stream persists.
    #[serde(skip_serializing_if = "skip::zero")]
    pub persist_mode: PersistMode,
    /// Fast batches are allowed.
    #[serde(skip_serializing_if = "skip::zero")]
    pub allow_batched: bool,
    /// For humans and tools; keys that start with `_nats.` are the server's.
    #[serde(skip_serializing_if = "skip::zero")]
    pub metadata: BTreeMap<String, String>,
}

json_object!(StreamConfig, "StreamConfig", {
    "name" => json::string, name;
    "description" => json::string, description;
    "subjects" => json::strings, subjects;
    "retention" => enums::retention, retention;
    "max_consumers" => json::integer, max_consumers;
    "max_msgs" => json::integer64, max_msgs;
    "max_bytes" => json::integer64, max_bytes;
    "max_age" => json::duration, max_age;
    "max_msgs_per_subject" => json::integer64, max_msgs_per_subject;
    "max_msg_size" => json::integer32, max_msg_size;
    "discard" => enums::discard, discard;
    "storage" => enums::storage, storage;
    "num_replicas" => json::integer, num_replicas;
    "no_ack" => json::boolean, no_ack;
    "duplicate_window" => json::duration, duplicate_window;
    "placement" => json::optional, placement;
    "mirror" => json::optional, mirror;
    "sources" => json::structs, sources;
    "compression" => enums::compression, compression;
    "first_seq" => json::unsigned, first_seq;
    "subject_transform" => json::optional, subject_transform;
    "republish" => json::optional, republish;
    "allow_direct" => json::boolean, allow_direct;
    "mirror_direct" => json::boolean, mirror_direct;
    "discard_new_per_subject" => json::boolean, discard_new_per_subject;
    "sealed" => json::boolean, sealed;
    "deny_delete" => json::boolean, deny_delete;
    "deny_purge" => json::boolean, deny_purge;
    "allow_rollup_hdrs" => json::boolean, allow_rollup_hdrs;
    "consumer_limits" => json::struct_value, consumer_limits;
    "allow_msg_ttl" => json::boolean, allow_msg_ttl;
    "subject_delete_marker_ttl" => json::duration, subject_delete_marker_ttl;
    "allow_msg_counter" => json::boolean, allow_msg_counter;
    "allow_atomic" => json::boolean, allow_atomic;
    "allow_msg_schedules" => json::boolean, allow_msg_schedules;
    "persist_mode" => enums::persist_mode, persist_mode;
    "allow_batched" => json::boolean, allow_batched;
    "metadata" => json::string_map, metadata;
});

/// Where a stream's replicas may be.
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
pub struct Placement {
    /// A cluster's name.
    #[serde(skip_serializing_if = "skip::zero")]
    pub cluster: String,
    /// Tags every server must have.
    #[serde(skip_serializing_if = "skip::zero")]
    pub tags: Vec<String>,
    /// The server that should lead; refused for streams.
    #[serde(skip_serializing_if = "skip::zero")]
    pub preferred: String,
}

json_object!(Placement, "Placement", {
    "cluster" => json::string, cluster;
    "tags" => json::strings, tags;
    "preferred" => json::string, preferred;
});

/// A stream that another mirrors or gathers from.
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
pub struct StreamSource {
    /// Its name.
    pub name: String,
    /// The first sequence to take.
    #[serde(skip_serializing_if = "skip::zero")]
    pub opt_start_seq: u64,
    /// The time from which to take.
    #[serde(skip_serializing_if = "skip::zero")]
    pub opt_start_time: Option<GoTime>,
    /// The subjects to take.
    #[serde(skip_serializing_if = "skip::zero")]
    pub filter_subject: String,
    /// The subjects to take, rewritten.
    #[serde(skip_serializing_if = "skip::zero")]
    pub subject_transforms: Vec<SubjectTransform>,
    /// How to reach it in another account or domain.
    #[serde(skip_serializing_if = "skip::zero")]
    pub external: Option<ExternalStream>,
    /// A durable consumer to use.
    #[serde(skip_serializing_if = "skip::zero")]
    pub consumer: Option<SourceConsumer>,
}

json_object!(StreamSource, "StreamSource", {
    "name" => json::string, name;
    "opt_start_seq" => json::unsigned, opt_start_seq;
    "opt_start_time" => optional_time, opt_start_time;
    "filter_subject" => json::string, filter_subject;
    "subject_transforms" => json::structs, subject_transforms;
    "external" => json::optional, external;
    "consumer" => json::optional, consumer;
});

/// A rewriting of subjects.
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
pub struct SubjectTransform {
    /// The filter.
    pub src: String,
    /// The template.
    pub dest: String,
}

json_object!(SubjectTransform, "SubjectTransformConfig", {
    "src" => json::string, src;
    "dest" => json::string, dest;
});

/// Where a stream outside of this account and domain is reached.
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
pub struct ExternalStream {
    /// In place of `$JS.API`.
    pub api: String,
    /// Before delivery subjects.
    pub deliver: String,
}

json_object!(ExternalStream, "ExternalStream", {
    "api" => json::string, api;
    "deliver" => json::string, deliver;
});

/// A durable consumer that a source reads from.
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
pub struct SourceConsumer {
    /// Its name.
    #[serde(skip_serializing_if = "skip::zero")]
    pub name: String,
    /// Its delivery subject.
    #[serde(skip_serializing_if = "skip::zero")]
    pub deliver_subject: String,
}

json_object!(SourceConsumer, "StreamConsumerSource", {
    "name" => json::string, name;
    "deliver_subject" => json::string, deliver_subject;
});

/// Where stored messages are published again.
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
pub struct Republish {
    /// The filter.
    #[serde(skip_serializing_if = "skip::zero")]
    pub src: String,
    /// The template.
    pub dest: String,
    /// Without payloads.
    #[serde(skip_serializing_if = "skip::zero")]
    pub headers_only: bool,
}

json_object!(Republish, "RePublish", {
    "src" => json::string, src;
    "dest" => json::string, dest;
    "headers_only" => json::boolean, headers_only;
});

/// Defaults and limits that a stream gives its consumers.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Serialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
pub struct ConsumerLimits {
    /// Nanoseconds.
    #[serde(skip_serializing_if = "skip::zero")]
    pub inactive_threshold: i64,
    /// Messages.
    #[serde(skip_serializing_if = "skip::zero")]
    pub max_ack_pending: i64,
}

json_object!(ConsumerLimits, "StreamConsumerLimits", {
    "inactive_threshold" => json::duration, inactive_threshold;
    "max_ack_pending" => json::integer, max_ack_pending;
});

/// What a stream holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StreamState {
    /// Messages.
    pub messages: u64,
    /// Bytes, as nats-server counts them.
    pub bytes: u64,
    /// The first message's sequence; last + 1 when empty.
    pub first_seq: u64,
    /// Its time; zero when empty.
    pub first_ts: GoTime,
    /// The last sequence used.
    pub last_seq: u64,
    /// Its time; zero when never used.
    pub last_ts: GoTime,
    /// Distinct subjects.
    #[serde(skip_serializing_if = "skip::zero")]
    pub num_subjects: u64,
    /// Messages by subject, when asked for with a filter.
    #[serde(skip_serializing_if = "skip::zero")]
    pub subjects: BTreeMap<String, u64>,
    /// Sequences between first and last that are gone.
    #[serde(skip_serializing_if = "skip::zero")]
    pub num_deleted: u64,
    /// Which they are, when asked for.
    #[serde(skip_serializing_if = "skip::zero")]
    pub deleted: Vec<u64>,
    /// Consumers.
    pub consumer_count: u64,
}

/// Who holds a stream, as a stand-alone server says it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ClusterInfo {
    /// The server's name.
    #[serde(skip_serializing_if = "skip::zero")]
    pub leader: String,
}

/// A stream as its API shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StreamInfo {
    /// Its configuration.
    pub config: StreamConfig,
    /// When it was created.
    pub created: GoTime,
    /// What it holds.
    pub state: StreamState,
    /// The JetStream domain (in INFO and LIST).
    #[serde(skip_serializing_if = "skip::zero")]
    pub domain: String,
    /// In STREAM.INFO only.
    #[serde(skip_serializing_if = "skip::zero")]
    pub cluster: Option<ClusterInfo>,
    /// When this was told.
    pub ts: GoTime,
}
