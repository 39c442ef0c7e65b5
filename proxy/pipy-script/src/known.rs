//! What the engine is asked for with every event: names that are looked up once, and what the prelude's classes are made of.
//!
//! In: the engine's globals, when the prelude has run. Out: objects of events, made without calling a function, and the
//! names of properties as text, without making one each time. INVARIANT: an engine lets go of this before it ends.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::Rc;

use rquickjs::{Atom, Class, Ctx, Function, Object, Persistent, Result, Value};

use crate::data::Data;
use crate::head::{Field, HttpHead};
use crate::headers::HttpHeaders;
use crate::raw::{self, Held, Name};

/// LIMIT: names that are remembered as text. Scripts write a few dozen; what comes after these costs what it always did.
const NAMES_MAX: usize = 512;

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
    pub(crate) scheme: Name,
    pub(crate) header_names: Name,
}

/// See the module.
pub(crate) struct Known {
    state: Held,
    initial: Held,
    kind: Persistent<Function<'static>>,
    start: Held,
    end: Held,
    stream_end: Held,
    message: Held,
    data: Held,
    http_head: Held,
    http_headers: Held,
    /// The same three, for instances to be made of.
    natives: [Persistent<Object<'static>>; 3],
    pub(crate) names: Names,
    texts: RefCell<HashMap<u32, Text, BuildHasherDefault<Mixed>>>,
    /// Never looked at; see [`Known::warm`].
    warm: RefCell<Vec<Held>>,
}

/// A name and its text. The name is kept, so that no other can come to its number.
struct Text {
    _name: Persistent<Atom<'static>>,
    text: Rc<str>,
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
pub(crate) fn property<'js>(ctx: &Ctx<'js>, object: &Value<'js>, name: &Name) -> Result<Value<'js>> {
    raw::get(ctx, object, name)
}

impl Known {
    /// Looks everything up; the prelude has run.
    pub(crate) fn new<'js>(ctx: &Ctx<'js>, state: &Object<'js>) -> Result<Rc<Self>> {
        let name = |text: &str| Name::new(ctx, text);
        let class = |name: &str| -> Result<Held> {
            let class: Object<'_> = ctx.globals().get(name)?;
            Ok(Held::new(ctx, &class.get("prototype")?))
        };
        let native = |prototype: Option<Object<'js>>| prototype.map_or_else(|| Object::new(ctx.clone()), Ok);
        let natives = [
            native(Class::<Data>::prototype(ctx)?)?,
            native(Class::<HttpHead<'_>>::prototype(ctx)?)?,
            native(Class::<HttpHeaders>::prototype(ctx)?)?,
        ];
        let [data, http_head, http_headers] = &natives;
        let known = Known {
            state: Held::new(ctx, state),
            initial: Held::new(ctx, &state.get("init")?),
            kind: Persistent::save(ctx, state.get::<_, Function<'_>>("kind")?),
            start: class("MessageStart")?,
            end: class("MessageEnd")?,
            stream_end: class("StreamEnd")?,
            message: class("Message")?,
            data: Held::new(ctx, data),
            http_head: Held::new(ctx, http_head),
            http_headers: Held::new(ctx, http_headers),
            natives: natives.map(|prototype| Persistent::save(ctx, prototype)),
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
                scheme: name("scheme")?,
                header_names: name("headerNames")?,
            },
            texts: RefCell::default(),
            warm: RefCell::default(),
        };
        known.warm(ctx)?;
        Ok(Rc::new(known))
    }

    /// Keeps one object of each shape that events go through while they are made.
    ///
    /// WHY: the engine shares the layout of objects with the same properties, but forgets it with the last of them. Where one
    /// request follows the other that is always the only one, and each would have its layouts made anew.
    fn warm(&self, ctx: &Ctx<'_>) -> Result<()> {
        let names = &self.names;
        let grown: [(&Held, &[&Name]); 7] = [
            (&self.start, &[&names.head]),
            (&self.end, &[&names.tail, &names.payload]),
            (&self.stream_end, &[&names.error]),
            (&self.message, &[&names.head, &names.body, &names.tail, &names.payload]),
            (&self.data, &[]),
            (&self.http_head, &[]),
            (&self.http_headers, &[]),
        ];
        for (kind, properties) in grown {
            for count in 0..=properties.len() {
                self.keep_shape(ctx, &raw::object(ctx, kind)?, properties.get(..count).unwrap_or_default())?;
            }
        }
        // What scripts answer most.
        let heads: [&[&Name]; 3] = [
            &[&names.status, &names.headers],
            &[&names.headers],
            &[&names.method, &names.path, &names.headers],
        ];
        for properties in heads {
            for count in 1..=properties.len() {
                let plain = Object::new(ctx.clone())?.into_value();
                self.keep_shape(ctx, &plain, properties.get(..count).unwrap_or_default())?;
            }
        }
        Ok(())
    }

    fn keep_shape<'js>(&self, ctx: &Ctx<'js>, object: &Value<'js>, properties: &[&Name]) -> Result<()> {
        let nothing = Value::new_undefined(ctx.clone());
        for name in properties {
            raw::define(ctx, object, name, &nothing)?;
        }
        self.warm.borrow_mut().push(Held::new(ctx, object));
        Ok(())
    }

    /// The object that the prelude made.
    pub(crate) fn state<'js>(&self, ctx: &Ctx<'js>) -> Result<Object<'js>> {
        Object::from_value(self.state.get(ctx))
    }

    /// Makes a context the current one.
    pub(crate) fn enter(&self, ctx: &Ctx<'_>, variables: &Held) -> Result<()> {
        raw::point(ctx, &self.state, &self.names.c, variables)
    }

    /// The variables that every context begins with.
    pub(crate) fn initial(&self) -> &Held {
        &self.initial
    }

    /// A `MessageStart`.
    pub(crate) fn start<'js>(&self, ctx: &Ctx<'js>, head: &Value<'js>) -> Result<Value<'js>> {
        let object = raw::object(ctx, &self.start)?;
        raw::define(ctx, &object, &self.names.head, head)?;
        Ok(object)
    }

    /// A `MessageEnd`.
    pub(crate) fn end<'js>(
        &self,
        ctx: &Ctx<'js>,
        tail: &Value<'js>,
        payload: &Value<'js>,
    ) -> Result<Value<'js>> {
        let object = raw::object(ctx, &self.end)?;
        self.ending(ctx, &object, tail, payload)?;
        Ok(object)
    }

    /// A `StreamEnd`.
    pub(crate) fn stream_end<'js>(&self, ctx: &Ctx<'js>, error: &Value<'js>) -> Result<Value<'js>> {
        let object = raw::object(ctx, &self.stream_end)?;
        raw::define(ctx, &object, &self.names.error, error)?;
        Ok(object)
    }

    /// A `Message`.
    pub(crate) fn message<'js>(
        &self,
        ctx: &Ctx<'js>,
        head: &Value<'js>,
        body: &Value<'js>,
        tail: &Value<'js>,
        payload: &Value<'js>,
    ) -> Result<Value<'js>> {
        let object = raw::object(ctx, &self.message)?;
        raw::define(ctx, &object, &self.names.head, head)?;
        raw::define(ctx, &object, &self.names.body, body)?;
        self.ending(ctx, &object, tail, payload)?;
        Ok(object)
    }

    /// What the prototypes say is left to them.
    fn ending<'js>(
        &self,
        ctx: &Ctx<'js>,
        object: &Value<'js>,
        tail: &Value<'js>,
        payload: &Value<'js>,
    ) -> Result<()> {
        for (name, value) in [(&self.names.tail, tail), (&self.names.payload, payload)] {
            if !value.is_undefined() {
                raw::define(ctx, object, name, value)?;
            }
        }
        Ok(())
    }

    /// What a value is. Asking by prototype costs nothing; what is derived from ours is asked for in its own language.
    pub(crate) fn what<'js>(&self, ctx: &Ctx<'js>, value: &Value<'js>) -> Result<What> {
        if value.is_undefined() || value.is_null() {
            return Ok(What::Nothing);
        }
        if !value.is_object() {
            return Ok(What::Other);
        }
        if value.is_array() {
            return Ok(What::List);
        }
        let prototype = raw::prototype_at(ctx, value)?;
        let kinds = [
            (&self.message, What::Message),
            (&self.start, What::Start),
            (&self.data, What::Data),
            (&self.stream_end, What::StreamEnd),
            (&self.end, What::End),
        ];
        if let Some((_, what)) = kinds.iter().find(|(kind, _)| kind.is_at(prototype)) {
            return Ok(*what);
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
        Ok(self.http_head.is_at(raw::prototype_at(ctx, value)?))
    }

    /// Whether a value is the object of a native head's headers.
    pub(crate) fn is_http_headers<'js>(&self, ctx: &Ctx<'js>, value: &Value<'js>) -> Result<bool> {
        Ok(self.http_headers.is_at(raw::prototype_at(ctx, value)?))
    }

    /// The prototypes of `Data`, of native heads, and of their headers.
    pub(crate) fn data<'js>(&self, ctx: &Ctx<'js>) -> Result<Object<'js>> {
        self.natives[0].clone().restore(ctx)
    }

    /// See [`Known::data`].
    pub(crate) fn http_head<'js>(&self, ctx: &Ctx<'js>) -> Result<Object<'js>> {
        self.natives[1].clone().restore(ctx)
    }

    /// See [`Known::data`].
    pub(crate) fn http_headers<'js>(&self, ctx: &Ctx<'js>) -> Result<Object<'js>> {
        self.natives[2].clone().restore(ctx)
    }

    /// The property of heads that has the name with this number.
    pub(crate) fn field(&self, number: u32) -> Option<Field> {
        let names = &self.names;
        let fields = [
            (&names.headers, Field::Headers),
            (&names.path, Field::Path),
            (&names.method, Field::Method),
            (&names.status, Field::Status),
            (&names.authority, Field::Authority),
            (&names.protocol, Field::Protocol),
            (&names.status_text, Field::StatusText),
            (&names.scheme, Field::Scheme),
            (&names.header_names, Field::HeaderNames),
        ];
        fields.iter().find(|(name, _)| name.number() == number).map(|(_, field)| *field)
    }

    /// A name as text.
    pub(crate) fn text<'js>(&self, ctx: &Ctx<'js>, name: &Atom<'js>) -> Result<Rc<str>> {
        let number = raw::number(name);
        if let Some(known) = self.texts.borrow().get(&number) {
            return Ok(Rc::clone(&known.text));
        }
        let text: Rc<str> = name.to_string()?.into();
        let mut texts = self.texts.borrow_mut();
        if texts.len() < NAMES_MAX {
            let kept = Persistent::save(ctx, name.clone());
            texts.insert(number, Text { _name: kept, text: Rc::clone(&text) });
        }
        Ok(text)
    }
}
