//! Which path means what: a request's path and a snapshot in, an answer out.

use super::metrics::metrics;
use super::process::Usage;
use super::status::{Health, Site, Snapshot};
use super::varz::varz;
use crate::config::options::{CORELANE_VERSION, NATS_VERSION};
use crate::types::Timestamp;
use serde_json::json;
use std::collections::BTreeMap;

/// What a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    Index,
    Healthz,
    Varz,
    Metrics,
    Unknown,
}

impl Endpoint {
    /// The endpoint of a path below `base`, the query left out.
    pub(super) fn of(path: &str, base: &str) -> Endpoint {
        match path.strip_prefix(base) {
            Some("" | "/") => Endpoint::Index,
            Some("/healthz") => Endpoint::Healthz,
            Some("/varz") => Endpoint::Varz,
            Some("/metrics") => Endpoint::Metrics,
            _ => Endpoint::Unknown,
        }
    }

    /// True if the answer needs a snapshot.
    pub(super) fn needs_snapshot(self) -> bool {
        matches!(self, Endpoint::Healthz | Endpoint::Varz | Endpoint::Metrics)
    }

    /// The name under which `/varz` counts requests.
    pub(super) fn counted_as(self) -> Option<&'static str> {
        match self {
            Endpoint::Index => Some("/"),
            Endpoint::Healthz => Some("/healthz"),
            Endpoint::Varz => Some("/varz"),
            Endpoint::Metrics => Some("/metrics"),
            Endpoint::Unknown => None,
        }
    }
}

/// An answer, but for what HTTP itself adds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub status: u16,
    pub headers: &'static [(&'static str, &'static str)],
    pub body: String,
}

const JSON: &[(&str, &str)] =
    &[("Access-Control-Allow-Origin", "*"), ("Content-Type", "application/json")];
const HTML: &[(&str, &str)] = &[("Content-Type", "text/html; charset=utf-8")];
const METRICS: &[(&str, &str)] = &[("Content-Type", "text/plain; version=0.0.4; charset=utf-8")];
const TEXT: &[(&str, &str)] =
    &[("Content-Type", "text/plain; charset=utf-8"), ("X-Content-Type-Options", "nosniff")];

/// What the answers are made of.
pub(super) struct Facts<'a> {
    pub site: &'a Site,
    pub usage: Usage,
    pub requests: &'a BTreeMap<String, u64>,
    pub now: Timestamp,
}

/// The answer to a request. `snapshot` is `None` if nobody answered in time, or none was needed.
pub(super) fn answer(endpoint: Endpoint, facts: &Facts<'_>, snapshot: Option<&Snapshot>) -> Answer {
    let (site, usage) = (facts.site, &facts.usage);
    match (endpoint, snapshot) {
        (Endpoint::Index, _) => Answer { status: 200, headers: HTML, body: index() },
        (Endpoint::Unknown, _) => {
            Answer { status: 404, headers: TEXT, body: "404 page not found\n".to_owned() }
        }
        (Endpoint::Healthz, None) => unavailable("reactors do not answer"),
        (Endpoint::Healthz, Some(snapshot)) => match &snapshot.health {
            Health::Ok => Answer { status: 200, headers: JSON, body: r#"{"status":"ok"}"#.into() },
            Health::Unavailable(why) => unavailable(why),
        },
        (_, None) => {
            Answer { status: 503, headers: TEXT, body: "reactors do not answer\n".to_owned() }
        }
        (Endpoint::Varz, Some(snapshot)) => {
            let body = varz(site, snapshot, usage, facts.requests, facts.now);
            Answer { status: 200, headers: JSON, body }
        }
        (Endpoint::Metrics, Some(snapshot)) => {
            Answer { status: 200, headers: METRICS, body: metrics(site, snapshot, usage) }
        }
    }
}

fn unavailable(why: &str) -> Answer {
    let body = json!({ "status": "unavailable", "error": why }).to_string();
    Answer { status: 503, headers: JSON, body }
}

fn index() -> String {
    format!(
        "<html lang=\"en\">\n<head><title>corelane</title></head>\n<body>\n\
         <h1>corelane v{CORELANE_VERSION}</h1>\n<p>speaks NATS v{NATS_VERSION}</p>\n\
         <a href=./varz>General</a><br/>\n<a href=./healthz>Health Probe</a><br/>\n\
         <a href=./metrics>Prometheus Metrics</a>\n</body>\n</html>\n"
    )
}
