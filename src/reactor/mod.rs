//! Reactors: the pinned threads that own everything per core and talk to the kernel.
//!
//! Purpose: drive the pure turn (`crate::turn::Core`) with io_uring: sockets, disks, the mesh,
//! time. It decides nothing. It is the only place beside `control` that knows descriptors, threads
//! and clocks. One `Reactor` exists per thread.
//!
//! Invariants: buffers handed to the kernel stay where they are until their completion; one send
//! per socket is in flight; a reactor sleeps only after it has announced that and looked at its
//! lanes once more.

mod affinity;
mod clock;
mod descriptors;
mod disk;
mod driver;
mod idle;
mod links;
mod listener;
mod memory;
mod node;
mod parked;
mod run;
mod sockets;
mod store;
mod tag;
mod tails;

pub use affinity::allowed as allowed_cpus;
pub use node::{Node, NodeError, Plan, listen};
pub use run::Mailbox;
pub use store::{Store, random};
