//! The client's end of the protocol: what it writes, and reading what the server emits.

/// What came from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    Info,
    Ping,
    Pong,
    Ok,
    Error(String),
    Message { subject: String, sid: u64, reply: String, headers: Vec<u8>, payload: Vec<u8> },
}

/// Appends a publish.
pub fn publish(out: &mut Vec<u8>, subject: &str, reply: &str, headers: &[u8], payload: &[u8]) {
    let total = headers.len() + payload.len();
    let reply = if reply.is_empty() { String::new() } else { format!("{reply} ") };
    let line = if headers.is_empty() {
        format!("PUB {subject} {reply}{total}\r\n")
    } else {
        format!("HPUB {subject} {reply}{} {total}\r\n", headers.len())
    };
    out.extend_from_slice(line.as_bytes());
    out.extend_from_slice(headers);
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
}

/// A header block.
pub fn headers(fields: &[(&str, String)]) -> Vec<u8> {
    if fields.is_empty() {
        return Vec::new();
    }
    let mut block = b"NATS/1.0\r\n".to_vec();
    for (name, value) in fields {
        block.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    block.extend_from_slice(b"\r\n");
    block
}

/// The number of a status line, 0 if there is none.
pub fn status(headers: &[u8]) -> u16 {
    let line = headers.split(|&b| b == b'\r').next().unwrap_or_default();
    let text = String::from_utf8_lossy(line);
    text.strip_prefix("NATS/1.0 ").and_then(|t| t.get(..3)?.parse().ok()).unwrap_or(0)
}

/// The value of a header.
pub fn header(headers: &[u8], name: &str) -> Option<String> {
    let text = String::from_utf8_lossy(headers);
    text.split("\r\n").find_map(|line| {
        let (n, v) = line.split_once(':')?;
        (n == name).then(|| v.trim().to_owned())
    })
}

/// Takes the next whole thing off `bytes`. What cannot be read is an error of the server.
pub fn next(bytes: &mut Vec<u8>) -> Result<Option<Incoming>, String> {
    let Some(end) = bytes.windows(2).position(|w| w == b"\r\n") else { return Ok(None) };
    let line = String::from_utf8(bytes[..end].to_vec()).map_err(|e| e.to_string())?;
    let (verb, rest) = line.split_once(' ').unwrap_or((&line, ""));
    let simple = match verb {
        "INFO" => Incoming::Info,
        "PING" => Incoming::Ping,
        "PONG" => Incoming::Pong,
        "+OK" => Incoming::Ok,
        "-ERR" => Incoming::Error(rest.to_owned()),
        "MSG" | "HMSG" => return message(verb == "HMSG", rest, end + 2, bytes),
        _ => return Err(format!("the server emitted {line:?}")),
    };
    bytes.drain(..end + 2);
    Ok(Some(simple))
}

fn message(
    with_headers: bool,
    line: &str,
    at: usize,
    bytes: &mut Vec<u8>,
) -> Result<Option<Incoming>, String> {
    let bad = || format!("the server emitted MSG {line:?}");
    let fields: Vec<&str> = line.split(' ').collect();
    let sizes = if with_headers { 2 } else { 1 };
    let names = fields.len().checked_sub(sizes).ok_or_else(bad)?;
    if !(2..=3).contains(&names) {
        return Err(bad());
    }
    let number = |i: usize| fields[i].parse::<usize>().map_err(|_| bad());
    let total = number(fields.len() - 1)?;
    let head = if with_headers { number(fields.len() - 2)? } else { 0 };
    if bytes.len() < at + total + 2 {
        return Ok(None);
    }
    if head > total || &bytes[at + total..at + total + 2] != b"\r\n" {
        return Err(bad());
    }
    let found = Incoming::Message {
        subject: fields[0].to_owned(),
        sid: fields[1].parse().map_err(|_| bad())?,
        reply: if names == 3 { fields[2].to_owned() } else { String::new() },
        headers: bytes[at..at + head].to_vec(),
        payload: bytes[at + head..at + total].to_vec(),
    };
    bytes.drain(..at + total + 2);
    Ok(Some(found))
}
