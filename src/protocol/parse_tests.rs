use super::*;

const LIMITS: ParseLimits = ParseLimits { max_control_line: 64, max_payload: 1000, headers: true };

/// Writes down what it is handed.
struct Recorder {
    seen: Vec<String>,
    limits: ParseLimits,
    stop_at_ping: bool,
    announced: Vec<String>,
}

impl Recorder {
    fn new(limits: ParseLimits) -> Self {
        Recorder { seen: Vec::new(), limits, stop_at_ping: false, announced: Vec::new() }
    }

    fn note(&mut self, parts: &[&[u8]]) -> Flow {
        let parts: Vec<String> = parts.iter().map(|p| p.escape_ascii().to_string()).collect();
        self.seen.push(parts.join("|"));
        Flow::Continue
    }
}

impl Handler for Recorder {
    fn limits(&self) -> ParseLimits {
        self.limits
    }
    fn publish(&mut self, p: &Publish<'_>) -> Flow {
        self.note(&[b"pub", p.subject, p.reply, p.headers, p.payload])
    }
    fn announced(&mut self, operation: &[u8]) {
        self.announced.push(subject_of(operation).escape_ascii().to_string());
    }
    fn subscribe(&mut self, subject: &[u8], queue: Option<&[u8]>, sid: &[u8]) -> Flow {
        self.note(&[b"sub", subject, queue.unwrap_or(b"-"), sid])
    }
    fn unsubscribe(&mut self, sid: &[u8], max: Option<u64>) -> Flow {
        self.note(&[b"unsub", sid, format!("{max:?}").as_bytes()])
    }
    fn connect(&mut self, json: &[u8]) -> Flow {
        self.note(&[b"connect", json])
    }
    fn info(&mut self, json: &[u8]) -> Flow {
        self.note(&[b"info", json])
    }
    fn ping(&mut self) -> Flow {
        self.note(&[b"ping"]);
        if self.stop_at_ping { Flow::Stop } else { Flow::Continue }
    }
    fn pong(&mut self) -> Flow {
        self.note(&[b"pong"])
    }
}

type Outcome = (Vec<String>, Option<Violation>);

fn parse_chunks<'a>(chunks: impl IntoIterator<Item = &'a [u8]>, limits: ParseLimits) -> Outcome {
    let mut parser = Parser::default();
    let mut recorder = Recorder::new(limits);
    for chunk in chunks {
        match parser.parse(chunk, &mut recorder) {
            Ok(taken) => assert_eq!(taken, chunk.len()),
            Err(violation) => return (recorder.seen, Some(violation)),
        }
    }
    (recorder.seen, None)
}

/// Input, what is handed over, the violation.
const CASES: &[(&[u8], &[&str], Option<Violation>)] = &[
    (b"PUB a 2\r\nhi\r\n", &["pub|a|||hi"], None),
    (b"pub a r 2\r\nhi\r\nPuB b 0\r\n\r\n", &["pub|a|r||hi", "pub|b|||"], None),
    (b"PUB\ta\tb\t1\r\nx\r\n", &["pub|a|b||x"], None),
    (b"PUB   a   b   1  \r\nx\r\n", &["pub|a|b||x"], None),
    (b"PUB a 1\nx\r\n", &["pub|a|||x"], None),
    (b"PUB a\rb 1\r\nx\r\n", &["pub|a\\rb|||x"], None),
    (b"HPUB a 4 6\r\nabcdhi\r\n", &["pub|a||abcd|hi"], None),
    (b"HPUB a r 4 6\r\nabcdhi\r\n", &["pub|a|r|abcd|hi"], None),
    (b"HPUB a 0 1\r\nx\r\n", &["pub|a|||x"], None),
    (b"SUB a 1\r\nsub a.* q 2\r\n", &["sub|a|-|1", "sub|a.*|q|2"], None),
    (b"UNSUB 1\r\nUNSUB 1 5\r\n", &["unsub|1|None", "unsub|1|Some(5)"], None),
    (b"UNSUB 1 x\r\nUNSUB 1 -1\r\n", &["unsub|1|None", "unsub|1|None"], None),
    (b"CONNECT {}\r\nCONNECT\r\n", &["connect|{}", "connect|"], None),
    (b"INFO {\"a\":1}\r\nINFO x\r\n", &["info|{\\\"a\\\":1}", "info|x"], None),
    (b"PING\r\nping junk\r\nPINGGG\n", &["ping", "ping", "ping"], None),
    (b"PONG\r\n+OK\r\n+ok x\r\npong\r\n", &["pong", "pong"], None),
    (b"PUB a 2\r\nhix", &[], Some(Violation::UnknownOperation)),
    (b"PUB a 2\r\nhi\rx", &[], Some(Violation::UnknownOperation)),
    (b"X", &[], Some(Violation::UnknownOperation)),
    (b"PUBX", &[], Some(Violation::UnknownOperation)),
    (b"PU\r", &[], Some(Violation::UnknownOperation)),
    (b"PUB\r", &[], Some(Violation::UnknownOperation)),
    (b"SUB\r", &[], Some(Violation::UnknownOperation)),
    (b"UNSUB\r", &[], Some(Violation::UnknownOperation)),
    (b" PING\r\n", &[], Some(Violation::UnknownOperation)),
    (b"\r\n", &[], Some(Violation::UnknownOperation)),
    (b"MSG a 1 1\r\n", &[], Some(Violation::UnknownOperation)),
    (b"RS+ a b\r\n", &[], Some(Violation::UnknownOperation)),
    (b"+OX", &[], Some(Violation::UnknownOperation)),
    (b"-ERR\r\n", &[], Some(Violation::UnknownOperation)),
    (b"-ERR 'x'\r\n", &[], Some(Violation::PeerError)),
    (b"PUB \r\n", &[], Some(Violation::Arguments)),
    (b"PUB a\r\n", &[], Some(Violation::Arguments)),
    (b"PUB a b c 1\r\n", &[], Some(Violation::Arguments)),
    (b"PUB a -1\r\n", &[], Some(Violation::Arguments)),
    (b"PUB a +1\r\n", &[], Some(Violation::Arguments)),
    (b"PUB a x\r\n", &[], Some(Violation::Arguments)),
    (b"PUB a 9999999999\r\n", &[], Some(Violation::Arguments)),
    (b"HPUB a 3\r\n", &[], Some(Violation::Arguments)),
    (b"HPUB a 5 1\r\n", &[], Some(Violation::Arguments)),
    (b"HPUB a -1 3\r\n", &[], Some(Violation::Arguments)),
    (b"HPUB a b c 1 2\r\n", &[], Some(Violation::Arguments)),
    (b"SUB a\r\n", &[], Some(Violation::Arguments)),
    (b"SUB a b c d\r\n", &[], Some(Violation::Arguments)),
    (b"UNSUB \r\n", &[], Some(Violation::Arguments)),
    (b"UNSUB a b c\r\n", &[], Some(Violation::Arguments)),
    (b"PUB a 1001\r\n", &[], Some(Violation::Payload)),
    (b"HPUB a 12 1001\r\n", &[], Some(Violation::Payload)),
];

fn owned(seen: &[&str]) -> Vec<String> {
    seen.iter().map(|s| s.to_string()).collect()
}

#[test]
fn every_rule_however_it_is_split() {
    for &(input, seen, violation) in CASES {
        let want = (owned(seen), violation);
        let name = input.escape_ascii();
        assert_eq!(parse_chunks([input], LIMITS), want, "{name}");
        for cut in 1..input.len() {
            let (a, b) = input.split_at(cut);
            assert_eq!(parse_chunks([a, b], LIMITS), want, "{name} cut at {cut}");
        }
        assert_eq!(parse_chunks(input.chunks(1), LIMITS), want, "{name} byte by byte");
    }
}

#[test]
fn headers_must_be_announced() {
    let limits = ParseLimits { headers: false, ..LIMITS };
    let outcome = parse_chunks([&b"HPUB a 3 4\r\nabcd\r\n"[..]], limits);
    assert_eq!(outcome, (vec![], Some(Violation::Headers)));
}

#[test]
fn control_lines_are_measured_without_verb_and_line_end() {
    let line = |size: usize| {
        let mut line = b"PUB   ".to_vec();
        line.extend(std::iter::repeat_n(b'a', size - 2));
        line.extend_from_slice(b" 0\r\n\r\n");
        line
    };
    assert_eq!(parse_chunks([&line(64)[..]], LIMITS).1, None);
    assert_eq!(parse_chunks(line(64).chunks(1), LIMITS).1, None);
    for input in [line(65), b"SUB ".iter().chain(&[b'a'; 65]).copied().collect()] {
        let want = Some(Violation::ControlLine);
        assert_eq!(parse_chunks([&input[..]], LIMITS).1, want);
        assert_eq!(parse_chunks(input.chunks(1), LIMITS).1, want);
    }
}

#[test]
fn what_does_not_count_is_not_kept() {
    let mut parser = Parser::default();
    let mut recorder = Recorder::new(LIMITS);
    for head in [&b"PUB "[..], b"PING"] {
        parser.parse(head, &mut recorder).unwrap();
        for _ in 0..100 {
            parser.parse(&[b' '; 1000], &mut recorder).unwrap();
        }
        assert!(parser.heap_bytes() < 4096, "{}", parser.heap_bytes());
        let end: &[u8] = if head == b"PUB " { b"a 0\r\n\r\n" } else { b"\r\n" };
        parser.parse(end, &mut recorder).unwrap();
    }
    assert_eq!(recorder.seen, ["pub|a|||", "ping"]);
}

#[test]
fn a_large_message_is_assembled_in_a_buffer_of_its_size() {
    let limits = ParseLimits { max_payload: 1 << 20, ..LIMITS };
    let payload = vec![7u8; 1 << 20];
    let mut input = b"PUB a 1048576\r\n".to_vec();
    input.extend_from_slice(&payload);
    input.extend_from_slice(b"\r\nPING\r\n");
    let mut parser = Parser::default();
    let mut recorder = Recorder::new(limits);
    for (at, chunk) in input.chunks(input.len() / 10).enumerate() {
        parser.parse(chunk, &mut recorder).unwrap();
        if at < 10 && !parser.is_idle() {
            assert_eq!(parser.heap_bytes(), b"PUB a 1048576\r\n\r\n".len() + payload.len());
        }
    }
    assert!(parser.is_idle());
    assert_eq!(recorder.seen.len(), 2);
}

#[test]
fn a_handler_may_stop_anywhere() {
    let input = b"PING\r\nPUB a 2\r\nhi\r\nPING\r\nPONG\r\n";
    for first in 1..input.len() {
        let mut parser = Parser::default();
        let mut recorder = Recorder { stop_at_ping: true, ..Recorder::new(LIMITS) };
        for chunk in [&input[..first], &input[first..]] {
            let mut at = 0;
            while at < chunk.len() {
                at += parser.parse(&chunk[at..], &mut recorder).unwrap();
            }
        }
        assert_eq!(recorder.seen, ["ping", "pub|a|||hi", "ping", "pong"]);
    }
}

#[test]
fn mutated_input_gives_the_same_however_it_is_split() {
    let mut state = 7u64;
    let mut below = |bound: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % bound
    };
    let whole: Vec<&[u8]> = CASES.iter().filter(|c| c.2.is_none()).map(|c| c.0).collect();
    for _ in 0..3000 {
        let mut input = Vec::new();
        for _ in 0..4 {
            input.extend_from_slice(whole[below(whole.len())]);
        }
        for _ in 0..below(4) {
            let at = below(input.len());
            match below(3) {
                0 => input[at] = b"\r\n 09azPH+-\xff"[below(12)],
                1 => input[at] = below(256) as u8,
                _ => drop(input.remove(at)),
            }
        }
        let want = parse_chunks([&input[..]], LIMITS);
        let size = 1 + below(9);
        assert_eq!(parse_chunks(input.chunks(size), LIMITS), want, "{}", input.escape_ascii());
    }
}

#[test]
fn a_publish_that_is_not_whole_is_announced_once() {
    let input = b"PUB  a.*\tr 3\r\nxyz\r\nPING\r\nhpub b 2 3\r\nhhx\r\n";
    for size in 1..=input.len() {
        let mut parser = Parser::default();
        let mut recorder = Recorder::new(LIMITS);
        let mut want = Vec::new();
        // Where the publishes begin, and where their control lines and messages end.
        for (subject, begin, line, end) in [("a.*", 0, 14usize, 19), ("b", 25, 37, 42)] {
            if begin / size != (line - 1) / size || line.next_multiple_of(size) < end {
                want.push(subject);
            }
        }
        for chunk in input.chunks(size) {
            assert_eq!(parser.parse(chunk, &mut recorder), Ok(chunk.len()));
        }
        assert_eq!(recorder.seen, ["pub|a.*|r||xyz", "ping", "pub|b||hh|x"], "{size}");
        assert_eq!(recorder.announced, want, "{size}");
    }
}
