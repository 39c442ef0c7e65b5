//! Listening sockets, and where a redirected connection was meant to go.

use std::io;
use std::net::SocketAddr;

use mio::net::{TcpListener, TcpStream};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::connect::keepalive;

/// LIMIT: connections that the kernel completes before we accept them. What nginx and HAProxy raise theirs to; the kernel
/// caps it at net.core.somaxconn.
const BACKLOG: i32 = 4096;

/// Binds one listening socket per worker to the same address. Port 0 takes any free port, the same for all.
///
/// # Errors
/// What the operating system says, such as "address in use".
pub fn bind(address: SocketAddr, workers: usize) -> io::Result<Vec<std::net::TcpListener>> {
    let mut address = address;
    let mut listeners = Vec::with_capacity(workers);
    for _ in 0..workers {
        let listener = bind_once(address, workers > 1)?;
        address = listener.local_addr()?;
        listeners.push(listener);
    }
    Ok(listeners)
}

/// Binds one listening socket; others may be bound to the same address where it is shared.
///
/// # Errors
/// What the operating system says, such as "address in use".
pub fn bind_once(address: SocketAddr, shared: bool) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        // WHY: `[::]` serves IPv4 too unless told otherwise, and would collide with a listener on 0.0.0.0.
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    // Accepted connections inherit it, which spares a system call for each.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&keepalive())?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(std::net::TcpListener::from(socket))
}

/// A listening socket.
pub(crate) struct Listener {
    pub(crate) socket: TcpListener,
    /// The local address of whatever it accepts, where it listens on a single one: not to be asked for each connection.
    pub(crate) bound: Option<SocketAddr>,
}

impl Listener {
    pub(crate) fn new(socket: std::net::TcpListener) -> Self {
        // A transparent one accepts what was meant for others, in their name.
        let one = |address: &SocketAddr| {
            !address.ip().is_unspecified() && !pipy_sys::is_transparent(&socket, address.is_ipv6())
        };
        let bound = socket.local_addr().ok().filter(one);
        Listener { socket: TcpListener::from_std(socket), bound }
    }
}

/// The destination that a connection had before the firewall redirected it to us; its local address where none did.
pub fn original_destination(stream: &TcpStream, local: SocketAddr) -> SocketAddr {
    let socket = SockRef::from(stream);
    let original = if local.is_ipv4() { socket.original_dst_v4() } else { socket.original_dst_v6() };
    original.ok().and_then(|address| address.as_socket()).unwrap_or(local)
}
