//! `muxHTTP`: requests over connections that are shared by key. A connection is the pipeline behind it with the HTTP client
//! in front: of HTTP/1, which carries one request at a time, or of HTTP/2, which carries many.
//!
//! Without a key connections are kept for one client's connection, and end with it. INVARIANT: a request is sent again only
//! when it went over a connection that was used before, nothing of a response has come, and nothing of its body has gone.
//!
//! Not here: the options and what they mean (`mux_http/settings.rs`).

mod settings;

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use pipy_filters::{Http2Client, Http2Settings, HttpClient, Lease, Session};
use pipy_http::{BodyLength, Method, RequestHead, ResponseHead, Scheme};
use pipy_pipeline::{CloseReason, Cx, Event, Filter, Head, Slot};
use rquickjs::Result;

pub(super) use self::settings::codec_bytes;
use self::settings::{Settings, Source};
use super::sub::Bridge;
use crate::engine::Kept;
use crate::events::{self, ScriptEvent, script_event};
use crate::layout::{FilterDef, Reading, Scope, Target};
use crate::log;

/// LIMIT: connections that wait for a request, per key.
const KEPT_MAX: usize = 512;

/// LIMIT: keys above which those without a connection are looked for.
const KEYS_MAX: usize = 1024;

/// Connections that wait, by key. Shared by all instances of one filter of the script.
type Pool = Rc<RefCell<HashMap<Key, Vec<Rc<Session>>>>>;

struct Mux {
    target: Target,
    label: String,
    key: Option<Kept>,
    settings: Rc<Source>,
    pool: Pool,
}

/// LIMIT: how often a request is sent over another connection.
const TRIES_MAX: u32 = 3;

pub(super) fn make(reading: &Reading<'_, '_>) -> Result<Rc<dyn FilterDef>> {
    let only_options = super::mux::only_options(reading);
    let key = reading.kept(0).filter(|_| !only_options);
    let settings = Rc::new(Source::read(reading, usize::from(!only_options))?);
    let label = reading.label.clone();
    Ok(Rc::new(Mux { target: reading.needed()?, label, key, settings, pool: Pool::default() }))
}

impl FilterDef for Mux {
    fn filter(&self, scope: &Scope) -> Box<dyn Filter> {
        Box::new(Request {
            target: self.target.clone(),
            label: self.label.clone(),
            key: self.key.clone(),
            source: Rc::clone(&self.settings),
            settings: None,
            pool: Rc::clone(&self.pool),
            scope: scope.clone(),
            current: None,
            slot: 0,
            held: VecDeque::new(),
        })
    }
}

struct Current {
    lease: Lease,
    key: Key,
    slot: Slot,
    length: BodyLength,
    /// Of the response.
    begun: bool,
    /// The request is complete.
    asked: bool,
    /// Something of its body has gone.
    body: bool,
    answered: bool,
    /// It asks for a tunnel.
    tunnel: bool,
    tries: u32,
}

/// What connections are shared by.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Key {
    /// The client's connection: the family of contexts.
    Own(u32),
    /// What the script has given.
    Given(String),
}

struct Request {
    target: Target,
    label: String,
    key: Option<Kept>,
    source: Rc<Source>,
    /// Once they were needed.
    settings: Option<Settings>,
    pool: Pool,
    scope: Scope,
    current: Option<Current>,
    slot: Slot,
    /// What came for the next request before the one in progress was answered.
    held: VecDeque<Event>,
}

impl Request {
    /// What the session is shared by: the key that the script gives, or the client's connection.
    fn key(&self) -> std::result::Result<Key, crate::ScriptError> {
        let Some(key) = &self.key else { return Ok(Key::Own(self.scope.vars.family())) };
        let engine = self.scope.engine();
        engine.with(|ctx| {
            engine.look(ctx, &self.scope.vars)?;
            let mut value = key.clone().restore(ctx)?;
            if let Some(function) = value.as_function() {
                value = function.call(())?;
            }
            if value.is_undefined() {
                return Ok(Key::Own(self.scope.vars.family()));
            }
            Ok(Key::Given(engine.identity(ctx, &value)?))
        })
    }

    /// A connection that was kept and takes another request.
    fn kept(&self, cx: &Cx<'_>, key: &Key) -> Option<Rc<Session>> {
        let mut pool = self.pool.borrow_mut();
        let kept = pool.get_mut(key)?;
        kept.retain(|session| {
            let alive = session.pipeline().is_some_and(|pipeline| cx.alive(pipeline));
            alive && session.reusable()
        });
        let at = kept.iter().rposition(|session| session.has_room())?;
        // What carries many stays for others.
        if kept[at].is_multiplexed() { Some(Rc::clone(&kept[at])) } else { Some(kept.swap_remove(at)) }
    }

    fn session(
        &mut self,
        cx: &mut Cx<'_>,
        key: &Key,
        scheme: Option<Scheme>,
        fresh: bool,
    ) -> Option<Rc<Session>> {
        if !fresh && let Some(session) = self.kept(cx, key) {
            return Some(session);
        }
        let layout = self.target.layout()?;
        let settings = self.settings.as_ref()?;
        let (session, client): (_, Box<dyn Filter>) = if settings.http2 {
            let session = Rc::new(Session::multiplexed(settings.second.streams_first()));
            // What the first request says holds for those that share its connection.
            let second =
                Http2Settings { scheme: scheme.unwrap_or(settings.second.scheme), ..settings.second };
            let client = Http2Client::new(Rc::clone(&session), second, cx.now(), Box::new(()));
            if matches!(key, Key::Own(_)) {
                self.scope.family.keep(&session);
            }
            self.pool.borrow_mut().entry(key.clone()).or_default().push(Rc::clone(&session));
            (session, Box::new(client))
        } else {
            let session = Rc::new(Session::exclusive());
            let client = HttpClient::new(Rc::clone(&session), settings.second.idle, Box::new(()))
                .limiting(settings.second.bytes);
            (session, Box::new(client))
        };
        session.set_requests_max(settings.max_messages);
        let scope = self.scope.outliving();
        let mut row: Vec<Box<dyn Filter>> = vec![client];
        match layout.native(&scope) {
            Some(native) => row.extend(native),
            None => row.push(Box::new(Bridge::new(layout.pipeline(&scope, Vec::new())))),
        }
        cx.open_free(row);
        Some(session)
    }

    fn begin(&mut self, cx: &mut Cx<'_>, mut head: Box<RequestHead>, length: BodyLength) {
        if self.settings.is_none() {
            match self.source.settings(&self.scope) {
                Some(settings) => self.settings = Some(settings),
                None => return cx.forward(Event::Close(CloseReason::Script)),
            }
        }
        // HTTP/2 cannot say that it asks nobody.
        if self.settings.as_ref().is_some_and(|settings| settings.http2) && head.authority().is_none() {
            let _ = head.headers.insert("host", "localhost");
        }
        match self.key() {
            Ok(key) => self.send(cx, key, (head, length), 1),
            Err(error) => {
                log::line("ERR", &format!("{}: muxHTTP: {error}", self.label));
                cx.forward(Event::Close(CloseReason::Script));
            }
        }
    }

    fn send(
        &mut self,
        cx: &mut Cx<'_>,
        key: Key,
        (head, length): (Box<RequestHead>, BodyLength),
        tries: u32,
    ) {
        self.slot = self.slot.wrapping_add(1);
        let slot = self.slot;
        let session = self.session(cx, &key, head.scheme, tries > 1);
        let tunnel = head.method == Method::Connect || head.is_upgrade();
        let Some(lease) = session.and_then(|session| Lease::take(&session, cx, slot)) else {
            return cx.forward(Event::Close(CloseReason::ConnectFailed));
        };
        lease.send(cx, Event::Start(Head::Request(head), length));
        let (begun, asked, body, answered) = (false, false, false, false);
        self.current =
            Some(Current { lease, key, slot, length, begun, asked, body, answered, tunnel, tries });
    }

    fn finish(&mut self, cx: &mut Cx<'_>) {
        let Some(current) = self.current.take_if(|current| current.asked && current.answered) else { return };
        if let Some(session) = current.lease.release(cx, true) {
            if matches!(current.key, Key::Own(_)) {
                self.scope.family.keep(&session);
            }
            let mut pool = self.pool.borrow_mut();
            let kept = pool.entry(current.key).or_default();
            kept.retain(|kept| kept.pipeline().is_some_and(|pipeline| cx.alive(pipeline)));
            if kept.len() < KEPT_MAX {
                kept.push(session);
            }
        }
        // Keys come and go with clients: those without a connection are forgotten now and then.
        let mut pool = self.pool.borrow_mut();
        if pool.len() > KEYS_MAX {
            pool.retain(|_, kept| {
                kept.retain(|kept| kept.pipeline().is_some_and(|pipeline| cx.alive(pipeline)));
                !kept.is_empty()
            });
        }
        drop(pool);
        for event in std::mem::take(&mut self.held) {
            self.input(cx, event);
        }
    }

    /// The connection ended before a response began.
    fn unanswered(&mut self, cx: &mut Cx<'_>, reason: CloseReason) {
        let Some(current) = self.current.take() else { return };
        let reused = current.lease.session().requests() > 1;
        let head = current.lease.take_request();
        current.lease.abort(cx);
        match head {
            // The server has closed a connection that it had kept: that says nothing of this request.
            Some(head) if reused && !current.body && current.tries < TRIES_MAX => {
                self.send(cx, current.key, (head, current.length), current.tries + 1);
                if let Some(again) = self.current.as_mut().filter(|_| current.asked) {
                    again.asked = true;
                    again.lease.send(cx, Event::End(None));
                }
            }
            _ => {
                let head = Box::new(gateway_error(reason));
                cx.forward(Event::Start(Head::Response(head), BodyLength::Length(0)));
                cx.forward(Event::End(None));
            }
        }
    }
}

/// The answer where no server gave one.
fn gateway_error(reason: CloseReason) -> ResponseHead {
    let (status, words) = match reason {
        CloseReason::ConnectFailed => (502, "Connection Refused"),
        CloseReason::CannotResolve => (502, "Cannot Resolve"),
        CloseReason::Denied | CloseReason::TlsFailed | CloseReason::WrongPeer => (401, "Unauthorized"),
        CloseReason::ConnectTimeout
        | CloseReason::IdleTimeout
        | CloseReason::ReadTimeout
        | CloseReason::WriteTimeout => (504, "Gateway Timeout"),
        _ => (502, "Bad Gateway"),
    };
    let mut head = ResponseHead::new(status);
    head.reason = words.as_bytes().into();
    head
}

impl Filter for Request {
    fn name(&self) -> &'static str {
        "muxHTTP"
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        let event = match script_event(&event) {
            Some(ScriptEvent::Start(head, length)) => {
                let made = self.scope.engine().request_head(head);
                match made {
                    Ok(head) => {
                        let length = events::request_length(&head.method, *length);
                        Event::Start(Head::Request(head), length)
                    }
                    Err(error) => {
                        log::line("ERR", &format!("{}: the request cannot be sent: {error}", self.label));
                        Event::Close(CloseReason::Script)
                    }
                }
            }
            Some(ScriptEvent::End(..)) => Event::End(None),
            Some(ScriptEvent::Failed(_)) => Event::Close(CloseReason::Script),
            None => event,
        };
        match (&mut self.current, event) {
            (None, Event::Start(Head::Request(head), length)) => self.begin(cx, head, length),
            (Some(current), event) if current.asked && !matches!(event, Event::Pause | Event::Resume) => {
                // In a tunnel there is no next request: what follows is for the server.
                match event {
                    // Among many on a connection, the end of one who has asked all is none of the server's business.
                    Event::Close(CloseReason::Finished)
                        if current.lease.session().is_multiplexed() && !current.tunnel =>
                    {
                        self.held.push_back(Event::Close(CloseReason::Finished));
                    }
                    event @ (Event::Data(_) | Event::Close(_)) if self.held.is_empty() => {
                        current.lease.send(cx, event);
                    }
                    event => self.held.push_back(event),
                }
            }
            (Some(current), event) => {
                current.asked |= matches!(event, Event::End(_));
                current.body |= matches!(event, Event::Data(_));
                current.lease.send(cx, event);
                self.finish(cx);
            }
            // Without a request there is no one to tell.
            (None, _) => {}
        }
    }

    fn sub(&mut self, cx: &mut Cx<'_>, slot: Slot, event: Event) {
        let Some(current) = self.current.as_mut().filter(|current| current.slot == slot) else { return };
        match event {
            Event::Pause | Event::Resume => cx.back(event),
            Event::Close(reason) if !current.begun => self.unanswered(cx, reason),
            Event::Close(reason) => {
                // The end of a tunnel's one direction is not that of the other.
                if !reason.is_clean() {
                    self.current = None;
                }
                cx.forward(Event::Close(reason));
            }
            other => {
                current.begun |=
                    matches!(&other, Event::Start(Head::Response(head), _) if !head.is_interim());
                current.answered |= matches!(other, Event::End(_));
                cx.forward(other);
                self.finish(cx);
            }
        }
    }

    fn closed(&mut self, cx: &mut Cx<'_>) {
        if let Some(current) = self.current.take() {
            current.lease.abort(cx);
        }
    }
}
