//! Whether a publish is stored: nats-server's checks, in the order of a stand-alone server, against
//! the committed state and the overlay of what is admitted and not yet committed.
//!
//! [`Admission::admit`] adds to the overlay, [`Admission::drop_uncommitted`] forgets it, and
//! [`Admission::apply`] takes away what the [`StreamView`] shows from now on. The duplicate window
//! and the id of the last message are part of what is applied: `apply` alone changes them, by what
//! a record says, the same where nothing was admitted (in replay, on a replica that follows).
//! An answer that rests on the overlay (a duplicate, a refusal) may be sent only when all
//! that was admitted before it is durable; the caller sees to that by queueing it behind.

use crate::api::error::{ApiError, kinds};
use crate::api::types::{DiscardPolicy, StorageType, StreamConfig};
use crate::stream::dedupe::{DedupeTable, hash_id};
use crate::stream::headers::PublishHeaders;
use crate::stream::overlay::{Counts, Overlay};
use crate::stream::store_times::StoreTimes;
use crate::types::{Clocks, Timestamp, WallTime};

/// Most bytes of a header block that a stream stores.
pub const HEADERS_BYTES_MAX: usize = 65_535;
/// The last sequence that is given. What counts pages and positions has room above.
pub const SEQ_MAX: u64 = u64::MAX - (1 << 20);

/// The committed state of a stream, as admission and retention see it.
pub trait StreamView {
    /// The first sequence that is there; `last_seq() + 1` when empty.
    fn first_seq(&self) -> u64;
    /// The last sequence used; the first one to be used less 1 when there was none.
    fn last_seq(&self) -> u64;
    /// The time of the last sequence used; 0 when there was none.
    fn last_time(&self) -> WallTime;
    /// Messages.
    fn messages(&self) -> u64;
    /// Bytes, each message counted by [`stored_size`].
    fn bytes(&self) -> u64;
    /// How many messages a literal subject has.
    fn subject_count(&self, subject: &[u8]) -> u64;
    /// The last sequence of a subject that matches the filter, 0 for none. `None` if that is to be
    /// looked up first.
    fn last_matching(&self, filter: &[u8]) -> Option<u64>;
    /// The stored size of the `nth` message of a subject, from the oldest (0). `None` if that is to
    /// be looked up first. Asked only of streams that have discard new, max_bytes and
    /// max_msgs_per_subject.
    fn nth_size(&self, subject: &[u8], nth: u64) -> Option<u64>;
}

/// Bytes that a message counts for, as nats-server counts them.
pub fn stored_size(storage: StorageType, subject: usize, headers: usize, payload: usize) -> u64 {
    let bytes = subject + headers + payload;
    let overhead = match storage {
        StorageType::File if headers > 0 => 34,
        StorageType::File => 30,
        StorageType::Memory => 16,
    };
    (bytes + overhead) as u64
}

/// A message that asks to be stored.
#[derive(Clone, Copy, Debug)]
pub struct Publish<'a> {
    /// Where it was published.
    pub subject: &'a [u8],
    /// Where the answer goes; empty for none.
    pub reply: &'a [u8],
    /// Its header block, empty for none.
    pub headers: &'a [u8],
    /// The length of its payload.
    pub payload_len: usize,
}

/// What becomes of a publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admitted {
    /// It is stored.
    Store {
        /// As this sequence.
        seq: u64,
        /// With this time.
        at: WallTime,
    },
    /// It was stored before, as this sequence.
    Duplicate {
        /// The sequence.
        seq: u64,
    },
    /// It is refused.
    Refuse(ApiError),
    /// Nothing has changed: it depends on what the view does not know. It is to be offered again
    /// with a view that does.
    LookUp(LookUp),
}

/// What must be looked up before a publish can be decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LookUp {
    /// More messages in flight than may be looked at in one go: the search goes on when the publish
    /// is offered again.
    InFlight,
    /// [`StreamView::last_matching`] this filter.
    Last(Box<[u8]>),
    /// [`StreamView::nth_size`].
    Size {
        /// The subject.
        subject: Box<[u8]>,
        /// Which of its messages, from the oldest.
        nth: u64,
    },
    /// What messages in flight, removals and updates that are decided will leave: it is to be
    /// offered again when all that is under way is applied.
    UnderWay,
}

/// Why a publish is not stored.
enum Stop {
    Refused(ApiError),
    LookUp(LookUp),
}

impl From<ApiError> for Stop {
    fn from(error: ApiError) -> Stop {
        Stop::Refused(error)
    }
}

/// What a publish adds to its stream.
struct Growth {
    /// Messages and bytes.
    grow: (i64, i64),
    /// It may be less.
    unsure: bool,
}

/// The rules of a configuration that admission needs.
#[derive(Clone, Debug)]
struct Rules {
    name: Vec<u8>,
    storage: StorageType,
    sealed: bool,
    discard_new: bool,
    discard_new_per_subject: bool,
    max_msgs: u64,
    max_bytes: u64,
    max_per_subject: u64,
    max_msg_size: u64,
    window: i64,
}

impl Rules {
    /// Absent limits become the greatest number.
    fn new(config: &StreamConfig) -> Self {
        let limit = |value: i64| u64::try_from(value).ok().filter(|&v| v > 0).unwrap_or(u64::MAX);
        let size = u64::try_from(config.max_msg_size).unwrap_or(u64::MAX);
        Rules {
            name: config.name.clone().into_bytes(),
            storage: config.storage,
            sealed: config.sealed,
            discard_new: config.discard == DiscardPolicy::New,
            discard_new_per_subject: config.discard_new_per_subject,
            max_msgs: limit(config.max_msgs),
            max_bytes: limit(config.max_bytes),
            max_per_subject: limit(config.max_msgs_per_subject),
            max_msg_size: size,
            window: config.duplicate_window,
        }
    }
}

/// The gate of one stream.
#[derive(Debug)]
pub struct Admission {
    rules: Rules,
    overlay: Overlay,
    /// The ids of messages that are applied.
    dedupe: DedupeTable,
    /// When messages were stored.
    times: StoreTimes,
    /// The id of the last message that is applied; empty if it has none.
    last_id: Vec<u8>,
    /// Removals that are decided, or have begun, and are not complete.
    removals: usize,
    /// Updates that are decided and not applied.
    updates: usize,
    /// The publish that is offered has waited for all that was under way when it came.
    has_waited: bool,
    /// Sequences below are not given, whatever the stream's last one is.
    next_seq_min: u64,
    /// What searches may look at still.
    visits: u32,
}

impl Admission {
    /// For a stream without messages, or before its state is restored.
    pub fn new(config: &StreamConfig) -> Self {
        Admission {
            rules: Rules::new(config),
            overlay: Overlay::default(),
            dedupe: DedupeTable::default(),
            times: StoreTimes::default(),
            last_id: Vec::new(),
            removals: 0,
            updates: 0,
            has_waited: false,
            next_seq_min: 0,
            visits: u32::MAX,
        }
    }

    /// Follows an update of the configuration.
    pub fn update(&mut self, config: &StreamConfig) {
        self.updates = self.updates.saturating_sub(1);
        let rules = Rules::new(config);
        self.dedupe.change_window(self.rules.window, rules.window);
        self.rules = rules;
    }

    /// How many messages in flight may be searched for what matches a filter, from now on.
    pub fn set_visits(&mut self, visits: u32) {
        self.visits = visits;
    }

    /// Whether the publish that is offered next has waited for all that was under way when it came:
    /// it waits for no removal that was decided since.
    pub fn set_waited(&mut self, waited: bool) {
        self.has_waited = waited;
    }

    /// How many are left of them.
    pub fn visits(&self) -> u32 {
        self.visits
    }

    /// Messages admitted and not committed.
    pub fn in_flight(&self) -> usize {
        self.overlay.len()
    }

    /// The sequence that the next message gets.
    pub fn next_seq(&self, view: &impl StreamView) -> u64 {
        self.last_seq(view) + 1
    }

    fn last_seq(&self, view: &impl StreamView) -> u64 {
        let last = self.overlay.last().map_or_else(|| view.last_seq(), |last| last.seq);
        last.max(self.next_seq_min.saturating_sub(1))
    }

    /// The next message gets `seq` at least.
    pub fn skip_to(&mut self, seq: u64) {
        self.next_seq_min = self.next_seq_min.max(seq);
    }

    /// Decides about one publish, and adds it to the overlay if it is to be stored.
    pub fn admit(&mut self, view: &impl StreamView, clocks: Clocks, publish: &Publish) -> Admitted {
        match self.try_admit(view, clocks, publish) {
            Ok(admitted) => admitted,
            Err(Stop::Refused(error)) => Admitted::Refuse(error),
            Err(Stop::LookUp(what)) => Admitted::LookUp(what),
        }
    }

    fn try_admit(
        &mut self,
        view: &impl StreamView,
        clocks: Clocks,
        publish: &Publish,
    ) -> Result<Admitted, Stop> {
        if self.updates > 0 {
            // It will be applied under other rules.
            return Err(Stop::LookUp(LookUp::UnderWay));
        }
        self.check_size(publish)?;
        let mut msg_id: &[u8] = b"";
        if !publish.headers.is_empty() {
            let headers = PublishHeaders::parse(publish.headers);
            self.check_expectations(view, publish, &headers)?;
            if !headers.msg_id.is_empty()
                && self.rules.window > 0
                && let Some(seq) = self.find_id(headers.msg_id, clocks.now)
            {
                return Ok(Admitted::Duplicate { seq });
            }
            self.check_last_id_and_rollup(&headers)?;
            msg_id = headers.msg_id;
        }
        let header_len = publish.headers.len();
        let size =
            stored_size(self.rules.storage, publish.subject.len(), header_len, publish.payload_len);
        let Growth { grow, unsure } = self.check_limits(view, publish.subject, size)?;
        let seq = self.next_seq(view);
        if seq > SEQ_MAX {
            return Err(kinds::STREAM_STORE_FAILED.with("maximum sequence reached").into());
        }
        let last_time = self.overlay.last().map_or_else(|| view.last_time(), |last| last.at);
        let at = clocks.wall.max(last_time);
        // Ids outlive their messages.
        let first = self.dedupe.first_seq().min(view.first_seq());
        self.times.note(clocks.now, seq, at, first);
        self.overlay.push(seq, at, publish.subject, msg_id, Counts { size, grow });
        if unsure {
            self.overlay.last_is_unsure();
        }
        Ok(Admitted::Store { seq, at })
    }

    /// The sequence under which a message with this id was stored within the window, by the steady
    /// clock.
    fn find_id(&self, id: &[u8], now: Timestamp) -> Option<u64> {
        let is_over = |seq, at| now.since(self.times.stored(seq, at)) >= self.rules.window;
        let in_flight = self.overlay.with_id(id).map(|entry| (entry.seq, entry.at));
        let found = in_flight.or_else(|| self.dedupe.find(hash_id(id)));
        found.filter(|&(seq, at)| !is_over(seq, at)).map(|(seq, _)| seq)
    }

    fn check_size(&self, publish: &Publish) -> Result<(), ApiError> {
        if self.rules.sealed {
            return Err(kinds::STREAM_SEALED.error());
        }
        if (publish.headers.len() + publish.payload_len) as u64 > self.rules.max_msg_size {
            return Err(kinds::STREAM_MESSAGE_EXCEEDS_MAXIMUM.error());
        }
        if publish.headers.len() > HEADERS_BYTES_MAX {
            return Err(kinds::STREAM_HEADER_EXCEEDS_MAXIMUM.error());
        }
        if super::headers::is_fast_batch(publish.reply) {
            return Err(kinds::BATCH_PUBLISH_DISABLED.error());
        }
        Ok(())
    }

    /// The checks of headers that come before the duplicate window.
    fn check_expectations(
        &mut self,
        view: &impl StreamView,
        publish: &Publish,
        headers: &PublishHeaders,
    ) -> Result<(), Stop> {
        if headers.batch {
            return Err(kinds::ATOMIC_PUBLISH_DISABLED.error().into());
        }
        headers.check_counter()?;
        if !headers.expected_stream.is_empty() && headers.expected_stream != self.rules.name {
            return Err(kinds::STREAM_NOT_MATCH.error().into());
        }
        headers.check_ttl()?;
        if let Some(expected) = headers.expected_last_subject_seq {
            let subject = match headers.expected_subject {
                b"" => publish.subject,
                named => named,
            };
            let actual = self.last_of_subject(view, subject)?;
            if !expected.is(actual) {
                return Err(kinds::WRONG_LAST_SEQUENCE.with(actual).into());
            }
        } else if !headers.expected_subject.is_empty() {
            return Err(kinds::EXPECTED_LAST_SUBJECT_SEQUENCE_MISSING.error().into());
        }
        if let Some(expected) = headers.expected_last_seq {
            let actual = self.last_seq(view);
            if !expected.is(actual) {
                return Err(kinds::WRONG_LAST_SEQUENCE.with(actual).into());
            }
        }
        headers.check_schedule(publish.subject)?;
        if headers.stream_source {
            return Err(kinds::STREAM_SOURCE_HEADER_NOT_ALLOWED.error().into());
        }
        Ok(())
    }

    fn last_of_subject(&mut self, view: &impl StreamView, subject: &[u8]) -> Result<u64, Stop> {
        let in_flight = if crate::subject::has_wildcards(subject) {
            let found = self.overlay.last_matching(subject, &mut self.visits);
            found.ok_or(Stop::LookUp(LookUp::InFlight))?
        } else {
            self.overlay.of_subject(subject).last_seq
        };
        let last = match in_flight {
            0 => view
                .last_matching(subject)
                .ok_or_else(|| Stop::LookUp(LookUp::Last(subject.into())))?,
            seq => seq,
        };
        if last > 0 && self.may_be_evicted(view, last) {
            return Err(Stop::LookUp(LookUp::UnderWay));
        }
        Ok(last)
    }

    /// Whether what is in flight, or was applied just now, may make a message leave that is there,
    /// for the limits of a stream that discards what is old.
    fn may_be_evicted(&self, view: &impl StreamView, seq: u64) -> bool {
        let rules = &self.rules;
        if rules.discard_new || self.has_waited {
            return false;
        }
        let messages = view.messages().saturating_add_signed(self.overlay.grow_msgs());
        let bytes = view.bytes().saturating_add_signed(self.overlay.grow_bytes());
        let smallest = stored_size(rules.storage, 1, 0, 0);
        let by_bytes = bytes.saturating_sub(rules.max_bytes).div_ceil(smallest);
        let evicted = messages.saturating_sub(rules.max_msgs).max(by_bytes);
        // All that is missing may lie before it.
        let missing = (view.last_seq() + 1 - view.first_seq()).saturating_sub(view.messages());
        evicted > 0 && seq < view.first_seq().saturating_add(missing).saturating_add(evicted)
    }

    /// The checks that come after the duplicate window.
    fn check_last_id_and_rollup(&self, headers: &PublishHeaders) -> Result<(), ApiError> {
        let expected = headers.expected_last_msg_id;
        let last = self.overlay.last_id().unwrap_or(&self.last_id);
        if !expected.is_empty() && expected != last {
            let actual = String::from_utf8_lossy(last);
            return Err(kinds::WRONG_LAST_MSG_ID.with(actual));
        }
        if !headers.rollup.is_empty() {
            return Err(kinds::STREAM_ROLLUP_FAILED.with("rollup not permitted"));
        }
        headers.check_ttl_text()
    }

    /// Discard new: refuses at a limit. By how many messages and bytes the stream would grow.
    fn check_limits(
        &mut self,
        view: &impl StreamView,
        subject: &[u8],
        size: u64,
    ) -> Result<Growth, Stop> {
        let (mut grow, mut unsure) = ((1, size as i64), false);
        if !self.rules.discard_new {
            return Ok(Growth { grow, unsure });
        }
        let mut replaced = None;
        if self.rules.max_per_subject != u64::MAX {
            let committed = view.subject_count(subject);
            let in_flight = self.overlay.of_subject(subject).count;
            if committed + in_flight >= self.rules.max_per_subject {
                if self.rules.discard_new_per_subject {
                    if self.removals > 0 && !self.has_waited {
                        return Err(Stop::LookUp(LookUp::UnderWay));
                    }
                    let text = "maximum messages per subject exceeded";
                    return Err(kinds::STREAM_STORE_FAILED.with(text).into());
                }
                // A removal may come before it to what it would replace.
                unsure = self.removals > 0;
                if !unsure {
                    let nth = committed + in_flight - self.rules.max_per_subject;
                    replaced = Some(self.replaced_size(view, subject, nth, committed)?);
                }
            }
        }
        let messages = view.messages().saturating_add_signed(self.overlay.grow_msgs());
        let bytes = view.bytes().saturating_add_signed(self.overlay.grow_bytes());
        let full = messages >= self.rules.max_msgs && replaced.is_none();
        let over = bytes.saturating_add(size) > self.rules.max_bytes
            && replaced.is_none_or(|old| old < size);
        // Removals that are under way may make room.
        let unknown = self.removals > 0 || self.overlay.is_unsure();
        if (full || over) && unknown && !self.has_waited {
            return Err(Stop::LookUp(LookUp::UnderWay));
        }
        if full {
            return Err(kinds::STREAM_STORE_FAILED.with("maximum messages exceeded").into());
        }
        if over {
            return Err(kinds::STREAM_STORE_FAILED.with("maximum bytes exceeded").into());
        }
        if let Some(old) = replaced {
            grow = (0, size as i64 - old as i64);
        }
        Ok(Growth { grow, unsure })
    }

    /// The size of the message that gives way: the `nth` of its subject when in-flight ones are
    /// counted too.
    fn replaced_size(
        &mut self,
        view: &impl StreamView,
        subject: &[u8],
        nth: u64,
        committed: u64,
    ) -> Result<u64, Stop> {
        if self.rules.max_bytes == u64::MAX {
            return Ok(0);
        }
        match nth.checked_sub(committed) {
            None => view
                .nth_size(subject, nth)
                .ok_or_else(|| Stop::LookUp(LookUp::Size { subject: subject.into(), nth })),
            Some(nth) => Ok(self.overlay.nth_size(subject, nth).unwrap_or(0)),
        }
    }

    /// Takes back the admission of `seq`, the last one: its record could not be appended.
    pub fn withdraw(&mut self, seq: u64) {
        self.overlay.pop(seq);
        self.times.drop_from(seq);
    }

    /// A message is applied, each in its turn: the view shows it from now on, and what was admitted
    /// under its sequence is in flight no more. Its id is in its headers; where it was admitted
    /// here, they were read before.
    #[inline]
    pub fn apply(&mut self, seq: u64, at: WallTime, headers: &[u8]) {
        let Admission { rules, overlay, dedupe, last_id, .. } = self;
        let id = match overlay.id_of_first(seq) {
            Some(id) => {
                debug_assert_eq!(id, PublishHeaders::parse(headers).msg_id);
                id
            }
            None if headers.is_empty() => b"",
            None => PublishHeaders::parse(headers).msg_id,
        };
        if !id.is_empty() && rules.window > 0 {
            dedupe.insert(hash_id(id), seq, at);
            dedupe.commit(seq, rules.window);
        }
        if !(id.is_empty() && last_id.is_empty()) {
            last_id.clear();
            last_id.extend_from_slice(id);
        }
        overlay.commit(seq);
    }

    /// Another configuration is decided, by a record behind all that was admitted.
    pub fn update_decided(&mut self) {
        self.updates += 1;
    }

    /// The removal of messages is decided, by a record behind all that was admitted, or has begun.
    pub fn removal_decided(&mut self) {
        self.removals += 1;
    }

    /// All that is removed by that has left.
    pub fn removal_applied(&mut self) {
        debug_assert!(self.removals > 0);
        self.removals = self.removals.saturating_sub(1);
    }

    /// Forgets all that is not committed. `committed` is the last committed sequence.
    pub fn drop_uncommitted(&mut self, committed: u64) {
        self.overlay.clear();
        (self.removals, self.updates) = (0, 0);
        self.times.drop_from(committed + 1);
    }

    /// The id of the last message that is applied, empty if it has none: part of a checkpoint.
    pub fn last_applied_id(&self) -> &[u8] {
        &self.last_id
    }

    /// Sets the id of the last message that is applied, from a checkpoint.
    pub fn restore_last_id(&mut self, id: &[u8]) {
        self.last_id.clear();
        self.last_id.extend_from_slice(id);
    }

    /// The stream is served from now on: what it holds was stored before.
    pub fn take_over(&mut self, now: Timestamp) {
        self.times.take_over(now);
    }

    /// When messages were stored.
    pub fn times(&self) -> &StoreTimes {
        &self.times
    }

    /// A digest of the ids of the duplicate window.
    pub fn ids_digest(&self) -> u64 {
        self.dedupe.digest(self.rules.window)
    }

    /// The duplicate window, for checkpoints.
    pub fn dedupe(&self) -> &DedupeTable {
        &self.dedupe
    }

    /// The duplicate window, to be restored.
    pub fn dedupe_mut(&mut self) -> &mut DedupeTable {
        &mut self.dedupe
    }
}
