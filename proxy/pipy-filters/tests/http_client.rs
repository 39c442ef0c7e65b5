//! The client's side of HTTP as conversations: requests of an owner, what the server hears and says, what comes back,
//! and whether the session may be used again. Responses are read whole and byte by byte.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use pipy_filters::{HttpClient, Session};
use pipy_http::{BodyLength, Limits, RequestDecoder, RequestItem};
use pipy_pipeline::{CloseReason, ConnectTo, Cx, Event, Filter, Head, PipelineId, Slot, SocketId};
use pipy_testkit::{Notes, World, describe};

const IDLE: Duration = Duration::from_secs(60);

/// Owns a session: text said to it is sent as requests; what comes back is noted.
struct Owner {
    session: Rc<Session>,
    alive: Rc<Cell<bool>>,
    notes: Notes,
    decoder: RequestDecoder,
    opened: Option<PipelineId>,
}

/// Tells that the session's pipeline is gone.
struct Guard(Rc<Cell<bool>>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

impl Filter for Owner {
    fn name(&self) -> &'static str {
        "owner"
    }

    fn start(&mut self, cx: &mut Cx<'_>) {
        let guard = Box::new(Guard(Rc::clone(&self.alive)));
        let pipeline = cx.open_free(vec![Box::new(HttpClient::new(Rc::clone(&self.session), IDLE, guard))]);
        let address = SocketAddr::from(([127, 0, 0, 1], 80));
        cx.connect(
            pipeline,
            ConnectTo { address, source: None, also: None, timeout: Duration::ZERO, tell: false },
        );
        cx.adopt(pipeline, 0);
        self.opened = Some(pipeline);
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        let Some(pipeline) = self.opened else { return };
        match event {
            Event::Data(data) => self.decoder.push(data),
            // Lets go of the session, and takes it again.
            Event::Pause => {
                self.session.set_idle(Some(cx.now()));
                return cx.disown(pipeline);
            }
            Event::Resume => {
                self.session.set_idle(None);
                return cx.adopt(pipeline, 0);
            }
            other => return cx.send(pipeline, other),
        }
        while let Some(item) = self.decoder.next().expect("valid requests") {
            cx.send(
                pipeline,
                match item {
                    RequestItem::Head(head, length) => Event::Start(Head::Request(head), length),
                    RequestItem::Data(data) => Event::Data(data),
                    RequestItem::End(trailers) => Event::End(trailers.map(Box::new)),
                },
            );
        }
    }

    fn sub(&mut self, _cx: &mut Cx<'_>, _slot: Slot, event: Event) {
        self.notes.add(describe(&event));
    }
}

struct Stage {
    world: World,
    owner: SocketId,
    server: SocketId,
    session: Rc<Session>,
    alive: Rc<Cell<bool>>,
    notes: Notes,
    whole: bool,
}

impl Stage {
    fn new(whole: bool) -> Self {
        let (mut world, notes) = (World::default(), Notes::default());
        let (session, alive) = (Rc::new(Session::default()), Rc::new(Cell::new(true)));
        let owner = Owner {
            session: Rc::clone(&session),
            alive: Rc::clone(&alive),
            notes: notes.clone(),
            decoder: RequestDecoder::new(Limits::default()),
            opened: None,
        };
        let (owner, _) = world.accept(vec![Box::new(owner)]);
        let server = world.outgoing()[0];
        Stage { world, owner, server, session, alive, notes, whole }
    }

    fn ask(&mut self, text: &str) -> String {
        self.world.say(self.owner, text);
        self.world.heard(self.server)
    }

    fn answer(&mut self, text: &str) -> Vec<String> {
        if self.whole {
            self.world.say(self.server, text);
        } else {
            for byte in text.as_bytes() {
                self.world.say(self.server, [*byte]);
            }
        }
        self.noted()
    }

    /// The notes, with the pieces of a body put together.
    fn noted(&self) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        for note in self.notes.take() {
            match (note.strip_prefix("data "), all.last_mut()) {
                (Some(more), Some(last)) if last.starts_with("data ") => last.push_str(more),
                _ => all.push(note),
            }
        }
        all
    }
}

fn stages() -> [Stage; 2] {
    [true, false].map(Stage::new)
}

const GET: &str = "GET /a HTTP/1.1\r\nhost: x\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[test]
fn requests_follow_each_other_on_one_connection() {
    for mut stage in stages() {
        for _ in 0..3 {
            assert_eq!(stage.ask(GET), GET);
            assert_eq!(stage.answer(OK), ["200 Length(2)", "data ok", "end"]);
            assert!(stage.session.reusable());
        }
        assert_eq!(stage.session.requests(), 3);
        assert_eq!(stage.session.take_bytes(), (3 * GET.len() as u64, 3 * OK.len() as u64));
    }
}

#[test]
fn a_head_and_a_small_body_leave_as_one_piece() {
    let mut stage = Stage::new(true);
    let post = "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nhi";
    stage.world.say(stage.owner, post);
    assert_eq!(stage.world.socket(stage.server).pieces, [Bytes::from_static(post.as_bytes())]);
}

#[test]
fn a_connection_that_carries_no_further_response_is_not_used_again() {
    for response in [
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok",
        "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
    ] {
        for mut stage in stages() {
            stage.ask(GET);
            assert_eq!(stage.answer(response), ["200 Length(2)", "data ok", "end"]);
            assert!(!stage.session.reusable());
        }
    }
}

#[test]
fn a_body_until_close_ends_with_the_connection() {
    for mut stage in stages() {
        stage.ask(GET);
        assert_eq!(stage.answer("HTTP/1.1 200 OK\r\n\r\nuntil"), ["200 UntilClose", "data until"]);
        stage.world.finish(stage.server);
        assert_eq!(stage.noted(), ["end"]);
        assert!(!stage.session.reusable());
    }
}

#[test]
fn a_response_that_breaks_off_is_a_reset() {
    for said in ["", "HTTP/1.1 2", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nok"] {
        for mut stage in stages() {
            stage.ask(GET);
            stage.answer(said);
            stage.world.finish(stage.server);
            assert_eq!(stage.noted(), ["close reset"], "{said:?}");
            assert!(!stage.session.reusable());
            assert_eq!(stage.session.was_declined(), said.is_empty(), "{said:?}");
            // For another try there is the head, as long as no response has begun.
            assert_eq!(stage.session.take_request().is_some(), !said.contains("200"), "{said:?}");
        }
    }
}

#[test]
fn only_an_orderly_end_before_a_word_about_a_request_declines_it() {
    for (broken, declined) in [(false, true), (true, false)] {
        for mut stage in stages() {
            stage.ask(GET);
            assert_eq!(stage.answer(OK), ["200 Length(2)", "data ok", "end"]);
            stage.ask(GET);
            match broken {
                true => stage.world.fail(stage.server, CloseReason::Reset),
                false => stage.world.finish(stage.server),
            }
            assert_eq!(stage.noted(), ["close reset"]);
            assert_eq!(stage.session.was_declined(), declined);
        }
    }
}

#[test]
fn a_request_that_a_gateway_answers_can_be_had_back() {
    for (status, kept) in [(200, false), (502, true), (503, false), (504, true)] {
        for mut stage in stages() {
            stage.ask(GET);
            stage.answer(&format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n"));
            assert_eq!(stage.session.take_request().is_some(), kept, "{status}");
        }
    }
}

#[test]
fn what_is_no_response_is_a_broken_protocol() {
    for said in ["nonsense\r\n", "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n", "HTTP/1.1 101 X\r\n\r\n"] {
        for mut stage in stages() {
            stage.ask(GET);
            assert_eq!(stage.answer(said), ["close protocol_error"], "{said:?}");
        }
    }
}

#[test]
fn an_early_answer_leaves_the_connection_to_no_one_else() {
    for mut stage in stages() {
        stage.ask("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nabc");
        assert_eq!(stage.answer(OK), ["200 Length(2)", "data ok", "end"]);
        assert!(!stage.session.reusable());
    }
}

#[test]
fn what_comes_unasked_spoils_the_session() {
    for mut stage in stages() {
        stage.ask(GET);
        stage.answer(&format!("{OK}{OK}"));
        assert!(!stage.session.reusable());
    }
    let mut stage = Stage::new(true);
    stage.ask(GET);
    stage.answer(OK);
    stage.world.event(stage.owner, Event::Pause);
    stage.world.say(stage.server, OK);
    assert!(!stage.session.reusable() && !stage.alive.get(), "an idle session ends itself");
    assert_eq!(stage.world.socket(stage.server).closed, Some(false));
}

#[test]
fn interim_responses_come_before_the_final_one() {
    for mut stage in stages() {
        stage.ask(GET);
        let said = format!("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\n\r\n{OK}");
        assert_eq!(stage.answer(&said), ["100 None", "103 None", "200 Length(2)", "data ok", "end"]);
        assert!(stage.session.reusable());
    }
}

#[test]
fn a_tunnel_has_no_end_but_that_of_its_bytes() {
    for (ask, answer, heard) in [
        (
            "GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: y\r\n\r\n",
            "HTTP/1.1 101 X\r\nconnection: upgrade\r\nupgrade: y\r\n\r\nfirst",
            "101 None",
        ),
        ("CONNECT x:1 HTTP/1.1\r\nhost: x:1\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\nfirst", "200 None"),
    ] {
        for mut stage in stages() {
            stage.ask(ask);
            assert_eq!(stage.answer(answer), [heard, "data first"]);
            assert!(!stage.session.reusable());
            stage.world.finish(stage.server);
            assert_eq!(stage.noted(), ["close finished"]);
        }
    }
}

#[test]
fn an_idle_session_ends_when_its_time_is_over_and_one_in_use_does_not() {
    let mut stage = Stage::new(true);
    stage.ask(GET);
    stage.world.pass(IDLE * 3);
    assert!(stage.alive.get());
    stage.answer(OK);
    stage.world.event(stage.owner, Event::Pause);
    stage.world.pass(IDLE - Duration::from_millis(1));
    assert!(stage.alive.get());
    stage.world.pass(IDLE);
    assert!(!stage.alive.get() && !stage.session.reusable());
    assert_eq!(stage.world.socket(stage.server).closed, Some(false), "closed in good order, no reset");
}

#[test]
fn an_idle_session_whose_server_goes_away_is_not_used_again() {
    for end in [CloseReason::Finished, CloseReason::Reset] {
        let mut stage = Stage::new(true);
        stage.ask(GET);
        stage.answer(OK);
        stage.world.event(stage.owner, Event::Pause);
        stage.world.event(stage.server, Event::Close(end));
        assert!(!stage.session.reusable() && !stage.alive.get(), "{end:?}");
        assert!(stage.noted().is_empty(), "no one listens to it");
    }
}

#[test]
fn a_drain_ends_idle_sessions_and_lets_others_finish() {
    let mut idle = Stage::new(true);
    idle.ask(GET);
    idle.answer(OK);
    idle.world.event(idle.owner, Event::Pause);
    idle.world.drain();
    assert!(!idle.alive.get());
    let mut busy = Stage::new(true);
    busy.ask(GET);
    busy.world.drain();
    assert_eq!(busy.answer(OK), ["200 Length(2)", "data ok", "end"]);
    assert!(busy.alive.get() && !busy.session.reusable());
}

#[test]
fn a_request_that_cannot_be_written_breaks_the_exchange_only() {
    let mut stage = Stage::new(true);
    let mut decoder = RequestDecoder::new(Limits::default());
    decoder.push(Bytes::from_static(GET.as_bytes()));
    let Ok(Some(RequestItem::Head(head, _))) = decoder.next() else { panic!("a head") };
    stage.world.event(stage.owner, Event::Start(Head::Request(head), BodyLength::UntilClose));
    assert_eq!(stage.noted(), ["close protocol_error"]);
    assert_eq!(stage.world.heard(stage.server), "");
}
