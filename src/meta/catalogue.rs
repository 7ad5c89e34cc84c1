//! Decisions about streams, and the state they rest on.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use crate::api::error::{ApiError, kinds};
use crate::api::filter_index::FilterIndex;
use crate::api::types::{
    AccountLimits, LIST_LIMIT, NAMES_LIMIT, StorageType, StreamConfig, StreamConfigRequest,
    StreamNamesResponse, StreamsRequest, page_range,
};
use crate::stream::config::{self, StreamLimits};
use crate::types::{ShardId, StreamId, WallTime};

use super::overlay::Overlay;
use super::record::Record;

/// A stream of the catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamEntry {
    /// Its id.
    pub id: StreamId,
    /// Where it lives.
    pub shard: ShardId,
    /// When it was created.
    pub created: WallTime,
    /// Checked and filled in; `api::metadata::show_server` adds what create, update and info show.
    pub config: StreamConfig,
}

/// Limits of the server and of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetaLimits {
    /// Of each stream.
    pub stream: StreamLimits,
    /// Of the account.
    pub account: AccountLimits,
    /// Bytes of memory that streams may reserve, -1 for any number.
    pub server_memory: i64,
    /// Bytes of disk that streams may reserve, -1 for any number.
    pub server_storage: i64,
}

impl Default for MetaLimits {
    fn default() -> Self {
        MetaLimits {
            stream: StreamLimits::default(),
            account: AccountLimits::default(),
            server_memory: -1,
            server_storage: -1,
        }
    }
}

/// What becomes of a STREAM.CREATE.
#[derive(Clone, Debug)]
pub enum CreateDecision<'a> {
    /// The stream is there already, with this configuration: answered like a create.
    Existing(&'a StreamEntry),
    /// A new stream: log the record, and create it on its shard when that is applied.
    New(Box<Record>),
    /// No.
    Refuse(ApiError),
}

/// What becomes of a STREAM.UPDATE.
#[derive(Clone, Debug)]
pub enum UpdateDecision {
    /// Log the record, and tell the shard when that is applied.
    Update {
        /// The stream's shard.
        shard: ShardId,
        /// The record.
        record: Box<Record>,
    },
    /// No.
    Refuse(ApiError),
}

/// What becomes of a STREAM.DELETE.
#[derive(Clone, Debug)]
pub enum DeleteDecision {
    /// Log the record, and delete it on its shard when that is applied.
    Delete(Box<Record>),
    /// No.
    Refuse(ApiError),
}

/// A page of STREAM.LIST; the caller asks the shards for what the streams hold.
#[derive(Clone, Debug)]
pub struct StreamPage<'a> {
    /// All that match.
    pub total: u64,
    /// Those left out.
    pub offset: u64,
    /// Most streams of an answer.
    pub limit: u64,
    /// The streams, by name.
    pub streams: Vec<&'a StreamEntry>,
}

/// The streams of one account.
#[derive(Debug, Default)]
pub(super) struct Account {
    streams: BTreeMap<String, StreamEntry>,
    names: BTreeMap<StreamId, String>,
    subjects: FilterIndex<StreamId>,
    /// Bytes of memory and of disk.
    reserved: [i64; 2],
}

impl Account {
    pub(super) fn by_id(&self, id: StreamId) -> Option<&StreamEntry> {
        self.streams.get(self.names.get(&id)?)
    }

    pub(super) fn len(&self) -> usize {
        self.streams.len()
    }

    /// Bytes that its streams reserve, in memory (0) or on disk (1).
    pub(super) fn reserved(&self, at: usize) -> i64 {
        self.reserved[at]
    }

    /// What a stream reserves: where, and how many bytes.
    pub(super) fn reserved_by(config: &StreamConfig) -> (usize, i64) {
        let at = usize::from(config.storage == StorageType::File);
        (at, config.max_bytes.max(0).saturating_mul(config.num_replicas))
    }

    fn reserve(&mut self, config: &StreamConfig, sign: i64) {
        let (at, bytes) = Account::reserved_by(config);
        self.reserved[at] += sign * bytes;
    }

    pub(super) fn insert(&mut self, entry: StreamEntry) {
        self.reserve(&entry.config, 1);
        for subject in &entry.config.subjects {
            self.subjects.insert(subject.as_bytes(), entry.id);
        }
        self.names.insert(entry.id, entry.config.name.clone());
        self.streams.insert(entry.config.name.clone(), entry);
    }

    pub(super) fn remove(&mut self, id: StreamId) -> Option<StreamEntry> {
        let name = self.names.remove(&id)?;
        let entry = self.streams.remove(&name)?;
        for subject in &entry.config.subjects {
            self.subjects.remove(subject.as_bytes(), id);
        }
        self.reserve(&entry.config, -1);
        Some(entry)
    }
}

/// All streams of all accounts.
#[derive(Debug)]
pub struct Catalogue {
    accounts: BTreeMap<String, Account>,
    /// Streams of each shard.
    shards: Vec<u64>,
    next_id: u64,
    /// Deleted streams that their shard has not yet confirmed.
    deleted: BTreeMap<StreamId, ShardId>,
    /// What was decided and is not applied, by account.
    decided: BTreeMap<String, Overlay>,
    /// How many streams more each shard will have by that.
    more_on: Vec<i64>,
    /// Ids below were given.
    next_decided: u64,
}

impl Catalogue {
    /// An empty catalogue of a node with so many shards.
    pub fn new(shards: u16) -> Self {
        assert!(shards > 0);
        Catalogue {
            accounts: BTreeMap::new(),
            shards: vec![0; usize::from(shards)],
            next_id: 1,
            deleted: BTreeMap::new(),
            decided: BTreeMap::new(),
            more_on: vec![0; usize::from(shards)],
            next_decided: 1,
        }
    }

    /// Decides about a STREAM.CREATE whose subject names `stream`.
    pub fn decide_create(
        &self,
        account: &str,
        stream: &str,
        request: StreamConfigRequest,
        limits: &MetaLimits,
        created: WallTime,
    ) -> CreateDecision<'_> {
        match self.try_create(account, stream, request, limits, created) {
            Ok(decision) => decision,
            Err(error) => CreateDecision::Refuse(error),
        }
    }

    fn try_create(
        &self,
        account: &str,
        stream: &str,
        request: StreamConfigRequest,
        limits: &MetaLimits,
        created: WallTime,
    ) -> Result<CreateDecision<'_>, ApiError> {
        let config = config::check_create(request, stream, &limits.stream)?;
        if let Some(entry) = self.stream(account, stream) {
            if config::is_same(&entry.config, &config) {
                return Ok(CreateDecision::Existing(entry));
            }
            return Err(kinds::STREAM_NAME_EXIST.error());
        }
        let more = self.decided.get(account).map_or(0, Overlay::more_streams);
        let count = self.stream_count(account).saturating_add_signed(more);
        let max = limits.account.max_streams;
        if max >= 0 && count as u64 >= max as u64 {
            return Err(kinds::MAXIMUM_STREAMS_LIMIT.error());
        }
        self.check_bytes(account, &config, None, limits)?;
        self.check_overlap(account, &config, None)?;
        config::check_supported(&config)?;
        let entry =
            StreamEntry { id: self.next_stream(), shard: self.least_loaded(), created, config };
        let record = Record::Create { account: account.to_owned(), entry };
        Ok(CreateDecision::New(Box::new(record)))
    }

    /// Decides about a STREAM.UPDATE whose subject names `stream`.
    pub fn decide_update(
        &self,
        account: &str,
        stream: &str,
        request: StreamConfigRequest,
        limits: &MetaLimits,
    ) -> UpdateDecision {
        match self.try_update(account, stream, request, limits) {
            Ok(decision) => decision,
            Err(error) => UpdateDecision::Refuse(error),
        }
    }

    fn try_update(
        &self,
        account: &str,
        stream: &str,
        request: StreamConfigRequest,
        limits: &MetaLimits,
    ) -> Result<UpdateDecision, ApiError> {
        let config = config::check_update_request(request, stream, &limits.stream)?;
        let entry = self.stream(account, stream).ok_or(kinds::STREAM_NOT_FOUND.error())?;
        let config = config::check_update(&entry.config, config)?;
        self.check_bytes(account, &config, Some(&entry.config), limits)?;
        self.check_overlap(account, &config, Some(entry.id))?;
        config::check_supported(&config)?;
        let record = Record::Update { account: account.to_owned(), id: entry.id, config };
        Ok(UpdateDecision::Update { shard: entry.shard, record: Box::new(record) })
    }

    /// Decides about a STREAM.DELETE.
    pub fn decide_delete(&self, account: &str, stream: &str) -> DeleteDecision {
        match self.stream(account, stream) {
            Some(entry) => {
                let record = Record::Delete { id: entry.id, shard: entry.shard };
                DeleteDecision::Delete(Box::new(record))
            }
            None => DeleteDecision::Refuse(kinds::STREAM_NOT_FOUND.error()),
        }
    }

    fn check_overlap(
        &self,
        account: &str,
        config: &StreamConfig,
        except: Option<StreamId>,
    ) -> Result<(), ApiError> {
        let (applied, decided) = (self.accounts.get(account), self.decided.get(account));
        let overlaps = |s: &String| {
            let subject = s.as_bytes();
            decided.is_some_and(|d| d.changed.subjects.overlaps(subject, except))
                || applied.is_some_and(|a| match decided.filter(|d| d.hides_any()) {
                    None => a.subjects.overlaps(subject, except),
                    Some(d) => {
                        let mut found = false;
                        a.subjects.overlapping(subject, |id| {
                            found = Some(id) != except && !d.hides(id);
                            !found
                        });
                        found
                    }
                })
        };
        if config.subjects.iter().any(overlaps) {
            return Err(kinds::STREAM_SUBJECT_OVERLAP.error());
        }
        Ok(())
    }

    /// Whether `max_bytes` fits into what the account and the server have left.
    fn check_bytes(
        &self,
        account: &str,
        config: &StreamConfig,
        old: Option<&StreamConfig>,
        limits: &MetaLimits,
    ) -> Result<(), ApiError> {
        let memory = config.storage == StorageType::Memory;
        let of = |config: &StreamConfig| config.max_bytes.max(0);
        if limits.account.max_bytes_required && config.max_bytes <= 0 {
            return Err(kinds::STREAM_MAX_BYTES_REQUIRED.error());
        }
        let (stream_max, account_max, server_max, error) = if memory {
            let a = &limits.account;
            let error = kinds::MEMORY_RESOURCES_EXCEEDED;
            (a.memory_max_stream_bytes, a.max_memory, limits.server_memory, error)
        } else {
            let a = &limits.account;
            let error = kinds::STORAGE_RESOURCES_EXCEEDED;
            (a.storage_max_stream_bytes, a.max_storage, limits.server_storage, error)
        };
        if stream_max > 0 && of(config) > stream_max {
            return Err(kinds::STREAM_MAX_BYTES_EXCEEDS_ACCOUNT.error());
        }
        // As in nats-server, a new stream without a bound wants one byte: it is refused where
        // nothing is left.
        let more = match old {
            None => of(config).max(1),
            Some(old) => of(config) - of(old),
        };
        if more <= 0 {
            return Ok(());
        }
        let exceeds = |reserved: i64, max: i64| max >= 0 && reserved.saturating_add(more) > max;
        if exceeds(self.decided_bytes(account, memory), account_max) {
            return Err(error.error());
        }
        let new = self.decided.keys().filter(|name| !self.accounts.contains_key(*name));
        let all = self.accounts.keys().chain(new);
        let everywhere = all.map(|name| self.decided_bytes(name, memory)).sum();
        if exceeds(everywhere, server_max) {
            return Err(error.error());
        }
        Ok(())
    }

    fn reserved(&self, account: &str, memory: bool) -> i64 {
        self.accounts.get(account).map_or(0, |account| account.reserved[usize::from(!memory)])
    }

    /// What an account's streams reserve once all that was decided is applied.
    fn decided_bytes(&self, account: &str, memory: bool) -> i64 {
        let more = self.decided.get(account).map_or(0, |d| d.more_bytes(usize::from(!memory)));
        self.reserved(account, memory) + more
    }

    fn next_stream(&self) -> StreamId {
        StreamId(self.next_id.max(self.next_decided))
    }

    /// Bytes that an account's streams reserve by `max_bytes`: in memory, on disk.
    pub fn reserved_bytes(&self, account: &str) -> (u64, u64) {
        let of = |memory| u64::try_from(self.reserved(account, memory)).unwrap_or(0);
        (of(true), of(false))
    }

    fn least_loaded(&self) -> ShardId {
        let load = |(at, &load): (usize, &u64)| (load.saturating_add_signed(self.more_on[at]), at);
        let least = self.shards.iter().enumerate().min_by_key(|&shard| load(shard));
        ShardId(least.map_or(0, |(i, _)| i as u16))
    }

    /// Notes that a record was appended: later decisions see what it will do.
    pub fn decide(&mut self, record: &Record) {
        let (id, changed) = match record {
            Record::Create { entry, .. } => (entry.id, Some(entry.clone())),
            Record::Update { id, config, .. } => {
                let Some((_, entry)) = self.by_id(*id) else { return };
                (*id, Some(StreamEntry { config: config.clone(), ..entry.clone() }))
            }
            Record::Delete { id, .. } => (*id, None),
            Record::Forget { .. } | Record::NextId(_) => return,
        };
        let account = match record {
            Record::Create { account, .. } => account.clone(),
            _ => match self.by_id(id) {
                Some((account, _)) => account.to_owned(),
                None => return,
            },
        };
        self.next_decided = self.next_decided.max(id.0 + 1);
        self.count_decided(record, 1);
        let applied = self.accounts.get(&account);
        self.decided.entry(account).or_default().decide(applied, id, changed);
    }

    /// Whether something was decided and is not applied.
    pub fn is_changing(&self) -> bool {
        !self.decided.is_empty()
    }

    fn count_decided(&mut self, record: &Record, sign: i64) {
        let (shard, more) = match record {
            Record::Create { entry, .. } => (entry.shard, 1),
            Record::Delete { shard, .. } => (*shard, -1),
            _ => return,
        };
        if let Some(on) = self.more_on.get_mut(usize::from(shard.0)) {
            *on += sign * more;
        }
    }

    /// Does what a record says. Records of unknown streams are ignored: they were deleted since.
    pub fn apply(&mut self, record: &Record) {
        let id = match record {
            Record::Create { entry, .. } => entry.id,
            Record::Update { id, .. } | Record::Delete { id, .. } => *id,
            Record::Forget { .. } | Record::NextId(_) => return self.change(record),
        };
        let decided = self.decided.iter_mut().find(|(_, decided)| decided.has(id));
        let Some((account, decided)) = decided else { return self.change(record) };
        let account = account.clone();
        decided.before_apply(self.accounts.get(&account), id);
        self.change(record);
        self.count_decided(record, -1);
        if let Some(decided) = self.decided.get_mut(&account) {
            decided.after_apply(self.accounts.get(&account), id);
            if decided.is_empty() {
                self.decided.remove(&account);
            }
        }
    }

    fn change(&mut self, record: &Record) {
        match record {
            Record::Create { account, entry } => {
                self.next_id = self.next_id.max(entry.id.0 + 1);
                let account = self.accounts.entry(account.clone()).or_default();
                let known = account.remove(entry.id).is_some();
                account.insert(entry.clone());
                if !known {
                    self.count(entry.shard, 1);
                }
            }
            Record::Update { account, id, config } => {
                if let Some(account) = self.accounts.get_mut(account)
                    && let Some(mut entry) = account.remove(*id)
                {
                    entry.config = config.clone();
                    account.insert(entry);
                }
            }
            Record::Delete { id, shard } => {
                self.next_id = self.next_id.max(id.0 + 1);
                self.deleted.insert(*id, *shard);
                let gone = self.accounts.values_mut().find_map(|account| account.remove(*id));
                if gone.is_some() {
                    self.count(*shard, -1);
                }
            }
            Record::Forget { id } => {
                self.deleted.remove(id);
            }
            Record::NextId(id) => self.next_id = self.next_id.max(id.0),
        }
    }

    /// A shard that is no longer there (a store opened with fewer) is not counted.
    fn count(&mut self, shard: ShardId, change: i64) {
        if let Some(load) = self.shards.get_mut(usize::from(shard.0)) {
            *load = load.saturating_add_signed(change);
        }
    }

    /// A stream by its name, as it was decided last.
    pub fn stream(&self, account: &str, name: &str) -> Option<&StreamEntry> {
        let decided = self.decided.get(account);
        let changed = decided.and_then(|d| d.changed.streams.get(name));
        changed.or_else(|| {
            let entry = self.accounts.get(account)?.streams.get(name)?;
            (!decided.is_some_and(|d| d.hides(entry.id))).then_some(entry)
        })
    }

    /// A stream by its id, as it was decided last.
    pub fn by_id(&self, id: StreamId) -> Option<(&str, &StreamEntry)> {
        let mut decided = self.decided.iter();
        if let Some((name, decided)) = decided.find(|(_, decided)| decided.has(id)) {
            return Some((name, decided.changed.by_id(id)?));
        }
        let found = self.accounts.iter().find_map(|(name, a)| Some((name, a.by_id(id)?)))?;
        Some((found.0.as_str(), found.1))
    }

    /// Where a stream is, as far as that is applied.
    pub fn shard_of(&self, id: StreamId) -> Option<ShardId> {
        self.accounts.values().find_map(|account| account.by_id(id)).map(|entry| entry.shard)
    }

    /// An account's streams, by name.
    pub fn streams(&self, account: &str) -> impl Iterator<Item = &StreamEntry> {
        self.accounts.get(account).into_iter().flat_map(|account| account.streams.values())
    }

    /// Deleted streams that their shard has not yet confirmed: after recovery they are deleted
    /// again.
    pub fn deleted(&self) -> impl Iterator<Item = (StreamId, ShardId)> {
        self.deleted.iter().map(|(&id, &shard)| (id, shard))
    }

    /// The names of a STREAM.NAMES.
    pub fn names(&self, account: &str, request: &StreamsRequest) -> StreamNamesResponse {
        let page = self.page(account, request, NAMES_LIMIT);
        let names: Vec<String> = page.streams.iter().map(|s| s.config.name.clone()).collect();
        StreamNamesResponse {
            total: page.total,
            offset: page.offset,
            limit: page.limit,
            streams: (!names.is_empty()).then_some(names),
        }
    }

    /// The streams of a STREAM.LIST.
    pub fn list(&self, account: &str, request: &StreamsRequest) -> StreamPage<'_> {
        self.page(account, request, LIST_LIMIT)
    }

    fn page(&self, account: &str, request: &StreamsRequest, limit: usize) -> StreamPage<'_> {
        let mut page = StreamPage { total: 0, offset: 0, limit: limit as u64, streams: vec![] };
        let Some(account) = self.accounts.get(account) else { return page };
        let range;
        if request.subject.is_empty() {
            let total = account.streams.len();
            page.total = total as u64;
            range = page_range(request.offset, total, limit);
            page.streams = account.streams.values().skip(range.start).take(range.len()).collect();
        } else {
            let mut names = BTreeSet::new();
            account.subjects.overlapping(request.subject.as_bytes(), |id| {
                names.extend(account.names.get(&id));
                true
            });
            page.total = names.len() as u64;
            range = page_range(request.offset, names.len(), limit);
            let chosen = names.into_iter().skip(range.start).take(range.len());
            page.streams = chosen.filter_map(|name| account.streams.get(name)).collect();
        }
        page.offset = range.start as u64;
        page
    }

    /// How many streams an account has.
    pub fn stream_count(&self, account: &str) -> usize {
        self.accounts.get(account).map_or(0, |account| account.streams.len())
    }

    /// The records of a checkpoint that are not about a stream that is there: they come first.
    pub fn first_records(&self) -> impl Iterator<Item = Record> + '_ {
        let next = std::iter::once(Record::NextId(StreamId(self.next_id)));
        let deletes = self.deleted.iter().map(|(&id, &shard)| Record::Delete { id, shard });
        next.chain(deletes)
    }

    /// The accounts' streams behind this account and name, in order: so that a checkpoint can be
    /// cut into steps.
    pub fn streams_after<'a>(
        &'a self,
        after: Option<&(String, String)>,
    ) -> impl Iterator<Item = (&'a str, &'a StreamEntry)> {
        let (from, name) = after.cloned().unwrap_or_default();
        let accounts = self.accounts.range(from.clone()..);
        accounts.flat_map(move |(account, a)| {
            let low = if *account == from { name.clone() } else { String::new() };
            let streams = a.streams.range((Bound::Excluded(low), Bound::Unbounded));
            streams.map(move |(_, entry)| (account.as_str(), entry))
        })
    }
}
