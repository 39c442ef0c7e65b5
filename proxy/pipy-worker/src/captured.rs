//! UDP that the firewall has captured (TPROXY): datagrams on their way to someone else, and answers in that one's name.
//!
//! In: datagrams with where they were going. Out: answers that come from there, so that neither the application nor its peer
//! sees that someone is between.
//!
//! WHY raw sockets: an answer must come from the address and port that was asked, and there the application itself may listen,
//! which the kernel lets no second socket do. A packet that is written by hand needs no socket there. INVARIANT: what is sent
//! carries the proxy's packet mark, so that it is not captured again.
//!
//! Not here: sessions (`datagrams`).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use crate::datagrams::bind_prepared;

/// Bytes of a UDP header (RFC 768).
const HEADER_BYTES: usize = 8;

/// Binds one capturing UDP socket per worker to the same address. Needs CAP_NET_ADMIN and CAP_NET_RAW, also for the answers,
/// which is found out here.
///
/// # Errors
/// What the operating system says, such as "operation not permitted".
pub fn bind_captured(address: SocketAddr, workers: usize) -> io::Result<Vec<std::net::UdpSocket>> {
    answering(address.is_ipv6(), None)?;
    (0..workers).map(|_| bind_captured_once(address, workers > 1)).collect()
}

/// Binds one capturing UDP socket; others may be bound to the same address where it is shared.
///
/// # Errors
/// What the operating system says, such as "operation not permitted".
pub fn bind_captured_once(address: SocketAddr, shared: bool) -> io::Result<std::net::UdpSocket> {
    bind_prepared(address, shared, |socket| {
        pipy_sys::make_transparent(socket, address.is_ipv6())?;
        pipy_sys::tell_destination(socket, address.is_ipv6())
    })
}

/// The sockets of a worker that answer in others' names, made when there is something to say.
#[derive(Default)]
pub(crate) struct Answers {
    mark: Option<u32>,
    v4: Option<Socket>,
    v6: Option<Socket>,
    packet: Vec<u8>,
}

impl Answers {
    pub(crate) fn new(mark: Option<u32>) -> Self {
        Answers { mark, ..Answers::default() }
    }

    /// Sends a datagram to `to` that comes from `from`.
    pub(crate) fn send(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) -> io::Result<()> {
        let place = if to.is_ipv6() { &mut self.v6 } else { &mut self.v4 };
        let socket = match place {
            Some(socket) => socket,
            None => place.insert(answering(to.is_ipv6(), self.mark)?),
        };
        write(from, to, bytes, &mut self.packet)?;
        pipy_sys::send_as(socket, from.ip(), to.ip(), &self.packet)
    }
}

fn answering(ipv6: bool, mark: Option<u32>) -> io::Result<Socket> {
    let domain = if ipv6 { Domain::IPV6 } else { Domain::IPV4 };
    let socket = Socket::new(domain, Type::RAW, Some(Protocol::UDP))?;
    // WHY: a raw socket gets a copy of every UDP packet; this program lets none through.
    socket.attach_filter(&[DROP_ALL])?;
    pipy_sys::make_transparent(&socket, ipv6)?;
    if let Some(mark) = mark {
        socket.set_mark(mark)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// BPF_RET | BPF_K, with 0 bytes of the packet.
const DROP_ALL: SockFilter = SockFilter::new(0x06, 0, 0, 0);

/// Writes a UDP packet: header with checksum, data.
fn write(from: SocketAddr, to: SocketAddr, bytes: &[u8], packet: &mut Vec<u8>) -> io::Result<()> {
    let length = u16::try_from(HEADER_BYTES + bytes.len()).map_err(io::Error::other)?;
    packet.clear();
    packet.extend_from_slice(&from.port().to_be_bytes());
    packet.extend_from_slice(&to.port().to_be_bytes());
    packet.extend_from_slice(&length.to_be_bytes());
    packet.extend_from_slice(&[0, 0]);
    packet.extend_from_slice(bytes);
    let sum = pseudo_header(from.ip(), to.ip(), length) + words(packet);
    let checksum = match fold(sum) {
        // 0 means that there is none (RFC 768); over IPv6 there must be one (RFC 8200 section 8.1).
        0 => u16::MAX,
        checksum => checksum,
    };
    if let Some(place) = packet.get_mut(6..8) {
        place.copy_from_slice(&checksum.to_be_bytes());
    }
    Ok(())
}

fn pseudo_header(from: IpAddr, to: IpAddr, length: u16) -> u64 {
    const UDP: u64 = 17;
    let address = |address: IpAddr| match address {
        IpAddr::V4(address) => words(&Ipv4Addr::octets(&address)),
        IpAddr::V6(address) => words(&Ipv6Addr::octets(&address)),
    };
    address(from) + address(to) + u64::from(length) + UDP
}

/// The sum of all 16-bit words; a last odd byte counts as if a zero followed.
fn words(bytes: &[u8]) -> u64 {
    let word = |pair: &[u8]| match *pair {
        [high, low] => u64::from(u16::from_be_bytes([high, low])),
        [high] => u64::from(high) << 8,
        _ => 0,
    };
    bytes.chunks(2).map(word).sum()
}

/// The complement of the sum in ones' complement arithmetic (RFC 1071).
fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(from: &str, to: &str, bytes: &[u8]) -> Vec<u8> {
        let mut packet = Vec::new();
        let address = |text: &str| text.parse().expect("an address");
        write(address(from), address(to), bytes, &mut packet).expect("a packet");
        packet
    }

    #[test]
    fn a_packet_has_ports_length_and_a_checksum_that_adds_up() {
        for (from, to) in [("10.96.0.1:7000", "10.244.0.5:40000"), ("[fd96::1]:7000", "[fd00::5]:40000")] {
            for bytes in [&b""[..], b"x", b"hello", &[0xff; 1500]] {
                let packet = packet(from, to, bytes);
                assert_eq!(packet[..2], 7000_u16.to_be_bytes());
                assert_eq!(packet[2..4], 40000_u16.to_be_bytes());
                let length = u16::from_be_bytes([packet[4], packet[5]]);
                assert_eq!(usize::from(length), bytes.len() + 8);
                assert_eq!(&packet[8..], bytes);
                let ip = |text: &str| text.parse::<SocketAddr>().expect("an address").ip();
                // With the checksum in its place everything sums up to nothing.
                let sum = pseudo_header(ip(from), ip(to), length) + words(&packet);
                assert_eq!(fold(sum), 0, "{from} {}", bytes.len());
            }
        }
    }

    #[test]
    fn a_checksum_of_zero_is_written_as_its_other_form() {
        let all = (0..=u16::MAX).map(|word| packet("10.0.0.1:1", "10.0.0.2:2", &word.to_be_bytes()));
        assert!(all.into_iter().all(|packet| packet[6..8] != [0, 0]));
    }

    #[test]
    fn what_is_longer_than_a_datagram_can_be_is_refused() {
        let (from, to) = ("10.0.0.1:1".parse().expect("one"), "10.0.0.2:2".parse().expect("two"));
        assert!(write(from, to, &[0; 65_528], &mut Vec::new()).is_err());
    }
}
