//! Outgoing connections.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use mio::net::TcpStream;
use pipy_pipeline::ConnectTo;
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

/// Starts a connection attempt; readiness for writing says how it ended.
///
/// `mark` is the packet mark by which the firewall tells the proxy's own traffic from the application's.
pub(crate) fn connect(to: &ConnectTo, mark: Option<u32>) -> io::Result<TcpStream> {
    match (attempt(to.address, to.source, mark), to.also) {
        // WHY: over loopback the kernel knows at once that nobody listens.
        (Err(error), Some((address, source))) if error.kind() == io::ErrorKind::ConnectionRefused => {
            attempt(address, source, mark)
        }
        (done, _) => done,
    }
}

fn attempt(address: SocketAddr, source: Option<IpAddr>, mark: Option<u32>) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if !address.ip().is_loopback() {
        socket.set_tcp_keepalive(&keepalive())?;
    }
    if let Some(mark) = mark {
        socket.set_mark(mark)?;
    }
    if let Some(source) = source {
        // WHY: a bound socket takes a port for itself, whatever it connects to; a busy application would run out of them.
        // A kernel that does not know the option (before 4.2) goes on without.
        let _ = pipy_sys::bind_address_no_port(&socket);
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    match socket.connect(&address.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(EINPROGRESS) => {}
        Err(error) => return Err(error),
    }
    Ok(TcpStream::from_std(socket.into()))
}

/// LIMIT: a peer that has vanished without a word is found out after two minutes: a minute of silence, then four probes.
/// Nothing on the same machine vanishes so.
pub(crate) fn keepalive() -> TcpKeepalive {
    TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(15))
        .with_retries(4)
}

/// The attempt goes on in the background (errno of Linux, asm-generic/errno.h).
const EINPROGRESS: i32 = 115;
