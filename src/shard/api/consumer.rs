//! Requests about consumers.

use crate::api::error::kinds;
use crate::api::json::to_json;
use crate::api::metadata::show_server;
use crate::api::time::GoTime;
use crate::api::types::{
    ConsumerConfig, ConsumerInfo, ConsumerListResponse, ConsumerNamesResponse, ConsumersRequest,
    CreateConsumerRequest, DeliverPolicy, LIST_LIMIT, NAMES_LIMIT, PullRequest, ResponseType,
    SequenceInfo, is_empty_request, write_response,
};
use crate::consumer::config::{
    self, ConsumerCreate, ConsumerDecision, ConsumerServerLimits, ExistingConsumer,
};
use crate::consumer::{Delivery, GONE_CHECKS_MAX, Info, StartPosition, rate_burst_bytes};
use crate::shard::effects::ShardEffects;
use crate::shard::groups::pending::{Change, SetConsumer};
use crate::shard::mailbox::Requester;
use crate::shard::records::{ConfigBody, kind};
use crate::shard::request::{Handled, Request};
use crate::shard::state::Shard;
use crate::shard::state::consumers::{ShardConsumer, Watch, stored_config};
use crate::shard::state::stream::ShardStream;
use crate::shard::streams::read::Unread;
use crate::subject::api::ConsumerCreateSubject;
use crate::types::{ConsumerId, StreamId, Timestamp};

/// Characters of the names that the server makes up.
const NAME_CHARS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// How many.
const NAME_LEN: usize = 8;

/// Whether a restart is to find a consumer of this configuration, or its stream keeps nothing for
/// one in any case.
fn is_logged(stream: &ShardStream, config: &ConsumerConfig) -> bool {
    stream.is_memory() || !config.mem_storage
}

impl Shard {
    fn consumer_limits(&self) -> ConsumerServerLimits {
        self.options.consumer_limits
    }

    pub(in crate::shard) fn consumer_create(
        &mut self,
        now: Timestamp,
        slot: usize,
        subject: &ConsumerCreateSubject<'_>,
        r: &Request,
        out: &mut impl ShardEffects,
    ) -> Handled {
        let response = ResponseType::ConsumerCreate;
        let checked = CreateConsumerRequest::decode(&r.payload, self.options.strict)
            .and_then(|request| config::check_request(request, subject))
            .and_then(config::check_name);
        let create = match checked {
            Ok(create) => create,
            Err(error) => {
                self.refuse_request(&r.requester(), response, &error, out);
                return Ok(());
            }
        };
        let name = match &create.name {
            Some(name) => name.clone(),
            None => self.make_name(slot),
        };
        let consumers = &self.streams[slot].consumers;
        if consumers.is_changing(&name) {
            return Err(consumers.until_changed(&name));
        }
        match self.decide_consumer(slot, &name, &create) {
            ConsumerDecision::Refuse(error) => {
                self.refuse_request(&r.requester(), response, &error, out);
            }
            ConsumerDecision::Existing => {
                if let Some(at) = self.streams[slot].consumers.find(&name) {
                    self.answer_consumer(now, slot, at, response, &r.requester(), out);
                }
            }
            ConsumerDecision::Create(config) => {
                return self.new_consumer(now, slot, name, *config, r, out);
            }
            ConsumerDecision::Update(config) => self.update_consumer(slot, &name, config, r, out),
        }
        Ok(())
    }

    fn decide_consumer(
        &self,
        slot: usize,
        name: &str,
        create: &ConsumerCreate,
    ) -> ConsumerDecision {
        let stream = &self.streams[slot];
        let existing = stream.consumers.find(name).map(|at| &stream.consumers.slab[at]);
        let config = existing.map(ShardConsumer::shown_config);
        let existing = existing.zip(config.as_ref()).map(|(c, config)| {
            let active = c.delivery.as_ref().is_some_and(|d| d.info().push_bound);
            ExistingConsumer { config, active }
        });
        let count = stream.consumers.count();
        config::decide(create, existing, count, &stream.config, &self.consumer_limits())
    }

    fn make_name(&mut self, slot: usize) -> String {
        loop {
            let mut name = String::with_capacity(NAME_LEN);
            let mut n = self.next_random();
            for _ in 0..NAME_LEN {
                name.push(char::from(NAME_CHARS[(n % 62) as usize]));
                n /= 62;
            }
            if self.streams[slot].consumers.find(&name).is_none() {
                return name;
            }
        }
    }

    fn new_consumer(
        &mut self,
        now: Timestamp,
        slot: usize,
        name: String,
        config: ConsumerConfig,
        r: &Request,
        out: &mut impl ShardEffects,
    ) -> Handled {
        match self.start_of(slot, &config, r) {
            Ok(start) => self.create_consumer(now, slot, name, config, start, r, out),
            Err(Unread::Wait(wait)) => return Err(wait),
            Err(_) => self.refuse_consumer(&r.requester(), out),
        }
        Ok(())
    }

    /// What a consumer's creation needs cannot be read, or there is no room for its record.
    fn refuse_consumer(&mut self, requester: &Requester, out: &mut impl ShardEffects) {
        let error = kinds::INSUFFICIENT_RESOURCES.error();
        self.refuse_request(requester, ResponseType::ConsumerCreate, &error, out);
    }

    /// Appends the record of a new consumer, of which is known where it begins.
    #[expect(clippy::too_many_arguments, reason = "each a part of the consumer")]
    fn create_consumer(
        &mut self,
        now: Timestamp,
        slot: usize,
        name: String,
        config: ConsumerConfig,
        start: StartPosition,
        r: &Request,
        out: &mut impl ShardEffects,
    ) {
        let id = ConsumerId(self.consumers.next_id);
        self.consumers.next_id += 1;
        let state = &self.streams[slot];
        let (stream, group, logged) = (state.id, state.group(), is_logged(state, &config));
        let (start, created) = (start.to_delta(), self.clocks.wall_of(now).0);
        let mut body = Vec::new();
        let json = to_json(&stored_config(&name, &config));
        ConfigBody { created, start: &start, json: &json }.encode(&mut body);
        if self.append_change(logged, group, kind::CONSUMER, stream, id.0, &body).is_err() {
            return self.refuse_consumer(&r.requester(), out);
        }
        self.streams[slot].consumers.begin_change(name.into());
        let (requester, unnamed) = (r.hand_over(), config.name.is_empty());
        let by = SetConsumer { requester, creates: true, unnamed };
        self.wait_for_appended(group, Change::SetConsumer(by));
    }

    /// Where a new consumer begins.
    fn start_of(
        &mut self,
        slot: usize,
        config: &ConsumerConfig,
        r: &Request,
    ) -> Result<StartPosition, Unread> {
        let index = &self.streams[slot].index;
        let (first, last) = (index.first_seq(), index.last_seq());
        let mut start =
            StartPosition { next_seq: first, last_seq: last, start_set: Default::default() };
        match config.deliver_policy {
            DeliverPolicy::All => {}
            DeliverPolicy::New => start.next_seq = last + 1,
            DeliverPolicy::ByStartSequence => start.next_seq = config.opt_start_seq.max(first),
            DeliverPolicy::ByStartTime => {
                let time = config.opt_start_time.map_or(0, |t| t.timestamp().0);
                start.next_seq = self.first_since(slot, time)?;
            }
            DeliverPolicy::Last => {
                let seq = match config.filters() {
                    [] => index.prev_live(last),
                    filters => self.last_of(slot, filters, &r.walk)?,
                };
                // nats-server shows this start when there is none.
                start.next_seq = seq.unwrap_or(first);
            }
            DeliverPolicy::LastPerSubject => return self.last_of_each(slot, config.filters(), r),
        }
        Ok(start)
    }

    /// There is a new consumer: it counts what is pending, then joins.
    pub(in crate::shard) fn consumer_created(
        &mut self,
        now: Timestamp,
        slot: usize,
        at: usize,
        by: Option<SetConsumer>,
        out: &mut impl ShardEffects,
    ) {
        let seed = self.next_random();
        let burst = rate_burst_bytes(&self.streams[slot].config, self.options.max_payload);
        let ShardStream { id: stream, consumers, .. } = &mut self.streams[slot];
        let (stream, c) = (*stream, &mut consumers.slab[at]);
        c.unnamed = by.as_ref().is_some_and(|by| by.unnamed);
        c.delivery = Some(Delivery::new(&c.ledger, now, seed, burst));
        let id = c.id;
        self.consumer_born(slot, at);
        self.start_count(stream, id, by.map(|by| by.requester));
        self.run_jobs(now, out);
    }

    /// The consumer or the stream of a request went away before that was carried out.
    pub(in crate::shard) fn consumer_was_not_set(
        &mut self,
        by: &SetConsumer,
        out: &mut impl ShardEffects,
    ) {
        let error = match by.creates {
            true => kinds::STREAM_NOT_FOUND.error(),
            false => kinds::CONSUMER_DOES_NOT_EXIST.error(),
        };
        self.refuse_request(&by.requester, ResponseType::ConsumerCreate, &error, out);
    }

    /// A consumer has counted what is pending and is among the others.
    pub(in crate::shard) fn consumer_joined(
        &mut self,
        now: Timestamp,
        slot: usize,
        at: usize,
        requester: Option<&Requester>,
        out: &mut impl ShardEffects,
    ) {
        let stream = &mut self.streams[slot];
        let name = stream.consumers.slab[at].name.clone();
        stream.consumers.changed(&name);
        self.requests.consumer_changed = true;
        self.watch_deliver_subject(now, slot, at, out);
        self.with_consumer(slot, at, out, |_, _| ());
        self.wake_consumer(slot, at);
        if let Some(requester) = requester {
            self.answer_consumer(now, slot, at, ResponseType::ConsumerCreate, requester, out);
        }
    }

    /// Follows the interest in a push consumer's deliver subject. As in nats-server, another
    /// deliver group alone changes nothing before a restart, and another subject is watched with
    /// the group that was there before.
    fn watch_deliver_subject(
        &mut self,
        now: Timestamp,
        slot: usize,
        at: usize,
        out: &mut impl ShardEffects,
    ) {
        let stream = self.streams[slot].id;
        let c = &mut self.streams[slot].consumers.slab[at];
        if !c.config.is_push() {
            return;
        }
        let watch = match c.watch.take() {
            Some(same) if same.subject == c.config.deliver_subject => same,
            old => {
                if let Some(old) = old {
                    self.consumers.watches.remove(&old.id);
                    out.unwatch(old.id);
                }
                let subject = c.config.deliver_subject.clone();
                let group = c.watch_group.take().unwrap_or_else(|| c.config.deliver_group.clone());
                let id = out.watch(self.id, subject.as_bytes(), group.as_bytes());
                self.consumers.watches.insert(id, (stream, c.id));
                Watch { id, subject, group }
            }
        };
        let listens = out.has_listener(watch.subject.as_bytes(), watch.group.as_bytes());
        if let Some(delivery) = &mut c.delivery {
            delivery.interest(now, listens);
        }
        c.watch = Some(watch);
    }

    /// The interest in a watched subject came or went.
    pub fn interest_changed(
        &mut self,
        now: Timestamp,
        watch: crate::interest::WatchId,
        interested: bool,
        out: &mut impl ShardEffects,
    ) {
        let Some(&(stream, id)) = self.consumers.watches.get(&watch) else { return };
        let Some((slot, at)) = self.locate(stream, id) else { return };
        self.streams[slot].consumers.slab[at].pace.forget();
        self.with_consumer(slot, at, out, |c, _| c.interest(now, interested));
        self.wake_consumer(slot, at);
    }

    fn update_consumer(
        &mut self,
        slot: usize,
        name: &str,
        config: Box<ConsumerConfig>,
        r: &Request,
        out: &mut impl ShardEffects,
    ) {
        let state = &self.streams[slot];
        let Some(at) = state.consumers.find(name) else { return };
        let (stream, c) = (state.id, &state.consumers.slab[at]);
        let (id, created, group) = (c.id.0, c.created.0, state.group());
        let logged = is_logged(state, &config);
        let mut body = Vec::new();
        let json = to_json(&stored_config(name, &config));
        ConfigBody { created, start: b"", json: &json }.encode(&mut body);
        if self.append_change(logged, group, kind::CONSUMER, stream, id, &body).is_err() {
            return self.refuse_consumer(&r.requester(), out);
        }
        self.streams[slot].consumers.begin_change(name.into());
        let (requester, unnamed) = (r.hand_over(), config.name.is_empty());
        let by = SetConsumer { requester, creates: false, unnamed };
        self.wait_for_appended(group, Change::SetConsumer(by));
    }

    /// A consumer has another configuration than before.
    pub(in crate::shard) fn consumer_updated(
        &mut self,
        now: Timestamp,
        slot: usize,
        at: usize,
        before: ConsumerConfig,
        by: Option<SetConsumer>,
        out: &mut impl ShardEffects,
    ) {
        let consumers = &mut self.streams[slot].consumers;
        let c = &mut consumers.slab[at];
        if let Some(delivery) = &mut c.delivery {
            delivery.reconfigured(now, &c.ledger);
        }
        if before.deliver_subject != c.config.deliver_subject {
            c.watch_group = Some(before.deliver_group.clone());
        }
        c.unnamed = by.as_ref().map_or(c.unnamed, |by| by.unnamed);
        let refilter = c.config.filters() != before.filters();
        let name = c.name.clone();
        consumers.changed(&name);
        self.requests.consumer_changed = true;
        let requester = by.map(|by| by.requester);
        if refilter {
            return self.count_anew(slot, at, requester);
        }
        self.watch_deliver_subject(now, slot, at, out);
        self.with_consumer(slot, at, out, |_, _| ());
        self.wake_consumer(slot, at);
        if let Some(requester) = requester {
            self.answer_consumer(now, slot, at, ResponseType::ConsumerCreate, &requester, out);
        }
    }

    /// A consumer with other filters leaves the counts of the old ones and counts anew.
    fn count_anew(&mut self, slot: usize, at: usize, requester: Option<Requester>) {
        let state = &mut self.streams[slot];
        let stream = state.id;
        state.consumers.leave(at);
        let c = &mut state.consumers.slab[at];
        let consumer = c.id;
        if let Some(timer) = c.timer.take() {
            self.consumers.timers.remove(&(timer, stream, consumer));
        }
        c.scan_from = 0;
        // What was read for its old filters is of no use.
        c.blocked = None;
        c.ahead = Default::default();
        self.consumers.blocked.retain(|&(_, of, id)| (of, id) != (stream, consumer));
        if let Some(delivery) = &mut c.delivery {
            delivery.arrived();
        }
        let name = c.name.clone();
        state.consumers.begin_change(name);
        self.start_count(stream, consumer, requester);
    }

    pub(in crate::shard) fn info_of_consumer(
        &mut self,
        now: Timestamp,
        slot: usize,
        at: usize,
        checks: &mut usize,
        out: &mut impl ShardEffects,
    ) -> ConsumerInfo {
        // Requests of clients that went away do not count as waiting.
        self.with_consumer(slot, at, out, |c, sink| c.drop_gone(checks, sink));
        let clocks = self.clocks;
        let shown = |at| GoTime::utc(clocks.wall_of(at));
        let stream = &mut self.streams[slot];
        let stream_name = stream.config.name.clone();
        let counted = stream.consumers.groups.pending(stream.consumers.slab[at].handle);
        let c = &mut stream.consumers.slab[at];
        let info = c.delivery.as_mut().map_or_else(Info::default, |delivery| {
            delivery.set_counted(counted);
            delivery.info()
        });
        ConsumerInfo {
            stream_name,
            name: c.name.to_string(),
            created: GoTime::utc(c.created),
            config: Some(c.shown_config()),
            delivered: SequenceInfo {
                consumer_seq: info.delivered_consumer_seq,
                stream_seq: info.delivered_stream_seq,
                last_active: info.delivered_at.map(shown),
            },
            ack_floor: SequenceInfo {
                consumer_seq: info.floor_consumer_seq,
                stream_seq: info.floor_stream_seq,
                last_active: info.acked_at.map(shown),
            },
            num_ack_pending: info.ack_pending as u64,
            num_redelivered: info.redelivered as u64,
            num_waiting: info.waiting as u64,
            num_pending: info.pending,
            cluster: None,
            push_bound: info.push_bound,
            paused: false,
            pause_remaining: 0,
            ts: shown(now),
        }
    }

    fn answer_consumer(
        &mut self,
        now: Timestamp,
        slot: usize,
        at: usize,
        kind: ResponseType,
        requester: &Requester,
        out: &mut impl ShardEffects,
    ) {
        let mut info = self.info_of_consumer(now, slot, at, &mut { GONE_CHECKS_MAX }, out);
        if let Some(config) = &mut info.config {
            show_server(&mut config.metadata);
        }
        let mut body = Vec::new();
        write_response(&mut body, kind, &info);
        self.answer(requester, &body, out);
    }

    pub(in crate::shard) fn consumer_info(
        &mut self,
        now: Timestamp,
        slot: usize,
        name: &str,
        r: &Request,
        out: &mut impl ShardEffects,
    ) -> Handled {
        let kind = ResponseType::ConsumerInfo;
        if !is_empty_request(&r.payload) {
            self.refuse_request(&r.requester(), kind, &kinds::NOT_EMPTY_REQUEST.error(), out);
            return Ok(());
        }
        let consumers = &self.streams[slot].consumers;
        match consumers.find(name) {
            Some(at) => self.answer_consumer(now, slot, at, kind, &r.requester(), out),
            None if consumers.is_changing(name) => return Err(consumers.until_changed(name)),
            None => {
                self.refuse_request(&r.requester(), kind, &kinds::CONSUMER_NOT_FOUND.error(), out);
            }
        }
        Ok(())
    }

    pub(in crate::shard) fn consumer_names(
        &mut self,
        slot: usize,
        r: &Request,
        out: &mut impl ShardEffects,
    ) -> Handled {
        let kind = ResponseType::ConsumerNames;
        match ConsumersRequest::decode_list(&r.payload, self.options.strict) {
            Err(error) => self.refuse_request(&r.requester(), kind, &error, out),
            Ok(request) => {
                let names = &self.streams[slot].consumers.by_name;
                let total = names.len();
                let offset = usize::try_from(request.offset).unwrap_or(0).min(total);
                let page = names.keys().skip(offset).take(NAMES_LIMIT);
                let body = ConsumerNamesResponse {
                    total: total as u64,
                    offset: offset as u64,
                    limit: NAMES_LIMIT as u64,
                    consumers: page.map(|n| n.to_string()).collect(),
                };
                let (passed, mut bytes) = (offset + body.consumers.len(), Vec::new());
                write_response(&mut bytes, kind, &body);
                self.turn.visited(passed as u32);
                self.answer(&r.requester(), &bytes, out);
            }
        }
        Ok(())
    }

    pub(in crate::shard) fn consumer_list(
        &mut self,
        now: Timestamp,
        slot: usize,
        r: &Request,
        out: &mut impl ShardEffects,
    ) -> Handled {
        let kind = ResponseType::ConsumerList;
        match ConsumersRequest::decode_list(&r.payload, self.options.strict) {
            Err(error) => self.refuse_request(&r.requester(), kind, &error, out),
            Ok(request) => {
                let names = &self.streams[slot].consumers.by_name;
                let total = names.len();
                let offset = usize::try_from(request.offset).unwrap_or(0).min(total);
                let page: Vec<usize> =
                    names.values().skip(offset).take(LIST_LIMIT).copied().collect();
                self.turn.listed(page.len());
                let mut checks = GONE_CHECKS_MAX;
                let infos = page
                    .into_iter()
                    .map(|at| self.info_of_consumer(now, slot, at, &mut checks, out));
                let consumers = infos.collect();
                let body = ConsumerListResponse {
                    total: total as u64,
                    offset: offset as u64,
                    limit: LIST_LIMIT as u64,
                    consumers,
                };
                let mut bytes = Vec::new();
                write_response(&mut bytes, kind, &body);
                self.answer(&r.requester(), &bytes, out);
            }
        }
        Ok(())
    }

    pub(in crate::shard) fn consumer_delete(
        &mut self,
        slot: usize,
        name: &str,
        r: &Request,
        out: &mut impl ShardEffects,
    ) -> Handled {
        let kind = ResponseType::ConsumerDelete;
        if !is_empty_request(&r.payload) {
            self.refuse_request(&r.requester(), kind, &kinds::NOT_EMPTY_REQUEST.error(), out);
            return Ok(());
        }
        let state = &self.streams[slot];
        if state.consumers.is_changing(name) {
            return Err(state.consumers.until_changed(name));
        }
        match state.consumers.find(name) {
            Some(at) => {
                let (stream, id) = (state.id, state.consumers.slab[at].id);
                self.begin_delete_consumer(stream, id, Some(r.hand_over()), out);
            }
            None => {
                self.refuse_request(&r.requester(), kind, &kinds::CONSUMER_NOT_FOUND.error(), out);
            }
        }
        Ok(())
    }

    pub(in crate::shard) fn begin_delete_consumer(
        &mut self,
        stream: StreamId,
        consumer: ConsumerId,
        requester: Option<Requester>,
        out: &mut impl ShardEffects,
    ) {
        let Some((slot, at)) = self.locate(stream, consumer) else { return };
        let state = &self.streams[slot];
        let name = state.consumers.slab[at].name.clone();
        if state.consumers.is_changing(&name) {
            // One that is inactive goes once its update took effect and it has counted; requests
            // waited for that.
            self.consumers.expired.push((stream, consumer));
            return;
        }
        let group = state.group();
        let logged = is_logged(state, &state.consumers.slab[at].config);
        let removed = kind::CONSUMER_REMOVED;
        if self.append_change(logged, group, removed, stream, consumer.0, b"").is_err() {
            match requester {
                Some(requester) => {
                    let error = kinds::INSUFFICIENT_RESOURCES.error();
                    self.refuse_request(&requester, ResponseType::ConsumerDelete, &error, out);
                }
                // It goes when there is room.
                None => self.consumers.expired.push((stream, consumer)),
            }
            return;
        }
        self.streams[slot].consumers.begin_change(name);
        if let Some(requester) = requester {
            self.wait_for_appended(group, Change::ConsumerDeleted(requester));
        }
    }

    /// A consumer is about to be removed: those who wait for its messages learn that.
    pub(in crate::shard) fn consumer_leaves(
        &mut self,
        slot: usize,
        at: usize,
        out: &mut impl ShardEffects,
    ) {
        self.with_consumer(slot, at, out, |c, sink| c.delete(sink));
    }

    /// A consumer was taken out.
    pub(in crate::shard) fn consumer_is_gone(
        &mut self,
        slot: usize,
        gone: &ShardConsumer,
        out: &mut impl ShardEffects,
    ) {
        gone.held.iter().for_each(|requester| self.release(requester, out));
        let group = self.streams[slot].group();
        let ShardStream { id: stream, consumers, .. } = &mut self.streams[slot];
        let stream = *stream;
        consumers.changed(&gone.name);
        self.requests.consumer_changed = true;
        if let Some(timer) = gone.timer {
            self.consumers.timers.remove(&(timer, stream, gone.id));
        }
        if let Some(watch) = &gone.watch {
            self.consumers.watches.remove(&watch.id);
            out.unwatch(watch.id);
        }
        self.consumers.deltas.of(group).dirty.remove(&(stream, gone.id));
        self.consumer_gone(slot, gone);
    }

    pub(in crate::shard) fn delete_all_consumers(
        &mut self,
        slot: usize,
        out: &mut impl ShardEffects,
    ) {
        let all = self.streams[slot].consumers.rest_all();
        for at in all {
            self.consumer_leaves(slot, at, out);
            let gone = self.streams[slot].consumers.remove(at);
            self.consumer_is_gone(slot, &gone, out);
        }
    }

    /// After a purge: consumers of what was purged that stood in what is gone move on.
    pub(in crate::shard) fn consumers_after_purge(&mut self, slot: usize, filter: &[u8]) {
        let stream = &mut self.streams[slot];
        let first = stream.index.first_seq();
        stream.consumers.purged_below(first, filter);
        self.mark_active(slot);
    }

    pub(in crate::shard) fn consumer_next(
        &mut self,
        now: Timestamp,
        slot: usize,
        name: &str,
        r: &Request,
        out: &mut impl ShardEffects,
    ) -> Handled {
        let Some(at) = self.streams[slot].consumers.find_joined(name)? else {
            out.no_responders(r.origin, &r.subject, &r.reply);
            return Ok(());
        };
        self.with_consumer(slot, at, out, |consumer, sink| {
            consumer.pull(now, PullRequest::decode(&r.payload), &r.reply, r.origin, sink);
        });
        self.wake_consumer(slot, at);
        Ok(())
    }
}
