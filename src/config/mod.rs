//! Command line, configuration file, log, pid and ports files: all that surrounds a start.
//!
//! Purpose: turn `argv` and a configuration file into one [`Command`], exactly as nats-server's
//! tools expect it, and write the lines and files those tools wait for. It goes from *as written*
//! (values with positions) to *as meant* (the typed, total [`Options`]).
//!
//! It must not know connections, streams, reactors or io_uring. Everything but `log`, `files` and
//! `signal` is pure: files and environment come in through [`Loader`]. It exists once a process, at
//! the start; the [`log::Logger`] lives on, and is not used per message.
//!
//! Invariants: an [`Options`] that exists is valid; a file that parses gives the digest that
//! nats-server gives for it.
//!
//! Names: started as `nats-server` (the last part of `argv[0]`), the program answers as one: `-v`
//! prints `nats-server: v2.15.1`, errors start with `nats-server: `, the store is NATS's own
//! default. Under any other name `-v` prints `corelane: v0.1.0` on the first line and `nats-server:
//! v2.15.1` on the second, since tools search for that, errors start with `corelane: `, and the
//! store is `./corelane-data`.

pub mod banner;
pub mod cli;
pub mod digest;
mod draft;
mod engine;
pub mod files;
mod finish;
mod flags;
mod jetstream;
mod keys;
mod lexer;
mod loader;
pub mod log;
pub mod options;
pub mod parser;
pub mod signal;
pub mod units;
mod usage;
pub mod value;

pub use cli::parse as parse_command;
pub use finish::join_host_port;
pub use loader::{OsLoader, go_error};
pub use options::Options;

/// What a command line asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Start the broker.
    Run(Box<Options>),
    /// Write these texts and exit with this code: version, help, a tested configuration, or an
    /// error.
    Done(Reply),
    /// Send a signal to a running broker.
    Signal(SignalRequest),
}

/// Texts and exit code of a command that does not start the broker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// Text for standard output, with its newlines.
    pub stdout: String,
    /// Text for standard error, with its newlines.
    pub stderr: String,
    /// The process's exit code.
    pub code: i32,
}

/// `--signal command[=target]`, as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignalRequest {
    /// Name for error texts.
    pub persona: options::Persona,
    /// `stop`, `quit`, `term`, `reopen`, `reload` or `ldm`.
    pub command: String,
    /// Process id or path of a pid file; empty means the only running process.
    pub target: String,
}

/// Where the parser gets files and environment from.
pub trait Loader {
    /// The bytes of the file at `path`, or why it cannot be read, in Go's words
    /// (`no such file or directory`).
    fn read(&mut self, path: &str) -> Result<Vec<u8>, String>;
    /// The value of an environment variable.
    fn var(&mut self, name: &str) -> Option<String>;
}

impl Reply {
    /// Writes the texts and gives the exit code.
    pub fn emit(&self) -> i32 {
        use std::io::Write as _;
        // Who cannot be written to has nothing to be told.
        let _ = std::io::stderr().write_all(self.stderr.as_bytes());
        let _ = std::io::stdout().write_all(self.stdout.as_bytes());
        self.code
    }
}

#[cfg(test)]
mod tests;
