//! Plays a transcript to a server.

use super::bless;
use super::conn::{Conn, unescape};
use super::matching::{answer_matches, encode, frame_matches, show};
use super::pattern::{Vars, substitute};
use super::script::{Action, Script, Section, Step};
use super::server::{Kind, Server};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long an expected line may take.
const WAIT: Duration = Duration::from_secs(5);
/// How long nothing must come where an answer is not expected.
const QUIET: Duration = Duration::from_millis(250);
/// The CONNECT of a connection that a transcript does not open itself.
const CONNECT: &str = concat!(
    r#"{"verbose":false,"pedantic":false,"echo":true,"headers":true,"#,
    r#""no_responders":true,"protocol":0}"#
);

/// What a file came to.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Sections played.
    pub sections: usize,
    /// Lines expected and requests answered.
    pub exchanges: usize,
    /// The section that took longest.
    pub longest: (String, Duration),
    /// What went wrong, one text a section.
    pub failures: Vec<String>,
    /// First line, count of lines, and the text to stand there instead.
    pub blessed: Vec<(usize, usize, String)>,
}

/// Plays a whole file on a server of its own.
pub fn play(kind: Kind, script: &Script) -> Outcome {
    let mut outcome = Outcome::default();
    let applies = |only: &Option<String>| only.as_deref().is_none_or(|word| word == kind.word());
    if !applies(&script.only) || !script.sections.iter().any(|s| applies(&s.only)) {
        return outcome;
    }
    let server = match Server::start(kind, script.setup.clone()) {
        Ok(server) => server,
        Err(why) => {
            outcome.failures.push(format!("0: {why}"));
            return outcome;
        }
    };
    let mut player = Player::new(server, script.setup.core_only);
    for section in script.sections.iter().filter(|s| applies(&s.only)) {
        outcome.sections += 1;
        let start = Instant::now();
        let blessed = player.blessed.len();
        let mut result = player.section(section);
        // nats-server has races of its own, so that it may try again; corelane may not.
        for _ in 0..if kind == Kind::NatsServer { 2 } else { 0 } {
            if result.is_ok() || player.server.wait_exit(Duration::ZERO).is_some() {
                break;
            }
            player.blessed.truncate(blessed);
            result = player.section(section);
        }
        if start.elapsed() > outcome.longest.1 {
            outcome.longest = (section.title.clone(), start.elapsed());
        }
        if let Err(why) = result {
            outcome.failures.push(why + &player.revive());
        }
    }
    outcome.exchanges = player.exchanges;
    outcome.blessed = player.blessed;
    outcome
}

struct Player {
    server: Server,
    conns: BTreeMap<String, Conn>,
    vars: Vars,
    requests: usize,
    exchanges: usize,
    streams_made: bool,
    core_only: bool,
    blessed: Vec<(usize, usize, String)>,
}

impl Player {
    fn new(server: Server, core_only: bool) -> Player {
        Player {
            core_only,
            server,
            conns: BTreeMap::new(),
            vars: Vars::new(),
            requests: 0,
            exchanges: 0,
            streams_made: false,
            blessed: Vec::new(),
        }
    }

    /// Plays a section and tidies up after it, however it went.
    fn section(&mut self, section: &Section) -> Result<(), String> {
        self.vars.clear();
        let mut result = Ok(());
        for step in &section.steps {
            result = self.step(step, &step.action).map_err(|why| {
                format!("{}: [{}] {}\n       {why}", step.line, section.title, step.text)
            });
            if result.is_err() {
                break;
            }
        }
        let last = section.steps.last().map_or(0, |step| step.line);
        let result = result.and_then(|()| self.nothing_left(last, &section.title));
        self.leave();
        let tidied = self.delete_streams();
        result.and_then(|()| tidied.map_err(|why| format!("{last}: tidying up: {why}")))
    }

    /// A server that has died is started again for the next section, and what it said is told.
    fn revive(&mut self) -> String {
        match self.server.wait_exit(Duration::ZERO) {
            None => String::new(),
            Some(code) => {
                let tail = self.server.log_tail();
                let again = self.server.restart(true).err().unwrap_or_default();
                format!("\n       the server has ended with {code}:\n{tail}\n{again}")
            }
        }
    }

    /// Every line that a server sends must have been expected.
    fn nothing_left(&mut self, line: usize, title: &str) -> Result<(), String> {
        for (name, conn) in &mut self.conns {
            conn.sync(Instant::now() + Duration::from_secs(1));
            if let Some(frame) = conn.drain().first() {
                let shown = show(frame);
                return Err(format!("{line}: [{title}] left over on {name}: {shown}"));
            }
        }
        Ok(())
    }

    /// Ends every connection and waits until the server has ended it, too: the next section finds
    /// none of their subscriptions.
    fn leave(&mut self) {
        let end = Instant::now() + Duration::from_millis(500);
        self.conns.values_mut().for_each(Conn::finish);
        for (_, mut conn) in std::mem::take(&mut self.conns) {
            while conn.next(end).is_some() {}
        }
    }

    /// Leaves no stream to the next section.
    fn delete_streams(&mut self) -> Result<(), String> {
        if !std::mem::take(&mut self.streams_made) {
            return Ok(());
        }
        let names = self.ask("$JS.API.STREAM.NAMES", "")?;
        for name in names["streams"].as_array().into_iter().flatten() {
            let name = name.as_str().unwrap_or_default().to_owned();
            self.ask(&format!("$JS.API.STREAM.DELETE.{name}"), "")?;
        }
        self.conns.clear();
        // nats-server still removes the files of a stream when it has answered.
        std::thread::sleep(Duration::from_millis(30));
        Ok(())
    }

    fn ask(&mut self, subject: &str, payload: &str) -> Result<Value, String> {
        let (_, frame) = self.request("tidy", subject, payload, WAIT)?;
        let frame = frame.ok_or_else(|| format!("no answer to {subject}"))?;
        serde_json::from_slice(&frame.body).map_err(|e| e.to_string())
    }

    fn conn(&mut self, name: &str) -> Result<&mut Conn, String> {
        if !self.conns.contains_key(name) {
            self.open(name, CONNECT)?;
            let conn = self.conns.get_mut(name).ok_or("no connection")?;
            if !conn.sync(Instant::now() + WAIT) {
                return Err(format!("{name}: no PONG after CONNECT"));
            }
        }
        self.conns.get_mut(name).ok_or_else(|| "no connection".into())
    }

    fn open(&mut self, name: &str, connect: &str) -> Result<(), String> {
        let mut conn = Conn::open(self.server.port(), connect != "raw")?;
        if connect != "raw" {
            let info = conn.next(Instant::now() + WAIT).ok_or("no INFO")?;
            if !info.line.starts_with("INFO {") {
                return Err(format!("expected INFO, got {}", show(&info)));
            }
            conn.send(format!("CONNECT {connect}\r\n").as_bytes());
        }
        self.conns.insert(name.to_owned(), conn);
        Ok(())
    }

    fn step(&mut self, step: &Step, action: &Action) -> Result<(), String> {
        match action {
            Action::Send { conn, text } => {
                let bytes = encode(text, &self.vars);
                self.streams_made |= text.contains("STREAM.CREATE");
                self.conn(conn)?.send(&bytes);
            }
            Action::Raw { conn, text } => {
                let bytes = unescape(&substitute(text, &self.vars));
                self.conn(conn)?.send(&bytes);
            }
            Action::Expect { conn, pattern, any_order } => {
                self.exchanges += 1;
                return self.expect(step, conn, pattern, *any_order);
            }
            Action::Nothing { conn, ms } => {
                let end = Instant::now() + Duration::from_millis(*ms);
                if let Some(frame) = self.conn(conn)?.next(end) {
                    return Err(format!("expected nothing, got {}", show(&frame)));
                }
            }
            Action::Conn { verb, conn, rest } => return self.conn_verb(verb, conn, rest),
            Action::Request { conn, subject, payload, answer, retry } => {
                self.exchanges += 1;
                return self.exchange(step, (conn, subject, payload, answer), *retry);
            }
            Action::Count(wanted, names) => {
                let mut found = 0;
                for name in names {
                    let conn = self.conn(name)?;
                    conn.sync(Instant::now() + WAIT);
                    found += conn.drain().len();
                }
                if found != *wanted {
                    return Err(format!("expected {wanted} lines, got {found}"));
                }
            }
            Action::Sleep(ms) => std::thread::sleep(Duration::from_millis(*ms)),
            Action::Restart { kill } => {
                self.conns.clear();
                self.server.restart(*kill)?;
            }
            Action::Signal(name) => self.server.signal(signal(name)?),
            Action::Exit(code) => match self.server.wait_exit(Duration::from_secs(15)) {
                Some(found) if found == *code => {}
                other => return Err(format!("expected exit code {code}, got {other:?}")),
            },
            Action::Repeat(count, inner) => {
                for i in 1..=*count {
                    self.vars.insert("i".into(), i.to_string());
                    self.step(step, inner)?;
                }
            }
        }
        Ok(())
    }

    fn conn_verb(&mut self, verb: &str, conn: &str, rest: &str) -> Result<(), String> {
        match verb {
            "open" => self.open(conn, if rest.is_empty() { CONNECT } else { rest })?,
            "close" => drop(self.conns.remove(conn)),
            "ends" => {
                let (end, conn) = (Instant::now() + 2 * WAIT, self.conn(conn)?);
                while conn.next(end).is_some() {}
                if !conn.closes(end) {
                    return Err("the connection is still open".into());
                }
            }
            "sync" if self.conn(conn)?.sync(Instant::now() + WAIT) => {}
            "sync" => return Err(format!("{conn}: no PONG")),
            _ => drop(self.conn(conn)?.drain()),
        }
        Ok(())
    }

    fn expect(&mut self, step: &Step, name: &str, pattern: &str, any: bool) -> Result<(), String> {
        let end = Instant::now() + WAIT;
        let mut vars = self.vars.clone();
        let conn = self.conn(name)?;
        if pattern == "?" {
            let mut lines = Vec::new();
            while let Some(frame) = conn.next(Instant::now() + QUIET) {
                lines.push(bless::frame_line(name, &frame));
            }
            if conn.closes(Instant::now()) {
                lines.push(format!("{name}< closed"));
            } else if lines.is_empty() {
                lines.push(format!("{name}! 200ms"));
            }
            self.blessed.push((step.line, step.lines, lines.join("\n")));
            return Ok(());
        }
        if pattern == "closed" {
            return match conn.closes(end) {
                true => Ok(()),
                false => match conn.next(end) {
                    Some(frame) => Err(format!("expected an end, got {}", show(&frame))),
                    None => Err("the connection is still open".into()),
                },
            };
        }
        let frame = match any {
            true => conn.take(end, |f| frame_matches(pattern, f, &mut vars.clone()).is_ok()),
            false => conn.next(end),
        };
        let frame = frame.ok_or("nothing came")?;
        let result = frame_matches(pattern, &frame, &mut vars);
        self.vars = vars;
        result
    }

    /// Sends a request from an inbox of its own and gives the first answer.
    fn request(
        &mut self,
        name: &str,
        subject: &str,
        payload: &str,
        wait: Duration,
    ) -> Result<(usize, Option<super::conn::Frame>), String> {
        self.requests += 1;
        let id = self.requests;
        self.streams_made |= subject.contains("STREAM.CREATE") && !self.core_only;
        let vars = self.vars.clone();
        let conn = self.conn(name)?;
        let head = format!("{subject} _INBOX.{name}.{id}");
        let bare = payload.strip_prefix('|').unwrap_or(payload);
        let publish = match payload.starts_with("| ") && payload.contains("||") {
            true => format!("HPUB {head} {{hdr}} {{len}} | NATS/1.0 {payload}"),
            false => format!("PUB {head} {{len}} | {}", bare.trim_start()),
        };
        conn.send(format!("SUB _INBOX.{name}.{id} q{id}\r\n").as_bytes());
        conn.send(&encode(&publish, &vars));
        let sid = format!("q{id}");
        let frame = conn.take(Instant::now() + wait, |frame| frame.sid() == sid);
        conn.send(format!("UNSUB q{id}\r\n").as_bytes());
        Ok((id, frame))
    }

    fn exchange(
        &mut self,
        step: &Step,
        (name, subject, payload, want): (&str, &str, &str, &str),
        retry: bool,
    ) -> Result<(), String> {
        let end = Instant::now() + WAIT;
        loop {
            let subject = substitute(subject, &self.vars);
            let wait = if matches!(want, "none" | "?" | "?-") { QUIET } else { WAIT };
            let (_, frame) = self.request(name, &subject, payload, wait)?;
            let result = match (&frame, want) {
                (None, "none") => Ok(()),
                (Some(frame), "none") => Err(format!("expected no answer, got {}", show(frame))),
                (None, "?" | "?-") => {
                    self.bless(step, "none".into());
                    Ok(())
                }
                (None, _) => Err("no answer".into()),
                (Some(frame), "?" | "?-") => {
                    let short = want == "?-";
                    let answer = bless::answer(&subject, frame, short);
                    self.bless(step, answer.trim_start().into());
                    Ok(())
                }
                (Some(frame), _) => answer_matches(&subject, want, frame, &mut self.vars),
            };
            if result.is_ok() || !retry || Instant::now() > end {
                return result;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn bless(&mut self, step: &Step, answer: String) {
        self.blessed.push((step.line, step.lines, format!("=> {answer}")));
    }
}

fn signal(name: &str) -> Result<i32, String> {
    Ok(match name {
        "USR1" => libc::SIGUSR1,
        "USR2" => libc::SIGUSR2,
        "HUP" => libc::SIGHUP,
        "TERM" => libc::SIGTERM,
        "INT" => libc::SIGINT,
        "KILL" => libc::SIGKILL,
        _ => return Err(format!("no signal {name}")),
    })
}
