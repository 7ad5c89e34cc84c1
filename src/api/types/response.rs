//! Answers: an envelope with the type, then either the members or the error with the members that
//! stay at zero.

use serde::Serialize;

use super::consumer::ConsumerInfo;
use super::skip;
use super::stream::StreamInfo;
use crate::api::error::ApiError;
use crate::api::json::{write_json, write_u64};
use crate::api::time::GoTime;

/// The types of answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum ResponseType {
    AccountInfo,
    StreamCreate,
    StreamUpdate,
    StreamNames,
    StreamList,
    StreamInfo,
    StreamDelete,
    StreamPurge,
    StreamMsgGet,
    StreamMsgDelete,
    StreamSnapshot,
    StreamRestore,
    StreamRemovePeer,
    StreamEvacuatePeer,
    StreamCancelMove,
    StreamLeaderStepdown,
    ConsumerCreate,
    ConsumerNames,
    ConsumerList,
    ConsumerInfo,
    ConsumerDelete,
    ConsumerPause,
    ConsumerUnpin,
    ConsumerReset,
    ConsumerLeaderStepdown,
}

impl ResponseType {
    /// What follows `io.nats.jetstream.api.v1.`.
    pub fn name(self) -> &'static str {
        use ResponseType::*;
        match self {
            AccountInfo => "account_info_response",
            StreamCreate => "stream_create_response",
            StreamUpdate => "stream_update_response",
            StreamNames => "stream_names_response",
            StreamList => "stream_list_response",
            StreamInfo => "stream_info_response",
            StreamDelete => "stream_delete_response",
            StreamPurge => "stream_purge_response",
            StreamMsgGet => "stream_msg_get_response",
            StreamMsgDelete => "stream_msg_delete_response",
            StreamSnapshot => "stream_snapshot_response",
            StreamRestore => "stream_restore_response",
            StreamRemovePeer => "stream_remove_peer_response",
            StreamEvacuatePeer => "stream_evacuate_peer_response",
            StreamCancelMove => "stream_cancel_move_response",
            StreamLeaderStepdown => "stream_leader_stepdown_response",
            ConsumerCreate => "consumer_create_response",
            ConsumerNames => "consumer_names_response",
            ConsumerList => "consumer_list_response",
            ConsumerInfo => "consumer_info_response",
            ConsumerDelete => "consumer_delete_response",
            ConsumerPause => "consumer_pause_response",
            ConsumerUnpin => "consumer_unpin_response",
            ConsumerReset => "consumer_reset_response",
            ConsumerLeaderStepdown => "consumer_leader_stepdown_response",
        }
    }

    /// The members that an error leaves at zero.
    fn error_members(self) -> &'static str {
        use ResponseType::*;
        match self {
            StreamNames => r#","total":0,"offset":0,"limit":0,"streams":null"#,
            StreamList => r#","total":0,"offset":0,"limit":0,"streams":[]"#,
            StreamInfo => r#","total":0,"offset":0,"limit":0"#,
            StreamPurge => r#","purged":0"#,
            StreamRestore => r#","deliver_subject":"""#,
            ConsumerNames | ConsumerList => r#","total":0,"offset":0,"limit":0,"consumers":[]"#,
            ConsumerPause => r#","paused":false,"pause_until":"0001-01-01T00:00:00Z""#,
            ConsumerReset => r#","reset_seq":0"#,
            _ => "",
        }
    }
}

fn open(out: &mut Vec<u8>, kind: ResponseType) {
    out.extend_from_slice(b"{\"type\":\"io.nats.jetstream.api.v1.");
    out.extend_from_slice(kind.name().as_bytes());
    out.push(b'"');
}

/// Appends an answer: the envelope around the members of `body`, which must serialise as an object.
pub fn write_response<T: Serialize>(out: &mut Vec<u8>, kind: ResponseType, body: &T) {
    open(out, kind);
    let start = out.len();
    write_json(out, body);
    debug_assert_eq!(out.get(start), Some(&b'{'));
    if out.get(start..) == Some(b"{}") {
        out.truncate(start);
        out.push(b'}');
    } else if let Some(brace) = out.get_mut(start) {
        *brace = b',';
    }
}

/// Appends a refusal.
pub fn write_error(out: &mut Vec<u8>, kind: ResponseType, error: &ApiError) {
    open(out, kind);
    out.extend_from_slice(b",\"error\":");
    error.write_json(out);
    out.extend_from_slice(kind.error_members().as_bytes());
    out.push(b'}');
}

/// Members of an answer that only says yes.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Success {
    /// Always true.
    pub success: bool,
}

impl Success {
    /// Yes.
    pub const YES: Success = Success { success: true };
}

/// Members of STREAM.CREATE's and STREAM.UPDATE's answers.
#[derive(Clone, Debug, Serialize)]
pub struct StreamCreated<'a> {
    /// The stream.
    #[serde(flatten)]
    pub info: &'a StreamInfo,
    /// True after a create, also of what was there already.
    #[serde(skip_serializing_if = "skip::zero")]
    pub did_create: bool,
}

/// Members of STREAM.INFO's answer.
#[derive(Clone, Debug, Serialize)]
pub struct StreamInfoResponse<'a> {
    /// Subjects that match the filter.
    pub total: u64,
    /// Subjects left out.
    pub offset: u64,
    /// Most subjects of an answer; 0 without a filter.
    pub limit: u64,
    /// The stream.
    #[serde(flatten)]
    pub info: &'a StreamInfo,
}

/// Members of STREAM.NAMES' answer.
#[derive(Clone, Debug, Serialize)]
pub struct StreamNamesResponse {
    /// All that match.
    pub total: u64,
    /// Those left out.
    pub offset: u64,
    /// Most names of an answer.
    pub limit: u64,
    /// The names; `null` when there are none.
    pub streams: Option<Vec<String>>,
}

/// Members of STREAM.LIST's answer.
#[derive(Clone, Debug, Serialize)]
pub struct StreamListResponse {
    /// All that match.
    pub total: u64,
    /// Those left out.
    pub offset: u64,
    /// Most streams of an answer.
    pub limit: u64,
    /// The streams.
    pub streams: Vec<StreamInfo>,
}

/// Members of CONSUMER.NAMES' answer.
#[derive(Clone, Debug, Serialize)]
pub struct ConsumerNamesResponse {
    /// All there are.
    pub total: u64,
    /// Those left out.
    pub offset: u64,
    /// Most names of an answer.
    pub limit: u64,
    /// The names.
    pub consumers: Vec<String>,
}

/// Members of CONSUMER.LIST's answer.
#[derive(Clone, Debug, Serialize)]
pub struct ConsumerListResponse {
    /// All there are.
    pub total: u64,
    /// Those left out.
    pub offset: u64,
    /// Most consumers of an answer.
    pub limit: u64,
    /// The consumers.
    pub consumers: Vec<ConsumerInfo>,
}

/// Members of STREAM.PURGE's answer.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct PurgeResponse {
    /// Always true.
    pub success: bool,
    /// Messages removed.
    pub purged: u64,
}

/// Most names in an answer.
pub const NAMES_LIMIT: usize = 1_024;
/// Most streams or consumers in an answer.
pub const LIST_LIMIT: usize = 256;
/// Most subjects in STREAM.INFO's answer.
pub const SUBJECTS_LIMIT: usize = 100_000;

/// The part of `total` sorted items that an answer holds. A negative offset is 0, one beyond the
/// end
/// is the end; the answer's `offset` is the range's start.
pub fn page_range(offset: i64, total: usize, limit: usize) -> std::ops::Range<usize> {
    let start = usize::try_from(offset.max(0)).unwrap_or(usize::MAX).min(total);
    start..start.saturating_add(limit).min(total)
}

/// A message as STREAM.MSG.GET shows it.
#[derive(Clone, Copy, Debug)]
pub struct StoredMessage<'a> {
    /// Its subject.
    pub subject: &'a str,
    /// Its sequence.
    pub seq: u64,
    /// Its header block, empty for none.
    pub headers: &'a [u8],
    /// Its payload.
    pub payload: &'a [u8],
    /// When it was stored.
    pub time: GoTime,
}

/// Appends STREAM.MSG.GET's answer.
pub fn write_msg_get(out: &mut Vec<u8>, message: &StoredMessage) {
    open(out, ResponseType::StreamMsgGet);
    out.extend_from_slice(b",\"message\":{\"subject\":");
    write_json(out, message.subject);
    out.extend_from_slice(b",\"seq\":");
    write_u64(out, message.seq);
    if !message.headers.is_empty() {
        out.extend_from_slice(b",\"hdrs\":\"");
        write_base64(out, message.headers);
        out.push(b'"');
    }
    if !message.payload.is_empty() {
        out.extend_from_slice(b",\"data\":\"");
        write_base64(out, message.payload);
        out.push(b'"');
    }
    out.extend_from_slice(b",\"time\":\"");
    crate::api::time::write_time(out, message.time);
    out.extend_from_slice(b"\"}}");
}

/// Appends standard base64 with padding.
pub fn write_base64(out: &mut Vec<u8>, data: &[u8]) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    out.reserve(data.len().div_ceil(3) * 4);
    for chunk in data.chunks(3) {
        let byte = |i: usize| u32::from(chunk.get(i).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        let letter = |shift: u32| ALPHABET[(bits >> shift & 63) as usize];
        out.push(letter(18));
        out.push(letter(12));
        out.push(if chunk.len() > 1 { letter(6) } else { b'=' });
        out.push(if chunk.len() > 2 { letter(0) } else { b'=' });
    }
}

/// Members of INFO's answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AccountInfo {
    /// Bytes in memory.
    pub memory: u64,
    /// Bytes on disk.
    pub storage: u64,
    /// The sum of memory streams' `max_bytes`.
    pub reserved_memory: u64,
    /// The sum of file streams' `max_bytes`.
    pub reserved_storage: u64,
    /// Streams.
    pub streams: u64,
    /// Consumers.
    pub consumers: u64,
    /// The account's limits.
    pub limits: AccountLimits,
    /// The JetStream domain.
    #[serde(skip_serializing_if = "skip::zero")]
    pub domain: String,
    /// The API's counters.
    pub api: ApiStats,
}

/// An account's limits; -1 for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct AccountLimits {
    /// Bytes in memory.
    pub max_memory: i64,
    /// Bytes on disk.
    pub max_storage: i64,
    /// Streams.
    pub max_streams: i64,
    /// Consumers of a stream.
    pub max_consumers: i64,
    /// `max_ack_pending` of a consumer.
    pub max_ack_pending: i64,
    /// `max_bytes` of a memory stream.
    pub memory_max_stream_bytes: i64,
    /// `max_bytes` of a file stream.
    pub storage_max_stream_bytes: i64,
    /// Streams must have `max_bytes`.
    pub max_bytes_required: bool,
}

impl Default for AccountLimits {
    fn default() -> Self {
        AccountLimits {
            max_memory: -1,
            max_storage: -1,
            max_streams: -1,
            max_consumers: -1,
            max_ack_pending: -1,
            memory_max_stream_bytes: -1,
            storage_max_stream_bytes: -1,
            max_bytes_required: false,
        }
    }
}

/// The API's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ApiStats {
    /// The API level.
    pub level: u32,
    /// Requests.
    pub total: u64,
    /// Requests that were refused.
    pub errors: u64,
    /// Requests under way.
    #[serde(skip_serializing_if = "skip::zero")]
    pub inflight: u64,
}
