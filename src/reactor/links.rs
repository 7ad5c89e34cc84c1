//! The mesh as the reactor uses it: real sockets travel in it, and MSG_RING wakes a neighbour.

use std::os::fd::{OwnedFd, RawFd};

use io_uring::{opcode, squeue, types};

use super::driver::Driver;
use super::tag::{self, Kind};
use crate::types::ConnId;

/// A connected socket for the reactor that is to carry it.
pub struct NewSocket {
    /// The socket.
    pub fd: OwnedFd,
    /// The connection it is to be.
    pub conn: ConnId,
    /// The peer's address.
    pub peer: String,
    /// Whether the node serves it, or has as many connections as it may have.
    pub served: bool,
}

/// The links of one reactor to all others.
pub type Links = crate::turn::links::Links<NewSocket>;

/// What travels in a control lane.
pub type Lane = crate::turn::links::Lane<NewSocket>;

/// Wakes the reactor whose ring is `fd`.
pub fn ring(driver: &mut Driver, fd: RawFd) {
    let entry = opcode::MsgRingData::new(types::Fd(fd), 0, tag::pack(Kind::Wake, 0), None)
        .build()
        .flags(squeue::Flags::SKIP_SUCCESS)
        .user_data(tag::pack(Kind::Ignore, 0));
    driver.push(&entry);
}
