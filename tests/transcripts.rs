//! Plays every transcript under `tests/transcripts` to corelane and to nats-server.
//!
//! The format is told in `common/script.rs`. `TRANSCRIPTS=text` plays only the files whose path
//! contains the text. `TRANSCRIPT_BLESS=1` with the test `nats_server` writes what nats-server
//! answers over every `?`.

#[allow(dead_code)]
mod common;

use common::player::{self, Outcome};
use common::script;
use common::server::Kind;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// Files played at the same time: most of a transcript is waiting.
const PARALLEL: usize = 8;

#[test]
fn corelane() {
    run(Kind::Corelane, 1);
}

#[test]
fn corelane_on_two_reactors() {
    run(Kind::Corelane, 2);
}

#[test]
fn corelane_on_four_reactors() {
    run(Kind::Corelane, 4);
}

#[test]
fn nats_server() {
    if Kind::NatsServer.program().is_none() {
        println!("nats-server is not installed: its half of the transcripts is not played");
        return;
    }
    run(Kind::NatsServer, 1);
}

fn files(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files(&path, out);
        } else if path.extension().is_some_and(|ext| ext == "txt") {
            out.push(path);
        }
    }
}

fn run(kind: Kind, reactors: u16) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let filter = std::env::var("TRANSCRIPTS").unwrap_or_default();
    let mut paths = Vec::new();
    files(&root, &mut paths);
    paths.sort();
    paths.retain(|path| path.to_string_lossy().contains(&filter));
    assert!(!paths.is_empty(), "no transcript matches {filter:?}");
    let next = AtomicUsize::new(0);
    let outcomes = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..PARALLEL {
            scope.spawn(|| {
                while let Some(path) = paths.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let start = Instant::now();
                    let outcome = one(kind, reactors, path);
                    let taken = start.elapsed();
                    let name = path.strip_prefix(&root).unwrap_or(path).display().to_string();
                    outcomes.lock().unwrap().push((name, outcome, taken));
                }
            });
        }
    });
    let mut outcomes = outcomes.into_inner().unwrap();
    outcomes.sort_by(|a, b| a.0.cmp(&b.0));
    let sum = |f: fn(&Outcome) -> usize| outcomes.iter().map(|(_, o, _)| f(o)).sum::<usize>();
    let failed = sum(|o| o.failures.len());
    let sections = sum(|o| o.sections);
    let word = match kind {
        Kind::Corelane => format!("{} on {reactors}", kind.word()),
        Kind::NatsServer => kind.word().to_owned(),
    };
    for (name, outcome, _) in &outcomes {
        for failure in &outcome.failures {
            println!("{word}: {name}:{failure}");
        }
    }
    if let Some((name, outcome, taken)) = outcomes.iter().max_by_key(|(_, _, taken)| taken) {
        let (title, part) = &outcome.longest;
        println!("{word}: the longest is {name} with {taken:.1?}, {part:.1?} for \"{title}\"");
    }
    let (files, exchanges) = (outcomes.len(), sum(|o| o.exchanges));
    println!("{word}: {files} files, {sections} sections, {exchanges} exchanges, {failed} failed");
    assert_eq!(failed, 0, "sections that failed against {word}");
}

fn one(kind: Kind, reactors: u16, path: &Path) -> Outcome {
    let text = fs::read_to_string(path).unwrap_or_default();
    match script::parse(&text) {
        Err(why) => Outcome { failures: vec![format!("0: {why}")], ..Outcome::default() },
        Ok(mut script) => {
            script.setup.reactors = reactors;
            let outcome = player::play(kind, &script);
            if kind == Kind::NatsServer && std::env::var_os("TRANSCRIPT_BLESS").is_some() {
                bless(path, &text, &outcome);
            }
            outcome
        }
    }
}

/// Writes answers over the lines that asked for them.
fn bless(path: &Path, text: &str, outcome: &Outcome) {
    if outcome.blessed.is_empty() {
        return;
    }
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for (line, count, answer) in outcome.blessed.iter().rev() {
        let old = lines[line - 1..line - 1 + count].join("\n");
        let new = match answer.starts_with("=> ") {
            true => {
                let answer = &answer[3..];
                let head = old.trim_end_matches(['?', '-']);
                let last = head.lines().last().unwrap_or_default().len();
                let first = answer.lines().next().unwrap_or_default().len();
                let gap = if last + first > 104 { "\n  " } else { "" };
                format!("{}{gap}{answer}", if gap.is_empty() { head } else { head.trim_end() })
            }
            false => answer.clone(),
        };
        lines.splice(line - 1..line - 1 + count, [new]);
    }
    fs::write(path, lines.join("\n") + "\n").expect("write the transcript");
}
