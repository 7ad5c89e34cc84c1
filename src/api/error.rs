//! The error object of JetStream's answers.

use std::borrow::Cow;

use super::json::write_string;

pub use super::error_table as kinds;

/// One row of the error table: status, code and text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorKind {
    /// What clients match: 10000 and above.
    pub err_code: u16,
    /// HTTP-like status.
    pub code: u16,
    /// The description, with `{placeholder}`s where it varies.
    pub text: &'static str,
}

/// An error as a client sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// HTTP-like status.
    pub code: u16,
    /// What clients match: 10000 and above.
    pub err_code: u16,
    /// For humans; some clients match it for 10071 and 10077.
    pub description: Cow<'static, str>,
}

impl ErrorKind {
    /// The error with its text as it is.
    pub const fn error(self) -> ApiError {
        ApiError { code: self.code, err_code: self.err_code, description: Cow::Borrowed(self.text) }
    }

    /// The error with its first placeholder replaced by `value`. A text without one stays as it is.
    pub fn with(self, value: impl std::fmt::Display) -> ApiError {
        ApiError {
            code: self.code,
            err_code: self.err_code,
            description: match (self.text.find('{'), self.text.find('}')) {
                (Some(start), Some(end)) if start < end => {
                    let (head, tail) = (&self.text[..start], &self.text[end + 1..]);
                    Cow::Owned(format!("{head}{value}{tail}"))
                }
                _ => Cow::Borrowed(self.text),
            },
        }
    }
}

impl From<ErrorKind> for ApiError {
    fn from(kind: ErrorKind) -> Self {
        kind.error()
    }
}

impl ApiError {
    /// 10052: a configuration that cannot be.
    pub fn invalid_config(text: impl std::fmt::Display) -> Self {
        kinds::STREAM_INVALID_CONFIG.with(text)
    }

    /// 10052 for a configuration field whose feature is not built.
    pub fn field_not_supported(field: &str) -> Self {
        kinds::STREAM_INVALID_CONFIG.with(format_args!("{field} is not supported yet"))
    }

    /// 10003 for an API subject whose feature is not built: `what` is the verb, such as
    /// `STREAM.SNAPSHOT`.
    pub fn api_not_supported(what: &str) -> Self {
        ApiError {
            code: kinds::BAD_REQUEST.code,
            err_code: kinds::BAD_REQUEST.err_code,
            description: Cow::Owned(format!("{what} is not supported yet")),
        }
    }

    /// 10025 for a body that is not the JSON of its request.
    pub fn invalid_json(text: impl std::fmt::Display) -> Self {
        kinds::INVALID_JSON.with(text)
    }

    /// Appends `{"code":…,"err_code":…,"description":"…"}`.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"code\":");
        super::json::write_u64(out, u64::from(self.code));
        out.extend_from_slice(b",\"err_code\":");
        super::json::write_u64(out, u64::from(self.err_code));
        out.extend_from_slice(b",\"description\":");
        write_string(out, &self.description);
        out.push(b'}');
    }
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.description, self.err_code)
    }
}

impl std::error::Error for ApiError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_whole_and_sorted() {
        assert_eq!(kinds::ALL.len(), 226);
        assert!(kinds::ALL.windows(2).all(|w| w[0].err_code < w[1].err_code));
        for kind in kinds::ALL {
            assert!(matches!(kind.code, 400..=599), "{kind:?}");
        }
    }

    #[test]
    fn placeholders() {
        for (got, want) in [
            (kinds::WRONG_LAST_SEQUENCE.with(7), "wrong last sequence: 7"),
            (kinds::STREAM_NOT_FOUND.error(), "stream not found"),
            (kinds::INVALID_JSON.with("x"), "invalid JSON: x"),
            (ApiError::field_not_supported("mirror"), "mirror is not supported yet"),
            (
                ApiError::api_not_supported("STREAM.SNAPSHOT"),
                "STREAM.SNAPSHOT is not supported yet",
            ),
        ] {
            assert_eq!(got.description, want);
        }
        let mut out = Vec::new();
        kinds::STREAM_NOT_FOUND.error().write_json(&mut out);
        let want = r#"{"code":404,"err_code":10059,"description":"stream not found"}"#;
        assert_eq!(out, want.as_bytes());
    }
}
