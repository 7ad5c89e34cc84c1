//! `/subsz`: subscriptions, and what is known of matching them.

use super::args::Args;
use super::connections::{Detail, LIMIT_DEFAULT, LIMIT_MAX};
use super::http::Answer;
use super::server::Shared;
use crate::api::time::rfc3339;
use crate::inspect::{Matching, Page, Query};
use crate::subject;
use crate::types::WallTime;
use serde::Serialize;

/// What is known of matching, with nats-server's names.
#[derive(Default, Serialize)]
pub(super) struct Stats {
    pub num_subscriptions: u64,
    num_cache: u64,
    num_inserts: u64,
    num_removes: u64,
    num_matches: u64,
    cache_hit_rate: f64,
    max_fanout: u64,
    avg_fanout: f64,
}

#[derive(Serialize)]
struct Subsz<'a> {
    server_id: &'a str,
    now: String,
    #[serde(flatten)]
    stats: Stats,
    total: u64,
    offset: usize,
    limit: usize,
    #[serde(skip_serializing_if = "<[Detail<'_>]>::is_empty")]
    subscriptions_list: Vec<Detail<'a>>,
}

fn rate(part: u64, all: u64) -> f64 {
    if all == 0 { 0.0 } else { part as f64 / all as f64 }
}

/// The sums over all reactors; `None` if one does not answer.
pub(super) async fn stats(shared: &Shared) -> Option<Stats> {
    let mut sum = Matching::default();
    for reactor in 0..shared.reactors() {
        let Page::Matching(one) = shared.inspect(reactor, Query::Matching).await? else {
            return None;
        };
        sum.subscriptions += one.subscriptions;
        sum.inserts += one.inserts;
        sum.removes += one.removes;
        sum.matches += one.matches;
        sum.searches += one.searches;
        sum.plans += one.plans;
        sum.fanout += one.fanout;
        sum.fanout_max = sum.fanout_max.max(one.fanout_max);
    }
    Some(Stats {
        num_subscriptions: sum.subscriptions,
        num_cache: sum.plans,
        num_inserts: sum.inserts,
        num_removes: sum.removes,
        num_matches: sum.matches,
        cache_hit_rate: rate(sum.matches.saturating_sub(sum.searches), sum.matches),
        max_fanout: sum.fanout_max,
        avg_fanout: rate(sum.fanout, sum.plans),
    })
}

/// The answer.
pub(super) async fn answer(shared: &Shared, args: &Args<'_>, now: WallTime) -> Answer {
    let parsed = args
        .boolean("subs")
        .and_then(|subs| Ok((subs, args.integer("offset")?, args.integer("limit")?)));
    let (wanted, offset, limit) = match parsed {
        Ok(parsed) => parsed,
        Err(text) => return Answer::refuse(400, text),
    };
    let test = args.text("test");
    if !test.is_empty() && !subject::is_valid_literal(test.as_bytes()) {
        let text = format!("invalid test subject, must be valid publish subject: {test}");
        return Answer::refuse(400, text);
    }
    let offset = usize::try_from(offset).unwrap_or(0);
    let limit = usize::try_from(limit).ok().filter(|&limit| limit > 0);
    let limit = limit.unwrap_or(LIMIT_DEFAULT).min(LIMIT_MAX);
    let account = args.text("acc");
    let known = account.is_empty() || account == super::ACCOUNT;
    let (mut stats, mut found, mut total) = (Stats::default(), Vec::new(), 0);
    if known {
        let Some(all) = self::stats(shared).await else { return Answer::silent() };
        stats = all;
        if wanted {
            let most = offset.saturating_add(limit).min(LIMIT_MAX);
            let gathered = shared.subscriptions(&[], test.as_bytes(), most).await;
            let Some(gathered) = gathered else { return Answer::silent() };
            (found, total) = gathered;
        }
    }
    let list = found.iter().skip(offset).take(limit);
    Answer::json(&Subsz {
        server_id: &shared.site.server_id,
        now: rfc3339(now),
        stats,
        total,
        offset,
        limit,
        subscriptions_list: list.map(|sub| Detail::new(sub, super::ACCOUNT)).collect(),
    })
}
