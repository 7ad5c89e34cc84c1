//! JSON as Go reads and writes it.
//!
//! Purpose: requests are refused with the words of Go's decoder, answers are the bytes of Go's
//! encoder (escapes of `<`, `>` and `&` included). It must not know any type of the API. The
//! decoder works on a tree of borrowed values, which bounds both its depth and its cost by the
//! body's length.

mod decode;
mod encode;
mod scan;

pub use decode::{Object, Path, decode_body, decode_value};
pub use decode::{
    boolean, duration, durations, integer, integer32, integer64, optional, quoted, string,
    string_map, strings, struct_value, structs, unsigned, wrong_type,
};
pub(crate) use encode::go_quote;
pub use encode::{to_json, write_json, write_string, write_u64};
pub use scan::{Kind, Value, parse};
