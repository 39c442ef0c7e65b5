//! Datagrams that were on their way to someone else: sockets that take them, where they were going, and answers in that one's
//! name.
//!
//! Source: ip(7), ipv6(7), cmsg(3); Linux, Documentation/networking/tproxy.rst.

use std::io;
use std::mem::{size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd};

/// Lets a socket have addresses that are not this machine's (IP_TRANSPARENT). Needs CAP_NET_ADMIN or CAP_NET_RAW.
///
/// # Errors
/// What the operating system says, such as "operation not permitted".
pub fn make_transparent(socket: &impl AsFd, ipv6: bool) -> io::Result<()> {
    let (level, option) = level_and_option(ipv6);
    set(socket, level, option, 1)
}

/// Whether a socket was made transparent.
pub fn is_transparent(socket: &impl AsFd, ipv6: bool) -> bool {
    let (level, option) = level_and_option(ipv6);
    let mut value: libc::c_int = 0;
    let Ok(mut size) = libc::socklen_t::try_from(size_of::<libc::c_int>()) else { return false };
    // SAFETY: the descriptor is open as long as it is borrowed; both pointers are to live values, and the size is that of the
    // first.
    let result = unsafe {
        libc::getsockopt(socket.as_fd().as_raw_fd(), level, option, (&raw mut value).cast(), &raw mut size)
    };
    result == 0 && value != 0
}

/// Has each datagram tell where it was going ([`receive`]).
///
/// # Errors
/// What the operating system says.
pub fn tell_destination(socket: &impl AsFd, ipv6: bool) -> io::Result<()> {
    if ipv6 {
        set(socket, libc::SOL_IPV6, libc::IPV6_RECVORIGDSTADDR, 1)
    } else {
        set(socket, libc::SOL_IP, libc::IP_RECVORIGDSTADDR, 1)
    }
}

fn level_and_option(ipv6: bool) -> (libc::c_int, libc::c_int) {
    if ipv6 { (libc::SOL_IPV6, libc::IPV6_TRANSPARENT) } else { (libc::SOL_IP, libc::IP_TRANSPARENT) }
}

fn set(socket: &impl AsFd, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let size = libc::socklen_t::try_from(size_of::<libc::c_int>()).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open as long as it is borrowed; the pointer is to a live `c_int`, whose size is given.
    let result = unsafe {
        libc::setsockopt(socket.as_fd().as_raw_fd(), level, option, (&raw const value).cast(), size)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Room for one control message with an address or a packet information, aligned as the kernel wants it.
#[repr(C, align(8))]
struct Control([u8; 64]);

/// Takes a datagram: its size, who sent it, and where it was going, if the socket was asked to tell ([`tell_destination`]).
///
/// # Errors
/// What the operating system says; `WouldBlock` when there is none.
pub fn receive(socket: &impl AsFd, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr, Option<SocketAddr>)> {
    let mut control = Control([0; 64]);
    // SAFETY: all bytes zero is a valid value of these plain structures.
    let (mut name, mut message): (libc::sockaddr_storage, libc::msghdr) = unsafe { (zeroed(), zeroed()) };
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    message.msg_name = (&raw mut name).cast();
    message.msg_namelen =
        libc::socklen_t::try_from(size_of::<libc::sockaddr_storage>()).map_err(io::Error::other)?;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = control.0.len();
    // SAFETY: the descriptor is open as long as it is borrowed; every pointer in `message` is to a live value that nothing else
    // uses during the call, with its true size beside it.
    let received = unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut message, 0) };
    let size = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
    let peer = address(&name).ok_or_else(|| io::Error::other("a sender without an address"))?;
    let mut destination = None;
    // SAFETY: `message` describes `control`, which is live and aligned; the kernel has set its length to what it wrote.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    while !next.is_null() {
        // SAFETY: `next` is not null, so it is the begin of a whole header within `control`.
        let header = unsafe { next.read_unaligned() };
        let told = [(libc::SOL_IP, libc::IP_ORIGDSTADDR), (libc::SOL_IPV6, libc::IPV6_ORIGDSTADDR)];
        if told.contains(&(header.cmsg_level, header.cmsg_type)) {
            // SAFETY: all bytes zero is a valid value of this plain structure.
            let mut found: libc::sockaddr_storage = unsafe { zeroed() };
            // SAFETY: as above.
            let data = unsafe { libc::CMSG_DATA(next) };
            let begin = data as usize - control.0.as_ptr() as usize;
            let bytes = control.0.get(begin..).unwrap_or_default();
            let length = bytes.len().min(size_of::<libc::sockaddr_in6>());
            // SAFETY: `bytes` has at least `length` bytes, `found` more; they are different places. The kernel writes a whole
            // address there; what is beyond it in `control` is zero.
            unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), (&raw mut found).cast(), length) };
            destination = address(&found);
        }
        // SAFETY: `next` is a header of `message`, as above.
        next = unsafe { libc::CMSG_NXTHDR(&raw const message, next) };
    }
    Ok((size, peer, destination))
}

/// Sends a packet from an address that need not be this machine's; the socket is a raw, transparent one.
///
/// # Errors
/// What the operating system says.
pub fn send_as(socket: &impl AsFd, source: IpAddr, to: IpAddr, bytes: &[u8]) -> io::Result<()> {
    let mut control = Control([0; 64]);
    // SAFETY: all bytes zero is a valid value of these plain structures.
    let (mut name, mut message): (libc::sockaddr_storage, libc::msghdr) = unsafe { (zeroed(), zeroed()) };
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    message.msg_name = (&raw mut name).cast();
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    let (level, kind, size) = match (source, to) {
        (IpAddr::V4(source), IpAddr::V4(to)) => {
            message.msg_namelen = put(&mut name, v4(to))?;
            let own = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr { s_addr: u32::from(source).to_be() },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            (libc::SOL_IP, libc::IP_PKTINFO, write(&mut message, &mut control, own)?)
        }
        (IpAddr::V6(source), IpAddr::V6(to)) => {
            message.msg_namelen = put(&mut name, v6(to))?;
            let own =
                libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: source.octets() }, ipi6_ifindex: 0 };
            (libc::SOL_IPV6, libc::IPV6_PKTINFO, write(&mut message, &mut control, own)?)
        }
        _ => return Err(io::Error::other("addresses of two families")),
    };
    let header = libc::cmsghdr { cmsg_len: size, cmsg_level: level, cmsg_type: kind };
    // SAFETY: `control` is live, aligned, and larger than a header and what `write` put behind it.
    unsafe { control.0.as_mut_ptr().cast::<libc::cmsghdr>().write(header) };
    // SAFETY: the descriptor is open as long as it is borrowed; every pointer in `message` is to a live value with its true size
    // beside it; the kernel only reads them.
    let sent = unsafe { libc::sendmsg(socket.as_fd().as_raw_fd(), &raw const message, 0) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Writes the data of the one control message, and its length into `message`; returns the length for its header.
fn write<T: Copy>(message: &mut libc::msghdr, control: &mut Control, data: T) -> io::Result<usize> {
    let size = u32::try_from(size_of::<T>()).map_err(io::Error::other)?;
    // SAFETY: these only compute lengths.
    let (space, length) = unsafe { (libc::CMSG_SPACE(size), libc::CMSG_LEN(size)) };
    let begin = length as usize - size_of::<T>();
    assert!(begin + size_of::<T>() <= control.0.len(), "a control message has room");
    // SAFETY: the place is within `control`, as was just checked, and `write_unaligned` wants no alignment.
    unsafe { control.0.as_mut_ptr().add(begin).cast::<T>().write_unaligned(data) };
    message.msg_controllen = space as usize;
    Ok(length as usize)
}

/// Puts an address into the room for any; returns its size.
fn put<T: Copy>(name: &mut libc::sockaddr_storage, address: T) -> io::Result<libc::socklen_t> {
    assert!(size_of::<T>() <= size_of::<libc::sockaddr_storage>(), "there is room for any address");
    // SAFETY: there is room, as was just checked.
    unsafe { (&raw mut *name).cast::<T>().write_unaligned(address) };
    libc::socklen_t::try_from(size_of::<T>()).map_err(io::Error::other)
}

fn v4(to: Ipv4Addr) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: 0,
        sin_addr: libc::in_addr { s_addr: u32::from(to).to_be() },
        sin_zero: [0; 8],
    }
}

fn v6(to: Ipv6Addr) -> libc::sockaddr_in6 {
    libc::sockaddr_in6 {
        sin6_family: libc::AF_INET6 as libc::sa_family_t,
        // A raw socket takes a port for a protocol number.
        sin6_port: 0,
        sin6_flowinfo: 0,
        sin6_addr: libc::in6_addr { s6_addr: to.octets() },
        sin6_scope_id: 0,
    }
}

fn address(of: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match libc::c_int::from(of.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says which structure it is, and the storage is larger and aligned for any.
            let found = unsafe { (&raw const *of).cast::<libc::sockaddr_in>().read() };
            let ip = Ipv4Addr::from(u32::from_be(found.sin_addr.s_addr));
            Some((ip, u16::from_be(found.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let found = unsafe { (&raw const *of).cast::<libc::sockaddr_in6>().read() };
            let ip = Ipv6Addr::from(found.sin6_addr.s6_addr);
            let port = u16::from_be(found.sin6_port);
            Some(SocketAddrV6::new(ip, port, 0, found.sin6_scope_id).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn datagrams_come_with_their_sender_and_where_they_were_going() {
        for (own, ipv6) in [("127.0.0.1:0", false), ("[::1]:0", true)] {
            let Ok(socket) = UdpSocket::bind(own) else { continue };
            tell_destination(&socket, ipv6).expect("the option");
            assert!(!is_transparent(&socket, ipv6));
            let peer = UdpSocket::bind(own).expect("a socket");
            for text in ["", "hello"] {
                peer.send_to(text.as_bytes(), socket.local_addr().expect("an address")).expect("sent");
                let mut buffer = [0; 32];
                let (size, from, to) = receive(&socket, &mut buffer).expect("a datagram");
                assert_eq!(&buffer[..size], text.as_bytes());
                assert_eq!(from, peer.local_addr().expect("an address"));
                assert_eq!(to, socket.local_addr().ok());
            }
        }
    }

    #[test]
    fn an_empty_socket_says_so_and_a_plain_one_tells_no_destination() {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.set_nonblocking(true).expect("an option");
        let mut buffer = [0; 8];
        let error = receive(&socket, &mut buffer).expect_err("nothing is there");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        socket.send_to(b"x", socket.local_addr().expect("an address")).expect("sent");
        assert_eq!(receive(&socket, &mut buffer).expect("a datagram").2, None);
    }

    #[test]
    fn two_families_in_one_packet_are_refused() {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let (v4, v6) = (Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into());
        assert!(send_as(&socket, v4, v6, b"").is_err());
    }
}
