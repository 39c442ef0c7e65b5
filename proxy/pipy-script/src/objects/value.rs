//! Values of codecs and values of scripts, both ways.
//!
//! INVARIANT: what a codec gave comes back to it as the same value. Functions and symbols are no values of a codec and are
//! left out, as `undefined` is.

use pipy_protocols::{Object as Fields, Value as Plain};
use rquickjs::{Array, Coerced, Ctx, Exception, Function, Object, Result, Value};

use crate::data::Data;

/// LIMIT: how deep a script's value may be; a cycle is found by it.
const DEPTH_MAX: usize = 128;

/// A codec's value as scripts see it.
pub(crate) fn to_js<'js>(ctx: &Ctx<'js>, value: &Plain) -> Result<Value<'js>> {
    Ok(match value {
        Plain::Null => Value::new_null(ctx.clone()),
        Plain::Bool(value) => Value::new_bool(ctx.clone(), *value),
        Plain::Int(value) => match i32::try_from(*value) {
            Ok(value) => Value::new_int(ctx.clone(), value),
            Err(_) => Value::new_number(ctx.clone(), *value as f64),
        },
        Plain::Number(value) => Value::new_number(ctx.clone(), *value),
        Plain::String(text) => rquickjs::String::from_str(ctx.clone(), text)?.into_value(),
        Plain::Bytes(bytes) => Data::new_js(ctx, bytes.clone())?,
        Plain::Date(time) => made(ctx, "Date", Value::new_number(ctx.clone(), *time as f64))?,
        Plain::Array(items) => list(ctx, items)?.into_value(),
        Plain::Object(fields) => {
            let object = Object::new(ctx.clone())?;
            for (name, field) in fields.iter() {
                object.set(name, to_js(ctx, field)?)?;
            }
            object.into_value()
        }
        Plain::Map(pairs) => {
            let entries = Array::new(ctx.clone())?;
            for (index, (key, item)) in pairs.iter().enumerate() {
                let pair = Array::new(ctx.clone())?;
                pair.set(0, to_js(ctx, key)?)?;
                pair.set(1, to_js(ctx, item)?)?;
                entries.set(index, pair)?;
            }
            made(ctx, "Map", entries.into_value())?
        }
        Plain::Set(items) => made(ctx, "Set", list(ctx, items)?.into_value())?,
        Plain::Error(message) => Exception::from_message(ctx.clone(), message)?.into_value(),
    })
}

fn list<'js>(ctx: &Ctx<'js>, items: &[Plain]) -> Result<Array<'js>> {
    let array = Array::new(ctx.clone())?;
    for (index, item) in items.iter().enumerate() {
        array.set(index, to_js(ctx, item)?)?;
    }
    Ok(array)
}

/// `new name(argument)`.
fn made<'js>(ctx: &Ctx<'js>, name: &str, argument: Value<'js>) -> Result<Value<'js>> {
    let constructor: rquickjs::function::Constructor<'js> = ctx.globals().get(name)?;
    constructor.construct((argument,))
}

/// A script's value as codecs take it; `None` for `undefined`, functions and symbols.
pub(crate) fn from_js<'js>(ctx: &Ctx<'js>, value: &Value<'js>) -> Result<Option<Plain>> {
    read(ctx, value, 0)
}

fn read<'js>(ctx: &Ctx<'js>, value: &Value<'js>, depth: usize) -> Result<Option<Plain>> {
    if depth > DEPTH_MAX {
        return Err(Exception::throw_range(ctx, "the value is nested too deeply, or contains itself"));
    }
    if value.is_undefined() || value.is_function() || value.is_symbol() {
        return Ok(None);
    }
    if value.is_null() {
        return Ok(Some(Plain::Null));
    }
    if let Some(value) = value.as_bool() {
        return Ok(Some(Plain::Bool(value)));
    }
    if let Some(value) = value.as_int() {
        return Ok(Some(Plain::Int(value.into())));
    }
    if let Some(number) = value.as_float() {
        let whole = number.fract() == 0.0 && number.abs() <= 9_007_199_254_740_991.0;
        let negative_zero = number == 0.0 && number.is_sign_negative();
        return Ok(Some(if whole && !negative_zero {
            Plain::Int(number as i64)
        } else {
            Plain::Number(number)
        }));
    }
    if let Some(text) = value.as_string() {
        return Ok(Some(Plain::String(text.to_string()?)));
    }
    if let Some(bytes) = Data::of(value) {
        return Ok(Some(Plain::Bytes(bytes)));
    }
    if let Some(exception) = value.as_exception() {
        return Ok(Some(Plain::Error(exception.message().unwrap_or_default())));
    }
    if let Some(array) = value.as_array() {
        return items(ctx, array, depth).map(|items| Some(Plain::Array(items)));
    }
    let Some(object) = value.as_object() else {
        return Ok(Some(Plain::String(value.get::<Coerced<String>>()?.0)));
    };
    let is =
        |name: &str| -> Result<bool> { Ok(object.is_instance_of(ctx.globals().get::<_, Value<'js>>(name)?)) };
    if is("Date")? {
        let time: Function<'js> = object.get("getTime")?;
        let time: f64 = time.call((rquickjs::function::This(object.clone()),))?;
        return Ok(Some(Plain::Date(time as i64)));
    }
    if is("Map")? || is("Set")? {
        let array: Function<'js> = ctx.globals().get::<_, Object<'js>>("Array")?.get("from")?;
        let array: Array<'js> = array.call((object.clone(),))?;
        if is("Set")? {
            return items(ctx, &array, depth).map(|items| Some(Plain::Set(items)));
        }
        let mut pairs = Vec::new();
        for pair in array.iter::<Array<'js>>() {
            let pair = pair?;
            let key = read(ctx, &pair.get(0)?, depth + 1)?.unwrap_or_default();
            pairs.push((key, read(ctx, &pair.get(1)?, depth + 1)?.unwrap_or_default()));
        }
        return Ok(Some(Plain::Map(pairs)));
    }
    let mut pairs = Vec::new();
    for field in object.props::<String, Value<'js>>() {
        let (name, field) = field?;
        if let Some(field) = read(ctx, &field, depth + 1)? {
            pairs.push((name, field));
        }
    }
    Ok(Some(Plain::Object(Fields::from_pairs(pairs))))
}

fn items<'js>(ctx: &Ctx<'js>, array: &Array<'js>, depth: usize) -> Result<Vec<Plain>> {
    // What cannot be said keeps its place.
    array.iter::<Value<'js>>().map(|item| Ok(read(ctx, &item?, depth + 1)?.unwrap_or_default())).collect()
}
