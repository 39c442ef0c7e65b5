//! The native of `YAML`: a document becomes a value. Every scalar is a string, as scripts expect it.

use rquickjs::{Array, Ctx, Exception, Function, Object, Result, Value};
use yaml_rust2::{Yaml, YamlLoader};

/// LIMIT: how deep a document may be.
const DEPTH_MAX: usize = 128;

fn yaml(ctx: Ctx<'_>, text: String) -> Result<Value<'_>> {
    let documents = YamlLoader::load_from_str(&text)
        .map_err(|error| Exception::throw_message(&ctx, &format!("invalid YAML: {error}")))?;
    match documents.first() {
        Some(document) => value(&ctx, document, 0),
        None => Ok(Value::new_null(ctx)),
    }
}

fn value<'js>(ctx: &Ctx<'js>, node: &Yaml, depth: usize) -> Result<Value<'js>> {
    if depth > DEPTH_MAX {
        return Err(Exception::throw_range(ctx, "invalid YAML: nested too deeply"));
    }
    Ok(match node {
        Yaml::Array(items) => {
            let array = Array::new(ctx.clone())?;
            for (index, item) in items.iter().enumerate() {
                array.set(index, value(ctx, item, depth + 1)?)?;
            }
            array.into_value()
        }
        Yaml::Hash(fields) => {
            let object = Object::new(ctx.clone())?;
            for (name, field) in fields {
                object.set(scalar(name), value(ctx, field, depth + 1)?)?;
            }
            object.into_value()
        }
        Yaml::Null | Yaml::BadValue | Yaml::Alias(_) => Value::new_null(ctx.clone()),
        other => rquickjs::String::from_str(ctx.clone(), &scalar(other))?.into_value(),
    })
}

fn scalar(node: &Yaml) -> String {
    match node {
        Yaml::String(text) | Yaml::Real(text) => text.clone(),
        Yaml::Integer(number) => number.to_string(),
        Yaml::Boolean(value) => value.to_string(),
        _ => String::new(),
    }
}

/// Gives it to the JavaScript of this folder.
pub(super) fn install<'js>(ctx: &Ctx<'js>, native: &Object<'js>) -> Result<()> {
    native.set("yaml", Function::new(ctx.clone(), yaml)?)
}
