//! Names of streams and consumers.

/// Most bytes of a name.
pub const BYTES_MAX: usize = 255;

/// True for a name that may be a subject's token and a file's name; its length is checked apart.
pub fn is_valid(name: &str) -> bool {
    let forbidden = |b| matches!(b, b' ' | b'\t' | b'\r' | b'\n' | 0x0c | b'.' | b'*' | b'>');
    !name.is_empty() && !name.bytes().any(|b| forbidden(b) || matches!(b, b'/' | b'\\'))
}
