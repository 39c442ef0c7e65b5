//! Version 2: signature, version and command, family and transport, length, addresses, TLVs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Addresses, HEADER_BYTES_MAX, Header, HeaderError, Tlv};

pub(super) const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

const FIXED_BYTES: usize = 16;
const UNIX_BYTES: usize = 108;

/// A checksum over the whole header (section 2.2.3).
const TLV_CRC32C: u8 = 0x03;
/// Padding (section 2.2.4).
const TLV_NOOP: u8 = 0x04;

pub(super) fn decode(bytes: &[u8]) -> Result<Option<(Header, usize)>, HeaderError> {
    let local = match bytes.get(12) {
        None => return Ok(None),
        Some(0x20) => true,
        Some(0x21) => false,
        Some(_) => return Err(HeaderError::Command),
    };
    let Some(&family) = bytes.get(13) else { return Ok(None) };
    // A LOCAL header's family says nothing and must be passed over (section 2.2).
    if !local && !matches!(family, 0x00 | 0x11 | 0x12 | 0x21 | 0x22 | 0x31 | 0x32) {
        return Err(HeaderError::Family);
    }
    let Some(&[high, low]) = bytes.get(14..FIXED_BYTES) else { return Ok(None) };
    let end = FIXED_BYTES + usize::from(u16::from_be_bytes([high, low]));
    if end > HEADER_BYTES_MAX {
        return Err(HeaderError::TooLong);
    }
    let Some(whole) = bytes.get(..end) else { return Ok(None) };
    let mut rest = whole.get(FIXED_BYTES..).unwrap_or_default();
    if local {
        return Ok(Some((Header { addresses: Addresses::Unknown, local, tlvs: Vec::new() }, end)));
    }
    let addresses = addresses(family, &mut rest).ok_or(HeaderError::Short)?;
    let tlvs = tlvs(whole, rest)?;
    Ok(Some((Header { addresses, local, tlvs }, end)))
}

fn addresses(family: u8, rest: &mut &[u8]) -> Option<Addresses> {
    let datagram = family & 0x0F == 2;
    Some(match family >> 4 {
        1 => {
            let (source, destination) = (take::<4>(rest)?, take::<4>(rest)?);
            ip(Ipv4Addr::from(source).into(), Ipv4Addr::from(destination).into(), rest, datagram)?
        }
        2 => {
            let (source, destination) = (take::<16>(rest)?, take::<16>(rest)?);
            ip(Ipv6Addr::from(source).into(), Ipv6Addr::from(destination).into(), rest, datagram)?
        }
        3 => {
            let (source, destination) = (take::<UNIX_BYTES>(rest)?, take::<UNIX_BYTES>(rest)?);
            Addresses::Unix { source: name(&source), destination: name(&destination), datagram }
        }
        _ => Addresses::Unknown,
    })
}

fn ip(source: IpAddr, destination: IpAddr, rest: &mut &[u8], datagram: bool) -> Option<Addresses> {
    let (from, to) = (u16::from_be_bytes(take(rest)?), u16::from_be_bytes(take(rest)?));
    let (source, destination) = (SocketAddr::new(source, from), SocketAddr::new(destination, to));
    Some(Addresses::Ip { source, destination, datagram })
}

fn name(padded: &[u8]) -> Vec<u8> {
    let end = padded.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    padded.get(..end).unwrap_or_default().to_vec()
}

fn tlvs(whole: &[u8], mut rest: &[u8]) -> Result<Vec<Tlv>, HeaderError> {
    let mut found = Vec::new();
    while !rest.is_empty() {
        let [kind, high, low] = take::<3>(&mut rest).ok_or(HeaderError::Tlv)?;
        let size = usize::from(u16::from_be_bytes([high, low]));
        let Some((value, behind)) = rest.split_at_checked(size) else { return Err(HeaderError::Tlv) };
        match kind {
            TLV_CRC32C => {
                let at = whole.len() - rest.len();
                if value != checksum(whole, at).to_be_bytes() {
                    return Err(HeaderError::Checksum);
                }
            }
            TLV_NOOP => {}
            _ => found.push(Tlv { kind, value: value.to_vec() }),
        }
        rest = behind;
    }
    Ok(found)
}

/// CRC-32C over the header, the checksum's own four bytes at `at` taken as zeros (RFC 4960, appendix B).
fn checksum(whole: &[u8], at: usize) -> u32 {
    let mut crc = u32::MAX;
    for (i, byte) in whole.iter().enumerate() {
        let byte = if (at..at + 4).contains(&i) { 0 } else { *byte };
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82F6_3B78 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (first, behind) = rest.split_first_chunk::<N>()?;
    *rest = behind;
    Some(*first)
}

pub(super) fn encode(header: &Header, out: &mut Vec<u8>) {
    let mut body = Vec::new();
    let family = match &header.addresses {
        _ if header.local => 0x00,
        Addresses::Unknown => 0x00,
        Addresses::Ip { source, destination, datagram } => {
            for address in [source, destination] {
                match address.ip() {
                    IpAddr::V4(ip) => body.extend_from_slice(&ip.octets()),
                    IpAddr::V6(ip) => body.extend_from_slice(&ip.octets()),
                }
            }
            body.extend_from_slice(&source.port().to_be_bytes());
            body.extend_from_slice(&destination.port().to_be_bytes());
            if source.is_ipv4() { 0x11 + u8::from(*datagram) } else { 0x21 + u8::from(*datagram) }
        }
        Addresses::Unix { source, destination, datagram } => {
            for name in [source, destination] {
                let mut padded = [0; UNIX_BYTES];
                for (place, byte) in padded.iter_mut().zip(name) {
                    *place = *byte;
                }
                body.extend_from_slice(&padded);
            }
            0x31 + u8::from(*datagram)
        }
    };
    for tlv in header.tlvs.iter().filter(|_| !header.local) {
        let Ok(size) = u16::try_from(tlv.value.len()) else { continue };
        if FIXED_BYTES + body.len() + 3 + tlv.value.len() <= HEADER_BYTES_MAX {
            body.push(tlv.kind);
            body.extend_from_slice(&size.to_be_bytes());
            body.extend_from_slice(&tlv.value);
        }
    }
    out.extend_from_slice(SIGNATURE);
    out.extend_from_slice(&[0x20 | u8::from(!header.local), family]);
    // It fits: HEADER_BYTES_MAX is far below what the length can say.
    out.extend_from_slice(&u16::try_from(body.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend_from_slice(&body);
}
