//! The API against answers captured from nats-server 2.15.1.

use std::collections::BTreeMap;

use super::cases::{parse, text};
use super::error::ApiError;
use super::json::to_json;
use super::metadata;
use super::types::*;
use crate::stream::config::{StreamLimits, check_create, check_supported};
use crate::subject::api::{ApiRequest, parse as parse_subject};

fn decode_error(verb: &str, body: &[u8]) -> Option<ApiError> {
    let subject = format!("$JS.API.{verb}");
    match parse_subject(subject.as_bytes()).expect(verb) {
        ApiRequest::StreamCreate(_) | ApiRequest::StreamUpdate(_) => {
            StreamConfigRequest::decode(body, true).err()
        }
        ApiRequest::StreamNames => StreamsRequest::decode_names(body, true).err(),
        ApiRequest::StreamList => StreamsRequest::decode_list(body, true).err(),
        ApiRequest::StreamInfo(_) => StreamInfoRequest::decode_info(body, true).err(),
        ApiRequest::StreamPurge(_) => PurgeRequest::decode_purge(body, true).err(),
        ApiRequest::MsgGet(_) => MsgGetRequest::decode(body, true).err(),
        ApiRequest::MsgDelete(_) => MsgDeleteRequest::decode_delete(body, true).err(),
        ApiRequest::ConsumerCreate(_) => CreateConsumerRequest::decode(body, true).err(),
        ApiRequest::ConsumerNames(_) | ApiRequest::ConsumerList(_) => {
            ConsumersRequest::decode_list(body, true).err()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn json_errors() {
    let cases = parse(include_str!("testdata/json_errors.txt"));
    assert!(cases.len() > 150);
    let mut wrong = Vec::new();
    for case in &cases {
        let [verb, body, want] = &case[..] else { panic!("{case:?}") };
        let got = decode_error(text(verb), body).map(|e| e.description.into_owned());
        if got.as_deref() != Some(text(want)) {
            let body = String::from_utf8_lossy(body);
            wrong.push(format!("{}\n   got {got:?}\n  want {}", body, text(want)));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn responses() {
    let mut out = Vec::new();
    write_response(&mut out, ResponseType::StreamDelete, &Success::YES);
    assert_eq!(
        text(&out),
        r#"{"type":"io.nats.jetstream.api.v1.stream_delete_response","success":true}"#
    );
    out.clear();
    let error = super::error::kinds::STREAM_NOT_FOUND.error();
    write_error(&mut out, ResponseType::StreamInfo, &error);
    assert_eq!(
        text(&out),
        concat!(
            r#"{"type":"io.nats.jetstream.api.v1.stream_info_response","error":{"code":404,"#,
            r#""err_code":10059,"description":"stream not found"},"total":0,"offset":0,"limit":0}"#
        )
    );
    out.clear();
    let message = StoredMessage {
        subject: "s.x",
        seq: 1,
        headers: b"",
        payload: b"hello",
        time: super::time::parse_time("2026-11-23T02:24:06.278797458Z").expect("a time"),
    };
    write_msg_get(&mut out, &message);
    assert_eq!(
        text(&out),
        concat!(
            r#"{"type":"io.nats.jetstream.api.v1.stream_msg_get_response","message":"#,
            r#"{"subject":"s.x","seq":1,"data":"aGVsbG8=","#,
            r#""time":"2026-11-23T02:24:06.278797458Z"}}"#
        )
    );
    out.clear();
    let info = AccountInfo { streams: 5, consumers: 3, ..AccountInfo::default() };
    write_response(&mut out, ResponseType::AccountInfo, &info);
    assert_eq!(
        text(&out),
        concat!(
            r#"{"type":"io.nats.jetstream.api.v1.account_info_response","memory":0,"storage":0,"#,
            r#""reserved_memory":0,"reserved_storage":0,"streams":5,"consumers":3,"limits":"#,
            r#"{"max_memory":-1,"max_storage":-1,"max_streams":-1,"max_consumers":-1,"#,
            r#""max_ack_pending":-1,"memory_max_stream_bytes":-1,"storage_max_stream_bytes":-1,"#,
            r#""max_bytes_required":false},"api":{"level":0,"total":0,"errors":0}}"#
        )
    );
}

/// Captured from nats-server 2.15.1.
#[test]
fn infos() {
    let at = |text| super::time::parse_time(text).expect("a time");
    let state = StreamState {
        messages: 1,
        bytes: 38,
        first_seq: 1,
        first_ts: at("2026-11-23T02:24:06.278797458Z"),
        last_seq: 1,
        last_ts: at("2026-11-23T02:24:06.278797458Z"),
        num_subjects: 1,
        subjects: BTreeMap::from([("s.>".to_owned(), 1)]),
        consumer_count: 4,
        ..StreamState::default()
    };
    assert_eq!(
        text(&to_json(&state)),
        concat!(
            r#"{"messages":1,"bytes":38,"first_seq":1,"#,
            r#""first_ts":"2026-11-23T02:24:06.278797458Z","#,
            r#""last_seq":1,"last_ts":"2026-11-23T02:24:06.278797458Z","num_subjects":1,"#,
            r#""subjects":{"s.\u003e":1},"consumer_count":4}"#
        )
    );
    let info = ConsumerInfo {
        stream_name: "S".to_owned(),
        name: "c".to_owned(),
        delivered: SequenceInfo { stream_seq: 2, ..SequenceInfo::default() },
        ..ConsumerInfo::default()
    };
    assert_eq!(
        text(&to_json(&info)),
        concat!(
            r#"{"stream_name":"S","name":"c","created":"0001-01-01T00:00:00Z","delivered":"#,
            r#"{"consumer_seq":0,"stream_seq":2},"ack_floor":{"consumer_seq":0,"stream_seq":0},"#,
            r#""num_ack_pending":0,"num_redelivered":0,"num_waiting":0,"num_pending":0,"#,
            r#""ts":"0001-01-01T00:00:00Z"}"#
        )
    );
}

/// As nats-server 2.15.1 answers.
#[test]
fn pull_requests() {
    let one = PullRequest { batch: 1, ..PullRequest::default() };
    let batch = |batch| Ok(PullRequest { batch, ..one.clone() });
    let type_error = "json: cannot unmarshal string into Go struct field .batch of type int";
    for (body, want) in [
        ("", batch(1)),
        ("5", batch(5)),
        (" 5 ", batch(5)),
        ("+3", batch(3)),
        ("-5", batch(-5)),
        ("0", batch(0)),
        ("abc", batch(1)),
        ("2.5", batch(1)),
        ("[]", batch(1)),
        ("{}", batch(0)),
        (r#"{"batch":-1}"#, batch(-1)),
        (r#"{"batch":3,"zz":1}"#, batch(3)),
        (r#"{"expires":5,"no_wait":true}"#, {
            Ok(PullRequest { batch: 0, expires: 5, no_wait: true, ..one.clone() })
        }),
        (r#"{"batch":"x"}"#, Err(type_error)),
        ("{bad", Err("invalid character 'b' looking for beginning of object key string")),
        (r#"{"batch":"x"} x"#, Err("invalid character 'x' after top-level value")),
        (r#"{"batch":1"#, Err("unexpected end of JSON input")),
    ] {
        assert_eq!(PullRequest::decode(body.as_bytes()), want.map_err(str::to_owned), "{body}");
    }
}

#[test]
fn empty_requests() {
    for (body, want) in [
        ("", true),
        ("{}", true),
        ("{ }", true),
        (" ", false),
        ("[]", false),
        ("null", false),
        ("x", false),
        ("{} x", false),
        (r#"{"a":1}"#, false),
    ] {
        assert_eq!(is_empty_request(body.as_bytes()), want, "{body:?}");
    }
}

/// Captured from nats-server 2.15.1, but for the API level.
#[test]
fn stream_infos() {
    let body = br#"{"name":"S","subjects":["s.>"]}"#;
    let request = StreamConfigRequest::decode(body, true).expect("json");
    let mut config = check_create(request, "S", &StreamLimits::default()).expect("valid");
    metadata::show_server(&mut config.metadata);
    let at = |text| super::time::parse_time(text).expect("a time");
    let mut info = StreamInfo {
        config,
        created: at("2026-11-23T02:24:06.269407318Z"),
        ts: at("2026-11-23T02:24:06.270432627Z"),
        ..StreamInfo::default()
    };
    let config = concat!(
        r#""config":{"name":"S","subjects":["s.\u003e"],"retention":"limits","#,
        r#""max_consumers":-1,"max_msgs":-1,"max_bytes":-1,"max_age":0,"#,
        r#""max_msgs_per_subject":-1,"max_msg_size":-1,"discard":"old","storage":"file","#,
        r#""num_replicas":1,"duplicate_window":120000000000,"compression":"none","#,
        r#""allow_direct":false,"mirror_direct":false,"sealed":false,"deny_delete":false,"#,
        r#""deny_purge":false,"allow_rollup_hdrs":false,"consumer_limits":{},"#,
        r#""allow_msg_ttl":false,"metadata":{"_nats.level":"0","_nats.req.level":"0","#,
        r#""_nats.ver":"2.15.1"}},"created":"2026-11-23T02:24:06.269407318Z","#,
        r#""state":{"messages":0,"bytes":0,"first_seq":0,"first_ts":"0001-01-01T00:00:00Z","#,
        r#""last_seq":0,"last_ts":"0001-01-01T00:00:00Z","consumer_count":0}"#
    );
    let ts = r#""ts":"2026-11-23T02:24:06.270432627Z""#;
    let mut out = Vec::new();
    let created = StreamCreated { info: &info, did_create: true };
    write_response(&mut out, ResponseType::StreamCreate, &created);
    let head = r#"{"type":"io.nats.jetstream.api.v1.stream_create_response","#;
    assert_eq!(text(&out), format!(r#"{head}{config},{ts},"did_create":true}}"#));
    out.clear();
    info.cluster = Some(ClusterInfo { leader: "srv".to_owned() });
    let shown = StreamInfoResponse { total: 0, offset: 0, limit: 0, info: &info };
    write_response(&mut out, ResponseType::StreamInfo, &shown);
    let head = r#"{"type":"io.nats.jetstream.api.v1.stream_info_response","#;
    let totals = r#""total":0,"offset":0,"limit":0"#;
    let cluster = r#""cluster":{"leader":"srv"}"#;
    assert_eq!(text(&out), format!("{head}{totals},{config},{cluster},{ts}}}"));
}

fn stream_error(body: &str, limits: &StreamLimits) -> Option<String> {
    let request = StreamConfigRequest::decode(body.as_bytes(), true).expect(body);
    let checked = check_create(request, "S", limits);
    let refused = checked.and_then(|config| check_supported(&config)).err()?;
    assert_eq!(refused.err_code, 10_052, "{body}");
    Some(refused.description.into_owned())
}

#[test]
fn stream_fields_that_are_not_supported() {
    for (field, value) in [
        ("retention", r#""interest""#),
        ("mirror", r#"{"name":"A"}"#),
        ("sources", r#"[{"name":"A"}]"#),
        ("compression", r#""s2""#),
        ("subject_transform", r#"{"src":"a","dest":"b"}"#),
        ("republish", r#"{"src":"a","dest":"b"}"#),
        ("allow_rollup_hdrs", "true"),
        ("allow_msg_ttl", "true"),
        ("subject_delete_marker_ttl", "1000000000"),
        ("allow_msg_counter", "true"),
        ("allow_msg_schedules", "true"),
    ] {
        let body = format!(r#"{{"name":"S","{field}":{value}}}"#);
        let got = stream_error(&body, &StreamLimits::default());
        assert_eq!(got, Some(format!("{field} is not supported yet")));
    }
    let body = r#"{"name":"S","allow_atomic":true,"allow_batched":true,"compression":"none"}"#;
    assert_eq!(stream_error(body, &StreamLimits::default()), None);
}

#[test]
fn server_limit_of_the_duplicate_window() {
    let limits = StreamLimits { duplicate_window: 60_000_000_000 };
    for (body, want) in [
        (r#"{"name":"S"}"#, None),
        (r#"{"name":"S","duplicate_window":60000000000}"#, None),
        (
            r#"{"name":"S","duplicate_window":60000000001}"#,
            Some("duplicates window can not be larger then server limit of 1m0s"),
        ),
    ] {
        assert_eq!(stream_error(body, &limits).as_deref(), want);
    }
    let request = StreamConfigRequest::decode(br#"{"name":"S"}"#, true).expect("json");
    let config = check_create(request, "S", &limits).expect("valid");
    assert_eq!(config.duplicate_window, 60_000_000_000);
}

/// Bodies damaged at random are accepted exactly if serde_json accepts them.
#[test]
fn syntax_agrees_with_serde() {
    let cases = parse(include_str!("testdata/json_errors.txt"));
    let consumers = parse(include_str!("../consumer/testdata/consumers.txt"));
    let mut bodies: Vec<&[u8]> = cases.iter().map(|case| &case[1][..]).collect();
    bodies.extend(consumers.iter().take(200).map(|case| &case[1][..]));
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as usize % bound
    };
    const BYTES: &[u8] = b"{}[]\",:\\ \t0123.-tfnulaersbz\x01";
    let (mut accepted, mut refused) = (0, 0);
    for _ in 0..100_000 {
        let mut body = bodies[next(bodies.len())].to_vec();
        body.truncate(400);
        for _ in 0..next(3) {
            let at = next(body.len() + 1);
            match next(3) {
                0 => body.insert(at, BYTES[next(BYTES.len())]),
                1 if at < body.len() => body[at] = BYTES[next(BYTES.len())],
                _ => body.truncate(at),
            }
        }
        // Go replaces what serde_json refuses: bytes that are not UTF-8, halves of pairs.
        if std::str::from_utf8(&body).is_err() || body.windows(2).any(|w| w == b"\\u") {
            continue;
        }
        let mut at = 0;
        let ours = super::json::parse(&body, &mut at);
        let ours = matches!(ours, Ok(Some(_))) && body[at..].trim_ascii().is_empty();
        let theirs = serde_json::from_slice::<serde::de::IgnoredAny>(&body).is_ok();
        assert_eq!(ours, theirs, "{}", String::from_utf8_lossy(&body));
        *(if ours { &mut accepted } else { &mut refused }) += 1;
    }
    assert!(accepted > 5_000 && refused > 20_000, "{accepted} {refused}");
}
