//! The PROXY protocol, versions 1 and 2: who the client was before someone carried its connection to us.
//!
//! In: the first bytes of a connection, as many as there are. Out: the header, where it ends, or what is wrong with it.
//! No IO; a prefix that may still become a header is `None`, one that can't is refused at its first wrong byte.
//!
//! INVARIANT: what [`Header::encode`] writes, [`decode`] reads back the same. A header is accepted in one spelling only:
//! one blank between the words of version 1, no leading zeros; a checksum in version 2 must be right.
//! Source: "The PROXY protocol, versions 1 & 2", W. Tarreau, 2020, sections 2.1 to 2.2.
//!
//! Not here: whose word is believed (`pipy-mesh`); the filters `acceptProxyProtocol` and `sendProxyProtocol` are in
//! `filter`.

mod filter;
mod v1;
mod v2;

use std::net::SocketAddr;

use thiserror::Error;

pub(crate) use filter::{ACCEPT_SPEC, SEND_SPEC};
pub use filter::{AcceptProxyProtocol, Announce, SendProxyProtocol};

/// LIMIT: bytes of a header of version 2. The addresses take at most 216 and the usual TLVs a few hundred more; HAProxy
/// gives it 16 KiB, but only certificates need that.
pub const HEADER_BYTES_MAX: usize = 4096;

/// Which way of writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// One line of text.
    V1,
    /// Binary.
    V2,
}

/// What a header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Between whom the connection was; `Unknown` also where the sender speaks for itself (`LOCAL`).
    pub addresses: Addresses,
    /// The sender speaks for itself: a health check, not a client's connection. Version 2 only.
    pub local: bool,
    /// What else it says, in order, without padding and checksum. Version 2 only.
    pub tlvs: Vec<Tlv>,
}

/// Between whom a connection was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Addresses {
    /// Not known: the addresses of the connection itself count.
    Unknown,
    /// IP, both of the same family.
    Ip {
        /// The client.
        source: SocketAddr,
        /// Whom it called.
        destination: SocketAddr,
        /// Datagrams, not a stream.
        datagram: bool,
    },
    /// Unix sockets; the names as they came, without the NULs behind them.
    Unix {
        /// The client.
        source: Vec<u8>,
        /// Whom it called.
        destination: Vec<u8>,
        /// Datagrams, not a stream.
        datagram: bool,
    },
}

/// One addition of version 2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tlv {
    /// What it is about (section 2.2.1 to 2.2.7).
    pub kind: u8,
    /// The rest.
    pub value: Vec<u8>,
}

/// Why bytes are no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum HeaderError {
    /// They begin like neither version.
    #[error("the connection does not begin with a PROXY header")]
    NoHeader,
    /// It goes on for too long.
    #[error("the PROXY header is longer than {HEADER_BYTES_MAX} bytes, or than 107 in version 1")]
    TooLong,
    /// Version 1: a line that is not as it must be.
    #[error("the PROXY line of version 1 is malformed")]
    Line,
    /// Version 2: neither LOCAL nor PROXY, or not version 2.
    #[error("the PROXY header has an unknown version or command")]
    Command,
    /// Version 2: a family or transport that is not defined.
    #[error("the PROXY header has an unknown address family or transport")]
    Family,
    /// Version 2: the length does not hold the addresses.
    #[error("the PROXY header is too short for its addresses")]
    Short,
    /// Version 2: a TLV goes beyond the end.
    #[error("a TLV of the PROXY header goes beyond its end")]
    Tlv,
    /// Version 2: the checksum is wrong.
    #[error("the checksum of the PROXY header is wrong")]
    Checksum,
}

impl HeaderError {
    /// One word, for metrics.
    pub fn label(self) -> &'static str {
        match self {
            HeaderError::NoHeader => "proxy_no_header",
            HeaderError::TooLong => "proxy_too_long",
            HeaderError::Line => "proxy_line",
            HeaderError::Command => "proxy_command",
            HeaderError::Family => "proxy_family",
            HeaderError::Short => "proxy_short",
            HeaderError::Tlv => "proxy_tlv",
            HeaderError::Checksum => "proxy_checksum",
        }
    }
}

/// Reads a header of either version: what it says and how many bytes it takes; `None` while more are needed.
///
/// # Errors
/// When the bytes can't become a header.
pub fn decode(bytes: &[u8]) -> Result<Option<(Header, usize)>, HeaderError> {
    if begins_alike(bytes, v2::SIGNATURE) {
        v2::decode(bytes)
    } else if begins_alike(bytes, v1::START) {
        v1::decode(bytes)
    } else {
        Err(HeaderError::NoHeader)
    }
}

fn begins_alike(bytes: &[u8], start: &[u8]) -> bool {
    bytes.iter().zip(start).all(|(a, b)| a == b)
}

impl Header {
    /// A header for a connection; addresses of two families can't be told and make it `Unknown`.
    pub fn stream(source: SocketAddr, destination: SocketAddr) -> Self {
        let (source, destination) = (plain(source), plain(destination));
        let addresses = if source.is_ipv4() == destination.is_ipv4() {
            Addresses::Ip { source, destination, datagram: false }
        } else {
            Addresses::Unknown
        };
        Header { addresses, local: false, tlvs: Vec::new() }
    }

    /// Writes it. Version 1 has no words for Unix sockets, datagrams, `LOCAL` and TLVs: it says `UNKNOWN`, or leaves
    /// them out. TLVs that would not fit into [`HEADER_BYTES_MAX`] are left out too.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        match version {
            Version::V1 => v1::encode(self, out),
            Version::V2 => v2::encode(self, out),
        }
    }
}

/// An IPv4 address in IPv6's clothes, as sockets that serve both families give it, as what it is.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
