//! What the outside tests share: a server process, and the transcripts that are played to it.
//!
//! These files know a server only as a program with nats-server's flags. They know nothing of
//! corelane's crates, so that whatever passes here against corelane can be run against nats-server.

pub mod bless;
pub mod conn;
pub mod matching;
pub mod pattern;
pub mod player;
pub mod script;
pub mod server;
