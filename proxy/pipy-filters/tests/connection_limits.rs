//! How old a connection may become, how many requests it may carry, and how many at once: to clients and to servers, in both
//! versions of HTTP. Whatever is under way when it ends is answered.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use pipy_filters::{
    CodecBytes, Http2Client, Http2Settings, HttpClient, HttpServer, HttpServerLimits, HttpService, Lease,
    Scheme, Session,
};
use pipy_h2::{Config, Connection, Event as Heard};
use pipy_http::{BodyLength, HttpError, Method, RequestHead, ResponseHead};
use pipy_pipeline::{ConnectTo, Cx, Event, Filter, Head, Slot, SocketId};
use pipy_testkit::{Notes, Probe, World, describe};

const AGE: Duration = Duration::from_secs(30);
const GET: &str = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const OK_LAST: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";

/// Answers 200 once the body of a request has come whole.
struct Service(Notes);

impl HttpService for Service {
    fn request(&self) -> Vec<Box<dyn Filter>> {
        vec![Probe::answering("", &self.0, |cx, event| {
            if let Event::End(_) = event {
                let head = Head::Response(Box::new(ResponseHead::new(200)));
                cx.back(Event::Start(head, BodyLength::Length(2)));
                cx.back(Event::Data(Bytes::from_static(b"ok")));
                cx.back(Event::End(None));
            }
        })]
    }

    fn malformed(&self, error: &HttpError) {
        panic!("{error}");
    }
}

fn server(limits: HttpServerLimits) -> (World, SocketId) {
    let mut world = World::default();
    let service = Rc::new(Service(Notes::default()));
    let server = HttpServer::new(service, limits, world.graph.now);
    let (client, _) = world.accept(vec![Box::new(server)]);
    (world, client)
}

fn is_closed(world: &World, socket: SocketId) -> bool {
    let state = world.socket(socket);
    state.finished || state.closed.is_some()
}

#[test]
fn the_last_request_of_a_connection_is_told_so() {
    let (mut world, client) = server(HttpServerLimits { requests: 3, ..HttpServerLimits::default() });
    for _ in 0..2 {
        world.say(client, GET);
        assert_eq!((world.heard(client).as_str(), is_closed(&world, client)), (OK, false));
    }
    // What is sent behind the last one is not read.
    world.say(client, GET.repeat(2));
    assert_eq!((world.heard(client).as_str(), is_closed(&world, client)), (OK_LAST, true));
}

#[test]
fn an_old_connection_answers_what_comes_at_that_moment_and_ends() {
    let limits = HttpServerLimits { age: AGE, ..HttpServerLimits::default() };
    let (mut world, client) = server(limits);
    world.say(client, GET);
    assert_eq!(world.heard(client), OK);
    world.pass(AGE);
    assert!(!is_closed(&world, client), "a request may be on its way");
    world.say(client, GET);
    assert_eq!((world.heard(client).as_str(), is_closed(&world, client)), (OK_LAST, true));

    let (mut world, client) = server(limits);
    world.pass(AGE - Duration::from_secs(1));
    world.say(client, "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nha");
    world.pass(Duration::from_secs(5));
    assert!(!is_closed(&world, client), "a request is under way");
    world.say(client, "lf");
    assert_eq!((world.heard(client).as_str(), is_closed(&world, client)), (OK_LAST, true));

    let (mut world, client) = server(limits);
    world.pass(AGE + Duration::from_secs(1));
    assert_eq!(
        (world.heard(client).as_str(), is_closed(&world, client)),
        ("", true),
        "an idle one just ends"
    );
}

/// A client of HTTP/2 talks with the server until both are quiet.
fn talk(world: &mut World, socket: SocketId, client: &mut Connection) -> Vec<Heard> {
    let mut heard = Vec::new();
    loop {
        let mut pieces = Vec::new();
        client.poll_output(&mut pieces, usize::MAX);
        for piece in &pieces {
            world.say(socket, piece);
        }
        world.pass(Duration::ZERO);
        let reply = world.take(socket);
        if pieces.is_empty() && reply.is_empty() {
            return heard;
        }
        let _ = client.receive(reply.into());
        heard.extend(std::iter::from_fn(|| client.next_event()));
    }
}

fn ask(client: &mut Connection, method: Method) -> Option<pipy_h2::StreamId> {
    let mut head = RequestHead::new(method, "/");
    head.headers.append("Host", "shop").expect("a valid header");
    let body = if head.method == Method::Get { BodyLength::None } else { BodyLength::Chunked };
    client.send_request(&head, Scheme::Http, body).ok()
}

#[test]
fn a_connection_of_http2_leaves_after_its_requests_and_answers_all_of_them() {
    let (mut world, socket) =
        server(HttpServerLimits { requests: 2, streams: 7, ..HttpServerLimits::default() });
    let mut client = Connection::client(Config::default());
    let one = ask(&mut client, Method::Post).expect("a stream");
    talk(&mut world, socket, &mut client);
    assert_eq!(client.peer_settings().max_concurrent_streams, Some(7));
    assert!(ask(&mut client, Method::Get).is_some());
    let heard = talk(&mut world, socket, &mut client);
    assert!(heard.iter().any(|heard| matches!(heard, Heard::GoAway { .. })));
    assert!(heard.iter().any(|heard| matches!(heard, Heard::Response { .. })));
    assert!(ask(&mut client, Method::Get).is_none());
    assert!(!is_closed(&world, socket), "one is still under way");
    client.send_end(one, None).expect("an end");
    let heard = talk(&mut world, socket, &mut client);
    assert!(heard.iter().any(|heard| matches!(heard, Heard::Response { stream, .. } if *stream == one)));
    assert!(is_closed(&world, socket));
}

/// Opens a session, and takes it for a request when it is told `get`, which ends with the response.
struct Owner {
    session: Rc<Session>,
    client: RefCell<Option<Box<dyn Filter>>>,
    lease: Option<Lease>,
    notes: Notes,
    tries: Slot,
}

impl Filter for Owner {
    fn name(&self) -> &'static str {
        "owner"
    }

    fn start(&mut self, cx: &mut Cx<'_>) {
        let pipeline = cx.open_free(self.client.take().into_iter().collect());
        let address = SocketAddr::from(([127, 0, 0, 1], 80));
        let (source, also, timeout, tell) = (None, None, Duration::ZERO, false);
        cx.connect(pipeline, ConnectTo { address, source, also, timeout, tell });
    }

    fn input(&mut self, cx: &mut Cx<'_>, _event: Event) {
        self.tries += 1;
        let lease = Lease::take(&self.session, cx, self.tries).expect("a lease");
        let mut head = RequestHead::new(Method::Get, "/");
        head.headers.append("Host", "shop").expect("a valid header");
        lease.send(cx, Event::Start(Head::Request(Box::new(head)), BodyLength::None));
        lease.send(cx, Event::End(None));
        self.lease = Some(lease);
    }

    fn sub(&mut self, cx: &mut Cx<'_>, _slot: Slot, event: Event) {
        self.notes.add(describe(&event));
        if matches!(event, Event::End(_))
            && let Some(lease) = self.lease.take()
        {
            lease.release(cx, true);
        }
    }
}

struct Away {
    world: World,
    owner: SocketId,
    server: SocketId,
    session: Rc<Session>,
    notes: Notes,
}

fn client(session: Session, make: impl FnOnce(&Rc<Session>, &World) -> Box<dyn Filter>) -> Away {
    let (mut world, notes, session) = (World::default(), Notes::default(), Rc::new(session));
    let client = RefCell::new(Some(make(&session, &world)));
    let owner = Owner { session: Rc::clone(&session), client, lease: None, notes: notes.clone(), tries: 0 };
    let (owner, _) = world.accept(vec![Box::new(owner)]);
    let server = world.outgoing()[0];
    Away { world, owner, server, session, notes }
}

fn http1() -> Away {
    client(Session::exclusive(), |session, _| {
        Box::new(HttpClient::new(Rc::clone(session), Duration::from_secs(600), Box::new(())).aging(AGE))
    })
}

#[test]
fn an_old_connection_to_a_server_is_closed_between_two_requests() {
    let mut idle = http1();
    idle.world.say(idle.owner, "get");
    idle.world.say(idle.server, OK);
    assert!(idle.session.has_room());
    idle.world.pass(AGE);
    assert!(!idle.session.has_room() && is_closed(&idle.world, idle.server));

    let mut busy = http1();
    busy.world.say(busy.owner, "get");
    busy.world.pass(AGE);
    assert!(!busy.session.reusable() && !is_closed(&busy.world, busy.server));
    busy.world.say(busy.server, OK);
    assert_eq!(busy.notes.take(), ["200 Length(2)", "data ok", "end"]);
    assert!(is_closed(&busy.world, busy.server));
}

#[test]
fn an_old_connection_of_http2_to_a_server_ends_with_its_last_request() {
    let settings = Http2Settings {
        scheme: Scheme::Http,
        idle: Duration::from_secs(600),
        keepalive: Duration::ZERO,
        age: AGE,
        streams_max: 3,
        bytes: CodecBytes::STANDARD,
    };
    let mut away = client(Session::multiplexed(settings.streams_first()), |session, world| {
        Box::new(Http2Client::new(Rc::clone(session), settings, world.graph.now, Box::new(())))
    });
    let mut server = Connection::server(Config::default());
    away.world.say(away.owner, "get");
    for _ in 0..3 {
        away.world.pass(Duration::ZERO);
        let _ = server.receive(away.world.take(away.server).into());
        let mut pieces = Vec::new();
        server.poll_output(&mut pieces, usize::MAX);
        pieces.iter().for_each(|piece| away.world.say(away.server, piece));
    }
    let asked = std::iter::from_fn(|| server.next_event()).find_map(|heard| match heard {
        Heard::Request { stream, .. } => Some(stream),
        _ => None,
    });
    away.world.pass(AGE);
    assert!(!away.session.reusable() && !is_closed(&away.world, away.server));
    let stream = asked.expect("a request");
    server.send_response(stream, &ResponseHead::new(204), BodyLength::None).expect("a response");
    server.send_end(stream, None).expect("an end");
    let mut pieces = Vec::new();
    server.poll_output(&mut pieces, usize::MAX);
    pieces.iter().for_each(|piece| away.world.say(away.server, piece));
    away.world.pass(Duration::ZERO);
    assert_eq!(away.notes.take(), ["204 None", "end"]);
    assert!(is_closed(&away.world, away.server));
}

#[test]
fn a_connection_of_http2_to_a_server_carries_no_more_at_once_than_it_may() {
    let settings = Http2Settings {
        scheme: Scheme::Http,
        idle: Duration::from_secs(600),
        keepalive: Duration::ZERO,
        age: Duration::ZERO,
        streams_max: 2,
        bytes: CodecBytes::STANDARD,
    };
    let mut away = client(Session::multiplexed(settings.streams_first()), |session, world| {
        Box::new(Http2Client::new(Rc::clone(session), settings, world.graph.now, Box::new(())))
    });
    let mut server = Connection::server(Config::default());
    for left in [true, false] {
        away.world.say(away.owner, "get");
        away.world.pass(Duration::ZERO);
        let _ = server.receive(away.world.take(away.server).into());
        let mut pieces = Vec::new();
        server.poll_output(&mut pieces, usize::MAX);
        pieces.iter().for_each(|piece| away.world.say(away.server, piece));
        // The server takes a hundred.
        assert_eq!(away.session.has_room(), left);
    }
}
