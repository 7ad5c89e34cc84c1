//! Items to a map of values: includes, variables, numbers.

use super::Loader;
use super::lexer::{Item, LexError, Lexer, Token};
use super::value::{Map, Node, Pos, Value};
use std::collections::BTreeSet;
use std::rc::Rc;

/// Files that one configuration may read, each inclusion counted.
const FILES_MAX: usize = 1_000;
/// Files inside files.
const INCLUDE_DEPTH_MAX: usize = 32;
/// Bytes of all files together.
const BYTES_MAX: usize = 16 << 20;
/// Values of a configuration, with what variables repeat.
const VALUES_MAX: usize = 1 << 20;

/// Parses the file at `path`. The error is the whole text after `nats-server: `.
pub fn parse_file(path: &str, loader: &mut dyn Loader) -> Result<Map, String> {
    Budget::new(loader).file(path)
}

/// Parses `text` as the file called `path`.
pub fn parse(path: &str, text: &[u8], loader: &mut dyn Loader) -> Result<Map, String> {
    Budget::new(loader).text(path, text)
}

/// What all the files of one configuration share.
struct Budget<'a> {
    loader: &'a mut dyn Loader,
    depth: usize,
    files: usize,
    bytes: usize,
    values: usize,
    /// Environment variables that are being read, to find cycles.
    reading: BTreeSet<String>,
}

impl<'a> Budget<'a> {
    fn new(loader: &'a mut dyn Loader) -> Self {
        Budget { loader, depth: 0, files: 0, bytes: 0, values: 0, reading: BTreeSet::new() }
    }

    fn file(&mut self, path: &str) -> Result<Map, String> {
        let text = self.loader.read(path)?;
        self.text(path, &text)
    }

    fn text(&mut self, path: &str, text: &[u8]) -> Result<Map, String> {
        self.files += 1;
        self.bytes += text.len();
        if self.files > FILES_MAX {
            return Err(format!("configuration includes more than {FILES_MAX} files"));
        }
        if self.depth > INCLUDE_DEPTH_MAX {
            return Err(format!("files are included deeper than {INCLUDE_DEPTH_MAX}"));
        }
        if self.bytes > BYTES_MAX {
            return Err(format!("configuration is larger than {BYTES_MAX} bytes"));
        }
        self.depth += 1;
        let map = Parser::new(path, self).run(text);
        self.depth -= 1;
        map
    }

    fn count(&mut self, values: usize) -> Result<(), String> {
        self.values += values;
        if self.values > VALUES_MAX {
            return Err(format!("configuration has more than {VALUES_MAX} values"));
        }
        Ok(())
    }
}

enum Container {
    Map(Map),
    Array(Vec<Node>),
}

/// One file.
struct Parser<'a, 'b> {
    path: Rc<str>,
    shared: &'a mut Budget<'b>,
    /// Containers that are open, the file's own map first.
    open: Vec<Container>,
    /// Keys that wait for their value.
    keys: Vec<(String, Pos)>,
}

impl<'a, 'b> Parser<'a, 'b> {
    fn new(path: &str, shared: &'a mut Budget<'b>) -> Self {
        let open = vec![Container::Map(Map::new())];
        Parser { path: Rc::from(path), shared, open, keys: Vec::new() }
    }

    fn run(mut self, text: &[u8]) -> Result<Map, String> {
        let mut lexer = Lexer::new(self.path.clone(), text);
        let mut last_key: Option<String> = None;
        loop {
            let item = lexer.next_item().map_err(|e| parse_error(&e))?;
            if item.token == Token::Eof {
                // A closing brace at the end is taken for a key; JSON-like files have one.
                if last_key.is_some_and(|key| key != "}") {
                    return Err(format!("config is invalid ({})", item.at));
                }
                break;
            }
            last_key = match &item.token {
                Token::Key(key) => Some(key.clone()),
                _ => None,
            };
            self.item(item)?;
        }
        match self.open.into_iter().next() {
            Some(Container::Map(map)) => Ok(map),
            _ => Ok(Map::new()),
        }
    }

    fn item(&mut self, item: Item) -> Result<(), String> {
        self.shared.count(1)?;
        let Item { token, at } = item;
        let value = match token {
            Token::Eof => return Ok(()),
            Token::Key(key) => {
                self.keys.push((key, at));
                return Ok(());
            }
            Token::MapStart => {
                self.open.push(Container::Map(Map::new()));
                return Ok(());
            }
            Token::ArrayStart => {
                self.open.push(Container::Array(Vec::new()));
                return Ok(());
            }
            Token::MapEnd | Token::ArrayEnd => match self.open.pop() {
                Some(Container::Map(map)) => Value::Map(map),
                Some(Container::Array(items)) => Value::Array(items),
                None => return Ok(()),
            },
            Token::String(text) => Value::String(text),
            Token::Bool(flag) => Value::Bool(flag),
            Token::Int(text) => Value::Int(integer(&text)?),
            Token::Float(text) => Value::Float(float(&text)?),
            Token::Datetime(text) => datetime(text)?,
            Token::Variable(name) => self.variable(&name, &at)?,
            Token::Include(path) => return self.include(&path),
        };
        self.set(value, at);
        Ok(())
    }

    fn set(&mut self, value: Value, at: Pos) {
        match self.open.last_mut() {
            Some(Container::Array(items)) => items.push(Node { value, at, used: false }),
            Some(Container::Map(map)) => {
                if let Some((key, at)) = self.keys.pop() {
                    map.insert(key, Node { value, at, used: false });
                }
            }
            None => {}
        }
    }

    /// The value of a variable: of the innermost open map that has the key, else of the
    /// environment.
    fn variable(&mut self, name: &str, at: &Pos) -> Result<Value, String> {
        for container in self.open.iter_mut().rev() {
            if let Container::Map(map) = container
                && let Some(node) = map.get_mut(name)
            {
                node.used = true;
                let value = node.value.clone();
                self.shared.count(value.count())?;
                return Ok(value);
            }
        }
        let line = at.line;
        let failed = |e: String| {
            format!("variable reference for '{name}' on line {line} could not be parsed: {e}")
        };
        if self.shared.reading.contains(name) {
            return Err(failed(format!("variable reference cycle for '{name}'")));
        }
        let Some(text) = self.shared.loader.var(name) else {
            return Err(format!("variable reference for '{name}' on line {line} can not be found"));
        };
        self.shared.reading.insert(name.to_owned());
        let parsed = self.shared.text("", format!("pk={text}").as_bytes());
        self.shared.reading.remove(name);
        match parsed.map_err(failed)?.remove("pk") {
            Some(node) => Ok(node.value),
            None => Err(format!("variable reference for '{name}' on line {line} can not be found")),
        }
    }

    fn include(&mut self, path: &str) -> Result<(), String> {
        let full = join(&self.path, path);
        let map = self
            .shared
            .file(&full)
            .map_err(|e| format!("error parsing include file '{path}', {e}"))?;
        if let Some(Container::Map(open)) = self.open.last_mut() {
            open.extend(map);
        }
        Ok(())
    }
}

fn parse_error(error: &LexError) -> String {
    format!("Parse error on line {}: '{}'", error.line, error.text)
}

fn integer(text: &str) -> Result<i64, String> {
    let digits_end = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (digits, suffix) = text.split_at(digits_end);
    let number: i64 =
        digits.parse().map_err(|_| format!("integer '{digits}' is out of the range"))?;
    let mut suffix = suffix.bytes();
    let exponent = match suffix.next().map(|b| b.to_ascii_lowercase()) {
        None => return Ok(number),
        Some(b'k') => 1,
        Some(b'm') => 2,
        Some(b'g') => 3,
        Some(b't') => 4,
        Some(b'p') => 5,
        _ => 6,
    };
    let base: i64 = if suffix.next().is_some() { 1024 } else { 1000 };
    Ok(number.wrapping_mul(base.wrapping_pow(exponent)))
}

fn float(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(number),
        _ => Err(format!("float '{text}' is out of the range")),
    }
}

fn datetime(text: String) -> Result<Value, String> {
    let field = |range: std::ops::Range<usize>| {
        text.get(range).and_then(|t| t.parse::<u32>().ok()).unwrap_or(u32::MAX)
    };
    let (year, month, day) = (field(0..4), field(5..7), field(8..10));
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => 0,
    };
    let exists =
        (1..=days).contains(&day) && field(11..13) < 24 && field(14..16) < 60 && field(17..19) < 60;
    if !exists {
        return Err(format!("expected Zulu formatted DateTime, but got '{text}'"));
    }
    Ok(Value::Datetime(text))
}

/// `path` beside the file `from`, tidied. An absolute `path` is put beside it too, as nats-server
/// does.
fn join(from: &str, path: &str) -> String {
    let dir = from.rfind('/').map_or("", |at| &from[..=at]);
    clean(&format!("{dir}/{path}"), dir.starts_with('/'))
}

/// The shortest name for a path, without looking at the disk.
fn clean(path: &str, rooted: bool) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => match parts.last() {
                Some(&last) if last != ".." => {
                    parts.pop();
                }
                _ if rooted => {}
                _ => parts.push(part),
            },
            _ => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}
