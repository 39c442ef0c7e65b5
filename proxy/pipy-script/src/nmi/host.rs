//! What modules ask of the engine, answered one by one.
//!
//! What a script's own code throws while it is asked (a getter, a `toString`) is a line in the log; the module gets what
//! stands for nothing. INVARIANT: nothing is borrowed while the engine is at work.

use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use pipy_nmi::{EventKind, Handle, Host, Literal, Look, Pipeline, PipelineId, Task};
use rquickjs::function::Args;
use rquickjs::{Array, Coerced, Ctx, Function, Object, Persistent, Result, Value};

use super::pointer;
use super::values::Item;
use crate::data::Data;
use crate::engine::Engine;
use crate::known::What;
use crate::log;

/// A value of the engine as an item.
pub(super) fn item<'js>(ctx: &Ctx<'js>, value: Value<'js>) -> Item {
    if value.is_undefined() {
        Item::Undefined
    } else if value.is_null() {
        Item::Null
    } else if let Some(value) = value.as_bool() {
        Item::Boolean(value)
    } else if let Some(number) = value.as_number() {
        Item::Number(number)
    } else if let Some(text) = value.as_string().and_then(|text| text.to_string().ok()) {
        Item::Text(text.into())
    } else {
        Item::Kept(Persistent::save(ctx, value))
    }
}

/// An item as a value of the engine.
pub(super) fn value<'js>(ctx: &Ctx<'js>, item: &Item) -> Result<Value<'js>> {
    Ok(match item {
        Item::Undefined => Value::new_undefined(ctx.clone()),
        Item::Null => Value::new_null(ctx.clone()),
        Item::Boolean(value) => Value::new_bool(ctx.clone(), *value),
        Item::Number(number) => Value::new_number(ctx.clone(), *number),
        Item::Text(text) => rquickjs::String::from_str(ctx.clone(), text)?.into_value(),
        Item::Kept(kept) => kept.clone().restore(ctx)?,
    })
}

impl Engine {
    /// Does what a module asks; `None` where that throws.
    fn answer<T>(&self, asked: &str, what: impl FnOnce(&Ctx<'_>) -> Result<T>) -> Option<T> {
        match self.with(what) {
            Ok(answer) => Some(answer),
            Err(error) => {
                log::line("ERR", &format!("a native module asked for {asked}: {error}"));
                None
            }
        }
    }

    /// The same with an object; `None` where the number stands for none.
    fn object<T>(
        &self,
        handle: Handle,
        asked: &str,
        what: impl for<'js> FnOnce(&Ctx<'js>, Object<'js>) -> Result<T>,
    ) -> Option<T> {
        let Item::Kept(kept) = self.natives.values.get(handle) else { return None };
        self.answer(asked, |ctx| match kept.restore(ctx)?.into_object() {
            Some(object) => what(ctx, object).map(Some),
            None => Ok(None),
        })
        .flatten()
    }

    fn js<'js>(&self, ctx: &Ctx<'js>, handle: Handle) -> Result<Value<'js>> {
        value(ctx, &self.natives.values.get(handle))
    }
}

/// A key as the engine wants it: numbers are those of elements.
fn key<'js>(ctx: &Ctx<'js>, value: Value<'js>) -> Result<rquickjs::Atom<'js>> {
    rquickjs::Atom::from_value(ctx.clone(), &value)
}

impl Host for Engine {
    fn make(&self, literal: Literal<'_>) -> Handle {
        let values = &self.natives.values;
        let made = match literal {
            Literal::Undefined => Some(Item::Undefined),
            Literal::Null => Some(Item::Null),
            Literal::Boolean(value) => Some(Item::Boolean(value)),
            Literal::Number(number) => Some(Item::Number(number)),
            Literal::Text(text) => Some(Item::Text(text.into())),
            Literal::Object => {
                self.answer("an object", |ctx| Ok(item(ctx, Object::new(ctx.clone())?.into_value())))
            }
            Literal::Array(length) => self.answer("an array", |ctx| {
                let array = Array::new(ctx.clone())?.into_value();
                if let Some(object) = array.as_object() {
                    object.set("length", length)?;
                }
                Ok(item(ctx, array))
            }),
            Literal::Native(native) => {
                self.answer("a pointer", |ctx| Ok(item(ctx, pointer::object(ctx, native)?)))
            }
            Literal::Data(bytes) => {
                let bytes = Bytes::copy_from_slice(bytes);
                self.answer("Data", |ctx| Ok(item(ctx, Data::new_js(ctx, bytes)?)))
            }
            Literal::Start(head) => self.answer("MessageStart", |ctx| {
                let mut head = self.js(ctx, head)?;
                if !head.is_object() {
                    head = Object::new(ctx.clone())?.into_value();
                }
                Ok(item(ctx, self.makers(ctx)?.start(&head)?))
            }),
            Literal::End(tail, payload) => self.answer("MessageEnd", |ctx| {
                Ok(item(ctx, self.makers(ctx)?.end(self.js(ctx, tail)?, self.js(ctx, payload)?)?))
            }),
            Literal::StreamEnd(error) => self.answer("StreamEnd", |ctx| {
                Ok(item(ctx, self.makers(ctx)?.stream_end(self.js(ctx, error)?)?))
            }),
        };
        made.map_or(0, |made| values.add(made))
    }

    fn copy(&self, to: Handle, from: Handle) {
        self.natives.values.set(to, self.natives.values.get(from));
    }

    fn hold(&self, value: Handle) {
        self.natives.values.hold(value);
    }

    fn free(&self, value: Handle) {
        self.natives.values.free(value);
    }

    fn look(&self, value: Handle) -> Look {
        match self.natives.values.get(value) {
            Item::Undefined => Look::Undefined,
            Item::Null => Look::Null,
            Item::Boolean(value) => Look::Boolean(value),
            Item::Number(number) => Look::Number(number),
            Item::Text(_) => Look::Text,
            Item::Kept(kept) => self
                .answer("a type", |ctx| {
                    let value = kept.restore(ctx)?;
                    Ok(match () {
                        () if value.is_function() => Look::Function,
                        () if value.is_array() => Look::Array,
                        () if value.is_string() => Look::Text,
                        () => Look::Object,
                    })
                })
                .unwrap_or(Look::Object),
        }
    }

    fn class_of(&self, value: Handle) -> Option<String> {
        let name = self.object(value, "a class", |_, object| {
            let constructor: Option<Function<'_>> = object.get("constructor")?;
            constructor.map(|constructor| constructor.get::<_, String>("name")).transpose()
        });
        name.flatten()
    }

    fn is_instance(&self, value: Handle, class: &str) -> bool {
        let is = self.object(value, "a class", |ctx, object| {
            let constructor: Value<'_> = ctx.globals().get(class)?;
            Ok(constructor.is_function() && object.is_instance_of(constructor))
        });
        // Classes that scripts cannot name are known by their constructors.
        is == Some(true) || self.class_of(value).is_some_and(|name| name == class)
    }

    fn equal(&self, left: Handle, right: Handle, strict: bool) -> bool {
        let compared = self.answer("a comparison", |ctx| {
            let compare: Function<'_> =
                ctx.eval(if strict { "(a, b) => a === b" } else { "(a, b) => a == b" })?;
            compare.call::<_, bool>((self.js(ctx, left)?, self.js(ctx, right)?))
        });
        compared.unwrap_or(false)
    }

    fn truth(&self, value: Handle) -> bool {
        match self.natives.values.get(value) {
            Item::Undefined | Item::Null => false,
            Item::Boolean(value) => value,
            Item::Number(number) => number != 0.0 && !number.is_nan(),
            Item::Text(text) => !text.is_empty(),
            Item::Kept(_) => true,
        }
    }

    fn number(&self, value: Handle) -> f64 {
        match self.natives.values.get(value) {
            Item::Undefined => f64::NAN,
            Item::Null => 0.0,
            Item::Boolean(value) => f64::from(u8::from(value)),
            Item::Number(number) => number,
            item => self
                .answer("a number", |ctx| Ok(self::value(ctx, &item)?.get::<Coerced<f64>>()?.0))
                .unwrap_or(f64::NAN),
        }
    }

    fn text(&self, value: Handle, convert: bool) -> Option<Rc<str>> {
        match self.natives.values.get(value) {
            Item::Text(text) => Some(text),
            _ if !convert => None,
            item => self
                .answer("a string", |ctx| Ok(self::value(ctx, &item)?.get::<Coerced<String>>()?.0))
                .map(Into::into),
        }
    }

    fn get(&self, object: Handle, key: Handle, into: Handle) -> bool {
        let found = self.object(object, "a property", |ctx, object| {
            let key = self::key(ctx, self.js(ctx, key)?)?;
            if !object.contains_key(key.clone())? {
                return Ok(None);
            }
            Ok(Some(item(ctx, object.get(key)?)))
        });
        let found = found.flatten();
        let there = found.is_some();
        self.natives.values.set(into, found.unwrap_or_default());
        there
    }

    fn set(&self, object: Handle, key: Handle, value: Handle) -> bool {
        let set = self.object(object, "a property to be set", |ctx, object| {
            object.set(self::key(ctx, self.js(ctx, key)?)?, self.js(ctx, value)?)
        });
        set.is_some()
    }

    fn delete(&self, object: Handle, key: Handle) -> bool {
        let deleted = self.object(object, "a property to be removed", |ctx, object| {
            let key = self::key(ctx, self.js(ctx, key)?)?;
            let there = object.contains_key(key.clone())?;
            object.remove(key)?;
            Ok(there)
        });
        deleted.unwrap_or(false)
    }

    fn entries(&self, object: Handle) -> Vec<(Handle, Handle)> {
        let found = self.object(object, "properties", |ctx, object| {
            let pairs = object.props::<Value<'_>, Value<'_>>();
            pairs
                .map(|pair| pair.map(|(key, value)| (item(ctx, key), item(ctx, value))))
                .collect::<Result<Vec<_>>>()
        });
        let add = |item| self.natives.values.add(item);
        found.into_iter().flatten().map(|(key, value)| (add(key), add(value))).collect()
    }

    fn length(&self, array: Handle) -> Option<usize> {
        self.object(array, "a length", |_, object| Ok(object.as_array().map(Array::len))).flatten()
    }

    fn resize(&self, array: Handle, length: usize) -> bool {
        let resized = self.object(array, "another length", |_, object| {
            object.is_array().then(|| object.set("length", length)).transpose()
        });
        resized.flatten().is_some()
    }

    fn method(&self, array: Handle, name: &str, arguments: &[Handle]) -> Option<Handle> {
        let result = self.object(array, name, |ctx, object| {
            if !object.is_array() {
                return Ok(None);
            }
            let mut args = Args::new(ctx.clone(), arguments.len());
            args.this(object.clone())?;
            for argument in arguments {
                args.push_arg(self.js(ctx, *argument)?)?;
            }
            let result: Value<'_> = object.get::<_, Function<'_>>(name)?.call_arg(args)?;
            Ok(Some(item(ctx, result)))
        });
        result.flatten().map(|item| self.natives.values.add(item))
    }

    fn native(&self, object: Handle) -> Option<pipy_nmi::Native> {
        self.object(object, "a pointer", |_, object| Ok(pointer::of(object.as_value()))).flatten()
    }

    fn event(&self, object: Handle) -> EventKind {
        let kind = self.object(object, "an event", |ctx, object| {
            Ok(match self.makers(ctx)?.known.what(ctx, object.as_value())? {
                What::Data => EventKind::Data,
                What::Start => EventKind::Start,
                What::End => EventKind::End,
                What::StreamEnd => EventKind::StreamEnd,
                _ => EventKind::Other,
            })
        });
        kind.unwrap_or(EventKind::Other)
    }

    fn field(&self, event: Handle, name: &str) -> Handle {
        let found = self.object(event, "a field of an event", |ctx, object| Ok(item(ctx, object.get(name)?)));
        found.map_or(0, |item| self.natives.values.add(item))
    }

    fn bytes(&self, data: Handle, see: &mut dyn FnMut(&[u8])) {
        let bytes = self.object(data, "bytes", |_, object| Ok(Data::of(object.as_value()))).flatten();
        if let Some(bytes) = bytes {
            see(&bytes);
        }
    }

    fn append(&self, data: Handle, more: Handle) {
        self.object(data, "bytes to be added", |ctx, object| {
            let more = self.js(ctx, more)?;
            let (Some(before), Some(more)) = (Data::of(object.as_value()), Data::of(&more)) else {
                return Ok(());
            };
            let mut joined = BytesMut::with_capacity(before.len() + more.len());
            joined.extend_from_slice(&before);
            joined.extend_from_slice(&more);
            Data::put(object.as_value(), joined.freeze());
            Ok(())
        });
    }

    fn take(&self, data: Handle, count: usize, front: bool) -> Handle {
        let taken = self.object(data, "bytes to be taken", |ctx, object| {
            let Some(mut bytes) = Data::of(object.as_value()) else { return Ok(None) };
            let count = count.min(bytes.len());
            let taken = if front { bytes.split_to(count) } else { bytes.split_off(bytes.len() - count) };
            Data::put(object.as_value(), bytes);
            Ok(Some(item(ctx, Data::new_js(ctx, taken)?)))
        });
        taken.flatten().map_or(0, |item| self.natives.values.add(item))
    }

    fn define_variable(&self, id: i32, name: &str, namespace: Option<&str>, initial: Handle) -> i32 {
        let loading = self.natives.loading.borrow().clone();
        let Some(module) = loading else {
            log::line("ERR", &format!("variable {name}: modules define theirs in pipy_module_init()"));
            return -1;
        };
        let id = if id >= 0 {
            id
        } else {
            let taken = module.variables.borrow();
            (0..).find(|id| !taken.contains_key(id)).unwrap_or(-1)
        };
        // A module's own variables are under its path, as those of a file are.
        let owner = namespace.map_or_else(|| format!("/{}", module.path), str::to_owned);
        let slot = self.sources.borrow_mut().define(&owner, name);
        self.answer("a variable", |ctx| {
            let state = self.state_object(ctx)?;
            state.get::<_, Array<'_>>("init")?.set(slot as usize, self.js(ctx, initial)?)
        });
        module.variables.borrow_mut().insert(id, slot);
        id
    }

    fn define_pipeline(&self, name: &str, pipeline: Pipeline) {
        match &*self.natives.loading.borrow() {
            Some(module) => drop(module.pipelines.borrow_mut().insert(name.to_owned(), pipeline)),
            None => {
                log::line("ERR", &format!("pipeline {name}: modules define theirs in pipy_module_init()"))
            }
        }
    }

    fn output(&self, pipeline: PipelineId, event: Handle) {
        if let Some(instance) = self.natives.instance(pipeline) {
            instance.put(self, self.natives.values.get(event));
        }
    }

    fn variable(&self, pipeline: PipelineId, id: i32, into: Handle) {
        let place = self.natives.instance(pipeline).and_then(|instance| {
            let slot = instance.module.variables.borrow().get(&id).copied();
            slot.map(|slot| (instance, slot))
        });
        let found = place.and_then(|(instance, slot)| {
            self.answer("a variable", |ctx| Ok(item(ctx, instance.vars.get(ctx, slot)?)))
        });
        self.natives.values.set(into, found.unwrap_or_default());
    }

    fn set_variable(&self, pipeline: PipelineId, id: i32, value: Handle) {
        let Some(instance) = self.natives.instance(pipeline) else { return };
        let Some(slot) = instance.module.variables.borrow().get(&id).copied() else { return };
        self.answer("a variable to be set", |ctx| {
            // Filters that wait for a variable look again.
            self.enter(ctx, &instance.vars)?;
            instance.vars.set(ctx, slot, &self.js(ctx, value)?)
        });
    }

    fn hold_pipeline(&self, pipeline: PipelineId) {
        if let Some(instance) = self.natives.instance(pipeline) {
            instance.hold();
        }
    }

    fn free_pipeline(&self, pipeline: PipelineId) -> bool {
        let Some(instance) = self.natives.instance(pipeline) else { return false };
        instance.release();
        self.natives.released.borrow_mut().push(pipeline);
        true
    }

    fn schedule(&self, pipeline: PipelineId, after: Duration, task: Task) -> Option<Task> {
        if self.natives.instance(pipeline).is_none() {
            return Some(task);
        }
        self.natives.call_later(pipeline, after, task);
        None
    }
}
