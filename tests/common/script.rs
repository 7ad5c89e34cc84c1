//! The transcript format: reading a file into sections of steps.
//!
//! ```text
//! # A comment. A line that begins with blanks continues the one before.
//! only: corelane                  at the top or in a section: play it to this server alone
//! core                            at the top: start without JetStream
//! args: -D                        at the top: further flags
//! config:                         at the top: the indented lines are a configuration file
//!   max_payload: 1024
//! == A section: fresh connections, and no streams left over from the section before
//! A> PUB foo {len} | hello        send a line (CR LF is added) and its payload; A is opened on
//! A> HPUB foo {hdr} {len} | NATS/1.0 | K: v || hello           first use with a quiet CONNECT
//! A>> PU                          send these bytes as they are (escapes \r \n \t \s \\ \xHH)
//! A< MSG foo 1 5 | hello          the next line received; holes: see `pattern`
//! A<* MSG foo 1 5 | hello         this line is among those received, in any order
//! A< closed                       the server has closed the connection
//! A! 200ms                        nothing is received within this time
//! open A {"verbose":true}         open and send this CONNECT; `open A raw`: read not even INFO
//! close A      sync A      drain A     close; PING and wait for PONG; forget what was received
//! REQ A subject payload => {"x":1,...}        request; the answer's body as JSON
//! REQ A subject | K: v || payload => | NATS/1.0 503 ||         headers, and an answer in full
//! JS A STREAM.INFO.S => !404 10059 stream not found            $JS.API. is added, the answer's
//!                                             "type" is checked, `!` is an error object
//! NEXT A S.C {"batch":2}          a pull request from the inbox `in`
//! => ok  |  => none  |  => ?      no error; no answer; write it down (with TRANSCRIPT_BLESS=1;
//!                                 `?-` leaves out the configuration)
//! =>~ …                           ask again until the answer fits
//! count 10 A B                    A and B have received so many lines between them
//! ends A                           whatever else is received, the server closes A
//! repeat 10: A> PUB foo.{i} 0     {i} counts from 1
//! ~ 100ms                         wait
//! restart     restart kill     signal USR2     exit 0
//! ```

use super::server::Setup;

/// One thing to do or to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send a protocol line, with a payload perhaps.
    Send { conn: String, text: String },
    /// Send bytes as they are.
    Raw { conn: String, text: String },
    /// Receive a frame.
    Expect { conn: String, pattern: String, any_order: bool },
    /// Receive nothing for so many milliseconds.
    Nothing { conn: String, ms: u64 },
    /// `open`, `close`, `sync`, `drain` and their argument.
    Conn { verb: String, conn: String, rest: String },
    /// A request and its answer.
    Request { conn: String, subject: String, payload: String, answer: String, retry: bool },
    /// So many frames wait on these connections together; they are taken off.
    Count(usize, Vec<String>),
    /// Wait so many milliseconds.
    Sleep(u64),
    /// Stop the server and start it again.
    Restart { kill: bool },
    /// Send the server a signal.
    Signal(String),
    /// The server ends with this code.
    Exit(i32),
    /// Do the same so many times.
    Repeat(u64, Box<Action>),
}

/// An action and where it stands.
#[derive(Clone, Debug)]
pub struct Step {
    /// Line in the file, from 1.
    pub line: usize,
    /// How many lines it takes.
    pub lines: usize,
    /// The start of what stands there.
    pub text: String,
    /// What to do.
    pub action: Action,
}

/// Steps that stand for themselves.
#[derive(Clone, Debug, Default)]
pub struct Section {
    /// What follows `==`.
    pub title: String,
    /// The only server this section is for.
    pub only: Option<String>,
    /// What to do.
    pub steps: Vec<Step>,
}

/// A transcript file.
#[derive(Clone, Debug, Default)]
pub struct Script {
    /// The only server this file is for.
    pub only: Option<String>,
    /// How to start the server.
    pub setup: Setup,
    /// The sections, in order.
    pub sections: Vec<Section>,
}

/// Logical lines: number, count and text, with continuations joined and comments gone.
fn logical(text: &str) -> Vec<(usize, usize, String)> {
    let mut out: Vec<(usize, usize, String)> = Vec::new();
    let mut in_config = false;
    for (i, line) in text.lines().enumerate() {
        let continues = line.starts_with([' ', '\t']) && !line.trim().is_empty();
        match out.last_mut() {
            Some(last) if continues => {
                last.2.push(if in_config { '\n' } else { ' ' });
                last.2.push_str(line.trim());
                last.1 = i + 2 - last.0;
            }
            _ if line.trim().is_empty() || line.starts_with('#') => {}
            _ => {
                in_config = line.starts_with("config:");
                out.push((i + 1, 1, line.trim_end().to_owned()));
            }
        }
    }
    out
}

/// Reads a transcript. `Err` names the line that cannot be read.
pub fn parse(text: &str) -> Result<Script, String> {
    let mut script = Script::default();
    for (line, lines, text) in logical(text) {
        if let Some(title) = text.strip_prefix("== ") {
            script.sections.push(Section { title: title.to_owned(), ..Section::default() });
            continue;
        }
        let Some(section) = script.sections.last_mut() else {
            header(&mut script, &text).ok_or_else(|| format!("line {line}: {text}"))?;
            continue;
        };
        if let Some(only) = text.strip_prefix("only: ") {
            section.only = Some(only.to_owned());
            continue;
        }
        let action = action(&text).ok_or_else(|| format!("line {line}: {text}"))?;
        let text = text.chars().take(100).collect();
        section.steps.push(Step { line, lines, text, action });
    }
    Ok(script)
}

fn header(script: &mut Script, text: &str) -> Option<()> {
    if let Some(only) = text.strip_prefix("only: ") {
        script.only = Some(only.to_owned());
    } else if let Some(args) = text.strip_prefix("args: ") {
        script.setup.args = args.split(' ').map(str::to_owned).collect();
    } else if let Some(config) = text.strip_prefix("config:") {
        script.setup.config = config.to_owned();
    } else if text == "core" {
        script.setup.core_only = true;
    } else {
        return None;
    }
    Some(())
}

fn millis(text: &str) -> Option<u64> {
    match text.strip_suffix("ms") {
        Some(ms) => ms.parse().ok(),
        None => text.strip_suffix('s')?.parse::<u64>().ok().map(|s| s * 1000),
    }
}

fn action(text: &str) -> Option<Action> {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    let rest_owned = rest.to_owned();
    Some(match word {
        "~" => Action::Sleep(millis(rest)?),
        "restart" => Action::Restart { kill: rest == "kill" },
        "signal" => Action::Signal(rest_owned),
        "exit" => Action::Exit(rest.parse().ok()?),
        "open" | "close" | "sync" | "drain" | "ends" => {
            let (conn, rest) = rest.split_once(' ').unwrap_or((rest, ""));
            Action::Conn { verb: word.to_owned(), conn: conn.to_owned(), rest: rest.to_owned() }
        }
        "count" => {
            let mut words = rest.split(' ');
            Action::Count(words.next()?.parse().ok()?, words.map(str::to_owned).collect())
        }
        "repeat" => {
            let (count, inner) = rest.split_once(": ")?;
            Action::Repeat(count.parse().ok()?, Box::new(action(inner)?))
        }
        "NEXT" => {
            let mut words = rest.splitn(3, ' ');
            let (conn, consumer) = (words.next()?.to_owned(), words.next()?);
            let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{consumer}");
            let body = words.next().unwrap_or_default();
            Action::Send { conn, text: format!("PUB {subject} in {{len}} | {body}") }
        }
        "REQ" | "JS" => request(word == "JS", rest)?,
        _ => {
            let at = word.find(['>', '<', '!'])?;
            let (conn, sign) = (word[..at].to_owned(), &word[at..]);
            match sign {
                ">" => Action::Send { conn, text: rest_owned },
                ">>" => Action::Raw { conn, text: rest_owned },
                "<" => Action::Expect { conn, pattern: rest_owned, any_order: false },
                "<*" => Action::Expect { conn, pattern: rest_owned, any_order: true },
                "!" => Action::Nothing { conn, ms: millis(rest)? },
                _ => return None,
            }
        }
    })
}

fn request(api: bool, text: &str) -> Option<Action> {
    let (text, answer) = text.split_once(" =>")?;
    let retry = answer.starts_with('~');
    let answer = answer.trim_start_matches('~').trim();
    let (conn, text) = text.split_once(' ')?;
    let (subject, payload) = text.split_once(' ').unwrap_or((text, ""));
    let prefix = if api && !subject.starts_with('$') { "$JS.API." } else { "" };
    let subject = format!("{prefix}{subject}");
    let (conn, payload, answer) = (conn.to_owned(), payload.to_owned(), answer.to_owned());
    Some(Action::Request { conn, subject, payload, answer, retry })
}
