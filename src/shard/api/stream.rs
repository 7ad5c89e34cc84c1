//! Requests about one stream: its state, its messages.

use corelane_storage::index::Lookup as IndexLookup;
use corelane_storage::log::ReadHint;

use crate::api::error::{ApiError, kinds};
use crate::api::metadata::show_server;
use crate::api::time::GoTime;
use crate::api::types::{
    ClusterInfo, ConsumersRequest, CreateConsumerRequest, DIRECT_NOT_FOUND, DIRECT_UNREADABLE,
    Lookup, MsgDeleteRequest, MsgGetRequest, PurgeRequest, ResponseType, SUBJECTS_LIMIT,
    StoredMessage, StreamInfo, StreamInfoRequest, StreamInfoResponse, StreamState,
    is_empty_request, write_direct_headers, write_msg_get, write_response,
};
use crate::api::{API_LEVEL, NATS_API_LEVEL};
use crate::consumer::config::check_request;
use crate::shard::effects::{Outgoing, ShardEffects};
use crate::shard::groups::pending::Change;
use crate::shard::mailbox::Usage;
use crate::shard::records::kind;
use crate::shard::request::permits::Permit;
use crate::shard::request::search::{DELETED_VISITS, Details, Search};
use crate::shard::request::{Handled, Request, Wait};
use crate::shard::state::Shard;
use crate::shard::streams::read::Unread;
use crate::stream::config::{check_deletes, check_msg_delete, check_purge};
use crate::subject::api::ApiRequest;
use crate::types::{StreamId, Timestamp, WallTime};

/// Sequences that are looked at for their deletion in the time of an index entry.
const DELETED_PER_VISIT: u32 = 4;

/// The highest level that a request may ask for. A configuration tells by its fields what it needs
/// of the levels that there are at nats-server, and each field is taken or refused by its name.
fn level_for(request: &ApiRequest<'_>) -> u32 {
    use ApiRequest as A;
    match request {
        A::StreamCreate(_) | A::StreamUpdate(_) | A::ConsumerCreate(_) => NATS_API_LEVEL,
        _ => API_LEVEL,
    }
}

impl Shard {
    pub(in crate::shard) fn api(
        &mut self,
        now: Timestamp,
        request: &ApiRequest<'_>,
        stream: Option<StreamId>,
        r: &Request,
        out: &mut impl ShardEffects,
    ) -> Handled {
        use ApiRequest as A;
        let counted = !matches!(request, A::DirectGet { .. } | A::ConsumerNext(_));
        self.requests.total += u64::from(counted && !r.counted.replace(true));
        let slot = stream.and_then(|id| self.slots.get(&id).copied());
        if r.required_level > level_for(request) && self.level_comes_first(request, slot, r) {
            self.refuse_level(request, r, out);
            return Ok(());
        }
        match *request {
            A::Info => self.account_info(r, out),
            A::StreamCreate(name) => self.create_stream(now, name, r, out),
            A::StreamUpdate(name) => self.update_stream(name, r, out),
            A::StreamDelete(name) => self.delete_stream(name, r, out),
            A::StreamNames => self.stream_names(r, out),
            A::StreamList => self.stream_list(r, out),
            A::NotSupported { verb, .. } => {
                self.refuse_as(request, &ApiError::api_not_supported(verb.verb()), r, out);
                Ok(())
            }
            A::ClusterOnly { .. } => {
                self.refuse_as(request, &kinds::CLUSTER_REQUIRED.error(), r, out);
                Ok(())
            }
            A::DirectGet { subject, .. } => match slot {
                Some(slot) => self.direct_get(slot, subject, r, out),
                None => {
                    out.no_responders(r.origin, &r.subject, &r.reply);
                    Ok(())
                }
            },
            A::ConsumerNext(names) => match slot {
                Some(slot) => self.consumer_next(now, slot, names.consumer, r, out),
                None => {
                    out.no_responders(r.origin, &r.subject, &r.reply);
                    Ok(())
                }
            },
            _ => match slot {
                Some(slot) => self.stream_api(now, request, slot, r, out),
                None => {
                    let found = body_error(request, &r.payload, self.options.strict);
                    let error = found.unwrap_or(kinds::STREAM_NOT_FOUND.error());
                    self.refuse_request(&r.requester(), response_of(request), &error, out);
                    Ok(())
                }
            },
        }
    }

    fn stream_api(
        &mut self,
        now: Timestamp,
        request: &ApiRequest<'_>,
        slot: usize,
        r: &Request,
        out: &mut impl ShardEffects,
    ) -> Handled {
        use ApiRequest as A;
        match *request {
            A::StreamInfo(_) => self.stream_info(now, slot, r, out),
            A::StreamPurge(_) => self.purge_request(slot, r, out),
            A::MsgGet(_) => self.msg_get(slot, r, out),
            A::MsgDelete(_) => self.msg_delete(slot, r, out),
            A::ConsumerCreate(ref subject) => self.consumer_create(now, slot, subject, r, out),
            A::ConsumerNames(_) => self.consumer_names(slot, r, out),
            A::ConsumerList(_) => self.consumer_list(now, slot, r, out),
            A::ConsumerInfo(names) => self.consumer_info(now, slot, names.consumer, r, out),
            A::ConsumerDelete(names) => self.consumer_delete(slot, names.consumer, r, out),
            _ => Ok(()),
        }
    }

    /// Whether nothing else is wrong with a request that nats-server looks at before the level.
    fn level_comes_first(
        &self,
        request: &ApiRequest<'_>,
        slot: Option<usize>,
        r: &Request,
    ) -> bool {
        use ApiRequest as A;
        match *request {
            A::ClusterOnly { .. } => false,
            A::DirectGet { .. } => slot.is_some_and(|s| self.streams[s].config.allow_direct),
            A::ConsumerNext(names) => {
                slot.is_some_and(|s| self.streams[s].consumers.find(names.consumer).is_some())
            }
            A::ConsumerInfo(_) => is_empty_request(&r.payload),
            A::ConsumerCreate(_) => {
                CreateConsumerRequest::decode(&r.payload, self.options.strict).is_ok()
            }
            _ => true,
        }
    }

    /// A request that needs a level of the API which this server does not have.
    fn refuse_level(&mut self, request: &ApiRequest<'_>, r: &Request, out: &mut impl ShardEffects) {
        match request.response() {
            None => self.status(r, b"NATS/1.0 412 Required Api Level\r\n\r\n", out),
            Some(_) => self.refuse_as(request, &kinds::REQUIRED_API_LEVEL.error(), r, out),
        }
    }

    /// Refuses a request by an answer of its type.
    fn refuse_as(
        &mut self,
        request: &ApiRequest<'_>,
        error: &ApiError,
        r: &Request,
        out: &mut impl ShardEffects,
    ) {
        if let Some(kind) = request.response() {
            self.refuse_request(&r.requester(), kind, error, out);
        }
    }

    fn respond(
        &mut self,
        r: &Request,
        kind: ResponseType,
        body: &impl serde::Serialize,
        out: &mut impl ShardEffects,
    ) {
        let mut bytes = Vec::new();
        write_response(&mut bytes, kind, body);
        self.answer(&r.requester(), &bytes, out);
    }

    /// What a stream holds. The time of the first message may need a read.
    fn state_of(&mut self, slot: usize) -> Result<StreamState, Wait> {
        let index = &self.streams[slot].index;
        let first = index.first_seq();
        if index.messages() > 0 && self.streams[slot].first_time.0 != first {
            match self.time_of(slot, first) {
                Ok(ts) => self.streams[slot].first_time = (first, WallTime(ts)),
                Err(Unread::Wait(wait)) => return Err(wait),
                Err(_) => {}
            }
        }
        Ok(self.known_state(slot))
    }

    fn known_state(&self, slot: usize) -> StreamState {
        let stream = &self.streams[slot];
        let index = &stream.index;
        let first = index.first_seq();
        let time = |t: WallTime| if t.0 == 0 { GoTime::default() } else { GoTime::utc(t) };
        let known = index.messages() > 0 && stream.first_time.0 == first;
        StreamState {
            messages: index.messages(),
            bytes: index.bytes(),
            first_seq: if stream.is_untouched() { 0 } else { first },
            first_ts: if known { time(stream.first_time.1) } else { GoTime::default() },
            last_seq: index.last_seq(),
            last_ts: time(stream.last_time),
            num_subjects: index.subjects().len() as u64,
            num_deleted: if index.messages() == 0 { 0 } else { index.num_deleted() },
            // Those that still count after a start are there, too.
            consumer_count: stream.consumers.slab.len() as u64,
            ..StreamState::default()
        }
    }

    fn info_of(&self, now: Timestamp, slot: usize, state: StreamState) -> StreamInfo {
        let stream = &self.streams[slot];
        StreamInfo {
            config: stream.config.clone(),
            created: GoTime::utc(stream.created),
            state,
            domain: String::new(),
            cluster: None,
            ts: GoTime::utc(self.clocks.wall_of(now)),
        }
    }

    /// As create and update answer.
    pub(in crate::shard) fn created_info(
        &mut self,
        now: Timestamp,
        slot: usize,
    ) -> Result<StreamInfo, Wait> {
        let mut info = self.list_info(now, slot)?;
        show_server(&mut info.config.metadata);
        Ok(info)
    }

    /// As STREAM.LIST shows it.
    pub(in crate::shard) fn list_info(
        &mut self,
        now: Timestamp,
        slot: usize,
    ) -> Result<StreamInfo, Wait> {
        let state = self.state_of(slot)?;
        Ok(self.info_of(now, slot, state))
    }

    /// As monitoring shows it: without waiting for what would have to be read.
    pub(in crate::shard) fn shown_info(&mut self, now: Timestamp, slot: usize) -> StreamInfo {
        let state = self.state_of(slot).unwrap_or_else(|_| self.known_state(slot));
        self.info_of(now, slot, state)
    }

    pub(in crate::shard) fn usage(&self) -> Usage {
        let mut usage = Usage {
            api_total: self.requests.total,
            api_errors: self.requests.refused,
            ..Usage::default()
        };
        for (_, stream) in self.streams.iter().filter(|(_, c)| !c.removing) {
            let bytes = stream.index.bytes();
            if stream.is_memory() {
                usage.memory += bytes;
            } else {
                usage.storage += bytes;
            }
            usage.streams += 1;
            usage.consumers += stream.consumers.slab.len() as u64;
        }
        usage
    }

    fn stream_info(
        &mut self,
        now: Timestamp,
        slot: usize,
        r: &Request,
        out: &mut impl ShardEffects,
    ) -> Handled {
        let kind = ResponseType::StreamInfo;
        let request = match StreamInfoRequest::decode_info(&r.payload, self.options.strict) {
            Ok(request) => request,
            Err(error) => {
                self.refuse_request(&r.requester(), kind, &error, out);
                return Ok(());
            }
        };
        let mut state = self.state_of(slot)?;
        let mut details = match r.walk.take() {
            Search::Details(details) => details,
            _ => Box::default(),
        };
        let offset = u64::try_from(request.offset).unwrap_or(0);
        if !self.walk_details(slot, &request, offset, &mut details) {
            r.walk.replace(Search::Details(details));
            return Err(Wait::Turn);
        }
        let Details { deleted, total, subjects, .. } = *details;
        (state.deleted, state.subjects) = (deleted, subjects);
        if request.deleted_details && state.first_seq == 0 && !self.streams[slot].is_memory() {
            // nats-server counts sequence 0 of a file that was never used.
            (state.num_deleted, state.deleted) = (1, vec![0]);
        }
        let asked = !request.subjects_filter.is_empty();
        let offset = if asked { offset } else { 0 };
        let limit = if total == 0 { 0 } else { SUBJECTS_LIMIT as u64 };
        let mut info = self.info_of(now, slot, state);
        show_server(&mut info.config.metadata);
        info.cluster = Some(ClusterInfo { leader: self.options.server_name.clone() });
        let body = StreamInfoResponse { total, offset, limit, info: &info };
        self.respond(r, kind, &body, out);
        Ok(())
    }

    /// Goes on with the details that a request wants of a stream's state. True when it has them.
    fn walk_details(
        &mut self,
        slot: usize,
        request: &StreamInfoRequest,
        offset: u64,
        details: &mut Details,
    ) -> bool {
        if request.deleted_details {
            self.turn.visited(DELETED_VISITS as u32 / DELETED_PER_VISIT);
        }
        let index = &self.streams[slot].index;
        let filter = request.subjects_filter.as_bytes();
        let budget = self.options.job_visits;
        (filter.is_empty() || details.walk_subjects(index, filter, offset, SUBJECTS_LIMIT, budget))
            && (!request.deleted_details || details.walk_deleted(index))
    }

    fn purge_request(&mut self, slot: usize, r: &Request, out: &mut impl ShardEffects) -> Handled {
        let kind = ResponseType::StreamPurge;
        let config = &self.streams[slot].config;
        let decoded = PurgeRequest::decode_purge(&r.payload, self.options.strict);
        let request = match decoded.and_then(|request| check_purge(config).map(|()| request)) {
            Ok(request) => request,
            Err(error) => {
                self.refuse_request(&r.requester(), kind, &error, out);
                return Ok(());
            }
        };
        self.permit_for(Permit::Purge)?;
        let stream = self.streams[slot].id;
        let below = (request.seq > 0).then_some(request.seq);
        let filter = request.filter.as_bytes();
        self.start_purge(stream, filter, below, request.keep, Some(r.hand_over()));
        Ok(())
    }

    fn msg_delete(&mut self, slot: usize, r: &Request, out: &mut impl ShardEffects) -> Handled {
        let kind = ResponseType::StreamMsgDelete;
        let state = &self.streams[slot];
        let decoded = if r.payload.is_empty() {
            Err(kinds::BAD_REQUEST.error())
        } else {
            MsgDeleteRequest::decode(&r.payload, self.options.strict)
        };
        let checked = decoded.and_then(|MsgDeleteRequest { seq, .. }| {
            check_deletes(&state.config)?;
            if seq == 0 && is_empty_request(&r.payload) {
                return Err(kinds::BAD_REQUEST.error());
            }
            let held = state.index.first_seq()..state.index.last_seq() + 1;
            check_msg_delete(&state.config, seq, held, state.index.is_live(seq))?;
            Ok(seq)
        });
        match checked {
            Err(error) => self.refuse_request(&r.requester(), kind, &error, out),
            Ok(seq) => {
                // What is in the log must be done, so what cannot be done must not come there.
                if let IndexLookup::NeedPage(key) = state.index.get(seq) {
                    match self.want_page(slot, key)? {
                        Ok(()) => return Err(Wait::Turn),
                        Err(text) => {
                            let error = kinds::STREAM_MSG_DELETE_FAILED.with(text);
                            self.refuse_request(&r.requester(), kind, &error, out);
                            return Ok(());
                        }
                    }
                }
                let stream = state.id;
                let change = || Change::MessageDeleted { stream, seq, requester: r.hand_over() };
                if self.append_removal(slot, kind::DELETE, seq, b"", change).is_err() {
                    let error = kinds::INSUFFICIENT_RESOURCES.error();
                    self.refuse_request(&r.requester(), kind, &error, out);
                }
            }
        }
        Ok(())
    }

    /// The sequence that a get asks for; `None` if there is none.
    fn sequence_of(
        &mut self,
        slot: usize,
        lookup: &Lookup,
        r: &Request,
    ) -> Result<Option<u64>, Unread> {
        if let Search::Found(seq) = *r.walk.borrow()
            && self.streams[slot].index.is_live(seq)
        {
            return Ok(Some(seq));
        }
        let found = match lookup {
            Lookup::Seq(seq) => return Ok(Some(*seq)),
            Lookup::Last(subject) => self.last_of(slot, &[subject], &r.walk)?,
            Lookup::Next { subject, seq } => {
                self.next_of(slot, subject.as_bytes(), *seq, &r.walk)?
            }
            Lookup::Since { time, subject } => {
                let from = self.first_since(slot, time.timestamp().0)?;
                match subject.is_empty() {
                    true => self.streams[slot].index.next_live(from),
                    false => self.next_of(slot, subject.as_bytes(), from, &r.walk)?,
                }
            }
        };
        if let Some(seq) = found {
            r.walk.replace(Search::Found(seq));
        }
        Ok(found)
    }

    fn msg_get(&mut self, slot: usize, r: &Request, out: &mut impl ShardEffects) -> Handled {
        let kind = ResponseType::StreamMsgGet;
        let decoded = if r.payload.is_empty() {
            Err(kinds::BAD_REQUEST.error())
        } else {
            MsgGetRequest::decode(&r.payload, self.options.strict)
        };
        let no_hdr = decoded.as_ref().is_ok_and(|d| d.no_hdr);
        let lookup = match decoded.and_then(|request| request.lookup()) {
            Ok(lookup) => lookup,
            Err(error) => {
                self.refuse_request(&r.requester(), kind, &error, out);
                return Ok(());
            }
        };
        let found = self.sequence_of(slot, &lookup, r).and_then(|seq| {
            let seq = seq.ok_or(Unread::NotThere)?;
            self.with_message(slot, seq, ReadHint::One, |m| {
                let mut body = Vec::new();
                let message = StoredMessage {
                    subject: &String::from_utf8_lossy(m.subject),
                    seq: m.seq,
                    headers: if no_hdr { &[] } else { m.headers },
                    payload: m.payload,
                    time: GoTime::utc(WallTime(m.ts)),
                };
                write_msg_get(&mut body, &message);
                body
            })
        });
        match found {
            Ok(body) => self.answer(&r.requester(), &body, out),
            Err(Unread::Wait(wait)) => return Err(wait),
            Err(Unread::NotThere) => {
                self.refuse_request(&r.requester(), kind, &kinds::NO_MESSAGE_FOUND.error(), out);
            }
            Err(Unread::Failed(text)) => {
                self.refuse_request(&r.requester(), kind, &kinds::STREAM_GENERAL.with(&text), out);
                self.complain(slot, format_args!("{text}"), out);
            }
        }
        Ok(())
    }

    /// Answers with a header block alone.
    fn status(&mut self, r: &Request, head: &[u8], out: &mut impl ShardEffects) {
        if !r.reply.is_empty() {
            out.send(&Outgoing {
                origin: Some(r.origin),
                to: &r.reply,
                shown: &[],
                reply: &[],
                headers: head,
                payload: &[],
            });
        }
    }

    fn direct_get(
        &mut self,
        slot: usize,
        subject: Option<&str>,
        r: &Request,
        out: &mut impl ShardEffects,
    ) -> Handled {
        if !self.streams[slot].config.allow_direct {
            out.no_responders(r.origin, &r.subject, &r.reply);
            return Ok(());
        }
        let decoded = MsgGetRequest::decode_direct(subject, &r.payload);
        let no_hdr = decoded.as_ref().is_ok_and(|d| d.no_hdr);
        let lookup = match decoded.and_then(|request| request.direct_lookup()) {
            Ok(lookup) => lookup,
            Err(error) => {
                let mut head = Vec::new();
                error.write_status(&mut head);
                self.status(r, &head, out);
                return Ok(());
            }
        };
        let found = self.sequence_of(slot, &lookup, r).and_then(|seq| {
            let seq = seq.ok_or(Unread::NotThere)?;
            let name = self.streams[slot].config.name.clone();
            self.with_message(slot, seq, ReadHint::One, |m| {
                let mut head = Vec::new();
                let bytes = m.headers.len() + m.payload.len();
                if !no_hdr {
                    let time = GoTime::utc(WallTime(m.ts));
                    write_direct_headers(&mut head, m.headers, &name, m.subject, m.seq, time);
                }
                out.send(&Outgoing {
                    origin: Some(r.origin),
                    to: &r.reply,
                    shown: &[],
                    reply: &[],
                    headers: &head,
                    payload: m.payload,
                });
                bytes
            })
        });
        match found {
            Ok(bytes) => self.turn.answered(bytes),
            Err(Unread::Wait(wait)) => return Err(wait),
            Err(Unread::NotThere) => self.status(r, DIRECT_NOT_FOUND, out),
            Err(Unread::Failed(text)) => {
                self.status(r, DIRECT_UNREADABLE, out);
                self.complain(slot, format_args!("{text}"), out);
            }
        }
        Ok(())
    }

    /// Forgets a stream of which nothing is left.
    pub(in crate::shard) fn forget_stream(&mut self, slot: usize) {
        let stream = self.streams.remove(slot);
        let orphans = &mut self.checkpoint.orphans;
        orphans.extend(stream.index.locations().map(|(_, location)| location));
        orphans.extend(stream.checkpointed.locations());
        let isolated = &mut self.unreadable.consumers;
        isolated.retain(|&(of, _), location| {
            orphans.extend((of == stream.id).then_some(*location));
            of != stream.id
        });
    }

    /// Takes a removed stream out of sight; what it holds is buried step by step.
    pub(in crate::shard) fn detach(&mut self, slot: usize, out: &mut impl ShardEffects) {
        let stream = &self.streams[slot];
        let name = stream.config.name.clone();
        // Another stream may have its name by now.
        if self.names.get(name.as_bytes()) == Some(&slot) {
            self.names.remove(name.as_bytes());
        }
        self.delete_all_consumers(slot, out);
        self.drop_enforcement(slot, out);
        let stream = &mut self.streams[slot];
        if let Some(due) = stream.age_due.take() {
            let id = stream.id;
            self.forget_age(due, id);
        }
        self.start_stream_removal(slot);
    }
}

/// What is wrong with the body of a request, as far as that comes before the stream is looked up.
fn body_error(request: &ApiRequest<'_>, body: &[u8], strict: bool) -> Option<ApiError> {
    use ApiRequest as A;
    match request {
        A::StreamInfo(_) => StreamInfoRequest::decode_info(body, strict).err(),
        A::StreamPurge(_) => PurgeRequest::decode_purge(body, strict).err(),
        A::MsgGet(_) if body.is_empty() => Some(kinds::BAD_REQUEST.error()),
        A::MsgGet(_) => MsgGetRequest::decode(body, strict).and_then(|get| get.lookup()).err(),
        A::MsgDelete(_) => MsgDeleteRequest::decode_delete(body, strict).err(),
        A::ConsumerCreate(subject) => CreateConsumerRequest::decode(body, strict)
            .and_then(|create| check_request(create, subject))
            .err(),
        A::ConsumerNames(_) | A::ConsumerList(_) => {
            ConsumersRequest::decode_list(body, strict).err()
        }
        _ if is_empty_request(body) => None,
        _ => Some(kinds::NOT_EMPTY_REQUEST.error()),
    }
}

fn response_of(request: &ApiRequest<'_>) -> ResponseType {
    use ApiRequest as A;
    match request {
        A::StreamInfo(_) => ResponseType::StreamInfo,
        A::StreamPurge(_) => ResponseType::StreamPurge,
        A::MsgGet(_) => ResponseType::StreamMsgGet,
        A::MsgDelete(_) => ResponseType::StreamMsgDelete,
        A::ConsumerCreate(_) => ResponseType::ConsumerCreate,
        A::ConsumerNames(_) => ResponseType::ConsumerNames,
        A::ConsumerList(_) => ResponseType::ConsumerList,
        A::ConsumerDelete(_) => ResponseType::ConsumerDelete,
        _ => ResponseType::ConsumerInfo,
    }
}
