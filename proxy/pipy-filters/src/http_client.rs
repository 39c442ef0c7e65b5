//! `muxHTTP`: the client's side of HTTP/1. Requests on the left, one after the other; bytes on the right.
//!
//! A session outlives the request that opened it: its owner takes it for one exchange, lets it go, and another may take it.
//! [`Session`] is what owner and pool see of it; this one is exclusive.
//!
//! INVARIANT: a session is reusable only while both messages of every exchange were complete, the server keeps the
//! connection open, and it has said nothing unasked.

use std::any::Any;
use std::rc::Rc;
use std::time::Duration;

use pipy_http::{
    BodyEncoder, BodyLength, HttpError, Method, RequestHead, ResponseDecoder, ResponseItem,
    encode_request_head,
};
use pipy_pipeline::{CloseReason, Cx, Event, Filter, Head};

use crate::codec_bytes::CodecBytes;
use crate::out::Out;
use crate::session::{Session, is_of_gateway};
use crate::spec::{Layer, Spec};
use crate::websocket::Challenge;

/// Its row of the filter table.
pub(crate) const SPEC: Spec = Spec {
    name: "muxHTTP",
    layer: Layer::Codec,
    help: "writes HTTP requests, reads the responses; its connection serves one request after the other",
};

/// LIMIT: bytes gathered before they leave.
const GATHER_BYTES_MAX: usize = 64 * 1024;

const TIMER_IDLE: u32 = 0;
const TIMER_AGE: u32 = 1;

/// See the module.
pub struct HttpClient {
    session: Rc<Session>,
    idle_timeout: Duration,
    age: Duration,
    decoder: ResponseDecoder,
    out: Out,
    encoder: Option<BodyEncoder>,
    /// The request in progress asks for a tunnel to somewhere.
    connect: bool,
    /// What the server must answer where the key of a WebSocket is ours.
    challenge: Option<Challenge>,
    /// The connection carries bytes, no longer messages.
    tunnel: bool,
    request_done: bool,
    /// Something has come since the request began.
    heard: bool,
    response_done: bool,
    ended: bool,
    deferred: bool,
    timer: bool,
    _guard: Box<dyn Any>,
}

impl HttpClient {
    /// A client on a new connection, which closes itself when it was idle for `idle_timeout`. `guard` is dropped when
    /// the connection is gone.
    pub fn new(session: Rc<Session>, idle_timeout: Duration, guard: Box<dyn Any>) -> Self {
        HttpClient {
            session,
            idle_timeout,
            age: Duration::ZERO,
            decoder: ResponseDecoder::new(pipy_http::Limits::default()),
            out: Out::default(),
            encoder: None,
            connect: false,
            challenge: None,
            tunnel: false,
            request_done: true,
            heard: false,
            response_done: true,
            ended: false,
            deferred: false,
            timer: false,
            _guard: guard,
        }
    }

    /// Takes no more requests at this age, which it reaches between two requests or in the last one; zero: never.
    #[must_use]
    pub fn aging(self, age: Duration) -> Self {
        HttpClient { age, ..self }
    }

    /// Takes heads of so many bytes at most.
    #[must_use]
    pub fn limiting(self, bytes: CodecBytes) -> Self {
        HttpClient { decoder: ResponseDecoder::new(bytes.http1()), ..self }
    }

    fn request(&mut self, cx: &mut Cx<'_>, mut head: Box<RequestHead>, length: BodyLength) {
        if head.is_upgrade() {
            self.challenge = Challenge::put(&mut head);
            self.decoder.expect_upgrade(&head.method);
        } else {
            self.decoder.expect(&head.method);
        }
        (self.request_done, self.response_done) = (false, false);
        self.heard = false;
        self.connect = head.method == Method::Connect;
        match encode_request_head(&head, length, &mut self.out.bytes) {
            Ok(encoder) => {
                self.encoder = Some(encoder);
                if self.challenge.is_some() {
                    Challenge::forget(&mut head);
                }
                self.session.request_begun(Some(head));
                self.defer(cx);
            }
            Err(_) => self.fail(cx, CloseReason::Protocol),
        }
    }

    fn pump(&mut self, cx: &mut Cx<'_>) {
        loop {
            match self.decoder.next() {
                Ok(Some(ResponseItem::Interim(head))) => {
                    self.session.response_begun();
                    cx.back(Event::Start(Head::Response(head), BodyLength::None));
                }
                Ok(Some(ResponseItem::Head(mut head, length))) => {
                    let challenge = self.challenge.take();
                    if head.status == 101 && challenge.is_some_and(|asked| !asked.is_met(&mut head)) {
                        return self.fail(cx, CloseReason::Protocol);
                    }
                    if !is_of_gateway(head.status) {
                        self.session.response_begun();
                    }
                    self.tunnel = head.status == 101 || (self.connect && head.status / 100 == 2);
                    if !head.keep_alive() || self.tunnel || length == BodyLength::UntilClose {
                        self.session.retire();
                    }
                    cx.back(Event::Start(Head::Response(head), length));
                }
                Ok(Some(ResponseItem::Data(data))) => cx.back(Event::Data(data)),
                // Bytes follow the head of a response that makes a tunnel: the exchange goes on.
                Ok(Some(ResponseItem::End(_))) if self.tunnel => {}
                Ok(Some(ResponseItem::End(trailers))) => {
                    self.response_done = true;
                    if !self.request_done {
                        // The server answered before it had heard all; what it does with the rest is its secret.
                        self.session.retire();
                    }
                    cx.back(Event::End(trailers.map(Box::new)));
                }
                Ok(None) => return,
                Err(HttpError::BadResponse(error)) if matches!(*error, HttpError::Truncated { .. }) => {
                    return self.fail(cx, CloseReason::Reset);
                }
                Err(error) => {
                    self.session.set_fault(error.metric_label());
                    return self.fail(cx, CloseReason::Protocol);
                }
            }
        }
    }

    fn fail(&mut self, cx: &mut Cx<'_>, reason: CloseReason) {
        self.session.retire();
        if self.ended {
            return;
        }
        self.ended = true;
        if self.idle() {
            let own = cx.pipeline();
            cx.close(own);
        } else {
            cx.back(Event::Close(reason));
        }
    }

    fn idle(&self) -> bool {
        self.session.idle_since().is_some()
    }

    fn defer(&mut self, cx: &mut Cx<'_>) {
        if !self.deferred {
            self.deferred = true;
            cx.defer();
        }
    }

    fn emit(&mut self, cx: &mut Cx<'_>) {
        for bytes in self.out.take() {
            self.session.count(bytes.len(), 0);
            cx.forward(Event::Data(bytes));
        }
    }
}

impl Filter for HttpClient {
    fn name(&self) -> &'static str {
        SPEC.name
    }

    fn start(&mut self, cx: &mut Cx<'_>) {
        self.session.set_pipeline(cx.pipeline());
        if !self.age.is_zero() {
            cx.timer(self.age, TIMER_AGE);
        }
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        match event {
            Event::Start(Head::Request(head), length) => self.request(cx, head, length),
            Event::Start(Head::Response(_), _) => {}
            Event::Data(data) if self.tunnel => {
                self.out.piece(data);
                self.defer(cx);
            }
            Event::Data(data) => {
                let Some(encoder) = &mut self.encoder else { return };
                match self.out.body(encoder, data) {
                    Err(_) => self.fail(cx, CloseReason::Protocol),
                    Ok(()) if self.out.len() > GATHER_BYTES_MAX => self.emit(cx),
                    Ok(()) => self.defer(cx),
                }
            }
            Event::End(trailers) => {
                let Some(encoder) = self.encoder.take() else { return };
                if encoder.end(trailers.as_deref(), &mut self.out.bytes).is_err() {
                    return self.fail(cx, CloseReason::Protocol);
                }
                self.request_done = true;
                self.defer(cx);
            }
            Event::Close(reason) => {
                self.session.retire();
                self.emit(cx);
                cx.forward(Event::Close(reason));
            }
            Event::Pause | Event::Resume => cx.forward(event),
            Event::Custom(custom) => {
                if let Some(plain) = custom.plain() {
                    self.input(cx, plain);
                }
            }
        }
    }

    fn output(&mut self, cx: &mut Cx<'_>, event: Event) {
        match event {
            Event::Data(data) => {
                self.session.count(0, data.len());
                self.heard |= !data.is_empty();
                self.decoder.push(data);
                self.pump(cx);
            }
            Event::Close(CloseReason::Finished) => {
                self.session.retire();
                if !self.heard {
                    self.session.decline();
                }
                self.decoder.finish();
                self.pump(cx);
                if self.tunnel {
                    cx.back(Event::Close(CloseReason::Finished));
                } else if !self.response_done || self.idle() {
                    self.fail(cx, CloseReason::Reset);
                }
            }
            Event::Close(reason) => self.fail(cx, reason),
            other => cx.back(other),
        }
    }

    fn flush(&mut self, cx: &mut Cx<'_>) {
        self.deferred = false;
        self.emit(cx);
        // Once per session: a session that is used all the time needs no look at the clock.
        if !self.timer && !self.idle_timeout.is_zero() {
            self.timer = true;
            cx.timer(self.idle_timeout, TIMER_IDLE);
        }
    }

    fn timer(&mut self, cx: &mut Cx<'_>, token: u32) {
        if token == TIMER_AGE {
            return self.drain(cx);
        }
        let idle = self.session.idle_since().map(|since| cx.now().saturating_duration_since(since));
        match idle {
            Some(idle) if idle >= self.idle_timeout => self.fail(cx, CloseReason::IdleTimeout),
            Some(idle) => {
                cx.timer(self.idle_timeout - idle, TIMER_IDLE);
            }
            None => {
                cx.timer(self.idle_timeout, TIMER_IDLE);
            }
        }
    }

    fn drain(&mut self, cx: &mut Cx<'_>) {
        if self.idle() {
            self.fail(cx, CloseReason::Finished);
        } else {
            self.session.retire();
        }
    }

    fn closed(&mut self, _cx: &mut Cx<'_>) {
        self.session.retire();
    }
}
