//! Endpoints of what is not built yet, which show nothing in nats-server's shape, and those of the
//! one account that there is.

use super::args::Args;
use super::http::Answer;
use super::server::Shared;
use super::subscriptions::{self, Stats};
use crate::api::time::rfc3339;
use crate::types::WallTime;
use serde::Serialize;
use serde_json::{Map, Value, json};

/// `/routez`: no routes.
pub(super) fn routez(shared: &Shared, args: &Args<'_>, now: WallTime) -> Answer {
    if !args.text("subs").eq_ignore_ascii_case("detail")
        && let Err(text) = args.boolean("subs")
    {
        return Answer::refuse(400, text);
    }
    Answer::json(&json!({
        "server_id": shared.site.server_id,
        "server_name": shared.site.server_name,
        "now": rfc3339(now),
        "num_routes": 0,
        "routes": [],
    }))
}

/// `/gatewayz`: no gateways.
pub(super) fn gatewayz(shared: &Shared, args: &Args<'_>, now: WallTime) -> Answer {
    if let Err(text) = args.boolean("accs") {
        return Answer::refuse(400, text);
    }
    Answer::json(&json!({
        "server_id": shared.site.server_id,
        "now": rfc3339(now),
        "outbound_gateways": {},
        "inbound_gateways": {},
    }))
}

/// `/leafz`: no leaf nodes.
pub(super) fn leafz(shared: &Shared, args: &Args<'_>, now: WallTime) -> Answer {
    if let Err(text) = args.boolean("subs") {
        return Answer::refuse(400, text);
    }
    Answer::json(&json!({
        "server_id": shared.site.server_id,
        "now": rfc3339(now),
        "leafnodes": 0,
        "leafs": [],
    }))
}

/// `/raftz`: no consensus groups.
pub(super) fn raftz() -> Answer {
    Answer::refuse(404, "No Raft nodes registered".to_owned())
}

/// `/ipqueuesz`: queues inside nats-server; there are none.
pub(super) fn ipqueuesz() -> Answer {
    Answer::json(&Map::<String, Value>::new())
}

#[derive(Serialize)]
struct Accountz<'a> {
    server_id: &'a str,
    now: String,
    system_account: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    accounts: Option<[&'static str; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    account_detail: Option<Account<'a>>,
}

#[derive(Serialize)]
struct Account<'a> {
    account_name: &'a str,
    update_time: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    is_system: bool,
    expired: bool,
    complete: bool,
    jetstream_enabled: bool,
    leafnode_connections: u32,
    client_connections: u64,
    subscriptions: u64,
    name_tag: &'a str,
    sublist_stats: Stats,
}

/// `/accountz`: the global account, and the system account, which nobody is in.
pub(super) async fn accountz(shared: &Shared, args: &Args<'_>, now: WallTime) -> Answer {
    let account = args.text("acc");
    let system = account == super::SYSTEM_ACCOUNT;
    let mut document = Accountz {
        server_id: &shared.site.server_id,
        now: rfc3339(now),
        system_account: super::SYSTEM_ACCOUNT,
        accounts: None,
        account_detail: None,
    };
    if account.is_empty() {
        document.accounts = Some([super::SYSTEM_ACCOUNT, super::ACCOUNT]);
        return Answer::json(&document);
    }
    if !system && account != super::ACCOUNT {
        return Answer::refuse(400, format!("Account {account} does not exist"));
    }
    let (mut connections, mut stats) = (0, Stats::default());
    if !system {
        let Some(snapshot) = shared.snapshot().await else { return Answer::silent() };
        let Some(all) = subscriptions::stats(shared).await else { return Answer::silent() };
        (connections, stats) = (snapshot.totals().connections, all);
    }
    document.account_detail = Some(Account {
        account_name: account,
        update_time: rfc3339(shared.site.start),
        is_system: system,
        expired: false,
        complete: true,
        jetstream_enabled: !system && shared.site.options.jetstream.is_some(),
        leafnode_connections: 0,
        client_connections: connections,
        subscriptions: stats.num_subscriptions,
        name_tag: account,
        sublist_stats: stats,
    });
    Answer::json(&document)
}

/// `/accstatz`: traffic by account.
pub(super) async fn accstatz(shared: &Shared, args: &Args<'_>, now: WallTime) -> Answer {
    let unused = match args.boolean("unused") {
        Ok(unused) => unused,
        Err(text) => return Answer::refuse(400, text),
    };
    let Some(snapshot) = shared.snapshot().await else { return Answer::silent() };
    let total = snapshot.totals();
    let row = |name: &str, c: u64, subs: u64, sent: (u64, u64), received: (u64, u64), slow: u64| {
        let none = json!({ "msgs": 0, "bytes": 0 });
        let traffic = |(msgs, bytes): (u64, u64)| {
            json!({
                "msgs": msgs, "bytes": bytes, "gateways": none, "routes": none, "leafs": none,
            })
        };
        json!({
            "acc": name,
            "name": name,
            "conns": c,
            "leafnodes": 0,
            "total_conns": c,
            "num_subscriptions": subs,
            "sent": traffic(sent),
            "received": traffic(received),
            "slow_consumers": slow,
        })
    };
    let mut rows = Vec::new();
    if unused {
        rows.push(row(super::SYSTEM_ACCOUNT, 0, 0, (0, 0), (0, 0), 0));
    }
    if unused || total.connections > 0 || total.total_connections > 0 {
        rows.push(row(
            super::ACCOUNT,
            total.connections,
            total.subscriptions,
            (total.out_msgs, total.out_bytes),
            (total.in_msgs, total.in_bytes),
            total.slow_consumers,
        ));
    }
    Answer::json(&json!({
        "server_id": shared.site.server_id,
        "now": rfc3339(now),
        "account_statz": rows,
    }))
}
