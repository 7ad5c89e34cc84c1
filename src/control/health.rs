//! `/healthz`: whether the server, an account, a stream or a consumer is fit for use.

use super::args::Args;
use super::http::Answer;
use super::server::Shared;
use super::status::Health;
use crate::api::json::go_quote;
use crate::inspect::{Page, Query};
use serde::Serialize;

/// What is wrong.
#[derive(Debug, PartialEq, Eq)]
struct Trouble<'a> {
    status: u16,
    kind: &'static str,
    account: &'a str,
    stream: &'a str,
    consumer: &'a str,
    text: String,
}

#[derive(Serialize)]
struct Healthz<'a> {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<[Detail<'a>; 1]>,
}

#[derive(Serialize)]
struct Detail<'a> {
    r#type: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    account: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    stream: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    consumer: &'a str,
    error: &'a str,
}

/// The answer.
pub(super) async fn answer(shared: &Shared, args: &Args<'_>) -> Answer {
    let switches = ["js-enabled", "js-enabled-only", "js-server-only", "js-meta-only"];
    let switched = switches.iter().try_for_each(|name| args.boolean(name).map(|_| ()));
    let details = match switched.and_then(|()| args.boolean("details")) {
        Ok(details) => details,
        Err(text) => return Answer::refuse(400, text),
    };
    match trouble(shared, args).await {
        None => show(200, &Healthz { status: "ok", error: None, errors: None }),
        Some(trouble) => refusal(&trouble, details),
    }
}

fn show(status: u16, document: &Healthz<'_>) -> Answer {
    Answer { status, ..Answer::compact_json(document) }
}

fn refusal(trouble: &Trouble<'_>, details: bool) -> Answer {
    let error = trouble.text.as_str();
    if details {
        let Trouble { kind, account, stream, consumer, .. } = *trouble;
        let errors = Some([Detail { r#type: kind, account, stream, consumer, error }]);
        return show(trouble.status, &Healthz { status: "error", error: None, errors });
    }
    let status = if trouble.status == 400 { "error" } else { "unavailable" };
    show(trouble.status, &Healthz { status, error: Some(error), errors: None })
}

async fn trouble<'a>(shared: &Shared, args: &'a Args<'_>) -> Option<Trouble<'a>> {
    let health = match shared.snapshot().await {
        Some(snapshot) => snapshot.health.clone(),
        None => Health::Unavailable("reactors do not answer".to_owned()),
    };
    let trouble = |status, kind, text: String| {
        Some(Trouble { status, kind, account: "", stream: "", consumer: "", text })
    };
    if let Health::Unavailable(text) = health {
        return trouble(503, "CONNECTION", text);
    }
    let (account, stream) = (args.text("account"), args.text("stream"));
    let consumer = args.text("consumer");
    let missing = |what: &str, whose: &str| {
        let text = format!("\"{what}\" must not be empty when checking {whose} health");
        trouble(400, "BAD_REQUEST", text)
    };
    if stream.is_empty() && !consumer.is_empty() {
        return missing("stream", "consumer");
    }
    if account.is_empty() && !stream.is_empty() {
        return missing("account", "stream");
    }
    if shared.site.options.jetstream.is_none() || account.is_empty() {
        return None;
    }
    let quoted = (go_quote(account), go_quote(stream), go_quote(consumer));
    if account != super::ACCOUNT {
        let text = format!("JetStream account {} not found", quoted.0);
        return Some(Trouble { account, ..trouble(404, "ACCOUNT", text)? });
    }
    if stream.is_empty() {
        return None;
    }
    let Some((has_stream, has_consumer)) = find(shared, stream, consumer).await else {
        return trouble(503, "CONNECTION", "reactors do not answer".to_owned());
    };
    if !has_stream {
        let text = format!("JetStream stream {} not found on account {}", quoted.1, quoted.0);
        return Some(Trouble { account, stream, ..trouble(404, "STREAM", text)? });
    }
    if !consumer.is_empty() && !has_consumer {
        let (account_name, stream_name, name) = quoted;
        let text = format!(
            "JetStream consumer {name} not found for stream {stream_name} on account {account_name}"
        );
        return Some(Trouble { account, stream, consumer, ..trouble(404, "CONSUMER", text)? });
    }
    None
}

/// Whether a stream is there, and its consumer.
async fn find(shared: &Shared, stream: &str, consumer: &str) -> Option<(bool, bool)> {
    let mut found = (false, false);
    for reactor in 0..shared.reactors() {
        let query = Query::Find { stream: stream.to_owned(), consumer: consumer.to_owned() };
        let Page::Found(has_stream, has_consumer) = shared.inspect(reactor, query).await? else {
            return None;
        };
        found = (found.0 || has_stream, found.1 || has_consumer);
    }
    Some(found)
}
