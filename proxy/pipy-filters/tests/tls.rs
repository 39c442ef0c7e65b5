//! Both ends of TLS back to back, in memory: who is let in, who is not, and what passes before that is known.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use pipy_filters::{Handshake, Peer, TlsClient, TlsServer};
use pipy_pipeline::{CloseReason, ConnectTo, Cx, Event, Filter, PipelineId, Slot, SocketId};
use pipy_testkit::{Notes, Probe, World, describe};
use pipy_tls::Credentials;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use rustls::pki_types::ServerName;

const TIMEOUT: Duration = Duration::from_secs(10);
const A: &str = "spiffe://cluster.local/ns/a/sa/a";
const B: &str = "spiffe://cluster.local/ns/b/sa/b";

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn root(name: &str) -> Issuer {
    let mut params = CertificateParams::new(Vec::new()).expect("valid");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a root")
}

fn member(issuer: &Issuer, uri: &str, roots: &Issuer) -> Credentials {
    let mut params = CertificateParams::new(Vec::new()).expect("valid");
    params.subject_alt_names = vec![SanType::URI(uri.try_into().expect("ascii"))];
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, issuer).expect("a certificate");
    Credentials::from_pem(&certificate.pem(), &key.serialize_pem(), &roots.pem()).expect("credentials")
}

/// What is left of a client filter: sends what it is told into the pipeline that ends in TLS, notes what comes back.
struct Dialler {
    config: Arc<rustls::ClientConfig>,
    notes: Notes,
    pipeline: Option<PipelineId>,
}

impl Filter for Dialler {
    fn name(&self) -> &'static str {
        "dialler"
    }

    fn start(&mut self, cx: &mut Cx<'_>) {
        let address = SocketAddr::from(([127, 0, 0, 1], 443));
        let name = ServerName::IpAddress(address.ip().into());
        let tls = TlsClient::new(Arc::clone(&self.config), name, TIMEOUT).expect("a client");
        let pipeline = cx.open(vec![Box::new(tls)], 0);
        cx.connect(
            pipeline,
            ConnectTo { address, source: None, also: None, timeout: Duration::ZERO, tell: false },
        );
        self.pipeline = Some(pipeline);
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        if let Some(pipeline) = self.pipeline {
            cx.send(pipeline, event);
        }
    }

    fn sub(&mut self, _cx: &mut Cx<'_>, _slot: Slot, event: Event) {
        self.notes.add(describe(&event));
    }
}

struct Pair {
    world: World,
    /// Where a test speaks for the client, and the client's and the server's encrypted ends.
    client: SocketId,
    wire_a: SocketId,
    wire_b: SocketId,
    heard_a: Notes,
    heard_b: Notes,
    peer: Rc<Peer>,
    ended: Rc<RefCell<Vec<Handshake>>>,
}

impl Pair {
    fn new(client: &Credentials, server: &Credentials, expected: &str) -> Self {
        let mut world = World::default();
        let (heard_a, heard_b) = (Notes::default(), Notes::default());
        let (peer, ended) = (Rc::new(Peer::default()), Rc::new(RefCell::default()));
        let noted: Rc<RefCell<Vec<Handshake>>> = Rc::clone(&ended);
        let tls = TlsServer::new(
            server.server(),
            Rc::clone(&peer),
            TIMEOUT,
            Box::new(move |how| noted.borrow_mut().push(how)),
        );
        let echo = Probe::answering("", &heard_b, |cx, event| match event {
            Event::Data(data) if data.is_empty() => {}
            other => cx.back(other),
        });
        let (wire_b, _) = world.accept(vec![Box::new(tls.expect("a server")), echo]);
        let config = client.client(expected).expect("settings");
        let dialler = Dialler { config, notes: heard_a.clone(), pipeline: None };
        let (client, _) = world.accept(vec![Box::new(dialler)]);
        let wire_a = world.outgoing()[0];
        heard_b.take();
        Pair { world, client, wire_a, wire_b, heard_a, heard_b, peer, ended }
    }

    /// Carries records both ways until both are quiet, in pieces of this size; every byte from one side that `plain`
    /// looks for must not be among them.
    fn carry(&mut self, piece: usize) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let mut quiet = true;
            for (from, to) in [(self.wire_a, self.wire_b), (self.wire_b, self.wire_a)] {
                let bytes = self.world.take(from);
                quiet &= bytes.is_empty();
                for part in bytes.chunks(piece) {
                    self.world.say(to, part);
                }
                all.extend_from_slice(&bytes);
            }
            if quiet {
                return all;
            }
        }
    }

    fn back(&self) -> String {
        let notes = self.heard_a.take();
        notes.iter().filter_map(|note| note.strip_prefix("data ")).collect()
    }
}

struct Mesh {
    ours: Issuer,
    other: Issuer,
}

fn mesh() -> Mesh {
    Mesh { ours: root("ours"), other: root("other") }
}

#[test]
fn two_members_understand_each_other_however_the_records_are_cut() {
    let mesh = mesh();
    let (a, b) = (member(&mesh.ours, A, &mesh.ours), member(&mesh.ours, B, &mesh.ours));
    for piece in [1, 7, 1000, usize::MAX] {
        let mut pair = Pair::new(&a, &b, B);
        pair.world.say(pair.client, "before the handshake");
        let wire = pair.carry(piece);
        assert!(!String::from_utf8_lossy(&wire).contains("before"), "nothing in plain text");
        assert_eq!(pair.back(), "before the handshake");
        assert_eq!(*pair.ended.borrow(), [Handshake::Complete]);
        assert_eq!(pair.peer.identity(), Some(A));
        let long = "x".repeat(100_000);
        pair.world.say(pair.client, &long);
        pair.carry(piece);
        assert_eq!(pair.back(), long);
        // An end is said, not only done: each side hears it as one.
        pair.world.finish(pair.client);
        pair.carry(piece);
        assert_eq!(pair.heard_b.take().last().map(String::as_str), Some(" > close finished"));
        assert_eq!(pair.heard_a.take(), ["close finished"]);
    }
}

#[test]
fn who_has_finished_before_the_handshake_has_is_heard_to_the_end() {
    let mesh = mesh();
    let (a, b) = (member(&mesh.ours, A, &mesh.ours), member(&mesh.ours, B, &mesh.ours));
    for piece in [1, 1000, usize::MAX] {
        let mut pair = Pair::new(&a, &b, B);
        pair.world.say(pair.client, "all that I have");
        pair.world.finish(pair.client);
        pair.carry(piece);
        assert_eq!(*pair.ended.borrow(), [Handshake::Complete]);
        assert_eq!(pair.heard_b.take().last().map(String::as_str), Some(" > close finished"));
        assert_eq!(pair.heard_a.take(), ["data all that I have", "close finished"]);
    }
}

#[test]
fn pieces_of_one_turn_fill_records_whatever_their_sizes() {
    let mesh = mesh();
    let (a, b) = (member(&mesh.ours, A, &mesh.ours), member(&mesh.ours, B, &mesh.ours));
    let mut pair = Pair::new(&a, &b, B);
    pair.carry(usize::MAX);
    let pieces: Vec<String> = (0..200).map(|number| "x".repeat([9, 16_384, 1][number % 3])).collect();
    for piece in &pieces {
        pair.world.graph.from_socket(pair.client, Event::Data(piece.clone().into()));
    }
    pair.world.run();
    let wire = pair.world.take(pair.wire_a);
    let (mut records, mut rest) = (0, wire.as_slice());
    // RFC 8446 section 5.1: type, version, and the length of what follows.
    while let [_, _, _, high, low, after @ ..] = rest {
        rest = &after[usize::from(u16::from_be_bytes([*high, *low]))..];
        records += 1;
    }
    let all = pieces.concat();
    // One more for each time that the pieces of a turn are more than are given to the library at once.
    assert!(records <= all.len().div_ceil(16_384) + 3, "{records} records");
    pair.world.say(pair.wire_b, &wire);
    pair.carry(usize::MAX);
    assert_eq!(pair.back(), all);
}

#[test]
fn a_server_with_another_identity_hears_nothing() {
    let mesh = mesh();
    let (a, b) = (member(&mesh.ours, A, &mesh.ours), member(&mesh.ours, B, &mesh.ours));
    let mut pair = Pair::new(&a, &b, A);
    pair.world.say(pair.client, "secret");
    pair.carry(usize::MAX);
    assert_eq!(pair.heard_a.take(), ["close wrong_peer"]);
    assert_eq!(pair.peer.identity(), None);
    assert_eq!(*pair.ended.borrow(), [Handshake::Failed]);
    assert!(!pair.heard_b.take().iter().any(|note| note.contains("secret")));
}

#[test]
fn a_stranger_is_not_let_in_and_not_believed() {
    let mesh = mesh();
    let ours = member(&mesh.ours, B, &mesh.ours);
    // A client of another root that believes ours; and a server of another root.
    let mut pair = Pair::new(&member(&mesh.other, A, &mesh.ours), &ours, B);
    pair.world.say(pair.client, "secret");
    pair.carry(usize::MAX);
    assert_eq!(*pair.ended.borrow(), [Handshake::UnknownIssuer]);
    assert_eq!(pair.heard_a.take(), ["close tls_failed"]);
    assert!(!pair.heard_b.take().iter().any(|note| note.contains("secret")));
    let mut pair = Pair::new(&ours, &member(&mesh.other, A, &mesh.other), A);
    pair.carry(usize::MAX);
    assert_eq!(pair.heard_a.take(), ["close tls_failed"]);
}

#[test]
fn plain_text_is_reset_and_silence_is_given_up() {
    let mesh = mesh();
    let b = member(&mesh.ours, B, &mesh.ours);
    for first in ["GET / HTTP/1.1\r\n\r\n", "\0"] {
        let mut pair = Pair::new(&b, &b, B);
        pair.world.say(pair.wire_b, first);
        assert_eq!(*pair.ended.borrow(), [Handshake::NotTls]);
        assert_eq!(pair.world.socket(pair.wire_b).closed, Some(true));
    }
    let mut pair = Pair::new(&b, &b, B);
    pair.world.pass(TIMEOUT);
    assert_eq!(*pair.ended.borrow(), [Handshake::TimedOut]);
    assert_eq!(pair.world.socket(pair.wire_b).closed, Some(true));
    assert_eq!(pair.heard_a.take(), ["close connect_timeout"]);
}

#[test]
fn a_stream_cut_anywhere_is_a_failure_and_never_an_end() {
    let mesh = mesh();
    let (a, b) = (member(&mesh.ours, A, &mesh.ours), member(&mesh.ours, B, &mesh.ours));
    let mut pair = Pair::new(&a, &b, B);
    let first = pair.world.take(pair.wire_a);
    let length = first.len();
    for cut in (0..length).step_by(3) {
        let mut pair = Pair::new(&a, &b, B);
        let hello = pair.world.take(pair.wire_a);
        pair.world.say(pair.wire_b, &hello[..cut.min(hello.len())]);
        pair.world.finish(pair.wire_b);
        assert!(pair.heard_b.take().iter().all(|note| !note.contains("finished")), "cut at {cut}");
        assert_eq!(pair.ended.borrow().len(), 1);
    }
    // After the handshake: an end of the stream that TLS has not announced.
    let mut pair = Pair::new(&a, &b, B);
    pair.carry(usize::MAX);
    pair.world.finish(pair.wire_b);
    assert!(pair.heard_b.take().contains(&" > close reset".to_owned()));
    assert_eq!(pair.world.socket(pair.wire_b).closed, Some(true));
    let mut pair = Pair::new(&a, &b, B);
    pair.carry(usize::MAX);
    pair.world.finish(pair.wire_a);
    assert_eq!(pair.heard_a.take(), ["close reset"]);
}

#[test]
fn a_record_that_was_changed_ends_the_stream() {
    let mesh = mesh();
    let (a, b) = (member(&mesh.ours, A, &mesh.ours), member(&mesh.ours, B, &mesh.ours));
    // The header's first bytes are fixed and mean nothing (RFC 8446 section 5.1); the rest is protected.
    for position in 3..31 {
        let mut pair = Pair::new(&a, &b, B);
        pair.carry(usize::MAX);
        pair.heard_b.take();
        pair.world.say(pair.client, "important");
        let mut record = pair.world.take(pair.wire_a);
        let at = position % record.len();
        record[at] ^= 1;
        pair.world.say(pair.wire_b, &record);
        let notes = pair.heard_b.take();
        assert!(!notes.iter().any(|note| note.contains("important")), "byte {at}: {notes:?}");
    }
}

#[test]
fn what_waits_for_the_handshake_is_bounded() {
    let mesh = mesh();
    let a = member(&mesh.ours, A, &mesh.ours);
    let mut pair = Pair::new(&a, &a, A);
    pair.world.say(pair.client, "x".repeat(70_000));
    assert_eq!(pair.heard_a.take(), ["pause"]);
    pair.carry(usize::MAX);
    let notes = pair.heard_a.take();
    assert_eq!(notes.first().map(String::as_str), Some("resume"), "the handshake is complete");
    // The socket's own pauses go on to work.
    pair.world.event(pair.wire_a, Event::Pause);
    pair.world.event(pair.wire_a, Event::Resume);
    assert_eq!(pair.heard_a.take(), ["pause", "resume"]);
    pair.world.fail(pair.wire_a, CloseReason::Reset);
    assert_eq!(pair.heard_a.take(), ["close reset"]);
}
