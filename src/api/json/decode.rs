//! From values to fields, with Go's type errors. The first error wins.

use std::collections::BTreeMap;

use super::encode::go_quote;
use super::scan::{EOF, Kind, Value, expect_end, parse};

/// Where in a request the decoder is: the root's Go type and the keys as they were written.
#[derive(Debug)]
pub struct Path {
    root: &'static str,
    parts: Vec<(String, bool)>,
    /// Unknown members are errors.
    strict: bool,
}

impl Path {
    /// The path of a request whose Go type is `server.<root>`.
    pub fn new(root: &'static str, strict: bool) -> Self {
        Path { root, parts: Vec::new(), strict }
    }

    fn inside<T>(
        &mut self,
        part: String,
        is_index: bool,
        f: impl FnOnce(&mut Path) -> Result<T, String>,
    ) -> Result<T, String> {
        self.parts.push((part, is_index));
        let result = f(self);
        self.parts.pop();
        result
    }
}

/// A type with members of its own.
pub trait Object {
    /// Its Go type, such as `server.Placement`.
    const GO_TYPE: &'static str;

    /// Decodes `value` into the member that `key` names (letter case is ignored). `Ok(false)` when
    /// there is none.
    fn member(&mut self, key: &str, value: &Value, path: &mut Path) -> Result<bool, String>;
}

/// Decodes a request's body into `request`, which keeps what the body does not name. An empty body
/// changes nothing; several values follow each other. With `strict`, an unknown member is an error.
/// The error is the text after `invalid JSON: `.
pub fn decode_body<T: Object>(
    body: &[u8],
    root: &'static str,
    strict: bool,
    request: &mut T,
) -> Result<(), String> {
    let mut at = 0;
    while let Some(value) = parse(body, &mut at)? {
        if !matches!(value.kind, Kind::Object(_) | Kind::Null) {
            return Err(wrong_type(&value, &format!("server.{root}"), &Path::new(root, strict)));
        }
        struct_value(request, &value, &mut Path::new(root, strict))?;
    }
    Ok(())
}

/// Decodes a body that is one value, as Go's `Unmarshal` does: unknown members are ignored, and
/// errors of syntax do not tell their offset.
pub fn decode_value<T: Object>(
    body: &[u8],
    root: &'static str,
    request: &mut T,
) -> Result<(), String> {
    let mut at = 0;
    let value = parse(body, &mut at).map_err(without_offset)?;
    let Some(value) = value else { return Err(END.to_owned()) };
    expect_end(body, at).map_err(without_offset)?;
    struct_value(request, &value, &mut Path::new(root, false))
}

const END: &str = "unexpected end of JSON input";

fn without_offset(error: String) -> String {
    match error.rsplit_once(" at offset ") {
        Some((text, _)) => text.to_owned(),
        None if error == EOF => END.to_owned(),
        None => error,
    }
}

/// Decodes an object; `null` changes nothing.
pub fn struct_value<T: Object>(
    target: &mut T,
    value: &Value,
    path: &mut Path,
) -> Result<(), String> {
    match &value.kind {
        Kind::Null => Ok(()),
        Kind::Object(members) => {
            for (key, value) in members {
                let known = path.inside(key.clone().into_owned(), false, |path| {
                    target.member(key, value, path)
                })?;
                if !known && path.strict {
                    return Err(format!("json: unknown field {}", go_quote(key)));
                }
            }
            Ok(())
        }
        _ => Err(wrong_type(value, T::GO_TYPE, path)),
    }
}

/// The error for a value of the wrong kind.
pub fn wrong_type(value: &Value, go_type: &str, path: &Path) -> String {
    mismatch(value.kind.name(), go_type, path)
}

fn mismatch(what: &str, go_type: &str, path: &Path) -> String {
    let Some((_, leaf_is_index)) = path.parts.last() else {
        return format!("json: cannot unmarshal {what} into Go value of type {go_type}");
    };
    let field = if *leaf_is_index { "" } else { "Go struct field " };
    let mut text = format!("json: cannot unmarshal {what} into {field}{}", path.root);
    for (part, _) in &path.parts {
        text.push('.');
        text.push_str(part);
    }
    text.push_str(" of type ");
    text.push_str(go_type);
    text
}

/// The text of a value in Go's quotes, as errors about enumerations show it.
pub fn quoted(value: &Value) -> String {
    go_quote(&String::from_utf8_lossy(value.raw))
}

/// Decodes a string.
pub fn string(target: &mut String, value: &Value, path: &mut Path) -> Result<(), String> {
    match &value.kind {
        Kind::Null => Ok(()),
        Kind::String(text) => {
            *target = text.clone().into_owned();
            Ok(())
        }
        _ => Err(wrong_type(value, "string", path)),
    }
}

/// Decodes a boolean.
pub fn boolean(target: &mut bool, value: &Value, path: &mut Path) -> Result<(), String> {
    match value.kind {
        Kind::Null => Ok(()),
        Kind::Bool(b) => {
            *target = b;
            Ok(())
        }
        _ => Err(wrong_type(value, "bool", path)),
    }
}

fn number<T: std::str::FromStr>(
    target: &mut T,
    value: &Value,
    path: &Path,
    go_type: &str,
) -> Result<(), String> {
    match value.kind {
        Kind::Null => Ok(()),
        Kind::Number => {
            let text = std::str::from_utf8(value.raw).unwrap_or_default();
            match text.parse() {
                Ok(number) => *target = number,
                Err(_) => return Err(mismatch(&format!("number {text}"), go_type, path)),
            }
            Ok(())
        }
        _ => Err(wrong_type(value, go_type, path)),
    }
}

/// Decodes Go's `int`.
pub fn integer(target: &mut i64, value: &Value, path: &mut Path) -> Result<(), String> {
    number(target, value, path, "int")
}

/// Decodes Go's `int64`.
pub fn integer64(target: &mut i64, value: &Value, path: &mut Path) -> Result<(), String> {
    number(target, value, path, "int64")
}

/// Decodes Go's `int32`.
pub fn integer32(target: &mut i32, value: &Value, path: &mut Path) -> Result<(), String> {
    number(target, value, path, "int32")
}

/// Decodes Go's `uint64`.
pub fn unsigned(target: &mut u64, value: &Value, path: &mut Path) -> Result<(), String> {
    number(target, value, path, "uint64")
}

/// Decodes a duration: nanoseconds.
pub fn duration(target: &mut i64, value: &Value, path: &mut Path) -> Result<(), String> {
    number(target, value, path, "time.Duration")
}

fn list<T: Default>(
    target: &mut Vec<T>,
    value: &Value,
    path: &mut Path,
    item_type: &str,
    item: impl Fn(&mut T, &Value, &mut Path) -> Result<(), String>,
) -> Result<(), String> {
    match &value.kind {
        Kind::Null => target.clear(),
        Kind::Array(items) => {
            target.clear();
            for (i, value) in items.iter().enumerate() {
                let mut decoded = T::default();
                path.inside(i.to_string(), true, |path| item(&mut decoded, value, path))?;
                target.push(decoded);
            }
        }
        _ => return Err(wrong_type(value, &format!("[]{item_type}"), path)),
    }
    Ok(())
}

/// Decodes an array of strings.
pub fn strings(target: &mut Vec<String>, value: &Value, path: &mut Path) -> Result<(), String> {
    list(target, value, path, "string", string)
}

/// Decodes an array of durations.
pub fn durations(target: &mut Vec<i64>, value: &Value, path: &mut Path) -> Result<(), String> {
    list(target, value, path, "time.Duration", duration)
}

/// Decodes an array of objects.
pub fn structs<T: Object + Default>(
    target: &mut Vec<T>,
    value: &Value,
    path: &mut Path,
) -> Result<(), String> {
    list(target, value, path, &format!("*{}", T::GO_TYPE), struct_value)
}

/// Decodes an object that may be absent; `null` makes it so.
pub fn optional<T: Object + Default>(
    target: &mut Option<T>,
    value: &Value,
    path: &mut Path,
) -> Result<(), String> {
    if matches!(value.kind, Kind::Null) {
        *target = None;
        return Ok(());
    }
    struct_value(target.get_or_insert_default(), value, path)
}

/// Decodes an object whose members are strings.
pub fn string_map(
    target: &mut BTreeMap<String, String>,
    value: &Value,
    path: &mut Path,
) -> Result<(), String> {
    match &value.kind {
        Kind::Null => target.clear(),
        Kind::Object(members) => {
            for (key, value) in members {
                let mut text = String::new();
                path.inside(key.clone().into_owned(), false, |path| {
                    string(&mut text, value, path)
                })?;
                target.insert(key.clone().into_owned(), text);
            }
        }
        _ => return Err(wrong_type(value, "map[string]string", path)),
    }
    Ok(())
}

/// Implements [`Object`] from a table of `"json name" => decoder(field)`.
#[macro_export]
macro_rules! json_object {
    ($type:ty, $go:literal, { $($name:literal => $decode:path, $field:ident;)* }) => {
        impl $crate::api::json::Object for $type {
            const GO_TYPE: &'static str = concat!("server.", $go);

            fn member(
                &mut self,
                key: &str,
                value: &$crate::api::json::Value,
                path: &mut $crate::api::json::Path,
            ) -> Result<bool, String> {
                $(
                    if key.eq_ignore_ascii_case($name) {
                        $decode(&mut self.$field, value, path)?;
                        return Ok(true);
                    }
                )*
                let _ = (value, path);
                Ok(false)
            }
        }
    };
}
