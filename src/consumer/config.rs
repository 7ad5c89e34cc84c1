//! What a consumer's configuration may be: names, defaults, limits and updates, checked in
//! nats-server's order with its words.
//!
//! A create goes through steps: [`check_request`] holds subject and body together, before the
//! stream is looked up; [`check_name`] looks at the name; [`check`] fills in defaults and checks
//! the configuration; [`decide`] compares it with the consumer that is there.

use crate::api::error::{ApiError, ErrorKind, kinds};
use crate::api::filter_index::FilterIndex;
use crate::api::json::go_quote;
use crate::api::names::DESCRIPTION_BYTES_MAX;
use crate::api::time::{GoTime, go_duration};
use crate::api::types::{
    AckPolicy, ConsumerAction, ConsumerConfig, ConsumerLimits, CreateConsumerRequest,
    DeliverPolicy, PriorityPolicy, StreamConfig,
};
use crate::api::{metadata, names};
use crate::subject;
use crate::subject::api::ConsumerCreateSubject;

/// Nanoseconds until a delivery is repeated, when it is not told: 30 s.
pub const ACK_WAIT_DEFAULT: i64 = 30_000_000_000;
/// Deliveries that may wait for acknowledgement, when it is not told.
pub const MAX_ACK_PENDING_DEFAULT: i64 = 1_000;
/// Pull requests that may wait, when it is not told.
pub const MAX_WAITING_DEFAULT: i64 = 512;
/// Nanoseconds an ephemeral consumer lives without interest, when it is not told: 5 s.
pub const INACTIVE_THRESHOLD_DEFAULT: i64 = 5_000_000_000;

const HEARTBEAT_MIN: i64 = 100_000_000;
const EXPIRES_MIN: i64 = 1_000_000;

/// The server's and the account's limits for consumers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConsumerServerLimits {
    /// Most `max_ack_pending`, 0 for any.
    pub max_ack_pending: i64,
    /// Most `max_batch`, 0 for any.
    pub max_request_batch: i64,
    /// Most consumers of a stream that has no `max_consumers` of its own, 0 for any.
    pub max_consumers: i64,
}

/// A create whose subject and body agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerCreate {
    /// The consumer's name; `None` when the server makes one up.
    pub name: Option<String>,
    /// As the client wrote it, with the name filled in when the request tells one.
    pub config: ConsumerConfig,
    /// What may be done.
    pub action: ConsumerAction,
    /// Adjustments are errors.
    pub pedantic: bool,
}

/// What becomes of a consumer create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConsumerDecision {
    /// The consumer is there already, with this configuration.
    Existing,
    /// A new consumer with this configuration.
    Create(Box<ConsumerConfig>),
    /// The consumer that is there gets this configuration.
    Update(Box<ConsumerConfig>),
    /// No.
    Refuse(ApiError),
}

/// The consumer of that name, as [`decide`] needs it.
#[derive(Clone, Copy, Debug)]
pub struct ExistingConsumer<'a> {
    /// Its configuration.
    pub config: &'a ConsumerConfig,
    /// Someone subscribes to its delivery subject.
    pub active: bool,
}

/// Holds a create's subject and body together.
pub fn check_request(
    request: CreateConsumerRequest,
    subject: &ConsumerCreateSubject,
) -> Result<ConsumerCreate, ApiError> {
    let mut config = request.config;
    if request.stream_name != subject.stream {
        return Err(kinds::STREAM_MISMATCH.error());
    }
    match subject.consumer {
        None if !config.durable_name.is_empty() => {
            return Err(kinds::CONSUMER_EPHEMERAL_WITH_DURABLE_NAME.error());
        }
        None => {}
        Some(name) => {
            if subject.durable && config.durable_name.is_empty() {
                return Err(kinds::CONSUMER_DURABLE_NAME_NOT_SET.error());
            }
            if !config.durable_name.is_empty() && config.durable_name != name {
                return Err(kinds::CONSUMER_DURABLE_NAME_NOT_MATCH_SUBJECT.error());
            }
            config.name = name.to_owned();
        }
    }
    check_filter_in_subject(&config, subject.filter)?;
    if config.name.contains(['/', '\\']) {
        return Err(kinds::CONSUMER_NAME_PATH_SEPARATORS.error());
    }
    if config.num_replicas > 1 {
        return Err(kinds::STREAM_REPLICAS_NOT_SUPPORTED.error());
    }
    let name = (!config.name.is_empty()).then(|| config.name.clone());
    Ok(ConsumerCreate { name, config, action: request.action, pedantic: request.pedantic })
}

fn check_filter_in_subject(config: &ConsumerConfig, filter: Option<&str>) -> Result<(), ApiError> {
    let Some(filter) = filter else { return Ok(()) };
    if !config.filter_subjects.is_empty() {
        return Err(kinds::CONSUMER_MULTIPLE_FILTERS_NOT_ALLOWED.error());
    }
    if config.filter_subject != filter {
        return Err(kinds::CONSUMER_CREATE_FILTER_MISMATCH.error());
    }
    Ok(())
}

/// Refuses a name that cannot be a token.
pub fn check_name(create: ConsumerCreate) -> Result<ConsumerCreate, ApiError> {
    if create.name.as_ref().is_some_and(|name| !names::is_valid(name)) {
        let text = "consumer name can not contain '.', '*', '>', '\\', '/'";
        return Err(ApiError::invalid_config(text));
    }
    Ok(create)
}

fn check_name_length(config: &ConsumerConfig) -> Result<(), ApiError> {
    if config.name.len() > names::BYTES_MAX {
        return Err(if config.durable_name.is_empty() {
            kinds::CONSUMER_CREATE.with("error creating store for consumer")
        } else {
            kinds::CONSUMER_NAME_TOO_LONG.with(names::BYTES_MAX)
        });
    }
    Ok(())
}

/// Fills in defaults and checks the configuration for a consumer of `stream`. The time after which
/// an inactive ephemeral consumer goes is filled in later, by [`decide`], because nats-server
/// compares configurations before.
pub fn check(
    mut config: ConsumerConfig,
    stream: &StreamConfig,
    limits: &ConsumerServerLimits,
    pedantic: bool,
) -> Result<ConsumerConfig, ApiError> {
    metadata::store_level(&mut config.metadata, 0);
    let fixed = fix_negatives(&mut config);
    if pedantic && let Some(text) = fixed {
        return Err(kinds::PEDANTIC.with(text));
    }
    fill_defaults(&mut config, stream, limits, pedantic)?;
    if config.num_replicas < 0 {
        return Err(kinds::REPLICAS_CANNOT_BE_NEGATIVE.error());
    }
    if config.backoff.iter().any(|&ns| ns < 0) {
        return Err(kinds::CONSUMER_BACKOFF_NEEDS_POSITIVE.error());
    }
    if config.max_deliver > 0 && (config.max_deliver as u64) < config.backoff.len() as u64 {
        return Err(kinds::CONSUMER_MAX_DELIVER_BACKOFF.error());
    }
    if config.ack_wait < 0 {
        return Err(kinds::CONSUMER_ACK_WAIT_NEEDS_POSITIVE.error());
    }
    if config.description.len() > DESCRIPTION_BYTES_MAX {
        return Err(kinds::CONSUMER_DESCRIPTION_TOO_LONG.with(DESCRIPTION_BYTES_MAX));
    }
    if config.is_push() {
        check_push(&config, stream)?;
    } else {
        check_pull(&config, limits)?;
    }
    if config.direct {
        refuse_if(&[
            (!config.is_push(), kinds::CONSUMER_DIRECT_REQUIRES_PUSH_BASED_CONSUMER),
            (!config.durable_name.is_empty(), kinds::CONSUMER_DIRECT_REQUIRES_EPHEMERAL_CONSUMER),
        ])?;
    }
    check_limits(&config, &stream.consumer_limits, limits)?;
    check_filters(&config)?;
    check_start(&config)?;
    check_sampling(&config.sample_freq)?;
    if config.flow_control && config.idle_heartbeat == 0 {
        return Err(kinds::CONSUMER_FC_NEEDS_HEARTBEATS.error());
    }
    if metadata::size(&config.metadata) > metadata::BYTES_MAX {
        let limit = format!("{}KB", metadata::BYTES_MAX / 1024);
        return Err(kinds::CONSUMER_METADATA_LENGTH.with(limit));
    }
    Ok(config)
}

/// Replaces negative numbers by what they mean. The first replacement, in the words of pedantic
/// mode.
fn fix_negatives(config: &mut ConsumerConfig) -> Option<&'static str> {
    let mut first = None;
    for (value, meaning, text) in [
        (&mut config.max_deliver, -1, "max_deliver must be set to -1"),
        (&mut config.max_ack_pending, -1, "max_ack_pending must be set to -1"),
        (&mut config.max_waiting, 0, "max_waiting must not be negative"),
        (&mut config.max_batch, 0, "max_batch must not be negative"),
        (&mut config.max_expires, 0, "max_expires must not be negative"),
        (&mut config.max_bytes, 0, "max_bytes must not be negative"),
        (&mut config.inactive_threshold, 0, "inactive_threshold must not be negative"),
        (&mut config.idle_heartbeat, 0, "idle_heartbeat must not be negative"),
    ] {
        if *value < meaning {
            *value = meaning;
            first = first.or(Some(text));
        }
    }
    first
}

fn fill_defaults(
    config: &mut ConsumerConfig,
    stream: &StreamConfig,
    limits: &ConsumerServerLimits,
    pedantic: bool,
) -> Result<(), ApiError> {
    if config.max_deliver == 0 {
        config.max_deliver = -1;
    }
    let acked = matches!(config.ack_policy, AckPolicy::All | AckPolicy::Explicit);
    if let Some(&first) = config.backoff.first() {
        let wait = if config.ack_wait == 0 && acked { ACK_WAIT_DEFAULT } else { config.ack_wait };
        if pedantic && wait != first {
            return Err(kinds::PEDANTIC.with("first backoff value has to equal batch AckWait"));
        }
        config.ack_wait = first;
    } else if config.ack_wait == 0 && acked {
        config.ack_wait = ACK_WAIT_DEFAULT;
    }
    if !config.is_push() && config.max_waiting == 0 {
        config.max_waiting = MAX_WAITING_DEFAULT;
    }
    let of_stream = &stream.consumer_limits;
    let unset = |field| {
        let text = format_args!("{field} must be set if it's configured in stream limits");
        kinds::PEDANTIC.with(text)
    };
    if config.max_ack_pending == 0 {
        if pedantic && of_stream.max_ack_pending > 0 {
            return Err(unset("max_ack_pending"));
        }
        config.max_ack_pending = match of_stream.max_ack_pending {
            0 if acked && limits.max_ack_pending > 0 => {
                MAX_ACK_PENDING_DEFAULT.min(limits.max_ack_pending)
            }
            0 if acked => MAX_ACK_PENDING_DEFAULT,
            limit => limit,
        };
    }
    if config.inactive_threshold == 0 {
        if pedantic && of_stream.inactive_threshold > 0 {
            return Err(unset("inactive_threshold"));
        }
        config.inactive_threshold = of_stream.inactive_threshold;
    }
    if config.max_batch == 0 && limits.max_request_batch > 0 && !config.is_push() {
        config.max_batch = limits.max_request_batch;
    }
    Ok(())
}

fn refuse_if(rules: &[(bool, ErrorKind)]) -> Result<(), ApiError> {
    match rules.iter().find(|(broken, _)| *broken) {
        Some((_, kind)) => Err(kind.error()),
        None => Ok(()),
    }
}

fn check_push(config: &ConsumerConfig, stream: &StreamConfig) -> Result<(), ApiError> {
    let deliver = config.deliver_subject.as_bytes();
    let cycle = || stream.subjects.iter().any(|s| subject::overlaps(deliver, s.as_bytes()));
    let unacked = config.ack_policy == AckPolicy::None;
    let heartbeat = config.idle_heartbeat;
    refuse_if(&[
        (subject::has_wildcards(deliver), kinds::CONSUMER_DELIVER_TO_WILDCARDS),
        (!subject::is_valid_literal(deliver), kinds::CONSUMER_INVALID_DELIVER_SUBJECT),
        (cycle(), kinds::CONSUMER_DELIVER_CYCLE),
        (config.max_waiting != 0, kinds::CONSUMER_PUSH_MAX_WAITING),
        (unacked && config.max_ack_pending > 0, kinds::CONSUMER_MAX_PENDING_ACK_POLICY),
        (heartbeat > 0 && heartbeat < HEARTBEAT_MIN, kinds::CONSUMER_SMALL_HEARTBEAT),
    ])
}

fn check_pull(config: &ConsumerConfig, limits: &ConsumerServerLimits) -> Result<(), ApiError> {
    refuse_if(&[
        (config.rate_limit_bps > 0, kinds::CONSUMER_PULL_WITH_RATE_LIMIT),
        (config.idle_heartbeat > 0, kinds::CONSUMER_HB_REQUIRES_PUSH),
        (config.flow_control, kinds::CONSUMER_FC_REQUIRES_PUSH),
        (
            config.max_expires > 0 && config.max_expires < EXPIRES_MIN,
            kinds::CONSUMER_MAX_REQUEST_EXPIRES_TOO_SMALL,
        ),
    ])?;
    let limit = limits.max_request_batch;
    if limit > 0 && config.max_batch > limit {
        return Err(kinds::CONSUMER_MAX_REQUEST_BATCH_EXCEEDED.with(limit));
    }
    Ok(())
}

fn check_limits(
    config: &ConsumerConfig,
    stream: &ConsumerLimits,
    server: &ConsumerServerLimits,
) -> Result<(), ApiError> {
    for limit in [stream.max_ack_pending, server.max_ack_pending] {
        if limit > 0 && config.max_ack_pending > limit {
            return Err(kinds::CONSUMER_MAX_ACK_PENDING_EXCEEDS.with(limit));
        }
    }
    let limit = stream.inactive_threshold;
    if limit > 0 && config.inactive_threshold > limit {
        return Err(kinds::CONSUMER_INACTIVE_THRESHOLD_EXCESS.with(go_duration(limit)));
    }
    Ok(())
}

fn check_filters(config: &ConsumerConfig) -> Result<(), ApiError> {
    let filters = &config.filter_subjects;
    if !config.filter_subject.is_empty() && !filters.is_empty() {
        return Err(kinds::CONSUMER_DUPLICATE_FILTER_SUBJECTS.error());
    }
    if filters.iter().any(String::is_empty) {
        return Err(kinds::CONSUMER_EMPTY_FILTER.error());
    }
    let mut index = FilterIndex::default();
    for filter in filters {
        if index.overlaps(filter.as_bytes(), None) {
            return Err(kinds::CONSUMER_OVERLAPPING_SUBJECT_FILTERS.error());
        }
        index.insert(filter.as_bytes(), ());
    }
    if config.filters().iter().any(|filter| !names::is_valid_filter(filter)) {
        return Err(ApiError::invalid_config("invalid subject"));
    }
    Ok(())
}

fn check_start(config: &ConsumerConfig) -> Result<(), ApiError> {
    let seq = config.opt_start_seq > 0;
    let time = config.opt_start_time.is_some();
    let (name, problem) = match config.deliver_policy {
        DeliverPolicy::All => ("all", extra_start(seq, time)),
        DeliverPolicy::Last => ("last", extra_start(seq, time)),
        DeliverPolicy::New => ("new", extra_start(seq, time)),
        DeliverPolicy::LastPerSubject => {
            let missing = config.filters().is_empty();
            let problem = extra_start(seq, time);
            let unset = missing.then_some("filter subject is not set");
            ("last per subject", problem.or(unset))
        }
        DeliverPolicy::ByStartSequence if !seq => {
            ("by start sequence", Some("start sequence is not set"))
        }
        DeliverPolicy::ByStartSequence => ("by start sequence", extra_start(false, time)),
        DeliverPolicy::ByStartTime if !time => ("by start time", Some("start time is not set")),
        // nats-server repeats the word here.
        DeliverPolicy::ByStartTime => {
            ("by start time", seq.then_some("start start sequence is also set"))
        }
    };
    match problem {
        None => Ok(()),
        Some(problem) => Err(kinds::CONSUMER_INVALID_POLICY.with(format_args!(
            "consumer delivery policy is deliver {name}, but optional {problem}"
        ))),
    }
}

fn extra_start(seq: bool, time: bool) -> Option<&'static str> {
    match (seq, time) {
        (true, _) => Some("start sequence is also set"),
        (false, true) => Some("start time is also set"),
        _ => None,
    }
}

fn check_sampling(frequency: &str) -> Result<(), ApiError> {
    if frequency.is_empty() {
        return Ok(());
    }
    let number = frequency.strip_suffix('%').unwrap_or(frequency);
    let digits = number.strip_prefix(['+', '-']).unwrap_or(number);
    let numeric = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let problem = match number.parse::<i64>() {
        Ok(0..) => return Ok(()),
        Ok(_) => "<nil>".to_owned(),
        Err(_) if numeric => {
            format!("strconv.Atoi: parsing {}: value out of range", go_quote(number))
        }
        Err(_) => format!("strconv.Atoi: parsing {}: invalid syntax", go_quote(number)),
    };
    Err(kinds::CONSUMER_INVALID_SAMPLING.with(problem))
}

/// Refuses what is not built, by the name of its field. The last check of all: what nats-server
/// finds wrong with a request is said first.
fn check_supported(config: &ConsumerConfig) -> Result<(), ApiError> {
    for (set, field) in [
        (config.ack_policy == AckPolicy::FlowControl, "ack_policy"),
        (config.direct, "direct"),
        (config.sourcing, "sourcing"),
        (config.pause_until.is_some_and(|at| !at.is_zero()), "pause_until"),
        (!config.priority_groups.is_empty(), "priority_groups"),
        (config.priority_policy != PriorityPolicy::None, "priority_policy"),
        (config.priority_timeout != 0, "priority_timeout"),
    ] {
        if set {
            return Err(ApiError::field_not_supported(field));
        }
    }
    Ok(())
}

/// Decides about a create for a consumer of `stream`, which has `consumers` of them now; `existing`
/// is the one with the create's name.
pub fn decide(
    create: &ConsumerCreate,
    existing: Option<ExistingConsumer>,
    consumers: usize,
    stream: &StreamConfig,
    limits: &ConsumerServerLimits,
) -> ConsumerDecision {
    match try_decide(create, existing, consumers, stream, limits) {
        Ok(decision) => decision,
        Err(error) => ConsumerDecision::Refuse(error),
    }
}

fn try_decide(
    create: &ConsumerCreate,
    existing: Option<ExistingConsumer>,
    consumers: usize,
    stream: &StreamConfig,
    limits: &ConsumerServerLimits,
) -> Result<ConsumerDecision, ApiError> {
    let mut config = check(create.config.clone(), stream, limits, create.pedantic)?;
    let Some(existing) = existing else {
        if create.action == ConsumerAction::Update {
            return Err(kinds::CONSUMER_DOES_NOT_EXIST.error());
        }
        let most = match stream.max_consumers {
            own if own > 0 => own,
            _ => limits.max_consumers,
        };
        if most > 0 && consumers as u64 >= most as u64 {
            return Err(kinds::MAXIMUM_CONSUMERS_LIMIT.error());
        }
        check_name_length(&config)?;
        check_supported(&config)?;
        if config.inactive_threshold <= 0 && config.durable_name.is_empty() {
            config.inactive_threshold = INACTIVE_THRESHOLD_DEFAULT;
        }
        return Ok(ConsumerDecision::Create(Box::new(config)));
    };
    if *existing.config == config {
        return Ok(ConsumerDecision::Existing);
    }
    if create.action == ConsumerAction::Create {
        return Err(kinds::CONSUMER_ALREADY_EXISTS.error());
    }
    check_update(existing.config, &config)?;
    if existing.active && config.deliver_subject != existing.config.deliver_subject {
        return Err(kinds::CONSUMER_NAME_EXIST.error());
    }
    check_supported(&config)?;
    // What was created ephemeral has a threshold and keeps one.
    let ephemeral =
        existing.config.durable_name.is_empty() && existing.config.inactive_threshold > 0;
    if config.inactive_threshold <= 0 && ephemeral {
        config.inactive_threshold = INACTIVE_THRESHOLD_DEFAULT;
    }
    Ok(ConsumerDecision::Update(Box::new(config)))
}

fn check_update(old: &ConsumerConfig, new: &ConsumerConfig) -> Result<(), ApiError> {
    let start_time = |config: &ConsumerConfig| config.opt_start_time.map(GoTime::instant);
    for (changed, text) in [
        (new.deliver_policy != old.deliver_policy, "deliver policy can not be updated"),
        (new.mem_storage != old.mem_storage, "storage type can not be updated"),
        (new.opt_start_seq != old.opt_start_seq, "start sequence can not be updated"),
        (start_time(new) != start_time(old), "start time can not be updated"),
        (new.ack_policy != old.ack_policy, "ack policy can not be updated"),
        (new.replay_policy != old.replay_policy, "replay policy can not be updated"),
        (new.idle_heartbeat != old.idle_heartbeat, "heart beats can not be updated"),
        (new.flow_control != old.flow_control, "flow control can not be updated"),
        (new.is_push() && !old.is_push(), "can not update pull consumer to push based"),
        (!new.is_push() && old.is_push(), "can not update push consumer to pull based"),
        (new.max_waiting != old.max_waiting, "max waiting can not be updated"),
    ] {
        if changed {
            return Err(kinds::CONSUMER_CREATE.with(text));
        }
    }
    Ok(())
}

/// True if a consumer with this configuration is beyond its stream's limits, which an update may
/// then not set.
pub fn is_beyond(limits: &ConsumerLimits, config: &ConsumerConfig) -> bool {
    let beyond = |limit: i64, value: i64| limit > 0 && value > limit;
    beyond(limits.inactive_threshold, config.inactive_threshold)
        || beyond(limits.max_ack_pending, config.max_ack_pending)
}
