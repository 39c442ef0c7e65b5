//! `console`, and how values are shown.

use rquickjs::function::Rest;
use rquickjs::{Ctx, Function, Object, Result, Value};

use crate::data::Data;

/// How deep objects are shown.
const DEPTH: usize = 4;

/// What has no properties of its own, but a text or entries: dates, addresses, maps.
fn named(object: &Object<'_>) -> Option<String> {
    let ctx = object.ctx();
    let plain: Value<'_> = ctx.globals().get::<_, Object<'_>>("Object").ok()?.get("prototype").ok()?;
    if object.get_prototype()?.as_value() == &plain {
        return None;
    }
    let state: Object<'_> = ctx.globals().get("__pipy").ok()?;
    state.get::<_, Function<'_>>("shown").ok()?.call((object.clone(),)).ok()?
}

/// A value as people read it.
pub(crate) fn show(value: &Value<'_>) -> String {
    let mut out = String::new();
    write(&mut out, value, 0);
    out
}

fn write(out: &mut String, value: &Value<'_>, depth: usize) {
    use std::fmt::Write;
    // Writing to a string cannot fail.
    if let Some(text) = value.as_string().and_then(|text| text.to_string().ok()) {
        out.push_str(&if depth == 0 { text } else { format!("{text:?}") });
        return;
    }
    if let Some(data) = Data::of(value) {
        let hex: Vec<String> = data.iter().take(64).map(|byte| format!("{byte:02x}")).collect();
        let more = if data.len() > 64 { " …" } else { "" };
        return out.push_str(&format!("Data[ {}{more} ]", hex.join(" ")));
    }
    if let Some(exception) = value.as_exception() {
        return out.push_str(&exception.message().unwrap_or_default());
    }
    if value.is_function() {
        return out.push_str("[Function]");
    }
    if let Some(array) = value.as_array() {
        if depth >= DEPTH {
            return out.push_str("[Array]");
        }
        out.push_str(if array.is_empty() { "[" } else { "[ " });
        for (index, item) in array.iter::<Value<'_>>().flatten().enumerate() {
            out.push_str(if index > 0 { ", " } else { "" });
            write(out, &item, depth + 1);
        }
        return out.push_str(if array.is_empty() { "]" } else { " ]" });
    }
    if let Some(object) = value.as_object() {
        if depth >= DEPTH {
            return out.push_str("[Object]");
        }
        let fields: Vec<(String, Value<'_>)> = object.props().flatten().collect();
        if fields.is_empty()
            && let Some(text) = named(object)
        {
            return out.push_str(&text);
        }
        out.push_str(if fields.is_empty() { "{" } else { "{ " });
        for (index, (name, field)) in fields.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            let _ = write!(out, "{comma}{name:?}: ");
            write(out, field, depth + 1);
        }
        return out.push_str(if fields.is_empty() { "}" } else { " }" });
    }
    let text = value.get::<rquickjs::Coerced<String>>().map(|text| text.0).unwrap_or_default();
    out.push_str(&text);
}

/// Puts `console` into the globals.
pub(crate) fn install(ctx: &Ctx<'_>) -> Result<()> {
    let console = Object::new(ctx.clone())?;
    for (name, level) in
        [("log", "INF"), ("info", "INF"), ("warn", "WRN"), ("error", "ERR"), ("debug", "DBG")]
    {
        let print = move |values: Rest<Value<'_>>| {
            let line: Vec<String> = values.0.iter().map(show).collect();
            crate::log::line(level, &line.join(" "));
        };
        console.set(name, Function::new(ctx.clone(), print)?)?;
    }
    ctx.globals().set("console", console)
}
