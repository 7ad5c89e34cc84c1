//! A reader for one flat JSON object, with the error texts that clients know from nats-server.
//!
//! Pull requests arrive once per batch, so they are read without allocating. The whole body is
//! checked first, then fields are taken in order; the first field of a wrong type is the error.
//! Unknown fields are ignored, names match whatever their case.

/// Why a body is not acceptable: the text after `Bad Request - `.
pub type JsonError = String;

/// A value of a field, as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// `null`, which leaves the field as it was.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number's text.
    Number(&'a str),
    /// The inside of a string, escapes as they stand.
    String(&'a [u8]),
    /// An array or object.
    Array,
    /// An object.
    Object,
}

impl Value<'_> {
    fn kind(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Bool(_) => "bool",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array => "array",
            Value::Object => "object",
        }
    }

    fn wrong(&self, field: &str, want: &str) -> JsonError {
        format!(
            "json: cannot unmarshal {} into Go struct field {field} of type {want}",
            self.kind()
        )
    }

    /// A whole number; `None` for null. `want` is the type's name in the error text.
    pub fn integer(&self, field: &str, want: &str) -> Result<Option<i64>, JsonError> {
        match self {
            Value::Null => Ok(None),
            Value::Number(text) => text.parse().map(Some).map_err(|_| {
                let number = format!("number {text}");
                format!(
                    "json: cannot unmarshal {number} into Go struct field {field} of type {want}"
                )
            }),
            other => Err(other.wrong(field, want)),
        }
    }

    /// A boolean; `None` for null.
    pub fn boolean(&self, field: &str) -> Result<Option<bool>, JsonError> {
        match self {
            Value::Null => Ok(None),
            Value::Bool(b) => Ok(Some(*b)),
            other => Err(other.wrong(field, "bool")),
        }
    }

    /// A string; `None` for null.
    pub fn string(&self, field: &str) -> Result<Option<&[u8]>, JsonError> {
        match self {
            Value::Null => Ok(None),
            Value::String(s) => Ok(Some(s)),
            other => Err(other.wrong(field, "string")),
        }
    }
}

/// How deep arrays and objects may nest in a request.
const DEPTH_MAX: usize = 64;

/// Checks `body` as one JSON object and calls `field` with each top-level name and value in order.
pub fn object<'a>(
    body: &'a [u8],
    mut field: impl FnMut(&'a [u8], Value<'a>) -> Result<(), JsonError>,
) -> Result<(), JsonError> {
    let mut check = Reader { body, at: 0 };
    check.value(0, &mut |_, _| Ok(()))?;
    check.space();
    if let Some(b) = check.peek() {
        return Err(invalid(b, "after top-level value"));
    }
    let mut first_error = None;
    let mut reader = Reader { body, at: 0 };
    reader.value(0, &mut |name, value| {
        if first_error.is_none() {
            first_error = field(name, value).err();
        }
        Ok(())
    })?;
    first_error.map_or(Ok(()), Err)
}

fn invalid(b: u8, context: &str) -> JsonError {
    let shown = match b {
        b'\'' => "'\\''".to_owned(),
        b'"' => "'\"'".to_owned(),
        b'\\' => "'\\\\'".to_owned(),
        b'\n' => "'\\n'".to_owned(),
        b'\r' => "'\\r'".to_owned(),
        b'\t' => "'\\t'".to_owned(),
        0x20..=0x7e => format!("'{}'", b as char),
        _ => format!("'\\x{b:02x}'"),
    };
    format!("invalid character {shown} {context}")
}

fn end() -> JsonError {
    "unexpected end of JSON input".to_owned()
}

struct Reader<'a> {
    body: &'a [u8],
    at: usize,
}

type OnField<'f, 'a> = &'f mut dyn FnMut(&'a [u8], Value<'a>) -> Result<(), JsonError>;

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.body.get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    /// Steps over `want`, or says what stood there.
    fn expect(&mut self, want: u8, context: &str) -> Result<(), JsonError> {
        match self.peek() {
            Some(b) if b == want => {
                self.at += 1;
                Ok(())
            }
            Some(b) => Err(invalid(b, context)),
            None => Err(end()),
        }
    }

    fn value(&mut self, depth: usize, on: OnField<'_, 'a>) -> Result<Value<'a>, JsonError> {
        if depth > DEPTH_MAX {
            return Err("exceeded max depth".to_owned());
        }
        self.space();
        match self.peek().ok_or_else(end)? {
            b'{' => self.members(depth, on),
            b'[' => self.elements(depth),
            b'"' => self.string().map(Value::String),
            b't' => self.literal(b"true", Value::Bool(true)),
            b'f' => self.literal(b"false", Value::Bool(false)),
            b'n' => self.literal(b"null", Value::Null),
            b'-' | b'0'..=b'9' => self.number(),
            b => Err(invalid(b, "looking for beginning of value")),
        }
    }

    fn members(&mut self, depth: usize, on: OnField<'_, 'a>) -> Result<Value<'a>, JsonError> {
        self.at += 1;
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Value::Object);
        }
        loop {
            self.space();
            match self.peek() {
                Some(b'"') => {}
                Some(b) => return Err(invalid(b, "looking for beginning of object key string")),
                None => return Err(end()),
            }
            let name = self.string()?;
            self.space();
            self.expect(b':', "after object key")?;
            let value = self.value(depth + 1, &mut |_, _| Ok(()))?;
            on(name, value)?;
            self.space();
            if self.peek() == Some(b'}') {
                self.at += 1;
                return Ok(Value::Object);
            }
            self.expect(b',', "after object key:value pair")?;
        }
    }

    fn elements(&mut self, depth: usize) -> Result<Value<'a>, JsonError> {
        self.at += 1;
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Value::Array);
        }
        loop {
            self.value(depth + 1, &mut |_, _| Ok(()))?;
            self.space();
            if self.peek() == Some(b']') {
                self.at += 1;
                return Ok(Value::Array);
            }
            self.expect(b',', "after array element")?;
        }
    }

    fn string(&mut self) -> Result<&'a [u8], JsonError> {
        self.at += 1;
        let start = self.at;
        loop {
            match self.peek().ok_or_else(end)? {
                b'"' => {
                    self.at += 1;
                    return Ok(&self.body[start..self.at - 1]);
                }
                b'\\' => {
                    self.at += 1;
                    match self.peek().ok_or_else(end)? {
                        b'u' => self.unicode()?,
                        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => self.at += 1,
                        b => {
                            let shown = char::from(b);
                            return Err(format!("invalid escape sequence `\\{shown}` in string"));
                        }
                    }
                }
                b if b < 0x20 => return Err(invalid(b, "in string")),
                _ => self.at += 1,
            }
        }
    }

    fn unicode(&mut self) -> Result<(), JsonError> {
        for i in 1..=4 {
            match self.body.get(self.at + i) {
                Some(b) if b.is_ascii_hexdigit() => {}
                Some(&b) => return Err(invalid(b, "in \\u hexadecimal character escape")),
                None => return Err(end()),
            }
        }
        self.at += 5;
        Ok(())
    }

    fn literal(&mut self, text: &'static [u8], value: Value<'a>) -> Result<Value<'a>, JsonError> {
        for &want in text {
            match self.peek() {
                Some(b) if b == want => self.at += 1,
                Some(b) => {
                    let name = String::from_utf8_lossy(text);
                    let want = char::from(want);
                    return Err(invalid(b, &format!("in literal {name} (expecting '{want}')")));
                }
                None => return Err(end()),
            }
        }
        Ok(value)
    }

    fn digits(&mut self, context: &str) -> Result<(), JsonError> {
        match self.peek() {
            Some(b'0'..=b'9') => {}
            Some(b) => return Err(invalid(b, context)),
            None => return Err(end()),
        }
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> Result<Value<'a>, JsonError> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.digits("in numeric literal")?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits("after decimal point in numeric literal")?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits("in exponent of numeric literal")?;
        }
        // Only ASCII was stepped over.
        Ok(Value::Number(std::str::from_utf8(&self.body[start..self.at]).unwrap_or("0")))
    }
}
