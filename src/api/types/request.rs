//! Bodies of requests.

use super::consumer::ConsumerConfig;
use super::enums::{self, ConsumerAction};
use super::stream::StreamConfig;
use crate::api::error::{ApiError, kinds};
use crate::api::json::{self, Kind, Object, Path, Value};
use crate::api::time::{GoTime, optional_time};
use crate::json_object;

/// Body of STREAM.CREATE and STREAM.UPDATE.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamConfigRequest {
    /// The configuration.
    pub config: StreamConfig,
    /// Adjustments are errors.
    pub pedantic: bool,
}

impl Object for StreamConfigRequest {
    const GO_TYPE: &'static str = "server.StreamConfigRequest";

    fn member(&mut self, key: &str, value: &Value, path: &mut Path) -> Result<bool, String> {
        if key.eq_ignore_ascii_case("pedantic") {
            json::boolean(&mut self.pedantic, value, path)?;
            return Ok(true);
        }
        self.config.member(key, value, path)
    }
}

/// Body of CONSUMER.CREATE and CONSUMER.DURABLE.CREATE.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CreateConsumerRequest {
    /// The stream's name, equal to the subject's.
    pub stream_name: String,
    /// The configuration.
    pub config: ConsumerConfig,
    /// What may be done.
    pub action: ConsumerAction,
    /// Adjustments are errors.
    pub pedantic: bool,
}

json_object!(CreateConsumerRequest, "CreateConsumerRequest", {
    "stream_name" => json::string, stream_name;
    "config" => json::struct_value, config;
    "action" => enums::consumer_action, action;
    "pedantic" => json::boolean, pedantic;
});

/// Body of STREAM.INFO.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamInfoRequest {
    /// Subjects to leave out.
    pub offset: i64,
    /// List the deleted sequences.
    pub deleted_details: bool,
    /// Count messages of the subjects that match.
    pub subjects_filter: String,
}

json_object!(StreamInfoRequest, "JSApiStreamInfoRequest", {
    "offset" => json::integer, offset;
    "deleted_details" => json::boolean, deleted_details;
    "subjects_filter" => json::string, subjects_filter;
});

/// Body of STREAM.NAMES and STREAM.LIST.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamsRequest {
    /// Streams to leave out.
    pub offset: i64,
    /// Only streams with a subject that overlaps it.
    pub subject: String,
}

json_object!(StreamsRequest, "JSApiStreamListRequest", {
    "offset" => json::integer, offset;
    "subject" => json::string, subject;
});

/// Body of CONSUMER.NAMES and CONSUMER.LIST.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConsumersRequest {
    /// Consumers to leave out.
    pub offset: i64,
}

json_object!(ConsumersRequest, "JSApiConsumersRequest", {
    "offset" => json::integer, offset;
});

/// Body of STREAM.PURGE.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PurgeRequest {
    /// Below this sequence only, 0 for all.
    pub seq: u64,
    /// Of these subjects only.
    pub filter: String,
    /// Keep the last so many.
    pub keep: u64,
}

json_object!(PurgeRequest, "JSApiStreamPurgeRequest", {
    "seq" => json::unsigned, seq;
    "filter" => json::string, filter;
    "keep" => json::unsigned, keep;
});

/// Body of STREAM.MSG.GET and DIRECT.GET.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MsgGetRequest {
    /// The sequence, or where to start.
    pub seq: u64,
    /// The last message of this subject.
    pub last_by_subj: String,
    /// The next message that matches.
    pub next_by_subj: String,
    /// Direct gets only: several messages.
    pub batch: i64,
    /// Direct gets only: most bytes.
    pub max_bytes: i64,
    /// Where to start.
    pub start_time: Option<GoTime>,
    /// Direct gets only: the last message of several subjects.
    pub multi_last: Vec<String>,
    /// With `multi_last`: as of this sequence.
    pub up_to_seq: u64,
    /// With `multi_last`: as of this time.
    pub up_to_time: Option<GoTime>,
    /// Leave the headers out.
    pub no_hdr: bool,
}

json_object!(MsgGetRequest, "JSApiMsgGetRequest", {
    "seq" => json::unsigned, seq;
    "last_by_subj" => json::string, last_by_subj;
    "next_by_subj" => json::string, next_by_subj;
    "batch" => json::integer, batch;
    "max_bytes" => json::integer, max_bytes;
    "start_time" => optional_time, start_time;
    "multi_last" => json::strings, multi_last;
    "up_to_seq" => json::unsigned, up_to_seq;
    "up_to_time" => optional_time, up_to_time;
    "no_hdr" => json::boolean, no_hdr;
});

/// Body of STREAM.MSG.DELETE.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MsgDeleteRequest {
    /// The sequence.
    pub seq: u64,
    /// The bytes need not be overwritten.
    pub no_erase: bool,
}

json_object!(MsgDeleteRequest, "JSApiMsgDeleteRequest", {
    "seq" => json::unsigned, seq;
    "no_erase" => json::boolean, no_erase;
});

/// A pull request: body of CONSUMER.MSG.NEXT and of `+NXT`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PullRequest {
    /// Nanoseconds until it ends, 0 for never.
    pub expires: i64,
    /// Most messages. A formal request that says nothing has 0, which delivers one.
    pub batch: i64,
    /// Most bytes, 0 or less for any number.
    pub max_bytes: i64,
    /// Do not wait.
    pub no_wait: bool,
    /// Nanoseconds between heartbeats, 0 for none.
    pub idle_heartbeat: i64,
    /// A priority group.
    pub group: String,
    /// With a priority group.
    pub min_pending: i64,
    /// With a priority group.
    pub min_ack_pending: i64,
    /// A pin.
    pub id: String,
    /// With a priority group.
    pub priority: i64,
}

json_object!(PullRequest, "JSApiConsumerGetNextRequest", {
    "expires" => json::duration, expires;
    "batch" => json::integer, batch;
    "max_bytes" => json::integer, max_bytes;
    "no_wait" => json::boolean, no_wait;
    "idle_heartbeat" => json::duration, idle_heartbeat;
    "group" => json::string, group;
    "min_pending" => json::integer64, min_pending;
    "min_ack_pending" => json::integer64, min_ack_pending;
    "id" => json::string, id;
    "priority" => json::integer, priority;
});

/// The object form of a `-NAK`'s argument.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NakOptions {
    /// Nanoseconds until the message is delivered again.
    pub delay: i64,
}

json_object!(NakOptions, "ConsumerNakOptions", {
    "delay" => json::duration, delay;
});

impl NakOptions {
    /// Decodes the argument; unknown members are ignored.
    pub fn decode(argument: &[u8]) -> Result<Self, String> {
        let mut options = Self::default();
        json::decode_value(argument, "", &mut options)?;
        Ok(options)
    }
}

/// Which root a request has in Go's words, for its type errors.
trait Request: Object + Default {
    const ROOT: &'static str;
}

macro_rules! roots {
    ($($type:ty = $root:literal,)*) => {
        $(
            impl Request for $type {
                const ROOT: &'static str = $root;
            }

            impl $type {
                /// Decodes a body; unknown members are errors where `strict`. An empty body is the
                /// default.
                pub fn decode(body: &[u8], strict: bool) -> Result<Self, ApiError> {
                    decode_as(body, Self::ROOT, strict)
                }
            }
        )*
    };
}

roots!(
    StreamConfigRequest = "StreamConfigRequest",
    CreateConsumerRequest = "CreateConsumerRequest",
    StreamInfoRequest = "JSApiStreamInfoRequest",
    ConsumersRequest = "JSApiConsumersRequest",
    PurgeRequest = "JSApiStreamPurgeRequest",
    MsgGetRequest = "JSApiMsgGetRequest",
    MsgDeleteRequest = "JSApiMsgDeleteRequest",
);

fn decode_as<T: Object + Default>(
    body: &[u8],
    root: &'static str,
    strict: bool,
) -> Result<T, ApiError> {
    let mut request = T::default();
    if strict || body.is_empty() {
        json::decode_body(body, root, strict, &mut request)
    } else {
        json::decode_value(body, root, &mut request)
    }
    .map_err(ApiError::invalid_json)?;
    Ok(request)
}

/// False for a body that INFO, NAMES, LIST and PURGE requests ignore: it does not start with `{` or
/// `[`.
fn is_json(body: &[u8]) -> bool {
    let first = body.iter().find(|b| !b.is_ascii_whitespace());
    matches!(first, Some(b'{' | b'['))
}

impl StreamsRequest {
    /// Decodes the body of STREAM.NAMES. What is not JSON is ignored.
    pub fn decode_names(body: &[u8], strict: bool) -> Result<Self, ApiError> {
        Self::decode_if_json(body, "JSApiStreamNamesRequest", strict)
    }

    /// Decodes the body of STREAM.LIST. What is not JSON is ignored.
    pub fn decode_list(body: &[u8], strict: bool) -> Result<Self, ApiError> {
        Self::decode_if_json(body, "JSApiStreamListRequest", strict)
    }

    fn decode_if_json(body: &[u8], root: &'static str, strict: bool) -> Result<Self, ApiError> {
        if is_json(body) { decode_as(body, root, strict) } else { Ok(Self::default()) }
    }
}

impl StreamInfoRequest {
    /// Decodes the body of STREAM.INFO. What is not JSON is ignored.
    pub fn decode_info(body: &[u8], strict: bool) -> Result<Self, ApiError> {
        if is_json(body) { Self::decode(body, strict) } else { Ok(Self::default()) }
    }
}

impl PurgeRequest {
    /// Decodes and checks the body of STREAM.PURGE. What is not JSON is ignored.
    pub fn decode_purge(body: &[u8], strict: bool) -> Result<Self, ApiError> {
        let request = if is_json(body) { Self::decode(body, strict)? } else { Self::default() };
        if request.seq > 0 && request.keep > 0 {
            return Err(kinds::BAD_REQUEST.error());
        }
        Ok(request)
    }
}

impl MsgDeleteRequest {
    /// Decodes and checks the body of STREAM.MSG.DELETE.
    pub fn decode_delete(body: &[u8], strict: bool) -> Result<Self, ApiError> {
        if is_empty_request(body) {
            return Err(kinds::BAD_REQUEST.error());
        }
        Self::decode(body, strict)
    }
}

impl ConsumersRequest {
    /// Decodes the body of CONSUMER.NAMES and CONSUMER.LIST. What is not JSON is ignored.
    pub fn decode_list(body: &[u8], strict: bool) -> Result<Self, ApiError> {
        if is_json(body) { Self::decode(body, strict) } else { Ok(Self::default()) }
    }
}

impl PullRequest {
    /// Decodes a pull request: empty (one message), a number, or JSON whose unknown members are
    /// ignored; any other text asks for one message. The error is what follows
    /// `400 Bad Request - `.
    pub fn decode(body: &[u8]) -> Result<Self, String> {
        let body = body.trim_ascii();
        let mut request = PullRequest::default();
        match body.first() {
            None => request.batch = 1,
            Some(b'{') => {
                json::decode_value(body, "", &mut request)?;
                request.check()?;
            }
            Some(_) => {
                let text = std::str::from_utf8(body).unwrap_or_default();
                request.batch = text.parse().unwrap_or(1);
            }
        }
        Ok(request)
    }

    fn check(&self) -> Result<(), String> {
        let beat = self.idle_heartbeat;
        if beat > 0 && (self.expires <= 0 || beat.saturating_mul(2) > self.expires) {
            return Err("heartbeat value too large".to_owned());
        }
        Ok(())
    }

    /// What it asks of priority groups, which no consumer has. Comes after the consumer's limits.
    pub fn check_priority(&self) -> Result<(), &'static str> {
        if !(0..=9).contains(&self.priority) {
            return Err("Priority must be between 0 and 9");
        }
        // Consumers with priority groups are refused.
        if self.min_pending != 0 || self.min_ack_pending != 0 {
            return Err("Not a Overflow Priority consumer");
        }
        if !self.id.is_empty() {
            return Err("Not a Pinned Client Priority consumer");
        }
        Ok(())
    }
}

/// True for a body that means "no body": nothing at all, or an object without members.
pub fn is_empty_request(body: &[u8]) -> bool {
    if body.is_empty() {
        return true;
    }
    let mut at = 0;
    let Ok(Some(value)) = json::parse(body, &mut at) else { return false };
    let alone = body[at..].iter().all(u8::is_ascii_whitespace);
    alone && matches!(value.kind, Kind::Object(members) if members.is_empty())
}
