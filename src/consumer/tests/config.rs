//! What a consumer's configuration may be, against answers captured from nats-server 2.15.1.

use std::collections::BTreeMap;

use crate::api::cases::{at_our_level, parse, text};
use crate::api::error::{ApiError, kinds};
use crate::api::json::to_json;
use crate::api::metadata;
use crate::api::types::*;
use crate::consumer::config::*;
use crate::stream::config::{StreamLimits, check_create};
use crate::subject::api::{ApiRequest, ConsumerCreateSubject, parse as parse_subject};

struct Consumers {
    stream: StreamConfig,
    by_name: BTreeMap<String, ConsumerConfig>,
}

/// What a create answers, as the captures say it.
fn create(streams: &mut BTreeMap<String, Consumers>, verb: &str, body: &[u8]) -> String {
    let subject = format!("$JS.API.CONSUMER.{verb}");
    let Some(ApiRequest::ConsumerCreate(subject)) = parse_subject(subject.as_bytes()) else {
        panic!("{verb}");
    };
    match try_create(streams, &subject, body) {
        Ok(mut config) => {
            metadata::show_server(&mut config.metadata);
            format!("config {}", String::from_utf8_lossy(&to_json(&config)))
        }
        Err(error) => {
            let mut out = b"error ".to_vec();
            error.write_json(&mut out);
            String::from_utf8_lossy(&out).into_owned()
        }
    }
}

fn try_create(
    streams: &mut BTreeMap<String, Consumers>,
    subject: &ConsumerCreateSubject,
    body: &[u8],
) -> Result<ConsumerConfig, ApiError> {
    let request = CreateConsumerRequest::decode(body, true)?;
    let create = check_request(request, subject)?;
    let Some(stream) = streams.get_mut(subject.stream) else {
        return Err(kinds::STREAM_NOT_FOUND.error());
    };
    let create = check_name(create)?;
    let name = create.name.clone().unwrap_or_else(|| "*".to_owned());
    let existing = stream.by_name.get(&name);
    let decision = decide(
        &create,
        existing.map(|config| ExistingConsumer { config, active: false }),
        stream.by_name.len(),
        &stream.stream,
        &ConsumerServerLimits::default(),
    );
    match decision {
        ConsumerDecision::Existing => Ok(stream.by_name[&name].clone()),
        ConsumerDecision::Create(config) | ConsumerDecision::Update(config) => {
            stream.by_name.insert(name, (*config).clone());
            Ok(*config)
        }
        ConsumerDecision::Refuse(error) => Err(error),
    }
}

#[test]
fn consumer_configurations() {
    let mut streams: BTreeMap<String, Consumers> = BTreeMap::new();
    let cases = parse(include_str!("../testdata/consumers.txt"));
    let mut wrong = Vec::new();
    let mut count = 0;
    for case in &cases {
        match text(&case[0]) {
            "STREAM" => {
                let request = StreamConfigRequest::decode(&case[2], true).expect("json");
                let name = text(&case[1]);
                let stream =
                    check_create(request, name, &StreamLimits::default()).expect("a stream");
                let by_name = BTreeMap::new();
                streams.insert(name.to_owned(), Consumers { stream, by_name });
            }
            "DELETE" => {
                if let Some(stream) = streams.get_mut(text(&case[1])) {
                    let name = text(&case[2]);
                    if stream.by_name.remove(name).is_none() {
                        stream.by_name.remove("*");
                    }
                }
            }
            verb => {
                count += 1;
                let got = create(&mut streams, verb, &case[1]);
                let want = at_our_level(&case[2]);
                if got != want {
                    let body = String::from_utf8_lossy(&case[1]);
                    let short: String = body.chars().take(300).collect();
                    wrong.push(format!("{verb} {short}\n   got {got}\n  want {want}"));
                }
            }
        }
    }
    assert!(count > 500);
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn limits_that_consumers_violate() {
    let config = |threshold, pending| ConsumerConfig {
        inactive_threshold: threshold,
        max_ack_pending: pending,
        ..ConsumerConfig::default()
    };
    let consumers = [config(5, 0), config(0, 7), config(1, 1)];
    for (inactive_threshold, max_ack_pending, want) in [
        (0, 0, [false, false, false]),
        (5, 7, [false, false, false]),
        (4, 0, [true, false, false]),
        (4, 6, [true, true, false]),
        (-1, -1, [false, false, false]),
    ] {
        let limits = ConsumerLimits { inactive_threshold, max_ack_pending };
        let got = consumers.each_ref().map(|c| is_beyond(&limits, c));
        assert_eq!(got, want, "{limits:?}");
    }
}

fn consumer(config: &str, limits: &ConsumerServerLimits) -> Result<ConsumerConfig, ApiError> {
    let body = format!(r#"{{"stream_name":"S","config":{config}}}"#);
    let request = CreateConsumerRequest::decode(body.as_bytes(), true).expect(config);
    check(request.config, &StreamConfig::default(), limits, false)
}

#[test]
fn consumer_fields_that_are_not_supported() {
    for (field, value) in [
        ("ack_policy", r#""flow_control""#),
        ("direct", r#"true,"deliver_subject":"out""#),
        ("sourcing", "true"),
        ("pause_until", r#""2030-01-01T00:00:00Z""#),
        ("priority_groups", r#"["a"]"#),
        ("priority_policy", r#""overflow""#),
        ("priority_timeout", "5"),
    ] {
        let config = format!(r#"{{"{field}":{value}}}"#);
        let body = format!(r#"{{"stream_name":"S","config":{config}}}"#);
        let request = CreateConsumerRequest::decode(body.as_bytes(), true).expect(field);
        let create = ConsumerCreate {
            name: None,
            config: request.config,
            action: ConsumerAction::CreateOrUpdate,
            pedantic: false,
        };
        let (stream, limits) = (StreamConfig::default(), ConsumerServerLimits::default());
        let got = decide(&create, None, 0, &stream, &limits);
        assert_eq!(got, ConsumerDecision::Refuse(ApiError::field_not_supported(field)));
    }
}

#[test]
fn server_limits_of_consumers() {
    let limits =
        ConsumerServerLimits { max_ack_pending: 100, max_request_batch: 10, ..Default::default() };
    for (config, want) in [
        (r#"{"ack_policy":"explicit"}"#, Ok((100, 10))),
        (r#"{"ack_policy":"explicit","max_ack_pending":5,"max_batch":3}"#, Ok((5, 3))),
        (
            r#"{"ack_policy":"explicit","max_ack_pending":101}"#,
            Err("consumer max ack pending exceeds system limit of 100"),
        ),
        (r#"{"max_batch":11}"#, Err("consumer max request batch exceeds server limit of 10")),
    ] {
        let got = consumer(config, &limits).map(|c| (c.max_ack_pending, c.max_batch));
        let got = got.map_err(|e| e.description.into_owned());
        assert_eq!(got, want.map_err(str::to_owned), "{config}");
    }
}

#[test]
fn an_active_push_consumer_keeps_its_delivery_subject() {
    let limits = ConsumerServerLimits::default();
    let stream = StreamConfig::default();
    let old = consumer(r#"{"name":"C","deliver_subject":"a"}"#, &limits).expect("valid");
    let mut new = old.clone();
    new.deliver_subject = "b".to_owned();
    let create = ConsumerCreate {
        name: Some("C".to_owned()),
        config: new.clone(),
        action: ConsumerAction::CreateOrUpdate,
        pedantic: false,
    };
    for (active, want) in [(true, Some(10_013)), (false, None)] {
        let existing = ExistingConsumer { config: &old, active };
        let got = decide(&create, Some(existing), 1, &stream, &limits);
        match (got, want) {
            (ConsumerDecision::Refuse(error), Some(code)) => assert_eq!(error.err_code, code),
            (ConsumerDecision::Update(config), None) => assert_eq!(*config, new),
            (got, want) => panic!("{got:?} {want:?}"),
        }
    }
}
