//! The rules that the compiler does not know: which part may know which, which calls the pure parts
//! must not make, where `unsafe` may stand, and how long files and functions may be.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Folders of `src` that decide purely: no clock, no randomness, no I/O, no locks.
const PURE: [&str; 11] = [
    "subject",
    "protocol",
    "stream",
    "consumer",
    "replication",
    "shard",
    "interest",
    "client",
    "meta",
    "api",
    "turn",
];
/// What a pure part must not say outside its tests.
const BANNED: [&str; 14] = [
    "Instant::now",
    "SystemTime::now",
    "thread_rng",
    "rand::rng",
    "std::fs",
    "std::net",
    "Mutex<",
    "RwLock<",
    "std::thread",
    "io_uring",
    "glommio",
    "libc::",
    "println!",
    "eprintln!",
];
/// Where `unsafe` may stand.
const UNSAFE: [&str; 8] = [
    "ringbuf/",
    "storage/src/device/",
    "storage/src/buffer",
    "storage/src/log/flush.rs",
    "storage/src/log/checkpoint.rs",
    "src/reactor/",
    "src/server.rs",
    "sim/src/socket.rs",
];
const LINES_MAX: usize = 800;
const FUNCTION_LINES_MAX: usize = 70;
const COLUMNS_MAX: usize = 100;

/// Pairs of a part and what it must not use: dependencies point one way.
fn forbidden_edges() -> Vec<(&'static str, Vec<&'static str>)> {
    let shells = ["reactor", "control"];
    let mut edges = Vec::new();
    for part in PURE {
        edges.push((part, shells.to_vec()));
    }
    let jetstream = ["shard", "stream", "consumer", "meta", "api"];
    for part in ["subject", "protocol", "interest", "client", "config", "replication"] {
        edges.push((part, jetstream.to_vec()));
    }
    edges.push(("subject", vec!["turn", "client", "protocol", "interest"]));
    edges.push(("protocol", vec!["turn", "client", "interest"]));
    edges.push(("interest", vec!["turn", "client", "protocol"]));
    edges.push(("config", vec!["turn", "client", "reactor", "control"]));
    edges.push(("api", vec!["shard", "stream", "consumer", "meta", "turn", "client", "interest"]));
    edges.push(("stream", vec!["shard", "turn", "client", "consumer", "meta", "interest"]));
    edges.push(("consumer", vec!["shard", "turn", "client", "meta", "stream", "interest"]));
    edges.push(("meta", vec!["shard", "turn", "client", "consumer", "interest"]));
    edges.push(("client", vec!["turn"]));
    edges.push(("shard", vec!["turn", "client", "protocol"]));
    edges.push(("control", vec!["reactor", "turn", "shard", "client"]));
    edges
}

struct Source {
    /// Path from the root of the repository.
    name: String,
    /// Lines before the file's test module, without comments.
    code: Vec<(usize, String)>,
    lines: usize,
    longest: usize,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() && name != "target" && name != ".git" {
            rust_files(&path, out);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            out.push(path);
        }
    }
}

fn read(path: &Path) -> Source {
    let text = fs::read_to_string(path).expect("a source file is text");
    let name = path.strip_prefix(root()).expect("inside the repository").display().to_string();
    let in_tests = |line: &str| line.trim_start().starts_with("#[cfg(test)]");
    // A `#[cfg(test)]` on one item hides the rest only where a module follows.
    let lines: Vec<&str> = text.lines().collect();
    let end = (0..lines.len())
        .find(|&i| {
            let next = lines.get(i + 1).map_or("", |line| line.trim_start());
            in_tests(lines[i]) && next.starts_with("mod ") && next.ends_with('{')
        })
        .unwrap_or(lines.len());
    let code = lines[..end]
        .iter()
        .enumerate()
        .map(|(i, line)| (i + 1, line.split("//").next().unwrap_or_default().to_owned()))
        .collect();
    let longest = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0);
    Source { name, code, lines: lines.len(), longest }
}

fn sources() -> Vec<Source> {
    let mut paths = Vec::new();
    rust_files(root(), &mut paths);
    paths.sort();
    paths.iter().map(|path| read(path)).collect()
}

/// The folder or file of `src` that a source belongs to.
fn part(name: &str) -> Option<&str> {
    let rest = name.strip_prefix("src/")?;
    Some(rest.split('/').next().unwrap_or(rest).trim_end_matches(".rs"))
}

fn is_test(name: &str) -> bool {
    name.contains("/tests/") || name.starts_with("tests/") || name.ends_with("tests.rs")
}

fn fail_with(rule: &str, found: &[String]) {
    assert!(found.is_empty(), "{rule}:\n  {}", found.join("\n  "));
}

/// Whether a line uses `crate::part` (or several parts in braces).
fn uses(line: &str, part: &str) -> bool {
    ["crate::", "corelane::"].iter().any(|prefix| {
        line.match_indices(prefix).any(|(at, _)| {
            let rest = &line[at + prefix.len()..];
            let names = rest.strip_prefix('{').map_or(rest, |inner| inner);
            let whole = |text: &str| {
                let name: String =
                    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                name == part
            };
            match rest.starts_with('{') {
                true => names.split(['{', ',', '}']).any(|name| whole(name.trim())),
                false => whole(names),
            }
        })
    })
}

#[test]
fn parts_know_only_what_lies_below_them() {
    let mut found = Vec::new();
    for source in sources().iter().filter(|s| !is_test(&s.name)) {
        for (_, forbidden) in
            forbidden_edges().iter().filter(|(p, _)| part(&source.name) == Some(p))
        {
            for (line, text) in &source.code {
                for other in forbidden.iter().filter(|other| uses(text, other)) {
                    found.push(format!("{}:{line} uses {other}", source.name));
                }
            }
        }
        let storage_pure = source.name.starts_with("storage/src/")
            && !source.name.starts_with("storage/src/device");
        if storage_pure {
            for (line, text) in &source.code {
                if text.contains("io_uring") || text.contains("std::fs") || text.contains("glommio")
                {
                    found.push(format!("{}:{line}: {}", source.name, text.trim()));
                }
            }
        }
    }
    fail_with("a part uses what it must not know", &found);
}

#[test]
fn pure_parts_make_no_banned_calls() {
    let mut found = Vec::new();
    for source in sources().iter().filter(|s| !is_test(&s.name)) {
        if !part(&source.name).is_some_and(|part| PURE.contains(&part)) {
            continue;
        }
        for (line, text) in &source.code {
            for call in BANNED.iter().filter(|call| text.contains(**call)) {
                found.push(format!("{}:{line}: {call}", source.name));
            }
        }
    }
    fail_with("clock, randomness, I/O or locks inside what decides purely", &found);
}

#[test]
fn unsafe_stands_where_it_may() {
    let mut found = Vec::new();
    let tools = ["sim/", "tests/"];
    for source in sources().iter().filter(|s| !is_test(&s.name)) {
        let allowed = UNSAFE.iter().chain(&tools).any(|prefix| source.name.starts_with(prefix));
        for (line, text) in source.code.iter().filter(|_| !allowed) {
            let words: Vec<&str> = text.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
            if words.contains(&"unsafe") {
                found.push(format!("{}:{line}", source.name));
            }
        }
    }
    fail_with("unsafe outside the files that may have it", &found);
}

#[test]
fn files_and_lines_are_short() {
    let mut found = Vec::new();
    for source in sources() {
        if source.lines > LINES_MAX {
            found.push(format!("{}: {} lines", source.name, source.lines));
        }
        if source.longest > COLUMNS_MAX {
            found.push(format!("{}: a line of {} columns", source.name, source.longest));
        }
    }
    fail_with("files of at most 800 lines, lines of at most 100 columns", &found);
}

/// The paths that a `use` tree names, braces taken apart.
fn leaves(tree: &str) -> Vec<String> {
    let tree = tree.trim();
    let Some((prefix, rest)) = tree.split_once('{') else { return vec![tree.to_owned()] };
    let inner = rest.rsplit_once('}').map_or(rest, |(inner, _)| inner);
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    for (at, c) in inner.char_indices().chain([(inner.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                let branch = inner[start..at].trim();
                if !branch.is_empty() {
                    found.extend(leaves(branch).iter().map(|leaf| format!("{prefix}{leaf}")));
                }
                start = at + 1;
            }
            _ => {}
        }
    }
    found
}

/// All paths in a source that begin with `crate` or `super`, as segments: those of `use` items, and
/// those that stand in the code.
fn paths(code: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for prefix in ["crate::", "super::"] {
        for (at, _) in code.match_indices(prefix) {
            let before = code[..at].chars().next_back();
            let visibility = code[..at].ends_with("pub(in ");
            if visibility || before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            let of_use = code[..at].trim_end().ends_with("use");
            let end = match of_use {
                true => code[at..].find(';'),
                false => code[at..].find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':'),
            };
            let tree = &code[at..end.map_or(code.len(), |end| at + end)];
            found.extend(leaves(tree).iter().map(|leaf| {
                let name = leaf.split(" as ").next().unwrap_or_default();
                name.split("::").map(|segment| segment.trim().to_owned()).collect()
            }));
        }
    }
    found
}

/// Which modules of the folder `within` (a part of `src`) a module of it uses: folders and files
/// that lie at its top. What is named of the folder itself counts as its `mod`.
fn uses_within(within: &str, source: &Source, modules: &BTreeSet<String>) -> BTreeSet<String> {
    let code: Vec<&str> = source.code.iter().map(|(_, line)| line.as_str()).collect();
    let place = source.name.trim_start_matches("src/").trim_end_matches(".rs");
    let place: Vec<&str> = place.split('/').filter(|segment| *segment != "mod").collect();
    let mut found = BTreeSet::new();
    for path in paths(&code.join("\n")) {
        let up = path.iter().take_while(|segment| *segment == "super").count();
        let mut whole: Vec<&str> = match path[0] == "crate" {
            true => Vec::new(),
            false => place[..place.len().saturating_sub(up)].to_vec(),
        };
        whole.extend(path.iter().skip(up.max(1)).map(String::as_str));
        if whole.first() != Some(&within) {
            continue;
        }
        let module = whole.get(1).filter(|module| modules.contains(**module));
        found.insert(module.map_or("mod", |module| *module).to_owned());
    }
    found
}

/// A way through a graph from a node back to it, if there is one.
fn circle(edges: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    fn visit(
        edges: &BTreeMap<String, BTreeSet<String>>,
        node: &str,
        way: &mut Vec<String>,
        done: &mut BTreeSet<String>,
    ) -> bool {
        if let Some(at) = way.iter().position(|known| known == node) {
            way.drain(..at);
            way.push(node.to_owned());
            return true;
        }
        if !done.insert(node.to_owned()) {
            return false;
        }
        way.push(node.to_owned());
        let next = edges.get(node).into_iter().flatten();
        if next.into_iter().any(|next| visit(edges, next, way, done)) {
            return true;
        }
        way.pop();
        false
    }
    let (mut way, mut done) = (Vec::new(), BTreeSet::new());
    edges.keys().any(|node| visit(edges, node, &mut way, &mut done)).then_some(way)
}

#[test]
fn imports_within_the_shard_have_no_circle() {
    let module = |source: &Source| {
        let rest = source.name.strip_prefix("src/shard/")?;
        Some(rest.split('/').next()?.trim_end_matches(".rs").to_owned())
    };
    let all = sources();
    let of_shard: Vec<(String, &Source)> = all
        .iter()
        .filter(|source| !is_test(&source.name))
        .filter_map(|source| Some((module(source)?, source)))
        .collect();
    let modules: BTreeSet<String> = of_shard.iter().map(|(name, _)| name.clone()).collect();
    assert!(modules.len() > 10, "the modules of the shard were not found: {modules:?}");
    let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, source) in of_shard {
        let mut used = uses_within("shard", source, &modules);
        used.remove(&name);
        edges.entry(name).or_default().extend(used);
    }
    // The folder's own file has all modules below it.
    let below = modules.into_iter().filter(|name| name != "mod").collect();
    edges.insert("mod".to_owned(), below);
    if let Some(way) = circle(&edges) {
        panic!("modules of src/shard import in a circle: {}", way.join(" -> "));
    }
}

/// The name of the function that begins on a line as rustfmt leaves it, and its indent.
fn function(line: &str) -> Option<(&str, &str)> {
    let text = line.trim_start();
    let indent = &line[..line.len() - text.len()];
    let mut words = text.split(' ');
    let keywords = ["const", "async", "unsafe", "extern", "\"C\""];
    let word = words.find(|w| !w.starts_with("pub") && !keywords.contains(w))?;
    let name = words.next().filter(|_| word == "fn")?;
    let end = name.find(|c: char| !c.is_alphanumeric() && c != '_');
    Some((&name[..end.unwrap_or(name.len())], indent))
}

/// Functions that are too long, with the line where each begins and its length.
fn long_functions(lines: &[&str]) -> Vec<(usize, String, usize)> {
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let Some((name, indent)) = function(line) else { continue };
        let ends = |line: &str| {
            let rest = line.strip_prefix(indent);
            rest == Some("}") || rest.is_some_and(|r| !r.starts_with(' ') && r.ends_with(';'))
        };
        let one_line = line.ends_with('}') || line.ends_with(';');
        let length = match one_line {
            true => 1,
            false => 1 + lines[start..].iter().take_while(|line| !ends(line)).count(),
        };
        if length > FUNCTION_LINES_MAX {
            found.push((start + 1, name.to_owned(), length));
        }
    }
    found
}

#[test]
fn functions_are_short() {
    let mut found = Vec::new();
    for source in sources() {
        let text = fs::read_to_string(root().join(&source.name)).expect("a source file is text");
        let lines: Vec<&str> = text.lines().collect();
        for (line, name, length) in long_functions(&lines) {
            found.push(format!("{}:{line}: {name} has {length} lines", source.name));
        }
    }
    fail_with("functions of at most 70 lines", &found);
}

#[test]
fn folders_say_what_they_are_for() {
    let mut found = Vec::new();
    for entry in fs::read_dir(root().join("src")).into_iter().flatten().flatten() {
        let file = entry.path().join("mod.rs");
        let text = fs::read_to_string(&file).unwrap_or_default();
        if file.is_file() && !text.starts_with("//!") {
            found.push(file.display().to_string());
        }
    }
    fail_with("a folder's mod.rs opens with its purpose", &found);
}

#[test]
fn the_rules_can_be_broken() {
    assert!(uses("use crate::reactor::Ring;", "reactor"));
    assert!(uses("    crate::{shard, turn::Turn};", "turn"));
    assert!(!uses("use crate::reactors::Ring;", "reactor"));
    assert!(!uses("use super::reactor;", "reactor"));
    assert_eq!(function("    pub(super) const unsafe fn go<T>(x: T) {"), Some(("go", "    ")));
    assert_eq!(function("fn go() {"), Some(("go", "")));
    assert_eq!(function("    let f = fn_of(x);"), None);
    let mut long = vec!["    let x = 1;"; 70];
    long.insert(0, "fn long() {");
    long.push("}");
    assert_eq!(long_functions(&long), [(1, "long".to_owned(), 72)]);
    long.truncate(69);
    long.push("}");
    assert_eq!(long_functions(&long), []);
    let tree = "crate::shard::{state::{Shard, jobs::Job}, budget,}";
    let whole = ["state::Shard", "state::jobs::Job", "budget"];
    assert_eq!(leaves(tree), whole.map(|leaf| format!("crate::shard::{leaf}")));
    let modules: BTreeSet<String> = ["api", "state"].map(str::to_owned).into();
    let lines = ["use super::{state::Shard, Opened};", "    let x = super::super::shard::api::X;"];
    let source = Source {
        name: "src/shard/jobs.rs".to_owned(),
        code: lines.iter().map(|line| (0, (*line).to_owned())).collect(),
        lines: lines.len(),
        longest: 0,
    };
    let used = uses_within("shard", &source, &modules);
    assert_eq!(used, ["api", "mod", "state"].map(str::to_owned).into());
    let edge = |from: &str, to: &str| (from.to_owned(), [to.to_owned()].into());
    let mut edges = BTreeMap::from([edge("a", "b"), edge("b", "c"), edge("c", "d")]);
    assert_eq!(circle(&edges), None);
    edges.insert("d".to_owned(), ["b".to_owned()].into());
    assert_eq!(circle(&edges), Some(["b", "c", "d", "b"].map(str::to_owned).to_vec()));
    assert_eq!(part("src/stream/mod.rs"), Some("stream"));
    assert_eq!(part("src/types.rs"), Some("types"));
    assert_eq!(part("storage/src/lib.rs"), None);
}
