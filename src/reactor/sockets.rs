//! The sockets of one reactor: their receives, sends and orderly closing.
//!
//! A slot is freed only after every operation on it has completed, so a completion always finds the
//! socket it belongs to. `Net` decides; here descriptors and pending operations are kept.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use io_uring::{opcode, types};

use super::descriptors::Connections;
use super::driver::{Driver, RECEIVE_GROUP};
use super::links::NewSocket;
use super::parked::{Parked, Spares};
use super::tag::{self, Kind};
use crate::types::ConnId;

/// One client's socket.
pub struct Socket {
    fd: OwnedFd,
    /// The connection it carries.
    pub conn: ConnId,
    /// It counts among the connections that are served.
    served: bool,
    receiving: bool,
    sending: bool,
    paused: bool,
    cancelling: bool,
    closing: bool,
    /// It ends with a reset.
    reset: bool,
    /// What arrived after the connection was paused.
    parked: Parked,
    /// The other side closed while data was parked.
    ended: bool,
    /// What a send in flight still reads.
    kept: Option<Vec<u8>>,
}

/// All sockets of a reactor.
pub struct Sockets {
    /// The reactor's number.
    own: usize,
    counted: Arc<Connections>,
    slots: slab::Slab<Socket>,
    by_conn: hashbrown::HashMap<ConnId, usize, foldhash::fast::FixedState>,
    rearm: Vec<usize>,
    /// Sockets that are read again and still have parked bytes.
    unparking: Vec<usize>,
    spares: Spares,
}

impl Sockets {
    /// None yet on reactor `own`. They were counted when they were accepted.
    pub fn new(own: usize, counted: Arc<Connections>) -> Self {
        Sockets {
            own,
            counted,
            slots: slab::Slab::new(),
            by_conn: hashbrown::HashMap::default(),
            rearm: Vec::new(),
            unparking: Vec::new(),
            spares: Spares::default(),
        }
    }

    /// Takes over a connected socket and starts receiving.
    pub fn insert(&mut self, socket: NewSocket, driver: &mut Driver) {
        let conn = socket.conn;
        let slot = self.slots.insert(Socket {
            fd: socket.fd,
            conn,
            served: socket.served,
            receiving: false,
            sending: false,
            paused: false,
            cancelling: false,
            closing: false,
            reset: false,
            parked: Parked::default(),
            ended: false,
            kept: None,
        });
        self.by_conn.insert(conn, slot);
        self.arm(slot, driver);
    }

    /// The connection on `slot`, unless it is closing.
    pub fn conn(&self, slot: usize) -> Option<ConnId> {
        self.slots.get(slot).filter(|s| !s.closing).map(|s| s.conn)
    }

    /// True if the kernel has something to send still.
    pub fn any_sending(&self) -> bool {
        self.slots.iter().any(|(_, s)| s.sending && !s.closing)
    }

    /// True if the kernel works on any of them.
    pub fn any_busy(&self) -> bool {
        self.slots.iter().any(|(_, s)| s.sending || s.receiving)
    }

    /// True if the connection is open and not closing.
    pub fn is_open(&self, conn: ConnId) -> bool {
        self.by_conn.get(&conn).is_some_and(|&slot| !self.slots[slot].closing)
    }

    fn arm(&mut self, slot: usize, driver: &mut Driver) {
        let Some(s) = self.slots.get_mut(slot) else { return };
        if s.receiving || s.paused || s.closing || s.ended || !s.parked.is_empty() {
            return;
        }
        s.receiving = true;
        let entry = opcode::RecvMulti::new(types::Fd(s.fd.as_raw_fd()), RECEIVE_GROUP)
            .build()
            .user_data(tag::pack(Kind::Receive, slot));
        driver.push(&entry);
    }

    /// Notes a receive completion. Returns true if its bytes are to be handled now; parks them
    /// otherwise.
    /// `paused` tells that the turn has paused the connection, which the socket may not have been
    /// told yet.
    pub fn received(&mut self, slot: usize, bytes: &[u8], more: bool, paused: bool) -> bool {
        let Some(s) = self.slots.get_mut(slot) else { return false };
        if !more {
            s.receiving = false;
            s.cancelling = false;
            self.rearm.push(slot);
        }
        if s.closing {
            s.reset = true;
            return false;
        }
        if s.paused || paused || !s.parked.is_empty() {
            s.parked.push(bytes, &mut self.spares);
            return false;
        }
        true
    }

    /// Notes the end of a receive without data. Returns true if the connection is gone for good.
    pub fn receive_ended(&mut self, slot: usize, result: i32) -> bool {
        let Some(s) = self.slots.get_mut(slot) else { return false };
        s.receiving = false;
        s.cancelling = false;
        let transient =
            matches!(-result, libc::ENOBUFS | libc::ECANCELED | libc::EINTR | libc::EAGAIN);
        if result < 0 && transient {
            self.rearm.push(slot);
            return false;
        }
        if !s.parked.is_empty() {
            s.ended = true;
            return false;
        }
        if s.closing {
            self.release_if_done(slot);
            return false;
        }
        true
    }

    /// Notes a receive completion whose bytes nobody wants any more.
    pub fn receive_over(&mut self, slot: usize, more: bool) {
        if let Some(s) = self.slots.get_mut(slot) {
            s.receiving &= more;
        }
    }

    /// Arms again the receives that ended, once their buffers are back.
    pub fn rearm(&mut self, driver: &mut Driver) {
        for slot in std::mem::take(&mut self.rearm) {
            self.arm(slot, driver);
            self.release_if_done(slot);
        }
    }

    /// Stops reading from a connection; what still arrives is parked.
    pub fn pause(&mut self, conn: ConnId, driver: &mut Driver) {
        let Some(&slot) = self.by_conn.get(&conn) else { return };
        let s = &mut self.slots[slot];
        if s.paused {
            return;
        }
        s.paused = true;
        if s.receiving && !s.cancelling {
            s.cancelling = true;
            let entry = opcode::AsyncCancel::new(tag::pack(Kind::Receive, slot))
                .build()
                .user_data(tag::pack(Kind::Ignore, slot));
            driver.push(&entry);
        }
    }

    /// Reads again, beginning with what was parked meanwhile.
    pub fn resume(&mut self, conn: ConnId, driver: &mut Driver) {
        let Some(&slot) = self.by_conn.get(&conn) else { return };
        let s = &mut self.slots[slot];
        if !s.paused || s.closing {
            return;
        }
        s.paused = false;
        if s.parked.is_empty() {
            self.arm(slot, driver);
        } else {
            self.unparking.push(slot);
        }
    }

    /// The next piece of parked bytes of a connection that is read again, and whether the peer had
    /// closed after it.
    pub fn unpark(&mut self, driver: &mut Driver) -> Option<(ConnId, Vec<u8>, bool)> {
        while let Some(slot) = self.unparking.pop() {
            let Some(s) = self.slots.get_mut(slot) else { continue };
            if s.paused || s.closing {
                continue;
            }
            let Some(piece) = s.parked.pop() else { continue };
            let (conn, ended) = (s.conn, s.ended && s.parked.is_empty());
            if s.parked.is_empty() {
                self.arm(slot, driver);
            } else {
                self.unparking.push(slot);
            }
            return Some((conn, piece, ended));
        }
        None
    }

    /// Takes a piece back that was handled.
    pub fn unparked(&mut self, piece: Vec<u8>) {
        self.spares.give(piece);
    }

    /// True if parked bytes wait to be handed over.
    pub fn has_parked(&self) -> bool {
        !self.unparking.is_empty()
    }

    /// Sends `bytes`, which must stay where they are until `sent` is told. One send per socket is
    /// in flight.
    pub fn send(&mut self, conn: ConnId, bytes: &[u8], driver: &mut Driver) {
        let Some(&slot) = self.by_conn.get(&conn) else { return };
        let s = &mut self.slots[slot];
        debug_assert!(!s.sending);
        s.sending = true;
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let entry = opcode::Send::new(types::Fd(s.fd.as_raw_fd()), bytes.as_ptr(), len)
            .flags(libc::MSG_NOSIGNAL)
            .build()
            .user_data(tag::pack(Kind::Send, slot));
        driver.push(&entry);
    }

    /// Notes a completed send and names its connection.
    pub fn sent(&mut self, slot: usize) -> Option<ConnId> {
        let s = self.slots.get_mut(slot)?;
        s.sending = false;
        let conn = s.conn;
        self.release_if_done(slot);
        Some(conn)
    }

    /// Keeps the buffer that a send in flight reads, until it completes.
    pub fn keep(&mut self, conn: ConnId, buffer: Option<Vec<u8>>) {
        if let Some(&slot) = self.by_conn.get(&conn) {
            self.slots[slot].kept = buffer;
        }
    }

    /// The connection is to end with a reset, as the kernel ends one whose input was not read.
    pub fn reset(&mut self, conn: ConnId) {
        if let Some(&slot) = self.by_conn.get(&conn) {
            self.slots[slot].reset = true;
        }
    }

    /// Closes a connection: no more receives, and the descriptor goes once nothing is in flight.
    /// Whether input is left unread, the kernel sees itself, so the socket is not shut down before.
    pub fn close(&mut self, conn: ConnId, driver: &mut Driver) {
        let Some(&slot) = self.by_conn.get(&conn) else { return };
        let s = &mut self.slots[slot];
        if s.closing {
            return;
        }
        s.closing = true;
        // What it sent, and nobody looked at.
        s.reset |= !s.parked.is_empty();
        if s.served {
            self.counted.ended();
        }
        let pending = [(s.receiving && !s.cancelling, Kind::Receive), (s.sending, Kind::Send)];
        for (_, kind) in pending.into_iter().filter(|(pending, _)| *pending) {
            let entry = opcode::AsyncCancel::new(tag::pack(kind, slot))
                .build()
                .user_data(tag::pack(Kind::Ignore, slot));
            driver.push(&entry);
        }
        self.release_if_done(slot);
    }

    fn release_if_done(&mut self, slot: usize) {
        let Some(s) = self.slots.get(slot) else { return };
        if s.closing && !s.receiving && !s.sending {
            let s = self.slots.remove(slot);
            self.by_conn.remove(&s.conn);
            if s.reset {
                abort(&s.fd);
            }
            drop(s.fd);
            self.counted.closed(self.own);
        }
    }
}

/// Makes closing a socket reset its connection.
fn abort(fd: &OwnedFd) {
    let now = libc::linger { l_onoff: 1, l_linger: 0 };
    // SAFETY: the option is a `linger`, which is read only.
    unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const now).cast(),
            size_of::<libc::linger>() as libc::socklen_t,
        );
    }
}
