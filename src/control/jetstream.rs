//! `/jsz`: JetStream, its streams and their consumers.

use super::args::Args;
use super::connections::LIMIT_MAX;
use super::http::Answer;
use super::server::Shared;
use super::varz::{self, Api, JetStreamConfig, JetStreamLimits};
use crate::api::time::GoTime;
use crate::api::time::rfc3339;
use crate::api::types::{ClusterInfo, ConsumerInfo, StreamConfig, StreamInfo, StreamState};
use crate::inspect::{Page, Query};
use crate::types::WallTime;
use serde::Serialize;

/// How often a stream's first message is read for its time before it is left out.
const TIMES_ASKED: usize = 50;

#[derive(Clone, Copy, Default)]
struct Options {
    accounts: bool,
    streams: bool,
    consumers: bool,
    config: bool,
    raft: bool,
    offset: usize,
    leader_only: bool,
}

impl Options {
    fn parse(args: &Args<'_>) -> Result<Options, String> {
        let accounts = args.boolean("accounts")?;
        let streams = args.boolean("streams")?;
        let consumers = args.boolean("consumers")?;
        args.boolean("direct-consumers")?;
        let config = args.boolean("config")?;
        let (offset, _) = (args.integer("offset")?, args.integer("limit")?);
        let leader_only = args.boolean("leader-only")?;
        let raft = args.boolean("raft")?;
        args.boolean("stream-leader-only")?;
        let streams = streams || consumers;
        let named = args.text("acc") == super::ACCOUNT;
        Ok(Options {
            accounts: accounts || streams || named,
            streams,
            consumers,
            config,
            raft,
            // An account that is named is shown whatever the offset.
            offset: if named { 0 } else { usize::try_from(offset).unwrap_or(0) },
            leader_only,
        })
    }
}

#[derive(Serialize)]
struct Usage {
    memory: u64,
    storage: u64,
    reserved_memory: u64,
    reserved_storage: u64,
    accounts: u64,
    ha_assets: u64,
    api: Api,
}

#[derive(Serialize)]
struct Jsz<'a> {
    #[serde(flatten)]
    usage: Usage,
    server_id: &'a str,
    now: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    disabled: bool,
    config: JetStreamConfig<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limits: Option<JetStreamLimits>,
    streams: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    streams_leader: Option<u64>,
    consumers: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    consumers_leader: Option<u64>,
    messages: u64,
    bytes: u64,
    #[serde(skip_serializing_if = "<[Account<'_>]>::is_empty")]
    account_details: Vec<Account<'a>>,
    total: usize,
}

#[derive(Serialize)]
struct Account<'a> {
    name: &'static str,
    id: &'static str,
    #[serde(flatten)]
    usage: Usage,
    #[serde(skip_serializing_if = "<[Stream<'_>]>::is_empty")]
    stream_detail: Vec<Stream<'a>>,
}

#[derive(Serialize)]
struct Stream<'a> {
    name: &'a str,
    created: GoTime,
    cluster: ClusterInfo,
    #[serde(skip_serializing_if = "Option::is_none")]
    config: Option<&'a StreamConfig>,
    state: &'a StreamState,
    #[serde(skip_serializing_if = "<[ConsumerInfo]>::is_empty")]
    consumer_detail: &'a [ConsumerInfo],
}

/// A stream with its consumers.
struct Found {
    info: StreamInfo,
    consumers: Vec<ConsumerInfo>,
}

/// The answer.
pub(super) async fn answer(shared: &Shared, args: &Args<'_>, now: WallTime) -> Answer {
    let options = match Options::parse(args) {
        Ok(options) => options,
        Err(text) => return Answer::refuse(400, text),
    };
    let site = &shared.site;
    let enabled = site.options.jetstream.is_some();
    if options.leader_only && !enabled {
        return Answer::refuse(400, "filtered response: not leader".to_owned());
    }
    let Some(snapshot) = shared.snapshot().await else { return Answer::silent() };
    let stats = snapshot.jetstream.unwrap_or_default();
    let mut found = Vec::new();
    if enabled && options.streams && options.offset == 0 {
        let Some(all) = gather(shared, options).await else { return Answer::silent() };
        found = all;
    }
    let streams = found.iter().map(|found| stream(found, options, &site.server_name)).collect();
    let usage = |reserved: Option<u64>, accounts, level| Usage {
        memory: stats.memory,
        storage: stats.storage,
        reserved_memory: reserved.unwrap_or(stats.reserved_memory),
        reserved_storage: reserved.unwrap_or(stats.reserved_storage),
        accounts,
        ha_assets: 0,
        api: Api::new(level, &stats),
    };
    let details = (enabled && options.accounts && options.offset == 0).then(|| Account {
        name: super::ACCOUNT,
        id: super::ACCOUNT,
        // An account without limits reserves -1 at nats-server, shown as the number without sign.
        usage: usage(Some(u64::MAX), 0, 0),
        stream_detail: streams,
    });
    let level = if enabled { site.api_level } else { 0 };
    let accounts = if enabled { stats.accounts } else { 0 };
    let js = varz::jetstream(site, &snapshot);
    Answer::json(&Jsz {
        usage: usage(None, accounts, level),
        server_id: &site.server_id,
        now: rfc3339(now),
        disabled: !enabled,
        config: js.config.unwrap_or_default(),
        limits: js.limits,
        streams: stats.streams,
        streams_leader: (options.raft && enabled).then_some(stats.streams),
        consumers: stats.consumers,
        consumers_leader: (options.raft && enabled).then_some(stats.consumers),
        messages: stats.messages,
        bytes: stats.bytes,
        account_details: details.into_iter().collect(),
        total: usize::try_from(accounts).unwrap_or(0),
    })
}

fn stream<'a>(found: &'a Found, options: Options, leader: &str) -> Stream<'a> {
    let info = &found.info;
    Stream {
        name: &info.config.name,
        created: info.created,
        cluster: ClusterInfo { leader: leader.to_owned() },
        config: options.config.then_some(&info.config),
        state: &info.state,
        consumer_detail: &found.consumers,
    }
}

/// Streams and consumers, at most [`LIMIT_MAX`] together, in the order of their names.
async fn gather(shared: &Shared, options: Options) -> Option<Vec<Found>> {
    let mut found: Vec<Found> = Vec::new();
    let mut room = LIMIT_MAX;
    for reactor in 0..shared.reactors() {
        let mut next = Some((0, 0));
        while let Some(from) = next.filter(|_| room > 0) {
            let (page, more) = streams(shared, reactor, from).await?;
            for info in page.into_iter().take(room) {
                room -= 1;
                let mut consumers = Vec::new();
                if options.consumers && info.state.consumer_count > 0 {
                    consumers = consumers_of(shared, reactor, &info, options, &mut room).await?;
                }
                found.push(Found { info, consumers });
            }
            next = more;
        }
    }
    found.sort_by(|a, b| a.info.config.name.cmp(&b.info.config.name));
    Some(found)
}

/// A page of streams. The times of first messages may have to be read first.
async fn streams(
    shared: &Shared,
    reactor: usize,
    from: (usize, usize),
) -> Option<(Vec<StreamInfo>, Option<(usize, usize)>)> {
    for asked in 0.. {
        let query = Query::Streams { from };
        let Page::Streams(page, more) = shared.inspect(reactor, query).await? else {
            return None;
        };
        let known = |info: &StreamInfo| info.state.messages == 0 || !info.state.first_ts.is_zero();
        if asked == TIMES_ASKED || page.iter().all(known) {
            return Some((page, more));
        }
    }
    None
}

async fn consumers_of(
    shared: &Shared,
    reactor: usize,
    stream: &StreamInfo,
    options: Options,
    room: &mut usize,
) -> Option<Vec<ConsumerInfo>> {
    let mut all: Vec<ConsumerInfo> = Vec::new();
    let mut more = true;
    while more && *room > 0 {
        let after = all.last().map(|last| last.name.clone()).unwrap_or_default();
        let query = Query::Consumers { stream: stream.config.name.clone(), after };
        let Page::Consumers(page, follows) = shared.inspect(reactor, query).await? else {
            return None;
        };
        more = follows && !page.is_empty();
        for mut info in page.into_iter().take(*room) {
            *room -= 1;
            if !options.config {
                info.config = None;
            }
            all.push(info);
        }
    }
    Some(all)
}
