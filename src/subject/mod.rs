//! Subjects and subject filters: validity and matching.
//!
//! Purpose: the one place that knows NATS's subject grammar. It must not know connections, streams
//! or the network; it works on byte slices and allocates nothing. Subjects are compared byte-wise,
//! tokens are separated by `.`, `*` matches one token and `>` (last only) one or more. A wildcard
//! counts only as a whole token: `foo*` is a literal token. Subjects of requests to JetStream are
//! parsed in `api`.

pub mod api;

/// Iterates over the tokens of a subject.
pub fn tokens(subject: &[u8]) -> impl Iterator<Item = &[u8]> {
    subject.split(|&b| b == b'.')
}

/// True for a subject one may subscribe to: no empty token, `>` only as the last token, no white
/// space.
pub fn is_valid_filter(subject: &[u8]) -> bool {
    if subject.is_empty() {
        return false;
    }
    let mut after_full = false;
    for token in tokens(subject) {
        if after_full || token.is_empty() {
            return false;
        }
        if token.iter().any(|b| matches!(b, b' ' | b'\t' | b'\r' | b'\n' | 0x0c)) {
            return false;
        }
        after_full = token == b">";
    }
    true
}

/// True if `subject` has no empty token: only then anybody can get a message published on it.
pub fn is_routable(subject: &[u8]) -> bool {
    let mut before = b'.';
    for &byte in subject {
        if byte == b'.' && before == b'.' {
            return false;
        }
        before = byte;
    }
    before != b'.'
}

/// True for a valid subject without wildcard tokens: one a message can be stored under.
pub fn is_valid_literal(subject: &[u8]) -> bool {
    is_valid_filter(subject) && !has_wildcards(subject)
}

/// True if any token is `*` or `>`.
pub fn has_wildcards(subject: &[u8]) -> bool {
    tokens(subject).any(|t| t == b"*" || t == b">")
}

/// True if the literal `subject` matches `filter`.
pub fn matches(filter: &[u8], subject: &[u8]) -> bool {
    let mut f = tokens(filter);
    let mut s = tokens(subject);
    loop {
        match (f.next(), s.next()) {
            (Some(b">"), Some(_)) => return true,
            (Some(b"*"), Some(_)) => {}
            (Some(a), Some(b)) if a == b => {}
            (None, None) => return true,
            _ => return false,
        }
    }
}

/// True if every subject that matches `inner` also matches `outer`.
pub fn is_subset(inner: &[u8], outer: &[u8]) -> bool {
    let mut i = tokens(inner);
    let mut o = tokens(outer);
    loop {
        match (i.next(), o.next()) {
            (Some(_), Some(b">")) => return true,
            (Some(b">"), _) => return false,
            (Some(b"*"), Some(b"*")) => {}
            (Some(b"*"), Some(_)) => return false,
            (Some(_), Some(b"*")) => {}
            (Some(a), Some(b)) if a == b => {}
            (None, None) => return true,
            _ => return false,
        }
    }
}

/// True if some literal subject matches both filters.
pub fn overlaps(a: &[u8], b: &[u8]) -> bool {
    let mut a = tokens(a);
    let mut b = tokens(b);
    loop {
        match (a.next(), b.next()) {
            (Some(b">"), Some(_)) | (Some(_), Some(b">")) => return true,
            (Some(b"*"), Some(_)) | (Some(_), Some(b"*")) => {}
            (Some(x), Some(y)) if x == y => {}
            (None, None) => return true,
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validity() {
        for (s, filter, literal) in [
            ("a", true, true),
            ("a.b", true, true),
            ("a.*", true, false),
            ("a.>", true, false),
            (">", true, false),
            ("a.>.b", false, false),
            ("a..b", false, false),
            (".a", false, false),
            ("a.", false, false),
            ("", false, false),
            ("a b", false, false),
            ("foo*.>bar", true, true),
        ] {
            assert_eq!(is_valid_filter(s.as_bytes()), filter, "{s}");
            assert_eq!(is_valid_literal(s.as_bytes()), literal, "{s}");
        }
    }

    #[test]
    fn matching() {
        for (f, s, want) in [
            ("a", "a", true),
            ("a", "b", false),
            ("a.*", "a.b", true),
            ("a.*", "a", false),
            ("a.*", "a.b.c", false),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            (">", "a", true),
            ("*.b", "a.b", true),
            ("foo*", "foo*", true),
            ("foo*", "foox", false),
        ] {
            assert_eq!(matches(f.as_bytes(), s.as_bytes()), want, "{f} {s}");
        }
    }

    #[test]
    fn relations() {
        for (a, b, overlap, a_in_b) in [
            ("a.*", "a.b", true, false),
            ("a.b", "a.*", true, true),
            ("a.>", "a.*", true, false),
            ("a.*", "a.>", true, true),
            ("*.x", "y.*", true, false),
            ("a", "b", false, false),
            ("a", "a.>", false, false),
            (">", ">", true, true),
            ("*", ">", true, true),
            (">", "*", true, false),
        ] {
            assert_eq!(overlaps(a.as_bytes(), b.as_bytes()), overlap, "{a} {b}");
            assert_eq!(is_subset(a.as_bytes(), b.as_bytes()), a_in_b, "{a} {b}");
        }
    }
}
