//! The client's side of HTTP/2 as conversations: owners of leases on one side, a server of the codec on the other.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use pipy_filters::{CodecBytes, Http2Client, Http2Settings, Lease, STREAMS_FIRST, Scheme, Session};
use pipy_h2::{Config, Connection, ErrorCode, Event as Heard, StreamId};
use pipy_http::{BodyLength, Headers, Method, RequestHead, ResponseHead};
use pipy_pipeline::{CloseReason, ConnectTo, Cx, Event, Filter, Head, Slot, SocketId};
use pipy_testkit::{Dice, Notes, World, describe};

/// What a test tells an owner to do, through the left end of its pipeline.
enum Order {
    Begin(Slot, Method, &'static str, BodyLength),
    Send(Slot, Event),
    Abort(Slot),
    Release(Slot),
}

struct Owner {
    session: Rc<Session>,
    orders: Rc<RefCell<Vec<Order>>>,
    leases: BTreeMap<Slot, Lease>,
    notes: Notes,
    alive: Rc<Cell<bool>>,
}

struct Guard(Rc<Cell<bool>>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

const SETTINGS: Http2Settings = Http2Settings {
    scheme: Scheme::Http,
    idle: Duration::from_secs(60),
    keepalive: Duration::from_secs(15),
    age: Duration::ZERO,
    streams_max: 0,
    bytes: CodecBytes::STANDARD,
};

impl Filter for Owner {
    fn name(&self) -> &'static str {
        "owner"
    }

    fn start(&mut self, cx: &mut Cx<'_>) {
        let guard = Box::new(Guard(Rc::clone(&self.alive)));
        let client = Http2Client::new(Rc::clone(&self.session), SETTINGS, cx.now(), guard);
        let pipeline = cx.open_free(vec![Box::new(client)]);
        let address = SocketAddr::from(([127, 0, 0, 1], 80));
        cx.connect(
            pipeline,
            ConnectTo { address, source: None, also: None, timeout: Duration::ZERO, tell: false },
        );
    }

    fn input(&mut self, cx: &mut Cx<'_>, _event: Event) {
        for order in self.orders.take() {
            match order {
                Order::Begin(slot, method, path, length) => {
                    let lease = Lease::take(&self.session, cx, slot).expect("a lease");
                    let mut head = RequestHead::new(method, path);
                    head.headers.append("Host", "shop:80").expect("a valid header");
                    lease.send(cx, Event::Start(Head::Request(Box::new(head)), length));
                    if length == BodyLength::None {
                        lease.send(cx, Event::End(None));
                    }
                    self.leases.insert(slot, lease);
                }
                Order::Send(slot, event) => self.leases[&slot].send(cx, event),
                Order::Abort(slot) => self.leases.remove(&slot).expect("a lease").abort(cx),
                Order::Release(slot) => {
                    self.leases.remove(&slot).expect("a lease").release(cx, true);
                }
            }
        }
    }

    fn sub(&mut self, _cx: &mut Cx<'_>, slot: Slot, event: Event) {
        let mut text = describe(&event);
        if let (Event::Close(_), Some(lease)) = (&event, self.leases.get(&slot)) {
            if lease.take_request().is_some() {
                text.push_str(", given back");
            } else if lease.take_lost().is_some() {
                text.push_str(", lost");
            }
        }
        self.notes.add(format!("{slot} {text}"));
    }
}

struct Stage {
    world: World,
    owner: SocketId,
    socket: SocketId,
    session: Rc<Session>,
    orders: Rc<RefCell<Vec<Order>>>,
    notes: Notes,
    alive: Rc<Cell<bool>>,
    server: Connection,
    heard: Vec<Heard>,
}

fn stage(config: Config) -> Stage {
    let (mut world, notes) = (World::default(), Notes::default());
    let session = Rc::new(Session::multiplexed(STREAMS_FIRST));
    let (orders, alive) = (Rc::default(), Rc::new(Cell::new(true)));
    let owner = Owner {
        session: Rc::clone(&session),
        orders: Rc::clone(&orders),
        leases: BTreeMap::new(),
        notes: notes.clone(),
        alive: Rc::clone(&alive),
    };
    let (owner, _) = world.accept(vec![Box::new(owner)]);
    let socket = world.outgoing()[0];
    let server = Connection::server(config);
    Stage { world, owner, socket, session, orders, notes, alive, server, heard: Vec::new() }
}

impl Stage {
    fn order(&mut self, order: Order) {
        self.orders.borrow_mut().push(order);
        self.world.say(self.owner, "go");
    }

    fn get(&mut self, slot: Slot) {
        self.order(Order::Begin(slot, Method::Get, "/", BodyLength::None));
    }

    fn talk(&mut self) {
        for _ in 0..1000 {
            self.world.pass(Duration::ZERO);
            let asked = self.world.take(self.socket);
            let quiet = asked.is_empty();
            let _ = self.server.receive(asked.into());
            self.heard.extend(std::iter::from_fn(|| self.server.next_event()));
            let mut pieces = Vec::new();
            self.server.poll_output(&mut pieces, usize::MAX);
            for piece in &pieces {
                self.world.say(self.socket, piece);
            }
            if quiet && pieces.is_empty() {
                return;
            }
        }
        panic!("they never stop talking");
    }

    /// The streams of the requests that the server has heard of since the last time, in order.
    fn requests(&mut self) -> Vec<StreamId> {
        let requests = |heard: &Heard| match heard {
            Heard::Request { stream, .. } => Some(*stream),
            _ => None,
        };
        let streams = self.heard.iter().filter_map(requests).collect();
        self.heard.retain(|heard| requests(heard).is_none());
        streams
    }

    fn respond(&mut self, stream: StreamId, body: &'static str) {
        let length = BodyLength::Length(body.len() as u64);
        self.server.send_response(stream, &ResponseHead::new(200), length).expect("a response");
        let _ = self.server.send_data(stream, body.into());
        let _ = self.server.send_end(stream, None);
    }
}

#[test]
fn requests_share_a_connection_and_get_their_own_answers_in_any_order() {
    let mut stage = stage(Config::default());
    for slot in 0..3 {
        stage.get(slot);
    }
    stage.talk();
    let streams = stage.requests();
    assert_eq!((streams.len(), stage.session.active()), (3, 3));
    for (stream, body) in streams.iter().rev().zip(["two", "one", "nil"]) {
        stage.respond(*stream, body);
    }
    stage.talk();
    let mut notes = stage.notes.take();
    notes.sort();
    assert_eq!(
        notes,
        [
            "0 200 Length(3)",
            "0 data nil",
            "0 end",
            "1 200 Length(3)",
            "1 data one",
            "1 end",
            "2 200 Length(3)",
            "2 data two",
            "2 end"
        ]
    );
    for slot in 0..3 {
        stage.order(Order::Release(slot));
    }
    assert_eq!((stage.session.active(), stage.session.reusable()), (0, true));
    stage.world.pass(Duration::from_secs(61));
    assert!(!stage.alive.get(), "an unused connection is closed in the end");
}

#[test]
fn bodies_and_trailers_go_both_ways() {
    let mut stage = stage(Config::default());
    stage.order(Order::Begin(7, Method::Post, "/", BodyLength::Chunked));
    stage.order(Order::Send(7, Event::Data(Bytes::from_static(b"up"))));
    let mut trailers = Headers::new();
    trailers.append("x-last", "word").expect("a valid header");
    stage.order(Order::Send(7, Event::End(Some(Box::new(trailers.clone())))));
    stage.talk();
    let [stream] = stage.requests()[..] else { panic!("one request") };
    assert!(stage.heard.contains(&Heard::Data { stream, data: "up".into() }));
    assert!(stage.heard.contains(&Heard::End { stream, trailers: Some(Box::new(trailers.clone())) }));
    stage.server.send_response(stream, &ResponseHead::new(200), BodyLength::Chunked).expect("a response");
    stage.server.send_end(stream, Some(Box::new(trailers))).expect("the end");
    stage.talk();
    assert_eq!(stage.notes.take(), ["7 200 Chunked", "7 end with 1 trailers"]);
}

#[test]
fn what_the_server_has_not_looked_at_is_given_back_and_the_rest_is_not() {
    let mut stage = stage(Config::default());
    stage.get(1);
    stage.talk();
    let [one] = stage.requests()[..] else { panic!("one request") };
    stage.server.leave_now();
    stage.get(2);
    stage.talk();
    assert_eq!(stage.notes.take(), ["2 close reset, given back"]);
    assert!(!stage.session.reusable());
    stage.respond(one, "x");
    stage.talk();
    assert_eq!(stage.notes.take(), ["1 200 Length(1)", "1 data x", "1 end"]);
    stage.order(Order::Abort(2));
    stage.order(Order::Release(1));
    stage.talk();
    assert!(!stage.alive.get(), "it goes with its last request");
}

#[test]
fn a_refused_stream_is_given_back_and_a_reset_one_is_not() {
    for (code, text) in [
        (ErrorCode::REFUSED_STREAM, "1 close reset, given back"),
        (ErrorCode::INTERNAL_ERROR, "1 close reset"),
        (ErrorCode::ENHANCE_YOUR_CALM, "1 close reset"),
    ] {
        let mut stage = stage(Config::default());
        stage.get(1);
        stage.talk();
        let [stream] = stage.requests()[..] else { panic!("one request") };
        stage.server.reset(stream, code);
        stage.talk();
        assert_eq!(stage.notes.take(), [text], "{code}");
        assert!(stage.session.has_room());
    }
}

#[test]
fn the_servers_limit_of_streams_is_the_sessions_room() {
    let mut stage = stage(Config { max_concurrent_streams: 2, ..Config::default() });
    stage.get(1);
    stage.talk();
    assert!(stage.session.has_room());
    stage.get(2);
    assert!(!stage.session.has_room());
    // Who comes all the same is sent elsewhere.
    stage.get(3);
    stage.talk();
    assert_eq!(stage.notes.take(), ["3 close reset, given back"]);
}

#[test]
fn a_request_that_is_given_up_is_cancelled_and_the_others_go_on() {
    let mut stage = stage(Config::default());
    stage.get(1);
    stage.get(2);
    stage.talk();
    let streams = stage.requests();
    stage.order(Order::Abort(1));
    stage.talk();
    assert!(stage.heard.iter().any(
        |heard| matches!(heard, Heard::Reset { stream, code: ErrorCode::CANCEL, .. } if *stream == streams[0])
    ));
    stage.respond(streams[1], "x");
    stage.talk();
    assert_eq!(stage.notes.take(), ["2 200 Length(1)", "2 data x", "2 end"]);
}

#[test]
fn an_owner_that_pauses_holds_back_its_own_stream_only() {
    let mut stage = stage(Config::default());
    stage.get(1);
    stage.get(2);
    stage.talk();
    let streams = stage.requests();
    stage.order(Order::Send(1, Event::Pause));
    stage.server.send_response(streams[0], &ResponseHead::new(200), BodyLength::Chunked).expect("a response");
    let _ = stage.server.send_data(streams[0], vec![b'x'; 1 << 20].into());
    stage.talk();
    assert_eq!(stage.server.queued(streams[0]), (1 << 20) - 256 * 1024);
    stage.respond(streams[1], "x");
    stage.talk();
    assert!(stage.notes.take().contains(&"2 end".to_owned()));
    stage.order(Order::Send(1, Event::Resume));
    stage.talk();
    assert_eq!(stage.server.queued(streams[0]), 0);
}

#[test]
fn a_server_that_takes_nothing_pauses_the_owner_until_it_does() {
    let mut stage = stage(Config { stream_window: 0, ..Config::default() });
    stage.talk();
    stage.order(Order::Begin(1, Method::Post, "/", BodyLength::Chunked));
    stage.order(Order::Send(1, Event::Data(vec![b'x'; 200 * 1024].into())));
    stage.talk();
    assert_eq!(stage.notes.take(), ["1 pause"]);
}

#[test]
fn when_the_connection_ends_each_request_hears_why() {
    for (reason, text) in [
        (CloseReason::ConnectFailed, "1 close connect_failed, given back"),
        (CloseReason::WrongPeer, "1 close wrong_peer, given back"),
        (CloseReason::Reset, "1 close reset, lost"),
    ] {
        let mut stage = stage(Config::default());
        stage.get(1);
        stage.world.fail(stage.socket, reason);
        assert_eq!(stage.notes.take(), [text]);
        assert!(!stage.session.reusable() && !stage.alive.get());
    }
    let mut stage = stage(Config::default());
    stage.get(1);
    stage.talk();
    stage.world.finish(stage.socket);
    assert_eq!(stage.notes.take(), ["1 close reset, lost"]);
}

#[test]
fn a_server_that_breaks_the_rules_is_left() {
    let mut stage = stage(Config::default());
    stage.get(1);
    stage.talk();
    stage.world.say(stage.socket, [0, 0, 7, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(stage.notes.take(), ["1 close protocol_error"]);
    assert!(!stage.session.reusable() && !stage.alive.get());
}

#[test]
fn a_server_that_is_gone_without_a_word_is_noticed() {
    let mut stage = stage(Config::default());
    stage.get(1);
    stage.talk();
    stage.world.pass(Duration::from_secs(27));
    assert_eq!(stage.notes.take(), ["1 close reset, lost"]);
    assert!(!stage.alive.get());
    // One that answers its PINGs may take its time.
    let mut slow = self::stage(Config::default());
    slow.get(1);
    for _ in 0..120 {
        slow.talk();
        slow.world.pass(Duration::from_secs(1));
    }
    assert!(slow.notes.take().is_empty() && slow.alive.get());
}

#[test]
fn connect_opens_a_tunnel() {
    let mut stage = stage(Config::default());
    stage.order(Order::Begin(1, Method::Connect, "shop:80", BodyLength::None));
    stage.talk();
    let [stream] = stage.requests()[..] else { panic!("one request") };
    stage.server.send_response(stream, &ResponseHead::new(200), BodyLength::None).expect("a response");
    let _ = stage.server.send_data(stream, "down".into());
    stage.talk();
    stage.order(Order::Send(1, Event::Data(Bytes::from_static(b"up"))));
    stage.order(Order::Send(1, Event::Close(CloseReason::Finished)));
    stage.talk();
    assert!(stage.heard.contains(&Heard::Data { stream, data: "up".into() }));
    assert!(stage.heard.contains(&Heard::End { stream, trailers: None }));
    stage.server.send_end(stream, None).expect("the end");
    stage.talk();
    assert_eq!(stage.notes.take(), ["1 200 None", "1 data down", "1 close finished"]);
}

#[test]
fn whatever_happens_nothing_is_left() {
    for seed in 0..64 {
        let mut dice = Dice::new(seed);
        let mut stage = stage(Config::default());
        let (mut open, mut streams) = (Vec::new(), Vec::new());
        for slot in 0..60 {
            match dice.below(7) {
                0 | 1 => {
                    let length = dice.pick(&[BodyLength::None, BodyLength::Chunked]);
                    stage.order(Order::Begin(slot, Method::Post, "/", length));
                    open.push(slot);
                }
                2 if !open.is_empty() => {
                    let place = dice.below(open.len());
                    stage.order(Order::Abort(open.swap_remove(place)));
                }
                3 if !open.is_empty() => {
                    let data = vec![b'x'; dice.below(100_000)].into();
                    stage.order(Order::Send(dice.pick(&open), Event::Data(data)));
                }
                4 if !streams.is_empty() => {
                    let place = dice.below(streams.len());
                    let stream = streams.swap_remove(place);
                    let _ = stage.server.send_response(stream, &ResponseHead::new(200), BodyLength::Chunked);
                    let _ = stage.server.send_data(stream, vec![b'x'; dice.below(100_000)].into());
                    let _ = stage.server.send_end(stream, None);
                }
                5 if !streams.is_empty() => stage.server.reset(dice.pick(&streams), ErrorCode::CANCEL),
                _ => {
                    stage.talk();
                    streams.extend(stage.requests());
                }
            }
        }
        stage.talk();
        assert!(stage.server.error().is_none(), "seed {seed}: {:?}", stage.server.error());
        for slot in open {
            stage.order(Order::Abort(slot));
        }
        stage.talk();
        assert_eq!((stage.session.active(), stage.server.streams()), (0, 0), "seed {seed}");
        stage.world.pass(Duration::from_secs(125));
        assert!(!stage.alive.get(), "seed {seed}");
        stage.world.fail(stage.owner, CloseReason::Reset);
        assert_eq!((stage.world.graph.pipelines(), stage.world.graph.timers.len()), (0, 0), "seed {seed}");
    }
}
