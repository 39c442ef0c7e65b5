//! Headers of HTTP messages as scripts see them: an object whose properties are read from, and written to, the native head.
//!
//! Names are lower case. Repeated `cookie` and `set-cookie` are arrays, what else is repeated is joined as a list. Fields of
//! the connection are not seen; those of the framing are seen and are the codec's to write.
//!
//! INVARIANT: what a script writes has passed the checks of `pipy-http`; what cannot be a header is an error at its line.

use std::borrow::Cow;
use std::rc::{Rc, Weak};

use pipy_http::Headers;
use pipy_pipeline::Head;
use rquickjs::class::{
    ClassKind, JsCell, JsClass, PropertyDescriptor, PropertyName, Readable, Trace, Tracer,
};
use rquickjs::{Array, Atom, Class, Constructor, Ctx, Exception, JsLifetime, Object, Result, Value};

use crate::head::{SharedHead, inherited, name_of, text};
use crate::known::Known;
use crate::raw::hold;

/// The object behind `msg.head.headers`.
pub(crate) struct HttpHeaders {
    pub(crate) head: SharedHead,
    pub(crate) known: Weak<Known>,
}

/// Fields that speak of the connection or the framing, which are the codec's.
pub(crate) fn is_codecs(name: &str) -> bool {
    let known = match name.len() {
        10 => ["connection", "keep-alive"].as_slice(),
        14 => &["content-length"],
        17 => &["transfer-encoding"],
        _ => return false,
    };
    known.iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// Fields that a script does not see.
fn is_hidden(name: &str) -> bool {
    name.len() == 10 && ["connection", "keep-alive"].iter().any(|known| name.eq_ignore_ascii_case(known))
}

pub(crate) fn of(head: &Head) -> &Headers {
    match head {
        Head::Request(head) => &head.headers,
        Head::Response(head) => &head.headers,
    }
}

pub(crate) fn of_mut(head: &mut Head) -> &mut Headers {
    match head {
        Head::Request(head) => &mut head.headers,
        Head::Response(head) => &mut head.headers,
    }
}

fn lower(name: &[u8]) -> String {
    String::from_utf8_lossy(name).to_ascii_lowercase()
}

/// What a value is as text; symbols and what throws in `toString` are errors.
pub(crate) fn words(value: &Value<'_>) -> Result<String> {
    if let Some(text) = value.as_string() {
        return text.to_string();
    }
    value.get::<rquickjs::Coerced<String>>().map(|text| text.0)
}

/// Headers as a script wrote them: an object of strings, numbers or arrays of them; nullish ones are left out. Names that
/// came with `before` keep their spelling.
pub(crate) fn read<'js>(
    ctx: &Ctx<'js>,
    known: &Known,
    value: &Value<'js>,
    before: Option<&Headers>,
) -> Result<Headers> {
    if known.is_http_headers(ctx, value)?
        && let Ok(class) = Class::<HttpHeaders>::from_value(value)
    {
        let mut headers = of(&class.borrow().head.borrow()).clone();
        headers.retain(|name, _| std::str::from_utf8(name).is_ok_and(|name| !is_codecs(name)));
        return Ok(headers);
    }
    let mut headers = Headers::new();
    let Some(object) = value.as_object() else { return Ok(headers) };
    for pair in object.props::<Atom<'js>, Value<'js>>() {
        let (name, value) = pair?;
        let name = known.text(ctx, &name)?;
        let came = before.and_then(|before| {
            before.iter().map(|(came, _)| came).find(|came| came.eq_ignore_ascii_case(name.as_bytes()))
        });
        let name = came.map_or(Cow::Borrowed(&*name), String::from_utf8_lossy);
        append(ctx, &mut headers, &name, &value)?;
    }
    Ok(headers)
}

fn append<'js>(ctx: &Ctx<'js>, headers: &mut Headers, name: &str, value: &Value<'js>) -> Result<()> {
    if is_codecs(name) || value.is_null() || value.is_undefined() {
        return Ok(());
    }
    if let Some(values) = value.as_array() {
        for value in values.iter::<Value<'js>>() {
            append(ctx, headers, name, &value?)?;
        }
        return Ok(());
    }
    let refused = |error| Exception::throw_type(ctx, &format!("header {name:?} cannot be sent: {error}"));
    headers.append(name, words(value)?).map_err(refused)
}

/// All headers as an object of its own.
pub(crate) fn object<'js>(ctx: &Ctx<'js>, headers: &Headers) -> Result<Object<'js>> {
    let object = Object::new(ctx.clone())?;
    for (name, _) in headers.iter() {
        let name = lower(name);
        if let Some(value) = value_of(ctx, headers, &name)? {
            object.set(name, value)?;
        }
    }
    Ok(object)
}

fn value_of<'js>(ctx: &Ctx<'js>, headers: &Headers, name: &str) -> Result<Option<Value<'js>>> {
    if is_hidden(name) {
        return Ok(None);
    }
    let mut all = headers.get_all(name);
    let Some(first) = all.next() else { return Ok(None) };
    let Some(second) = all.next() else { return text(ctx, first).map(Some) };
    let all = [first, second].into_iter().chain(all);
    if matches!(name, "cookie" | "set-cookie") {
        let array = Array::new(ctx.clone())?;
        for (at, value) in all.enumerate() {
            array.set(at, text(ctx, value)?)?;
        }
        return Ok(Some(array.into_value()));
    }
    let all: Vec<&[u8]> = all.collect();
    text(ctx, &all.join(b", ".as_slice())).map(Some)
}

impl HttpHeaders {
    fn value<'js>(&self, ctx: &Ctx<'js>, name: &str) -> Result<Option<Value<'js>>> {
        value_of(ctx, of(&self.head.borrow()), name)
    }

    fn set<'js>(&self, ctx: &Ctx<'js>, name: &str, value: &Value<'js>) -> Result<()> {
        if is_codecs(name) {
            return Ok(());
        }
        // Before the head is borrowed: making text of an object may call into the script.
        let plain = !value.is_array() && !value.is_null() && !value.is_undefined();
        if plain {
            let value = words(value)?;
            let mut head = self.head.borrow_mut();
            return of_mut(&mut head).insert(name, value).map_err(|error| {
                Exception::throw_type(ctx, &format!("header {name:?} cannot be sent: {error}"))
            });
        }
        let mut more = Headers::new();
        append(ctx, &mut more, name, value)?;
        let mut head = self.head.borrow_mut();
        let headers = of_mut(&mut head);
        headers.remove(name);
        // They have passed the checks a moment ago.
        more.iter().for_each(|(name, value)| drop(headers.append(name, value)));
        Ok(())
    }
}

impl<'js> Trace<'js> for HttpHeaders {
    fn trace<'a>(&self, _tracer: Tracer<'a, 'js>) {}
}

// SAFETY: there is nothing with the lifetime.
#[allow(unsafe_code)]
unsafe impl<'js> JsLifetime<'js> for HttpHeaders {
    type Changed<'to> = HttpHeaders;
}

impl<'js> JsClass<'js> for HttpHeaders {
    const NAME: &'static str = "HttpHeaders";
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
        match this.value(ctx, &name)? {
            Some(value) => Ok(value),
            None => inherited(ctx, &name, atom),
        }
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
        this.set(ctx, &name_of(&this.known, ctx, &atom)?, &value)?;
        Ok(true)
    }

    fn exotic_delete_property(this: &JsCell<'js, Self>, ctx: &Ctx<'js>, atom: Atom<'js>) -> Result<bool> {
        let this = this.borrow();
        let name = name_of(&this.known, ctx, &atom)?;
        of_mut(&mut this.head.borrow_mut()).remove(name.as_bytes());
        Ok(true)
    }

    fn exotic_has_property(this: &JsCell<'js, Self>, ctx: &Ctx<'js>, atom: Atom<'js>) -> Result<bool> {
        let this = this.borrow();
        let name = name_of(&this.known, ctx, &atom)?;
        let found = !is_hidden(&name) && of(&this.head.borrow()).contains(name.as_bytes());
        Ok(found)
    }

    fn exotic_get_own_property(
        this: &JsCell<'js, Self>,
        ctx: &Ctx<'js>,
        atom: Atom<'js>,
    ) -> Result<Option<PropertyDescriptor<'js>>> {
        let this = this.borrow();
        let value = this.value(ctx, &name_of(&this.known, ctx, &atom)?)?;
        Ok(value.map(|value| PropertyDescriptor::new_value(value, true, true, true)))
    }

    fn exotic_get_own_property_names(
        this: &JsCell<'js, Self>,
        ctx: &Ctx<'js>,
    ) -> Result<Vec<PropertyName<'js>>> {
        let this = this.borrow();
        let head = this.head.borrow();
        let mut seen: Vec<String> = Vec::new();
        for (name, _) in of(&head).iter() {
            let name = lower(name);
            if !is_hidden(&name) && !seen.contains(&name) {
                seen.push(name);
            }
        }
        let named = |name: String| {
            Ok(PropertyName { atom: Atom::from_str(ctx.clone(), &name)?, is_enumerable: true })
        };
        seen.into_iter().map(named).collect()
    }
}

/// The object of a head's headers.
pub(crate) fn made<'js>(ctx: &Ctx<'js>, known: &Rc<Known>, head: &SharedHead) -> Result<Value<'js>> {
    let headers = HttpHeaders { head: Rc::clone(head), known: Rc::downgrade(known) };
    Ok(Class::instance_proto(headers, known.http_headers(ctx)?)?.into_value())
}
