//! The catalogue against answers captured from nats-server 2.15.1, and against itself.

use std::collections::VecDeque;

use crate::api::cases::{at_our_level, parse, text};
use crate::api::error::ApiError;
use crate::api::json::to_json;
use crate::api::metadata;
use crate::api::types::{ResponseType, StreamConfig, StreamConfigRequest, StreamsRequest};
use crate::api::types::{write_error, write_response};
use crate::types::{ShardId, StreamId, WallTime};

use super::*;

const ACCOUNT: &str = "$G";

fn limits() -> MetaLimits {
    MetaLimits { server_storage: 1 << 40, server_memory: 1 << 33, ..MetaLimits::default() }
}

fn shown(mut config: StreamConfig) -> Vec<u8> {
    metadata::show_server(&mut config.metadata);
    [b"config ", &to_json(&config)[..]].concat()
}

fn refused(error: &ApiError) -> Vec<u8> {
    let mut out = b"error ".to_vec();
    error.write_json(&mut out);
    out
}

fn config_of(record: &Record) -> StreamConfig {
    match record {
        Record::Create { entry, .. } => entry.config.clone(),
        Record::Update { config, .. } => config.clone(),
        other => panic!("{other:?}"),
    }
}

/// Applies a record the way recovery does: from its bytes.
fn apply(catalogue: &mut Catalogue, record: &Record) {
    let mut bytes = Vec::new();
    record.encode(&mut bytes);
    let decoded = Record::decode(&bytes).expect("a record");
    assert_eq!(decoded, *record);
    catalogue.apply(&decoded);
}

fn run(
    catalogue: &mut Catalogue,
    verb: &str,
    name: &str,
    body: &[u8],
    pending: &mut VecDeque<Record>,
) -> Vec<u8> {
    let now = WallTime(1);
    match verb {
        "STREAM.CREATE" | "STREAM.UPDATE" => {
            let request = match StreamConfigRequest::decode(body, true) {
                Ok(request) => request,
                Err(error) => return refused(&error),
            };
            let record = if verb == "STREAM.CREATE" {
                match catalogue.decide_create(ACCOUNT, name, request, &limits(), now) {
                    CreateDecision::Existing(entry) => return shown(entry.config.clone()),
                    CreateDecision::New(record) => record,
                    CreateDecision::Refuse(error) => return refused(&error),
                }
            } else {
                match catalogue.decide_update(ACCOUNT, name, request, &limits()) {
                    UpdateDecision::Update { record, .. } => record,
                    UpdateDecision::Refuse(error) => return refused(&error),
                }
            };
            catalogue.decide(&record);
            let shown = shown(config_of(&record));
            pending.push_back(*record);
            shown
        }
        "STREAM.DELETE" => match catalogue.decide_delete(ACCOUNT, name) {
            DeleteDecision::Delete(record) => {
                catalogue.decide(&record);
                pending.push_back(*record);
                let kind = ResponseType::StreamDelete.name();
                format!("all {{\"type\":\"io.nats.jetstream.api.v1.{kind}\",\"success\":true}}")
                    .into()
            }
            DeleteDecision::Refuse(error) => refused(&error),
        },
        "STREAM.NAMES" => match StreamsRequest::decode_names(body, true) {
            Ok(request) => {
                let mut out = b"all ".to_vec();
                let names = catalogue.names(ACCOUNT, &request);
                write_response(&mut out, ResponseType::StreamNames, &names);
                out
            }
            Err(error) => refused(&error),
        },
        other => panic!("{other}"),
    }
}

#[test]
fn captured_answers() {
    for behind in [0, 1, 7] {
        captured_answers_applied(behind);
    }
}

/// What is decided is applied when so many more decisions were made, and nobody notices.
fn captured_answers_applied(behind: usize) {
    let mut catalogue = Catalogue::new(2);
    let cases = parse(include_str!("testdata/streams.txt"));
    let mut wrong = Vec::new();
    let mut pending = VecDeque::new();
    for case in &cases {
        let [verb, name, body, want] = &case[..] else { panic!("{case:?}") };
        // Lists wait for what was decided.
        let most = if text(verb) == "STREAM.NAMES" { 0 } else { behind };
        while pending.len() > most {
            let record = pending.pop_front().expect("a record");
            apply(&mut catalogue, &record);
        }
        assert_eq!(catalogue.is_changing(), !pending.is_empty());
        let got = run(&mut catalogue, text(verb), text(name), body, &mut pending);
        let (got, want) = (String::from_utf8_lossy(&got), at_our_level(want));
        if got != want {
            let short: String = String::from_utf8_lossy(body).chars().take(300).collect();
            wrong.push(format!("{} {short}\n   got {got}\n  want {want}", text(verb)));
        }
    }
    assert!(cases.len() > 400);
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

fn request(name: &str, subjects: &[&str]) -> StreamConfigRequest {
    let mut request = StreamConfigRequest::default();
    request.config.name = name.to_owned();
    request.config.subjects = subjects.iter().map(|&s| s.to_owned()).collect();
    request
}

fn create(catalogue: &mut Catalogue, request: StreamConfigRequest) -> Result<StreamEntry, u16> {
    let name = request.config.name.clone();
    let now = WallTime(7);
    match catalogue.decide_create(ACCOUNT, &name, request, &limits(), now) {
        CreateDecision::New(record) => {
            apply(catalogue, &record);
            Ok(catalogue.stream(ACCOUNT, &name).expect("created").clone())
        }
        CreateDecision::Existing(entry) => Ok(entry.clone()),
        CreateDecision::Refuse(error) => Err(error.err_code),
    }
}

fn delete(catalogue: &mut Catalogue, name: &str) {
    match catalogue.decide_delete(ACCOUNT, name) {
        DeleteDecision::Delete(record) => apply(catalogue, &record),
        DeleteDecision::Refuse(error) => panic!("{error}"),
    }
}

/// All that a checkpoint has of a catalogue.
fn records(catalogue: &Catalogue) -> impl Iterator<Item = Record> + '_ {
    let creates = catalogue.streams_after(None).map(|(account, entry)| Record::Create {
        account: account.to_owned(),
        entry: entry.clone(),
    });
    catalogue.first_records().chain(creates)
}

#[test]
fn ids_are_never_used_again() {
    let mut catalogue = Catalogue::new(1);
    let first = create(&mut catalogue, request("A", &[])).expect("new").id;
    delete(&mut catalogue, "A");
    let second = create(&mut catalogue, request("A", &[])).expect("new").id;
    assert!(second > first);
    delete(&mut catalogue, "A");
    apply(&mut catalogue, &Record::Forget { id: first });
    apply(&mut catalogue, &Record::Forget { id: second });
    let mut recovered = Catalogue::new(1);
    for record in records(&catalogue) {
        apply(&mut recovered, &record);
    }
    let third = create(&mut recovered, request("A", &[])).expect("new").id;
    assert!(third > second);
}

#[test]
fn deleted_streams_wait_for_their_shard() {
    let mut catalogue = Catalogue::new(1);
    let id = create(&mut catalogue, request("A", &[])).expect("new").id;
    delete(&mut catalogue, "A");
    assert_eq!(catalogue.deleted().collect::<Vec<_>>(), [(id, ShardId(0))]);
    assert!(catalogue.by_id(id).is_none());
    apply(&mut catalogue, &Record::Forget { id });
    assert_eq!(catalogue.deleted().count(), 0);
}

#[test]
fn streams_spread_over_shards() {
    let mut catalogue = Catalogue::new(3);
    let mut shards = Vec::new();
    for i in 0..6 {
        shards.push(create(&mut catalogue, request(&format!("S{i}"), &[])).expect("new").shard.0);
    }
    assert_eq!(shards, [0, 1, 2, 0, 1, 2]);
    delete(&mut catalogue, "S1");
    assert_eq!(create(&mut catalogue, request("T", &[])).expect("new").shard, ShardId(1));
}

#[test]
fn bytes_are_reserved() {
    let mut catalogue = Catalogue::new(1);
    let with = |name: &str, bytes| {
        let mut request = request(name, &[]);
        request.config.max_bytes = bytes;
        request
    };
    assert!(create(&mut catalogue, with("A", 1 << 39)).is_ok());
    assert_eq!(catalogue.reserved_bytes(ACCOUNT), (0, 1 << 39));
    assert_eq!(create(&mut catalogue, with("B", (1 << 39) + 1)), Err(10047));
    assert!(create(&mut catalogue, with("B", 1 << 39)).is_ok());
    assert_eq!(create(&mut catalogue, with("C", 1)), Err(10047));
    delete(&mut catalogue, "A");
    assert!(create(&mut catalogue, with("C", 1)).is_ok());
    let mut memory = with("D", (1 << 33) + 1);
    memory.config.storage = crate::api::types::StorageType::Memory;
    assert_eq!(create(&mut catalogue, memory), Err(10028));
}

#[test]
fn streams_are_limited() {
    let mut catalogue = Catalogue::new(1);
    let mut limits = limits();
    limits.account.max_streams = 1;
    assert!(create(&mut catalogue, request("A", &[])).is_ok());
    let decision = catalogue.decide_create(ACCOUNT, "B", request("B", &[]), &limits, WallTime(0));
    assert!(matches!(decision, CreateDecision::Refuse(error) if error.err_code == 10027));
}

#[test]
fn accounts_do_not_see_each_other() {
    let mut catalogue = Catalogue::new(1);
    assert!(create(&mut catalogue, request("A", &["a.>"])).is_ok());
    let decision =
        catalogue.decide_create("B", "A", request("A", &["a.>"]), &limits(), WallTime(0));
    assert!(matches!(decision, CreateDecision::New(_)));
    assert!(catalogue.stream("B", "A").is_none());
}

#[test]
fn ten_thousand_streams() {
    let mut catalogue = Catalogue::new(4);
    for i in 0..10_000 {
        let subject = format!("in.{i}.>");
        create(&mut catalogue, request(&format!("S{i:05}"), &[&subject])).expect("new");
    }
    assert_eq!(create(&mut catalogue, request("X", &["in.9999.a"])), Err(10065));
    assert_eq!(create(&mut catalogue, request("X", &["in.*.a"])), Err(10065));
    assert!(create(&mut catalogue, request("X", &["in.10000.a", "out.*"])).is_ok());
    let page = |offset, subject: &str| {
        let request = StreamsRequest { offset, subject: subject.to_owned() };
        let page = catalogue.names(ACCOUNT, &request);
        (page.total, page.offset, page.streams.map(|names| (names.len(), names[0].clone())))
    };
    assert_eq!(page(0, ""), (10_001, 0, Some((1_024, "S00000".to_owned()))));
    assert_eq!(page(9_990, ""), (10_001, 9_990, Some((11, "S09990".to_owned()))));
    assert_eq!(page(0, "in.*.x"), (10_000, 0, Some((1_024, "S00000".to_owned()))));
    assert_eq!(page(0, "in.77.x"), (1, 0, Some((1, "S00077".to_owned()))));
    assert_eq!(page(1, "in.77.x"), (1, 1, None));
    let list = catalogue.list(ACCOUNT, &StreamsRequest::default());
    assert_eq!((list.total, list.limit, list.streams.len()), (10_001, 256, 256));
}

#[test]
fn foreign_records_are_refused() {
    let mut bytes = Vec::new();
    Record::Forget { id: StreamId(5) }.encode(&mut bytes);
    for (at, byte, want) in [
        (0, b'x', RecordError::Foreign),
        (4, 9, RecordError::Type(9)),
        (5, 2, RecordError::Version(2)),
    ] {
        let mut damaged = bytes.clone();
        damaged[at] = byte;
        assert_eq!(Record::decode(&damaged), Err(want));
    }
    assert_eq!(Record::decode(&bytes[..3]), Err(RecordError::Foreign));
    assert_eq!(Record::decode(&bytes[..bytes.len() - 1]), Err(RecordError::Invalid));
}

/// The bytes of a record are what later versions must read.
#[test]
fn golden_record() {
    let mut bytes = Vec::new();
    Record::Delete { id: StreamId(0x0102_0304), shard: ShardId(5) }.encode(&mut bytes);
    let want = [b'c', b't', b'l', b'g', 3, 1, 0, 0, 4, 3, 2, 1, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(bytes, want);
}

/// The bytes of a record with a whole configuration, written by the first version.
#[test]
fn golden_create() {
    let golden = include_bytes!("testdata/create.v1");
    let mut request = request("ORDERS", &["orders.>", "returns.*"]);
    let config = &mut request.config;
    config.description = "what was ordered".to_owned();
    config.max_msgs = 5;
    config.max_age = 3_600_000_000_000;
    config.allow_direct = true;
    config.consumer_limits.max_ack_pending = 7;
    config.metadata.insert("owner".to_owned(), "us".to_owned());
    config.placement = Some(crate::api::types::Placement {
        cluster: "C".to_owned(),
        tags: vec!["t".to_owned()],
        ..Default::default()
    });
    let catalogue = Catalogue::new(1);
    let now = WallTime(1_700_000_000_000_000_000);
    let decision = catalogue.decide_create(ACCOUNT, "ORDERS", request, &limits(), now);
    let CreateDecision::New(record) = decision else { panic!("{decision:?}") };
    let mut bytes = Vec::new();
    record.encode(&mut bytes);
    assert_eq!(Record::decode(golden).as_ref(), Ok(&*record));
    assert!(bytes == golden, "the encoding of records has changed");
}

#[test]
fn a_create_applied_twice_counts_once() {
    let mut catalogue = Catalogue::new(2);
    let entry = create(&mut catalogue, request("A", &[])).expect("new");
    apply(&mut catalogue, &Record::Create { account: ACCOUNT.to_owned(), entry: entry.clone() });
    assert_eq!(catalogue.stream_count(ACCOUNT), 1);
    delete(&mut catalogue, "A");
    assert_eq!(create(&mut catalogue, request("B", &[])).expect("new").shard, entry.shard);
}

#[test]
fn refusals_have_the_shape_of_their_answer() {
    let mut out = Vec::new();
    let error = ApiError::api_not_supported("STREAM.SNAPSHOT");
    write_error(&mut out, ResponseType::StreamSnapshot, &error);
    assert_eq!(
        text(&out),
        concat!(
            r#"{"type":"io.nats.jetstream.api.v1.stream_snapshot_response","error":{"code":400,"#,
            r#""err_code":10003,"description":"STREAM.SNAPSHOT is not supported yet"}}"#
        )
    );
    let mut catalogue = Catalogue::new(1);
    let body = br#"{"name":"A","retention":"workqueue"}"#;
    let got = run(&mut catalogue, "STREAM.CREATE", "A", body, &mut VecDeque::new());
    assert_eq!(
        text(&got),
        r#"error {"code":500,"err_code":10052,"description":"retention is not supported yet"}"#
    );
}

/// Requests that would be deep or square to check.
#[test]
fn hostile_subjects() {
    let mut catalogue = Catalogue::new(1);
    let deep = vec!["a"; 400_000].join(".");
    assert_eq!(create(&mut catalogue, request("A", &[&deep])), Err(10052));
    let longest = vec!["a"; 2_048].join(".");
    assert!(create(&mut catalogue, request("A", &[&longest])).is_ok());
    assert_eq!(create(&mut catalogue, request("B", &["a.>"])), Err(10065));
    delete(&mut catalogue, "A");
    let many: Vec<String> = (0..50_000).map(|i| format!("in.{i}")).collect();
    let mut all: Vec<&str> = many.iter().map(String::as_str).collect();
    assert!(create(&mut catalogue, request("C", &all)).is_ok());
    all.push("in.49999");
    assert_eq!(create(&mut catalogue, request("D", &all)), Err(10052));
}

/// Decisions that rest on others which are not applied are those that rest on the applied ones.
#[test]
fn what_is_decided_counts_before_it_is_applied() {
    let of = |name: &str, subjects: &[&str], bytes: i64| {
        let mut request = request(name, subjects);
        request.config.max_bytes = bytes;
        request
    };
    let mut seed = 1_u64;
    let mut below = |n: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % n
    };
    let (mut ahead, mut whole) = (Catalogue::new(3), Catalogue::new(3));
    let mut pending = VecDeque::new();
    for _ in 0..20_000 {
        let name = format!("S{}", below(6));
        let subject = ["a.*", "a.b", "c", ">"][below(4) as usize];
        let asked = of(&name, &[subject], below(3) as i64 * (300 << 30));
        let decide = |catalogue: &Catalogue, what: u64| match what {
            0 => match catalogue.decide_delete(ACCOUNT, &name) {
                DeleteDecision::Delete(record) => Ok(record),
                DeleteDecision::Refuse(error) => Err(error.err_code),
            },
            1 => match catalogue.decide_update(ACCOUNT, &name, asked.clone(), &limits()) {
                UpdateDecision::Update { record, .. } => Ok(record),
                UpdateDecision::Refuse(error) => Err(error.err_code),
            },
            _ => {
                let (asked, now) = (asked.clone(), WallTime(1));
                match catalogue.decide_create(ACCOUNT, &name, asked, &limits(), now) {
                    CreateDecision::New(record) => Ok(record),
                    CreateDecision::Existing(_) => Err(0),
                    CreateDecision::Refuse(error) => Err(error.err_code),
                }
            }
        };
        let what = below(4);
        let decided = decide(&ahead, what);
        assert_eq!(decided, decide(&whole, what));
        if let Ok(record) = decided {
            whole.apply(&record);
            ahead.decide(&record);
            pending.push_back(record);
        }
        while pending.len() as u64 > below(8) {
            let record = pending.pop_front().expect("a record");
            ahead.apply(&record);
        }
        if pending.is_empty() {
            assert!(records(&ahead).eq(records(&whole)));
        }
    }
}
