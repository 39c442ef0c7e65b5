//! The server's side of HTTP as conversations: what a client says, what the sub-pipeline of each request hears, what it
//! answers, what the client hears. Every conversation is held whole and byte by byte.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use pipy_filters::{CodecBytes, HttpServer, HttpServerLimits, HttpService};
use pipy_http::{BodyLength, HttpError, ResponseHead};
use pipy_pipeline::{CloseReason, Cx, Event, Filter, Head, SocketId};
use pipy_testkit::{Notes, Probe, World};

type Answer = Rc<dyn Fn(&mut Cx<'_>, &Event)>;

/// Answers each request with the next of its answers; the last one stays.
struct Service {
    notes: Notes,
    answers: RefCell<VecDeque<Answer>>,
    malformed: Cell<u32>,
}

impl HttpService for Service {
    fn request(&self) -> Vec<Box<dyn Filter>> {
        let mut answers = self.answers.borrow_mut();
        let answer = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
        let answer = answer.expect("an answer");
        vec![Probe::answering("sub", &self.notes, move |cx, event| answer(cx, &event))]
    }

    fn malformed(&self, _error: &HttpError) {
        self.malformed.set(self.malformed.get() + 1);
    }
}

struct Stage {
    world: World,
    client: SocketId,
    notes: Notes,
    service: Rc<Service>,
    whole: bool,
}

impl Stage {
    fn say(&mut self, text: &str) {
        if self.whole {
            return self.world.say(self.client, text);
        }
        for byte in text.as_bytes() {
            self.world.say(self.client, [*byte]);
        }
    }

    fn heard(&mut self) -> String {
        self.world.heard(self.client)
    }

    fn closed(&self) -> (bool, Option<bool>) {
        let state = self.world.socket(self.client);
        (state.finished, state.closed)
    }
}

const LIMITS: HttpServerLimits = HttpServerLimits {
    head: Duration::from_secs(10),
    idle: Duration::from_secs(60),
    age: Duration::ZERO,
    requests: 0,
    streams: 0,
    bytes: CodecBytes::STANDARD,
};

fn stages(answers: Vec<Answer>) -> [Stage; 2] {
    [true, false].map(|whole| {
        let (mut world, notes) = (World::default(), Notes::default());
        let answers = RefCell::new(answers.iter().cloned().collect());
        let service = Rc::new(Service { notes: notes.clone(), answers, malformed: Cell::new(0) });
        let server = HttpServer::new(Rc::clone(&service) as Rc<dyn HttpService>, LIMITS, world.graph.now);
        let (client, _) = world.accept(vec![Box::new(server)]);
        Stage { world, client, notes, service, whole }
    })
}

fn respond(cx: &mut Cx<'_>, status: u16, body: &'static str) {
    let head = Head::Response(Box::new(ResponseHead::new(status)));
    cx.back(Event::Start(head, BodyLength::Length(body.len() as u64)));
    cx.back(Event::Data(Bytes::from_static(body.as_bytes())));
    cx.back(Event::End(None));
}

fn at_start(status: u16, body: &'static str) -> Answer {
    Rc::new(move |cx, event| {
        if let Event::Start(..) = event {
            respond(cx, status, body);
        }
    })
}

fn at_end(status: u16, body: &'static str) -> Answer {
    Rc::new(move |cx, event| {
        if let Event::End(_) = event {
            respond(cx, status, body);
        }
    })
}

fn never() -> Answer {
    Rc::new(|_, _| {})
}

const GET: &str = "GET /a HTTP/1.1\r\nhost: x\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const OK_LAST: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";

/// The notes, with the pieces of a body put together.
fn heard_below(notes: &Notes) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for note in notes.take() {
        match (note.strip_prefix("sub > data "), all.last_mut()) {
            (Some(more), Some(last)) if last.starts_with("sub > data ") => last.push_str(more),
            _ => all.push(note),
        }
    }
    all
}

#[test]
fn a_request_runs_through_its_own_pipeline_and_the_next_through_another() {
    for mut stage in stages(vec![at_end(200, "ok")]) {
        stage.say("POST /a?b HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello");
        let notes = heard_below(&stage.notes);
        assert_eq!(
            notes,
            ["sub starts", "sub > POST /a?b Length(5)", "sub > data hello", "sub > end", "sub closed"]
        );
        stage.say(GET);
        assert_eq!(heard_below(&stage.notes), ["sub starts", "sub > GET /a None", "sub > end", "sub closed"]);
        assert_eq!(stage.heard(), OK.repeat(2));
        assert_eq!(stage.closed(), (false, None));
        assert_eq!(stage.world.graph.pipelines(), 1);
    }
}

#[test]
fn pipelined_requests_wait_for_their_turn() {
    for mut stage in stages(vec![never(), at_end(200, "ok")]) {
        stage.say(&GET.repeat(3));
        assert_eq!(heard_below(&stage.notes), ["sub starts", "sub > GET /a None", "sub > end"]);
        assert_eq!(stage.heard(), "");
    }
    for mut stage in stages(vec![at_end(200, "ok")]) {
        stage.say(&GET.repeat(3));
        assert_eq!(stage.heard(), OK.repeat(3));
    }
}

#[test]
fn a_client_that_runs_ahead_is_paused_and_goes_on_later() {
    let [mut stage, _] = stages(vec![never()]);
    stage.say(GET);
    for _ in 0..40 {
        stage.say(&GET.repeat(100));
    }
    assert!(stage.world.socket(stage.client).paused);
}

#[test]
fn a_response_before_the_end_of_the_request_ends_the_connection() {
    for mut stage in stages(vec![at_start(200, "ok")]) {
        stage.say("POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhe");
        assert_eq!(stage.heard(), OK_LAST);
        assert_eq!(stage.closed(), (true, None));
        // The client may still say what it likes; then it has a second.
        stage.say("llo");
        stage.say(GET);
        assert_eq!(stage.heard(), "");
        stage.world.pass(Duration::from_secs(1));
        assert_eq!(stage.closed(), (true, Some(false)));
        assert_eq!((stage.world.graph.pipelines(), stage.world.graph.timers.len()), (0, 0));
    }
}

#[test]
fn a_connection_that_the_client_ends_is_ended_after_the_response() {
    for mut stage in stages(vec![at_end(200, "ok")]) {
        stage.say("GET /a HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        assert_eq!((stage.heard().as_str(), stage.closed()), (OK_LAST, (true, None)));
        assert!(stage.world.socket(stage.client).heard, "the end of its side needs no waiting for");
    }
    for mut stage in stages(vec![at_end(200, "ok")]) {
        stage.say(GET);
        stage.world.finish(stage.client);
        assert_eq!((stage.heard().as_str(), stage.closed()), (OK, (true, None)));
    }
}

#[test]
fn the_end_is_waited_for_where_more_may_come() {
    let more = "GET /a HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\nmore";
    let [mut whole, _] = stages(vec![at_end(200, "ok")]);
    whole.say(more);
    assert_eq!(whole.closed(), (true, None));
    assert!(!whole.world.socket(whole.client).heard, "what was sent after the request is unread");
    for mut stage in stages(vec![at_start(200, "ok")]) {
        stage.say("POST /a HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhe");
        assert_eq!(stage.closed(), (true, None));
        assert!(!stage.world.socket(stage.client).heard, "the rest of the request is still to come");
    }
    // The proxy ends the connection: the client's next request may be under way.
    for mut stage in stages(vec![at_end(200, "ok")]) {
        stage.world.drain();
        stage.say(GET);
        assert_eq!((stage.heard().as_str(), stage.closed()), (OK_LAST, (true, None)));
        assert!(!stage.world.socket(stage.client).heard);
    }
}

#[test]
fn a_client_that_has_ended_its_side_is_not_waited_for_without_end() {
    for mut stage in stages(vec![never()]) {
        stage.say(GET);
        stage.world.finish(stage.client);
        stage.world.pass(Duration::from_secs(4));
        assert_eq!((stage.heard().as_str(), stage.closed()), ("", (false, None)));
        stage.world.pass(Duration::from_secs(1));
        assert_eq!((stage.heard().as_str(), stage.closed().1), ("", Some(true)));
        assert_eq!(stage.world.graph.pipelines(), 0);
    }
}

#[test]
fn a_request_that_is_none_is_answered_once_and_counted() {
    for (mut stage, whole) in stages(vec![at_end(200, "ok")]).into_iter().zip([true, false]) {
        stage.say("GET /a HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n");
        let heard = stage.heard();
        assert!(heard.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{whole} {heard}");
        assert!(heard.contains("connection: close\r\n"));
        assert_eq!((stage.service.malformed.get(), stage.closed()), (1, (true, None)));
        stage.say(GET);
        assert_eq!((stage.heard().as_str(), stage.service.malformed.get()), ("", 1));
        assert!(stage.notes.take().is_empty(), "no request was begun");
    }
}

#[test]
fn a_body_that_breaks_off_resets_the_connection_and_ends_the_exchange() {
    for mut stage in stages(vec![never()]) {
        stage.say("POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhe");
        stage.world.finish(stage.client);
        assert_eq!((stage.heard().as_str(), stage.closed()), ("", (false, Some(true))));
        assert_eq!(stage.notes.take().last().map(String::as_str), Some("sub closed"));
        assert_eq!(stage.world.graph.pipelines(), 0);
    }
}

#[test]
fn a_stream_that_was_cut_short_closes_its_socket() {
    // As a TLS filter says it: the stream failed, the socket is still there.
    for (say, answer) in [("", never()), ("GET /", never()), (GET, never())] {
        let [mut stage, _] = stages(vec![answer]);
        stage.say(say);
        stage.world.event(stage.client, Event::Close(CloseReason::Reset));
        assert_eq!(stage.closed(), (false, Some(true)), "{say:?}");
        assert_eq!((stage.world.graph.pipelines(), stage.world.graph.timers.len()), (0, 0));
    }
}

#[test]
fn a_sub_pipeline_that_ends_without_a_response_is_answered_by_its_reason() {
    for (reason, status) in [
        (CloseReason::Reset, 502),
        (CloseReason::ConnectFailed, 502),
        (CloseReason::ConnectTimeout, 504),
        (CloseReason::Overloaded, 503),
    ] {
        let ends: Answer = Rc::new(move |cx, event| {
            if let Event::Start(..) = event {
                cx.back(Event::Close(reason));
            }
        });
        for mut stage in stages(vec![ends]) {
            stage.say(GET);
            assert!(stage.heard().starts_with(&format!("HTTP/1.1 {status} ")));
            assert_eq!(stage.closed(), (true, None));
        }
    }
}

#[test]
fn a_response_that_breaks_off_resets_the_client() {
    let breaks: Answer = Rc::new(|cx, event| {
        if let Event::Start(..) = event {
            let head = Head::Response(Box::new(ResponseHead::new(200)));
            cx.back(Event::Start(head, BodyLength::Length(10)));
            cx.back(Event::Data(Bytes::from_static(b"part")));
            cx.back(Event::Close(CloseReason::Reset));
        }
    });
    for mut stage in stages(vec![breaks]) {
        stage.say(GET);
        assert_eq!(stage.closed(), (false, Some(true)));
    }
}

#[test]
fn a_response_longer_than_it_said_is_cut_off_at_the_announced_length_or_reset() {
    let lies: Answer = Rc::new(|cx, event| {
        if let Event::End(_) = event {
            let head = Head::Response(Box::new(ResponseHead::new(200)));
            cx.back(Event::Start(head, BodyLength::Length(2)));
            cx.back(Event::Data(Bytes::from_static(b"okHTTP/1.1 200 OK\r\n\r\n")));
            cx.back(Event::End(None));
        }
    });
    for mut stage in stages(vec![lies]) {
        stage.say(GET);
        assert_eq!(stage.closed(), (false, Some(true)));
        assert!(!stage.heard().contains("okHTTP/1.1"));
    }
}

#[test]
fn interim_responses_pass_and_the_final_one_follows() {
    let hints: Answer = Rc::new(|cx, event| {
        if let Event::End(_) = event {
            let head = Head::Response(Box::new(ResponseHead::new(103)));
            cx.back(Event::Start(head, BodyLength::None));
            respond(cx, 200, "ok");
        }
    });
    for mut stage in stages(vec![hints]) {
        stage.say(GET);
        assert_eq!(stage.heard(), format!("HTTP/1.1 103 Early Hints\r\n\r\n{OK}"));
    }
}

#[test]
fn a_tunnel_carries_bytes_and_ends_each_way_in_its_own_time() {
    let tunnel: Answer = Rc::new(|cx, event| match event {
        Event::End(_) => {
            let mut head = ResponseHead::new(101);
            head.headers.append("connection", "upgrade").expect("valid");
            head.headers.append("upgrade", "x").expect("valid");
            cx.back(Event::Start(Head::Response(Box::new(head)), BodyLength::None));
        }
        Event::Data(data) if data == "bye" => cx.back(Event::Close(CloseReason::Finished)),
        Event::Data(data) if data == "early" => cx.back(Event::Data(data.clone())),
        _ => {}
    });
    let [mut stage, _] = stages(vec![tunnel]);
    stage.say("GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: x\r\n\r\nearly");
    let heard = stage.heard();
    assert!(heard.starts_with("HTTP/1.1 101 "), "{heard}");
    assert!(heard.ends_with("\r\n\r\nearly"), "{heard}");
    stage.say("bye");
    assert_eq!(stage.closed(), (true, None));
    stage.notes.take();
    stage.say("more");
    stage.world.finish(stage.client);
    assert_eq!(stage.notes.take(), ["sub > data more", "sub > close finished"]);
}

#[test]
fn what_was_sent_in_the_hope_of_a_tunnel_is_no_request() {
    for head in [
        "GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
        "CONNECT x:80 HTTP/1.1\r\nhost: x:80\r\n\r\n",
    ] {
        let mut stage = stages(vec![at_end(404, "ok")]).into_iter().next().expect("two");
        stage.say(&format!("{head}{GET}"));
        let heard = stage.heard();
        assert!(heard.starts_with("HTTP/1.1 404 ") && heard.contains("connection: close\r\n"), "{heard}");
        assert_eq!((heard.matches("HTTP/1.1").count(), stage.closed()), (1, (true, None)));
        // Who waits for the answer may go on.
        let mut stage = stages(vec![at_end(404, "ok"), at_end(200, "ok")]).into_iter().next().expect("two");
        stage.say(head);
        assert!(!stage.heard().contains("connection: close"));
        stage.say(GET);
        assert_eq!(stage.heard(), OK);
    }
}

#[test]
fn a_slow_head_is_given_up_and_each_head_has_its_own_time() {
    let [mut stage, _] = stages(vec![at_end(200, "ok")]);
    stage.say("GET /");
    stage.world.pass(Duration::from_secs(9));
    stage.say("a HTTP/1.1\r\nhost: x\r\n\r\n");
    assert_eq!(stage.heard(), OK);
    stage.say("GET /");
    stage.world.pass(Duration::from_secs(9));
    assert_eq!((stage.heard().as_str(), stage.closed()), ("", (false, None)), "the first one's time is over");
    stage.world.pass(Duration::from_secs(1));
    assert!(stage.heard().starts_with("HTTP/1.1 408 "));
    assert_eq!((stage.closed(), stage.service.malformed.get()), ((true, None), 1));
}

#[test]
fn what_is_idle_for_too_long_ends_as_its_state_asks() {
    let [mut idle, _] = stages(vec![never()]);
    idle.world.pass(Duration::from_secs(59));
    assert_eq!(idle.closed(), (false, None));
    idle.world.pass(Duration::from_secs(1));
    assert_eq!((idle.heard().as_str(), idle.closed()), ("", (true, None)));

    let [mut waiting, _] = stages(vec![never()]);
    waiting.say(GET);
    waiting.world.pass(Duration::from_secs(60));
    // Whoever looks after the request is asked first, and has a second to answer.
    assert!(heard_below(&waiting.notes).iter().any(|line| line.contains("close idle_timeout")));
    assert_eq!((waiting.heard().as_str(), waiting.closed()), ("", (false, None)));
    waiting.world.pass(Duration::from_secs(1));
    assert!(waiting.heard().starts_with("HTTP/1.1 504 "));
    assert_eq!(waiting.closed(), (true, None));

    // So is who has begun to answer; the client can only be cut off.
    let half: Answer = Rc::new(|cx, event| {
        if let Event::Start(..) = event {
            let head = Head::Response(Box::new(ResponseHead::new(200)));
            cx.back(Event::Start(head, BodyLength::Length(2)));
            cx.back(Event::Data(Bytes::from_static(b"o")));
        }
    });
    let [mut stuck, _] = stages(vec![half]);
    stuck.say(GET);
    stuck.world.pass(Duration::from_secs(60));
    assert!(heard_below(&stuck.notes).iter().any(|line| line.contains("close idle_timeout")));
    assert_eq!(stuck.closed(), (false, None));
    stuck.world.pass(Duration::from_secs(1));
    assert_eq!(stuck.closed(), (false, Some(true)));
}

#[test]
fn a_drain_answers_what_comes_in_its_grace_and_says_that_it_was_the_last() {
    let [mut idle, _] = stages(vec![at_end(200, "ok")]);
    idle.world.drain();
    assert_eq!(idle.closed(), (false, None), "a request may be on its way");
    idle.world.pass(Duration::from_millis(100));
    idle.say(GET);
    assert_eq!((idle.heard().as_str(), idle.closed()), (OK_LAST, (true, None)));

    let [mut silent, _] = stages(vec![at_end(200, "ok")]);
    silent.world.drain();
    silent.world.pass(Duration::from_millis(500));
    assert_eq!((silent.heard().as_str(), silent.closed()), ("", (true, None)));

    let later: Answer = Rc::new(|cx, event| {
        if let Event::Pause = event {
            respond(cx, 200, "ok");
        }
    });
    let [mut busy, _] = stages(vec![later]);
    busy.say(GET);
    busy.world.drain();
    busy.world.pass(Duration::from_secs(5));
    assert_eq!(busy.closed(), (false, None));
    busy.world.event(busy.client, Event::Pause);
    assert_eq!((busy.heard().as_str(), busy.closed()), (OK_LAST, (true, None)));
}

#[test]
fn pauses_travel_both_ways() {
    let pauses: Answer = Rc::new(|cx, event| match event {
        Event::Start(..) => cx.back(Event::Pause),
        Event::Pause => cx.back(Event::Resume),
        _ => {}
    });
    let [mut stage, _] = stages(vec![pauses]);
    stage.say("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\n");
    assert!(stage.world.socket(stage.client).paused);
    stage.notes.take();
    stage.world.event(stage.client, Event::Pause);
    assert_eq!(stage.notes.take(), ["sub > pause"]);
    assert!(!stage.world.socket(stage.client).paused);
}

#[test]
fn whatever_comes_nothing_is_left_when_the_client_is_gone() {
    let mut dice = pipy_testkit::Dice::new(7);
    let words = [
        GET,
        "POST / HTTP/1.1\r\nhost: x\r\n",
        "content-length: 3\r\n\r\n",
        "abc",
        "\r\n\r\n",
        "\0",
        "transfer-encoding: chunked\r\n\r\n",
        "0\r\n\r\n",
        "connection: close\r\n",
        "CONNECT x:1 HTTP/1.1\r\nhost: x:1\r\n\r\n",
    ];
    for seed in 0..2_000 {
        let answer =
            [never(), at_start(200, "ok"), at_end(404, "no"), at_end(204, "")][dice.below(4)].clone();
        let [mut stage, _] = stages(vec![answer]);
        for _ in 0..dice.below(8) {
            let state = stage.world.socket(stage.client);
            if state.closed.is_some() {
                break;
            }
            match dice.below(12) {
                0 => stage.world.pass(Duration::from_millis(dice.below(20_000) as u64)),
                1 => stage.world.event(stage.client, Event::Pause),
                2 => stage.world.event(stage.client, Event::Resume),
                3 => stage.world.drain(),
                _ => stage.say(words[dice.below(words.len())]),
            }
        }
        stage.world.fail(stage.client, CloseReason::Reset);
        let graph = &stage.world.graph;
        assert_eq!((graph.pipelines(), graph.sockets(), graph.timers.len()), (0, 0, 0), "seed {seed}");
    }
}
