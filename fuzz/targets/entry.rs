//! Batches between reactors: decoded or refused; what is decoded encodes to the same bytes, and a
//! reactor can route it.
#![no_main]

use corelane::turn::{decode_entry, encode_entry};
use corelane_fuzz::net::Driven;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut rest = data;
    let mut whole = Vec::new();
    while let Ok(Some(entry)) = decode_entry(&mut rest) {
        if entry.message.shown == entry.message.subject {
            // Written without it.
            continue;
        }
        let mut again = Vec::new();
        encode_entry(&mut again, &entry);
        let mut bytes = &again[..];
        let decoded = decode_entry(&mut bytes);
        assert_eq!(format!("{decoded:?}"), format!("{:?}", Ok::<_, ()>(Some(entry))));
        assert!(bytes.is_empty());
        for name in entry.queues {
            assert!(name.len() <= data.len());
        }
        // Reactors name each other and accounts by numbers that exist.
        if entry.origin.reactor.0 < 2 && entry.message.account.0 < 2 {
            whole.extend_from_slice(&again);
        }
    }
    let mut node = Driven::new(2);
    let conn = node.connect(1);
    node.send(conn, b"CONNECT {\"headers\":true}\r\nSUB > 1\r\nSUB a q 2\r\n");
    node.batch(&whole);
});
