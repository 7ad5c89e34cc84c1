//! Configuration files: read, or refused with a text; nothing else.
#![no_main]

use corelane::config::{Loader, parse_command, parser};
use libfuzzer_sys::fuzz_target;

/// Files and variables in memory: `main.conf`, `a.conf`, `b.conf` are parts of the input.
struct Memory<'a> {
    parts: Vec<&'a [u8]>,
    reads: usize,
}

impl Loader for Memory<'_> {
    fn read(&mut self, path: &str) -> Result<Vec<u8>, String> {
        self.reads += 1;
        let at = match path.rsplit('/').next() {
            _ if self.reads > 64 => None,
            Some("main.conf") => Some(0),
            Some("a.conf") => Some(1),
            Some("b.conf") => Some(2),
            _ => None,
        };
        let found = at.and_then(|at: usize| self.parts.get(at));
        found.map(|b| b.to_vec()).ok_or_else(|| "no such file or directory".into())
    }

    fn var(&mut self, name: &str) -> Option<String> {
        match name {
            "ONE" => Some("1".into()),
            "TEXT" => Some("some text".into()),
            "MAP" => Some("{a: 1}".into()),
            "SELF" => Some("$SELF".into()),
            _ => None,
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let parts: Vec<&[u8]> = data.splitn(3, |byte| *byte == 0).collect();
    let mut memory = Memory { parts, reads: 0 };
    let text = memory.parts[0];
    let first = parser::parse("/etc/main.conf", text, &mut memory);
    memory.reads = 0;
    let again = parser::parse("/etc/main.conf", text, &mut memory);
    assert_eq!(format!("{first:?}"), format!("{again:?}"));
    memory.reads = 0;
    let args = ["corelane", "-c", "/etc/main.conf"].map(String::from);
    let _ = parse_command(&args, &mut memory);
});
