//! One turn of a reactor, without the reactor: connections, interest, routing and the batches for
//! other reactors.
//!
//! Purpose: `Net`, the pure state machine that a reactor drives and the simulator too. It must
//! not know sockets, io_uring, clocks or the insides of streams: it is handed bytes, times and
//! batches, and keeps what is to be done until it is asked for it. `drive` is the order of a turn
//! over whatever sockets and disks there are. Exists once per reactor.
//!
//! Invariants: interest that a connection added is in the control batch before any message of the
//! same read is in a message batch; entries of one publisher to one reactor stay in order;
//! nothing is dropped between reactors: what cannot be delivered comes back and is answered.

pub mod control;
pub mod core;
mod deliveries;
pub mod drive;
pub mod entry;
mod inspect;
pub mod jetstream;
mod leftovers;
mod lines;
pub mod links;
mod mesh;
pub mod net;
mod pressure;
mod protocol_trace;
pub mod report;
mod route;
mod session;
mod timers;
mod trace;
mod user_info;
mod work;

pub use control::Control;
pub use core::{Command, Core, Ctl, Effects};
#[cfg(fuzzing)]
pub use entry::{Entry, Kind, Malformed, Queues, decode as decode_entry, encode as encode_entry};
pub use entry::{Message, Origin};
pub use jetstream::{Captured, JetStream, NoJetStream, Target};
pub use leftovers::Leftovers;
pub use lines::LogSettings;
pub use net::{Delivery, LameDuck, Net, NetConfig, Settings};
pub use protocol_trace::TraceSettings;

#[cfg(test)]
mod tests;
