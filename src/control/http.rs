//! Which path means what, and what an answer is made of.

use super::metrics::metrics;
use super::process::Usage;
use super::status::{Site, Snapshot};
use super::varz::varz;
use crate::config::options::{CORELANE_VERSION, NATS_VERSION};
use crate::types::WallTime;
use serde::Serialize;
use std::collections::BTreeMap;

/// What a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    Index,
    Varz,
    Jsz,
    Connz,
    Accountz,
    Accstatz,
    Subsz,
    Routez,
    Leafz,
    Gatewayz,
    Raftz,
    Ipqueuesz,
    Healthz,
    Metrics,
    Unknown,
}

/// Paths, what they lead to, and what the index calls them; nothing where it leaves them out.
const PATHS: [(&str, Endpoint, &str); 14] = [
    ("/varz", Endpoint::Varz, "General"),
    ("/jsz", Endpoint::Jsz, "JetStream"),
    ("/connz", Endpoint::Connz, "Connections"),
    ("/accountz", Endpoint::Accountz, "Accounts"),
    ("/accstatz", Endpoint::Accstatz, "Account Stats"),
    ("/subsz", Endpoint::Subsz, "Subscriptions"),
    ("/subscriptionsz", Endpoint::Subsz, ""),
    ("/routez", Endpoint::Routez, "Routes"),
    ("/leafz", Endpoint::Leafz, "LeafNodes"),
    ("/gatewayz", Endpoint::Gatewayz, "Gateways"),
    ("/raftz", Endpoint::Raftz, "Raft Groups"),
    ("/ipqueuesz", Endpoint::Ipqueuesz, ""),
    ("/healthz", Endpoint::Healthz, "Health Probe"),
    ("/metrics", Endpoint::Metrics, "Prometheus Metrics"),
];

impl Endpoint {
    /// The endpoint of a path below `base`, the query left out.
    pub(super) fn of(path: &str, base: &str) -> Endpoint {
        match path.strip_prefix(base) {
            Some("" | "/") => Endpoint::Index,
            Some(path) => {
                let known = PATHS.iter().find(|(known, ..)| *known == path);
                known.map_or(Endpoint::Unknown, |(_, endpoint, _)| *endpoint)
            }
            None => Endpoint::Unknown,
        }
    }

    /// The name under which `/varz` counts requests.
    pub(super) fn counted_as(self) -> Option<&'static str> {
        match self {
            Endpoint::Index => Some("/"),
            Endpoint::Unknown => None,
            other => PATHS.iter().find(|(_, e, _)| *e == other).map(|(path, ..)| *path),
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
const PLAIN: &[(&str, &str)] = &[("Content-Type", "text/plain; charset=utf-8")];

impl Answer {
    /// A document, two spaces deep.
    pub(super) fn json(document: &impl Serialize) -> Answer {
        let body = serde_json::to_string_pretty(document).unwrap_or_default();
        Answer { status: 200, headers: JSON, body }
    }

    /// A document in one line.
    pub(super) fn compact_json(document: &impl Serialize) -> Answer {
        let body = serde_json::to_string(document).unwrap_or_default();
        Answer { status: 200, headers: JSON, body }
    }

    /// What is wrong with a request.
    pub(super) fn refuse(status: u16, text: String) -> Answer {
        Answer { status, headers: PLAIN, body: text }
    }

    /// Nobody leads there.
    pub(super) fn not_found() -> Answer {
        Answer { status: 404, headers: TEXT, body: "404 page not found\n".to_owned() }
    }

    /// A reactor did not answer in time.
    pub(super) fn silent() -> Answer {
        Answer { status: 503, headers: TEXT, body: "reactors do not answer\n".to_owned() }
    }

    /// Too many bytes of answers wait to be read.
    pub(super) fn busy() -> Answer {
        Answer { status: 503, headers: TEXT, body: "too many answers are being read\n".to_owned() }
    }
}

/// What `/varz` and `/metrics` are made of.
pub(super) struct Facts<'a> {
    pub site: &'a Site,
    pub usage: Usage,
    pub requests: &'a BTreeMap<String, u64>,
    pub now: WallTime,
}

impl Facts<'_> {
    pub(super) fn varz(&self, snapshot: &Snapshot) -> Answer {
        let body = varz(self.site, snapshot, &self.usage, self.requests, self.now);
        Answer { status: 200, headers: JSON, body }
    }

    pub(super) fn metrics(&self, snapshot: &Snapshot) -> Answer {
        let body = metrics(self.site, snapshot, &self.usage);
        Answer { status: 200, headers: METRICS, body }
    }
}

/// The page that lists all others.
pub(super) fn index() -> Answer {
    let mut links = String::new();
    for (path, _, name) in PATHS.iter().filter(|(.., name)| !name.is_empty()) {
        links.push_str(&format!("<a href=.{path}>{name}</a><br/>\n"));
    }
    let body = format!(
        "<html lang=\"en\">\n<head><title>corelane</title></head>\n<body>\n\
         <h1>corelane v{CORELANE_VERSION}</h1>\n<p>speaks NATS v{NATS_VERSION}</p>\n\
         {links}</body>\n</html>\n"
    );
    Answer { status: 200, headers: HTML, body }
}
