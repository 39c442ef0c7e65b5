//! What the engine is asked for with every event: names that are looked up once, and what the prelude's classes are made of.
//!
//! In: the engine's globals, when the prelude has run. Out: objects of events, made without calling a function, and the
//! names of properties as text, without making one each time. INVARIANT: an engine lets go of this before it ends.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::Rc;

use rquickjs::{Array, Atom, Class, Ctx, Function, Object, Persistent, Result, Value};

use crate::data::Data;
use crate::head::HttpHead;
use crate::headers::HttpHeaders;

/// LIMIT: names that are remembered as text. Scripts write a few dozen; what comes after these costs what it always did.
const NAMES_MAX: usize = 512;

type Name = Persistent<Atom<'static>>;
type Kind = Persistent<Object<'static>>;

/// What a value is to a filter that is given it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// Undefined or null.
    Nothing,
    /// `Data`.
    Data,
    /// `MessageStart`.
    Start,
    /// `MessageEnd`.
    End,
    /// `StreamEnd`.
    StreamEnd,
    /// `Message`.
    Message,
    /// A list.
    List,
    /// None of these.
    Other,
}

/// Names that have a place of their own.
pub(crate) struct Names {
    pub(crate) c: Name,
    pub(crate) head: Name,
    pub(crate) body: Name,
    pub(crate) tail: Name,
    pub(crate) payload: Name,
    pub(crate) error: Name,
    pub(crate) headers: Name,
    pub(crate) method: Name,
    pub(crate) path: Name,
    pub(crate) authority: Name,
    pub(crate) protocol: Name,
    pub(crate) status: Name,
    pub(crate) status_text: Name,
}

/// See the module.
pub(crate) struct Known {
    state: Kind,
    copy: Persistent<Function<'static>>,
    kind: Persistent<Function<'static>>,
    start: Kind,
    end: Kind,
    stream_end: Kind,
    message: Kind,
    data: Kind,
    http_head: Kind,
    http_headers: Kind,
    pub(crate) names: Names,
    texts: RefCell<HashMap<Name, Rc<str>, BuildHasherDefault<Mixed>>>,
}

/// Atoms are small numbers, each another one: mixing their bits is enough.
#[derive(Default)]
pub(crate) struct Mixed(u64);

impl Hasher for Mixed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(5) ^ number).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }
}

/// A property of an object, by a name that is known.
pub(crate) fn property<'js>(ctx: &Ctx<'js>, object: &Object<'js>, name: &Name) -> Result<Value<'js>> {
    object.get(name.clone().restore(ctx)?)
}

fn set<'js>(ctx: &Ctx<'js>, object: &Object<'js>, name: &Name, value: Value<'js>) -> Result<()> {
    object.set(name.clone().restore(ctx)?, value)
}

impl Known {
    /// Looks everything up; the prelude has run.
    pub(crate) fn new<'js>(ctx: &Ctx<'js>, state: &Object<'js>) -> Result<Rc<Self>> {
        let name =
            |text: &str| -> Result<Name> { Ok(Persistent::save(ctx, Atom::from_str(ctx.clone(), text)?)) };
        let keep = |object: Object<'js>| Persistent::save(ctx, object);
        let class = |name: &str| -> Result<Kind> {
            let class: Object<'_> = ctx.globals().get(name)?;
            Ok(keep(class.get("prototype")?))
        };
        let native = |prototype: Option<Object<'js>>| match prototype {
            Some(prototype) => Ok(keep(prototype)),
            None => Object::new(ctx.clone()).map(keep),
        };
        Ok(Rc::new(Known {
            state: keep(state.clone()),
            copy: Persistent::save(ctx, state.get::<_, Function<'_>>("copy")?),
            kind: Persistent::save(ctx, state.get::<_, Function<'_>>("kind")?),
            start: class("MessageStart")?,
            end: class("MessageEnd")?,
            stream_end: class("StreamEnd")?,
            message: class("Message")?,
            data: native(Class::<Data>::prototype(ctx)?)?,
            http_head: native(Class::<HttpHead<'_>>::prototype(ctx)?)?,
            http_headers: native(Class::<HttpHeaders>::prototype(ctx)?)?,
            names: Names {
                c: name("c")?,
                head: name("head")?,
                body: name("body")?,
                tail: name("tail")?,
                payload: name("payload")?,
                error: name("error")?,
                headers: name("headers")?,
                method: name("method")?,
                path: name("path")?,
                authority: name("authority")?,
                protocol: name("protocol")?,
                status: name("status")?,
                status_text: name("statusText")?,
            },
            texts: RefCell::default(),
        }))
    }

    /// The object that the prelude made.
    pub(crate) fn state<'js>(&self, ctx: &Ctx<'js>) -> Result<Object<'js>> {
        self.state.clone().restore(ctx)
    }

    /// Makes a context the current one.
    pub(crate) fn enter<'js>(&self, ctx: &Ctx<'js>, variables: &Persistent<Array<'static>>) -> Result<()> {
        let variables = variables.clone().restore(ctx)?.into_value();
        set(ctx, &self.state(ctx)?, &self.names.c, variables)
    }

    /// A copy of a context.
    pub(crate) fn copy<'js>(&self, ctx: &Ctx<'js>, from: Array<'js>) -> Result<Array<'js>> {
        self.copy.clone().restore(ctx)?.call((from,))
    }

    /// A `MessageStart`.
    pub(crate) fn start<'js>(&self, ctx: &Ctx<'js>, head: Value<'js>) -> Result<Value<'js>> {
        let object = made(ctx, &self.start)?;
        set(ctx, &object, &self.names.head, head)?;
        Ok(object.into_value())
    }

    /// A `MessageEnd`.
    pub(crate) fn end<'js>(
        &self,
        ctx: &Ctx<'js>,
        tail: Value<'js>,
        payload: Value<'js>,
    ) -> Result<Value<'js>> {
        let object = made(ctx, &self.end)?;
        set(ctx, &object, &self.names.tail, tail)?;
        set(ctx, &object, &self.names.payload, payload)?;
        Ok(object.into_value())
    }

    /// A `StreamEnd`.
    pub(crate) fn stream_end<'js>(&self, ctx: &Ctx<'js>, error: Value<'js>) -> Result<Value<'js>> {
        let object = made(ctx, &self.stream_end)?;
        set(ctx, &object, &self.names.error, error)?;
        Ok(object.into_value())
    }

    /// A `Message`.
    pub(crate) fn message<'js>(
        &self,
        ctx: &Ctx<'js>,
        head: Value<'js>,
        body: Value<'js>,
        tail: Value<'js>,
        payload: Value<'js>,
    ) -> Result<Value<'js>> {
        let object = made(ctx, &self.message)?;
        set(ctx, &object, &self.names.head, head)?;
        set(ctx, &object, &self.names.body, body)?;
        set(ctx, &object, &self.names.tail, tail)?;
        set(ctx, &object, &self.names.payload, payload)?;
        Ok(object.into_value())
    }

    /// What a value is. Asking by prototype costs nothing; what is derived from ours is asked for in its own language.
    pub(crate) fn what<'js>(&self, ctx: &Ctx<'js>, value: &Value<'js>) -> Result<What> {
        if value.is_undefined() || value.is_null() {
            return Ok(What::Nothing);
        }
        if value.is_array() {
            return Ok(What::List);
        }
        let Some(prototype) = value.as_object().and_then(Object::get_prototype) else {
            return Ok(What::Other);
        };
        let kinds = [
            (&self.message, What::Message),
            (&self.start, What::Start),
            (&self.data, What::Data),
            (&self.stream_end, What::StreamEnd),
            (&self.end, What::End),
        ];
        for (kind, what) in kinds {
            if same(ctx, kind, &prototype)? {
                return Ok(what);
            }
        }
        let kind: u8 = self.kind.clone().restore(ctx)?.call((value.clone(),))?;
        Ok(match kind {
            1 => What::Data,
            2 => What::Start,
            3 => What::End,
            4 => What::StreamEnd,
            5 => What::Message,
            6 => What::List,
            _ => What::Other,
        })
    }

    /// Whether a value is the object of a native head.
    pub(crate) fn is_http_head<'js>(&self, ctx: &Ctx<'js>, value: &Value<'js>) -> Result<bool> {
        self.is(ctx, &self.http_head, value)
    }

    /// Whether a value is the object of a native head's headers.
    pub(crate) fn is_http_headers<'js>(&self, ctx: &Ctx<'js>, value: &Value<'js>) -> Result<bool> {
        self.is(ctx, &self.http_headers, value)
    }

    fn is<'js>(&self, ctx: &Ctx<'js>, kind: &Kind, value: &Value<'js>) -> Result<bool> {
        // Asking an object for a class that it is not of makes an exception, with the way there.
        match value.as_object().and_then(Object::get_prototype) {
            Some(prototype) => same(ctx, kind, &prototype),
            None => Ok(false),
        }
    }

    /// The prototype of native heads, and that of their headers.
    pub(crate) fn http_head<'js>(&self, ctx: &Ctx<'js>) -> Result<Object<'js>> {
        self.http_head.clone().restore(ctx)
    }

    /// See [`Known::http_head`].
    pub(crate) fn http_headers<'js>(&self, ctx: &Ctx<'js>) -> Result<Object<'js>> {
        self.http_headers.clone().restore(ctx)
    }

    /// A name as text.
    pub(crate) fn text<'js>(&self, ctx: &Ctx<'js>, name: &Atom<'js>) -> Result<Rc<str>> {
        let key = Persistent::save(ctx, name.clone());
        if let Some(text) = self.texts.borrow().get(&key) {
            return Ok(Rc::clone(text));
        }
        let text: Rc<str> = name.to_string()?.into();
        let mut texts = self.texts.borrow_mut();
        if texts.len() < NAMES_MAX {
            texts.insert(key, Rc::clone(&text));
        }
        Ok(text)
    }
}

fn made<'js>(ctx: &Ctx<'js>, kind: &Kind) -> Result<Object<'js>> {
    Object::new_proto(ctx.clone(), Some(&kind.clone().restore(ctx)?))
}

fn same<'js>(ctx: &Ctx<'js>, kind: &Kind, prototype: &Object<'js>) -> Result<bool> {
    Ok(kind.clone().restore(ctx)? == *prototype)
}

/// Takes hold of a value once more than the library knows.
///
/// WHY: where a property of an exotic object is set, rquickjs 0.14 drops the value, which QuickJS has only lent (its callers
/// free it themselves). A test of head.rs counts the engine's memory, and tells when that has changed.
#[allow(unsafe_code)]
pub(crate) fn hold(ctx: &Ctx<'_>, value: &Value<'_>) {
    // SAFETY: value and context live, and the count that is added here is the one that the library will take away.
    unsafe { rquickjs::qjs::JS_DupValue(ctx.as_raw().as_ptr(), value.as_raw()) };
}
