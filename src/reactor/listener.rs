//! The one plain listener: an address in use must be an error, so it is bound before any reactor
//! starts. It listens only when the node can serve: until then its port refuses, so that nobody
//! waits for a node that recovers, and monitoring never calls a node unavailable that accepts.
//!
//! A port must refuse from the moment its process is gone, however that ended. So the ring never
//! holds the listener: what a ring holds outlives the process until the kernel has taken the ring
//! down in the background, and an armed accept or poll holds its file. The ring polls an epoll
//! instance instead, which watches the listener without holding it, and connections are accepted by
//! plain system calls.

use crate::listen;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Connections waiting to be accepted.
const BACKLOG: i32 = 4096;

/// Binds `host:port`; port -1 is asked for as 0. Nobody can connect before [`listen`].
pub fn bind(host: &str, port: u16) -> io::Result<TcpListener> {
    let listener = listen::reserve(host, port)?;
    listener.set_nonblocking(true)?;
    // Sockets inherit these from the listener they come from.
    option(&listener, libc::IPPROTO_TCP, libc::TCP_NODELAY)?;
    option(&listener, libc::SOL_SOCKET, libc::SO_KEEPALIVE)?;
    Ok(listener)
}

/// Lets clients connect. An address may be in use only now, where another process has bound it at
/// the same time.
pub fn listen(listener: &TcpListener) -> io::Result<()> {
    // SAFETY: no pointers, and the descriptor is open.
    let done = unsafe { libc::listen(listener.as_raw_fd(), BACKLOG) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Switches a socket's option on.
fn option(socket: &TcpListener, level: i32, name: i32) -> io::Result<()> {
    let one: libc::c_int = 1;
    // SAFETY: a plain integer socket option.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const one).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// What reactor 0 has beside the others: the listener, and a watch on it.
pub struct Acceptor {
    /// The listening socket; gone once the node no longer accepts.
    listener: Option<TcpListener>,
    watch: OwnedFd,
    /// The listener is watched.
    open: bool,
    next_conn: u64,
}

impl Acceptor {
    /// Takes `listener`, which must not block and need not listen yet.
    pub fn new(listener: TcpListener) -> io::Result<Self> {
        // SAFETY: no preconditions; the descriptor is checked and owned at once.
        let watch = unsafe {
            let fd = libc::epoll_create1(libc::EPOLL_CLOEXEC);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        Ok(Acceptor { listener: Some(listener), watch, open: false, next_conn: 1 })
    }

    /// Watches the listener, which listens from now on.
    pub fn open(&mut self) -> io::Result<()> {
        let Some(listener) = self.listener.as_ref().filter(|_| !self.open) else { return Ok(()) };
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 0 };
        let (epoll, add) = (self.watch.as_raw_fd(), libc::EPOLL_CTL_ADD);
        // SAFETY: both descriptors are open, and `event` is read only.
        if unsafe { libc::epoll_ctl(epoll, add, listener.as_raw_fd(), &mut event) } != 0 {
            return Err(io::Error::last_os_error());
        }
        self.open = true;
        Ok(())
    }

    /// What to poll for connections that wait, as long as any are accepted.
    pub fn watch(&self) -> Option<RawFd> {
        self.listener.as_ref().filter(|_| self.open).map(|_| self.watch.as_raw_fd())
    }

    /// The next connection that waits, if one does.
    pub fn accept(&self) -> io::Result<Option<(TcpStream, SocketAddr)>> {
        let Some(listener) = &self.listener else { return Ok(None) };
        match listener.accept() {
            Ok((stream, peer)) => Ok(Some((stream, listen::shown(peer)))),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The id of the next connection.
    pub fn next_conn(&mut self) -> u64 {
        self.next_conn += 1;
        self.next_conn - 1
    }

    /// Lets nobody connect any more.
    pub fn stop(&mut self) {
        self.listener = None;
    }
}
