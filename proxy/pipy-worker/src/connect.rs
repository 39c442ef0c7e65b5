//! Outgoing connections.

use std::io;
use std::net::SocketAddr;

use mio::net::TcpStream;
use pipy_pipeline::ConnectTo;
use socket2::{Domain, Protocol, Socket, Type};

/// Starts a connection attempt; readiness for writing says how it ended.
///
/// `mark` is the packet mark by which the firewall tells the proxy's own traffic from the application's.
pub(crate) fn connect(to: &ConnectTo, mark: Option<u32>) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to.address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if let Some(mark) = mark {
        socket.set_mark(mark)?;
    }
    if let Some(source) = to.source {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    match socket.connect(&to.address.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(EINPROGRESS) => {}
        Err(error) => return Err(error),
    }
    Ok(TcpStream::from_std(socket.into()))
}

/// The attempt goes on in the background (errno of Linux, asm-generic/errno.h).
const EINPROGRESS: i32 = 115;
