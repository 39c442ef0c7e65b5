//! The client's side of HTTP/2, of `muxHTTP`: one connection, many requests at once. Bytes on the right; requests come
//! from the filters that hold a [`Lease`](crate::Lease) of the session, and each gets its own answers.
//!
//! ```text
//!   lease ── Start ──► stream ── Response, Data, End ──► lease      lease gives up: RST_STREAM CANCEL
//!     └─ the server has not looked at it (GOAWAY, REFUSED_STREAM): the head is given back, for another connection
//! ```
//!
//! INVARIANTS: no byte is sent before TLS has agreed on `h2`, where there is TLS; a request that may have been carried out is
//! never given back; every byte of `Data` that the codec gives is released. Not here: which session a request takes.

mod request;
mod settings;

use std::any::Any;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pipy_h2::{Config, Connection, ErrorCode, Event as Heard, Pressure, ResetCause, SendError, StreamId};
use pipy_http::{BodyLength, Headers, Method, RequestHead, ResponseHead};
use pipy_pipeline::{CloseReason, Cx, Event, Filter, Head, Slot};

use crate::http_client::SPEC;
use crate::ids::Ids;
use crate::session::{Session, is_of_gateway};
use crate::websocket;

use request::{Request, Tunnel};
use settings::STREAMS_MAX;
pub use settings::{Http2Settings, STREAMS_FIRST};

/// LIMIT: bytes handed to the socket per turn; more waits, in the order that the codec still can change.
const OUT_BYTES_MAX: usize = 128 * 1024;

/// How often allowances come back and limits of time are looked at, while there are requests.
const TICK: Duration = Duration::from_secs(1);

/// LIMIT: how long the answer to a PING may take.
const PONG: Duration = Duration::from_secs(10);

const TIMER_IDLE: u32 = 0;
const TIMER_TICK: u32 = 1;
const TIMER_OUTPUT: u32 = 2;
const TIMER_AGE: u32 = 3;

/// See the module.
pub struct Http2Client {
    session: Rc<Session>,
    settings: Http2Settings,
    connection: Connection,
    requests: Ids<Request>,
    /// Whose request a stream carries.
    slots: Ids<Slot>,
    /// Requests for an upgrade that wait for the server to say whether it knows such requests.
    upgrades: Vec<(Slot, Box<RequestHead>)>,
    /// Requests whose owners have been given data in this turn.
    fed: Vec<Slot>,
    pieces: Vec<Bytes>,
    last_heard: Instant,
    pinged: Option<Instant>,
    idling: bool,
    ticking: bool,
    deferred: bool,
    output_waits: bool,
    ended: bool,
    /// The server has broken the rules of the connection.
    broken: bool,
    /// The server's socket can't take more.
    congested: bool,
    pausing: bool,
    _guard: Box<dyn Any>,
}

impl Http2Client {
    /// A client on a new connection. `guard` is dropped when the connection is gone.
    pub fn new(session: Rc<Session>, settings: Http2Settings, now: Instant, guard: Box<dyn Any>) -> Self {
        // Requests of many clients share the connection.
        let config = Config::default();
        let config = Config { connection_window: config.window_apart(settings.streams()), ..config };
        let config = settings.bytes.http2(config);
        Http2Client {
            session,
            settings,
            connection: Connection::client(config),
            requests: Ids::default(),
            slots: Ids::default(),
            upgrades: Vec::new(),
            fed: Vec::new(),
            pieces: Vec::new(),
            last_heard: now,
            pinged: None,
            idling: false,
            ticking: false,
            deferred: false,
            output_waits: false,
            ended: false,
            broken: false,
            congested: false,
            pausing: false,
            _guard: guard,
        }
    }

    fn request(&mut self, cx: &mut Cx<'_>, slot: Slot, head: Box<RequestHead>, length: BodyLength) {
        self.session.request_begun(None);
        if self.ended {
            return self.refuse(cx, slot, head);
        }
        if head.is_upgrade() && !self.connection.has_peer_settings() {
            self.upgrades.push((slot, head));
            // The preface makes the server speak.
            return self.defer(cx);
        }
        self.send(cx, slot, head, length);
    }

    fn send(&mut self, cx: &mut Cx<'_>, slot: Slot, head: Box<RequestHead>, length: BodyLength) {
        let upgrade = head.is_upgrade();
        let tunnel = head.method == Method::Connect || upgrade;
        let digest = if upgrade { websocket::digest_for(&head) } else { None };
        match self.connection.send_request(&head, self.settings.scheme, length) {
            Ok(stream) => {
                let tunnel = if tunnel { Tunnel::Asked } else { Tunnel::No };
                let request = Request {
                    stream,
                    head: Some(head),
                    tunnel,
                    digest,
                    request_done: false,
                    response_done: false,
                    paused: false,
                    waiting: false,
                    owed: 0,
                };
                self.slots.insert(stream.get(), slot);
                self.requests.insert(slot, request);
                self.defer(cx);
                self.tick_on(cx);
            }
            Err(
                SendError::ConnectionEnded
                | SendError::TooManyStreams { .. }
                | SendError::GoingAway
                | SendError::StreamIdsExhausted,
            ) => {
                if self.connection.available_streams() == 0 && self.connection.streams() == 0 {
                    self.session.retire();
                }
                self.refuse(cx, slot, head);
            }
            Err(_) => self.tell(cx, slot, Event::Close(CloseReason::Protocol)),
        }
    }

    /// The request was not sent, or the server has not looked at it.
    fn refuse(&mut self, cx: &mut Cx<'_>, slot: Slot, head: Box<RequestHead>) {
        self.session.give_back(slot, head);
        self.tell(cx, slot, Event::Close(CloseReason::Reset));
    }

    fn tell(&self, cx: &mut Cx<'_>, slot: Slot, event: Event) {
        if let Some(port) = self.session.client(slot) {
            cx.send_to(port, event);
        }
    }

    fn request_body(&mut self, cx: &mut Cx<'_>, slot: Slot, data: Bytes) {
        let Some(request) = self.requests.get_mut(&slot) else { return };
        match self.connection.send_data(request.stream, data) {
            Ok(Pressure::GoOn) => {}
            Ok(Pressure::Wait) => {
                if !std::mem::replace(&mut request.waiting, true) {
                    self.tell(cx, slot, Event::Pause);
                }
            }
            // More than the request announced, or more than a paused producer may send.
            Err(_) => return self.fail_request(cx, slot, CloseReason::Protocol),
        }
        self.defer(cx);
    }

    fn request_end(&mut self, cx: &mut Cx<'_>, slot: Slot, trailers: Option<Box<Headers>>) {
        let Some(request) = self.requests.get_mut(&slot) else { return };
        // The message that asks for a tunnel is its head; the stream ends with the tunnel.
        if request.tunnel != Tunnel::No {
            return;
        }
        request.request_done = true;
        if self.connection.send_end(request.stream, trailers).is_err() {
            return self.fail_request(cx, slot, CloseReason::Protocol);
        }
        self.forget_if_done(slot);
        self.defer(cx);
    }

    /// The owner has no more to say, or no more interest.
    fn request_closed(&mut self, cx: &mut Cx<'_>, slot: Slot, reason: CloseReason) {
        self.upgrades.retain(|(waiting, _)| *waiting != slot);
        let Some(request) = self.requests.get_mut(&slot) else { return };
        if reason.is_clean() && request.tunnel == Tunnel::Open && !request.request_done {
            request.request_done = true;
            let _ = self.connection.send_end(request.stream, None);
            self.forget_if_done(slot);
        } else {
            let stream = request.stream;
            self.forget(slot);
            self.connection.reset(stream, ErrorCode::CANCEL);
        }
        self.defer(cx);
    }

    fn fail_request(&mut self, cx: &mut Cx<'_>, slot: Slot, reason: CloseReason) {
        if let Some(request) = self.requests.get(&slot) {
            self.connection.reset(request.stream, ErrorCode::CANCEL);
        }
        self.forget(slot);
        self.tell(cx, slot, Event::Close(reason));
        self.defer(cx);
    }

    fn forget_if_done(&mut self, slot: Slot) {
        if self.requests.get(&slot).is_some_and(|request| request.request_done && request.response_done) {
            self.forget(slot);
        }
    }

    fn forget(&mut self, slot: Slot) {
        if let Some(request) = self.requests.remove(&slot) {
            self.slots.remove(&request.stream.get());
            self.connection.release(request.stream, request.owed);
        }
    }

    /// Carries out what the codec has heard.
    fn pump(&mut self, cx: &mut Cx<'_>) {
        while let Some(heard) = self.connection.next_event() {
            match heard {
                Heard::GoAway { .. } => self.session.retire(),
                Heard::Pong { .. } => self.pinged = None,
                Heard::Data { stream, data } => self.response_body(cx, stream, data),
                other => {
                    let Some(slot) = other.stream().and_then(|id| self.slots.get(&id.get())).copied() else {
                        continue;
                    };
                    self.heard(cx, slot, other);
                }
            }
        }
    }

    fn heard(&mut self, cx: &mut Cx<'_>, slot: Slot, heard: Heard) {
        let unprocessed = heard.is_unprocessed();
        let Some(request) = self.requests.get_mut(&slot) else { return };
        match heard {
            Heard::Interim { head, .. } => {
                self.tell(cx, slot, Event::Start(Head::Response(head), BodyLength::None));
            }
            Heard::Response { head, body, .. } => self.response_head(cx, slot, head, body),
            Heard::End { trailers, .. } => {
                request.response_done = true;
                let event = match request.tunnel {
                    Tunnel::Open => Event::Close(CloseReason::Finished),
                    _ => Event::End(trailers),
                };
                self.tell(cx, slot, event);
                self.forget_if_done(slot);
            }
            Heard::Writable { .. } if request.waiting => {
                request.waiting = false;
                self.tell(cx, slot, Event::Resume);
            }
            Heard::Reset { cause, .. } => {
                let head = request.head.take();
                self.forget(slot);
                match (head, cause) {
                    (Some(head), _) if unprocessed => self.refuse(cx, slot, head),
                    (_, ResetCause::Error(error)) => {
                        self.session.set_fault(error.metric_label());
                        self.tell(cx, slot, Event::Close(CloseReason::Protocol));
                    }
                    _ if self.broken => self.tell(cx, slot, Event::Close(CloseReason::Protocol)),
                    (head, cause) => {
                        if let (Some(head), ResetCause::ConnectionEnded) = (head, cause) {
                            self.session.lose(slot, head);
                        }
                        self.tell(cx, slot, Event::Close(CloseReason::Reset));
                    }
                }
            }
            _ => {}
        }
    }

    fn response_head(
        &mut self,
        cx: &mut Cx<'_>,
        slot: Slot,
        mut head: Box<ResponseHead>,
        length: BodyLength,
    ) {
        let Some(request) = self.requests.get_mut(&slot) else { return };
        if let Some(asked) = request.head.take()
            && is_of_gateway(head.status)
        {
            self.session.lose(slot, asked);
        }
        if request.tunnel == Tunnel::Asked {
            if head.status == 101 || head.status / 100 == 2 {
                request.tunnel = Tunnel::Open;
                if let Some(digest) = &request.digest {
                    websocket::accept(&mut head, digest);
                }
            } else {
                request.tunnel = Tunnel::No;
                request.request_done = true;
                let _ = self.connection.send_end(request.stream, None);
                self.defer(cx);
            }
        }
        self.tell(cx, slot, Event::Start(Head::Response(head), length));
    }

    fn response_body(&mut self, cx: &mut Cx<'_>, stream: StreamId, data: Bytes) {
        let len = data.len();
        let slot = self.slots.get(&stream.get()).copied();
        // Nobody wants it any more.
        let Some((slot, request)) = slot.and_then(|slot| Some((slot, self.requests.get_mut(&slot)?))) else {
            return self.connection.release(stream, len);
        };
        if request.owed == 0 {
            self.fed.push(slot);
        }
        request.owed += len;
        self.tell(cx, slot, Event::Data(data));
    }

    /// What the owners have taken, the server may send again.
    fn release(&mut self) {
        for slot in std::mem::take(&mut self.fed) {
            let Some(request) = self.requests.get_mut(&slot) else { continue };
            if request.paused {
                self.fed.push(slot);
            } else {
                self.connection.release(request.stream, std::mem::take(&mut request.owed));
            }
        }
    }

    fn emit(&mut self, cx: &mut Cx<'_>) {
        if self.congested {
            return;
        }
        let written = self.connection.poll_output(&mut self.pieces, OUT_BYTES_MAX);
        self.session.count(written, 0);
        for bytes in self.pieces.drain(..) {
            cx.forward(Event::Data(bytes));
        }
        // Those whose queues have room again.
        self.pump(cx);
        if written >= OUT_BYTES_MAX && !self.output_waits {
            self.output_waits = true;
            cx.timer(Duration::ZERO, TIMER_OUTPUT);
        }
    }

    /// The connection is over: every request that is left is told why.
    fn fail(&mut self, cx: &mut Cx<'_>, reason: CloseReason) {
        self.session.retire();
        if self.ended {
            return;
        }
        self.ended = true;
        self.drop_all(cx, reason);
        self.congested = false;
        self.emit(cx);
        let own = cx.pipeline();
        cx.close(own);
    }

    fn drop_all(&mut self, cx: &mut Cx<'_>, reason: CloseReason) {
        self.slots.clear();
        // What was written before the connection was there has gone nowhere.
        let unmade = !self.session.was_heard()
            && matches!(
                reason,
                CloseReason::ConnectFailed
                    | CloseReason::ConnectTimeout
                    | CloseReason::TlsFailed
                    | CloseReason::WrongPeer
            );
        for (slot, request) in std::mem::take(&mut self.requests) {
            match request.head {
                Some(head) if unmade => self.session.give_back(slot, head),
                Some(head) => self.session.lose(slot, head),
                None => {}
            }
            self.tell(cx, slot, Event::Close(reason));
        }
        for (slot, head) in std::mem::take(&mut self.upgrades) {
            self.session.give_back(slot, head);
            self.tell(cx, slot, Event::Close(reason));
        }
    }

    /// Reading goes on unless the server does not read what it makes us write.
    fn pause_or_resume(&mut self, cx: &mut Cx<'_>) {
        let pause = !self.ended && !self.connection.wants_more_input();
        if pause != self.pausing {
            self.pausing = pause;
            cx.forward(if pause { Event::Pause } else { Event::Resume });
        }
    }

    fn defer(&mut self, cx: &mut Cx<'_>) {
        if !self.deferred {
            self.deferred = true;
            cx.defer();
        }
    }

    fn tick_on(&mut self, cx: &mut Cx<'_>) {
        if !self.ticking {
            self.ticking = true;
            cx.timer(TICK, TIMER_TICK);
        }
    }

    fn tick(&mut self, cx: &mut Cx<'_>) {
        self.ticking = false;
        self.connection.tick();
        if self.requests.is_empty() {
            self.pinged = None;
            return;
        }
        let keepalive = self.settings.keepalive;
        let silent = cx.now().saturating_duration_since(self.last_heard);
        match self.pinged {
            Some(since) if cx.now().saturating_duration_since(since) >= PONG => {
                return self.fail(cx, CloseReason::Reset);
            }
            None if !keepalive.is_zero() && silent >= keepalive && self.session.was_heard() => {
                self.pinged = Some(cx.now());
                self.connection.ping(*b"keepaliv");
                self.defer(cx);
            }
            _ => {}
        }
        self.tick_on(cx);
    }

    fn receive(&mut self, cx: &mut Cx<'_>, data: Bytes) {
        self.last_heard = cx.now();
        self.session.count(0, data.len());
        let result = self.connection.receive(data);
        self.broken = result.is_err();
        if let Err(error) = result {
            self.session.set_fault(error.metric_label());
        }
        self.pump(cx);
        if self.broken {
            return self.fail(cx, CloseReason::Protocol);
        }
        if self.connection.has_peer_settings() {
            let most = self.connection.peer_settings().max_concurrent_streams.unwrap_or(STREAMS_MAX);
            self.session.set_capacity(most.min(self.settings.streams()));
            for (slot, head) in std::mem::take(&mut self.upgrades) {
                self.send(cx, slot, head, BodyLength::None);
            }
        }
        self.pause_or_resume(cx);
        self.defer(cx);
    }
}

impl Filter for Http2Client {
    fn name(&self) -> &'static str {
        SPEC.name
    }

    fn start(&mut self, cx: &mut Cx<'_>) {
        self.session.set_pipeline(cx.pipeline());
        if !self.settings.age.is_zero() {
            cx.timer(self.settings.age, TIMER_AGE);
        }
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        // A retired session whose last request has ended.
        if let Event::Close(_) = event
            && self.requests.is_empty()
        {
            self.connection.shutdown();
            self.fail(cx, CloseReason::Finished);
        }
    }

    fn sub(&mut self, cx: &mut Cx<'_>, slot: Slot, event: Event) {
        match event {
            Event::Start(Head::Request(head), length) => self.request(cx, slot, head, length),
            Event::Start(Head::Response(_), _) => {}
            Event::Data(data) => self.request_body(cx, slot, data),
            Event::End(trailers) => self.request_end(cx, slot, trailers),
            Event::Close(reason) => self.request_closed(cx, slot, reason),
            Event::Pause | Event::Resume => {
                if let Some(request) = self.requests.get_mut(&slot) {
                    request.paused = matches!(event, Event::Pause);
                    self.defer(cx);
                }
            }
            Event::Custom(custom) => {
                if let Some(plain) = custom.plain() {
                    self.sub(cx, slot, plain);
                }
            }
        }
    }

    fn output(&mut self, cx: &mut Cx<'_>, event: Event) {
        match event {
            Event::Data(_) if self.ended => {}
            Event::Data(data) => self.receive(cx, data),
            Event::Close(CloseReason::Finished) => {
                let _ = self.connection.finish();
                self.pump(cx);
                self.fail(cx, CloseReason::Reset);
            }
            Event::Close(reason) => self.fail(cx, reason),
            Event::Pause => self.congested = true,
            Event::Resume => {
                self.congested = false;
                self.defer(cx);
            }
            Event::Start(..) | Event::End(_) | Event::Custom(_) => {}
        }
    }

    fn flush(&mut self, cx: &mut Cx<'_>) {
        self.deferred = false;
        if self.ended {
            return;
        }
        self.release();
        self.emit(cx);
        if self.connection.is_done() {
            return self.fail(cx, CloseReason::Finished);
        }
        self.pause_or_resume(cx);
        // Once per connection: one that is used all the time needs no look at the clock.
        if !self.idling && !self.settings.idle.is_zero() {
            self.idling = true;
            cx.timer(self.settings.idle, TIMER_IDLE);
        }
    }

    fn timer(&mut self, cx: &mut Cx<'_>, token: u32) {
        match token {
            _ if self.ended => {}
            TIMER_TICK => self.tick(cx),
            TIMER_AGE => self.drain(cx),
            TIMER_OUTPUT => {
                self.output_waits = false;
                self.defer(cx);
            }
            TIMER_IDLE => {
                let idle = self.session.idle_since().map(|since| cx.now().saturating_duration_since(since));
                match idle {
                    Some(idle) if idle >= self.settings.idle => {
                        self.connection.shutdown();
                        self.fail(cx, CloseReason::Finished);
                    }
                    Some(idle) => {
                        cx.timer(self.settings.idle - idle, TIMER_IDLE);
                    }
                    None => {
                        cx.timer(self.settings.idle, TIMER_IDLE);
                    }
                }
            }
            _ => {}
        }
    }

    fn drain(&mut self, cx: &mut Cx<'_>) {
        self.session.retire();
        if self.requests.is_empty() && self.upgrades.is_empty() {
            self.connection.shutdown();
            self.fail(cx, CloseReason::Finished);
        }
    }

    fn closed(&mut self, cx: &mut Cx<'_>) {
        self.session.retire();
        self.drop_all(cx, CloseReason::Reset);
    }
}
