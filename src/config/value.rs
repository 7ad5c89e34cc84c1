//! A configuration as written: values with the place they stand at.

use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

/// Where a value stands: for one in a map, where its key stands.
///
/// Columns count as nats-server's do: bytes from the start of the file on the first line, bytes
/// from the newline on all others, so the first column is 0 on line 1 and 1 elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pos {
    /// Name of the file, as opened.
    pub file: Rc<str>,
    /// Line, from 1.
    pub line: u32,
    /// Column, see above.
    pub col: u32,
}

impl fmt::Display for Pos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.col)
    }
}

/// A map of the configuration. Keys are as written; the last of equal ones stays.
pub type Map = BTreeMap<String, Node>;

/// A value and its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// What was written.
    pub value: Value,
    /// Where.
    pub at: Pos,
    /// True if a variable referred to it; then an unknown key is not an error.
    pub used: bool,
}

/// A value of the grammar.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Quoted, bare or block string.
    String(String),
    /// `true`, `yes`, `on` and their opposites.
    Bool(bool),
    /// Integer, its suffix applied.
    Int(i64),
    /// Number with a point.
    Float(f64),
    /// `2006-01-02T15:04:05Z`, a date that exists.
    Datetime(String),
    /// `[ … ]`
    Array(Vec<Node>),
    /// `{ … }`
    Map(Map),
}

impl Value {
    /// The type's name as nats-server's error texts have it.
    pub fn go_type(&self) -> &'static str {
        match self {
            Value::String(_) => "string",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int64",
            Value::Float(_) => "float64",
            Value::Datetime(_) => "time.Time",
            Value::Array(_) => "[]interface {}",
            Value::Map(_) => "map[string]interface {}",
        }
    }

    /// Number of values in this one, itself included.
    pub fn count(&self) -> usize {
        match self {
            Value::Array(items) => 1 + items.iter().map(|n| n.value.count()).sum::<usize>(),
            Value::Map(map) => 1 + map.values().map(|n| n.value.count()).sum::<usize>(),
            _ => 1,
        }
    }
}
