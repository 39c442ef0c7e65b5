//! `demuxHTTP`: the server's side of HTTP, whichever version the client speaks. Bytes on the left; each request runs through
//! a sub-pipeline of its own, whose output is the response.
//!
//! ```text
//!   detecting ── the 24 bytes of the HTTP/2 preface, or TLS agreed on h2 ──► HTTP/2 (http2_server.rs)
//!       └─────── any other byte, or nothing in time ───────────────────────► HTTP/1 (http1_server.rs)
//!                                                     Upgrade: h2c ─► HTTP/2 ◄──┘ first request only (h2c.rs)
//! ```
//!
//! INVARIANT: what was held back to detect the version is handed on whole, in order, before anything else. Not here: any
//! byte of either protocol but the preface.

use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pipy_http::HttpError;
use pipy_pipeline::{CloseReason, Cx, Event, Filter, Slot};

use crate::codec_bytes::CodecBytes;
use crate::h2c;
use crate::http1_server::Http1Server;
use crate::http2_server::Http2Server;
use crate::spec::{Layer, Spec};

/// Its row of the filter table.
pub(crate) const SPEC: Spec = Spec {
    name: "demuxHTTP",
    layer: Layer::Codec,
    help: "reads HTTP/1 or HTTP/2 requests, runs each through a sub-pipeline, writes the responses",
};

/// LIMIT: how long a client may take to close after our end of the stream; a reset any earlier could destroy what it has
/// not read yet.
pub(crate) const LINGER: Duration = Duration::from_secs(1);

/// LIMIT: how long a sub-pipeline may take to answer once it was told that nothing has moved for too long.
pub(crate) const ANSWER_GRACE: Duration = Duration::from_secs(1);

/// How long a connection between two requests stays open when the worker drains. A client may be sending its next request
/// at this moment; it is answered, and told that it was the last.
pub(crate) const DRAIN_GRACE: Duration = Duration::from_millis(500);

/// RFC 9113 section 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Apart from those of both servers, for a timer of one may come when the other is at work.
const TIMER_DETECT: u32 = 64;

/// A version of HTTP, as far as it matters to who serves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpVersion {
    /// HTTP/1.0 or 1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// What the server needs to know of its surroundings.
pub trait HttpService {
    /// The filters of one request.
    fn request(&self) -> Vec<Box<dyn Filter>>;

    /// The bytes on the connection are no request that can be answered.
    fn malformed(&self, error: &HttpError);

    /// The client speaks this version; told once, before the first request.
    fn speaks(&self, _version: HttpVersion) {}

    /// The client broke the rules of HTTP/2, on a stream or on the whole connection: a short, stable word for counters,
    /// and what was wrong.
    fn broken(&self, _label: &'static str, _why: &dyn std::fmt::Display) {}

    /// Whether the client passes on the requests of many others, so that one who takes or gives nothing must not hold up the
    /// rest. Such a client may make us hold more.
    fn carries_many(&self) -> bool {
        false
    }

    /// What the client agreed to speak when TLS began; `None` without TLS or without ALPN.
    fn agreed(&self) -> Option<HttpVersion> {
        None
    }

    /// Whether a client of HTTP/1 may go on in HTTP/2 by `Upgrade: h2c`: never on top of TLS (RFC 7540 section 3.2).
    fn may_turn(&self) -> bool {
        false
    }
}

/// What a connection may take, of time and of requests; zero means no limit.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limits {
    /// A request head, from its first byte to its last.
    pub head: Duration,
    /// A connection on which nothing moves, and a stream of HTTP/2.
    pub idle: Duration,
    /// The age at which a connection takes no more requests: what is under way is answered first.
    pub age: Duration,
    /// Requests after which a connection takes no more.
    pub requests: u32,
    /// Requests at once on a connection of HTTP/2; zero: the codec's default.
    pub streams: u32,
    /// What the client may send ahead and at once.
    pub bytes: CodecBytes,
}

/// See the module.
pub struct HttpServer {
    service: Rc<dyn HttpService>,
    limits: Limits,
    state: State,
}

enum State {
    /// Bytes of the preface that have come.
    Detecting(usize, Http1Server),
    Http1(Http1Server),
    Http2(Box<Http2Server>),
    /// Only while the state changes.
    Nothing,
}

impl HttpServer {
    /// A server for a new connection.
    pub fn new(service: Rc<dyn HttpService>, limits: Limits, now: Instant) -> Self {
        let first = Http1Server::new(Rc::clone(&service), limits, now);
        HttpServer { service, limits, state: State::Detecting(0, first) }
    }

    fn filter(&mut self) -> Option<&mut dyn Filter> {
        match &mut self.state {
            State::Detecting(_, server) | State::Http1(server) => Some(server),
            State::Http2(server) => Some(server.as_mut()),
            State::Nothing => None,
        }
    }

    fn detect(&mut self, cx: &mut Cx<'_>, have: usize, data: Bytes) {
        let agreed = self.service.agreed();
        let rest = PREFACE.get(have..).unwrap_or_default();
        let len = rest.len().min(data.len());
        let fits = data.get(..len) == rest.get(..len);
        // WHY: who agreed on h2 and does not begin as it should is told so by a GOAWAY; it would not understand HTTP/1.
        if agreed == Some(HttpVersion::Http2) || (fits && len == rest.len()) {
            return self.begin_http2(cx, have, data);
        }
        if fits && agreed.is_none() {
            if have == 0 && !data.is_empty() && !self.limits.head.is_zero() {
                cx.timer(self.limits.head, TIMER_DETECT);
            }
            if let State::Detecting(have, _) = &mut self.state {
                *have += len;
            }
            return;
        }
        self.begin_http1(cx);
        if let Some(filter) = self.filter() {
            filter.input(cx, Event::Data(data));
        }
        self.turn(cx);
    }

    /// Goes on in HTTP/2 where the first request of HTTP/1 asked for it and was granted it.
    fn turn(&mut self, cx: &mut Cx<'_>) {
        let State::Http1(first) = &mut self.state else { return };
        let Some(connection) = first.take_turned() else { return };
        let congested = first.is_congested();
        cx.back(Event::Data(Bytes::from_static(h2c::SWITCHING)));
        self.service.speaks(HttpVersion::Http2);
        let (service, limits) = (Rc::clone(&self.service), self.limits);
        let mut server = Box::new(Http2Server::turned(*connection, service, limits, congested, cx.now()));
        server.start(cx);
        server.go_on(cx);
        self.state = State::Http2(server);
    }

    fn begin_http1(&mut self, cx: &mut Cx<'_>) {
        let State::Detecting(have, server) = std::mem::replace(&mut self.state, State::Nothing) else {
            return;
        };
        self.service.speaks(HttpVersion::Http1);
        self.state = State::Http1(server);
        let held = PREFACE.get(..have).unwrap_or_default();
        if let Some(filter) = self.filter().filter(|_| !held.is_empty()) {
            filter.input(cx, Event::Data(Bytes::from_static(held)));
        }
    }

    fn begin_http2(&mut self, cx: &mut Cx<'_>, have: usize, data: Bytes) {
        let State::Detecting(_, first) = std::mem::replace(&mut self.state, State::Nothing) else { return };
        self.service.speaks(HttpVersion::Http2);
        let congested = first.is_congested();
        let mut server =
            Box::new(Http2Server::new(Rc::clone(&self.service), self.limits, congested, cx.now()));
        server.start(cx);
        if have > 0 {
            server.input(cx, Event::Data(Bytes::from_static(PREFACE.get(..have).unwrap_or_default())));
        }
        server.input(cx, Event::Data(data));
        self.state = State::Http2(server);
    }
}

impl Filter for HttpServer {
    fn name(&self) -> &'static str {
        SPEC.name
    }

    fn start(&mut self, cx: &mut Cx<'_>) {
        if let Some(filter) = self.filter() {
            filter.start(cx);
        }
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        match (event, &self.state) {
            (Event::Data(data), State::Detecting(have, _)) => {
                let have = *have;
                self.detect(cx, have, data);
            }
            (Event::Close(reason), State::Detecting(..)) => {
                self.begin_http1(cx);
                self.input(cx, Event::Close(reason));
            }
            (event, _) => {
                if let Some(filter) = self.filter() {
                    filter.input(cx, event);
                }
                self.turn(cx);
            }
        }
    }

    fn sub(&mut self, cx: &mut Cx<'_>, slot: Slot, event: Event) {
        if let Some(filter) = self.filter() {
            filter.sub(cx, slot, event);
        }
    }

    fn flush(&mut self, cx: &mut Cx<'_>) {
        if let Some(filter) = self.filter() {
            filter.flush(cx);
        }
    }

    fn timer(&mut self, cx: &mut Cx<'_>, token: u32) {
        match (token, &self.state) {
            (TIMER_DETECT, State::Detecting(..)) => self.begin_http1(cx),
            (TIMER_DETECT, _) => {}
            _ => {
                if let Some(filter) = self.filter() {
                    filter.timer(cx, token);
                }
            }
        }
    }

    fn drain(&mut self, cx: &mut Cx<'_>) {
        if let Some(filter) = self.filter() {
            filter.drain(cx);
        }
    }

    fn closed(&mut self, cx: &mut Cx<'_>) {
        if let Some(filter) = self.filter() {
            filter.closed(cx);
        }
    }
}

/// What a client is told when no response comes, and why.
pub(crate) fn status_of(reason: CloseReason) -> u16 {
    match reason {
        CloseReason::ConnectTimeout | CloseReason::IdleTimeout => 504,
        CloseReason::Overloaded => 503,
        CloseReason::Script => 500,
        _ => 502,
    }
}
