//! Protocols by their first bytes, and the ClientHello that they may be: of a real client, cut everywhere, split over
//! records, damaged at each byte.

use std::sync::Arc;

use pipy_filters::{CLIENT_HELLO_BYTES_MAX, DETECT_BYTES_MAX, HelloError, Spoken, client_hello, detect};
use pipy_testkit::Dice;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

/// What rustls says first.
fn hello(name: &str, alpn: &[&str]) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let mut client = ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes).expect("written");
    }
    bytes
}

/// The same message in records of this size.
fn in_records(hello: &[u8], size: usize) -> Vec<u8> {
    hello[5..].chunks(size).flat_map(|part| [&[22, 3, 1, 0, part.len() as u8], part].concat()).collect()
}

#[test]
fn a_real_clients_hello_is_read_however_it_is_cut() {
    let bytes = hello("Shop.Example.com", &["h2", "http/1.1"]);
    for bytes in [bytes.clone(), in_records(&bytes, 1), in_records(&bytes, 100)] {
        for cut in 0..bytes.len() {
            assert_eq!(client_hello(&bytes[..cut]), Ok(None), "cut at {cut}");
            assert_eq!(detect(&bytes[..cut]), None);
        }
        let found = client_hello(&bytes).expect("valid").expect("whole");
        assert_eq!(found.server_name.as_deref(), Some("shop.example.com"));
        assert_eq!(found.alpn, [b"h2".to_vec(), b"http/1.1".to_vec()]);
        assert_eq!(detect(&bytes), Some(Spoken::Tls));
    }
}

#[test]
fn a_hello_without_a_name_has_none() {
    let found = client_hello(&hello("192.0.2.1", &[])).expect("valid").expect("whole");
    assert_eq!((found.server_name, found.alpn), (None, vec![]));
}

/// A hello with these extensions, each with its number.
fn made(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let sized = |bytes: &[u8]| [&(bytes.len() as u16).to_be_bytes(), bytes].concat();
    let all: Vec<u8> =
        extensions.iter().flat_map(|(kind, body)| [&kind.to_be_bytes(), &sized(body)[..]].concat()).collect();
    let body = [&[3, 3], &[7; 32][..], &[0], &[0, 2, 0x13, 1], &[1, 0], &sized(&all)].concat();
    let message = [&[1, 0], &sized(&body)[..]].concat();
    [&[22, 3, 1], &sized(&message)[..]].concat()
}

fn name(name: &[u8]) -> (u16, Vec<u8>) {
    let entry = [&[0][..], &(name.len() as u16).to_be_bytes(), name].concat();
    (0, [&(entry.len() as u16).to_be_bytes(), &entry[..]].concat())
}

#[test]
fn names_that_can_be_read_in_two_ways_are_refused() {
    let ok = |bytes: &[u8]| client_hello(bytes).map(|hello| hello.and_then(|hello| hello.server_name));
    assert_eq!(ok(&made(&[name(b"a.example")])), Ok(Some("a.example".into())));
    for wrong in [
        &b""[..],
        b"a.example.",
        b"a..example",
        b".a",
        b"a\0.example",
        b"a b",
        b"192.0.2.1",
        b"[::1]",
        b"-a.example",
        b"a-.example",
        b"*.example",
        "ä.example".as_bytes(),
        &[b'a'; 64],
    ] {
        assert_eq!(ok(&made(&[name(wrong)])), Err(HelloError::Name), "{wrong:?}");
    }
    assert_eq!(ok(&made(&[name(b"a.example"), name(b"b.example")])), Err(HelloError::Twice));
    let (kind, mut two) = name(b"a.example");
    two.extend_from_slice(&two.clone()[2..]);
    two[1] *= 2;
    assert_eq!(ok(&made(&[(kind, two)])), Err(HelloError::Malformed));
    let (kind, mut behind) = name(b"a.example");
    behind.push(0);
    assert_eq!(ok(&made(&[(kind, behind)])), Err(HelloError::Malformed));
}

#[test]
fn a_hello_that_never_ends_is_refused() {
    let mut bytes = vec![22, 3, 1, 0x40, 0, 1, 0, 0x3F, 0xFC];
    bytes.resize(9 + 100, 7);
    assert_eq!(client_hello(&bytes), Ok(None));
    let mut endless = in_records(&[&[0; 5][..], &[1, 0, 0x3F, 0xFF], &[7; 16_000]].concat(), 1);
    endless.truncate(CLIENT_HELLO_BYTES_MAX);
    assert_eq!(client_hello(&endless), Err(HelloError::TooLong));
    assert_eq!(client_hello(&[22, 3, 1, 0, 4, 1, 1, 0, 0]), Err(HelloError::TooLong));
    assert_eq!(client_hello(&[22, 3, 1, 0, 0]), Err(HelloError::Malformed));
    assert_eq!(client_hello(&[22, 3, 1, 0, 1, 2]), Err(HelloError::NotTls));
    assert_eq!(client_hello(&[21]), Err(HelloError::NotTls));
    assert_eq!(client_hello(&[22, 2]), Err(HelloError::NotTls));
}

#[test]
fn damage_never_panics_and_an_answer_stays() {
    let good = hello("a.example", &["h2"]);
    let mut dice = Dice::new(3);
    for _ in 0..3_000 {
        let mut bytes = good.clone();
        for _ in 0..=dice.below(3) {
            let at = dice.below(bytes.len());
            bytes[at] = dice.below(256) as u8;
        }
        let (read, spoken) = (client_hello(&bytes), detect(&bytes));
        for cut in [dice.below(bytes.len()), dice.below(bytes.len()), dice.below(20)] {
            match client_hello(&bytes[..cut]) {
                Ok(None) => {}
                settled => assert_eq!(settled, read, "cut at {cut} of {bytes:?}"),
            }
            if let Some(settled) = detect(&bytes[..cut]) {
                assert_eq!(Some(settled), spoken, "cut at {cut} of {bytes:?}");
            }
        }
    }
}

#[test]
fn protocols_are_told_apart_at_the_first_byte_that_says_so() {
    let cases: &[(&[u8], Spoken)] = &[
        (b"GET / HTTP/1.1", Spoken::Http1),
        (b"M-SEARCH * HTTP/1.0", Spoken::Http1),
        (b"CONNECT a.example:443 HTTP/1.1", Spoken::Http1),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Spoken::Http2),
        (b"PRI * HTTP/1.1", Spoken::Http1),
        // Redis, SMTP, MQTT, PostgreSQL, MySQL's answer, SSH, a line of text.
        (b"*1\r\n$4\r\nPING\r\n", Spoken::Tcp),
        (b"SET a b\r\n", Spoken::Tcp),
        (b"EHLO client.example\r\n", Spoken::Tcp),
        (b"\x10\x1c\0\x04MQTT", Spoken::Tcp),
        (b"\0\0\0\x08\x04\xd2\x16\x2f", Spoken::Tcp),
        (b"SSH-2.0-OpenSSH_9\r\n", Spoken::Tcp),
        (b"get / HTTP/1.1\r\n", Spoken::Tcp),
        (b"GET / HTTP/2.0\r\n", Spoken::Tcp),
        (b"GET /\r\n", Spoken::Tcp),
        (b"GET  / HTTP/1.1\r\n", Spoken::Tcp),
        (b"\r\nGET / HTTP/1.1\r\n", Spoken::Tcp),
        (&[b'A'; 25], Spoken::Tcp),
    ];
    for (bytes, spoken) in cases {
        let first = (0..=bytes.len()).find_map(|cut| detect(&bytes[..cut]));
        assert_eq!(first, Some(*spoken), "{}", String::from_utf8_lossy(bytes));
        assert_eq!(detect(bytes), Some(*spoken));
    }
    let mut line = b"GET /".to_vec();
    line.resize(DETECT_BYTES_MAX - 1, b'a');
    assert_eq!(detect(&line), None);
    line.push(b'a');
    assert_eq!(detect(&line), Some(Spoken::Tcp));
}
