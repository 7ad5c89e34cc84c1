//! A line of the log as the state machines make it: whoever drives them writes it.

/// How grave a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// `[INF]`
    Info,
    /// `[WRN]`
    Warn,
    /// `[ERR]`
    Error,
    /// `[FTL]`, the last line before the process exits with 1.
    Fatal,
    /// `[DBG]`
    Debug,
    /// `[TRC]`
    Trace,
}

/// A line without its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// How grave it is.
    pub level: Level,
    /// What it says.
    pub text: String,
}

impl LogLine {
    /// A warning.
    pub fn warn(text: impl Into<String>) -> Self {
        LogLine { level: Level::Warn, text: text.into() }
    }
}
