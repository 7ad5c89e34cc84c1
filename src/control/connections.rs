//! `/connz`: connections, open and closed.

use super::args::Args;
use super::http::Answer;
use super::server::Shared;
use super::varz::uptime;
use crate::api::time::{go_duration, rfc3339};
use crate::inspect::{Connection, Page, Query, Subscription};
use crate::types::WallTime;
use serde::Serialize;
use std::cmp::{Ordering, Reverse};
use std::collections::BTreeMap;

/// Connections of an answer where nothing is said.
pub(super) const LIMIT_DEFAULT: usize = 1024;
/// Connections, streams or subscriptions of an answer at most.
pub(super) const LIMIT_MAX: usize = 4096;
/// Connections that are gathered for an answer at most, those before its offset included.
const GATHERED_MAX: usize = 32 << 10;

/// By what connections are ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    Cid,
    Start,
    Subs,
    Pending,
    MsgsTo,
    MsgsFrom,
    BytesTo,
    BytesFrom,
    Last,
    Idle,
    Uptime,
    Stop,
    Reason,
    Rtt,
}

const SORTS: [(&str, Sort); 14] = [
    ("cid", Sort::Cid),
    ("start", Sort::Start),
    ("subs", Sort::Subs),
    ("pending", Sort::Pending),
    ("msgs_to", Sort::MsgsTo),
    ("msgs_from", Sort::MsgsFrom),
    ("bytes_to", Sort::BytesTo),
    ("bytes_from", Sort::BytesFrom),
    ("last", Sort::Last),
    ("idle", Sort::Idle),
    ("uptime", Sort::Uptime),
    ("stop", Sort::Stop),
    ("reason", Sort::Reason),
    ("rtt", Sort::Rtt),
];

impl Sort {
    /// The order in which nats-server shows connections: counts from the largest on, the longest
    /// idle first, the youngest first.
    fn compare(self, a: &Connection, b: &Connection) -> Ordering {
        let by = |key: fn(&Connection) -> i128| key(a).cmp(&key(b));
        let down = |key: fn(&Connection) -> i128| Reverse(key(a)).cmp(&Reverse(key(b)));
        let stop = |c: &Connection| c.stop.map_or(0, |(at, _)| i128::from(at.0));
        match self {
            Sort::Cid | Sort::Start => Ordering::Equal,
            Sort::Subs => down(|c| i128::from(c.subscriptions)),
            Sort::Pending => down(|c| i128::from(c.pending_bytes)),
            Sort::MsgsTo => down(|c| i128::from(c.out_msgs)),
            Sort::MsgsFrom => down(|c| i128::from(c.in_msgs)),
            Sort::BytesTo => down(|c| i128::from(c.out_bytes)),
            Sort::BytesFrom => down(|c| i128::from(c.in_bytes)),
            Sort::Last => down(|c| i128::from(c.last_activity.0)),
            Sort::Idle => by(|c| i128::from(c.last_activity.0)),
            Sort::Uptime => down(|c| i128::from(c.start.0)),
            Sort::Stop => Reverse(stop(a)).cmp(&Reverse(stop(b))),
            Sort::Reason => a.stop.map(|(_, why)| why).cmp(&b.stop.map(|(_, why)| why)),
            Sort::Rtt => down(|c| i128::from(c.rtt)),
        }
        .then(a.cid.cmp(&b.cid))
    }
}

/// What is asked for.
#[derive(Debug)]
pub(super) struct Options {
    sort: Sort,
    auth: bool,
    subs: bool,
    detail: bool,
    offset: usize,
    limit: usize,
    cid: u64,
    open: bool,
    closed: bool,
    user: String,
    account: String,
    mqtt_client: String,
}

impl Options {
    fn parse(args: &Args<'_>) -> Result<Options, String> {
        let sort = args.text("sort");
        let auth = args.boolean("auth")?;
        let detail = args.text("subs").eq_ignore_ascii_case("detail");
        let subs = !detail && args.boolean("subs")?;
        let (offset, limit) = (args.integer("offset")?, args.integer("limit")?);
        let cid = args.natural("cid")?;
        let (open, closed) = match args.text("state").to_ascii_lowercase().as_str() {
            "" | "open" => (true, false),
            "closed" => (false, true),
            "any" | "all" => (true, true),
            other => return Err(format!("Error decoding state for {other}")),
        };
        let known = SORTS.iter().find(|(name, _)| *name == sort).map(|(_, sort)| *sort);
        let sort = match known {
            None if sort.is_empty() => Sort::Cid,
            None => return Err(format!("invalid sorting option: {sort}")),
            Some(Sort::Stop | Sort::Reason) if open => {
                return Err(format!("sort by {sort} only valid on closed connections"));
            }
            Some(sort) => sort,
        };
        let limit = usize::try_from(limit).ok().filter(|&limit| limit > 0);
        Ok(Options {
            sort,
            auth,
            subs,
            detail,
            offset: usize::try_from(offset).unwrap_or(0),
            limit: if cid > 0 { 1 } else { limit.unwrap_or(LIMIT_DEFAULT).min(LIMIT_MAX) },
            cid,
            open,
            closed,
            user: args.text("user").to_owned(),
            account: args.text("acc").to_owned(),
            mqtt_client: args.text("mqtt_client").to_owned(),
        })
    }

    fn takes(&self, connection: &Connection) -> bool {
        (self.cid == 0 || self.cid == connection.cid)
            && (self.user.is_empty() || self.user == connection.user)
            && self.mqtt_client.is_empty()
    }
}

/// The first connections in an order, and how many there were of all.
struct Best {
    sort: Sort,
    most: usize,
    found: Vec<Connection>,
}

impl Best {
    fn add(&mut self, connection: Connection) {
        self.found.push(connection);
        if self.found.len() >= self.most.saturating_mul(2).max(LIMIT_DEFAULT) {
            self.cut();
        }
    }

    fn cut(&mut self) {
        let sort = self.sort;
        self.found.sort_by(|a, b| sort.compare(a, b));
        self.found.truncate(self.most);
    }
}

#[derive(Serialize)]
struct Connz<'a> {
    server_id: &'a str,
    now: String,
    num_connections: usize,
    total: u64,
    offset: usize,
    limit: usize,
    connections: Option<Vec<Shown<'a>>>,
}

#[derive(Serialize)]
struct Shown<'a> {
    cid: u64,
    kind: &'static str,
    r#type: &'static str,
    ip: &'a str,
    port: u16,
    start: String,
    last_activity: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rtt: Option<String>,
    uptime: String,
    idle: String,
    pending_bytes: u64,
    in_msgs: u64,
    out_msgs: u64,
    in_bytes: u64,
    out_bytes: u64,
    #[serde(skip_serializing_if = "is_zero")]
    stalls: u64,
    subscriptions: u32,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    lang: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    version: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    authorized_user: &'a str,
    #[serde(skip_serializing_if = "<[&str]>::is_empty")]
    subscriptions_list: Vec<&'a str>,
    #[serde(skip_serializing_if = "<[Detail<'_>]>::is_empty")]
    subscriptions_list_detail: Vec<Detail<'a>>,
    #[serde(skip_serializing_if = "str::is_empty")]
    name_tag: &'static str,
}

/// A subscription as `/connz` and `/subsz` show it.
#[derive(Serialize)]
pub(super) struct Detail<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    pub account: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub account_tag: &'static str,
    pub subject: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub qgroup: &'a str,
    pub sid: &'a str,
    pub msgs: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub max: u64,
    pub cid: u64,
}

impl<'a> Detail<'a> {
    pub(super) fn new(sub: &'a Subscription, account: &'static str) -> Detail<'a> {
        Detail {
            account,
            account_tag: account,
            subject: &sub.subject,
            qgroup: &sub.queue,
            sid: &sub.sid,
            msgs: sub.msgs,
            max: sub.max,
            cid: sub.cid,
        }
    }
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The answer.
pub(super) async fn answer(shared: &Shared, args: &Args<'_>, now: WallTime) -> Answer {
    let options = match Options::parse(args) {
        Ok(options) => options,
        Err(text) => return Answer::refuse(400, text),
    };
    if !options.account.is_empty() && options.account != super::ACCOUNT {
        // nats-server leaves its own id out where there is no such account.
        let document = Connz {
            server_id: "",
            now: rfc3339(now),
            num_connections: 0,
            total: 0,
            offset: options.offset,
            limit: options.limit,
            connections: None,
        };
        return Answer::json(&document);
    }
    match gather(shared, &options).await {
        None => Answer::silent(),
        Some((found, total, subs)) => {
            let connections: Vec<Shown<'_>> =
                found.iter().map(|c| shown(c, &options, &subs)).collect();
            Answer::json(&Connz {
                server_id: &shared.site.server_id,
                now: rfc3339(now),
                num_connections: connections.len(),
                total,
                offset: options.offset,
                limit: options.limit,
                connections: Some(connections),
            })
        }
    }
}

type Gathered = (Vec<Connection>, u64, BTreeMap<u64, Vec<Subscription>>);

/// The connections that are asked for, how many there are, and their subscriptions.
async fn gather(shared: &Shared, options: &Options) -> Option<Gathered> {
    let most = options.offset.saturating_add(options.limit).min(GATHERED_MAX);
    let mut best = Best { sort: options.sort, most, found: Vec::new() };
    let mut total = 0;
    for reactor in 0..shared.reactors() {
        for closed in [false, true] {
            if !(if closed { options.closed } else { options.open }) {
                continue;
            }
            let mut next = Some(0);
            while let Some(from) = next {
                let query =
                    if closed { Query::Closed { from } } else { Query::Connections { from } };
                let Page::Connections(page, more) = shared.inspect(reactor, query).await? else {
                    return None;
                };
                total += page.len() as u64;
                page.into_iter().filter(|c| options.takes(c)).for_each(|c| best.add(c));
                next = more;
            }
        }
    }
    best.cut();
    let found: Vec<Connection> = best.found.into_iter().skip(options.offset).collect();
    let mut subs: BTreeMap<u64, Vec<Subscription>> = BTreeMap::new();
    if (options.subs || options.detail) && !found.is_empty() {
        let mut of: Vec<u64> = found.iter().map(|c| c.cid).collect();
        of.sort_unstable();
        for sub in shared.subscriptions(&of, b"", LIMIT_MAX).await?.0 {
            subs.entry(sub.cid).or_default().push(sub);
        }
    }
    Some((found, total, subs))
}

fn shown<'a>(
    c: &'a Connection,
    options: &Options,
    subs: &'a BTreeMap<u64, Vec<Subscription>>,
) -> Shown<'a> {
    let subs = subs.get(&c.cid).map_or(&[][..], Vec::as_slice);
    Shown {
        cid: c.cid,
        kind: "Client",
        r#type: "nats",
        ip: &c.ip,
        port: c.port,
        start: rfc3339(c.start),
        last_activity: rfc3339(c.last_activity),
        stop: c.stop.map(|(at, _)| rfc3339(at)),
        reason: c.stop.map(|(_, reason)| reason),
        rtt: (c.rtt > 0).then(|| go_duration(c.rtt)),
        uptime: uptime(c.uptime),
        idle: uptime(c.idle),
        pending_bytes: c.pending_bytes,
        in_msgs: c.in_msgs,
        out_msgs: c.out_msgs,
        in_bytes: c.in_bytes,
        out_bytes: c.out_bytes,
        stalls: c.stalls,
        subscriptions: c.subscriptions,
        name: &c.name,
        lang: &c.lang,
        version: &c.version,
        authorized_user: if options.auth { &c.user } else { "" },
        subscriptions_list: match options.subs {
            true => subs.iter().map(|sub| sub.subject.as_str()).collect(),
            false => Vec::new(),
        },
        subscriptions_list_detail: match options.detail {
            true => subs.iter().map(|sub| Detail::new(sub, "")).collect(),
            false => Vec::new(),
        },
        name_tag: if options.auth { super::ACCOUNT } else { "" },
    }
}
