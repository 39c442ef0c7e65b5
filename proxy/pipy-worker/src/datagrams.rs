//! UDP: sockets that listen, the sessions on them, and sockets that are connected to an upstream.
//!
//! A *session* is all that comes from one peer to one listener; where the firewall captures datagrams for the listener
//! (`captured`), from one peer to one destination. For the graph it is a socket like any other: a pipeline of its own, whose
//! every `Data` is one datagram, also an empty one. An upstream is a connected socket, in the same words.
//!
//! ```text
//!   peer A ──┐               ┌─ session A ══ pipeline ══ connected socket ── upstream
//!   peer B ──┴─► listener ───┴─ session B ══ pipeline ══ …
//! ```
//!
//! INVARIANT: datagrams keep their bounds and are never split, joined or queued: what the kernel does not take at once is
//! dropped, as UDP allows, and counted. There are at most [`SESSIONS_MAX`] sessions.
//!
//! Not here: when a session is over (the filters of its pipeline know; they close), who may begin one (the `App`).

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};
use pipy_pipeline::{ConnectTo, NetlinkTo, SocketId};
use slab::Slab;
use socket2::{Domain, Protocol, Socket, Type};

use crate::captured::Answers;
use crate::netlink;

/// LIMIT: sessions per worker. Each has a pipeline and perhaps a socket towards its upstream; peers' addresses can be
/// forged, so without a limit anyone could make as many as they like.
pub(crate) const SESSIONS_MAX: usize = 16 * 1024;

/// LIMIT: datagrams taken from one socket before the others have their turn.
pub(crate) const BUDGET: usize = 64;

/// LIMIT: bytes of a datagram: 65,507 over IPv4, some more over IPv6.
const DATAGRAM_BYTES_MAX: usize = 64 * 1024;

/// What the kernel says when a netlink socket has missed something (errno of Linux, asm-generic/errno.h).
const ENOBUFS: i32 = 105;

/// LIMIT: what the kernel may hold for a listener while the worker is busy; its default (208 KiB) holds some hundred
/// small datagrams. It takes what net.core.rmem_max allows.
pub(crate) const RECEIVE_BUFFER_BYTES: usize = 1024 * 1024;

/// What happened at a socket.
pub(crate) enum Received {
    /// A datagram for a session or from an upstream.
    Datagram(SocketId, Bytes),
    /// The first of a peer.
    New(Newcomer),
    /// An upstream said that nobody listens there.
    Refused(SocketId),
    /// The kernel had more to say than the socket of netlink has room for: something is missing from here on.
    Lost(SocketId),
    /// Nothing that matters; there may be more.
    Nothing,
}

/// A peer that has no session yet, with its first datagram.
pub(crate) struct Newcomer {
    pub(crate) slot: usize,
    pub(crate) key: u32,
    pub(crate) peer: SocketAddr,
    pub(crate) local: SocketAddr,
    /// Where it was going; the listener's own address where that is not known.
    pub(crate) destination: SocketAddr,
    pub(crate) bytes: Bytes,
}

enum Slot {
    Listener(Listener),
    Upstream { id: SocketId, socket: UdpSocket },
}

struct Listener {
    key: u32,
    socket: UdpSocket,
    local: SocketAddr,
    /// Its datagrams were on their way to someone else, in whose name they may be answered.
    captures: bool,
    sessions: HashMap<Ends, SocketId>,
}

/// A peer, and where it sends to.
type Ends = (SocketAddr, SocketAddr);

enum Flow {
    Session {
        slot: usize,
        ends: Ends,
        reading: bool,
        in_its_name: bool,
    },
    /// `watches`: the kernel's changes, which never end.
    Upstream {
        slot: usize,
        reading: bool,
        watches: bool,
    },
}

/// All of a worker. Their tokens start at `base`.
pub(crate) struct Datagrams {
    base: usize,
    slots: Slab<Slot>,
    keys: HashMap<u32, usize>,
    flows: HashMap<SocketId, Flow>,
    buffer: Vec<u8>,
    answers: Answers,
    /// Sockets that had more when their turn was over.
    pub(crate) unread: Vec<usize>,
    /// Sockets that watch the kernel's changes. Nothing waits for their end.
    pub(crate) watching: usize,
    /// Datagrams that were dropped since this was asked last.
    pub(crate) dropped: u64,
}

impl Datagrams {
    pub(crate) fn new(base: usize, mark: Option<u32>) -> Self {
        Datagrams {
            base,
            slots: Slab::new(),
            keys: HashMap::new(),
            flows: HashMap::new(),
            buffer: Vec::new(),
            answers: Answers::new(mark),
            unread: Vec::new(),
            watching: 0,
            dropped: 0,
        }
    }

    /// Opens or, with `None`, closes a listener. The sessions of one that is closed must be closed by who asks.
    pub(crate) fn listen(
        &mut self,
        key: u32,
        socket: Option<std::net::UdpSocket>,
        registry: &Registry,
    ) -> Vec<SocketId> {
        let mut ended = Vec::new();
        if let Some(slot) = self.keys.remove(&key)
            && let Some(Slot::Listener(listener)) = self.slots.try_remove(slot)
        {
            ended.extend(listener.sessions.into_values());
        }
        if let Some(socket) = socket
            && let Ok(local) = socket.local_addr()
        {
            let captures = pipy_sys::is_transparent(&socket, local.is_ipv6());
            let mut socket = UdpSocket::from_std(socket);
            let place = self.slots.vacant_entry();
            let token = Token(self.base + place.key());
            // Registration fails only when the process is out of kernel memory; the listener then stays deaf.
            let _ = registry.register(&mut socket, token, Interest::READABLE);
            self.keys.insert(key, place.key());
            place.insert(Slot::Listener(Listener { key, socket, local, captures, sessions: HashMap::new() }));
        }
        ended
    }

    /// Makes a socket that is connected to an upstream.
    pub(crate) fn connect(
        &mut self,
        id: SocketId,
        to: &ConnectTo,
        mark: Option<u32>,
        registry: &Registry,
    ) -> io::Result<()> {
        let socket = Socket::new(Domain::for_address(to.address), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        if let Some(mark) = mark {
            socket.set_mark(mark)?;
        }
        if let Some(source) = to.source {
            socket.bind(&SocketAddr::new(source, 0).into())?;
        }
        socket.connect(&to.address.into())?;
        self.upstream(id, socket.into(), false, registry)
    }

    /// Makes a netlink socket.
    pub(crate) fn connect_netlink(
        &mut self,
        id: SocketId,
        to: &NetlinkTo,
        registry: &Registry,
    ) -> io::Result<()> {
        // WHY: once it is connected it takes and gives packets by the same two system calls as a UDP socket.
        let watches = to.own.groups != 0;
        self.upstream(id, netlink::open(to)?.into(), watches, registry)?;
        self.watching += usize::from(watches);
        Ok(())
    }

    fn upstream(
        &mut self,
        id: SocketId,
        socket: std::net::UdpSocket,
        watches: bool,
        registry: &Registry,
    ) -> io::Result<()> {
        let mut socket = UdpSocket::from_std(socket);
        let place = self.slots.vacant_entry();
        registry.register(&mut socket, Token(self.base + place.key()), Interest::READABLE)?;
        self.flows.insert(id, Flow::Upstream { slot: place.key(), reading: true, watches });
        place.insert(Slot::Upstream { id, socket });
        Ok(())
    }

    /// Takes one datagram; `None` when there is none.
    pub(crate) fn receive(&mut self, slot: usize) -> Option<Received> {
        self.buffer.resize(DATAGRAM_BYTES_MAX, 0);
        match self.slots.get(slot)? {
            Slot::Listener(Listener { key, socket, local, captures, sessions }) => {
                let received = match captures {
                    true => pipy_sys::receive(socket, &mut self.buffer),
                    false => socket.recv_from(&mut self.buffer).map(|(size, peer)| (size, peer, None)),
                };
                let (size, peer, destination) = match received {
                    Ok(received) => received,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                    // Of one peer, perhaps; it says nothing about the others.
                    Err(_) => return Some(Received::Nothing),
                };
                let bytes = Bytes::copy_from_slice(self.buffer.get(..size).unwrap_or_default());
                let destination = destination.unwrap_or(*local);
                match sessions.get(&(peer, destination)) {
                    Some(id) if matches!(self.flows.get(id), Some(Flow::Session { reading: false, .. })) => {
                        self.dropped += 1;
                        Some(Received::Nothing)
                    }
                    Some(id) => Some(Received::Datagram(*id, bytes)),
                    None if self.flows.len() >= SESSIONS_MAX => {
                        self.dropped += 1;
                        Some(Received::Nothing)
                    }
                    None => {
                        let (key, local) = (*key, *local);
                        Some(Received::New(Newcomer { slot, key, peer, local, destination, bytes }))
                    }
                }
            }
            Slot::Upstream { id, socket } => match socket.recv(&mut self.buffer) {
                Ok(_) if matches!(self.flows.get(id), Some(Flow::Upstream { reading: false, .. })) => {
                    self.dropped += 1;
                    Some(Received::Nothing)
                }
                Ok(size) => {
                    let bytes = Bytes::copy_from_slice(self.buffer.get(..size).unwrap_or_default());
                    Some(Received::Datagram(*id, bytes))
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    Some(Received::Refused(*id))
                }
                Err(error) if error.raw_os_error() == Some(ENOBUFS) => Some(Received::Lost(*id)),
                Err(_) => Some(Received::Nothing),
            },
        }
    }

    /// A newcomer was taken in, under this id.
    pub(crate) fn begin(&mut self, id: SocketId, newcomer: &Newcomer, in_its_name: bool) {
        if let Some(Slot::Listener(listener)) = self.slots.get_mut(newcomer.slot) {
            let ends = (newcomer.peer, newcomer.destination);
            listener.sessions.insert(ends, id);
            self.flows.insert(id, Flow::Session { slot: newcomer.slot, ends, reading: true, in_its_name });
        }
    }

    /// Sends a datagram; false where the id is none of ours.
    pub(crate) fn send(&mut self, id: SocketId, bytes: &[u8]) -> bool {
        let sent = match self.flows.get(&id) {
            None => return false,
            Some(Flow::Session { slot, ends: (peer, destination), in_its_name, .. }) => {
                match self.slots.get(*slot) {
                    Some(Slot::Listener(listener)) if listener.captures && *in_its_name => {
                        self.answers.send(*destination, *peer, bytes)
                    }
                    Some(Slot::Listener(listener)) => listener.socket.send_to(bytes, *peer).map(drop),
                    _ => return true,
                }
            }
            Some(Flow::Upstream { slot, .. }) => match self.slots.get(*slot) {
                Some(Slot::Upstream { socket, .. }) => socket.send(bytes).map(drop),
                _ => return true,
            },
        };
        // A refusal of the datagram before is told at the next reading; this one may have gone nowhere.
        if sent.is_err() {
            self.dropped += 1;
        }
        true
    }

    /// Takes datagrams again, or drops them as they come; false where the id is none of ours.
    pub(crate) fn set_reading(&mut self, id: SocketId, on: bool) -> bool {
        match self.flows.get_mut(&id) {
            Some(Flow::Session { reading, .. } | Flow::Upstream { reading, .. }) => {
                *reading = on;
                true
            }
            None => false,
        }
    }

    /// Whether it is an upstream's socket.
    pub(crate) fn is_upstream(&self, id: SocketId) -> bool {
        matches!(self.flows.get(&id), Some(Flow::Upstream { .. }))
    }

    /// Forgets a session or upstream; false where the id is none of ours.
    pub(crate) fn remove(&mut self, id: SocketId) -> bool {
        match self.flows.remove(&id) {
            None => return false,
            Some(Flow::Session { slot, ends, .. }) => {
                if let Some(Slot::Listener(listener)) = self.slots.get_mut(slot) {
                    listener.sessions.remove(&ends);
                }
            }
            Some(Flow::Upstream { slot, watches, .. }) => {
                self.watching -= usize::from(watches);
                // Dropping a socket closes it, and the event queue forgets what is closed.
                self.slots.try_remove(slot);
            }
        }
        true
    }
}

/// Binds one UDP socket per worker to the same address; the kernel gives each peer to one of them. Port 0 takes any free
/// port, the same for all.
///
/// # Errors
/// What the operating system says, such as "address in use".
pub fn bind_datagrams(address: SocketAddr, workers: usize) -> io::Result<Vec<std::net::UdpSocket>> {
    let mut address = address;
    let mut sockets = Vec::with_capacity(workers);
    for _ in 0..workers {
        let socket = bind_datagrams_once(address, workers > 1)?;
        address = socket.local_addr()?;
        sockets.push(socket);
    }
    Ok(sockets)
}

/// Binds one UDP socket; others may be bound to the same address where it is shared.
///
/// # Errors
/// What the operating system says, such as "address in use".
pub fn bind_datagrams_once(address: SocketAddr, shared: bool) -> io::Result<std::net::UdpSocket> {
    bind_prepared(address, shared, |_| Ok(()))
}

/// The same with what is done to the socket before it has its address.
pub(crate) fn bind_prepared(
    address: SocketAddr,
    shared: bool,
    prepare: impl FnOnce(&Socket) -> io::Result<()>,
) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    prepare(&socket)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES);
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(std::net::UdpSocket::from(socket))
}
