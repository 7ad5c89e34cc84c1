//! corelane-bench: a load generator for NATS and JetStream servers.
//!
//! *Purpose*: measure any server that speaks NATS, and two of them against each other, without
//! being the bottleneck: a client of its own, formatted templates, one epoll per thread, nothing
//! allocated per message.
//! *Must not know*: the broker. It talks the protocol and reads `/proc`.
//!
//! `wire` and `template` are the protocol, `conn` and `driver` the connections, `run` the threads
//! and what is counted, `scenario` what can be measured, `compare` two servers in one run.

pub mod args;
pub mod clock;
pub mod compare;
pub mod conn;
pub mod driver;
pub mod jetstream;
pub mod outcome;
pub mod proc;
pub mod run;
pub mod scenario;
pub mod sink;
pub mod stats;
pub mod template;
pub mod wire;
