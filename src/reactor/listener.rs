//! The one plain listener: an address in use must be an error, so it is bound before any reactor
//! starts.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

/// Connections waiting to be accepted.
const BACKLOG: i32 = 4096;

/// How long an address in use is asked for again. A process that was killed may hold its sockets a
/// little longer than it lives: the kernel takes its rings down in the background.
const IN_USE_MAX: Duration = Duration::from_secs(1);
/// Time between two attempts.
const IN_USE_PAUSE: Duration = Duration::from_millis(5);

/// Binds and listens on `host:port`; port -1 is asked for as 0.
pub fn bind(host: &str, port: u16) -> io::Result<TcpListener> {
    let begun = Instant::now();
    loop {
        match bind_once(host, port) {
            Err(e) if e.kind() == io::ErrorKind::AddrInUse && begun.elapsed() < IN_USE_MAX => {
                std::thread::sleep(IN_USE_PAUSE);
            }
            other => return other,
        }
    }
}

fn bind_once(host: &str, port: u16) -> io::Result<TcpListener> {
    let host = if host.is_empty() { "0.0.0.0" } else { host };
    let mut last = io::Error::other("no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpListener::bind(address) {
            Ok(listener) => {
                // SAFETY: listening again on a listening socket only changes its backlog.
                unsafe { libc::listen(listener.as_raw_fd(), BACKLOG) };
                return Ok(listener);
            }
            Err(e) => last = e,
        }
    }
    Err(last)
}

/// Prepares an accepted socket: no delay, keep-alive. Returns it with its peer's address.
pub fn adopt(fd: RawFd) -> (OwnedFd, Option<SocketAddr>) {
    // SAFETY: the kernel has just handed this descriptor out to us alone.
    let stream = unsafe { std::net::TcpStream::from_raw_fd(fd) };
    let _ = stream.set_nodelay(true);
    let one: libc::c_int = 1;
    // SAFETY: a plain integer socket option.
    unsafe {
        libc::setsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_KEEPALIVE,
            (&raw const one).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        );
    }
    let peer = stream.peer_addr().ok();
    (stream.into(), peer)
}
