//! Captured cases for tests: lines of fields separated by tabs.

/// The fields of each line; lines that start with `#` are comments. `\xNN` is a byte, `\\` a
/// backslash, `\*N:c;` a run.
pub(crate) fn parse(text: &str) -> Vec<Vec<Vec<u8>>> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split('\t').map(unescape).collect()).collect()
}

fn unescape(field: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = field.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        match rest[0] {
            b'x' => {
                let digits = std::str::from_utf8(&rest[1..3]).expect("ascii");
                out.push(u8::from_str_radix(digits, 16).expect("hex"));
                rest = &rest[3..];
            }
            b'*' => {
                let text = std::str::from_utf8(&rest[1..]).expect("ascii");
                let (count, tail) = text.split_once(':').expect("a run");
                let count: usize = count.parse().expect("a number");
                out.resize(out.len() + count, tail.as_bytes()[0]);
                rest = &tail.as_bytes()[2..];
            }
            other => {
                out.push(other);
                rest = &rest[1..];
            }
        }
    }
    out
}

/// A field as text.
pub(crate) fn text(field: &[u8]) -> &str {
    std::str::from_utf8(field).expect("utf-8")
}

/// What nats-server answers, with its API level replaced by ours.
pub(crate) fn at_our_level(answer: &[u8]) -> String {
    let ours = format!("\"_nats.level\":\"{}\"", super::API_LEVEL);
    text(answer).replace("\"_nats.level\":\"5\"", &ours)
}
