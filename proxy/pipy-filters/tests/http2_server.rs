//! The server's side of HTTP/2 as conversations: a client of the codec on one side, scripted sub-pipelines on the other.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use pipy_filters::{CodecBytes, HttpServer, HttpServerLimits, HttpService, HttpVersion};
use pipy_h2::{Config, Connection, ErrorCode, Event as Heard, Pressure, ResetCause, Scheme, StreamId};
use pipy_http::{BodyLength, Headers, HttpError, Method, RequestHead, ResponseHead};
use pipy_pipeline::{CloseReason, Cx, Event, Filter, Head, SocketId};
use pipy_testkit::{Dice, Notes, Probe, World};

type Answer = Rc<dyn Fn(&mut Cx<'_>, &Event)>;

struct Service {
    notes: Notes,
    answer: Answer,
    version: Cell<Option<HttpVersion>>,
    agreed: Option<HttpVersion>,
    broken: RefCell<Vec<&'static str>>,
    opened: Cell<u32>,
}

impl HttpService for Service {
    fn request(&self) -> Vec<Box<dyn Filter>> {
        let answer = Rc::clone(&self.answer);
        self.opened.set(self.opened.get() + 1);
        let name = format!("{}", self.opened.get());
        vec![Probe::answering(&name, &self.notes, move |cx, event| answer(cx, &event))]
    }

    fn malformed(&self, _error: &HttpError) {}

    fn speaks(&self, version: HttpVersion) {
        assert_eq!(self.version.replace(Some(version)), None, "told twice");
    }

    fn broken(&self, label: &'static str, _why: &dyn std::fmt::Display) {
        self.broken.borrow_mut().push(label);
    }

    fn agreed(&self) -> Option<HttpVersion> {
        self.agreed
    }
}

const LIMITS: HttpServerLimits = HttpServerLimits {
    head: Duration::from_secs(10),
    idle: Duration::from_secs(60),
    age: Duration::from_secs(3600),
    requests: 0,
    streams: 0,
    bytes: CodecBytes::STANDARD,
};

struct Stage {
    world: World,
    socket: SocketId,
    notes: Notes,
    service: Rc<Service>,
    client: Connection,
    heard: Vec<Heard>,
}

fn stage(answer: impl Fn(&mut Cx<'_>, &Event) + 'static) -> Stage {
    stage_with(Config::default(), None, answer)
}

fn stage_with(
    config: Config,
    agreed: Option<HttpVersion>,
    answer: impl Fn(&mut Cx<'_>, &Event) + 'static,
) -> Stage {
    let (mut world, notes) = (World::default(), Notes::default());
    let service = Rc::new(Service {
        notes: notes.clone(),
        answer: Rc::new(answer),
        version: Cell::new(None),
        agreed,
        broken: RefCell::default(),
        opened: Cell::new(0),
    });
    let server = HttpServer::new(Rc::clone(&service) as Rc<dyn HttpService>, LIMITS, world.graph.now);
    let (socket, _) = world.accept(vec![Box::new(server)]);
    Stage { world, socket, notes, service, client: Connection::client(config), heard: Vec::new() }
}

impl Stage {
    /// Both sides say what they have to say, until they are quiet.
    fn talk(&mut self) {
        for _ in 0..1000 {
            let mut pieces = Vec::new();
            self.client.poll_output(&mut pieces, usize::MAX);
            for piece in &pieces {
                self.world.say(self.socket, piece);
            }
            self.world.pass(Duration::ZERO);
            let reply = self.world.take(self.socket);
            if pieces.is_empty() && reply.is_empty() {
                return;
            }
            let _ = self.client.receive(reply.into());
            self.heard.extend(std::iter::from_fn(|| self.client.next_event()));
        }
        panic!("they never stop talking");
    }

    fn get(&mut self, path: &str) -> StreamId {
        self.ask(Method::Get, path, BodyLength::None)
    }

    fn ask(&mut self, method: Method, path: &str, body: BodyLength) -> StreamId {
        let mut head = RequestHead::new(method, path);
        head.headers.append("Host", "shop").expect("a valid header");
        self.client.send_request(&head, Scheme::Http, body).expect("a request")
    }

    /// What was heard since the last time, of one stream.
    fn of(&mut self, stream: StreamId) -> Vec<String> {
        let (own, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.heard).into_iter().partition(|heard| heard.stream() == Some(stream));
        self.heard = rest;
        own.into_iter()
            .filter(|heard| !matches!(heard, Heard::Writable { .. }))
            .map(|heard| match heard {
                Heard::Interim { head, .. } => format!("interim {}", head.status),
                Heard::Response { head, body, .. } => format!("{} {body:?}", head.status),
                Heard::Data { data, .. } => {
                    self.client.release(stream, data.len());
                    format!("data {}", String::from_utf8_lossy(&data))
                }
                Heard::End { trailers: None, .. } => "end".into(),
                Heard::End { trailers: Some(trailers), .. } => {
                    format!("end {:?}", trailers.get_str("x-last").unwrap_or("?"))
                }
                Heard::Reset { code, .. } => format!("reset {code}"),
                other => format!("{other:?}"),
            })
            .collect()
    }
}

fn respond(cx: &mut Cx<'_>, status: u16, length: BodyLength) {
    cx.back(Event::Start(Head::Response(Box::new(ResponseHead::new(status))), length));
}

/// Answers each request with 200 when it has come whole.
fn when_whole(cx: &mut Cx<'_>, event: &Event) {
    if matches!(event, Event::End(_)) {
        respond(cx, 200, BodyLength::Length(2));
        cx.back(Event::Data(Bytes::from_static(b"ok")));
        cx.back(Event::End(None));
    }
}

fn nothing(_cx: &mut Cx<'_>, _event: &Event) {}

#[test]
fn the_preface_is_known_however_it_is_cut() {
    for cut in 1..24 {
        let mut stage = stage(when_whole);
        let stream = stage.get("/a");
        let mut pieces = Vec::new();
        stage.client.poll_output(&mut pieces, usize::MAX);
        let whole = pieces.concat();
        stage.world.say(stage.socket, &whole[..cut]);
        assert_eq!(stage.service.version.get(), None);
        assert_eq!(stage.world.take(stage.socket), b"");
        stage.world.say(stage.socket, &whole[cut..]);
        assert_eq!(stage.service.version.get(), Some(HttpVersion::Http2));
        stage.talk();
        assert_eq!(stage.of(stream), ["200 Length(2)", "data ok", "end"], "cut at {cut}");
    }
}

#[test]
fn what_only_begins_like_the_preface_is_http_1() {
    for text in ["P", "PR", "PRI * HTTP/2.0\r\n\r\n", "POST / HTTP/1.1\r\n", "GET / HTTP/1.1\r\n"] {
        let mut stage = stage(when_whole);
        for byte in text.as_bytes() {
            stage.world.say(stage.socket, [*byte]);
        }
        stage.world.say(stage.socket, "Host: a\r\n\r\n");
        assert_eq!(stage.service.version.get(), Some(HttpVersion::Http1), "{text:?}");
        let reply = stage.world.heard(stage.socket);
        let status = if text.contains("/ HTTP") { "HTTP/1.1 200" } else { "HTTP/1.1 " };
        assert!(reply.starts_with(status), "{text:?}: {reply}");
    }
}

#[test]
fn a_client_that_stops_within_the_preface_is_given_up() {
    let mut stage = stage(when_whole);
    stage.world.say(stage.socket, "PRI * HT");
    stage.world.pass(Duration::from_secs(21));
    assert!(stage.world.heard(stage.socket).starts_with("HTTP/1.1 408"));
    assert!(stage.world.socket(stage.socket).finished);
}

#[test]
fn who_agreed_on_h2_and_speaks_http_1_gets_a_goaway() {
    let mut stage = stage_with(Config::default(), Some(HttpVersion::Http2), when_whole);
    stage.world.say(stage.socket, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let reply = stage.world.take(stage.socket);
    assert_eq!(reply[3], 4, "SETTINGS first: {reply:?}");
    assert!(String::from_utf8_lossy(&reply).contains("does not begin with the http/2 preface"));
    assert!(stage.world.socket(stage.socket).finished);
    assert_eq!(*stage.service.broken.borrow(), ["preface"]);
}

#[test]
fn requests_run_side_by_side_with_bodies_and_trailers_both_ways() {
    let mut stage = stage(|cx, event| match event {
        Event::Start(..) => respond(cx, 200, BodyLength::Chunked),
        Event::Data(data) => cx.back(Event::Data(data.clone())),
        Event::End(trailers) => cx.back(Event::End(trailers.clone())),
        _ => {}
    });
    let (one, two) = (
        stage.ask(Method::Post, "/1", BodyLength::Chunked),
        stage.ask(Method::Post, "/2", BodyLength::Length(3)),
    );
    assert_eq!(stage.client.send_data(one, "un".into()), Ok(Pressure::GoOn));
    assert_eq!(stage.client.send_data(two, "two".into()), Ok(Pressure::GoOn));
    stage.talk();
    let mut trailers = Headers::new();
    trailers.append("x-last", "word").expect("a valid header");
    stage.client.send_end(one, Some(Box::new(trailers))).expect("the end");
    stage.client.send_end(two, None).expect("the end");
    stage.talk();
    assert_eq!(stage.of(one), ["200 Chunked", "data un", "end \"word\""]);
    assert_eq!(stage.of(two), ["200 Chunked", "data two", "end"]);
    assert_eq!(stage.world.graph.pipelines(), 1, "the sub-pipelines are gone");
}

#[test]
fn interim_responses_pass() {
    let mut stage = stage(|cx, event| {
        if matches!(event, Event::Start(..)) {
            respond(cx, 103, BodyLength::None);
            respond(cx, 204, BodyLength::None);
            cx.back(Event::End(None));
        }
    });
    let stream = stage.get("/");
    stage.talk();
    assert_eq!(stage.of(stream), ["interim 103", "204 None", "end"]);
}

#[test]
fn a_sub_pipeline_that_pauses_holds_back_its_stream_and_no_other() {
    let stop = Rc::new(Cell::new(true));
    let stopped = Rc::clone(&stop);
    let mut stage = stage(move |cx, event| match event {
        Event::Start(Head::Request(head), _) if head.path() == b"/slow" && stopped.get() => {
            cx.back(Event::Pause);
        }
        Event::Resume => cx.back(Event::Resume),
        _ => when_whole(cx, event),
    });
    let slow = stage.ask(Method::Post, "/slow", BodyLength::Chunked);
    let body = Bytes::from(vec![b'x'; 1024 * 1024]);
    let _ = stage.client.send_data(slow, body);
    stage.talk();
    // The window of the stream is all that came.
    assert_eq!(stage.client.queued(slow), 1024 * 1024 - 256 * 1024);
    let quick = stage.ask(Method::Post, "/quick", BodyLength::Chunked);
    let _ = stage.client.send_data(quick, Bytes::from(vec![b'x'; 300 * 1024]));
    stage.client.send_end(quick, None).expect("the end");
    stage.talk();
    assert_eq!(stage.of(quick), ["200 Length(2)", "data ok", "end"]);
    // A client that gives up frees what it held of the connection's window.
    stage.client.reset(slow, ErrorCode::CANCEL);
    stage.talk();
    for _ in 0..5 {
        let stream = stage.ask(Method::Post, "/more", BodyLength::Chunked);
        let _ = stage.client.send_data(stream, Bytes::from(vec![b'x'; 250 * 1024]));
        stage.client.send_end(stream, None).expect("the end");
        stage.talk();
        assert_eq!(stage.of(stream), ["200 Length(2)", "data ok", "end"]);
    }
    stop.set(false);
}

#[test]
fn a_client_that_does_not_read_pauses_the_sub_pipeline_until_it_does() {
    let config = Config { stream_window: 1000, ..Config::default() };
    let mut stage = stage_with(config, None, |cx, event| match event {
        Event::Start(..) => {
            respond(cx, 200, BodyLength::Chunked);
            cx.back(Event::Data(vec![b'x'; 80 * 1024].into()));
        }
        Event::Resume => {
            cx.back(Event::Data(Bytes::from_static(b"!")));
            cx.back(Event::End(None));
        }
        _ => {}
    });
    let stream = stage.get("/");
    stage.talk();
    assert!(stage.notes.take().contains(&"1 > pause".to_owned()));
    let mut bytes = 0;
    for _ in 0..1000 {
        bytes += stage
            .of(stream)
            .iter()
            .filter(|text| text.starts_with("data"))
            .map(|t| t.len() - 5)
            .sum::<usize>();
        stage.talk();
        if stage.client.streams() == 0 {
            break;
        }
    }
    bytes +=
        stage.of(stream).iter().filter(|text| text.starts_with("data")).map(|t| t.len() - 5).sum::<usize>();
    assert_eq!(bytes, 80 * 1024 + 1);
    assert!(stage.notes.take().contains(&"1 > resume".to_owned()));
}

#[test]
fn a_request_that_is_taken_back_ends_its_sub_pipeline() {
    let mut stage = stage(nothing);
    let stream = stage.get("/");
    stage.talk();
    assert_eq!(stage.world.graph.pipelines(), 2);
    stage.client.reset(stream, ErrorCode::CANCEL);
    stage.talk();
    assert_eq!(stage.world.graph.pipelines(), 1);
    assert!(stage.notes.take().contains(&"1 closed".to_owned()));
}

#[test]
fn a_tunnel_that_both_sides_have_ended_leaves_nothing_whoever_was_first() {
    for server_first in [true, false] {
        let mut stage = stage(move |cx, event| match event {
            Event::Start(..) => {
                cx.back(Event::Start(Head::Response(Box::new(ResponseHead::new(200))), BodyLength::None));
                if server_first {
                    cx.back(Event::Close(CloseReason::Finished));
                }
            }
            Event::Close(_) if !server_first => cx.back(Event::Close(CloseReason::Finished)),
            _ => {}
        });
        let mut head = RequestHead::new(Method::Connect, "shop:80");
        head.headers.append("host", "shop:80").expect("a valid header");
        let stream = stage.client.send_request(&head, Scheme::Http, BodyLength::None).expect("a stream");
        stage.talk();
        assert_eq!(stage.world.graph.pipelines(), 2);
        stage.client.send_end(stream, None).expect("an end");
        stage.talk();
        assert_eq!(stage.world.graph.pipelines(), 1, "server first: {server_first}");
        assert!(stage.notes.take().contains(&"1 > close finished".to_owned()));
        assert_eq!(stage.client.streams(), 0);
    }
}

#[test]
fn a_sub_pipeline_that_ends_early_is_answered_for_or_its_stream_reset() {
    for (reason, status) in [
        (CloseReason::ConnectFailed, 502),
        (CloseReason::ConnectTimeout, 504),
        (CloseReason::Overloaded, 503),
    ] {
        let mut stage = stage(move |cx, event| {
            if matches!(event, Event::Start(..)) {
                cx.back(Event::Close(reason));
            }
        });
        let stream = stage.get("/");
        stage.talk();
        assert!(stage.of(stream)[0].starts_with(&status.to_string()));
    }
    let mut stage = stage(|cx, event| {
        if matches!(event, Event::Start(..)) {
            respond(cx, 200, BodyLength::Chunked);
            cx.back(Event::Data(Bytes::from_static(b"half")));
            cx.back(Event::Close(CloseReason::Reset));
        }
    });
    let stream = stage.get("/");
    stage.talk();
    assert_eq!(stage.of(stream).last().map(String::as_str), Some("reset INTERNAL_ERROR"));
    let again = stage.get("/");
    stage.talk();
    assert!(!stage.of(again).is_empty(), "the connection goes on");
}

#[test]
fn a_response_before_the_end_of_the_request_stops_the_client_without_an_error() {
    let mut stage = stage(|cx, event| {
        if matches!(event, Event::Start(..)) {
            respond(cx, 413, BodyLength::Length(3));
            cx.back(Event::Data(Bytes::from_static(b"no!")));
            cx.back(Event::End(None));
        }
    });
    let stream = stage.ask(Method::Post, "/", BodyLength::Chunked);
    stage.talk();
    assert_eq!(stage.of(stream), ["413 Length(3)", "data no!", "end", "reset NO_ERROR"]);
}

#[test]
fn connect_makes_a_tunnel_that_ends_each_way_in_its_own_time() {
    let mut stage = stage(|cx, event| match event {
        Event::Start(..) => respond(cx, 200, BodyLength::None),
        Event::Data(data) => cx.back(Event::Data(data.clone())),
        Event::Close(CloseReason::Finished) => {
            cx.back(Event::Data(Bytes::from_static(b"bye")));
            cx.back(Event::Close(CloseReason::Finished));
        }
        _ => {}
    });
    let head = RequestHead::new(Method::Connect, "shop:443");
    let stream = stage.client.send_request(&head, Scheme::Http, BodyLength::None).expect("a request");
    // Before it is accepted, as TLS clients do.
    let _ = stage.client.send_data(stream, "early".into());
    stage.talk();
    assert_eq!(stage.of(stream), ["200 None", "data early"]);
    let _ = stage.client.send_data(stream, "late".into());
    stage.client.send_end(stream, None).expect("the end");
    stage.talk();
    assert_eq!(stage.of(stream), ["data latebye", "end"]);
    assert_eq!(stage.world.graph.pipelines(), 1);
}

#[test]
fn draining_announces_the_end_serves_what_is_under_way_and_closes() {
    let mut stage = stage(|cx, event| {
        if matches!(event, Event::Data(_)) {
            respond(cx, 200, BodyLength::Length(0));
            cx.back(Event::End(None));
        }
    });
    let one = stage.ask(Method::Post, "/1", BodyLength::Chunked);
    stage.talk();
    stage.world.drain();
    // Under way when the server announces its end: served all the same.
    let two = stage.ask(Method::Post, "/2", BodyLength::Chunked);
    stage.talk();
    assert!(stage.heard.iter().any(|heard| matches!(heard, Heard::GoAway { .. })));
    assert!(!stage.world.socket(stage.socket).finished);
    for stream in [one, two] {
        let _ = stage.client.send_data(stream, "x".into());
        stage.client.send_end(stream, None).expect("the end");
    }
    stage.talk();
    assert_eq!(stage.of(one)[0], "200 Length(0)");
    assert_eq!(stage.of(two)[0], "200 Length(0)");
    assert!(stage.world.socket(stage.socket).finished);
}

#[test]
fn a_drained_connection_without_requests_closes_at_once_or_after_the_grace() {
    let mut answers = stage(when_whole);
    answers.talk();
    answers.world.drain();
    answers.talk();
    assert!(answers.world.socket(answers.socket).finished);
    // A client that does not answer the PING.
    let mut silent = stage(when_whole);
    silent.talk();
    silent.world.drain();
    assert!(!silent.world.socket(silent.socket).finished);
    silent.world.pass(Duration::from_millis(600));
    assert!(silent.world.socket(silent.socket).finished);
}

#[test]
fn a_connection_of_age_takes_no_more_requests() {
    let mut stage = stage(when_whole);
    for _ in 0..70 {
        let stream = stage.get("/");
        stage.talk();
        assert_eq!(stage.of(stream).len(), 3);
        stage.world.pass(Duration::from_secs(55));
        stage.talk();
        if stage.heard.iter().any(|heard| matches!(heard, Heard::GoAway { .. })) {
            assert!(stage.world.socket(stage.socket).finished);
            return;
        }
    }
    panic!("it never ended");
}

#[test]
fn what_does_not_move_is_ended() {
    // A request that is never answered.
    let mut unanswered = stage(nothing);
    let stream = unanswered.get("/");
    unanswered.talk();
    unanswered.world.pass(Duration::from_secs(62));
    unanswered.talk();
    assert!(unanswered.of(stream)[0].starts_with("504"));
    // A head that dribbles.
    let mut slow = stage(when_whole);
    slow.talk();
    slow.world.say(slow.socket, [0, 0, 10, 1, 4, 0, 0, 0]);
    slow.world.pass(Duration::from_secs(12));
    assert_eq!(*slow.service.broken.borrow(), ["slow_head"]);
    assert!(slow.world.socket(slow.socket).finished);
    // Nothing at all.
    let mut idle = stage(when_whole);
    idle.talk();
    idle.world.pass(Duration::from_secs(62));
    assert!(idle.world.socket(idle.socket).finished);
}

#[test]
fn a_broken_rule_is_told_and_ends_the_connection() {
    let mut stage = stage(nothing);
    let stream = stage.get("/");
    stage.talk();
    // PING of seven bytes.
    stage.world.say(stage.socket, [0, 0, 7, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7]);
    let reply = stage.world.take(stage.socket);
    let _ = stage.client.receive(reply.into());
    let heard: Vec<Heard> = std::iter::from_fn(|| stage.client.next_event()).collect();
    assert!(
        heard
            .iter()
            .any(|heard| matches!(heard, Heard::GoAway { code, .. } if *code == ErrorCode::FRAME_SIZE_ERROR))
    );
    assert_eq!(stage.service.broken.borrow().len(), 1);
    assert_eq!(stage.world.graph.pipelines(), 1, "the request's sub-pipeline is gone");
    assert!(stage.world.socket(stage.socket).finished);
    let _ = stream;
}

#[test]
fn whatever_comes_nothing_is_left_when_the_client_is_gone() {
    for seed in 0..64 {
        let mut dice = Dice::new(seed);
        let kind = dice.below(4);
        let mut stage = stage(move |cx, event| match kind {
            0 => when_whole(cx, event),
            1 => nothing(cx, event),
            2 => match event {
                Event::Start(..) => respond(cx, 200, BodyLength::Chunked),
                Event::Data(data) => cx.back(Event::Data(data.clone())),
                Event::End(trailers) => cx.back(Event::End(trailers.clone())),
                _ => {}
            },
            _ => {
                if matches!(event, Event::Start(..)) {
                    cx.back(Event::Close(CloseReason::Reset));
                }
            }
        });
        let mut streams = Vec::new();
        for _ in 0..40 {
            match dice.below(6) {
                0 => streams.push(stage.get("/")),
                1 => streams.push(stage.ask(Method::Post, "/p", BodyLength::Chunked)),
                2 if !streams.is_empty() => {
                    let stream = dice.pick(&streams);
                    let _ = stage.client.send_data(stream, vec![b'x'; dice.below(100_000)].into());
                }
                3 if !streams.is_empty() => {
                    let stream = dice.pick(&streams);
                    let _ = stage.client.send_end(stream, None);
                }
                4 if !streams.is_empty() => {
                    let place = dice.below(streams.len());
                    stage.client.reset(streams.swap_remove(place), ErrorCode::CANCEL);
                }
                _ => stage.talk(),
            }
        }
        stage.talk();
        for heard in std::mem::take(&mut stage.heard) {
            if let Heard::Reset { cause: ResetCause::Error(error), .. } = heard {
                panic!("seed {seed}: {error}");
            }
        }
        assert!(stage.client.error().is_none(), "seed {seed}: {:?}", stage.client.error());
        match dice.below(3) {
            0 => stage.world.finish(stage.socket),
            1 => stage.world.fail(stage.socket, CloseReason::Reset),
            _ => stage.world.drain(),
        }
        stage.world.pass(Duration::from_secs(130));
        stage.world.fail(stage.socket, CloseReason::Reset);
        assert_eq!(stage.world.graph.pipelines(), 0, "seed {seed}");
        assert_eq!(stage.world.graph.timers.len(), 0, "seed {seed}");
    }
}
