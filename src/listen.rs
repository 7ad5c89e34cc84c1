//! Listening sockets as Go's `net.Listen("tcp", …)` opens them, since that is what operators of
//! nats-server are used to.
//!
//! - No host, `0.0.0.0` and `::` stand for every address of the machine, of IPv4 and of IPv6: one
//!   socket of IPv6 that takes both. Only a kernel without IPv6 gets one of IPv4.
//! - A name is looked up, and of its addresses the first of IPv4 is taken, else the first.

use socket2::{Domain, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};

/// Binds `host:port` and listens; port 0 lets the kernel choose.
pub fn bind(host: &str, port: u16, backlog: i32) -> io::Result<TcpListener> {
    bind_socket(host, port, Some(backlog))
}

/// Binds `host:port`, on which nobody listens yet.
pub fn reserve(host: &str, port: u16) -> io::Result<TcpListener> {
    bind_socket(host, port, None)
}

fn bind_socket(host: &str, port: u16, backlog: Option<i32>) -> io::Result<TcpListener> {
    let address = address(host, port)?;
    match open(address, backlog) {
        Err(e) if address.ip() == IpAddr::from(Ipv6Addr::UNSPECIFIED) && no_ipv6(&e) => {
            open(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)), backlog)
        }
        other => other,
    }
}

/// The address that stands for `host`.
fn address(host: &str, port: u16) -> io::Result<SocketAddr> {
    let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    match host.parse::<IpAddr>() {
        Ok(ip) if ip.is_unspecified() => Ok(any),
        Ok(ip) => Ok(SocketAddr::new(ip, port)),
        Err(_) if host.is_empty() => Ok(any),
        Err(_) => {
            let found: Vec<SocketAddr> = (host, port).to_socket_addrs()?.collect();
            let first = found.iter().find(|a| a.is_ipv4()).or(found.first());
            first.copied().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such host"))
        }
    }
}

fn no_ipv6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

fn open(address: SocketAddr, backlog: Option<i32>) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.bind(&address.into())?;
    if let Some(backlog) = backlog {
        socket.listen(backlog)?;
    }
    Ok(socket.into())
}

/// A peer's address as it is shown: one of IPv4 that came through a socket of IPv6 is one of IPv4.
pub fn shown(peer: SocketAddr) -> SocketAddr {
    match peer.ip() {
        IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
            Some(ip) => SocketAddr::from((ip, peer.port())),
            None => peer,
        },
        IpAddr::V4(_) => peer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    #[test]
    fn a_host_stands_for_the_address_that_go_takes() {
        for (host, want) in [
            ("", "[::]:7"),
            ("0.0.0.0", "[::]:7"),
            ("::", "[::]:7"),
            ("127.0.0.1", "127.0.0.1:7"),
            ("::1", "[::1]:7"),
            ("localhost", "127.0.0.1:7"),
        ] {
            assert_eq!(address(host, 7).unwrap().to_string(), want, "{host:?}");
        }
        for host in ["*", "[::1]", "127.0.0.1 ", "nats://127.0.0.1"] {
            assert!(address(host, 7).is_err(), "{host:?}");
        }
    }

    #[test]
    fn every_address_is_those_of_both_families() {
        let has_ipv6 = TcpListener::bind("[::1]:0").is_ok();
        for host in ["", "0.0.0.0", "::"] {
            let listener = bind(host, 0, 16).unwrap();
            let port = listener.local_addr().unwrap().port();
            let _client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
            let (_, peer) = listener.accept().unwrap();
            assert_eq!(shown(peer).ip(), IpAddr::from(Ipv4Addr::LOCALHOST), "{host:?}");
            if has_ipv6 {
                let _client = TcpStream::connect((Ipv6Addr::LOCALHOST, port)).unwrap();
                let (_, peer) = listener.accept().unwrap();
                assert_eq!(shown(peer).ip(), IpAddr::from(Ipv6Addr::LOCALHOST), "{host:?}");
            }
        }
    }

    #[test]
    fn an_address_in_use_is_an_error() {
        let first = bind("127.0.0.1", 0, 16).unwrap();
        let port = first.local_addr().unwrap().port();
        for host in ["127.0.0.1", "0.0.0.0"] {
            let error = bind(host, port, 16).expect_err("it is taken");
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{host}");
        }
    }
}
