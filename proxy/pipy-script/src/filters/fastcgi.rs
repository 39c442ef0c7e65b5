//! `demuxFastCGI` and `muxFastCGI`: both roles of FastCGI.
//!
//! `demuxFastCGI` runs each request of a connection through a sub-pipeline, in a clone of the context; requests may be under way at
//! once. `muxFastCGI` is `mux` (mux.rs) with [`Client`] in front of each session, which asks one request after the other.
//!
//! INVARIANT: an answer carries the number of its request; what cannot be read ends the connection.

use std::collections::HashMap;
use std::rc::Rc;

use bytes::Bytes;
use pipy_pipeline::{CloseReason, Cx, Event, Filter, PipelineId, Slot};
use pipy_protocols::fastcgi::{Item, Requests, Responses, encode_request, encode_response};
use pipy_protocols::{Event as Piece, Value as Plain};
use rquickjs::Result;

use super::ask::Asker;
use super::codec;
use super::values::{is_close, is_end};
use crate::events::{ScriptEvent, script_event};
use crate::layout::{FilterDef, Reading, Scope, Target};

#[derive(Clone)]
struct Demux {
    target: Target,
    asker: Asker,
}

pub(super) fn demux(reading: &Reading<'_, '_>) -> Result<Rc<dyn FilterDef>> {
    let asker = Asker { name: reading.name, label: reading.label.clone() };
    Ok(Rc::new(Demux { target: reading.needed()?, asker }))
}

impl FilterDef for Demux {
    fn filter(&self, scope: &Scope) -> Box<dyn Filter> {
        let (def, scope) = (self.clone(), scope.clone());
        Box::new(Server {
            def,
            scope,
            requests: Requests::new(),
            open: HashMap::new(),
            ended: None,
            over: false,
        })
    }
}

/// A piece of a message for a codec. `None` for what is none.
fn piece(scope: &Scope, event: &Event) -> std::result::Result<Option<Piece>, String> {
    let plain = |kept| scope.engine().with(|ctx| codec::plain(ctx, kept)).map_err(|error| error.to_string());
    Ok(Some(match (event, script_event(event)) {
        (Event::Data(bytes), _) => Piece::Data(bytes.clone()),
        (Event::Start(..), _) => Piece::Start(Plain::Null),
        (Event::End(_), _) => Piece::End { tail: None, payload: None },
        (_, Some(ScriptEvent::Start(head, _))) => Piece::Start(plain(head)?.unwrap_or_default()),
        (_, Some(ScriptEvent::End(tail, payload))) => {
            Piece::End { tail: plain(tail)?, payload: plain(payload)? }
        }
        _ => return Ok(None),
    }))
}

fn made(scope: &Scope, piece: Piece) -> std::result::Result<Event, crate::ScriptError> {
    scope.engine().with(|ctx| codec::event(ctx, piece))
}

struct Request {
    sub: PipelineId,
    /// The connection stays when this is answered.
    kept: bool,
}

struct Server {
    def: Demux,
    scope: Scope,
    requests: Requests,
    open: HashMap<u16, Request>,
    /// Nothing more comes; the end follows the last answer.
    ended: Option<Event>,
    over: bool,
}

impl Server {
    fn fail(&mut self, cx: &mut Cx<'_>, error: &dyn std::fmt::Display, reason: CloseReason) {
        self.def.asker.complain(error);
        self.over = true;
        cx.forward(Event::Close(reason));
    }

    fn item(&mut self, cx: &mut Cx<'_>, item: Item) {
        match item {
            Item::Reply(bytes) => cx.forward(Event::Data(bytes)),
            Item::Abort(id) => {
                if let Some(request) = self.open.remove(&id) {
                    cx.close(request.sub);
                    self.answer(cx, id, Piece::End { tail: None, payload: None });
                    self.answered(cx, id, request.kept);
                }
            }
            Item::Event(id, piece) => {
                if let Piece::Start(head) = &piece {
                    let Some(layout) = self.def.target.layout() else { return };
                    let kept = head.get("keepAlive").is_some_and(Plain::is_truthy);
                    let row = layout.pipeline(&self.scope.cloned(), Vec::new());
                    let sub = cx.open_turning(row, Slot::from(id));
                    self.open.insert(id, Request { sub, kept });
                }
                let Some(request) = self.open.get(&id) else { return };
                match made(&self.scope, piece) {
                    Ok(event) => cx.send(request.sub, event),
                    Err(error) => self.fail(cx, &error, CloseReason::Script),
                }
            }
        }
    }

    fn answer(&mut self, cx: &mut Cx<'_>, id: u16, piece: Piece) {
        let mut out = Vec::new();
        match encode_response(id, piece, &mut out) {
            Ok(()) => out.into_iter().for_each(|bytes| cx.forward(Event::Data(bytes))),
            Err(error) => self.fail(cx, &error, CloseReason::Script),
        }
    }

    fn answered(&mut self, cx: &mut Cx<'_>, id: u16, kept: bool) {
        self.requests.done(id);
        let end = match &self.ended {
            Some(_) if self.open.is_empty() => self.ended.take(),
            None if !kept => Some(Event::Close(CloseReason::Finished)),
            _ => None,
        };
        if let Some(end) = end {
            self.over = true;
            cx.forward(end);
        }
    }
}

impl Filter for Server {
    fn name(&self) -> &'static str {
        self.def.asker.name
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        match event {
            _ if self.over => {}
            Event::Data(data) => {
                let mut items = Vec::new();
                let read = self.requests.push(data, &mut items);
                items.into_iter().for_each(|item| self.item(cx, item));
                if let Err(error) = read {
                    self.fail(cx, &error, CloseReason::Protocol);
                }
            }
            end if is_close(&end) => {
                if self.open.is_empty() {
                    self.over = true;
                    return cx.forward(end);
                }
                self.ended = Some(end);
            }
            Event::Pause | Event::Resume => cx.forward(event),
            _ => {}
        }
    }

    fn sub(&mut self, cx: &mut Cx<'_>, slot: Slot, event: Event) {
        let Ok(id) = u16::try_from(slot) else { return };
        if matches!(event, Event::Pause | Event::Resume) {
            return cx.back(event);
        }
        if !self.open.contains_key(&id) {
            return;
        }
        let ends = is_end(&event) || is_close(&event);
        let said = if is_close(&event) {
            // The application has gone without an answer: the server is told that it is over.
            Ok(Some(Piece::End { tail: None, payload: None }))
        } else {
            piece(&self.scope, &event)
        };
        match said {
            Ok(Some(piece)) => self.answer(cx, id, piece),
            Ok(None) => {}
            Err(error) => self.fail(cx, &error, CloseReason::Script),
        }
        if ends && let Some(request) = self.open.remove(&id) {
            cx.close(request.sub);
            self.answered(cx, id, request.kept);
        }
    }

    fn closed(&mut self, cx: &mut Cx<'_>) {
        for (_, request) in self.open.drain() {
            cx.close(request.sub);
        }
    }
}

/// The only request of a connection that is asked one after the other.
const ONLY_ID: u16 = 1;

/// In front of a session: requests in, responses out.
pub(super) struct Client {
    scope: Scope,
    asker: Asker,
    responses: Responses,
    begun: bool,
    over: bool,
}

impl Client {
    pub(super) fn new(scope: &Scope, asker: &Asker) -> Self {
        let responses = Responses::new();
        Client { scope: scope.clone(), asker: asker.clone(), responses, begun: false, over: false }
    }

    fn fail(&mut self, cx: &mut Cx<'_>, error: &dyn std::fmt::Display, reason: CloseReason) {
        self.asker.complain(error);
        self.over = true;
        cx.back(Event::Close(reason));
    }

    fn write(&mut self, event: &Event) -> std::result::Result<Vec<Bytes>, String> {
        let mut out = Vec::new();
        let Some(mut piece) = piece(&self.scope, event)? else { return Ok(out) };
        if let Piece::Start(head) = &mut piece {
            // The session is shared: the connection stays when a request is answered.
            if let Plain::Object(fields) = head {
                fields.set("keepAlive", Plain::Bool(true));
            }
            self.responses.expect(ONLY_ID);
        }
        encode_request(ONLY_ID, piece, &mut out).map_err(|error| error.to_string())?;
        Ok(out)
    }
}

impl Filter for Client {
    fn name(&self) -> &'static str {
        self.asker.name
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        if self.over {
            return;
        }
        if is_close(&event) || matches!(event, Event::Pause | Event::Resume) {
            return cx.forward(event);
        }
        match self.write(&event) {
            Ok(out) => out.into_iter().for_each(|bytes| cx.forward(Event::Data(bytes))),
            Err(error) => self.fail(cx, &error, CloseReason::Script),
        }
    }

    fn output(&mut self, cx: &mut Cx<'_>, event: Event) {
        let Event::Data(data) = event else { return cx.back(event) };
        if self.over {
            return;
        }
        let mut items = Vec::new();
        let read = self.responses.push(data, &mut items);
        for item in items {
            let Item::Event(_, piece) = item else { continue };
            // A response has no head; scripts expect one to begin it.
            if !matches!(piece, Piece::Start(_)) && !std::mem::replace(&mut self.begun, true) {
                match made(&self.scope, Piece::Start(Plain::Null)) {
                    Ok(start) => cx.back(start),
                    Err(error) => return self.fail(cx, &error, CloseReason::Script),
                }
            }
            self.begun = !matches!(piece, Piece::End { .. });
            match made(&self.scope, piece) {
                Ok(event) => cx.back(event),
                Err(error) => return self.fail(cx, &error, CloseReason::Script),
            }
        }
        if let Err(error) = read {
            self.fail(cx, &error, CloseReason::Protocol);
        }
    }
}
