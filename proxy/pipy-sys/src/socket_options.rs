//! Options of sockets.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd};

/// Leaves the choice of a port to the connection attempt (IP_BIND_ADDRESS_NO_PORT, Linux 4.2): a socket that is bound to an
/// address alone then shares ports with others whose destinations differ, instead of using one of some 28,000 up.
///
/// # Errors
/// What the operating system says; an older kernel does not know the option.
pub fn bind_address_no_port(socket: &impl AsFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    let size = libc::socklen_t::try_from(size_of::<libc::c_int>()).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open as long as it is borrowed; the pointer is to a live `c_int`, whose size is given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            size,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn the_option_is_taken_by_a_socket_and_by_nothing_else() {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        bind_address_no_port(&socket).expect("the option");
        let file = std::fs::File::open("/dev/null").expect("a file");
        assert!(bind_address_no_port(&file).is_err());
    }
}
