//! What PySocks sends; both of our sides against each other, byte by byte; garbage.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use proptest::prelude::*;

use super::{Client, ClientStep, Host, Refusal, Request, Server, ServerStep};
use crate::testing::{capture, hex};

/// Feeds a server piece by piece; gives what it sent and what was asked.
fn serve(mut server: Server, bytes: &[u8], cut: usize) -> (Vec<u8>, Option<Request>) {
    let (mut sent, mut request) = (Vec::new(), None);
    for piece in bytes.chunks(cut) {
        let mut step = server.push(Bytes::copy_from_slice(piece)).unwrap();
        loop {
            match step {
                ServerStep::Wait => break,
                ServerStep::Send(bytes) => sent.extend(bytes),
                ServerStep::Check { user, password } => {
                    assert_eq!((user.as_str(), &password[..]), ("bob", &b"pw"[..]));
                    sent.extend(server.authenticated(true));
                }
                ServerStep::Request(asked) => request = Some(asked),
                ServerStep::Fail(bytes, error) => panic!("{error} {bytes:?}"),
            }
            step = server.go_on().unwrap();
        }
    }
    (sent, request)
}

#[test]
fn what_pysocks_asks_is_understood_however_it_is_cut() {
    let ip = || Host::Ip("192.0.2.7".parse().unwrap());
    let name = || Host::Domain("example.com".into());
    let cases = [
        ("socks4", 4, "bob", ip(), ""),
        ("socks4a", 4, "bob", name(), ""),
        ("socks5", 5, "", name(), "0500"),
        ("socks5-ipv4", 5, "", ip(), "0500"),
        ("socks5-password", 5, "bob", name(), "0502 0100"),
    ];
    for (capture_name, version, id, host, answer) in cases {
        for cut in [1, 3, 1000] {
            let server = if id == "bob" && version == 5 { Server::with_passwords() } else { Server::new() };
            let (sent, request) = serve(server, &capture(capture_name), cut);
            assert_eq!(request.unwrap(), Request { version, id: id.into(), host: host.clone(), port: 8080 });
            assert_eq!(sent, hex(answer), "{capture_name}");
        }
    }
}

#[test]
fn an_ipv6_address_is_served() {
    let bytes = hex("05 01 00 05 01 00 04 20010db8000000000000000000000001 01bb");
    let (_, request) = serve(Server::new(), &bytes, 1);
    assert_eq!(request.unwrap().host, Host::Ip("2001:db8::1".parse().unwrap()));
}

#[test]
fn answers_are_in_the_words_of_the_version() {
    let bound: SocketAddr = "10.0.0.1:99".parse().unwrap();
    let mut server = Server::new();
    server.push(capture("socks4").into()).unwrap();
    assert_eq!(server.accept(bound), hex("005a 0063 0a000001"));
    let mut server = Server::new();
    server.push(capture("socks5").into()).unwrap();
    server.go_on().unwrap();
    assert_eq!(server.refuse(Refusal::ConnectionRefused), hex("05 05 00 01 00000000 0000"));
}

#[test]
fn what_is_not_served_is_said_before_the_connection_closes() {
    let fail = |mut server: Server, bytes: &str| match server.push(hex(bytes).into()).unwrap() {
        ServerStep::Fail(answer, _) => answer,
        ServerStep::Send(_) => match server.go_on().unwrap() {
            ServerStep::Fail(answer, _) => answer,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    };
    assert_eq!(fail(Server::new(), "05 01 01"), hex("05 ff"));
    assert_eq!(fail(Server::with_passwords(), "05 01 00"), hex("05 ff"));
    assert_eq!(fail(Server::new(), "04 02 0050 01020304 00"), hex("005b 0000 00000000"));
    assert_eq!(fail(Server::new(), "05 01 00 05 03 00 01 01020304 0050")[1], 7);
    assert_eq!(fail(Server::new(), "05 01 00 05 01 00 09 00")[1], 8);
    assert!(Server::new().push("GET".into()).is_err());
    let endless = [hex("04 01 0050 01020304"), vec![b'a'; 300]].concat();
    assert!(Server::new().push(endless.into()).is_err());
}

proptest! {
    #[test]
    fn our_sides_understand_each_other(
        host in prop_oneof![any::<IpAddr>().prop_map(Host::Ip), "[a-z.]{1,255}".prop_map(Host::Domain)],
        port: u16, password: bool,
    ) {
        let (mut client, hello) = Client::new(&host, port, password.then_some(("bob", "pw"))).unwrap();
        let mut server = if password { Server::with_passwords() } else { Server::new() };
        let mut to_server: Vec<u8> = hello.to_vec();
        let mut asked = None;
        for _ in 0..8 {
            let mut to_client = Vec::new();
            for byte in std::mem::take(&mut to_server) {
                match server.push(vec![byte].into()).unwrap() {
                    ServerStep::Send(bytes) => to_client.extend(bytes),
                    ServerStep::Check { .. } => to_client.extend(server.authenticated(true)),
                    ServerStep::Request(request) => {
                        asked = Some(request);
                        to_client.extend(server.accept("[::1]:7".parse().unwrap()));
                        to_client.extend(b"first");
                    }
                    _ => {}
                }
            }
            for byte in to_client {
                if let ClientStep::Send(bytes) = client.push(vec![byte].into()).unwrap() {
                    to_server.extend(bytes);
                }
            }
        }
        let asked = asked.unwrap();
        prop_assert_eq!((asked.host, asked.port), (host, port));
        prop_assert_eq!(client.rest(), Bytes::from("first"));
    }

    #[test]
    fn garbage_is_refused_and_nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..60), start in 0..3_usize) {
        let starts: [&[u8]; 3] = [&[4, 1], &[5, 1, 0, 5, 1, 0], &[]];
        let bytes = [starts[start], &bytes[..]].concat();
        let mut server = Server::new();
        if server.push(bytes.clone().into()).is_ok() {
            let _ = server.go_on();
        }
        let (mut client, _) = Client::new(&Host::Domain("a".into()), 1, None).unwrap();
        let _ = client.push(bytes.clone().into());
        let _ = client.push(bytes.into());
    }
}

#[test]
fn a_refusal_says_why() {
    let (mut client, _) = Client::new(&Host::Domain("a".into()), 1, None).unwrap();
    client.push(hex("0500").into()).unwrap();
    let error = client.push(hex("0505").into()).unwrap_err();
    assert!(error.to_string().contains("connection refused"), "{error}");
}
