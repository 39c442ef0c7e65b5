//! Version 1: `PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n`.

use std::fmt::Display;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use super::{Addresses, Header, HeaderError};

pub(super) const START: &[u8] = b"PROXY ";

/// LIMIT: bytes of the line with its end (section 2.1: 107 and a NUL in the sender's buffer).
const LINE_BYTES_MAX: usize = 107;

pub(super) fn decode(bytes: &[u8]) -> Result<Option<(Header, usize)>, HeaderError> {
    let window = bytes.get(..LINE_BYTES_MAX).unwrap_or(bytes);
    let Some(end) = window.iter().position(|byte| *byte == b'\r' || *byte == b'\n') else {
        return if bytes.len() >= LINE_BYTES_MAX { Err(HeaderError::TooLong) } else { Ok(None) };
    };
    match window.get(end..end + 2) {
        Some(b"\r\n") => {}
        None if window.get(end) == Some(&b'\r') => {
            return if bytes.len() >= LINE_BYTES_MAX { Err(HeaderError::TooLong) } else { Ok(None) };
        }
        _ => return Err(HeaderError::Line),
    }
    let line = window.get(START.len()..end).ok_or(HeaderError::Line)?;
    let line = std::str::from_utf8(line).map_err(|_| HeaderError::Line)?;
    let addresses = addresses(line).ok_or(HeaderError::Line)?;
    Ok(Some((Header { addresses, local: false, tlvs: Vec::new() }, end + 2)))
}

fn addresses(line: &str) -> Option<Addresses> {
    let (family, rest) = line.split_once(' ').unwrap_or((line, ""));
    match family {
        // "The receiver must ignore anything presented before the CRLF" (section 2.1).
        "UNKNOWN" => Some(Addresses::Unknown),
        "TCP4" => ip::<Ipv4Addr>(rest),
        "TCP6" => ip::<Ipv6Addr>(rest),
        _ => None,
    }
}

fn ip<A: FromStr + Into<IpAddr>>(rest: &str) -> Option<Addresses> {
    let mut words = rest.split(' ');
    let mut address = || words.next()?.parse::<A>().ok().map(Into::into);
    let (source, destination): (IpAddr, IpAddr) = (address()?, address()?);
    let (source_port, destination_port) = (port(words.next()?)?, port(words.next()?)?);
    words.next().is_none().then(|| Addresses::Ip {
        source: SocketAddr::new(source, source_port),
        destination: SocketAddr::new(destination, destination_port),
        datagram: false,
    })
}

/// Digits in the one way to write a number: no sign, no leading zero.
fn port(word: &str) -> Option<u16> {
    let number: u16 = word.parse().ok()?;
    (number.to_string() == word).then_some(number)
}

pub(super) fn encode(header: &Header, out: &mut Vec<u8>) {
    let mut line = |family: &str, words: [&dyn Display; 4]| {
        let [a, b, c, d] = words;
        // Writing to a vector does not fail.
        let _ = write!(out, "PROXY {family} {a} {b} {c} {d}\r\n");
    };
    match &header.addresses {
        Addresses::Ip { source, destination, datagram: false } => {
            let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
            line(family, [&source.ip(), &destination.ip(), &source.port(), &destination.port()]);
        }
        _ => out.extend_from_slice(b"PROXY UNKNOWN\r\n"),
    }
}
