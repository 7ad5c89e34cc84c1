//! What a stream's configuration may be: defaults, limits and updates, checked in nats-server's
//! order with its words.

use std::ops::Range;

use crate::api::error::{ApiError, kinds};
use crate::api::filter_index::FilterIndex;
use crate::api::names::DESCRIPTION_BYTES_MAX;
use crate::api::time::go_duration;
use crate::api::types::{
    Compression, DiscardPolicy, PersistMode, Placement, RetentionPolicy, StorageType, StreamConfig,
    StreamConfigRequest,
};
use crate::api::{metadata, names};
use crate::subject;

/// Most replicas, in any cluster.
pub const REPLICAS_MAX: i64 = 5;
/// Nanoseconds of the duplicate window when it is not told: two minutes.
pub const DUPLICATE_WINDOW_DEFAULT: i64 = 120_000_000_000;
/// Most filters of a stream among which the overlapping pair is named as nats-server does.
pub const SUBJECTS_COMPARED_MAX: usize = 1_000;
/// Least nanoseconds of ages and windows.
pub const AGE_MIN: i64 = 100_000_000;

/// The server's limits for streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamLimits {
    /// Most nanoseconds of a duplicate window, 0 for any.
    pub duplicate_window: i64,
}

/// The configuration of a STREAM.CREATE request whose subject names `stream`: checked and filled
/// in.
pub fn check_create(
    request: StreamConfigRequest,
    stream: &str,
    limits: &StreamLimits,
) -> Result<StreamConfig, ApiError> {
    let config = request.config;
    if config.name != stream {
        return Err(kinds::STREAM_MISMATCH.error());
    }
    if config.name.contains(['/', '\\']) {
        return Err(kinds::STREAM_NAME_PATH_SEPARATORS.error());
    }
    if config.sealed {
        return Err(invalid("stream configuration for create can not be sealed"));
    }
    if config.mirror_direct && config.mirror.is_none() {
        return Err(invalid("stream has no mirror but does have mirror direct"));
    }
    let config = check(config, request.pedantic, limits)?;
    check_single(&config)?;
    Ok(config)
}

/// The configuration of a STREAM.UPDATE request whose subject names `stream`: checked and filled
/// in, but not yet compared with what is there (that is [`check_update`]).
pub fn check_update_request(
    request: StreamConfigRequest,
    stream: &str,
    limits: &StreamLimits,
) -> Result<StreamConfig, ApiError> {
    let config = check(request.config, request.pedantic, limits)?;
    if config.name != stream {
        return Err(kinds::STREAM_MISMATCH.error());
    }
    Ok(config)
}

/// The configuration after an update of `old` by `new`, which is checked already.
pub fn check_update(old: &StreamConfig, mut new: StreamConfig) -> Result<StreamConfig, ApiError> {
    check_single(&new)?;
    if new.name != old.name {
        return Err(invalid("stream configuration name must match original"));
    }
    if new.storage != old.storage {
        return Err(invalid("stream configuration update can not change storage type"));
    }
    for (refused, what) in [
        (old.sealed && !new.sealed, "unseal a sealed stream"),
        (old.deny_delete && !new.deny_delete, "cancel deny message deletes"),
        (old.deny_purge && !new.deny_purge, "cancel deny purge"),
    ] {
        if refused {
            return Err(invalid(format_args!("stream configuration update can not {what}")));
        }
    }
    if new.persist_mode != old.persist_mode {
        return Err(invalid("stream configuration update can not change persist mode"));
    }
    if new.sealed {
        new.max_age = 0;
        new.discard = DiscardPolicy::New;
        new.deny_delete = true;
        new.deny_purge = true;
        new.allow_rollup_hdrs = false;
    }
    Ok(new)
}

/// True if a create with `new` finds what it asks for in `old`.
pub fn is_same(old: &StreamConfig, new: &StreamConfig) -> bool {
    old == new
}

/// Whether messages may be purged.
pub fn check_purge(config: &StreamConfig) -> Result<(), ApiError> {
    if config.sealed {
        return Err(kinds::STREAM_SEALED.error());
    }
    if config.deny_purge {
        return Err(kinds::STREAM_PURGE_NOT_PERMITTED.with("stream purge not permitted"));
    }
    Ok(())
}

/// Whether messages may be deleted.
pub fn check_deletes(config: &StreamConfig) -> Result<(), ApiError> {
    if config.sealed {
        return Err(kinds::STREAM_SEALED.error());
    }
    if config.deny_delete {
        return Err(kinds::STREAM_MSG_DELETE_FAILED.with("message delete not permitted"));
    }
    Ok(())
}

/// Whether a stream that may delete messages, and whose sequences are `held`, has one at `seq`.
/// `live` tells whether it is there.
pub fn check_msg_delete(
    config: &StreamConfig,
    seq: u64,
    held: Range<u64>,
    live: bool,
) -> Result<(), ApiError> {
    let failed = |text| Err(kinds::STREAM_MSG_DELETE_FAILED.with(text));
    match seq {
        _ if live => Ok(()),
        _ if config.storage == StorageType::Memory => Err(kinds::SEQUENCE_NOT_FOUND.with(seq)),
        0 => failed("no message found"),
        _ if seq >= held.end => failed("stream store EOF"),
        _ if seq < held.start => failed("no message found"),
        _ => Err(kinds::SEQUENCE_NOT_FOUND.with(seq)),
    }
}

fn invalid(text: impl std::fmt::Display) -> ApiError {
    ApiError::invalid_config(text)
}

fn check(
    mut config: StreamConfig,
    pedantic: bool,
    limits: &StreamLimits,
) -> Result<StreamConfig, ApiError> {
    let level = required_level(&config);
    metadata::store_level(&mut config.metadata, level);
    check_texts(&config)?;
    check_replicas(&mut config)?;
    fill_limits(&mut config, pedantic)?;
    check_times(&mut config, pedantic, limits)?;
    check_discard(&config)?;
    // Where messages come from another stream, nats-server makes up no subject.
    if config.subjects.is_empty() && config.mirror.is_none() && config.sources.is_empty() {
        config.subjects.push(config.name.clone());
    }
    check_persist_mode(&config)?;
    check_subjects(&config)?;
    if let Some(placement) = &config.placement {
        if !placement.preferred.is_empty() {
            return Err(invalid("preferred server not permitted in placement"));
        }
        if *placement == Placement::default() {
            config.placement = None;
        }
    }
    Ok(config)
}

fn check_single(config: &StreamConfig) -> Result<(), ApiError> {
    match config.num_replicas {
        ..=1 => Ok(()),
        _ => Err(kinds::STREAM_REPLICAS_NOT_SUPPORTED.error()),
    }
}

/// Limits that are not there become -1, which pedantic requests have to say themselves if they say
/// anything below.
fn fill_limits(config: &mut StreamConfig, pedantic: bool) -> Result<(), ApiError> {
    let mut size = i64::from(config.max_msg_size);
    for (limit, field) in [
        (&mut config.max_msgs, "max_msgs"),
        (&mut config.max_msgs_per_subject, "max_msgs_per_subject"),
        (&mut config.max_bytes, "max_bytes"),
        (&mut size, "max_msg_size"),
        (&mut config.max_consumers, "max_consumers"),
    ] {
        if pedantic && *limit < -1 {
            return Err(kinds::PEDANTIC.with(format_args!("{field} must be set to -1")));
        }
        *limit = if *limit <= 0 { -1 } else { *limit };
    }
    if size < 0 {
        config.max_msg_size = -1;
    }
    Ok(())
}

/// The API level that nats-server would ask for.
fn required_level(config: &StreamConfig) -> u32 {
    if config.allow_batched {
        4
    } else if config.allow_atomic || config.persist_mode != PersistMode::Default {
        2
    } else {
        0
    }
}

/// `async` allows acknowledgements before a message is written. Here they come when it is durable
/// all the same, which that allows too.
fn check_persist_mode(config: &StreamConfig) -> Result<(), ApiError> {
    if config.persist_mode == PersistMode::Default {
        return Ok(());
    }
    let problem = if config.storage != StorageType::File {
        "only supported on file storage"
    } else if config.num_replicas > 1 {
        "not supported on replicated streams"
    } else if config.allow_atomic {
        "not supported with atomic batch publish"
    } else {
        return Ok(());
    };
    Err(invalid(format_args!("async persist mode is {problem}")))
}

fn check_texts(config: &StreamConfig) -> Result<(), ApiError> {
    if !names::is_valid(&config.name) {
        return Err(invalid(
            "stream name is required and can not contain '.', '*', '>', '\\', '/'",
        ));
    }
    if config.name.len() > names::BYTES_MAX {
        let max = names::BYTES_MAX;
        return Err(invalid(format_args!("stream name is too long, maximum allowed is {max}")));
    }
    if config.description.len() > DESCRIPTION_BYTES_MAX {
        let max = DESCRIPTION_BYTES_MAX;
        let text = format_args!("stream description is too long, maximum allowed is {max}");
        return Err(invalid(text));
    }
    if metadata::size(&config.metadata) > metadata::BYTES_MAX {
        let max = metadata::BYTES_MAX;
        return Err(invalid(format_args!("stream metadata exceeds maximum size of {max} bytes")));
    }
    Ok(())
}

/// Refuses what is not built, by the name of its field. The last check of all: what nats-server
/// finds wrong with a request is said first.
pub fn check_supported(config: &StreamConfig) -> Result<(), ApiError> {
    for (set, field) in [
        (config.retention != RetentionPolicy::Limits, "retention"),
        (config.mirror.is_some(), "mirror"),
        (!config.sources.is_empty(), "sources"),
        (config.compression != Compression::None, "compression"),
        (config.subject_transform.is_some(), "subject_transform"),
        (config.republish.is_some(), "republish"),
        (config.allow_rollup_hdrs && !config.deny_purge, "allow_rollup_hdrs"),
        (config.allow_msg_ttl, "allow_msg_ttl"),
        (config.subject_delete_marker_ttl != 0, "subject_delete_marker_ttl"),
        (config.allow_msg_counter, "allow_msg_counter"),
        (config.allow_msg_schedules, "allow_msg_schedules"),
    ] {
        if set {
            return Err(ApiError::field_not_supported(field));
        }
    }
    Ok(())
}

fn check_replicas(config: &mut StreamConfig) -> Result<(), ApiError> {
    if config.num_replicas == 0 {
        config.num_replicas = 1;
    }
    if config.num_replicas > REPLICAS_MAX {
        return Err(invalid(format_args!("maximum replicas is {REPLICAS_MAX}")));
    }
    if config.num_replicas < 0 {
        return Err(kinds::REPLICAS_CANNOT_BE_NEGATIVE.error());
    }
    Ok(())
}

fn check_times(
    config: &mut StreamConfig,
    pedantic: bool,
    limits: &StreamLimits,
) -> Result<(), ApiError> {
    if config.max_age < 0 {
        return Err(invalid("max age can not be negative"));
    }
    if config.max_age > 0 && config.max_age < AGE_MIN {
        return Err(invalid("max age needs to be >= 100ms"));
    }
    if config.duplicate_window == 0 {
        let mut window = DUPLICATE_WINDOW_DEFAULT;
        if limits.duplicate_window > 0 {
            window = window.min(limits.duplicate_window);
        }
        if config.max_age > 0 && config.max_age < window {
            if pedantic {
                let text = "duplicate window cannot be bigger than max age";
                return Err(kinds::PEDANTIC.with(text));
            }
            window = config.max_age;
        }
        config.duplicate_window = window;
    }
    if config.duplicate_window < 0 {
        return Err(invalid("duplicates window can not be negative"));
    }
    if config.max_age > 0 && config.duplicate_window > config.max_age {
        return Err(invalid("duplicates window can not be larger then max age"));
    }
    if config.duplicate_window < AGE_MIN {
        return Err(invalid("duplicates window needs to be >= 100ms"));
    }
    if limits.duplicate_window > 0 && config.duplicate_window > limits.duplicate_window {
        let text = go_duration(limits.duplicate_window);
        let text = format_args!("duplicates window can not be larger then server limit of {text}");
        return Err(invalid(text));
    }
    Ok(())
}

fn check_discard(config: &StreamConfig) -> Result<(), ApiError> {
    if config.deny_purge && config.allow_rollup_hdrs {
        return Err(invalid("roll-ups require the purge permission"));
    }
    if config.discard_new_per_subject {
        if config.discard != DiscardPolicy::New {
            return Err(invalid("discard new per subject requires discard new policy to be set"));
        }
        if config.max_msgs_per_subject <= 0 {
            return Err(invalid("discard new per subject requires max msgs per subject > 0"));
        }
    }
    Ok(())
}

fn check_subjects(config: &StreamConfig) -> Result<(), ApiError> {
    let overlap = find_overlap(&config.subjects);
    for (i, subject) in config.subjects.iter().enumerate() {
        if !names::is_valid_filter(subject) {
            return Err(invalid("invalid subject"));
        }
        check_reserved(config, subject.as_bytes())?;
        if let Some((_, j)) = overlap.filter(|&(first, _)| first == i) {
            let other = &config.subjects[j];
            return Err(invalid(format_args!("subject \"{subject}\" overlaps with \"{other}\"")));
        }
    }
    Ok(())
}

/// The first pair of filters that overlap: the least first one, and the least second one for it.
/// Among more than [`SUBJECTS_COMPARED_MAX`] filters any pair will do, so that no request costs the
/// square of its length.
fn find_overlap(subjects: &[String]) -> Option<(usize, usize)> {
    let mut index = FilterIndex::default();
    let mut any = None;
    for (j, subject) in subjects.iter().enumerate() {
        index.overlapping(subject.as_bytes(), |i| {
            any = Some((i, j));
            false
        });
        if any.is_some() {
            break;
        }
        index.insert(subject.as_bytes(), j);
    }
    if any.is_none() || subjects.len() > SUBJECTS_COMPARED_MAX {
        return any;
    }
    let overlaps = |a: &String, b: &String| subject::overlaps(a.as_bytes(), b.as_bytes());
    let mut pairs = subjects.iter().enumerate().filter_map(|(i, subject)| {
        let rest = subjects[i + 1..].iter().position(|other| overlaps(subject, other));
        rest.map(|at| (i, i + 1 + at))
    });
    pairs.next()
}

fn check_reserved(config: &StreamConfig, subject: &[u8]) -> Result<(), ApiError> {
    if subject == b">" {
        if !config.no_ack {
            return Err(invalid("capturing all subjects requires no-ack to be true"));
        }
        if config.num_replicas > 1 {
            return Err(invalid("capturing all subjects requires replicas of 1"));
        }
    }
    if config.no_ack {
        return Ok(());
    }
    let reserved: [&[u8]; 3] = [b"$JS.>", b"$JSC.>", b"$NRG.>"];
    if reserved.iter().any(|prefix| subject::overlaps(subject, prefix))
        && !subject::is_subset(subject, b"$JS.EVENT.>")
    {
        let text = "subjects that overlap with jetstream api require no-ack to be true";
        return Err(invalid(text));
    }
    if subject::overlaps(subject, b"$SYS.>") && !subject::is_subset(subject, b"$SYS.ACCOUNT.>") {
        return Err(invalid("subjects that overlap with system api require no-ack to be true"));
    }
    Ok(())
}
