//! The NATS configuration grammar, character by character: text in, items out.
//!
//! The grammar has no document but its implementation, so this follows what nats-server 2.15.1
//! does, oddities included: a NUL ends the text, `[1,2]` reads as `1` and the string `2]`, one
//! brace may surround the whole file, and a lone `/` between values is passed over. Every text in
//! an error is nats-server's.

use super::value::Pos;
use std::rc::Rc;

/// What the parser is given.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Eof,
    Key(String),
    String(String),
    Bool(bool),
    /// Digits and suffix, not yet a number.
    Int(String),
    Float(String),
    Datetime(String),
    Variable(String),
    Include(String),
    ArrayStart,
    ArrayEnd,
    MapStart,
    MapEnd,
}

/// A token and where it starts.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Item {
    pub token: Token,
    pub at: Pos,
}

/// What surrounds the place the lexer is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    /// The file.
    Top,
    /// A pair of braces around keys of the file: means the same as none.
    Block,
    Map,
    Array,
}

/// What may come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A key, or the end of what surrounds it. In an array: a value, or its end.
    Start,
    /// A separator, or the value at once.
    KeyEnd,
    Value,
    ValueEnd,
    BlockEnd,
    Include,
    Done,
}

/// Scopes inside scopes that are followed.
const DEPTH_MAX: usize = 128;

/// `Parse error on line N: '…'` without its frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LexError {
    pub line: u32,
    pub text: String,
}

pub(super) struct Lexer<'a> {
    text: &'a [u8],
    file: Rc<str>,
    /// Next byte to read.
    pos: usize,
    /// Line of `pos`, from 1.
    line: u32,
    /// Offset of the last newline before `pos`, 0 on the first line.
    newline_at: usize,
    scopes: Vec<Scope>,
    state: State,
}

type Step = Result<Option<Item>, LexError>;

fn is_blank(b: u8) -> bool {
    b == b' ' || b == b'\t'
}

fn is_newline(b: u8) -> bool {
    b == b'\n' || b == b'\r'
}

/// The end of the text, and what a NUL in it is taken for.
const EOF: u8 = 0;

impl<'a> Lexer<'a> {
    pub(super) fn new(file: Rc<str>, text: &'a [u8]) -> Self {
        Lexer {
            text,
            file,
            pos: 0,
            line: 1,
            newline_at: 0,
            scopes: vec![Scope::Top],
            state: State::Start,
        }
    }

    /// The next item; `Eof` for ever once the text has ended.
    pub(super) fn next_item(&mut self) -> Result<Item, LexError> {
        loop {
            let step = match self.state {
                State::Start => self.start(),
                State::KeyEnd => self.key_end(),
                State::Value => self.value(),
                State::ValueEnd => self.value_end(),
                State::BlockEnd => self.block_end(),
                State::Include => self.include(),
                State::Done => Ok(Some(self.here(Token::Eof))),
            };
            if let Some(item) = step? {
                return Ok(item);
            }
        }
    }

    fn scope(&self) -> Scope {
        self.scopes.last().copied().unwrap_or(Scope::Top)
    }

    fn push(&mut self, scope: Scope) -> Result<(), LexError> {
        if self.scopes.len() > DEPTH_MAX {
            return Err(self.error(format!("Values are nested deeper than {DEPTH_MAX}.")));
        }
        self.scopes.push(scope);
        self.state = State::Start;
        Ok(())
    }

    /// Leaves a map or an array, which is then a value of what surrounds it.
    fn pop(&mut self) {
        self.scopes.pop();
        self.state = State::ValueEnd;
    }

    fn peek(&self) -> u8 {
        self.text.get(self.pos).copied().unwrap_or(EOF)
    }

    fn peek_second(&self) -> u8 {
        self.text.get(self.pos + 1).copied().unwrap_or(EOF)
    }

    /// Passes one byte, which is not the end.
    fn bump(&mut self) {
        if self.peek() == b'\n' {
            self.line += 1;
            self.newline_at = self.pos;
        }
        self.pos += 1;
    }

    fn skip_while(&mut self, pred: impl Fn(u8) -> bool) {
        while self.peek() != EOF && pred(self.peek()) {
            self.bump();
        }
    }

    fn skip_line(&mut self) {
        self.skip_while(|b| !is_newline(b));
    }

    /// Passes a comment; false if there is none.
    fn skip_comment(&mut self) -> bool {
        let comment = matches!((self.peek(), self.peek_second()), (b'#', _) | (b'/', b'/'));
        if comment {
            self.skip_line();
        }
        comment
    }

    /// Leaves a block: what follows are keys again, but inside another block its own end.
    fn close_block(&mut self) {
        self.bump();
        self.scopes.pop();
        self.state = if self.scope() == Scope::Block { State::BlockEnd } else { State::Start };
    }

    /// After a block inside a block.
    fn block_end(&mut self) -> Step {
        self.skip_while(|b| is_blank(b) || is_newline(b));
        match self.peek() {
            b'#' | b'/' if self.skip_comment() => {}
            b'/' => self.bump(),
            b'}' => self.close_block(),
            b',' | b';' => {
                self.bump();
                self.state = State::Start;
            }
            _ => {
                let before = "Expected a block-level to end with a '}', but got '";
                return Err(self.error_here(before, "' instead."));
            }
        }
        Ok(None)
    }

    fn here(&self, token: Token) -> Item {
        self.item(token, self.pos, self.line, self.newline_at)
    }

    fn item(&self, token: Token, start: usize, line: u32, newline_at: usize) -> Item {
        let col = u32::try_from(start - newline_at).unwrap_or(u32::MAX);
        Item { token, at: Pos { file: self.file.clone(), line, col } }
    }

    fn error(&self, text: impl Into<String>) -> LexError {
        LexError { line: self.line, text: text.into() }
    }

    /// An error about the next character, which counts as read.
    fn error_here(&self, before: &str, after: &str) -> LexError {
        let newline = u32::from(self.peek() == b'\n');
        LexError { line: self.line + newline, text: format!("{before}{}{after}", self.found()) }
    }

    /// The next character as error texts show it.
    fn found(&self) -> String {
        match self.peek() {
            b'\n' => "\\n".to_owned(),
            EOF => "\0".to_owned(),
            _ => {
                let end = self.text.len().min(self.pos + 4);
                let chars = lossy(&self.text[self.pos..end]);
                chars.chars().next().map(String::from).unwrap_or_default()
            }
        }
    }

    fn start(&mut self) -> Step {
        match self.scope() {
            Scope::Array => return self.array_start(),
            Scope::Top | Scope::Block | Scope::Map => {
                self.skip_while(|b| is_blank(b) || is_newline(b))
            }
        }
        let in_map = self.scope() == Scope::Map;
        match self.peek() {
            EOF if in_map => Err(self.error("Unexpected EOF processing map.")),
            EOF if self.pos < self.text.len() => Err(self.error("Unexpected EOF.")),
            EOF => {
                self.state = State::Done;
                Ok(None)
            }
            b'#' | b'/' if self.skip_comment() => Ok(None),
            b'/' if in_map => {
                self.bump();
                self.bare_key()
            }
            b'/' => Err(self.error("Unexpected EOF.")),
            b'{' if !in_map => {
                self.bump();
                self.push(Scope::Block)?;
                Ok(None)
            }
            b'}' if in_map => {
                let item = self.here(Token::MapEnd);
                self.bump();
                self.pop();
                Ok(Some(item))
            }
            b']' if in_map => Err(self.error("Unexpected array end ']' processing map.")),
            b'}' if self.scope() == Scope::Block => {
                self.close_block();
                Ok(None)
            }
            b'=' | b':' => {
                let dot = if in_map { "." } else { "" };
                Err(self.error_here("Unexpected key separator '", &format!("'{dot}")))
            }
            quote @ (b'"' | b'\'') => self.quoted_key(quote),
            _ => self.bare_key(),
        }
    }

    fn quoted_key(&mut self, quote: u8) -> Step {
        self.bump();
        let (start, line, newline_at) = (self.pos, self.line, self.newline_at);
        self.skip_while(|b| b != quote);
        if self.peek() == EOF {
            return match (self.scope(), quote) {
                (Scope::Map, b'"') => {
                    Err(self.error("Unexpected EOF processing double quoted map key."))
                }
                (Scope::Map, _) => Err(self.error("Unexpected EOF processing quoted map key.")),
                _ => self.end_of_text(start),
            };
        }
        let key = lossy(&self.text[start..self.pos]);
        self.bump();
        self.state = State::KeyEnd;
        Ok(Some(self.item(Token::Key(key), start, line, newline_at)))
    }

    fn bare_key(&mut self) -> Step {
        let (start, line, newline_at) = (self.pos, self.line, self.newline_at);
        // The first character is the key's, whatever it is.
        if self.pos < self.text.len() {
            self.bump();
        }
        self.skip_while(|b| !is_blank(b) && !is_newline(b) && b != b':' && b != b'=');
        if self.peek() == EOF && self.scope() == Scope::Map {
            return Err(self.error("Unexpected EOF processing map key."));
        }
        let text = &self.text[start..self.pos];
        if text.eq_ignore_ascii_case(b"include")
            && (is_blank(self.peek()) || is_newline(self.peek()))
        {
            self.state = State::Include;
            return Ok(None);
        }
        self.state = State::KeyEnd;
        Ok(Some(self.item(Token::Key(lossy(text)), start, line, newline_at)))
    }

    fn key_end(&mut self) -> Step {
        self.skip_while(|b| is_blank(b) || is_newline(b));
        if self.peek() == b':' || self.peek() == b'=' {
            self.bump();
        } else if self.peek() == EOF && self.scope() != Scope::Map {
            self.state = State::Done;
            return Ok(None);
        }
        self.state = State::Value;
        Ok(None)
    }

    fn include(&mut self) -> Step {
        self.skip_while(is_blank);
        self.state = State::ValueEnd;
        let quote = self.peek();
        match quote {
            b'"' | b'\'' => {
                self.bump();
                let (start, line, newline_at) = (self.pos, self.line, self.newline_at);
                self.skip_while(|b| b != quote);
                if self.peek() == EOF {
                    let kind = if quote == b'"' { "double quoted" } else { "quoted" };
                    return Err(self.error(format!("Unexpected EOF in {kind} include")));
                }
                let path = lossy(&self.text[start..self.pos]);
                self.bump();
                Ok(Some(self.item(Token::Include(path), start, line, newline_at)))
            }
            b if is_newline(b) => {
                Err(self.error_with_newline("Expected include value but found new line"))
            }
            b'0'..=b'9' | b'-' => Err(self.include_error("number")),
            b'\\' => Err(self.error("Expected include value but found escape sequence")),
            b'[' => Err(self.include_error("array")),
            b'{' => Err(self.include_error("map")),
            b'(' => Err(self.include_error("block")),
            _ => {
                let (start, line, newline_at) = (self.pos, self.line, self.newline_at);
                self.skip_while(|b| {
                    !is_blank(b) && !is_newline(b) && !matches!(b, b';' | b'}' | b'\'')
                });
                let path = lossy(&self.text[start..self.pos]);
                if self.peek() == b'\'' {
                    self.bump();
                }
                Ok(Some(self.item(Token::Include(path), start, line, newline_at)))
            }
        }
    }

    fn include_error(&self, what: &str) -> LexError {
        let article = if what == "array" { "an" } else { "a" };
        self.error(format!("Expected include value but found start of {article} {what}"))
    }

    fn error_with_newline(&self, text: &str) -> LexError {
        LexError { line: self.line + u32::from(self.peek() == b'\n'), text: text.to_owned() }
    }

    /// The text ended inside of something: an error if that something had begun.
    fn end_of_text(&mut self, start: usize) -> Step {
        if self.pos > start {
            return Err(self.error("Unexpected EOF."));
        }
        self.state = State::Done;
        Ok(None)
    }

    /// The same in a quoted string, where a NUL counts as a beginning.
    fn end_of_string(&mut self, start: usize) -> Step {
        if self.pos < self.text.len() {
            return Err(self.error("Unexpected EOF."));
        }
        self.end_of_text(start)
    }

    fn array_start(&mut self) -> Step {
        self.skip_while(|b| is_blank(b) || is_newline(b));
        match self.peek() {
            b'#' | b'/' if self.skip_comment() => Ok(None),
            b',' | b'/' => Err(self.error("Unexpected array value terminator ','.")),
            b']' => {
                let item = self.here(Token::ArrayEnd);
                self.bump();
                self.pop();
                Ok(Some(item))
            }
            _ => self.value(),
        }
    }

    fn value(&mut self) -> Step {
        let in_map = self.scope() == Scope::Map;
        self.skip_while(|b| is_blank(b) || (in_map && is_newline(b)));
        let at = self.here(Token::Eof);
        match self.peek() {
            b if is_newline(b) => Err(self.error_with_newline("Expected value but found new line")),
            b'}' if in_map => {
                let item = self.here(Token::MapEnd);
                self.bump();
                self.pop();
                Ok(Some(item))
            }
            b',' if in_map => Err(self.error("Unexpected map value terminator \",\".")),
            b'{' => {
                self.bump();
                self.push(Scope::Map)?;
                Ok(Some(Item { token: Token::MapStart, at: at.at }))
            }
            b'[' => {
                self.bump();
                self.push(Scope::Array)?;
                Ok(Some(Item { token: Token::ArrayStart, at: at.at }))
            }
            b'(' => self.block(),
            b'\'' => self.raw_string(),
            b'"' => self.string(true),
            b'-' => self.number(true),
            b'0'..=b'9' => self.number(false),
            b'.' => Err(self.error("Floats must start with a digit")),
            _ => self.string(false),
        }
    }

    fn value_end(&mut self) -> Step {
        self.skip_while(is_blank);
        let scope = self.scope();
        if self.skip_comment() {
            if scope == Scope::Top {
                self.state = State::Start;
            }
            return Ok(None);
        }
        match (scope, self.peek()) {
            // A lone slash ends a value in a map and an array, and is passed over elsewhere.
            (Scope::Map | Scope::Array, b'/') | (_, b'\n' | b'\r' | b',') => self.bump(),
            (Scope::Top | Scope::Block, b'/') => {
                self.bump();
                return Ok(None);
            }
            (Scope::Top | Scope::Block | Scope::Map, b';') | (Scope::Top, b'}') => self.bump(),
            (Scope::Top, EOF) if self.pos < self.text.len() => self.bump(),
            (Scope::Top, EOF) => {}
            (Scope::Block, b'}') => {
                self.close_block();
                return Ok(None);
            }
            (Scope::Map, b'}') | (Scope::Array, b']') => {
                let end = if scope == Scope::Map { Token::MapEnd } else { Token::ArrayEnd };
                let item = self.here(end);
                self.bump();
                self.pop();
                return Ok(Some(item));
            }
            _ => return Err(self.value_end_error(scope)),
        }
        self.state = State::Start;
        Ok(None)
    }

    fn value_end_error(&self, scope: Scope) -> LexError {
        let (before, after) = match scope {
            Scope::Top => (
                "Expected a top-level value to end with a new line, comment or EOF, but got '",
                "' instead.",
            ),
            Scope::Block => (
                "Expected a block-level value to end with a new line, comment or EOF, but got '",
                "' instead.",
            ),
            Scope::Map => (
                "Expected a map value terminator \",\" or a map terminator \"}\", but got '",
                "' instead.",
            ),
            Scope::Array => (
                "Expected an array value terminator \",\" or an array terminator \"]\", but got '",
                "' instead.",
            ),
        };
        self.error_here(before, after)
    }

    fn block(&mut self) -> Step {
        self.bump();
        let (start, line, newline_at) = (self.pos, self.line, self.newline_at);
        loop {
            match self.peek() {
                EOF => return Err(self.error("Unexpected EOF processing block.")),
                b')' if self.pos > start && self.text[self.pos - 1] == b'\n' => {
                    if matches!(self.peek_second(), b'\n' | EOF) {
                        let text = lossy(&self.text[start..self.pos]);
                        self.bump();
                        self.state = State::ValueEnd;
                        return Ok(Some(self.item(Token::String(text), start, line, newline_at)));
                    }
                    self.bump();
                }
                _ => self.bump(),
            }
        }
    }

    fn raw_string(&mut self) -> Step {
        self.bump();
        let (start, line, newline_at) = (self.pos, self.line, self.newline_at);
        self.skip_while(|b| b != b'\'');
        if self.peek() == EOF {
            return self.end_of_string(start);
        }
        let text = lossy(&self.text[start..self.pos]);
        self.bump();
        self.state = State::ValueEnd;
        Ok(Some(self.item(Token::String(text), start, line, newline_at)))
    }

    /// A string with escapes: quoted, or bare until white space or a terminator.
    fn string(&mut self, quoted: bool) -> Step {
        if quoted {
            self.bump();
        }
        let (start, line, newline_at) = (self.pos, self.line, self.newline_at);
        let mut text = Vec::new();
        let mut escaped = false;
        loop {
            let b = self.peek();
            if b == EOF && quoted {
                return self.end_of_string(start);
            }
            let ends = if quoted {
                b == b'"'
            } else {
                b == EOF
                    || is_blank(b)
                    || is_newline(b)
                    || matches!(b, b',' | b';' | b']' | b'}' | b'\'')
            };
            if ends {
                break;
            }
            if b == b'\\' {
                escaped = true;
                text.push(self.escape()?);
            } else {
                text.push(b);
                self.bump();
            }
        }
        // A single quote ends a bare string too. With that or an escape it is nothing but a string.
        let at_quote = quoted || self.peek() == b'\'';
        if at_quote {
            self.bump();
        }
        self.state = State::ValueEnd;
        let text = lossy(&text);
        let token = if at_quote || escaped { Token::String(text) } else { bare(text) };
        Ok(Some(self.item(token, start, line, newline_at)))
    }

    fn escape(&mut self) -> Result<u8, LexError> {
        self.bump();
        let escaped = match self.peek() {
            b't' => b'\t',
            b'n' => b'\n',
            b'r' => b'\r',
            b'"' => b'"',
            b'\\' => b'\\',
            b'x' => return self.hex_escape(),
            _ => {
                return Err(self.error_here(
                    "Invalid escape character '",
                    "'. Only the following escape characters are allowed: \
                     \\xXX, \\t, \\n, \\r, \\\", \\\\.",
                ));
            }
        };
        self.bump();
        Ok(escaped)
    }

    fn hex_escape(&mut self) -> Result<u8, LexError> {
        let hex = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
        let after = self.pos + 1;
        if let Some([high, low]) = self.text.get(after..after + 2)
            && let (Some(high), Some(low)) = (hex(*high), hex(*low))
        {
            self.pos = after + 2;
            return Ok(high << 4 | low);
        }
        self.bump();
        let prefix = "Expected two hexadecimal digits after '\\x', but ";
        for _ in 0..2 {
            if is_newline(self.peek()) {
                return Err(self.error_with_newline(&format!("{prefix}hit end of line")));
            }
            self.bump_char();
        }
        // The last two bytes are shown, even when they are not two characters.
        let shown = lossy(&self.text[self.pos.saturating_sub(2)..self.pos]);
        Err(self.error(format!("{prefix}got '{shown}'")))
    }

    /// Passes one character, or nothing at the end.
    fn bump_char(&mut self) {
        if self.pos == self.text.len() {
            return;
        }
        self.bump();
        while self.text.get(self.pos).is_some_and(|b| b & 0xc0 == 0x80) {
            self.pos += 1;
        }
    }

    /// True at what may follow an integer; anything else makes it a string.
    fn at_number_end(&self) -> bool {
        let b = self.peek();
        b == EOF || is_blank(b) || is_newline(b) || matches!(b, b'}' | b',' | b';')
    }

    fn number(&mut self, negative: bool) -> Step {
        let (start, line, newline_at) = (self.pos, self.line, self.newline_at);
        if negative {
            self.bump();
            if self.peek() == b'.' {
                return Err(self.error("Floats must start with a digit, not '.'."));
            }
            if !self.peek().is_ascii_digit() {
                return Err(self.error_here("Expected a digit but got '", "'."));
            }
        }
        self.skip_while(|b| b.is_ascii_digit());
        let mut token: fn(String) -> Token = Token::Int;
        match self.peek() {
            b'-' if !negative => {
                if self.pos - start != 4 {
                    return Err(self.error("All ISO8601 dates must be in full Zulu form."));
                }
                self.datetime()?;
                token = Token::Datetime;
            }
            b'.' => {
                self.bump();
                if !self.peek().is_ascii_digit() {
                    let before = "Floats must have a digit after the '.', but got '";
                    return Err(self.error_here(before, "' instead."));
                }
                self.skip_while(|b| b.is_ascii_digit());
                token = Token::Float;
                if self.peek() == b'.' {
                    // An address, perhaps with a port.
                    self.skip_while(|b| b.is_ascii_digit() || matches!(b, b'.' | b':' | b'-'));
                    token = Token::String;
                }
            }
            b if b"kmgtpeKMGTPE".contains(&b) => {
                self.bump();
                self.suffix_rest();
                if !self.at_number_end() {
                    return self.string_from(start, line, newline_at);
                }
            }
            _ if !negative && !self.at_number_end() => {
                // Whatever ended the digits belongs to the string, be it a terminator or not.
                self.bump_char();
                return self.string_from(start, line, newline_at);
            }
            _ => {}
        }
        self.state = State::ValueEnd;
        let text = lossy(&self.text[start..self.pos]);
        Ok(Some(self.item(token(text), start, line, newline_at)))
    }

    fn suffix_rest(&mut self) {
        if matches!(self.peek(), b'i' | b'I') {
            self.bump();
        }
        if matches!(self.peek(), b'b' | b'B') {
            self.bump();
        }
    }

    /// What began as a number goes on as a bare string.
    fn string_from(&mut self, start: usize, line: u32, newline_at: usize) -> Step {
        let begun = lossy(&self.text[start..self.pos]);
        let Some(mut item) = self.string(false)? else { return Ok(None) };
        match &mut item.token {
            Token::String(rest) => rest.insert_str(0, &begun),
            Token::Bool(_) | Token::Variable(_) => {
                item.token = Token::String(lossy(&self.text[start..self.pos]));
            }
            _ => {}
        }
        Ok(Some(self.item(item.token, start, line, newline_at)))
    }

    fn datetime(&mut self) -> Result<(), LexError> {
        for expected in b"-00-00T00:00:00Z" {
            let b = self.peek();
            if *expected == b'0' {
                if !b.is_ascii_digit() {
                    let before = "Expected digit in ISO8601 datetime, but found '";
                    return Err(self.error_here(before, "' instead."));
                }
            } else if b != *expected {
                let expected = char::from(*expected);
                let before = format!("Expected '{expected}' in ISO8601 datetime, but found '");
                return Err(self.error_here(&before, "' instead."));
            }
            self.bump();
        }
        Ok(())
    }
}

/// A bare string may also be a boolean or a variable.
fn bare(text: String) -> Token {
    let is_any = |words: [&str; 3]| words.iter().any(|w| text.eq_ignore_ascii_case(w));
    if is_any(["true", "yes", "on"]) {
        return Token::Bool(true);
    }
    if is_any(["false", "no", "off"]) {
        return Token::Bool(false);
    }
    match text.strip_prefix('$') {
        Some(name) if !name.starts_with("2a$") => Token::Variable(name.to_owned()),
        _ => Token::String(text),
    }
}

/// UTF-8, with a replacement character for every byte that is not.
pub(super) fn lossy(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    text
}
