//! Heads of HTTP messages as scripts see them: objects whose properties are read from, and written to, the native head.
//!
//! Nothing is copied until a script asks for it, and only what it asks for. `head.headers` is such an object too
//! (headers.rs). Properties that HTTP does not know are kept beside the head for as long as the object lives, and so are
//! headers that a script puts in the place of all: they are read when the callback is over ([`settle`]).
//!
//! INVARIANT: what a script writes has passed the checks of `pipy-http`; what cannot be written is an error at its line.

use std::borrow::Cow;
use std::cell::RefCell;
use std::rc::{Rc, Weak};

use pipy_http::{Method, Version};
use pipy_pipeline::Head;
use rquickjs::class::{
    ClassKind, JsCell, JsClass, PropertyDescriptor, PropertyName, Readable, Trace, Tracer,
};
use rquickjs::{Atom, Class, Constructor, Ctx, Exception, IntoJs, JsLifetime, Object, Result, Value};

use crate::headers::{self, words};
use crate::known::{Known, hold};

/// A head that a script may hold on to.
pub(crate) type SharedHead = Rc<RefCell<Head>>;

/// The object behind `msg.head`.
pub(crate) struct HttpHead<'js> {
    head: SharedHead,
    known: Weak<Known>,
    /// What `headers` is: the object that was given out, or the script's own.
    headers: RefCell<Option<Value<'js>>>,
    extra: RefCell<Option<Object<'js>>>,
}

/// The object for a head.
pub(crate) fn object<'js>(ctx: &Ctx<'js>, known: &Rc<Known>, head: SharedHead) -> Result<Value<'js>> {
    let known_weak = Rc::downgrade(known);
    let made = HttpHead { head, known: known_weak, headers: RefCell::new(None), extra: RefCell::new(None) };
    Ok(Class::instance_proto(made, known.http_head(ctx)?)?.into_value())
}

/// The native head behind an object, with what the script has put in the place of its headers. `None` where the object is
/// no such head, or has properties of the script's own.
pub(crate) fn settle<'js>(ctx: &Ctx<'js>, known: &Known, value: &Value<'js>) -> Result<Option<SharedHead>> {
    if !known.is_http_head(ctx, value)? {
        return Ok(None);
    }
    let Ok(class) = Class::<HttpHead<'_>>::from_value(value) else { return Ok(None) };
    let this = class.borrow();
    let own = this.headers.borrow().clone();
    if let Some(own) = own
        && !known.is_http_headers(ctx, &own)?
    {
        let read = headers::read(ctx, known, &own, Some(headers::of(&this.head.borrow())))?;
        *headers::of_mut(&mut this.head.borrow_mut()) = read;
    }
    Ok(this.extra.borrow().is_none().then(|| Rc::clone(&this.head)))
}

/// The native head behind an object, whatever else that has.
pub(crate) fn native<'js>(ctx: &Ctx<'js>, known: &Known, value: &Value<'js>) -> Result<Option<SharedHead>> {
    settle(ctx, known, value)?;
    if !known.is_http_head(ctx, value)? {
        return Ok(None);
    }
    Ok(Class::<HttpHead<'_>>::from_value(value).ok().map(|class| Rc::clone(&class.borrow().head)))
}

/// Another head that says the same.
pub(crate) fn copy(head: &Head) -> Head {
    match head {
        Head::Request(head) => Head::Request(head.clone()),
        Head::Response(head) => Head::Response(head.clone()),
    }
}

/// Bytes as text of a script.
pub(crate) fn text<'js>(ctx: &Ctx<'js>, bytes: &[u8]) -> Result<Value<'js>> {
    let text: Cow<'_, str> = String::from_utf8_lossy(bytes);
    Ok(rquickjs::String::from_str(ctx.clone(), &text)?.into_value())
}

/// A property's name.
pub(crate) fn name_of<'js>(known: &Weak<Known>, ctx: &Ctx<'js>, atom: &Atom<'js>) -> Result<Rc<str>> {
    match known.upgrade() {
        Some(known) => known.text(ctx, atom),
        None => Ok(atom.to_string()?.into()),
    }
}

/// What of an object that does not have a property itself: the methods of every object.
pub(crate) fn inherited<'js>(ctx: &Ctx<'js>, name: &str, atom: Atom<'js>) -> Result<Value<'js>> {
    const METHODS: &[&str] = &[
        "constructor",
        "hasOwnProperty",
        "isPrototypeOf",
        "propertyIsEnumerable",
        "toLocaleString",
        "toString",
        "valueOf",
    ];
    // Most names that are asked for and not there are headers that did not come: those must cost nothing.
    if METHODS.contains(&name)
        && let Some(prototype) = Object::new(ctx.clone())?.get_prototype()
    {
        return prototype.get(atom);
    }
    Ok(Value::new_undefined(ctx.clone()))
}

const REQUEST: &[&str] = &["protocol", "method", "path", "scheme", "authority", "headers", "headerNames"];
const RESPONSE: &[&str] = &["protocol", "status", "statusText", "headers", "headerNames"];

fn refuse(ctx: &Ctx<'_>, error: &pipy_http::HttpError) -> rquickjs::Error {
    Exception::throw_type(ctx, &format!("the head cannot be sent: {error}"))
}

/// An HTTP status as a script says it.
pub(crate) fn status(ctx: &Ctx<'_>, value: &Value<'_>) -> Result<u16> {
    let number = value.get::<rquickjs::Coerced<f64>>()?.0;
    if (100.0..1000.0).contains(&number) {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // within 100..1000
        return Ok(number as u16);
    }
    Err(Exception::throw_range(ctx, &format!("status: {} is none", words(value)?)))
}

/// A reason phrase as a script says it.
pub(crate) fn reason(ctx: &Ctx<'_>, text: String) -> Result<Cow<'static, [u8]>> {
    if text.contains(['\r', '\n']) {
        return Err(Exception::throw_type(ctx, "statusText: there is a line break in it"));
    }
    Ok(Cow::Owned(text.into_bytes()))
}

impl<'js> HttpHead<'js> {
    fn property(&self, ctx: &Ctx<'js>, name: &str) -> Result<Option<Value<'js>>> {
        if name == "headers" {
            return self.headers(ctx).map(Some);
        }
        let head = self.head.borrow();
        match (name, &*head) {
            ("headerNames", _) => {
                let names = Object::new(ctx.clone())?;
                for (name, _) in headers::of(&head).iter() {
                    let name = String::from_utf8_lossy(name);
                    names.set(name.to_ascii_lowercase(), &*name)?;
                }
                Ok(Some(names.into_value()))
            }
            ("protocol", Head::Request(head)) => text(ctx, head.version.as_str().as_bytes()).map(Some),
            ("protocol", Head::Response(head)) => text(ctx, head.version.as_str().as_bytes()).map(Some),
            ("method", Head::Request(head)) => text(ctx, head.method.as_str().as_bytes()).map(Some),
            ("path", Head::Request(head)) => text(ctx, &head.target).map(Some),
            ("authority", Head::Request(head)) => match head.authority() {
                Some(authority) => text(ctx, authority.as_bytes()).map(Some),
                None => Ok(None),
            },
            ("status", Head::Response(head)) => i32::from(head.status).into_js(ctx).map(Some),
            ("statusText", Head::Response(head)) => text(ctx, &head.reason).map(Some),
            _ => Ok(None),
        }
    }

    fn headers(&self, ctx: &Ctx<'js>) -> Result<Value<'js>> {
        if let Some(headers) = &*self.headers.borrow() {
            return Ok(headers.clone());
        }
        let Some(known) = self.known.upgrade() else {
            return Ok(headers::object(ctx, headers::of(&self.head.borrow()))?.into_value());
        };
        let made = headers::made(ctx, &known, &self.head)?;
        self.headers.replace(Some(made.clone()));
        Ok(made)
    }

    fn set(&self, ctx: &Ctx<'js>, name: &str, value: &Value<'js>) -> Result<bool> {
        if name == "headers" {
            self.headers.replace(Some(value.clone()));
            return Ok(true);
        }
        if !REQUEST.contains(&name) && !RESPONSE.contains(&name) {
            return Ok(false);
        }
        // Before the head is borrowed: making text of an object may call into the script.
        let words = words(value)?;
        let mut head = self.head.borrow_mut();
        match (name, &mut *head) {
            ("method", Head::Request(head)) => {
                head.method = Method::from_bytes(words.as_bytes()).map_err(|error| refuse(ctx, &error))?;
            }
            ("path", Head::Request(head)) => head.target = words.into_bytes(),
            ("authority", Head::Request(head)) => {
                head.headers.insert("host", words).map_err(|error| refuse(ctx, &error))?;
            }
            ("protocol", Head::Request(head)) => head.version = version(&words),
            ("status", Head::Response(head)) => {
                let before = head.status;
                head.status = status(ctx, value)?;
                // The usual words go with the number; a script that wants others says so.
                if *head.reason == *pipy_http::canonical_reason(before).as_bytes() {
                    head.reason = pipy_http::canonical_reason(head.status).as_bytes().into();
                }
            }
            ("statusText", Head::Response(head)) => head.reason = reason(ctx, words)?,
            ("protocol" | "scheme" | "headerNames", _) => {}
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// The version that a text names.
pub(crate) fn version(text: &str) -> Version {
    if text == "HTTP/1.0" { Version::Http10 } else { Version::Http11 }
}

impl<'js> Trace<'js> for HttpHead<'js> {
    fn trace<'a>(&self, tracer: Tracer<'a, 'js>) {
        if let Ok(extra) = self.extra.try_borrow()
            && let Some(extra) = &*extra
        {
            extra.trace(tracer);
        }
        if let Ok(headers) = self.headers.try_borrow()
            && let Some(headers) = &*headers
        {
            headers.trace(tracer);
        }
    }
}

// SAFETY: what has the lifetime are values, which change it in the same way.
#[allow(unsafe_code)]
unsafe impl<'js> JsLifetime<'js> for HttpHead<'js> {
    type Changed<'to> = HttpHead<'to>;
}

impl<'js> JsClass<'js> for HttpHead<'js> {
    const NAME: &'static str = "HttpHead";
    const KIND: ClassKind = ClassKind::Exotic;
    type Mutable = Readable;

    fn constructor(_ctx: &Ctx<'js>) -> Result<Option<Constructor<'js>>> {
        Ok(None)
    }

    fn exotic_get_property(
        this: &JsCell<'js, Self>,
        ctx: &Ctx<'js>,
        atom: Atom<'js>,
        _receiver: Value<'js>,
    ) -> Result<Value<'js>> {
        let this = this.borrow();
        let name = name_of(&this.known, ctx, &atom)?;
        if let Some(value) = this.property(ctx, &name)? {
            return Ok(value);
        }
        let extra = this.extra.borrow().clone();
        if let Some(extra) = extra
            && extra.contains_key(atom.clone())?
        {
            return extra.get(atom);
        }
        inherited(ctx, &name, atom)
    }

    fn exotic_set_property(
        this: &JsCell<'js, Self>,
        ctx: &Ctx<'js>,
        atom: Atom<'js>,
        _receiver: Value<'js>,
        value: Value<'js>,
    ) -> Result<bool> {
        hold(ctx, &value);
        let this = this.borrow();
        if !this.set(ctx, &name_of(&this.known, ctx, &atom)?, &value)? {
            let extra = match this.extra.borrow().clone() {
                Some(extra) => extra,
                None => Object::new(ctx.clone())?,
            };
            extra.set(atom, value)?;
            this.extra.replace(Some(extra));
        }
        Ok(true)
    }

    fn exotic_delete_property(this: &JsCell<'js, Self>, _ctx: &Ctx<'js>, atom: Atom<'js>) -> Result<bool> {
        let extra = this.borrow().extra.borrow().clone();
        if let Some(extra) = extra {
            extra.remove(atom)?;
        }
        Ok(true)
    }

    fn exotic_has_property(this: &JsCell<'js, Self>, ctx: &Ctx<'js>, atom: Atom<'js>) -> Result<bool> {
        let this = this.borrow();
        if this.property(ctx, &name_of(&this.known, ctx, &atom)?)?.is_some() {
            return Ok(true);
        }
        let extra = this.extra.borrow().clone();
        extra.map_or(Ok(false), |extra| extra.contains_key(atom))
    }

    fn exotic_get_own_property(
        this: &JsCell<'js, Self>,
        ctx: &Ctx<'js>,
        atom: Atom<'js>,
    ) -> Result<Option<PropertyDescriptor<'js>>> {
        let described = |value| Some(PropertyDescriptor::new_value(value, true, true, true));
        let this = this.borrow();
        let name = name_of(&this.known, ctx, &atom)?;
        if let Some(value) = this.property(ctx, &name)? {
            return Ok(described(value));
        }
        // What was listed must be there.
        if &*name == "scheme" || &*name == "authority" {
            return Ok(described(Value::new_undefined(ctx.clone())));
        }
        let extra = this.extra.borrow().clone();
        match extra {
            Some(extra) if extra.contains_key(atom.clone())? => Ok(described(extra.get(atom)?)),
            _ => Ok(None),
        }
    }

    fn exotic_get_own_property_names(
        this: &JsCell<'js, Self>,
        ctx: &Ctx<'js>,
    ) -> Result<Vec<PropertyName<'js>>> {
        let this = this.borrow();
        let known = match &*this.head.borrow() {
            Head::Request(_) => REQUEST,
            Head::Response(_) => RESPONSE,
        };
        let mut names = Vec::new();
        for name in known {
            names.push(PropertyName { atom: Atom::from_str(ctx.clone(), name)?, is_enumerable: true });
        }
        let extra = this.extra.borrow().clone();
        for atom in extra.iter().flat_map(Object::keys::<Atom<'js>>) {
            names.push(PropertyName { atom: atom?, is_enumerable: true });
        }
        Ok(names)
    }
}

#[cfg(test)]
mod tests;
