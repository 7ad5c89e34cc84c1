//! From bytes to a tree of values, with Go's syntax errors.

use std::borrow::Cow;

/// How deep values may nest. Go allows 10,000; no request has more than six.
const DEPTH_MAX: usize = 512;

/// A value and the bytes it was written as.
#[derive(Debug)]
pub struct Value<'a> {
    /// The value's text, without white space around it.
    pub raw: &'a [u8],
    /// What it is.
    pub kind: Kind<'a>,
}

/// The kinds of JSON values.
#[derive(Debug)]
pub enum Kind<'a> {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number: its text is the value's `raw`.
    Number,
    /// A string, unescaped; what is not UTF-8 has become U+FFFD.
    String(Cow<'a, str>),
    /// An array.
    Array(Vec<Value<'a>>),
    /// An object's members in the order they were written.
    Object(Vec<(Cow<'a, str>, Value<'a>)>),
}

impl Kind<'_> {
    /// Go's word for it.
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Null => "null",
            Kind::Bool(_) => "bool",
            Kind::Number => "number",
            Kind::String(_) => "string",
            Kind::Array(_) => "array",
            Kind::Object(_) => "object",
        }
    }
}

/// Reads the next value of `data` from `*at` on and moves `*at` behind it. `None` when only white
/// space is left. The error is Go's text.
pub fn parse<'a>(data: &'a [u8], at: &mut usize) -> Result<Option<Value<'a>>, String> {
    let mut scan = Scan { data, at: *at, depth: 0 };
    scan.skip_space();
    if scan.at == data.len() {
        return Ok(None);
    }
    let value = scan.value()?;
    *at = scan.at;
    Ok(Some(value))
}

/// An error unless only white space follows.
pub(super) fn expect_end(data: &[u8], at: usize) -> Result<(), String> {
    let mut scan = Scan { data, at, depth: 0 };
    scan.skip_space();
    if scan.at == data.len() {
        return Ok(());
    }
    Err(scan.unexpected("after top-level value"))
}

struct Scan<'a> {
    data: &'a [u8],
    at: usize,
    depth: usize,
}

pub(super) const EOF: &str = "unexpected EOF";

impl<'a> Scan<'a> {
    fn peek(&self) -> Result<u8, String> {
        self.data.get(self.at).copied().ok_or_else(|| EOF.to_owned())
    }

    fn skip_space(&mut self) {
        while matches!(self.data.get(self.at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    /// The error for the character at `self.at`.
    fn unexpected(&self, context: &str) -> String {
        let (quoted, len) = quote_char(&self.data[self.at..]);
        format!("invalid character {quoted} {context} at offset {}", self.at + len)
    }

    fn value(&mut self) -> Result<Value<'a>, String> {
        let start = self.at;
        let kind = match self.peek()? {
            b'{' => self.nested(Self::object)?,
            b'[' => self.nested(Self::array)?,
            b'"' => Kind::String(self.string()?),
            b'-' | b'0'..=b'9' => self.number()?,
            b't' => self.literal("true", Kind::Bool(true))?,
            b'f' => self.literal("false", Kind::Bool(false))?,
            b'n' => self.literal("null", Kind::Null)?,
            _ => return Err(self.unexpected("looking for beginning of value")),
        };
        Ok(Value { raw: &self.data[start..self.at], kind })
    }

    fn nested(
        &mut self,
        read: impl Fn(&mut Self) -> Result<Kind<'a>, String>,
    ) -> Result<Kind<'a>, String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err("exceeded max depth".to_owned());
        }
        self.at += 1;
        self.skip_space();
        let kind = read(self)?;
        self.depth -= 1;
        Ok(kind)
    }

    fn object(&mut self) -> Result<Kind<'a>, String> {
        let mut members = Vec::new();
        if self.peek()? == b'}' {
            self.at += 1;
            return Ok(Kind::Object(members));
        }
        loop {
            if self.peek()? != b'"' {
                return Err(self.unexpected("looking for beginning of object key string"));
            }
            let key = self.string()?;
            self.skip_space();
            if self.peek()? != b':' {
                return Err(self.unexpected("after object key"));
            }
            self.at += 1;
            self.skip_space();
            let value = self.value()?;
            members.push((key, value));
            self.skip_space();
            match self.peek()? {
                b',' => self.at += 1,
                b'}' => {
                    self.at += 1;
                    return Ok(Kind::Object(members));
                }
                _ => return Err(self.unexpected("after object key:value pair")),
            }
            self.skip_space();
        }
    }

    fn array(&mut self) -> Result<Kind<'a>, String> {
        let mut items = Vec::new();
        if self.peek()? == b']' {
            self.at += 1;
            return Ok(Kind::Array(items));
        }
        loop {
            items.push(self.value()?);
            self.skip_space();
            match self.peek()? {
                b',' => self.at += 1,
                b']' => {
                    self.at += 1;
                    return Ok(Kind::Array(items));
                }
                _ => return Err(self.unexpected("after array element")),
            }
            self.skip_space();
        }
    }

    fn literal(&mut self, word: &str, kind: Kind<'a>) -> Result<Kind<'a>, String> {
        for expected in word.bytes() {
            if self.peek()? != expected {
                let context = format!("in literal {word} (expecting '{}')", expected as char);
                return Err(self.unexpected(&context));
            }
            self.at += 1;
        }
        Ok(kind)
    }

    fn number(&mut self) -> Result<Kind<'a>, String> {
        if self.peek()? == b'-' {
            self.at += 1;
        }
        if self.peek()? == b'0' {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.data.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.data.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.data.get(self.at), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(Kind::Number)
    }

    fn digits(&mut self) -> Result<(), String> {
        if !self.peek()?.is_ascii_digit() {
            return Err(self.unexpected("in numeric literal"));
        }
        while matches!(self.data.get(self.at), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        Ok(())
    }

    fn string(&mut self) -> Result<Cow<'a, str>, String> {
        self.at += 1;
        let start = self.at;
        loop {
            match self.peek()? {
                b'"' => {
                    let text = String::from_utf8_lossy(&self.data[start..self.at]);
                    self.at += 1;
                    return Ok(text);
                }
                b'\\' => return self.escaped_string(start),
                0..=0x1f => return Err(self.unexpected("in string")),
                _ => self.at += 1,
            }
        }
    }

    /// The rest of a string that starts at `start` and has its first escape at `self.at`.
    fn escaped_string(&mut self, start: usize) -> Result<Cow<'a, str>, String> {
        let mut text = self.data[start..self.at].to_vec();
        loop {
            match self.peek()? {
                b'"' => {
                    self.at += 1;
                    return Ok(Cow::Owned(String::from_utf8_lossy(&text).into_owned()));
                }
                b'\\' => {
                    let c = self.escape()?;
                    text.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                }
                0..=0x1f => return Err(self.unexpected("in string")),
                b => {
                    text.push(b);
                    self.at += 1;
                }
            }
        }
    }

    fn escape(&mut self) -> Result<char, String> {
        let start = self.at;
        self.at += 1;
        let c = match self.peek()? {
            c @ (b'"' | b'\\' | b'/') => c as char,
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let unit = self.hex(start)?;
                self.at = start + 6;
                return self.surrogate(unit);
            }
            _ => return Err(self.bad_escape(start, start + 2)),
        };
        self.at += 1;
        Ok(c)
    }

    /// The second half of a surrogate pair, if `unit` is a first half; U+FFFD for a lone half.
    fn surrogate(&mut self, unit: u16) -> Result<char, String> {
        let mut units = vec![unit];
        let paired = self.data[self.at..].starts_with(b"\\u");
        if (0xd800..0xdc00).contains(&unit) && paired {
            let low = self.hex(self.at)?;
            if (0xdc00..0xe000).contains(&low) {
                units.push(low);
                self.at += 6;
            }
        }
        let decoded = char::decode_utf16(units).next();
        Ok(decoded.and_then(Result::ok).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    /// The number of a `\uXXXX` that starts at `start`.
    fn hex(&self, start: usize) -> Result<u16, String> {
        let mut unit = 0;
        for i in start + 2..start + 6 {
            let Some(&b) = self.data.get(i) else { return Err(EOF.to_owned()) };
            let Some(digit) = (b as char).to_digit(16) else {
                return Err(self.bad_escape(start, start + 6));
            };
            unit = unit << 4 | digit as u16;
        }
        Ok(unit)
    }

    fn bad_escape(&self, start: usize, end: usize) -> String {
        let end = end.min(self.data.len());
        let text = String::from_utf8_lossy(&self.data[start..end]);
        format!("invalid escape sequence `{text}` in string at offset {end}")
    }
}

/// Go's quoting of the first character of `rest`, and how many bytes it takes.
fn quote_char(rest: &[u8]) -> (String, usize) {
    let head = &rest[..rest.len().min(4)];
    let valid = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(e) => std::str::from_utf8(&head[..e.valid_up_to()]).unwrap_or_default(),
    };
    match valid.chars().next() {
        Some('\'') => ("'\\''".to_owned(), 1),
        Some('"') => ("'\"'".to_owned(), 1),
        Some(c) => {
            let quoted = super::encode::go_quote(c.encode_utf8(&mut [0; 4]));
            (format!("'{}'", &quoted[1..quoted.len() - 1]), c.len_utf8())
        }
        None => (format!("'\\x{:02x}'", head.first().copied().unwrap_or_default()), 1),
    }
}
