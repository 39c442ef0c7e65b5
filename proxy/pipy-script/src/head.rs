//! Heads of HTTP messages as scripts see them: objects whose properties are read from, and written to, the native head.
//!
//! Nothing is copied until a script asks for it, and only what it asks for. `head.headers` is such an object too
//! (headers.rs). Properties that HTTP does not know are kept beside the head for as long as the object lives, and so are
//! headers that a script puts in the place of all: they are read when the callback is over ([`settle`]).
//!
//! INVARIANT: what a script writes has passed the checks of `pipy-http`; what cannot be written is an error at its line.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::ops::Deref;
use std::rc::{Rc, Weak};

use pipy_http::{Method, Scheme, Version};
use pipy_pipeline::Head;
use rquickjs::class::{
    ClassKind, JsCell, JsClass, PropertyDescriptor, PropertyName, Readable, Trace, Tracer,
};
use rquickjs::{Atom, Class, Constructor, Ctx, Exception, IntoJs, JsLifetime, Object, Result, Value};

use crate::headers::{self, words};
use crate::known::Known;
use crate::raw::{self, hold};

/// A head that a script may hold on to.
pub(crate) type SharedHead = Rc<Lent>;

/// A head that is lent to a script.
pub(crate) struct Lent {
    head: RefCell<Head>,
    /// The script has put something beside it that [`settle`] has to look at.
    beside: Cell<bool>,
}

/// Makes a head one that can be lent.
pub(crate) fn share(head: Head) -> SharedHead {
    Rc::new(Lent { head: RefCell::new(head), beside: Cell::new(false) })
}

impl Lent {
    /// Whether all that the script has made of it is in it.
    pub(crate) fn is_whole(&self) -> bool {
        !self.beside.get()
    }

    /// The head, when nobody has it any more.
    pub(crate) fn into_inner(self) -> Head {
        self.head.into_inner()
    }
}

impl Deref for Lent {
    type Target = RefCell<Head>;

    fn deref(&self) -> &Self::Target {
        &self.head
    }
}

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

/// A property of a head that HTTP knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    Headers,
    Path,
    Method,
    Status,
    Authority,
    Protocol,
    StatusText,
    Scheme,
    HeaderNames,
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

/// A scheme as a script says it; `None` where it says none.
pub(crate) fn scheme(ctx: &Ctx<'_>, value: &Value<'_>) -> Result<Option<Scheme>> {
    if value.is_undefined() || value.is_null() {
        return Ok(None);
    }
    let text = words(value)?;
    let none = || Exception::throw_type(ctx, &format!("scheme: {text:?} is neither http nor https"));
    Scheme::from_bytes(text.as_bytes()).ok_or_else(none).map(Some)
}

/// A reason phrase as a script says it.
pub(crate) fn reason(ctx: &Ctx<'_>, text: String) -> Result<Cow<'static, [u8]>> {
    if text.contains(['\r', '\n']) {
        return Err(Exception::throw_type(ctx, "statusText: there is a line break in it"));
    }
    Ok(Cow::Owned(text.into_bytes()))
}

impl<'js> HttpHead<'js> {
    fn field(&self, atom: &Atom<'js>) -> Option<Field> {
        self.known.upgrade()?.field(raw::number(atom))
    }

    fn property(&self, ctx: &Ctx<'js>, field: Field) -> Result<Option<Value<'js>>> {
        if field == Field::Headers {
            return self.headers(ctx).map(Some);
        }
        let head = self.head.borrow();
        match (field, &*head) {
            (Field::HeaderNames, _) => {
                let names = Object::new(ctx.clone())?;
                for (name, _) in headers::of(&head).iter() {
                    let name = String::from_utf8_lossy(name);
                    names.set(name.to_ascii_lowercase(), &*name)?;
                }
                Ok(Some(names.into_value()))
            }
            (Field::Protocol, Head::Request(head)) => text(ctx, head.version.as_str().as_bytes()).map(Some),
            (Field::Protocol, Head::Response(head)) => text(ctx, head.version.as_str().as_bytes()).map(Some),
            (Field::Method, Head::Request(head)) => text(ctx, head.method.as_str().as_bytes()).map(Some),
            (Field::Path, Head::Request(head)) => text(ctx, &head.target).map(Some),
            (Field::Authority, Head::Request(head)) => match head.authority() {
                Some(authority) => text(ctx, authority.as_bytes()).map(Some),
                None => Ok(None),
            },
            (Field::Scheme, Head::Request(head)) => match head.scheme {
                Some(scheme) => text(ctx, scheme.as_str().as_bytes()).map(Some),
                None => Ok(None),
            },
            (Field::Status, Head::Response(head)) => i32::from(head.status).into_js(ctx).map(Some),
            (Field::StatusText, Head::Response(head)) => text(ctx, &head.reason).map(Some),
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

    fn set(&self, ctx: &Ctx<'js>, field: Field, value: &Value<'js>) -> Result<bool> {
        if field == Field::Headers {
            self.head.beside.set(true);
            self.headers.replace(Some(value.clone()));
            return Ok(true);
        }
        if field == Field::Scheme {
            let scheme = scheme(ctx, value)?;
            return Ok(match &mut *self.head.borrow_mut() {
                Head::Request(head) => {
                    head.scheme = scheme;
                    true
                }
                Head::Response(_) => false,
            });
        }
        // Before the head is borrowed: making text or a number of an object may call into the script.
        let (words, number) = match field {
            Field::Status => (String::new(), status(ctx, value)?),
            _ => (words(value)?, 0),
        };
        let mut head = self.head.borrow_mut();
        match (field, &mut *head) {
            (Field::Method, Head::Request(head)) => {
                head.method = Method::from_bytes(words.as_bytes()).map_err(|error| refuse(ctx, &error))?;
            }
            (Field::Path, Head::Request(head)) => head.target = words.into_bytes(),
            (Field::Authority, Head::Request(head)) => {
                head.headers.insert("host", words).map_err(|error| refuse(ctx, &error))?;
            }
            (Field::Protocol, Head::Request(head)) => head.version = version(&words),
            (Field::Status, Head::Response(head)) => {
                let before = head.status;
                head.status = number;
                // The usual words go with the number; a script that wants others says so.
                if *head.reason == *pipy_http::canonical_reason(before).as_bytes() {
                    head.reason = pipy_http::canonical_reason(head.status).as_bytes().into();
                }
            }
            (Field::StatusText, Head::Response(head)) => head.reason = reason(ctx, words)?,
            (Field::Protocol | Field::HeaderNames, _) => {}
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// A property of the script's own.
    fn extra(&self) -> Option<Object<'js>> {
        self.extra.borrow().clone()
    }
}

/// The version that a text names.
pub(crate) fn version(text: &str) -> Version {
    match text {
        "HTTP/1.0" => Version::Http10,
        "HTTP/2" | "HTTP/2.0" => Version::Http2,
        _ => Version::Http11,
    }
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
        if let Some(field) = this.field(&atom)
            && let Some(value) = this.property(ctx, field)?
        {
            return Ok(value);
        }
        if let Some(extra) = this.extra()
            && extra.contains_key(atom.clone())?
        {
            return extra.get(atom);
        }
        inherited(ctx, &name_of(&this.known, ctx, &atom)?, atom)
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
        if let Some(field) = this.field(&atom)
            && this.set(ctx, field, &value)?
        {
            return Ok(true);
        }
        let extra = this.extra().map_or_else(|| Object::new(ctx.clone()), Ok)?;
        extra.set(atom, value)?;
        this.head.beside.set(true);
        this.extra.replace(Some(extra));
        Ok(true)
    }

    fn exotic_delete_property(this: &JsCell<'js, Self>, _ctx: &Ctx<'js>, atom: Atom<'js>) -> Result<bool> {
        if let Some(extra) = this.borrow().extra() {
            extra.remove(atom)?;
        }
        Ok(true)
    }

    fn exotic_has_property(this: &JsCell<'js, Self>, ctx: &Ctx<'js>, atom: Atom<'js>) -> Result<bool> {
        let this = this.borrow();
        if let Some(field) = this.field(&atom)
            && this.property(ctx, field)?.is_some()
        {
            return Ok(true);
        }
        this.extra().map_or(Ok(false), |extra| extra.contains_key(atom))
    }

    fn exotic_get_own_property(
        this: &JsCell<'js, Self>,
        ctx: &Ctx<'js>,
        atom: Atom<'js>,
    ) -> Result<Option<PropertyDescriptor<'js>>> {
        let described = |value| Some(PropertyDescriptor::new_value(value, true, true, true));
        let this = this.borrow();
        let field = this.field(&atom);
        if let Some(field) = field
            && let Some(value) = this.property(ctx, field)?
        {
            return Ok(described(value));
        }
        // What was listed must be there.
        if matches!(field, Some(Field::Scheme | Field::Authority)) {
            return Ok(described(Value::new_undefined(ctx.clone())));
        }
        match this.extra() {
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
        for atom in this.extra().iter().flat_map(Object::keys::<Atom<'js>>) {
            names.push(PropertyName { atom: atom?, is_enumerable: true });
        }
        Ok(names)
    }
}

#[cfg(test)]
mod tests;
