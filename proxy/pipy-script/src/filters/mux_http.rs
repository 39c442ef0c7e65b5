//! `muxHTTP`: requests over connections that are shared by key. A connection is the pipeline behind it with the HTTP client
//! in front.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use pipy_filters::{HttpClient, Lease, Session};
use pipy_http::{BodyLength, ResponseHead};
use pipy_pipeline::{CloseReason, Cx, Event, Filter, Head, Slot};
use rquickjs::{Result, Value};

use super::sub::Bridge;
use crate::engine::Kept;
use crate::events::{self, ScriptEvent, script_event};
use crate::layout::{FilterDef, Reading, Scope, Target};
use crate::log;

/// How long a connection without a request is kept.
const IDLE: Duration = Duration::from_secs(60);

/// LIMIT: connections that wait for a request, per key.
const KEPT_MAX: usize = 512;

/// Connections that wait, by key. Shared by all instances of one filter of the script.
type Pool = Rc<RefCell<HashMap<String, Vec<Rc<Session>>>>>;

struct Mux {
    target: Target,
    label: String,
    key: Option<Kept>,
    pool: Pool,
}

pub(super) fn make(reading: &Reading<'_, '_>) -> Result<Rc<dyn FilterDef>> {
    let key = reading.args.first().filter(|key| reading.options(0).is_none() || key.is_function());
    let key = key.and_then(|_| reading.kept(0));
    let label = reading.label.clone();
    Ok(Rc::new(Mux { target: reading.needed()?, label, key, pool: Pool::default() }))
}

impl FilterDef for Mux {
    fn filter(&self, scope: &Scope) -> Box<dyn Filter> {
        Box::new(Request {
            target: self.target.clone(),
            label: self.label.clone(),
            key: self.key.clone(),
            pool: Rc::clone(&self.pool),
            scope: scope.clone(),
            current: None,
        })
    }
}

struct Current {
    lease: Lease,
    key: String,
    slot: Slot,
    begun: bool,
    asked: bool,
    answered: bool,
}

struct Request {
    target: Target,
    label: String,
    key: Option<Kept>,
    pool: Pool,
    scope: Scope,
    current: Option<Current>,
}

impl Request {
    /// What the session is shared by: the key that the script gives, or the client's connection.
    fn key(&self) -> std::result::Result<String, crate::ScriptError> {
        let engine = self.scope.engine();
        engine.with(|ctx| {
            engine.enter(ctx, &self.scope.vars)?;
            let mut value = match &self.key {
                Some(key) => key.clone().restore(ctx)?,
                None => Value::new_undefined(ctx.clone()),
            };
            if let Some(function) = value.as_function() {
                value = function.call(())?;
            }
            if value.is_undefined() {
                value = engine.inbound(ctx)?;
            }
            engine.identity(ctx, &value)
        })
    }

    fn session(&mut self, cx: &mut Cx<'_>, key: &str) -> Option<Rc<Session>> {
        if let Some(kept) = self.pool.borrow_mut().get_mut(key) {
            while let Some(session) = kept.pop() {
                let alive = session.pipeline().is_some_and(|pipeline| cx.alive(pipeline));
                if alive && session.has_room() {
                    return Some(session);
                }
            }
        }
        let layout = self.target.layout()?;
        let session = Rc::new(Session::exclusive());
        let client = HttpClient::new(Rc::clone(&session), IDLE, Box::new(()));
        let row = layout.pipeline(&self.scope, Vec::new());
        cx.open_free(vec![Box::new(client), Box::new(Bridge::new(row))]);
        Some(session)
    }

    fn begin(&mut self, cx: &mut Cx<'_>, head: Event) {
        let key = match self.key() {
            Ok(key) => key,
            Err(error) => {
                log::line("ERR", &format!("{}: muxHTTP: {error}", self.label));
                return cx.forward(Event::Close(CloseReason::Script));
            }
        };
        let slot = 0;
        let lease = self.session(cx, &key).and_then(|session| Lease::take(&session, cx, slot));
        let Some(lease) = lease else { return cx.forward(Event::Close(CloseReason::ConnectFailed)) };
        lease.send(cx, head);
        self.current = Some(Current { lease, key, slot, begun: false, asked: false, answered: false });
    }

    fn finish(&mut self, cx: &mut Cx<'_>) {
        let Some(current) = self.current.take_if(|current| current.asked && current.answered) else { return };
        if let Some(session) = current.lease.release(cx, true) {
            let mut pool = self.pool.borrow_mut();
            let kept = pool.entry(current.key).or_default();
            kept.retain(|kept| kept.pipeline().is_some_and(|pipeline| cx.alive(pipeline)));
            if kept.len() < KEPT_MAX {
                kept.push(session);
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
        CloseReason::ConnectTimeout | CloseReason::IdleTimeout => (504, "Gateway Timeout"),
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
                let made =
                    self.scope.engine().with(|ctx| events::request_head(ctx, &head.clone().restore(ctx)?));
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
            (None, event @ Event::Start(Head::Request(_), _)) => self.begin(cx, event),
            (Some(current), event) => {
                current.asked |= matches!(event, Event::End(_));
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
            Event::Close(reason) if !current.begun => {
                let head = gateway_error(reason);
                self.current = None;
                cx.forward(Event::Start(Head::Response(Box::new(head)), BodyLength::Length(0)));
                cx.forward(Event::End(None));
            }
            Event::Close(reason) => {
                self.current = None;
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
