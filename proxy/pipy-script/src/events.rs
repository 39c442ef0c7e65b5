//! Events of pipelines as values of scripts, and back.
//!
//! HTTP heads stay native until a callback looks at them, and become native again behind it; what a script makes itself
//! travels as [`ScriptEvent`] until a filter of HTTP needs a head. INVARIANT: headers that no callback touched keep their
//! order and spelling.

use std::fmt;
use std::rc::Rc;

use bytes::Bytes;
use pipy_http::{BodyLength, Headers, Method, RequestHead, ResponseHead, Version, canonical_reason};
use pipy_pipeline::{CloseReason, Custom, Event, Head};
use rquickjs::{Class, Coerced, Ctx, Exception, Object, Persistent, Result, Value};

use crate::data::Data;
use crate::engine::Kept;
use crate::head::{self, SharedHead};
use crate::headers;
use crate::known::{Known, What, property};
use crate::raw::Name;

/// What a script made that is no event of HTTP.
pub(crate) enum ScriptEvent {
    /// A message begins; the length of its body, if it is known.
    Start(Kept, Option<u64>),
    /// A message is complete: tail and payload.
    End(Kept, Kept),
    /// The stream ends with an error of the script's own.
    Failed(Kept),
}

impl fmt::Debug for ScriptEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ScriptEvent::Start(..) => "ScriptStart",
            ScriptEvent::End(..) => "ScriptEnd",
            ScriptEvent::Failed(_) => "ScriptFailed",
        })
    }
}

impl Custom for ScriptEvent {
    fn plain(self: Box<Self>) -> Option<Event> {
        match *self {
            ScriptEvent::Failed(_) => Some(Event::Close(CloseReason::Script)),
            ScriptEvent::Start(..) | ScriptEvent::End(..) => None,
        }
    }
}

/// The event as a script's own, if it is one.
pub(crate) fn script_event(event: &Event) -> Option<&ScriptEvent> {
    let Event::Custom(custom) = event else { return None };
    let any: &dyn std::any::Any = custom.as_ref();
    any.downcast_ref()
}

/// What makes events, and tells them apart.
pub(crate) struct Makers<'js> {
    pub(crate) known: Rc<Known>,
    ctx: Ctx<'js>,
}

impl<'js> Makers<'js> {
    pub(crate) fn new(ctx: &Ctx<'js>, known: Rc<Known>) -> Self {
        Makers { known, ctx: ctx.clone() }
    }

    pub(crate) fn start(&self, head: &Value<'js>) -> Result<Value<'js>> {
        self.known.start(&self.ctx, head)
    }

    pub(crate) fn end(&self, tail: Value<'js>, payload: Value<'js>) -> Result<Value<'js>> {
        self.known.end(&self.ctx, &tail, &payload)
    }

    pub(crate) fn stream_end(&self, error: Value<'js>) -> Result<Value<'js>> {
        self.known.stream_end(&self.ctx, &error)
    }

    pub(crate) fn message(
        &self,
        head: Value<'js>,
        body: Value<'js>,
        tail: Value<'js>,
        payload: Value<'js>,
    ) -> Result<Value<'js>> {
        self.known.message(&self.ctx, &head, &body, &tail, &payload)
    }

    /// Bytes as a script sees them.
    pub(crate) fn data(&self, bytes: Bytes) -> Result<Value<'js>> {
        Ok(Class::instance_proto(Data::from(bytes), self.known.data(&self.ctx)?)?.into_value())
    }

    /// Whether a value is an event, a message or a list of such.
    pub(crate) fn is_events(&self, value: &Value<'js>) -> Result<bool> {
        Ok(!matches!(self.known.what(&self.ctx, value)?, What::Nothing | What::Other))
    }

    /// The tail of a message: its trailers.
    pub(crate) fn tail(&self, ctx: &Ctx<'js>, trailers: Option<&Headers>) -> Result<Value<'js>> {
        let Some(trailers) = trailers else { return Ok(Value::new_undefined(ctx.clone())) };
        let tail = Object::new(ctx.clone())?;
        tail.set("headers", headers::object(ctx, trailers)?)?;
        Ok(tail.into_value())
    }

    /// A head as the script sees it, apart from the one that goes on.
    pub(crate) fn head(&self, ctx: &Ctx<'js>, head: &Head) -> Result<Value<'js>> {
        self.shared(ctx, head::share(head::copy(head)))
    }

    /// A head that a script and whoever else has it see the same of.
    pub(crate) fn shared(&self, ctx: &Ctx<'js>, head: SharedHead) -> Result<Value<'js>> {
        head::object(ctx, &self.known, head)
    }

    /// What a script returned or made, as events.
    pub(crate) fn events(&self, ctx: &Ctx<'js>, value: &Value<'js>, out: &mut Vec<Event>) -> Result<()> {
        let names = &self.known.names;
        let field = |name| property(ctx, value, name);
        let keep = |value: Value<'js>| Persistent::save(ctx, value);
        match self.known.what(ctx, value)? {
            What::Nothing => {}
            What::Data => out.extend(Data::of(value).map(Event::Data)),
            What::Start => out.push(custom(ScriptEvent::Start(keep(field(&names.head)?), None))),
            What::End => {
                let (tail, payload) = (field(&names.tail)?, field(&names.payload)?);
                out.push(custom(ScriptEvent::End(keep(tail), keep(payload))));
            }
            What::StreamEnd => {
                let error = field(&names.error)?;
                out.push(match reason(&error)? {
                    Some(reason) => Event::Close(reason),
                    None => custom(ScriptEvent::Failed(keep(error))),
                });
            }
            What::Message => {
                let body = Data::body_of(&field(&names.body)?)?;
                let length = Some(body.len() as u64);
                out.push(custom(ScriptEvent::Start(keep(field(&names.head)?), length)));
                if !body.is_empty() {
                    out.push(Event::Data(body));
                }
                let (tail, payload) = (field(&names.tail)?, field(&names.payload)?);
                out.push(custom(ScriptEvent::End(keep(tail), keep(payload))));
            }
            What::List => {
                for item in value.as_array().into_iter().flat_map(|list| list.iter::<Value<'_>>()) {
                    self.events(ctx, &item?, out)?;
                }
            }
            What::Other => {
                return Err(Exception::throw_type(ctx, "the callback did not return an event or a message"));
            }
        }
        Ok(())
    }

    /// A request head from what a script made of it.
    pub(crate) fn request_head(&self, head: &Value<'js>) -> Result<Box<RequestHead>> {
        let (ctx, names) = (&self.ctx, &self.known.names);
        if !head.is_object() {
            return Ok(Box::new(RequestHead::new(Method::Get, "/")));
        }
        if let Some(native) = head::native(ctx, &self.known, head)?
            && let Head::Request(native) = &*native.borrow()
        {
            return Ok(native.clone());
        }
        let method = text(ctx, head, &names.method)?.unwrap_or_else(|| "GET".into());
        let method = Method::from_bytes(method.as_bytes())
            .map_err(|error| Exception::throw_type(ctx, &format!("method: {error}")))?;
        let mut path = text(ctx, head, &names.path)?.unwrap_or_else(|| "/".into());
        let mut headers = self.headers(head)?;
        let authority = text(ctx, head, &names.authority)?;
        if method == Method::Connect && !path.contains(':') {
            path = authority.clone().unwrap_or(path);
        }
        if !headers.contains("host") {
            let host = authority
                .unwrap_or_else(|| if method == Method::Connect { path.clone() } else { String::new() });
            drop(headers.insert("host", host));
        }
        let version = match text(ctx, head, &names.protocol)? {
            Some(text) => head::version(&text),
            None => Version::Http11,
        };
        let scheme = head::scheme(ctx, &property(ctx, head, &names.scheme)?)?;
        Ok(Box::new(RequestHead { method, target: path.into_bytes(), version, scheme, headers }))
    }

    /// A response head from what a script made of it.
    pub(crate) fn response_head(&self, head: &Value<'js>) -> Result<Box<ResponseHead>> {
        let (ctx, names) = (&self.ctx, &self.known.names);
        if !head.is_object() {
            return Ok(Box::new(ResponseHead::new(200)));
        }
        if let Some(native) = head::native(ctx, &self.known, head)?
            && let Head::Response(native) = &*native.borrow()
        {
            return Ok(native.clone());
        }
        let status = property(ctx, head, &names.status)?;
        let nothing = status.is_undefined() || status.is_null();
        let status = if nothing { 200 } else { head::status(ctx, &status)? };
        let mut made = ResponseHead::new(status);
        made.headers = self.headers(head)?;
        if let Some(reason) = text(ctx, head, &names.status_text)?
            && reason != canonical_reason(status)
        {
            made.reason = head::reason(ctx, reason)?;
        }
        Ok(Box::new(made))
    }

    fn headers(&self, head: &Value<'js>) -> Result<Headers> {
        let headers = property(&self.ctx, head, &self.known.names.headers)?;
        headers::read(&self.ctx, &self.known, &headers, None)
    }
}

pub(crate) fn custom(event: ScriptEvent) -> Event {
    Event::Custom(Box::new(event))
}

/// The reason that a `StreamEnd` names; `None` where the error is a value of the script's own.
fn reason(error: &Value<'_>) -> Result<Option<CloseReason>> {
    if error.is_undefined() || error.is_null() {
        return Ok(Some(CloseReason::Finished));
    }
    let Some(name) = error.as_string() else { return Ok(None) };
    Ok(Some(match name.to_string()?.as_str() {
        "" => CloseReason::Finished,
        "CannotResolve" => CloseReason::CannotResolve,
        "ConnectionRefused" => CloseReason::ConnectFailed,
        "ConnectionTimeout" => CloseReason::ConnectTimeout,
        "IdleTimeout" => CloseReason::IdleTimeout,
        "ReadTimeout" => CloseReason::ReadTimeout,
        "WriteTimeout" => CloseReason::WriteTimeout,
        "BufferOverflow" => CloseReason::Overloaded,
        "ProtocolError" => CloseReason::Protocol,
        "Unauthorized" => CloseReason::Denied,
        "ConnectionReset" => CloseReason::Reset,
        _ => return Ok(None),
    }))
}

/// What `StreamEnd.error` says of a reason.
pub(crate) fn error_name(reason: CloseReason) -> Option<&'static str> {
    Some(match reason {
        CloseReason::Finished => return None,
        CloseReason::ConnectFailed => "ConnectionRefused",
        CloseReason::ConnectTimeout => "ConnectionTimeout",
        CloseReason::IdleTimeout => "IdleTimeout",
        CloseReason::ReadTimeout => "ReadTimeout",
        CloseReason::WriteTimeout => "WriteTimeout",
        CloseReason::Protocol => "ProtocolError",
        CloseReason::Denied | CloseReason::TlsFailed | CloseReason::WrongPeer => "Unauthorized",
        CloseReason::Overloaded => "BufferOverflow",
        CloseReason::CannotResolve => "CannotResolve",
        CloseReason::Script => "RuntimeError",
        _ => "ConnectionReset",
    })
}

fn text<'js>(ctx: &Ctx<'js>, head: &Value<'js>, name: &Name) -> Result<Option<String>> {
    let value = property(ctx, head, name)?;
    if value.is_undefined() || value.is_null() {
        return Ok(None);
    }
    Ok(Some(value.get::<Coerced<String>>()?.0))
}

/// The length of a response's body as it is announced.
pub(crate) fn response_length(status: u16, known: Option<u64>) -> BodyLength {
    match known {
        _ if status < 200 || status == 204 || status == 304 => BodyLength::None,
        Some(length) => BodyLength::Length(length),
        None => BodyLength::Chunked,
    }
}

/// The length of a request's body as it is announced.
pub(crate) fn request_length(method: &Method, known: Option<u64>) -> BodyLength {
    match known {
        Some(0)
            if matches!(
                method,
                Method::Get | Method::Head | Method::Delete | Method::Options | Method::Connect
            ) =>
        {
            BodyLength::None
        }
        Some(length) => BodyLength::Length(length),
        None => BodyLength::Chunked,
    }
}

/// Bytes as a script sees them.
pub(crate) fn data<'js>(ctx: &Ctx<'js>, bytes: Bytes) -> Result<Value<'js>> {
    Data::new_js(ctx, bytes)
}

/// The length of a body, as events of scripts know it.
pub(crate) fn known_length(length: BodyLength) -> Option<u64> {
    match length {
        BodyLength::None => Some(0),
        BodyLength::Length(length) => Some(length),
        BodyLength::Chunked | BodyLength::UntilClose => None,
    }
}
