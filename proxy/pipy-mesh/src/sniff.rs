//! Looks at a client's first bytes before it is decided what carries them on: a PROXY header's client, a protocol that is
//! not known, the server name of TLS that is carried unopened.
//!
//! ```text
//!   client ──► [acceptProxyProtocol] ──► Sniff ── first bytes, or time is up ──► sub-pipeline
//! ```
//!
//! In: bytes. Out: the same bytes, whole and in order, into the sub-pipeline that they decide. INVARIANT: what is held
//! back is bounded by bytes (the detectors' limits) and by time; a server that speaks first is reached when it is up.
//!
//! Not here: reading the bytes (`pipy-filters`), the rules (`decide`).

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use pipy_filters::{Spoken, client_hello, detect};
use pipy_pipeline::{CloseReason, Cx, Event, Filter, PipelineId, Slot};
use pipy_worker::Verdict;

use crate::decide::{self, Refusal};
use crate::exchange::Connection;
use crate::plan::{TcpPlan, TlsTable};

/// What the first bytes decide.
pub(crate) enum Question {
    /// Nothing: the first event says that it is time to go on.
    Begin,
    /// Whether it is TLS.
    Tls,
    /// Whether it is HTTP. Counts the answer.
    Protocol(Rc<Connection>),
    /// Which server a TLS client wants.
    ServerName(Rc<Connection>, TlsTable, Option<Arc<TcpPlan>>),
}

/// What they have decided.
pub(crate) enum Answer {
    /// It is time to go on.
    Begin,
    /// It is TLS.
    Tls,
    /// It is HTTP.
    Http,
    /// It is anything else, or nothing came in time: the rule for TCP.
    Other,
    /// The rule of a TLS server.
    Rule(Arc<TcpPlan>),
    /// It can't go on.
    Refused(Refusal),
}

/// Makes what carries the connection on.
pub(crate) type Next = Box<dyn FnOnce(Answer) -> Verdict>;

/// See the module.
pub(crate) struct Sniff {
    question: Question,
    next: Option<Next>,
    timeout: Duration,
    /// Something comes first (TLS, a PROXY header): time runs from the first event on.
    after: bool,
    held: BytesMut,
    paused: bool,
    waiting: bool,
    tail: Option<PipelineId>,
    over: bool,
}

impl Sniff {
    pub(crate) fn new(question: Question, timeout: Duration, after: bool, next: Next) -> Self {
        let next = Some(next);
        Sniff {
            question,
            next,
            timeout,
            after,
            held: BytesMut::new(),
            paused: false,
            waiting: false,
            tail: None,
            over: false,
        }
    }

    fn look(&self) -> Option<Answer> {
        match &self.question {
            Question::Begin => Some(Answer::Begin),
            Question::Tls => {
                self.held.first().map(|&first| if first == HANDSHAKE { Answer::Tls } else { Answer::Begin })
            }
            Question::Protocol(connection) => detect(&self.held).map(|spoken| {
                connection.shared.metrics.proxy.detected.get(spoken.label()).inc();
                match spoken {
                    Spoken::Http1 | Spoken::Http2 => Answer::Http,
                    Spoken::Tls | Spoken::Tcp => Answer::Other,
                }
            }),
            Question::ServerName(connection, rules, others) => match client_hello(&self.held) {
                Ok(None) => None,
                Ok(Some(hello)) => {
                    let rule = decide::server_name(rules, others.as_ref(), hello.server_name.as_deref());
                    if let Some(name) = hello.server_name {
                        let _ = connection.server_name.set(name);
                    }
                    Some(rule.cloned().map_or(Answer::Refused(Refusal::NoServerName), Answer::Rule))
                }
                Err(_) => Some(self.without_name()),
            },
        }
    }

    fn without_name(&self) -> Answer {
        match &self.question {
            Question::ServerName(_, _, Some(others)) => Answer::Rule(Arc::clone(others)),
            Question::ServerName(..) => Answer::Refused(Refusal::NoServerName),
            Question::Protocol(_) => Answer::Other,
            Question::Begin | Question::Tls => Answer::Begin,
        }
    }

    /// No more bytes will come, or none in time.
    fn silent(&mut self, cx: &mut Cx<'_>) {
        if let Question::Protocol(connection) = &self.question {
            connection.shared.metrics.proxy.detected.get("silent").inc();
        }
        let answer = self.without_name();
        self.go_on(cx, answer);
    }

    fn go_on(&mut self, cx: &mut Cx<'_>, answer: Answer) {
        let Some(next) = self.next.take() else { return };
        let tail = match next(answer) {
            Verdict::Run(filters) => cx.open(filters, 0),
            Verdict::RunTurning(filters) => cx.open_turning(filters, 0),
            Verdict::Close => return self.end(cx, CloseReason::Finished),
            Verdict::Reset => return self.end(cx, CloseReason::Denied),
        };
        self.tail = Some(tail);
        if self.paused {
            cx.send(tail, Event::Pause);
        }
        // Even when empty: it tells who comes behind that what came first is complete.
        if self.after || !self.held.is_empty() {
            cx.send(tail, Event::Data(std::mem::take(&mut self.held).freeze()));
        }
    }

    fn end(&mut self, cx: &mut Cx<'_>, reason: CloseReason) {
        self.over = true;
        self.held = BytesMut::new();
        cx.back(Event::Close(reason));
        if reason.is_clean() {
            cx.timer(LINGER, TIMER_LINGER);
        }
    }

    fn wait(&mut self, cx: &mut Cx<'_>) {
        if !self.waiting && !self.timeout.is_zero() {
            self.waiting = true;
            cx.timer(self.timeout, TIMER_SILENT);
        }
    }
}

/// First byte of a TLS handshake (RFC 8446 section 5.1). No request of HTTP begins with it.
const HANDSHAKE: u8 = 22;

/// LIMIT: how long a client may take to close after our end of the stream.
const LINGER: Duration = Duration::from_secs(1);

const TIMER_SILENT: u32 = 0;
const TIMER_LINGER: u32 = 1;

impl Filter for Sniff {
    fn name(&self) -> &'static str {
        "sniff"
    }

    fn start(&mut self, cx: &mut Cx<'_>) {
        if !self.after {
            self.wait(cx);
        }
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        if self.over {
            return;
        }
        if let Some(tail) = self.tail {
            return cx.send(tail, event);
        }
        match event {
            Event::Data(data) => {
                self.held.extend_from_slice(&data);
                match self.look() {
                    Some(answer) => self.go_on(cx, answer),
                    None => self.wait(cx),
                }
            }
            Event::Close(reason) if reason.is_clean() && !self.held.is_empty() => {
                self.silent(cx);
                if let Some(tail) = self.tail {
                    cx.send(tail, event);
                }
            }
            Event::Close(_) => self.end(cx, CloseReason::Finished),
            Event::Pause => self.paused = true,
            Event::Resume => self.paused = false,
            _ => {}
        }
    }

    fn sub(&mut self, cx: &mut Cx<'_>, _slot: Slot, event: Event) {
        if !self.over {
            cx.back(event);
        }
    }

    fn timer(&mut self, cx: &mut Cx<'_>, token: u32) {
        match token {
            TIMER_LINGER => cx.back(Event::Close(CloseReason::IdleTimeout)),
            _ if self.tail.is_none() && !self.over => self.silent(cx),
            _ => {}
        }
    }

    fn closed(&mut self, cx: &mut Cx<'_>) {
        // The filters behind know whether something is under way, and end their own sub-pipelines accordingly.
        if let Some(tail) = self.tail.take() {
            cx.close(tail);
        }
    }
}
