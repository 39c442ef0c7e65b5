//! The server's side of HTTP/1, of `demuxHTTP`. Bytes on the left; each request runs through a sub-pipeline of its own,
//! whose output is the response.
//!
//! ```text
//!            ┌──────── request complete and response complete, keep-alive ────────┐
//!            ▼                                                                    │
//!   idle ─ head ─► exchange (request and response each begin and end in their own time)
//!     │                │  101 or CONNECT 2xx ─► tunnel: bytes both ways
//!     └─ end, error, drain ─► closing: what is written is sent, then the end, then a short wait for the client's, which
//!                             is not waited for where the client has said that nothing more comes
//! ```
//!
//! INVARIANTS: one exchange at a time, so responses leave in the order of requests; what a client sends ahead is held
//! back by pausing the socket, so memory stays bounded; after an error nothing more of the connection is read.

use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pipy_h2::Connection;
use pipy_http::{
    BodyEncoder, BodyLength, HttpError, Method, ReplyTo, RequestDecoder, RequestHead, RequestItem,
    ResponseHead, encode_response_head, strip_hop_by_hop,
};
use pipy_pipeline::{CloseReason, Cx, Event, Filter, Head, PipelineId, Slot, TimerId};

use crate::h2c;
use crate::http_server::{ANSWER_GRACE, DRAIN_GRACE, HttpService, LINGER, Limits, SPEC, status_of};
use crate::http2_server;
use crate::out::Out;

/// LIMIT: bytes that a client may send ahead of the exchange in progress before its socket is paused.
const AHEAD_BYTES_MAX: usize = 64 * 1024;

/// LIMIT: how long a client that has ended its side still gets an answer. One that is gone looks the same until it is written
/// to, and would hold its request at a server that does not answer; nginx and Envoy wait for none.
const HALF_CLOSED_MAX: Duration = Duration::from_secs(5);

const TIMER_HEAD: u32 = 0;
const TIMER_IDLE: u32 = 1;
const TIMER_LINGER: u32 = 2;
const TIMER_DRAIN: u32 = 3;
const TIMER_GONE: u32 = 4;
const TIMER_AGE: u32 = 5;

/// See the module.
pub(crate) struct Http1Server {
    service: Rc<dyn HttpService>,
    limits: Limits,
    decoder: RequestDecoder,
    out: Out,
    /// The request in progress.
    exchange: Option<Exchange>,
    /// Names the sub-pipelines one after the other, so that what an old one still says is not heard.
    slot: Slot,
    last_active: Instant,
    deferred: bool,
    /// The client goes on in HTTP/2: nothing more is done here.
    turned: Option<Box<Connection>>,
    /// Runs while a request head is under way.
    head_timer: Option<TimerId>,
    input_ended: bool,
    /// It is old, or has carried all that it may: the response in progress, or the next one, is the last.
    leaving: bool,
    closing: bool,
    /// The client's socket can't take more.
    congested: bool,
    /// We have told the client's socket to stop reading.
    pausing: bool,
}

struct Exchange {
    sub: PipelineId,
    reply: ReplyTo,
    tunnel: Asked,
    request_done: bool,
    /// The client has said that no other request follows.
    last: bool,
    response: Response,
    /// The sub-pipeline can't take more.
    paused: bool,
    /// The sub-pipeline was told that nothing has moved for too long.
    told: bool,
}

/// What the request asks the connection to become.
#[derive(PartialEq, Eq)]
enum Asked {
    Nothing,
    Upgrade,
    Connect,
}

enum Response {
    Awaited,
    Body(BodyEncoder),
    Done,
    Tunnel,
}

impl Http1Server {
    /// A server for a new connection.
    pub(crate) fn new(service: Rc<dyn HttpService>, limits: Limits, now: Instant) -> Self {
        Http1Server {
            service,
            limits,
            decoder: RequestDecoder::new(limits.bytes.http1()),
            out: Out::default(),
            exchange: None,
            slot: 0,
            last_active: now,
            deferred: false,
            turned: None,
            head_timer: None,
            input_ended: false,
            leaving: false,
            closing: false,
            congested: false,
            pausing: false,
        }
    }

    /// Whether the client's socket can't take more.
    pub(crate) fn is_congested(&self) -> bool {
        self.congested
    }

    /// The connection of HTTP/2 that the first request has asked for and been granted.
    pub(crate) fn take_turned(&mut self) -> Option<Box<Connection>> {
        self.turned.take()
    }

    /// Reads on, until bytes run out or a response must come first.
    fn pump(&mut self, cx: &mut Cx<'_>) {
        while !self.closing && self.exchange.as_ref().is_none_or(|exchange| !exchange.request_done) {
            match self.decoder.next() {
                Ok(Some(RequestItem::Head(head, length))) => {
                    let Some(head) = self.turn(cx, head, length) else { return };
                    self.begin(cx, head, length);
                }
                Ok(Some(RequestItem::Data(data))) => self.feed(cx, Event::Data(data)),
                Ok(Some(RequestItem::End(trailers))) => {
                    self.feed(cx, Event::End(trailers.map(Box::new)));
                    if let Some(exchange) = &mut self.exchange {
                        exchange.request_done = true;
                    }
                    self.finish_exchange(cx);
                }
                Ok(None) => break,
                Err(error) => return self.refuse(cx, &error),
            }
        }
        if self.closing {
            return;
        }
        if self.exchange.is_none() && self.input_ended {
            return self.close(cx);
        }
        let partial = self.exchange.is_none() && !self.decoder.is_idle();
        if partial && self.head_timer.is_none() && !self.limits.head.is_zero() {
            self.head_timer = Some(cx.timer(self.limits.head, TIMER_HEAD));
        }
        self.pause_or_resume(cx);
    }

    /// Grants the wish of a first request for HTTP/2, where nothing speaks against it; else gives the request back.
    fn turn(
        &mut self,
        cx: &Cx<'_>,
        mut head: Box<RequestHead>,
        length: BodyLength,
    ) -> Option<Box<RequestHead>> {
        // What came with the head would be read as frames, and was maybe meant as a request.
        if self.slot != 0 || self.decoder.buffered() > 0 || self.is_leaving(cx) || !self.service.may_turn() {
            return Some(head);
        }
        let Some(settings) = h2c::wish(&head, length) else { return Some(head) };
        let as_sent = head.clone();
        strip_hop_by_hop(&mut head.headers, false);
        match Connection::server_upgraded(http2_server::config(&self.limits), &settings, head) {
            Ok(connection) => {
                self.turned = Some(Box::new(connection));
                None
            }
            Err(_) => Some(as_sent),
        }
    }

    fn begin(&mut self, cx: &mut Cx<'_>, mut head: Box<RequestHead>, length: BodyLength) {
        if let Some(timer) = self.head_timer.take() {
            cx.cancel(timer);
        }
        let mut reply = ReplyTo::new(&head);
        let last = !reply.keep_alive;
        self.slot = self.slot.wrapping_add(1);
        self.leaving |= self.limits.requests > 0 && self.slot >= self.limits.requests;
        reply.keep_alive &= !self.is_leaving(cx);
        let upgrade = head.is_upgrade();
        strip_hop_by_hop(&mut head.headers, upgrade);
        let tunnel = match head.method {
            Method::Connect => Asked::Connect,
            _ if upgrade => Asked::Upgrade,
            _ => Asked::Nothing,
        };
        let sub = cx.open(self.service.request(), self.slot);
        if self.congested {
            cx.send(sub, Event::Pause);
        }
        cx.send(sub, Event::Start(Head::Request(head), length));
        let response = Response::Awaited;
        let (request_done, paused, told) = (false, false, false);
        self.exchange = Some(Exchange { sub, reply, tunnel, request_done, last, response, paused, told });
    }

    fn feed(&mut self, cx: &mut Cx<'_>, event: Event) {
        if let Some(exchange) = &self.exchange {
            cx.send(exchange.sub, event);
        }
    }

    fn response_head(&mut self, cx: &mut Cx<'_>, mut head: Box<ResponseHead>, length: BodyLength) {
        let leaving = self.is_leaving(cx);
        let Some(exchange) = &mut self.exchange else { return };
        if !matches!(exchange.response, Response::Awaited) {
            return self.abort(cx);
        }
        let tunnel = match exchange.tunnel {
            Asked::Nothing => false,
            Asked::Upgrade => head.status == 101,
            Asked::Connect => head.status / 100 == 2,
        };
        strip_hop_by_hop(&mut head.headers, head.status == 101);
        if !exchange.request_done && !head.is_interim() {
            // What is left of the request would have to be read and thrown away; the client is told to stop instead.
            exchange.reply.keep_alive = false;
        }
        let refused = exchange.tunnel != Asked::Nothing && !tunnel && !head.is_interim();
        if refused && self.decoder.buffered() > 0 {
            // Sent in the hope of a tunnel: to read it as requests would let them in through the back door.
            exchange.reply.keep_alive = false;
        }
        exchange.reply.keep_alive &= !leaving;
        // Chunks say where the body ends and spare the client's connection; clients that know none get no chunks.
        let length = if length == BodyLength::UntilClose { BodyLength::Chunked } else { length };
        match encode_response_head(&head, length, exchange.reply, &mut self.out.bytes) {
            Ok(_) if tunnel => {
                exchange.response = Response::Tunnel;
                if self.decoder.switch_to_tunnel().is_err() {
                    return self.abort(cx);
                }
            }
            Ok(_) if head.is_interim() => {}
            Ok(encoder) => {
                exchange.reply.keep_alive &= !encoder.must_close();
                exchange.response = Response::Body(encoder);
            }
            Err(_) => return self.abort(cx),
        }
        self.defer(cx);
        if tunnel {
            self.pump_tunnel(cx);
        }
    }

    fn response_body(&mut self, cx: &mut Cx<'_>, data: Bytes) {
        let Some(exchange) = &mut self.exchange else { return };
        let written = match &mut exchange.response {
            Response::Body(encoder) => self.out.body(encoder, data),
            Response::Tunnel => {
                self.out.piece(data);
                Ok(())
            }
            Response::Awaited | Response::Done => Ok(()),
        };
        match written {
            // More than the response announced: the client can't know where it ends.
            Err(_) => self.abort(cx),
            Ok(()) if self.out.len() > AHEAD_BYTES_MAX => self.emit(cx),
            Ok(()) => self.defer(cx),
        }
    }

    fn response_end(&mut self, cx: &mut Cx<'_>, trailers: Option<&pipy_http::Headers>) {
        let Some(exchange) = &mut self.exchange else { return };
        if let Response::Body(encoder) = std::mem::replace(&mut exchange.response, Response::Done) {
            if encoder.end(trailers, &mut self.out.bytes).is_err() {
                return self.abort(cx);
            }
            self.defer(cx);
            self.finish_exchange(cx);
        }
    }

    /// The sub-pipeline ended, with or without a response.
    fn response_gone(&mut self, cx: &mut Cx<'_>, reason: CloseReason) {
        let Some(exchange) = &self.exchange else { return };
        match exchange.response {
            Response::Done => {}
            Response::Tunnel => {
                self.emit(cx);
                cx.back(Event::Close(reason));
            }
            Response::Awaited => {
                let reply = exchange.reply;
                self.answer(cx, status_of(reason), reply, reason.label());
            }
            Response::Body(_) => self.abort(cx),
        }
    }

    /// Both sides of the exchange are complete: on to the next request, or to the end.
    fn finish_exchange(&mut self, cx: &mut Cx<'_>) {
        let Some(exchange) = &self.exchange else { return };
        if !matches!(exchange.response, Response::Done) {
            return;
        }
        if !exchange.reply.keep_alive {
            // RFC 9112 section 9.6: who announces the end of a connection sends nothing more.
            if exchange.last && exchange.request_done && self.decoder.buffered() == 0 {
                cx.heard();
            }
            return self.close(cx);
        }
        if !exchange.request_done {
            return;
        }
        cx.destroy(exchange.sub);
        self.exchange = None;
        if self.is_leaving(cx) {
            // The response did not say that it was the last, for it had begun before.
            cx.timer(DRAIN_GRACE, TIMER_DRAIN);
        }
    }

    /// Answers by ourselves, and ends the connection.
    fn answer(&mut self, cx: &mut Cx<'_>, status: u16, mut reply: ReplyTo, words: &str) {
        reply.keep_alive = false;
        let mut head = ResponseHead::new(status);
        let body = format!("{words}\n");
        // Neither a fixed header nor a known status can fail to be written.
        let _ = head.headers.append("content-type", "text/plain");
        let length = BodyLength::Length(body.len() as u64);
        if let Ok(mut encoder) = encode_response_head(&head, length, reply, &mut self.out.bytes) {
            let _ = encoder.encode(body.as_bytes(), &mut self.out.bytes);
        }
        self.close(cx);
    }

    /// Nothing has moved for too long.
    fn idle(&mut self, cx: &mut Cx<'_>) {
        match &mut self.exchange {
            // Who looks after the request knows best what to say, and counts it.
            Some(exchange) if !exchange.told && !matches!(exchange.response, Response::Done) => {
                exchange.told = true;
                let sub = exchange.sub;
                cx.send(sub, Event::Close(CloseReason::IdleTimeout));
                cx.timer(ANSWER_GRACE, TIMER_IDLE);
            }
            Some(exchange) if matches!(exchange.response, Response::Awaited) => {
                let reply = exchange.reply;
                self.answer(cx, 504, reply, "nothing moved for too long");
            }
            Some(_) => self.abort(cx),
            None => self.close(cx),
        }
    }

    fn refuse(&mut self, cx: &mut Cx<'_>, error: &HttpError) {
        self.service.malformed(error);
        // RFC 9113 section 3.4: who names no version of HTTP at all speaks something else, and would not read an answer.
        if let HttpError::InvalidRequestLine { found } = error
            && self.slot == 0
            && found.split(' ').nth(2).is_some_and(|_| !found.to_ascii_uppercase().contains("HTTP"))
        {
            return self.close(cx);
        }
        let unanswered = self.exchange.as_ref().is_none_or(|e| matches!(e.response, Response::Awaited));
        if unanswered && !matches!(error, HttpError::Truncated { .. }) {
            self.answer(cx, error.status(), ReplyTo::unreadable(), &error.to_string());
        } else {
            self.abort(cx);
        }
    }

    /// Ends the connection in good order: what is written is sent first.
    fn close(&mut self, cx: &mut Cx<'_>) {
        if self.closing {
            return;
        }
        self.closing = true;
        self.drop_exchange(cx);
        self.emit(cx);
        cx.back(Event::Close(CloseReason::Finished));
        cx.timer(LINGER, TIMER_LINGER);
        if self.pausing {
            self.pausing = false;
            cx.back(Event::Resume);
        }
    }

    /// Ends the connection so that the client sees an error: a message was cut off.
    fn abort(&mut self, cx: &mut Cx<'_>) {
        self.closing = true;
        self.drop_exchange(cx);
        self.emit(cx);
        cx.back(Event::Close(CloseReason::Reset));
    }

    fn drop_exchange(&mut self, cx: &mut Cx<'_>) {
        if let Some(exchange) = self.exchange.take() {
            cx.destroy(exchange.sub);
        }
    }

    fn pump_tunnel(&mut self, cx: &mut Cx<'_>) {
        while let Ok(Some(RequestItem::Data(data))) = self.decoder.next() {
            self.feed(cx, Event::Data(data));
        }
        self.pause_or_resume(cx);
    }

    fn is_leaving(&self, cx: &Cx<'_>) -> bool {
        self.leaving || cx.draining()
    }

    fn is_awaiting(&self) -> bool {
        self.exchange.as_ref().is_some_and(|exchange| matches!(exchange.response, Response::Awaited))
    }

    fn in_tunnel(&self) -> bool {
        self.exchange.as_ref().is_some_and(|exchange| matches!(exchange.response, Response::Tunnel))
    }

    /// Reading goes on unless the sub-pipeline can't take more or the client is too far ahead.
    fn pause_or_resume(&mut self, cx: &mut Cx<'_>) {
        let paused = self.exchange.as_ref().is_some_and(|exchange| exchange.paused);
        let pause = paused || self.decoder.buffered() > AHEAD_BYTES_MAX;
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

    fn emit(&mut self, cx: &mut Cx<'_>) {
        for bytes in self.out.take() {
            cx.back(Event::Data(bytes));
        }
    }
}

impl Filter for Http1Server {
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
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        self.last_active = cx.now();
        match event {
            // What comes after the end is read to let the client finish, and dropped.
            Event::Data(_) if self.closing => {}
            Event::Data(data) => {
                self.decoder.push(data);
                if self.in_tunnel() { self.pump_tunnel(cx) } else { self.pump(cx) }
            }
            Event::Close(_) if self.closing => {}
            Event::Close(CloseReason::Finished) => {
                self.input_ended = true;
                if self.in_tunnel() {
                    return self.feed(cx, Event::Close(CloseReason::Finished));
                }
                self.decoder.finish();
                self.pump(cx);
                if self.exchange.is_some() && !self.closing {
                    cx.timer(HALF_CLOSED_MAX, TIMER_GONE);
                }
            }
            Event::Close(reason) => {
                self.closing = true;
                self.drop_exchange(cx);
                // The socket may still be there: a TLS stream that was cut short ends without a failure of the socket.
                cx.back(Event::Close(reason));
            }
            Event::Pause | Event::Resume => {
                self.congested = matches!(event, Event::Pause);
                self.feed(cx, event);
            }
            Event::Start(..) | Event::End(_) | Event::Custom(_) => {}
        }
    }

    fn sub(&mut self, cx: &mut Cx<'_>, slot: Slot, event: Event) {
        if slot != self.slot || self.exchange.is_none() {
            return;
        }
        self.last_active = cx.now();
        match event {
            Event::Start(Head::Response(head), length) => self.response_head(cx, head, length),
            Event::Start(Head::Request(_), _) => self.abort(cx),
            Event::Data(data) => self.response_body(cx, data),
            Event::End(trailers) => {
                self.response_end(cx, trailers.as_deref());
                if self.exchange.is_none() {
                    self.pump(cx);
                }
            }
            Event::Close(reason) => self.response_gone(cx, reason),
            Event::Pause | Event::Resume => {
                if let Some(exchange) = &mut self.exchange {
                    exchange.paused = matches!(event, Event::Pause);
                }
                self.pause_or_resume(cx);
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
        self.emit(cx);
    }

    fn timer(&mut self, cx: &mut Cx<'_>, token: u32) {
        match token {
            TIMER_HEAD if self.exchange.is_none() && !self.closing => {
                self.refuse(cx, &HttpError::HeadTimeout);
            }
            TIMER_IDLE if !self.closing => {
                let idle = cx.now().saturating_duration_since(self.last_active);
                match self.limits.idle.checked_sub(idle) {
                    Some(left) if !left.is_zero() => {
                        cx.timer(left, TIMER_IDLE);
                    }
                    _ => self.idle(cx),
                }
            }
            TIMER_DRAIN if self.exchange.is_none() && self.decoder.is_idle() => self.close(cx),
            TIMER_AGE => {
                self.leaving = true;
                self.drain(cx);
            }
            TIMER_GONE if self.is_awaiting() => self.abort(cx),
            TIMER_LINGER => cx.back(Event::Close(CloseReason::IdleTimeout)),
            _ => {}
        }
    }

    fn drain(&mut self, cx: &mut Cx<'_>) {
        match &mut self.exchange {
            None => {
                cx.timer(DRAIN_GRACE, TIMER_DRAIN);
            }
            Some(exchange) if matches!(exchange.response, Response::Awaited) => {
                exchange.reply.keep_alive = false;
            }
            Some(_) => {}
        }
    }

    fn closed(&mut self, cx: &mut Cx<'_>) {
        self.drop_exchange(cx);
    }
}
