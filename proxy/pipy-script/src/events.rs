//! Events of pipelines as values of scripts, and back.
//!
//! HTTP heads stay native until a callback looks at them, and become native again behind it; what a script makes itself
//! travels as [`ScriptEvent`] until a filter of HTTP needs a head. INVARIANT: headers that no callback touched keep their
//! order and spelling.

use std::cell::{Cell, RefCell};
use std::fmt;

use bytes::Bytes;
use pipy_http::{BodyLength, Headers, Method, RequestHead, ResponseHead, Version, canonical_reason};
use pipy_pipeline::{CloseReason, Custom, Event, Head};
use rquickjs::class::Trace;
use rquickjs::{
    Array, Class, Coerced, Ctx, Exception, Function, JsLifetime, Object, Persistent, Result, Value,
};

use crate::data::Data;
use crate::engine::Kept;

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

/// Headers behind a head that a script sees; made into an object when they are asked for.
#[derive(Trace, JsLifetime)]
#[rquickjs::class]
pub(crate) struct RawHeaders {
    #[qjs(skip_trace)]
    headers: RefCell<Headers>,
    #[qjs(skip_trace)]
    touched: Cell<bool>,
}

#[rquickjs::methods]
impl RawHeaders {
    /// The headers, by lower-case name. Several of one name are joined; cookies are a list.
    fn object<'js>(&self, ctx: Ctx<'js>) -> Result<Object<'js>> {
        self.touched.set(true);
        let object = Object::new(ctx.clone())?;
        for (name, value) in self.headers.borrow().iter() {
            let name = String::from_utf8_lossy(name).to_ascii_lowercase();
            if name == "connection" || name == "keep-alive" {
                continue;
            }
            let value = String::from_utf8_lossy(value);
            let before: Value<'_> = object.get(name.as_str())?;
            match (before.as_array(), before.as_string()) {
                (Some(list), _) => list.set(list.len(), value.as_ref())?,
                (_, Some(first)) if name == "set-cookie" => {
                    let list = Array::new(ctx.clone())?;
                    list.set(0, first.clone())?;
                    list.set(1, value.as_ref())?;
                    object.set(name.as_str(), list)?;
                }
                (_, Some(first)) => {
                    let separator = if name == "cookie" { "; " } else { ", " };
                    object.set(name.as_str(), format!("{}{separator}{value}", first.to_string()?))?;
                }
                _ => object.set(name.as_str(), value.as_ref())?,
            }
        }
        Ok(object)
    }

    /// The script puts other headers in their place.
    fn replace(&self) {
        self.touched.set(true);
    }
}

/// Functions of the prelude that make and tell apart events.
pub(crate) struct Makers<'js>(pub(crate) Object<'js>);

impl<'js> Makers<'js> {
    fn make<A: rquickjs::function::IntoArgs<'js>>(&self, name: &str, args: A) -> Result<Value<'js>> {
        self.0.get::<_, Function<'js>>(name)?.call(args)
    }

    pub(crate) fn start(&self, head: Value<'js>) -> Result<Value<'js>> {
        self.make("start", (head,))
    }

    pub(crate) fn end(&self, tail: Value<'js>, payload: Value<'js>) -> Result<Value<'js>> {
        self.make("end", (tail, payload))
    }

    pub(crate) fn stream_end(&self, error: Value<'js>) -> Result<Value<'js>> {
        self.make("streamEnd", (error,))
    }

    pub(crate) fn message(
        &self,
        head: Value<'js>,
        body: Value<'js>,
        tail: Value<'js>,
        payload: Value<'js>,
    ) -> Result<Value<'js>> {
        self.make("message", (head, body, tail, payload))
    }

    /// 0 nothing, 1 Data, 2 MessageStart, 3 MessageEnd, 4 StreamEnd, 5 Message, 6 a list, 7 anything else.
    fn kind(&self, value: &Value<'js>) -> Result<u8> {
        self.0.get::<_, Function<'js>>("kind")?.call((value.clone(),))
    }

    /// Whether a value is an event, a message or a list of such.
    pub(crate) fn is_events(&self, value: &Value<'js>) -> Result<bool> {
        Ok(matches!(self.kind(value)?, 1..=6))
    }

    /// The tail of a message: its trailers.
    pub(crate) fn tail(&self, ctx: &Ctx<'js>, trailers: Option<&Headers>) -> Result<Value<'js>> {
        let Some(trailers) = trailers else { return Ok(Value::new_undefined(ctx.clone())) };
        let raw = RawHeaders { headers: RefCell::new(trailers.clone()), touched: Cell::new(false) };
        let tail = Object::new(ctx.clone())?;
        tail.set("headers", raw.object(ctx.clone())?)?;
        Ok(tail.into_value())
    }

    /// A head as the script sees it.
    pub(crate) fn head(&self, ctx: &Ctx<'js>, head: &Head) -> Result<Value<'js>> {
        let raw = |headers: &Headers| {
            let raw = RawHeaders { headers: RefCell::new(headers.clone()), touched: Cell::new(false) };
            Class::instance(ctx.clone(), raw)
        };
        match head {
            Head::Request(head) => {
                let path = String::from_utf8_lossy(&head.target).into_owned();
                let authority = head.authority().map(std::borrow::Cow::into_owned);
                let args =
                    (head.version.as_str(), head.method.as_str(), path, authority, raw(&head.headers)?);
                self.make("request", args)
            }
            Head::Response(head) => {
                let reason = String::from_utf8_lossy(&head.reason).into_owned();
                let args = (head.version.as_str(), head.status, reason, raw(&head.headers)?);
                self.make("response", args)
            }
        }
    }

    /// What a script returned or made, as events.
    pub(crate) fn events(&self, ctx: &Ctx<'js>, value: &Value<'js>, out: &mut Vec<Event>) -> Result<()> {
        let field = |name: &str| -> Result<Value<'js>> {
            value.as_object().map_or_else(|| Ok(Value::new_undefined(ctx.clone())), |object| object.get(name))
        };
        let keep = |value: Value<'js>| Persistent::save(ctx, value);
        match self.kind(value)? {
            0 => {}
            1 => out.extend(Data::of(value).map(Event::Data)),
            2 => out.push(custom(ScriptEvent::Start(keep(field("head")?), None))),
            3 => out.push(custom(ScriptEvent::End(keep(field("tail")?), keep(field("payload")?)))),
            4 => {
                let error = field("error")?;
                out.push(match reason(&error)? {
                    Some(reason) => Event::Close(reason),
                    None => custom(ScriptEvent::Failed(keep(error))),
                });
            }
            5 => {
                let body = Data::body_of(&field("body")?)?;
                out.push(custom(ScriptEvent::Start(keep(field("head")?), Some(body.len() as u64))));
                if !body.is_empty() {
                    out.push(Event::Data(body));
                }
                out.push(custom(ScriptEvent::End(keep(field("tail")?), keep(field("payload")?))));
            }
            6 => {
                for item in value.as_array().into_iter().flat_map(|list| list.iter::<Value<'_>>()) {
                    self.events(ctx, &item?, out)?;
                }
            }
            _ => return Err(Exception::throw_type(ctx, "the callback did not return an event or a message")),
        }
        Ok(())
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
        "ReadTimeout" | "WriteTimeout" | "IdleTimeout" => CloseReason::IdleTimeout,
        "BufferOverflow" => CloseReason::Overloaded,
        "ProtocolError" => CloseReason::Protocol,
        "Unauthorized" => CloseReason::Denied,
        "ConnectionAborted" | "ConnectionReset" | "ReadError" | "WriteError" => CloseReason::Reset,
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
        CloseReason::Protocol => "ProtocolError",
        CloseReason::Denied | CloseReason::TlsFailed | CloseReason::WrongPeer => "Unauthorized",
        CloseReason::Overloaded => "BufferOverflow",
        CloseReason::CannotResolve => "CannotResolve",
        CloseReason::Script => "RuntimeError",
        _ => "ConnectionReset",
    })
}

fn text<'js>(object: &Object<'js>, name: &str) -> Result<Option<String>> {
    let value: Value<'js> = object.get(name)?;
    if value.is_undefined() || value.is_null() {
        return Ok(None);
    }
    Ok(Some(value.get::<Coerced<String>>()?.0))
}

/// The headers of a head: those that it came with where no script touched them, else those of its object.
fn headers<'js>(ctx: &Ctx<'js>, head: &Object<'js>) -> Result<Headers> {
    let raw: Option<Class<'js, RawHeaders>> = head.get::<_, Value<'js>>("__raw")?.get().ok();
    if let Some(raw) = &raw
        && !raw.borrow().touched.get()
    {
        return Ok(raw.borrow().headers.borrow().clone());
    }
    let mut headers = Headers::new();
    let Some(object) = head.get::<_, Value<'js>>("headers")?.into_object() else { return Ok(headers) };
    for field in object.props::<String, Value<'js>>() {
        let (name, value) = field?;
        if matches!(
            name.to_ascii_lowercase().as_str(),
            "connection" | "keep-alive" | "content-length" | "transfer-encoding"
        ) {
            continue;
        }
        let spelling = raw.as_ref().and_then(|raw| spelling(&raw.borrow().headers.borrow(), &name));
        let name = spelling.unwrap_or(name);
        let mut add = |value: &Value<'js>| -> Result<()> {
            if value.is_undefined() || value.is_null() {
                return Ok(());
            }
            let value = value.get::<Coerced<String>>()?.0;
            headers.append(&name, &value).map_err(|error| {
                Exception::throw_type(ctx, &format!("header {name:?} cannot be sent: {error}"))
            })
        };
        match value.as_array() {
            Some(list) => list.iter::<Value<'js>>().try_for_each(|item| add(&item?))?,
            None => add(&value)?,
        }
    }
    Ok(headers)
}

/// How a header was spelt when it came.
fn spelling(headers: &Headers, name: &str) -> Option<String> {
    let found = headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name.as_bytes()))?;
    Some(String::from_utf8_lossy(found.0).into_owned())
}

/// A request head from what a script made of it.
pub(crate) fn request_head<'js>(ctx: &Ctx<'js>, head: &Value<'js>) -> Result<Box<RequestHead>> {
    let Some(object) = head.as_object() else { return Ok(Box::new(RequestHead::new(Method::Get, "/"))) };
    let method = text(object, "method")?.unwrap_or_else(|| "GET".into());
    let method = Method::from_bytes(method.as_bytes())
        .map_err(|error| Exception::throw_type(ctx, &format!("method: {error}")))?;
    let mut path = text(object, "path")?.unwrap_or_else(|| "/".into());
    let mut headers = headers(ctx, object)?;
    let authority = text(object, "authority")?;
    if method == Method::Connect && !path.contains(':') {
        path = authority.clone().unwrap_or(path);
    }
    if !headers.contains("host") {
        let host =
            authority.unwrap_or_else(|| if method == Method::Connect { path.clone() } else { String::new() });
        drop(headers.insert("host", host));
    }
    let version = match text(object, "protocol")?.as_deref() {
        Some("HTTP/1.0") => Version::Http10,
        _ => Version::Http11,
    };
    Ok(Box::new(RequestHead { method, target: path.into_bytes(), version, headers }))
}

/// A response head from what a script made of it.
pub(crate) fn response_head<'js>(ctx: &Ctx<'js>, head: &Value<'js>) -> Result<Box<ResponseHead>> {
    let Some(object) = head.as_object() else { return Ok(Box::new(ResponseHead::new(200))) };
    let status = match text(object, "status")? {
        None => 200,
        Some(status) => match status.parse::<f64>() {
            Ok(status) if (100.0..1000.0).contains(&status) => status as u16,
            _ => return Err(Exception::throw_range(ctx, &format!("status: {status} is none"))),
        },
    };
    let mut made = ResponseHead::new(status);
    made.headers = headers(ctx, object)?;
    if let Some(reason) = text(object, "statusText")?
        && reason != canonical_reason(status)
        && !reason.contains(['\r', '\n'])
    {
        made.reason = reason.into_bytes().into();
    }
    Ok(Box::new(made))
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
