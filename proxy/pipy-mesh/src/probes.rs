//! The application's probes, carried out for the kubelet, which has no certificate to reach the application with.
//!
//! In: `GET /fsm-healthcheck` on a probe listener, with the original target in headers. Out: what the application says
//! to exactly that question (status, content type, the beginning of the body), or why there is nothing to say.
//!
//! ```text
//!   Original-Http-Port, Original-Http-Path ─► GET path on 127.0.0.1:port ─► its status; 502 broken, 504 too late
//!   Original-Tcp-Port                      ─► connect to 127.0.0.1:port  ─► 200 made, 404 refused or too late
//!   neither ─► 400      a target that the configuration does not list ─► 403, logged
//! ```
//!
//! INVARIANTS: whoever reaches the Pod may ask here, so only what the configuration lists is asked of loopback: method,
//! port, path and Host are the configuration's, and of the caller's headers only those pass that the probe names. One
//! connection per probe, as the kubelet's own: a server that hangs must not look alive through a kept one.
//!
//! Not here: which ports may be listed (the compiler leaves out the sidecar's own, the process refuses them).

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use pipy_config::{Probe, ProbeKind, ProbeListener};
use pipy_filters::{HttpClient, HttpService, Session};
use pipy_http::{BodyLength, Headers, HttpError, Method, RequestHead, ResponseHead};
use pipy_observe::{Decision, Direction, Entry};
use pipy_pipeline::{CloseReason, ConnectTo, Cx, Event, Filter, Head, PipelineId, Slot};
use pipy_worker::Accepted;

use crate::plan::Plan;
use crate::sidecar::Shared;

/// The one path that is answered.
pub const HEALTH_PATH: &str = "/fsm-healthcheck";

const HTTP_PORT: &str = "original-http-port";
const HTTP_PATH: &str = "original-http-path";
const TCP_PORT: &str = "original-tcp-port";

/// Headers that the kubelet sends with every probe.
const USUAL: [&[u8]; 2] = [b"user-agent", b"accept"];

/// LIMIT: bytes of the application's answer that are passed on; the kubelet reads no more (`maxRespBodyLength`).
const BODY_BYTES_MAX: usize = 10 * 1024;

/// Why a question is not passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unasked {
    /// It is for another path.
    OtherPath,
    /// It is no GET.
    OtherMethod,
    /// It names no target, or one that can't be read.
    NoTarget,
    /// The configuration does not list its target.
    NotListed,
}

impl Unasked {
    /// Status and words of the answer.
    pub fn answer(self) -> (u16, &'static str) {
        match self {
            Unasked::OtherPath => (404, "only probes are answered here"),
            Unasked::OtherMethod => (405, "probes are asked with GET"),
            Unasked::NoTarget => (400, "the headers name no port (and path) to probe"),
            Unasked::NotListed => (403, "no probe of this Pod has this target"),
        }
    }
}

/// Decides which probe a request asks for.
///
/// # Errors
/// Why it asks for none.
pub fn choose<'p>(
    probes: &'p [Probe],
    listener: ProbeListener,
    head: &RequestHead,
) -> Result<&'p Probe, Unasked> {
    if head.path() != HEALTH_PATH.as_bytes() {
        return Err(Unasked::OtherPath);
    }
    if head.method != Method::Get {
        return Err(Unasked::OtherMethod);
    }
    let port = |name: &str| head.headers.get_str(name).and_then(|text| text.parse::<u16>().ok());
    let (kind, port, path) = if head.headers.contains(HTTP_PORT) {
        let path = head.headers.get_str(HTTP_PATH).ok_or(Unasked::NoTarget)?;
        (ProbeKind::Http, port(HTTP_PORT), Some(path))
    } else {
        (ProbeKind::Tcp, port(TCP_PORT), None)
    };
    let port = port.ok_or(Unasked::NoTarget)?;
    let fits = |probe: &&Probe| {
        (probe.listener, probe.kind, probe.port) == (listener, kind, port) && probe.path.as_deref() == path
    };
    // Containers may ask the same of different hosts: the probe that names the host that was sent comes first.
    let host = head.headers.get_str("host").unwrap_or_default();
    let named = |probe: &&Probe| probe.host.as_ref().is_some_and(|name| name.eq_ignore_ascii_case(host));
    let mut listed = probes.iter().filter(fits);
    let any = listed.clone().find(|probe| probe.host.is_none());
    listed.find(named).or(any).ok_or(Unasked::NotListed)
}

/// The request that the application gets: what the kubelet would have sent it.
fn question(probe: &Probe, asked: &Headers, local: SocketAddr) -> Result<RequestHead, HttpError> {
    let mut head = RequestHead::new(Method::Get, probe.path.as_deref().unwrap_or("/"));
    match &probe.host {
        Some(host) => head.headers.append("host", host)?,
        None => head.headers.append("host", SocketAddr::new(local.ip(), probe.port).to_string())?,
    }
    for (name, value) in asked.iter() {
        let named = probe.headers.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()));
        let known = named || USUAL.iter().any(|usual| name.eq_ignore_ascii_case(usual));
        if known && !name.eq_ignore_ascii_case(b"host") {
            head.headers.append(name, value)?;
        }
    }
    head.headers.append("connection", "close")?;
    Ok(head)
}

/// Answers the requests of one connection to a probe listener.
pub(crate) struct ProbeService {
    pub(crate) shared: Rc<Shared>,
    pub(crate) listener: ProbeListener,
    pub(crate) accepted: Accepted,
}

impl HttpService for ProbeService {
    fn request(&self) -> Vec<Box<dyn Filter>> {
        vec![Box::new(Asking {
            shared: Rc::clone(&self.shared),
            listener: self.listener,
            accepted: self.accepted,
            state: State::New,
        })]
    }

    fn malformed(&self, _error: &HttpError) {}
}

/// One probe.
struct Asking {
    shared: Rc<Shared>,
    listener: ProbeListener,
    accepted: Accepted,
    state: State,
}

enum State {
    New,
    Waiting { application: PipelineId, kind: ProbeKind, said: Option<Said> },
    Over,
}

/// What the application has said so far.
struct Said {
    status: u16,
    content_type: Option<Vec<u8>>,
    body: Vec<u8>,
}

impl Asking {
    fn begin(&mut self, cx: &mut Cx<'_>, asked: &RequestHead) {
        let runtime = self.shared.runtime.borrow().clone();
        let probe = match choose(&runtime.plan.probes, self.listener, asked) {
            Ok(probe) => probe,
            Err(why) => return self.refuse(cx, asked, why, &runtime.plan),
        };
        let timeout = Duration::from_millis(probe.timeout_ms);
        let mut filters: Vec<Box<dyn Filter>> = Vec::new();
        if probe.kind == ProbeKind::Http {
            filters.push(Box::new(HttpClient::new(
                Rc::new(Session::default()),
                Duration::ZERO,
                Box::new(()),
            )));
        }
        let application = cx.open(filters, 0);
        self.state = State::Waiting { application, kind: probe.kind, said: None };
        // Of the family in which the probe came, as it would reach an application without us.
        let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, probe.port));
        let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, probe.port));
        let (address, also) = match self.accepted.local.is_ipv6() {
            true => (v6, Some((v4, None))),
            false => (v4, None),
        };
        cx.connect(
            application,
            ConnectTo { address, source: None, also, timeout, tell: probe.kind == ProbeKind::Tcp },
        );
        cx.timer(timeout, 0);
        if probe.kind == ProbeKind::Http {
            match question(probe, &asked.headers, self.accepted.local) {
                Ok(head) => {
                    let head = Head::Request(Box::new(head));
                    cx.send(application, Event::Start(head, BodyLength::None));
                    cx.send(application, Event::End(None));
                }
                Err(_) => self.answer(cx, 502, "the probe can't be written as a request"),
            }
        }
    }

    fn refuse(&mut self, cx: &mut Cx<'_>, asked: &RequestHead, why: Unasked, plan: &Plan) {
        let (status, words) = why.answer();
        if why == Unasked::NotListed {
            self.shared.metrics.proxy.denied.get("no_probe").inc();
            if plan.logs(Decision::Denied) {
                self.shared.log(
                    plan,
                    &Entry {
                        unix_ms: self.shared.unix_ms(cx.now()),
                        direction: Direction::Inbound,
                        protocol: "http",
                        peer: Some(self.accepted.peer),
                        original_destination: Some(self.accepted.destination),
                        method: Some(asked.method.as_str().as_bytes()),
                        path: Some(asked.headers.get(HTTP_PATH).unwrap_or_default()),
                        status: Some(status),
                        decision: Decision::Denied,
                        reason: Some(words),
                        ..Entry::default()
                    },
                );
            }
        }
        self.answer(cx, status, words);
    }

    /// Answers in our own words.
    fn answer(&mut self, cx: &mut Cx<'_>, status: u16, words: &str) {
        let body = format!("{words}\n").into_bytes();
        self.finish(cx, Said { status, content_type: Some(b"text/plain".to_vec()), body });
    }

    fn finish(&mut self, cx: &mut Cx<'_>, said: Said) {
        if let State::Waiting { application, .. } = std::mem::replace(&mut self.state, State::Over) {
            cx.close(application);
        }
        let mut head = ResponseHead::new(said.status);
        if let Some(content_type) = said.content_type {
            // It came as a valid header, or is a fixed one.
            let _ = head.headers.append("content-type", content_type);
        }
        // WHY: no Location. The kubelet would follow it to this listener, which has nothing there; without one it takes
        // a redirect for what it is to a probe, a success.
        let length = match said.status {
            204 | 304 => BodyLength::None,
            _ => BodyLength::Length(said.body.len() as u64),
        };
        cx.back(Event::Start(Head::Response(Box::new(head)), length));
        if length != BodyLength::None {
            cx.back(Event::Data(Bytes::from(said.body)));
        }
        cx.back(Event::End(None));
    }

    fn failed(&mut self, cx: &mut Cx<'_>, kind: ProbeKind, reason: CloseReason) {
        match (kind, reason) {
            (ProbeKind::Tcp, CloseReason::ConnectTimeout) => {
                self.answer(cx, 404, "the application did not accept in time");
            }
            (ProbeKind::Tcp, _) => self.answer(cx, 404, "the application does not listen"),
            (_, CloseReason::ConnectFailed) => self.answer(cx, 502, "the application does not listen"),
            (_, CloseReason::ConnectTimeout) => {
                self.answer(cx, 504, "the application did not accept in time")
            }
            (_, CloseReason::Protocol) => self.answer(cx, 502, "the application did not answer in HTTP"),
            _ => self.answer(cx, 502, "the application broke off its answer"),
        }
    }
}

impl Filter for Asking {
    fn name(&self) -> &'static str {
        "probe"
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        // A probe has no body; one that came all the same is dropped.
        if let (Event::Start(Head::Request(head), _), State::New) = (event, &self.state) {
            self.begin(cx, &head);
        }
    }

    fn sub(&mut self, cx: &mut Cx<'_>, _slot: Slot, event: Event) {
        let State::Waiting { kind, said, .. } = &mut self.state else { return };
        let kind = *kind;
        match event {
            Event::Resume if kind == ProbeKind::Tcp => self.answer(cx, 200, "the application listens"),
            Event::Start(Head::Response(head), _) if !head.is_interim() => {
                let content_type = head.headers.get("content-type").map(<[u8]>::to_vec);
                *said = Some(Said { status: head.status, content_type, body: Vec::new() });
            }
            Event::Data(data) => {
                let Some(heard) = said else { return };
                let room = BODY_BYTES_MAX - heard.body.len();
                heard.body.extend_from_slice(data.get(..room.min(data.len())).unwrap_or_default());
                if heard.body.len() == BODY_BYTES_MAX
                    && let Some(said) = said.take()
                {
                    self.finish(cx, said);
                }
            }
            Event::End(_) => {
                if let Some(said) = said.take() {
                    self.finish(cx, said);
                }
            }
            Event::Close(reason) => self.failed(cx, kind, reason),
            Event::Start(..) | Event::Pause | Event::Resume | Event::Custom(_) => {}
        }
    }

    fn timer(&mut self, cx: &mut Cx<'_>, _token: u32) {
        if let State::Waiting { kind, .. } = self.state {
            let status = if kind == ProbeKind::Tcp { 404 } else { 504 };
            self.answer(cx, status, "the application did not answer in time");
        }
    }

    fn closed(&mut self, cx: &mut Cx<'_>) {
        if let State::Waiting { application, .. } = std::mem::replace(&mut self.state, State::Over) {
            cx.destroy(application);
        }
    }
}

#[cfg(test)]
mod tests;
