//! What nats-server 2.15.1 answered to these bytes, on one connection, checked at 1, 2 and 4
//! reactors and however the bytes are split.

use super::*;

const DEFAULT: &str = "CONNECT {\"verbose\":false,\"headers\":true,\"no_responders\":true}\r\n";
const VERBOSE: &str = "CONNECT {\"pedantic\":true,\"headers\":true}\r\n";
const QUIET_OLD: &str = "CONNECT {\"verbose\":false,\"pedantic\":false}\r\n";
const NO_ECHO: &str =
    "CONNECT {\"verbose\":false,\"echo\":false,\"headers\":true,\"no_responders\":true}\r\n";

/// What is sent, what comes back, and whether the connection is closed, with the reason.
type Case = (&'static str, &'static str, &'static str, Option<CloseReason>);

use CloseReason::*;

const CASES: &[Case] = &[
    ("", "CONNECT\r\n", "", Some(ProtocolViolation)),
    ("", "CONNECT {}\r\n", "+OK\r\n", None),
    ("", "CONNECT []\r\n", "", Some(ProtocolViolation)),
    ("", "CONNECT null\r\n", "+OK\r\n", None),
    ("", "CONNECT {} x\r\n", "", Some(ProtocolViolation)),
    ("", "CONNECT {\"protocol\":1.0}\r\n", "", Some(ProtocolViolation)),
    (
        "",
        "CONNECT {\"verbose\":false,\"protocol\":2}\r\n",
        "-ERR 'invalid client protocol'\r\n",
        Some(BadClientProtocolVersion),
    ),
    (
        "",
        "CONNECT {\"no_responders\":true}\r\n",
        "-ERR 'no responders requires headers support'\r\n",
        Some(NoRespondersRequiresHeaders),
    ),
    (
        "",
        "CONNECT {\"account\":\"X\"}\r\n",
        "-ERR 'Authorization Violation'\r\n",
        Some(AuthenticationFailure),
    ),
    ("", "X", "-ERR 'Unknown Protocol Operation'\r\n", Some(ProtocolViolation)),
    ("", "PUB\r\n", "-ERR 'Unknown Protocol Operation'\r\n", Some(ProtocolViolation)),
    ("", "\r\n", "-ERR 'Unknown Protocol Operation'\r\n", Some(ProtocolViolation)),
    ("", "PUB \r\n", "", Some(ProtocolViolation)),
    ("", "-ERR 'x'\r\nPING\r\n", "", Some(ParseError)),
    ("", "INFO {}\r\n+OK\r\nPING\r\n", "PONG\r\n", None),
    ("", "INFO x\r\nPING\r\n", "", Some(ProtocolViolation)),
    ("", "PING xyz\r\nPINGGG\r\n", "PONG\r\nPONG\r\n", None),
    (
        "",
        "PUB a..b 1\r\nx\r\nSUB a 1\r\nPING\r\n",
        "-ERR 'Invalid Publish Subject'\r\n+OK\r\n+OK\r\nPONG\r\n",
        None,
    ),
    ("", "HPUB a 3 4\r\nabcd\r\n", "", Some(ProtocolViolation)),
    (QUIET_OLD, "HPUB a 3 4\r\nabcd\r\n", "", Some(ProtocolViolation)),
    (DEFAULT, DEFAULT, "", None),
    (
        DEFAULT,
        "SUB > 1\r\nPUB a\rb 1\r\nx\r\n",
        "-ERR 'Invalid Publish Subject'\r\nMSG a\rb 1 1\r\nx\r\n",
        None,
    ),
    (DEFAULT, "SUB > 1\r\nPUB\ta\tb\t1\r\nx\r\n", "MSG a 1 b 1\r\nx\r\n", None),
    (DEFAULT, "PUB a -1\r\n", "", Some(ProtocolViolation)),
    (
        DEFAULT,
        "PUB a 1048577\r\n",
        "-ERR 'Maximum Payload Violation'\r\n",
        Some(MaxPayloadExceeded),
    ),
    (
        DEFAULT,
        "HPUB a 12 1048577\r\n",
        "-ERR 'Maximum Payload Violation'\r\n",
        Some(MaxPayloadExceeded),
    ),
    (DEFAULT, "PUB a 9999999999\r\n", "", Some(ProtocolViolation)),
    (DEFAULT, "PUB a 1\r\nxyz", "-ERR 'Unknown Protocol Operation'\r\n", Some(ProtocolViolation)),
    (DEFAULT, "SUB > 1\r\nHPUB a 0 1\r\nx\r\n", "MSG a 1 1\r\nx\r\n", None),
    (DEFAULT, "HPUB a 5 1\r\n", "", Some(ProtocolViolation)),
    (DEFAULT, "SUB > 1\r\nHPUB a 3 4\r\nabcd\r\n", "HMSG a 1 3 4\r\nabcd\r\n", None),
    (
        DEFAULT,
        "SUB > 1\r\nPUB a..b 1\r\nx\r\nPUB .a 1\r\nx\r\nPUB a. 1\r\nx\r\nPING\r\n",
        "-ERR 'Invalid Publish Subject'\r\n-ERR 'Invalid Publish Subject'\r\n\
         -ERR 'Invalid Publish Subject'\r\nPONG\r\n",
        None,
    ),
    (
        DEFAULT,
        "SUB r 1\r\nPUB a..b r 1\r\nx\r\n",
        "-ERR 'Invalid Publish Subject'\r\nHMSG r 1 36 36\r\nNATS/1.0 503\r\n\
         Nats-Subject: a..b\r\n\r\n\r\n",
        None,
    ),
    (
        DEFAULT,
        "SUB r 1\r\nPUB a r 1\r\nx\r\nPING\r\n",
        "HMSG r 1 33 33\r\nNATS/1.0 503\r\nNats-Subject: a\r\n\r\n\r\nPONG\r\n",
        None,
    ),
    (DEFAULT, "PUB a r 1\r\nx\r\nPING\r\n", "PONG\r\n", None),
    (
        DEFAULT,
        "SUB r 1\r\nSUB * 2\r\nSUB r q 3\r\nPUB a.b r 1\r\nx\r\nPING\r\n",
        "HMSG r 1 35 35\r\nNATS/1.0 503\r\nNats-Subject: a.b\r\n\r\n\r\nPONG\r\n",
        None,
    ),
    (DEFAULT, "SUB r 1\r\nPUB r r 1\r\nx\r\nPING\r\n", "MSG r 1 r 1\r\nx\r\nPONG\r\n", None),
    (
        DEFAULT,
        "SUB r 1\r\nUNSUB 1 1\r\nPUB a.b r 1\r\nx\r\nPUB a.b r 1\r\nx\r\nPING\r\n",
        "HMSG r 1 35 35\r\nNATS/1.0 503\r\nNats-Subject: a.b\r\n\r\n\r\n\
         HMSG r 1 35 35\r\nNATS/1.0 503\r\nNats-Subject: a.b\r\n\r\n\r\nPONG\r\n",
        None,
    ),
    (
        DEFAULT,
        "PUB $GR.x 1\r\nx\r\nPUB _GR_.x 1\r\nx\r\nPUB $NRG.x 1\r\nx\r\nPUB _R_.x 1\r\nx\r\n\
         PUB $GR 1\r\nx\r\nPING\r\n",
        "-ERR 'Permissions Violation for Publish to \"$GR.x\"'\r\n\
         -ERR 'Permissions Violation for Publish to \"_GR_.x\"'\r\n\
         -ERR 'Permissions Violation for Publish to \"$NRG.x\"'\r\nPONG\r\n",
        None,
    ),
    (
        DEFAULT,
        "PUB a $GR.x 1\r\nx\r\nPUB a _R_.x 1\r\nx\r\nPUB a $JS.ACK.x 1\r\nx\r\nPUB a $NRG.x 1\r\n\
         x\r\nPUB $JS.API.INFO $JS.ACK.x 0\r\n\r\nPING\r\n",
        "-ERR 'Permissions Violation for Publish with Reply of \"$GR.x\"'\r\n\
         -ERR 'Permissions Violation for Publish with Reply of \"_R_.x\"'\r\n\
         -ERR 'Permissions Violation for Publish with Reply of \"$JS.ACK.x\"'\r\n\
         -ERR 'Permissions Violation for Publish with Reply of \"$JS.ACK.x\"'\r\nPONG\r\n",
        None,
    ),
    (
        DEFAULT,
        "SUB a..b 1\r\nSUB a. 1\r\nSUB .a 1\r\nSUB a.>.b 1\r\nSUB a q..x 1\r\nSUB a _sys_ 1\r\n\
         SUB $GR.x 2\r\nSUB _R_.x 3\r\nSUB $JS.ACK.> 4\r\nPING\r\n",
        "-ERR 'Invalid Subject'\r\n-ERR 'Invalid Subject'\r\n-ERR 'Invalid Subject'\r\n\
         -ERR 'Invalid Subject'\r\n\
         -ERR 'Permissions Violation for Subscription to \"a\" using queue \"_sys_\"'\r\nPONG\r\n",
        None,
    ),
    (
        DEFAULT,
        "SUB a 1\r\nSUB b 1\r\nPUB b 1\r\nx\r\nPUB a 1\r\ny\r\nPING\r\n",
        "MSG a 1 1\r\ny\r\nPONG\r\n",
        None,
    ),
    (
        DEFAULT,
        "SUB a 1\r\nUNSUB 1 x\r\nPUB a 1\r\nx\r\nSUB a 2\r\nUNSUB 2 -1\r\nPUB a 1\r\ny\r\n\
         SUB a 3\r\nUNSUB 3 0\r\nPUB a 1\r\nz\r\nPING\r\n",
        "PONG\r\n",
        None,
    ),
    (
        DEFAULT,
        "SUB a 1\r\nPUB a 1\r\nx\r\nPUB a 1\r\nx\r\nUNSUB 1 3\r\nPUB a 1\r\nx\r\nPUB a 1\r\nx\r\n\
         PING\r\n",
        "MSG a 1 1\r\nx\r\nMSG a 1 1\r\nx\r\nMSG a 1 1\r\nx\r\nPONG\r\n",
        None,
    ),
    (
        DEFAULT,
        "SUB a 1\r\nUNSUB 1 5\r\nUNSUB 1 1\r\nPUB a 1\r\nx\r\nPUB a 1\r\nx\r\nPING\r\n",
        "MSG a 1 1\r\nx\r\nPONG\r\n",
        None,
    ),
    (
        VERBOSE,
        "SUB > 1\r\nPUB a..b 1\r\nx\r\nPUB a.* 1\r\ny\r\nSUB a..b 2\r\nSUB > 1\r\nUNSUB 99\r\n\
         PUB $GR.x 1\r\ny\r\nPING\r\n",
        "+OK\r\n+OK\r\n-ERR 'Invalid Publish Subject'\r\n+OK\r\n-ERR 'Invalid Publish Subject'\r\n\
         +OK\r\nMSG a.* 1 1\r\ny\r\n-ERR 'Invalid Subject'\r\n+OK\r\n+OK\r\n\
         -ERR 'Permissions Violation for Publish to \"$GR.x\"'\r\nPONG\r\n",
        None,
    ),
    (DEFAULT, "SUB a 1\r\nSUB a..b 1\r\nPING\r\n", "PONG\r\n", None),
    (DEFAULT, "SUB r q 1\r\nPUB a r 1\r\nx\r\nPING\r\n", "PONG\r\n", None),
    (
        "SUB a 1\r\nCONNECT {\"verbose\":false}\r\n",
        "PUB a 1\r\nx\r\nPING\r\n",
        "+OK\r\nMSG a 1 1\r\nx\r\nPONG\r\n",
        None,
    ),
    (
        "CONNECT {\"verbose\":false}\r\nSUB a 1\r\nCONNECT {}\r\n",
        "PUB a 1\r\nx\r\nSUB a 1\r\nPUB a 1\r\ny\r\nPING\r\n",
        "MSG a 1 1\r\ny\r\nPONG\r\n",
        None,
    ),
    (
        NO_ECHO,
        "SUB a 1\r\nSUB r 2\r\nPUB a r 1\r\nx\r\nSUB q1 q 3\r\nPUB q1 r 1\r\nx\r\nPING\r\n",
        "HMSG r 2 33 33\r\nNATS/1.0 503\r\nNats-Subject: a\r\n\r\n\r\n\
         HMSG r 2 34 34\r\nNATS/1.0 503\r\nNats-Subject: q1\r\n\r\n\r\nPONG\r\n",
        None,
    ),
    (
        DEFAULT,
        "SUB r 1\r\nPUB $JS.API.INFO r 0\r\n\r\nPUB $JS.ACK.a.b.1.1.1.1.1 r 0\r\n\r\nPING\r\n",
        "HMSG r 1 44 44\r\nNATS/1.0 503\r\nNats-Subject: $JS.API.INFO\r\n\r\n\r\n\
         HMSG r 1 53 53\r\nNATS/1.0 503\r\nNats-Subject: $JS.ACK.a.b.1.1.1.1.1\r\n\r\n\r\nPONG\r\n",
        None,
    ),
];

fn run(reactors: usize, case: &Case, cut: Option<usize>) {
    let &(connect, sent, want, closed) = case;
    let mut node = Node::new(reactors, cut.unwrap_or(0) as u64);
    let conn = node.connect(reactors - 1);
    let input = [connect, sent].concat();
    let (first, second) = input.split_at(cut.unwrap_or(0).min(input.len()));
    node.send(conn, first);
    if cut.is_some_and(|cut| cut % 2 == 0) {
        node.settle();
    }
    node.send(conn, second);
    node.settle();
    let got = node.read(conn);
    let got = got.strip_prefix("+OK\r\n").filter(|_| connect == VERBOSE).unwrap_or(&got);
    let want = want.strip_prefix("+OK\r\n").filter(|_| connect == VERBOSE).unwrap_or(want);
    assert_eq!(got, want, "{input:?} cut at {cut:?}, {reactors} reactors");
    assert_eq!(node.closed(conn), closed, "{input:?} cut at {cut:?}, {reactors} reactors");
}

#[test]
fn as_nats_server_answers() {
    for reactors in [1, 2, 4] {
        for case in CASES {
            run(reactors, case, None);
        }
    }
}

#[test]
fn however_the_bytes_are_split() {
    for case in CASES {
        for cut in 1..case.0.len() + case.1.len() {
            run(2, case, Some(cut));
        }
    }
}

#[test]
fn handshake() {
    for reactors in [1, 2, 4] {
        let mut node = Node::new(reactors, 1);
        let conn = node.connect(0);
        let connect = QUIET.replace("}\r\n", ",\"protocol\":1}\r\n");
        let before = node.ask(conn, "PING\r\n");
        assert_eq!(before, "PONG\r\n", "no second INFO before CONNECT");
        let got = node.ask(conn, format!("{connect}PING\r\n"));
        let second = got.strip_prefix("PONG\r\nINFO {").expect("PONG, then INFO");
        assert!(second.contains("\"connect_info\":true,\"remote_account\":\"$G\""), "{second}");
        assert!(second.contains("\"client_id\":1,\"client_ip\":\"127.0.0.1\""), "{second}");
        assert_eq!(node.ask(conn, "PONG\r\nPING\r\n"), "PONG\r\n");
    }
}

#[test]
fn control_line_limit() {
    let mut node = Node::new(1, 1);
    for (subject, closed) in [(4094, None), (4095, Some(MaxControlLineExceeded))] {
        let conn = node.client(0);
        let got = node.ask(conn, format!("PUB {} 0\r\n\r\nPING\r\n", "a".repeat(subject)));
        let want = match closed {
            None => "PONG\r\n",
            Some(_) => "-ERR 'maximum control line exceeded'\r\n",
        };
        assert_eq!((got.as_str(), node.closed(conn)), (want, closed));
    }
}

#[test]
fn user_info() {
    let mut node = Node::new(1, 1);
    let conn = node.client(0);
    let got = node.ask(conn, "SUB r 1\r\nPUB $SYS.REQ.USER.INFO r 0\r\n\r\n");
    let json = got.lines().nth(1).unwrap();
    let value: serde_json::Value = serde_json::from_str(json).unwrap();
    assert_eq!(value["data"]["account"], "$G");
    assert_eq!(value["server"]["id"], "NID");
}
