//! `decodeHTTPRequest`, `decodeHTTPResponse`, `encodeHTTPRequest`, `encodeHTTPResponse`: the halves of HTTP/1, for scripts that put
//! servers and clients together themselves.
//!
//! The callback of requests is told each head; that of responses tells the head of the request that is answered, for HEAD
//! and CONNECT are answered without a body. INVARIANT: what cannot be read or written is a line in the log and the end of the
//! stream; messages before it have gone on.

use std::rc::Rc;

use bytes::Bytes;
use pipy_http::{
    BodyEncoder, BodyLength, HttpError, Limits, Method, ReplyTo, RequestDecoder, RequestHead, RequestItem,
    ResponseDecoder, ResponseItem, encode_request_head, encode_response_head,
};
use pipy_pipeline::{CloseReason, Cx, Event, Filter, Head};
use rquickjs::{Result, Value};

use super::ask::Asker;
use super::values::is_close;
use crate::engine::Kept;
use crate::events::{self, ScriptEvent, script_event};
use crate::known::property;
use crate::layout::{FilterDef, Reading, Scope};

#[derive(Clone)]
struct Codec {
    asker: Asker,
    handler: Option<Kept>,
}

pub(super) fn make(reading: &Reading<'_, '_>) -> Result<Rc<dyn FilterDef>> {
    let handler = reading.callback(0).and_then(|_| reading.kept(0));
    // Bodies are never gathered to be measured, so that how much of them may be has no meaning.
    let _ = reading.settings(usize::from(handler.is_some()))?;
    Ok(Rc::new(Codec { asker: Asker { name: reading.name, label: reading.label.clone() }, handler }))
}

impl FilterDef for Codec {
    fn filter(&self, scope: &Scope) -> Box<dyn Filter> {
        let (codec, scope, within) = (self.clone(), scope.clone(), false);
        match self.asker.name {
            "decodeHTTPRequest" => Box::new(Reader {
                codec,
                scope,
                within,
                input: Input::Requests(RequestDecoder::new(Limits::default())),
                over: false,
            }),
            "decodeHTTPResponse" => Box::new(Reader {
                codec,
                scope,
                within,
                input: Input::Responses(ResponseDecoder::new(Limits::default())),
                over: false,
            }),
            _ => Box::new(Writer { codec, scope, body: None, over: false }),
        }
    }
}

impl Codec {
    /// Tells the callback a request's head.
    fn told(&self, scope: &Scope, head: &RequestHead) -> Option<()> {
        let Some(handler) = &self.handler else { return Some(()) };
        let head = Head::Request(Box::new(head.clone()));
        self.asker.ask(scope, handler, |ctx, makers| Ok(vec![makers.head(ctx, &head)?]), |_, _, _| Ok(()))
    }

    /// Asks the callback which request is answered.
    fn asked(&self, scope: &Scope) -> Option<Method> {
        let Some(handler) = &self.handler else { return Some(Method::Get) };
        self.asker.ask(
            scope,
            handler,
            |_, _| Ok(Vec::new()),
            |ctx, makers, value| {
                let Some(head) = value.as_object() else { return Ok(Method::Get) };
                let mut method: Value<'_> = property(ctx, head, &makers.known.names.method)?;
                if method.is_undefined() {
                    // A message, or its start, has the head within.
                    let inner = property(ctx, head, &makers.known.names.head)?;
                    let Some(inner) = inner.as_object() else { return Ok(Method::Get) };
                    method = property(ctx, inner, &makers.known.names.method)?;
                }
                let text = method.as_string().map(|text| text.to_string()).transpose()?;
                Ok(text.and_then(|text| Method::from_bytes(text.as_bytes()).ok()).unwrap_or(Method::Get))
            },
        )
    }
}

enum Input {
    Requests(RequestDecoder),
    Responses(ResponseDecoder),
}

struct Reader {
    codec: Codec,
    scope: Scope,
    input: Input,
    /// A response has begun and not ended.
    within: bool,
    over: bool,
}

impl Reader {
    /// The next event; `Err` with nothing where the callback has failed and has said so.
    fn next(&mut self) -> std::result::Result<Option<Event>, Option<HttpError>> {
        match &mut self.input {
            Input::Requests(decoder) => Ok(match decoder.next().map_err(Some)? {
                Some(RequestItem::Head(head, length)) => {
                    self.codec.told(&self.scope, &head).ok_or(None)?;
                    Some(Event::Start(Head::Request(head), length))
                }
                Some(RequestItem::Data(data)) => Some(Event::Data(data)),
                Some(RequestItem::End(trailers)) => Some(Event::End(trailers.map(Box::new))),
                None => None,
            }),
            Input::Responses(decoder) => {
                if decoder.outstanding() == 0 && !self.within && decoder.buffered() > 0 {
                    let method = self.codec.asked(&self.scope).ok_or(None)?;
                    decoder.expect_upgrade(&method);
                }
                Ok(match decoder.next().map_err(Some)? {
                    Some(ResponseItem::Interim(head)) => {
                        Some(Event::Start(Head::Response(head), BodyLength::None))
                    }
                    Some(ResponseItem::Head(head, length)) => {
                        self.within = true;
                        Some(Event::Start(Head::Response(head), length))
                    }
                    Some(ResponseItem::Data(data)) => Some(Event::Data(data)),
                    Some(ResponseItem::End(trailers)) => {
                        self.within = false;
                        Some(Event::End(trailers.map(Box::new)))
                    }
                    None => None,
                })
            }
        }
    }

    fn read(&mut self, cx: &mut Cx<'_>) -> bool {
        loop {
            match self.next() {
                Ok(Some(event)) => cx.forward(event),
                Ok(None) => return true,
                Err(error) => {
                    let reason = match &error {
                        Some(error) => {
                            self.codec.asker.complain(error);
                            CloseReason::Protocol
                        }
                        None => CloseReason::Script,
                    };
                    self.over = true;
                    cx.forward(Event::Close(reason));
                    return false;
                }
            }
        }
    }
}

impl Filter for Reader {
    fn name(&self) -> &'static str {
        self.codec.asker.name
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        if self.over {
            return;
        }
        match event {
            Event::Data(data) => {
                match &mut self.input {
                    Input::Requests(decoder) => decoder.push(data),
                    Input::Responses(decoder) => decoder.push(data),
                }
                self.read(cx);
            }
            end if is_close(&end) => {
                match &mut self.input {
                    Input::Requests(decoder) => decoder.finish(),
                    Input::Responses(decoder) => decoder.finish(),
                }
                if self.read(cx) {
                    self.over = true;
                    cx.forward(end);
                }
            }
            other => cx.forward(other),
        }
    }
}

struct Writer {
    codec: Codec,
    scope: Scope,
    body: Option<BodyEncoder>,
    over: bool,
}

impl Writer {
    /// The head in bytes. `Err` with nothing where the log has it already.
    fn start(&mut self, event: &Event) -> std::result::Result<Bytes, Option<String>> {
        let said = |error: HttpError| Some(error.to_string());
        let mut out = Vec::new();
        let engine = self.scope.engine();
        if self.codec.asker.name == "encodeHTTPRequest" {
            let (head, length) = match (event, script_event(event)) {
                (Event::Start(Head::Request(head), length), _) => (head.clone(), *length),
                (_, Some(ScriptEvent::Start(head, length))) => {
                    let head = engine.request_head(head).map_err(|error| Some(error.to_string()))?;
                    let length = events::request_length(&head.method, *length);
                    (head, length)
                }
                _ => return Err(Some("a response cannot be written as a request".into())),
            };
            self.codec.told(&self.scope, &head).ok_or(None)?;
            self.body = Some(encode_request_head(&head, length, &mut out).map_err(said)?);
        } else {
            let (head, length) = match (event, script_event(event)) {
                (Event::Start(Head::Response(head), length), _) => (head.clone(), *length),
                (_, Some(ScriptEvent::Start(head, length))) => {
                    let head = engine.response_head(head).map_err(|error| Some(error.to_string()))?;
                    let length = events::response_length(head.status, *length);
                    (head, length)
                }
                _ => return Err(Some("a request cannot be written as a response".into())),
            };
            let method = self.codec.asked(&self.scope).ok_or(None)?;
            let to = ReplyTo::new(&RequestHead::new(method, "/"));
            self.body = Some(encode_response_head(&head, length, to, &mut out).map_err(said)?);
        }
        Ok(out.into())
    }

    fn write(&mut self, event: &Event) -> std::result::Result<Bytes, Option<String>> {
        let said = |error: HttpError| Some(error.to_string());
        let mut out = Vec::new();
        match (event, script_event(event)) {
            (Event::Start(..), _) | (_, Some(ScriptEvent::Start(..))) => return self.start(event),
            (Event::Data(data), _) => match &mut self.body {
                Some(body) => body.encode(data, &mut out).map_err(said)?,
                None => return Ok(data.clone()),
            },
            (Event::End(trailers), _) => {
                if let Some(body) = self.body.take() {
                    body.end(trailers.as_deref(), &mut out).map_err(said)?;
                }
            }
            _ => {
                if let Some(body) = self.body.take() {
                    body.end(None, &mut out).map_err(said)?;
                }
            }
        }
        Ok(out.into())
    }
}

impl Filter for Writer {
    fn name(&self) -> &'static str {
        self.codec.asker.name
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        if self.over {
            return;
        }
        if is_close(&event) || matches!(event, Event::Pause | Event::Resume) {
            return cx.forward(event);
        }
        match self.write(&event) {
            Ok(bytes) if bytes.is_empty() => {}
            Ok(bytes) => cx.forward(Event::Data(bytes)),
            Err(error) => {
                if let Some(error) = error {
                    self.codec.asker.complain(&error);
                }
                self.over = true;
                cx.forward(Event::Close(CloseReason::Script));
            }
        }
    }
}
