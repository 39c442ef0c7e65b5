//! SOCKS 4, 4a and 5 (RFC 1928, 1929), both sides of the handshake.
//!
//! In: what the other side sent. Out: what to answer, and who wants to go where. After the handshake the
//! bytes are the tunnel's; what came too early is handed over by `rest`.
//!
//! Invariants: a handshake holds at most some 800 bytes, whatever comes.
//!
//! Not done here: connecting, commands other than CONNECT (refused), GSSAPI.

mod client;
mod server;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use bytes::{BufMut, BytesMut};

pub use client::{Client, ClientStep};
pub use server::{Server, ServerStep};

use crate::{Error, input::Cursor};

const PROTOCOL: &str = "SOCKS";

/// LIMIT: bytes of a name of SOCKS 4: a user's, or a domain. A domain has at most 255.
const NAME_BYTES_MAX: usize = 255;

/// Where a tunnel leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// An address.
    Ip(IpAddr),
    /// A name, to be resolved by the server.
    Domain(String),
}

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// 4 or 5.
    pub version: u8,
    /// The user that SOCKS 4 names, or that gave its password; else empty.
    pub id: String,
    /// Where to.
    pub host: Host,
    /// At which port.
    pub port: u16,
}

/// Why a server refuses, in the words of SOCKS 5; SOCKS 4 has one for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Something else.
    General = 1,
    /// By a rule.
    NotAllowed = 2,
    /// No way to the network.
    NetworkUnreachable = 3,
    /// No way to the host, or its name is unknown.
    HostUnreachable = 4,
    /// Nobody listens.
    ConnectionRefused = 5,
}

/// Writes an address as SOCKS 5 does.
fn put_host(output: &mut BytesMut, host: &Host, port: u16) -> Result<(), Error> {
    match host {
        Host::Ip(IpAddr::V4(ip)) => {
            output.put_u8(1);
            output.put_slice(&ip.octets());
        }
        Host::Ip(IpAddr::V6(ip)) => {
            output.put_u8(4);
            output.put_slice(&ip.octets());
        }
        Host::Domain(name) => {
            let length = u8::try_from(name.len()).ok().filter(|length| *length > 0);
            let length =
                length.ok_or_else(|| Error::unencodable(PROTOCOL, "a name of 0, or more than 255 bytes"))?;
            output.put_u8(3);
            output.put_u8(length);
            output.put_slice(name.as_bytes());
        }
    }
    output.put_u16(port);
    Ok(())
}

/// Reads an address of SOCKS 5.
fn get_host(cursor: &mut Cursor) -> Result<(Host, u16), Error> {
    let host = match cursor.u8("the kind of an address")? {
        1 => Host::Ip(IpAddr::from(cursor.u32("an IPv4 address")?.to_be_bytes())),
        3 => {
            let length = usize::from(cursor.u8("a name")?);
            let name = cursor.text(length, "a name")?;
            // A NUL or blank would be read otherwise by who comes next.
            if name.is_empty() || name.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
                return Err(cursor.malformed(format!("{name:?} is no name of a host")));
            }
            Host::Domain(name)
        }
        4 => {
            let high = u128::from(cursor.u64("an IPv6 address")?);
            let low = u128::from(cursor.u64("an IPv6 address")?);
            Host::Ip(IpAddr::from((high << 64 | low).to_be_bytes()))
        }
        other => return Err(cursor.malformed(format!("an address of kind {other}"))),
    };
    Ok((host, cursor.u16("a port")?))
}

/// How long the address is that starts here; `None` when that is not known yet.
fn host_size(bytes: &[u8]) -> Option<usize> {
    Some(match bytes {
        [1, ..] => 1 + 4 + 2,
        [4, ..] => 1 + 16 + 2,
        [3, length, ..] => 2 + usize::from(*length) + 2,
        [3] | [] => return None,
        // Refused by whoever reads it.
        [..] => 1,
    })
}
