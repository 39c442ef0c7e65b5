//! The server's side of HTTP/2, of `demuxHTTP`. Bytes on the left; each stream runs through a sub-pipeline of its own, as
//! each request of HTTP/1 does, whose output is the response.
//!
//! ```text
//!   exchange: Awaited ── 1xx ──► Awaited ── final head ──► Body ── end, trailers ──► gone
//!                │                            └─ 2xx to CONNECT, 101 to an upgrade ─► Tunnel ─ both ended ─► gone
//!                └─ nothing comes: answered here        either side fails: RST_STREAM, sub-pipeline destroyed
//! ```
//!
//! INVARIANTS: every byte of `Data` that the codec gives is released, at the end of the turn in which the sub-pipeline
//! could take it; a slow client pauses the sub-pipelines of its slow streams only; what a client makes us hold is bounded
//! by the codec's limits. Not here: frames, windows and floods (pipy-h2), what requests mean.

mod exchange;
mod ticks;

use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pipy_h2::{Config, Connection, ErrorCode, Event as Heard, Pressure, ResetCause, StreamId};
use pipy_http::{BodyLength, Headers, Method, RequestHead, ResponseHead, strip_hop_by_hop};
use pipy_pipeline::{CloseReason, Cx, Event, Filter, Head, Slot};

use crate::http_server::{DRAIN_GRACE, HttpService, LINGER, Limits, SPEC, status_of};
use crate::ids::Ids;

use exchange::{Asked, Exchange, Response};

/// LIMIT: bytes handed to the socket per turn; more waits, in the order that the codec still can change.
const OUT_BYTES_MAX: usize = 128 * 1024;

const TIMER_IDLE: u32 = 16;
const TIMER_LINGER: u32 = 17;
const TIMER_DRAIN: u32 = 18;
const TIMER_TICK: u32 = 19;
const TIMER_AGE: u32 = 20;
const TIMER_OUTPUT: u32 = 21;

/// See the module.
pub(crate) struct Http2Server {
    service: Rc<dyn HttpService>,
    limits: Limits,
    connection: Connection,
    exchanges: Ids<Exchange>,
    /// Requests that have begun.
    begun: u32,
    /// Streams whose sub-pipelines have been given data in this turn.
    fed: Vec<Slot>,
    /// Tunnels both of whose sides have ended in this turn.
    over: Vec<Slot>,
    pieces: Vec<Bytes>,
    last_active: Instant,
    /// Since when a head has been under way without an end.
    head_since: Option<Instant>,
    quiet_ticks: u32,
    ticking: bool,
    deferred: bool,
    output_waits: bool,
    closing: bool,
    /// The client's socket can't take more.
    congested: bool,
    /// We have told the client's socket to stop reading.
    pausing: bool,
}

/// What is announced to a client.
pub(crate) fn config(limits: &Limits) -> Config {
    let config = limits.bytes.http2(Config { extended_connect: true, ..Config::default() });
    match limits.streams {
        0 => config,
        streams => Config { max_concurrent_streams: streams, ..config },
    }
}

impl Http2Server {
    /// A server for a connection whose client's first bytes are those of HTTP/2.
    pub(crate) fn new(service: Rc<dyn HttpService>, limits: Limits, congested: bool, now: Instant) -> Self {
        let mut config = config(&limits);
        if service.carries_many() {
            config.connection_window = config.window_apart(config.max_concurrent_streams);
        }
        Self::turned(Connection::server(config), service, limits, congested, now)
    }

    /// A server for a connection that has begun in HTTP/1; [`go_on`](Self::go_on) serves what was asked there.
    pub(crate) fn turned(
        connection: Connection,
        service: Rc<dyn HttpService>,
        limits: Limits,
        congested: bool,
        now: Instant,
    ) -> Self {
        Http2Server {
            service,
            limits,
            connection,
            exchanges: Ids::default(),
            begun: 0,
            fed: Vec::new(),
            over: Vec::new(),
            pieces: Vec::new(),
            last_active: now,
            head_since: None,
            quiet_ticks: 0,
            ticking: false,
            deferred: false,
            output_waits: false,
            closing: false,
            congested,
            pausing: false,
        }
    }

    /// Serves what was asked before the first frame.
    pub(crate) fn go_on(&mut self, cx: &mut Cx<'_>) {
        self.head_since = Some(cx.now());
        self.pump(cx);
        self.tick_on(cx);
        self.defer(cx);
    }

    fn receive(&mut self, cx: &mut Cx<'_>, data: Bytes) {
        let result = self.connection.receive(data);
        self.pump(cx);
        if let Err(error) = result {
            self.service.broken(error.metric_label(), &error);
            return self.close(cx);
        }
        if !self.connection.is_reading_head() {
            self.head_since = None;
        } else if self.head_since.is_none() {
            self.head_since = Some(cx.now());
        }
        self.tick_on(cx);
        self.pause_or_resume(cx);
        self.defer(cx);
    }

    /// Carries out what the codec has heard.
    fn pump(&mut self, cx: &mut Cx<'_>) {
        while let Some(heard) = self.connection.next_event() {
            match heard {
                Heard::Request { stream, head, body, .. } => self.begin(cx, stream, head, body),
                Heard::Data { stream, data } => self.request_body(cx, stream, data),
                Heard::End { stream, trailers } => self.request_end(cx, stream, trailers),
                Heard::Writable { stream } => self.writable(cx, stream),
                Heard::Reset { stream, cause, .. } => {
                    if let ResetCause::Error(error) = &cause {
                        self.service.broken(error.metric_label(), error);
                    }
                    self.drop_exchange(cx, stream.get());
                }
                Heard::Refused { error, .. } => self.service.broken(error.metric_label(), &error),
                // It opens no more streams: when the last one has ended there is nothing left to wait for.
                Heard::GoAway { .. } => self.connection.shutdown(),
                _ => {}
            }
        }
    }

    fn begin(&mut self, cx: &mut Cx<'_>, stream: StreamId, head: Box<RequestHead>, length: BodyLength) {
        let asked = match head.method {
            Method::Connect => Asked::Connect,
            _ if head.is_upgrade() => Asked::Upgrade,
            _ => Asked::Nothing,
        };
        let slot = stream.get();
        let sub = cx.open(self.service.request(), slot);
        cx.send(sub, Event::Start(Head::Request(head), length));
        // What follows are bytes of a tunnel: the message itself is its head.
        if asked != Asked::Nothing {
            cx.send(sub, Event::End(None));
        }
        self.exchanges.insert(slot, Exchange::new(stream, sub, asked, cx.now()));
        self.begun = self.begun.saturating_add(1);
        if self.begun == self.limits.requests {
            self.leave(cx);
        }
    }

    fn request_body(&mut self, cx: &mut Cx<'_>, stream: StreamId, data: Bytes) {
        let len = data.len();
        // Nobody wants it any more.
        let Some(exchange) = self.exchanges.get_mut(&stream.get()) else {
            return self.connection.release(stream, len);
        };
        exchange.last_active = cx.now();
        if exchange.owed == 0 {
            self.fed.push(stream.get());
        }
        exchange.owed += len;
        if exchange.asked != Asked::Nothing && exchange.response != Response::Tunnel {
            exchange.early.push(data);
        } else {
            cx.send(exchange.sub, Event::Data(data));
        }
    }

    fn request_end(&mut self, cx: &mut Cx<'_>, stream: StreamId, trailers: Option<Box<Headers>>) {
        let Some(exchange) = self.exchanges.get_mut(&stream.get()) else { return };
        exchange.request_done = true;
        exchange.last_active = cx.now();
        match (exchange.asked, exchange.response) {
            (Asked::Nothing, _) => cx.send(exchange.sub, Event::End(trailers)),
            (_, Response::Tunnel) => {
                cx.send(exchange.sub, Event::Close(CloseReason::Finished));
                if exchange.response_done {
                    // Not before the sub-pipeline has heard of it.
                    self.over.push(stream.get());
                    self.defer(cx);
                }
            }
            // It is told when the tunnel is there.
            _ => {}
        }
    }

    fn writable(&mut self, cx: &mut Cx<'_>, stream: StreamId) {
        if let Some(exchange) = self.exchanges.get_mut(&stream.get())
            && std::mem::take(&mut exchange.waiting)
        {
            exchange.last_active = cx.now();
            cx.send(exchange.sub, Event::Resume);
        }
    }

    fn response_head(
        &mut self,
        cx: &mut Cx<'_>,
        slot: Slot,
        mut head: Box<ResponseHead>,
        length: BodyLength,
    ) {
        let Some(exchange) = self.exchanges.get_mut(&slot) else { return };
        if exchange.response != Response::Awaited {
            return self.fail(cx, slot, ErrorCode::INTERNAL_ERROR);
        }
        let stream = exchange.stream;
        if head.is_interim() {
            strip_hop_by_hop(&mut head.headers, false);
            if self.connection.send_interim(stream, &head).is_err() {
                return self.fail(cx, slot, ErrorCode::INTERNAL_ERROR);
            }
            return self.defer(cx);
        }
        let tunnel = match exchange.asked {
            Asked::Nothing => false,
            Asked::Upgrade => head.status == 101,
            Asked::Connect => head.status / 100 == 2,
        };
        strip_hop_by_hop(&mut head.headers, false);
        exchange.response = if tunnel { Response::Tunnel } else { Response::Body };
        // An upgrade has other words for no than 2xx, which would mean yes (RFC 8441 section 4).
        if exchange.asked == Asked::Upgrade && head.status / 100 == 2 {
            return self.answer(cx, slot, 502, "the upstream has not changed the protocol");
        }
        if self.connection.send_response(stream, &head, length).is_err() {
            return self.fail(cx, slot, ErrorCode::INTERNAL_ERROR);
        }
        if tunnel {
            let Some(exchange) = self.exchanges.get_mut(&slot) else { return };
            for data in std::mem::take(&mut exchange.early) {
                cx.send(exchange.sub, Event::Data(data));
            }
            if exchange.request_done {
                cx.send(exchange.sub, Event::Close(CloseReason::Finished));
            }
        }
        self.defer(cx);
    }

    fn response_body(&mut self, cx: &mut Cx<'_>, slot: Slot, data: Bytes) {
        let Some(exchange) = self.exchanges.get_mut(&slot) else { return };
        if exchange.response == Response::Awaited {
            return;
        }
        match self.connection.send_data(exchange.stream, data) {
            Ok(Pressure::GoOn) => {}
            Ok(Pressure::Wait) => {
                if !std::mem::replace(&mut exchange.waiting, true) {
                    cx.send(exchange.sub, Event::Pause);
                }
            }
            // More than the response announced, or more than a paused producer may send.
            Err(_) => return self.fail(cx, slot, ErrorCode::INTERNAL_ERROR),
        }
        self.defer(cx);
    }

    fn response_end(&mut self, cx: &mut Cx<'_>, slot: Slot, trailers: Option<Box<Headers>>) {
        let Some(exchange) = self.exchanges.get(&slot) else { return };
        if exchange.response != Response::Body {
            return;
        }
        let (stream, request_done) = (exchange.stream, exchange.request_done);
        if self.connection.send_end(stream, trailers).is_err() {
            return self.fail(cx, slot, ErrorCode::INTERNAL_ERROR);
        }
        if !request_done {
            self.connection.abandon(stream);
        }
        self.drop_exchange(cx, slot);
        self.defer(cx);
    }

    /// The sub-pipeline ended, with or without a response.
    fn response_gone(&mut self, cx: &mut Cx<'_>, slot: Slot, reason: CloseReason) {
        let Some(exchange) = self.exchanges.get_mut(&slot) else { return };
        match exchange.response {
            Response::Awaited => self.answer(cx, slot, status_of(reason), reason.label()),
            Response::Tunnel if reason.is_clean() => {
                exchange.response_done = true;
                let _ = self.connection.send_end(exchange.stream, None);
                if exchange.request_done {
                    self.drop_exchange(cx, slot);
                }
                self.defer(cx);
            }
            Response::Tunnel => self.fail(cx, slot, ErrorCode::CONNECT_ERROR),
            // Nothing has moved for too long, and it may be the client that does not read.
            Response::Body if exchange.told => self.fail(cx, slot, ErrorCode::CANCEL),
            Response::Body => self.fail(cx, slot, ErrorCode::INTERNAL_ERROR),
        }
    }

    /// Answers by ourselves.
    fn answer(&mut self, cx: &mut Cx<'_>, slot: Slot, status: u16, words: &str) {
        let Some(exchange) = self.exchanges.get(&slot) else { return };
        let (stream, request_done) = (exchange.stream, exchange.request_done);
        let mut head = ResponseHead::new(status);
        // A fixed header can't be refused, and a client that takes no header of this size takes no response.
        let _ = head.headers.append("content-type", "text/plain");
        let body = Bytes::from(format!("{words}\n"));
        let length = BodyLength::Length(body.len() as u64);
        if self.connection.send_response(stream, &head, length).is_err() {
            return self.fail(cx, slot, ErrorCode::INTERNAL_ERROR);
        }
        let _ = self.connection.send_data(stream, body);
        let _ = self.connection.send_end(stream, None);
        if !request_done {
            self.connection.abandon(stream);
        }
        self.drop_exchange(cx, slot);
        self.defer(cx);
    }

    /// Ends a stream so that the client sees an error: a message was cut off.
    fn fail(&mut self, cx: &mut Cx<'_>, slot: Slot, code: ErrorCode) {
        if let Some(exchange) = self.exchanges.get(&slot) {
            self.connection.reset(exchange.stream, code);
        }
        self.drop_exchange(cx, slot);
        self.defer(cx);
    }

    fn drop_exchange(&mut self, cx: &mut Cx<'_>, slot: Slot) {
        if let Some(exchange) = self.exchanges.remove(&slot) {
            self.connection.release(exchange.stream, exchange.owed);
            cx.destroy(exchange.sub);
        }
    }

    /// What the sub-pipelines have taken, the client may send again.
    fn release(&mut self) {
        for slot in std::mem::take(&mut self.fed) {
            let Some(exchange) = self.exchanges.get_mut(&slot) else { continue };
            if !exchange.paused && exchange.early.is_empty() {
                self.connection.release(exchange.stream, std::mem::take(&mut exchange.owed));
            } else {
                self.fed.push(slot);
            }
        }
    }

    fn emit(&mut self, cx: &mut Cx<'_>) {
        if self.congested {
            return;
        }
        let written = self.connection.poll_output(&mut self.pieces, OUT_BYTES_MAX);
        for bytes in self.pieces.drain(..) {
            cx.back(Event::Data(bytes));
        }
        // Those whose queues have room again.
        self.pump(cx);
        if written >= OUT_BYTES_MAX && !self.output_waits {
            self.output_waits = true;
            cx.timer(Duration::ZERO, TIMER_OUTPUT);
        }
    }

    /// Ends the connection: what is written is sent first.
    fn close(&mut self, cx: &mut Cx<'_>) {
        if self.closing {
            return;
        }
        self.closing = true;
        self.drop_all(cx);
        self.congested = false;
        self.emit(cx);
        cx.back(Event::Close(CloseReason::Finished));
        cx.timer(LINGER, TIMER_LINGER);
        if self.pausing {
            self.pausing = false;
            cx.back(Event::Resume);
        }
    }

    fn drop_all(&mut self, cx: &mut Cx<'_>) {
        for (_, exchange) in self.exchanges.drain() {
            cx.destroy(exchange.sub);
        }
    }

    /// Reading goes on unless the client does not read what it makes us write.
    fn pause_or_resume(&mut self, cx: &mut Cx<'_>) {
        let pause = !self.closing && !self.connection.wants_more_input();
        if pause != self.pausing {
            self.pausing = pause;
            cx.back(if pause { Event::Pause } else { Event::Resume });
        }
    }

    fn defer(&mut self, cx: &mut Cx<'_>) {
        if !self.deferred {
            self.deferred = true;
            cx.defer();
        }
    }

    fn leave(&mut self, cx: &mut Cx<'_>) {
        self.connection.shutdown();
        cx.timer(DRAIN_GRACE, TIMER_DRAIN);
        self.defer(cx);
    }
}

impl Filter for Http2Server {
    fn name(&self) -> &'static str {
        SPEC.name
    }

    fn start(&mut self, cx: &mut Cx<'_>) {
        if !self.limits.idle.is_zero() {
            cx.timer(self.limits.idle, TIMER_IDLE);
        }
        if !self.limits.age.is_zero() {
            cx.timer(self.limits.age, TIMER_AGE);
        }
        if cx.draining() {
            self.leave(cx);
        }
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        self.last_active = cx.now();
        match event {
            // What comes after the end is read to let the client finish, and dropped.
            Event::Data(_) | Event::Close(_) if self.closing => {}
            Event::Data(data) => self.receive(cx, data),
            Event::Close(CloseReason::Finished) => {
                // Nobody is cut off who has closed between two requests.
                if let Err(error) = self.connection.finish() {
                    self.service.broken(error.metric_label(), &error);
                }
                self.pump(cx);
                self.close(cx);
            }
            Event::Close(reason) => {
                self.closing = true;
                self.drop_all(cx);
                // The socket may still be there: a TLS stream that was cut short ends without a failure of the socket.
                cx.back(Event::Close(reason));
            }
            Event::Pause => self.congested = true,
            Event::Resume => {
                self.congested = false;
                self.defer(cx);
            }
            Event::Start(..) | Event::End(_) | Event::Custom(_) => {}
        }
    }

    fn sub(&mut self, cx: &mut Cx<'_>, slot: Slot, event: Event) {
        let Some(exchange) = self.exchanges.get_mut(&slot) else { return };
        exchange.last_active = cx.now();
        self.last_active = cx.now();
        match event {
            Event::Start(Head::Response(head), length) => self.response_head(cx, slot, head, length),
            Event::Start(Head::Request(_), _) => self.fail(cx, slot, ErrorCode::INTERNAL_ERROR),
            Event::Data(data) => self.response_body(cx, slot, data),
            Event::End(trailers) => self.response_end(cx, slot, trailers),
            Event::Close(reason) => self.response_gone(cx, slot, reason),
            Event::Pause => exchange.paused = true,
            Event::Resume => {
                exchange.paused = false;
                self.defer(cx);
            }
            Event::Custom(custom) => {
                if let Some(plain) = custom.plain() {
                    self.sub(cx, slot, plain);
                }
            }
        }
    }

    fn flush(&mut self, cx: &mut Cx<'_>) {
        self.deferred = false;
        if self.closing {
            return;
        }
        for slot in std::mem::take(&mut self.over) {
            self.drop_exchange(cx, slot);
        }
        self.release();
        self.emit(cx);
        if self.connection.is_done() {
            return self.close(cx);
        }
        self.pause_or_resume(cx);
    }

    fn timer(&mut self, cx: &mut Cx<'_>, token: u32) {
        match token {
            TIMER_LINGER => cx.back(Event::Close(CloseReason::IdleTimeout)),
            _ if self.closing => {}
            TIMER_TICK => self.tick(cx),
            TIMER_OUTPUT => {
                self.output_waits = false;
                self.defer(cx);
            }
            TIMER_IDLE => {
                let idle = cx.now().saturating_duration_since(self.last_active);
                match self.limits.idle.checked_sub(idle) {
                    Some(left) if !left.is_zero() => {
                        cx.timer(left, TIMER_IDLE);
                    }
                    // Streams have their own limit, which answers them.
                    _ if !self.exchanges.is_empty() => {
                        cx.timer(self.limits.idle, TIMER_IDLE);
                    }
                    _ => self.leave(cx),
                }
            }
            TIMER_AGE => self.leave(cx),
            TIMER_DRAIN => {
                self.connection.leave_now();
                self.defer(cx);
            }
            _ => {}
        }
    }

    fn drain(&mut self, cx: &mut Cx<'_>) {
        if !self.closing {
            self.leave(cx);
        }
    }

    fn closed(&mut self, cx: &mut Cx<'_>) {
        self.drop_all(cx);
    }
}
