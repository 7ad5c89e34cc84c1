//! Shard 0's part of the catalogue: requests about streams as such, and questions to all shards.

use crate::api::error::{ApiError, kinds};
use crate::api::types::{
    AccountInfo, ApiStats, ConsumerLimits, ResponseType, StorageType, StreamConfigRequest,
    StreamInfo, StreamListResponse, StreamsRequest, is_empty_request, write_response,
};
use crate::consumer::config::is_beyond;
use crate::meta::{CreateDecision, DeleteDecision, Record, StreamEntry, UpdateDecision};
use crate::shard::effects::ShardEffects;
use crate::shard::groups::GroupName;
use crate::shard::groups::pending::Change;
use crate::shard::mailbox::{Requester, ShardMessage, Usage};
use crate::shard::records::kind;
use crate::shard::request::permits::Permit;
use crate::shard::request::{Handled, Request, Wait};
use crate::shard::state::Shard;
use crate::shard::state::catalogue::{ACCOUNT, Asked, Question};
use crate::subject::api::{self as api_subject, ApiRequest};
use crate::types::{ShardId, StreamId, Timestamp};

impl Shard {
    pub(in crate::shard) fn create_stream(
        &mut self,
        now: Timestamp,
        name: &str,
        r: &Request,
        out: &mut impl ShardEffects,
    ) -> Handled {
        let kind = ResponseType::StreamCreate;
        let strict = self.options.strict;
        let Some(meta) = &self.meta else { return Ok(()) };
        let created = self.clocks.wall_of(now);
        let decided = StreamConfigRequest::decode(&r.payload, strict).map(|request| {
            meta.catalogue.decide_create(ACCOUNT, name, request, &meta.limits, created)
        });
        match decided {
            Err(error) | Ok(CreateDecision::Refuse(error)) => {
                self.refuse_request(&r.requester(), kind, &error, out);
            }
            Ok(CreateDecision::Existing(entry)) => {
                let (id, shard, requester) = (entry.id, entry.shard, r.hand_over());
                let existing = Change::Existing { id, shard, requester };
                self.wait_for_appended(GroupName::Meta, existing);
            }
            Ok(CreateDecision::New(record)) => {
                let Record::Create { entry, .. } = &*record else { return Ok(()) };
                let logged = entry.config.storage == StorageType::File;
                self.record(&record, logged, kind, r.hand_over(), out);
            }
        }
        Ok(())
    }

    pub(in crate::shard) fn update_stream(
        &mut self,
        name: &str,
        r: &Request,
        out: &mut impl ShardEffects,
    ) -> Handled {
        self.try_update(name, r, false, out);
        Ok(())
    }

    /// Limits of consumers are held against those that are there first, which their shard knows.
    fn try_update(&mut self, name: &str, r: &Request, checked: bool, out: &mut impl ShardEffects) {
        let kind = ResponseType::StreamUpdate;
        let from = self.id;
        let strict = self.options.strict;
        let Some(meta) = &mut self.meta else { return };
        let decided = StreamConfigRequest::decode(&r.payload, strict)
            .map(|request| meta.catalogue.decide_update(ACCOUNT, name, request, &meta.limits));
        match decided {
            Err(error) | Ok(UpdateDecision::Refuse(error)) => {
                self.refuse_request(&r.requester(), kind, &error, out);
            }
            Ok(UpdateDecision::Update { shard, record }) => {
                let Record::Update { id, config, .. } = &*record else { return };
                let old = meta.catalogue.by_id(*id).map(|(_, e)| e.config.consumer_limits);
                if !checked && old != Some(config.consumer_limits) {
                    let question = meta.next_question;
                    meta.next_question += 1;
                    meta.checks.insert(question, r.hand_on());
                    let (id, limits) = (*id, config.consumer_limits);
                    out.send_to_shard(
                        shard,
                        ShardMessage::CheckLimits { question, from, id, limits },
                    );
                    return;
                }
                let logged = config.storage == StorageType::File;
                self.record(&record, logged, kind, r.hand_over(), out);
            }
        }
    }

    /// Consumers of a stream that are over limits which it is to get.
    pub(in crate::shard) fn violators(&self, id: StreamId, limits: &ConsumerLimits) -> Vec<String> {
        let Some(&slot) = self.slots.get(&id) else { return Vec::new() };
        let consumers = &self.streams[slot].consumers;
        let beyond = consumers
            .by_name
            .iter()
            .filter(|&(_, &at)| is_beyond(limits, &consumers.slab[at].config));
        beyond.map(|(name, _)| name.to_string()).collect()
    }

    /// A shard has answered which consumers new limits would hurt.
    pub(in crate::shard) fn limits_checked(
        &mut self,
        question: u64,
        violators: &[String],
        out: &mut impl ShardEffects,
    ) {
        let Some(r) = self.meta.as_mut().and_then(|m| m.checks.remove(&question)) else { return };
        let subject = r.subject.clone();
        let Some(ApiRequest::StreamUpdate(name)) = api_subject::parse(&subject) else { return };
        if violators.is_empty() {
            self.try_update(name, &r, true, out);
        } else {
            let text = format!("change to limits violates consumers: {}", violators.join(", "));
            let error = kinds::STREAM_UPDATE.with(text);
            self.refuse_request(&r.requester(), ResponseType::StreamUpdate, &error, out);
        }
        self.request_is_over(&r);
    }

    pub(in crate::shard) fn delete_stream(
        &mut self,
        name: &str,
        r: &Request,
        out: &mut impl ShardEffects,
    ) -> Handled {
        let kind = ResponseType::StreamDelete;
        if !is_empty_request(&r.payload) {
            self.refuse_request(&r.requester(), kind, &kinds::NOT_EMPTY_REQUEST.error(), out);
            return Ok(());
        }
        let Some(meta) = &self.meta else { return Ok(()) };
        match meta.catalogue.decide_delete(ACCOUNT, name) {
            DeleteDecision::Refuse(error) => self.refuse_request(&r.requester(), kind, &error, out),
            DeleteDecision::Delete(record) => {
                let is_file = |e: &StreamEntry| e.config.storage == StorageType::File;
                let logged = meta.catalogue.stream(ACCOUNT, name).is_some_and(is_file);
                self.record(&record, logged, kind, r.hand_over(), out);
            }
        }
        Ok(())
    }

    /// Logs what was decided (unless it is of a memory stream): it takes effect once that is
    /// committed, and later decisions see it.
    fn record(
        &mut self,
        record: &Record,
        logged: bool,
        kind_of: ResponseType,
        requester: Requester,
        out: &mut impl ShardEffects,
    ) {
        let mut body = Vec::new();
        record.encode(&mut body);
        let (group, none) = (GroupName::Meta, StreamId(0));
        if self.append_change(logged, group, kind::CATALOGUE, none, 0, &body).is_err() {
            let error: ApiError = kinds::INSUFFICIENT_RESOURCES.error();
            self.refuse_request(&requester, kind_of, &error, out);
            return;
        }
        if let Some(meta) = &mut self.meta {
            meta.catalogue.decide(record);
        }
        self.wait_for_appended(group, Change::Catalogue(requester));
    }

    /// The catalogue has changed: the shard of the stream carries that out.
    pub(in crate::shard) fn catalogue_changed(
        &mut self,
        record: Box<Record>,
        requester: Option<Requester>,
        out: &mut impl ShardEffects,
    ) {
        self.checkpoint.catalogue_changed = true;
        let shard = match &*record {
            Record::Create { entry, .. } => Some(entry.shard),
            Record::Update { id, .. } => {
                self.meta.as_ref().and_then(|meta| meta.catalogue.shard_of(*id))
            }
            Record::Delete { shard, .. } => Some(*shard),
            Record::Forget { .. } | Record::NextId(_) => None,
        };
        if let Some(shard) = shard {
            out.send_to_shard(shard, ShardMessage::Catalogue { record, requester });
        }
    }

    /// A shard has removed a stream for good.
    pub(in crate::shard) fn stream_deleted(&mut self, id: StreamId) {
        if self.meta.is_some() {
            let mut body = Vec::new();
            Record::Forget { id }.encode(&mut body);
            // Without room for it, recovery finds the stream removed again and forgets it then.
            let _ = self.append_meta(GroupName::Meta, kind::CATALOGUE, 0, 0, &body);
        }
    }

    /// What lists streams waits for what was decided before.
    fn is_listed(&self) -> Handled {
        let changing = self.meta.as_ref().is_some_and(|meta| meta.catalogue.is_changing());
        if changing { Err(Wait::Decided) } else { Ok(()) }
    }

    pub(in crate::shard) fn stream_names(
        &mut self,
        r: &Request,
        out: &mut impl ShardEffects,
    ) -> Handled {
        self.is_listed()?;
        let kind = ResponseType::StreamNames;
        let Some(meta) = &self.meta else { return Ok(()) };
        match StreamsRequest::decode_names(&r.payload, self.options.strict) {
            Err(error) => self.refuse_request(&r.requester(), kind, &error, out),
            Ok(request) => {
                let mut body = Vec::new();
                let names = meta.catalogue.names(ACCOUNT, &request);
                write_response(&mut body, kind, &names);
                if !request.subject.is_empty() {
                    // All that match are sorted.
                    self.turn.listed(names.total as usize);
                }
                self.answer(&r.requester(), &body, out);
            }
        }
        Ok(())
    }

    pub(in crate::shard) fn stream_list(
        &mut self,
        r: &Request,
        out: &mut impl ShardEffects,
    ) -> Handled {
        self.is_listed()?;
        let Some(meta) = &self.meta else { return Ok(()) };
        match StreamsRequest::decode_list(&r.payload, self.options.strict) {
            Err(error) => {
                self.refuse_request(&r.requester(), ResponseType::StreamList, &error, out);
            }
            Ok(request) => {
                self.permit_for(Permit::Listing)?;
                let page = meta.catalogue.list(ACCOUNT, &request);
                let what =
                    Asked::List { total: page.total, offset: page.offset, limit: page.limit };
                let streams: Vec<_> = page.streams.iter().map(|e| (e.shard, e.id)).collect();
                self.ask_all(r.hand_over(), what, &streams, out);
            }
        }
        Ok(())
    }

    pub(in crate::shard) fn account_info(
        &mut self,
        r: &Request,
        out: &mut impl ShardEffects,
    ) -> Handled {
        self.is_listed()?;
        self.permit_for(Permit::Account)?;
        self.ask_all(r.hand_over(), Asked::Info, &[], out);
        Ok(())
    }

    fn ask_all(
        &mut self,
        requester: Requester,
        what: Asked,
        streams: &[(ShardId, StreamId)],
        out: &mut impl ShardEffects,
    ) {
        let from = self.id;
        let Some(meta) = &mut self.meta else { return };
        let question = meta.next_question;
        meta.next_question += 1;
        let left = usize::from(meta.shards);
        let usage = Usage::default();
        let q = Question { requester, what, left, streams: Vec::new(), usage };
        meta.questions.insert(question, q);
        for shard in (0..meta.shards).map(ShardId) {
            let streams = streams.iter().filter(|(s, _)| *s == shard).map(|(_, id)| *id).collect();
            out.send_to_shard(shard, ShardMessage::Query { question, from, streams });
        }
    }

    /// One shard's answer to a question.
    pub(in crate::shard) fn query_answered(
        &mut self,
        question: u64,
        mut streams: Vec<StreamInfo>,
        usage: &Usage,
        out: &mut impl ShardEffects,
    ) {
        let Some(meta) = &mut self.meta else { return };
        let Some(q) = meta.questions.get_mut(&question) else { return };
        q.streams.append(&mut streams);
        q.usage.memory += usage.memory;
        q.usage.storage += usage.storage;
        q.usage.streams += usage.streams;
        q.usage.consumers += usage.consumers;
        q.usage.api_total += usage.api_total;
        q.usage.api_errors += usage.api_errors;
        q.left -= 1;
        if q.left > 0 {
            return;
        }
        let Some(mut q) = meta.questions.remove(&question) else { return };
        let mut body = Vec::new();
        match q.what {
            Asked::List { total, offset, limit } => {
                q.streams.sort_by(|a, b| a.config.name.cmp(&b.config.name));
                let list = StreamListResponse { total, offset, limit, streams: q.streams };
                write_response(&mut body, ResponseType::StreamList, &list);
            }
            Asked::Info => {
                let (reserved_memory, reserved_storage) = meta.catalogue.reserved_bytes(ACCOUNT);
                let info = AccountInfo {
                    memory: q.usage.memory,
                    storage: q.usage.storage,
                    reserved_memory,
                    reserved_storage,
                    streams: q.usage.streams,
                    consumers: q.usage.consumers,
                    limits: meta.limits.account,
                    domain: String::new(),
                    api: ApiStats {
                        level: crate::api::API_LEVEL,
                        // The request that is being answered does not count yet.
                        total: q.usage.api_total.saturating_sub(1),
                        errors: q.usage.api_errors,
                        ..ApiStats::default()
                    },
                };
                write_response(&mut body, ResponseType::AccountInfo, &info);
            }
        }
        self.answer(&q.requester, &body, out);
    }
}
