//! Netlink sockets: by which the kernel is asked about links, addresses, routes and much else, and tells of changes.
//!
//! For the graph such a socket is one of datagrams (`datagrams`): each packet is one `Data`, both ways.
//!
//! Not here: messages (`pipy-protocols`), what they mean (scripts).

use std::io;
use std::os::fd::OwnedFd;

use pipy_pipeline::{NetlinkAddress, NetlinkTo};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_recv_buffer_size_force};
use rustix::net::{
    AddressFamily, Protocol, RawProtocol, SocketFlags, SocketType, bind, connect, socket_with,
};

use crate::datagrams::RECEIVE_BUFFER_BYTES;

/// Makes a socket that is bound and connected.
pub(crate) fn open(to: &NetlinkTo) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    // WHY: the protocol 0, which is that of routes, is `None` here.
    let protocol = RawProtocol::new(to.family).map(Protocol::from_raw);
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?;
    // What the kernel has no room for is lost: a burst of changes, or the answer about many routes. Only root may have more
    // than net.core.rmem_max.
    set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER_BYTES)
        .or_else(|_| set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER_BYTES))?;
    bind(&socket, &address(to.own))?;
    connect(&socket, &address(to.peer))?;
    Ok(socket)
}

fn address(of: NetlinkAddress) -> SocketAddrNetlink {
    SocketAddrNetlink::new(of.pid, of.groups)
}
