//! Names and descriptions of streams and consumers.

/// Most bytes of a description.
pub const DESCRIPTION_BYTES_MAX: usize = 4_096;
/// Most bytes of a name.
pub const BYTES_MAX: usize = 255;

/// True for a name that may be a subject's token and a file's name; its length is checked apart.
pub fn is_valid(name: &str) -> bool {
    let forbidden = |b| matches!(b, b' ' | b'\t' | b'\r' | b'\n' | 0x0c | b'.' | b'*' | b'>');
    !name.is_empty() && !name.bytes().any(|b| forbidden(b) || matches!(b, b'/' | b'\\'))
}

/// Most bytes of a subject filter: what a control line could hold. It bounds the depth of a
/// [`FilterIndex`].
///
/// [`FilterIndex`]: super::filter_index::FilterIndex
pub const FILTER_BYTES_MAX: usize = 4_096;

/// True for a subject filter that a configuration may hold.
pub fn is_valid_filter(filter: &str) -> bool {
    filter.len() <= FILTER_BYTES_MAX && crate::subject::is_valid_filter(filter.as_bytes())
}
