//! The PROXY protocol: each header read whole, byte by byte, and with bytes behind it; every malformed family refused.

use std::net::SocketAddr;

use pipy_filters::proxy_protocol::{Addresses, HEADER_BYTES_MAX, Header, HeaderError, Tlv, Version, decode};
use pipy_testkit::Dice;

fn socket(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn ip(source: &str, destination: &str) -> Header {
    Header::stream(socket(source), socket(destination))
}

/// Whole, byte by byte, with trailing data: the same answer.
#[track_caller]
fn reads(bytes: &[u8]) -> Header {
    for cut in 0..bytes.len() {
        assert_eq!(decode(&bytes[..cut]), Ok(None), "cut at {cut}");
    }
    let (header, used) = decode(bytes).expect("valid").expect("whole");
    assert_eq!(used, bytes.len());
    let trailing = [bytes, b"\r\nPROXY"].concat();
    assert_eq!(decode(&trailing), Ok(Some((header.clone(), used))));
    header
}

#[track_caller]
fn refused(bytes: &[u8], error: HeaderError) {
    assert_eq!(decode(bytes), Err(error), "{:?}", String::from_utf8_lossy(bytes));
}

fn v2(rest: &[u8]) -> Vec<u8> {
    [b"\r\n\r\n\0\r\nQUIT\n".as_slice(), rest].concat()
}

#[test]
fn version_1_is_read() {
    assert_eq!(
        reads(b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n"),
        ip("192.0.2.1:56324", "192.0.2.2:443")
    );
    assert_eq!(
        reads(b"PROXY TCP6 2001:db8::1 2001:db8::2 0 65535\r\n"),
        ip("[2001:db8::1]:0", "[2001:db8::2]:65535")
    );
    assert_eq!(reads(b"PROXY UNKNOWN\r\n").addresses, Addresses::Unknown);
    assert_eq!(reads(b"PROXY UNKNOWN what ever \x01 it says\r\n").addresses, Addresses::Unknown);
}

#[test]
fn version_1_is_strict() {
    for line in [
        "PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n",
        "PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n",
        "PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n",
        "PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY tcp4 192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY \r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\rX",
    ] {
        refused(line.as_bytes(), HeaderError::Line);
    }
    let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(107 - 16));
    assert_eq!(long.len(), 107);
    reads(long.as_bytes());
    refused(format!("PROXY UNKNOWN {}\r\n", "x".repeat(108 - 16)).as_bytes(), HeaderError::TooLong);
    assert_eq!(decode(format!("PROXY UNKNOWN {}", "x".repeat(92)).as_bytes()), Ok(None));
    refused(format!("PROXY UNKNOWN {}", "x".repeat(93)).as_bytes(), HeaderError::TooLong);
}

#[test]
fn what_is_neither_version_is_refused_at_its_first_wrong_byte() {
    refused(b"G", HeaderError::NoHeader);
    refused(b"PROXX", HeaderError::NoHeader);
    refused(b"\r\n\r\n\x01", HeaderError::NoHeader);
    assert_eq!(decode(b""), Ok(None));
    assert_eq!(decode(b"PROXY"), Ok(None));
    assert_eq!(decode(b"\r"), Ok(None));
}

#[test]
fn version_2_is_read() {
    let bytes = v2(&[0x21, 0x11, 0, 12, 192, 0, 2, 1, 192, 0, 2, 2, 0xDC, 0x04, 0x01, 0xBB]);
    assert_eq!(reads(&bytes), ip("192.0.2.1:56324", "192.0.2.2:443"));
    // The sender speaks for itself: family and content are passed over, whatever they are.
    let local = reads(&v2(&[0x20, 0xEE, 0, 3, 1, 2, 3]));
    assert_eq!((local.local, local.addresses), (true, Addresses::Unknown));
    assert_eq!(reads(&v2(&[0x21, 0x00, 0, 0])).addresses, Addresses::Unknown);
    let mut names = vec![0; 216];
    names[..4].copy_from_slice(b"/a\0b");
    names[108] = b'/';
    let unix = reads(&v2(&[&[0x21, 0x32, 0, 216], names.as_slice()].concat()));
    let (source, destination) = (b"/a\0b".to_vec(), b"/".to_vec());
    assert_eq!(unix.addresses, Addresses::Unix { source, destination, datagram: true });
}

#[test]
fn version_2_is_strict() {
    refused(&v2(&[0x11]), HeaderError::Command);
    refused(&v2(&[0x22]), HeaderError::Command);
    for family in [0x01, 0x10, 0x13, 0x20, 0x23, 0x30, 0x41] {
        refused(&v2(&[0x21, family]), HeaderError::Family);
    }
    refused(&v2(&[0x21, 0x11, 0, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), HeaderError::Short);
    refused(&v2(&[0x21, 0x11, 0xFF, 0xFF]), HeaderError::TooLong);
    refused(&v2(&[0x21, 0x00, 0, 2, 1, 0]), HeaderError::Tlv);
    refused(&v2(&[0x21, 0x00, 0, 4, 1, 0, 2, 0]), HeaderError::Tlv);
}

#[test]
fn the_checksum_is_verified() {
    // CRC-32C of the 23 bytes with the checksum's four taken as zeros, by an independent bitwise computation.
    fn crc(bytes: &[u8]) -> u32 {
        let table: Vec<u32> = (0..256u32)
            .map(|n| (0..8).fold(n, |c, _| if c & 1 == 1 { 0x82F6_3B78 ^ (c >> 1) } else { c >> 1 }))
            .collect();
        !bytes.iter().fold(!0u32, |c, b| table[usize::from((c as u8) ^ b)] ^ (c >> 8))
    }
    assert_eq!(crc(b"123456789"), 0xE306_9283, "the published check value");
    let mut bytes = v2(&[0x21, 0x00, 0, 7, 3, 0, 4, 0, 0, 0, 0]);
    let sum = crc(&bytes);
    bytes[19..].copy_from_slice(&sum.to_be_bytes());
    assert_eq!(reads(&bytes).tlvs, []);
    bytes[20] ^= 1;
    refused(&bytes, HeaderError::Checksum);
    refused(&v2(&[0x21, 0x00, 0, 5, 3, 0, 2, 0, 0]), HeaderError::Checksum);
}

#[test]
fn what_is_written_is_read_back() {
    let mut dice = Dice::new(7);
    for round in 0..2_000 {
        let addresses = match dice.below(4) {
            0 => Addresses::Unknown,
            1 => {
                let mut name = || {
                    let mut name: Vec<u8> = (0..dice.below(109)).map(|_| 1 + dice.below(255) as u8).collect();
                    name.truncate(108);
                    name
                };
                let (source, destination) = (name(), name());
                Addresses::Unix { source, destination, datagram: round % 2 == 0 }
            }
            family => {
                let mut address = || {
                    let octets: [u8; 16] = std::array::from_fn(|_| dice.below(256) as u8);
                    let port = dice.below(65536) as u16;
                    if family == 2 {
                        SocketAddr::from(([octets[0], octets[1], octets[2], octets[3]], port))
                    } else {
                        SocketAddr::from((octets, port))
                    }
                };
                let (source, destination) = (address(), address());
                Addresses::Ip { source, destination, datagram: round % 2 == 0 }
            }
        };
        let kinds = [1u8, 2, 5, 0x20, 0x30, 0xE0];
        let tlvs = (0..dice.below(4))
            .map(|_| Tlv { kind: dice.pick(&kinds), value: vec![dice.below(256) as u8; dice.below(300)] })
            .collect();
        let header = Header { addresses, local: false, tlvs };
        let mut bytes = Vec::new();
        header.encode(Version::V2, &mut bytes);
        assert!(bytes.len() <= HEADER_BYTES_MAX);
        let (read, used) = decode(&bytes).expect("valid").expect("whole");
        assert_eq!((read, used), (header.clone(), bytes.len()), "round {round}");
        let mut line = Vec::new();
        header.encode(Version::V1, &mut line);
        let (read, _) = decode(&line).expect("valid").expect("whole");
        match header.addresses {
            Addresses::Ip { datagram: false, .. } => assert_eq!(read.addresses, header.addresses),
            _ => assert_eq!(read.addresses, Addresses::Unknown),
        }
    }
}

#[test]
fn addresses_of_sockets_for_both_families_are_told_as_what_they_are() {
    assert_eq!(ip("[::ffff:192.0.2.1]:5", "192.0.2.2:6"), ip("192.0.2.1:5", "192.0.2.2:6"));
    assert_eq!(ip("[2001:db8::1]:5", "192.0.2.2:6").addresses, Addresses::Unknown);
}

#[test]
fn garbage_never_panics_and_an_answer_stays() {
    let mut dice = Dice::new(11);
    for _ in 0..20_000 {
        let mut bytes = match dice.below(3) {
            0 => v2(&[0x21, dice.pick(&[0x11, 0x21, 0x31, 0x00]), 0, dice.below(80) as u8]),
            1 => b"PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\n".to_vec(),
            _ => Vec::new(),
        };
        bytes.extend((0..dice.below(120)).map(|_| dice.below(256) as u8));
        if !bytes.is_empty() {
            let at = dice.below(bytes.len());
            bytes[at] = dice.below(256) as u8;
        }
        let whole = decode(&bytes);
        for cut in 0..bytes.len() {
            match decode(&bytes[..cut]) {
                Ok(None) => {}
                settled => assert_eq!(settled, whole, "cut at {cut} of {bytes:?}"),
            }
        }
    }
}
