//! UDP on a real worker: sessions by peer, bounds kept, empty datagrams kept, ends from both sides.

use std::net::{SocketAddr, UdpSocket};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pipy_pipeline::{CloseReason, ConnectTo, Cx, Event, Filter, PipelineId, Slot};
use pipy_worker::{Accepted, App, Handle, Settings, Verdict, Worker, bind_datagrams};

/// What a session is to do.
#[derive(Clone, Copy)]
enum Role {
    /// Send back, before each the number of the datagram in its session; `bye` ends it; a quiet time ends it.
    Echo { idle: Duration },
    /// Carry to an upstream and back.
    Forward(SocketAddr),
}

struct Session {
    role: Role,
    count: u8,
    last: Instant,
    upstream: Option<PipelineId>,
    told: Sender<String>,
}

impl Filter for Session {
    fn name(&self) -> &'static str {
        "session"
    }

    fn start(&mut self, cx: &mut Cx<'_>) {
        match self.role {
            Role::Echo { idle } => drop(cx.timer(idle, 0)),
            Role::Forward(address) => {
                let pipeline = cx.open(Vec::new(), 0);
                let to =
                    ConnectTo { address, source: None, also: None, timeout: Duration::ZERO, tell: false };
                cx.connect_datagrams(pipeline, to);
                self.upstream = Some(pipeline);
            }
        }
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        let Event::Data(data) = event else { return };
        self.last = cx.now();
        if let Some(upstream) = self.upstream {
            return cx.send(upstream, Event::Data(data));
        }
        self.count += 1;
        let answer = if data.is_empty() { Bytes::new() } else { [&[self.count], &data[..]].concat().into() };
        cx.back(Event::Data(answer));
        if data == "bye" {
            cx.back(Event::Close(CloseReason::Finished));
        }
    }

    fn sub(&mut self, cx: &mut Cx<'_>, _slot: Slot, event: Event) {
        if let Event::Close(reason) = event {
            let _ = self.told.send(reason.label().into());
        }
        cx.back(event);
    }

    fn timer(&mut self, cx: &mut Cx<'_>, _token: u32) {
        if let Role::Echo { idle } = self.role {
            match (self.last + idle).checked_duration_since(cx.now()) {
                Some(left) if !left.is_zero() => drop(cx.timer(left, 0)),
                _ => cx.back(Event::Close(CloseReason::IdleTimeout)),
            }
        }
    }

    fn drain(&mut self, _cx: &mut Cx<'_>) {
        let _ = self.told.send("drain".into());
    }

    fn closed(&mut self, cx: &mut Cx<'_>) {
        if let Some(upstream) = self.upstream.take() {
            cx.close(upstream);
        }
        let _ = self.told.send("closed".into());
    }
}

struct Sessions {
    role: Role,
    socket: Option<UdpSocket>,
    told: Sender<String>,
}

impl App for Sessions {
    type Update = UdpSocket;

    fn accept(&mut self, _listener: u32, _connection: Accepted, _now: Instant) -> Verdict {
        Verdict::Reset
    }

    fn update(&mut self, socket: UdpSocket) -> Vec<(u32, Option<std::net::TcpListener>)> {
        self.socket = Some(socket);
        Vec::new()
    }

    fn datagram_listeners(&mut self) -> Vec<(u32, Option<UdpSocket>)> {
        self.socket.take().map(|socket| (7, Some(socket))).into_iter().collect()
    }

    fn accept_datagrams(&mut self, listener: u32, session: Accepted, now: Instant) -> Verdict {
        assert_eq!(listener, 7);
        let _ = self.told.send(format!("new {}", session.peer));
        let (role, told) = (self.role, self.told.clone());
        Verdict::Run(vec![Box::new(Session { role, count: 0, last: now, upstream: None, told })])
    }
}

struct Running {
    handle: Handle<UdpSocket>,
    thread: JoinHandle<()>,
    address: SocketAddr,
    told: Receiver<String>,
}

impl Running {
    fn start(role: Role, address: &str) -> Self {
        let (sender, told) = channel();
        let socket = bind_datagrams(address.parse().expect("an address"), 1).expect("bound").remove(0);
        let address = socket.local_addr().expect("an address");
        let app = move || Sessions { role, socket: None, told: sender };
        let (handle, thread) = Worker::spawn("test".into(), Settings::default(), app).expect("a worker");
        handle.update(socket);
        Running { handle, thread, address, told }
    }

    fn heard(&self) -> String {
        self.told.recv_timeout(Duration::from_secs(10)).expect("told in time")
    }

    fn end(self) {
        self.handle.stop();
        self.thread.join().expect("no panic");
    }
}

fn peer(to: SocketAddr) -> UdpSocket {
    let any = if to.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
    let socket = UdpSocket::bind(any).expect("bound");
    socket.connect(to).expect("connected");
    socket.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
    socket
}

fn ask(socket: &UdpSocket, datagram: &[u8]) -> Vec<u8> {
    socket.send(datagram).expect("sent");
    answer(socket)
}

fn answer(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; 65536];
    let size = socket.recv(&mut buffer).expect("an answer in time");
    buffer.truncate(size);
    buffer
}

const LONG: Duration = Duration::from_secs(3600);

#[test]
fn each_peer_has_a_session_of_its_own() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let running = Running::start(Role::Echo { idle: LONG }, address);
        let (a, b) = (peer(running.address), peer(running.address));
        assert_eq!(ask(&a, b"x"), b"\x01x");
        assert_eq!(ask(&a, b"y"), b"\x02y");
        assert_eq!(ask(&b, b"z"), b"\x01z");
        assert_eq!(running.heard(), format!("new {}", a.local_addr().expect("bound")));
        assert_eq!(running.heard(), format!("new {}", b.local_addr().expect("bound")));
        running.end();
    }
}

#[test]
fn bounds_are_kept_also_of_empty_and_of_the_largest_datagrams() {
    let running = Running::start(Role::Echo { idle: LONG }, "127.0.0.1:0");
    let socket = peer(running.address);
    let sent: Vec<Vec<u8>> = vec![b"one".to_vec(), vec![], b"two".to_vec(), vec![7; 65_000]];
    for datagram in &sent {
        socket.send(datagram).expect("sent");
    }
    assert_eq!(answer(&socket), b"\x01one");
    assert_eq!(answer(&socket), b"");
    assert_eq!(answer(&socket), b"\x03two");
    assert_eq!(answer(&socket).len(), 65_001);
    running.end();
}

#[test]
fn a_session_that_has_ended_begins_anew() {
    let running = Running::start(Role::Echo { idle: LONG }, "127.0.0.1:0");
    let socket = peer(running.address);
    assert_eq!(ask(&socket, b"x"), b"\x01x");
    assert_eq!(ask(&socket, b"bye"), b"\x02bye");
    assert!(running.heard().starts_with("new"));
    assert_eq!(running.heard(), "closed");
    assert_eq!(ask(&socket, b"x"), b"\x01x");
    running.end();
}

#[test]
fn a_quiet_session_ends() {
    let running = Running::start(Role::Echo { idle: Duration::from_millis(50) }, "127.0.0.1:0");
    let socket = peer(running.address);
    assert_eq!(ask(&socket, b"x"), b"\x01x");
    assert!(running.heard().starts_with("new"));
    assert_eq!(running.heard(), "closed");
    running.end();
}

#[test]
fn datagrams_are_carried_to_an_upstream_and_back() {
    let upstream = UdpSocket::bind("127.0.0.1:0").expect("bound");
    upstream.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
    let running = Running::start(Role::Forward(upstream.local_addr().expect("bound")), "127.0.0.1:0");
    let (a, b) = (peer(running.address), peer(running.address));
    let mut buffer = [0; 100];
    let mut sources = Vec::new();
    for (socket, word) in [(&a, &b"from a"[..]), (&b, b"from b"), (&a, b"")] {
        socket.send(word).expect("sent");
        let (size, from) = upstream.recv_from(&mut buffer).expect("in time");
        assert_eq!(&buffer[..size], word);
        sources.push(from);
    }
    assert_eq!(sources[0], sources[2], "one session, one socket");
    assert_ne!(sources[0], sources[1]);
    upstream.send_to(b"to b", sources[1]).expect("sent");
    upstream.send_to(b"to a", sources[0]).expect("sent");
    assert_eq!((answer(&a), answer(&b)), (b"to a".to_vec(), b"to b".to_vec()));
    running.end();
}

#[test]
fn an_upstream_where_nobody_listens_ends_the_session() {
    let free = UdpSocket::bind("127.0.0.1:0").expect("bound").local_addr().expect("bound");
    let running = Running::start(Role::Forward(free), "127.0.0.1:0");
    let socket = peer(running.address);
    socket.send(b"x").expect("sent");
    assert!(running.heard().starts_with("new"));
    assert_eq!(running.heard(), "connect_failed");
    assert_eq!(running.heard(), "closed");
    running.end();
}

#[test]
fn a_worker_that_drains_takes_no_new_sessions_and_ends_with_the_last() {
    let running = Running::start(Role::Echo { idle: LONG }, "127.0.0.1:0");
    let socket = peer(running.address);
    assert_eq!(ask(&socket, b"x"), b"\x01x");
    running.handle.drain();
    assert!(running.heard().starts_with("new"));
    assert_eq!(running.heard(), "drain");
    let late = peer(running.address);
    late.send(b"too late").expect("sent");
    assert_eq!(ask(&socket, b"bye"), b"\x02bye");
    running.thread.join().expect("ended");
    late.set_read_timeout(Some(Duration::from_millis(50))).expect("set");
    assert!(late.recv(&mut [0; 10]).is_err());
}
