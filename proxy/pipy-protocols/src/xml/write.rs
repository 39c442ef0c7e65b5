//! From nodes to text.

use super::{DEPTH_MAX, PROTOCOL};
use crate::{Error, Value};

/// Writes a document; with `indent` blanks for each level where elements have no text beside them.
///
/// # Errors
///
/// When a node is not `{name, attributes, children}`, or has a name that cannot be one.
pub fn stringify(node: &Value, indent: usize) -> Result<String, Error> {
    let mut output = String::new();
    write(&mut output, node, indent, 0)?;
    Ok(output)
}

fn write(output: &mut String, node: &Value, indent: usize, depth: usize) -> Result<(), Error> {
    if depth >= DEPTH_MAX {
        return Err(Error::unencodable(
            PROTOCOL,
            format!("more than {DEPTH_MAX} elements within each other"),
        ));
    }
    let name = name(node.get("name").and_then(Value::as_str).unwrap_or_default())?;
    output.push('<');
    output.push_str(name);
    for (key, value) in
        node.get("attributes").and_then(Value::as_object).into_iter().flat_map(crate::Object::iter)
    {
        output.push(' ');
        output.push_str(self::name(key)?);
        output.push_str("=\"");
        escape(output, &text(value)?, true);
        output.push('"');
    }
    let children = node.get("children").and_then(Value::as_array).unwrap_or_default();
    if children.is_empty() {
        output.push_str("/>");
        return Ok(());
    }
    output.push('>');
    let indents = indent > 0 && children.iter().all(|child| child.as_object().is_some());
    for child in children {
        if indents {
            output.push('\n');
            output.extend(std::iter::repeat_n(' ', indent * (depth + 1)));
        }
        match child {
            Value::Object(_) => write(output, child, indent, depth + 1)?,
            other => escape(output, &text(other)?, false),
        }
    }
    if indents {
        output.push('\n');
        output.extend(std::iter::repeat_n(' ', indent * depth));
    }
    output.push_str("</");
    output.push_str(name);
    output.push('>');
    Ok(())
}

fn name(name: &str) -> Result<&str, Error> {
    let is_start = |c: char| c.is_alphabetic() || matches!(c, '_' | ':');
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | ':' | '-' | '.' | '\u{b7}');
    if name.starts_with(is_start) && name.chars().all(is_part) {
        Ok(name)
    } else {
        Err(Error::unencodable(PROTOCOL, format!("{name:?} is no name")))
    }
}

fn text(value: &Value) -> Result<String, Error> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Int(number) => Ok(number.to_string()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(value) => Ok(value.to_string()),
        Value::Null => Ok(String::new()),
        other => Err(Error::unencodable(PROTOCOL, format!("a text is {}, not a string", other.kind()))),
    }
}

fn escape(output: &mut String, text: &str, quoted: bool) {
    for character in text.chars() {
        match character {
            '<' => output.push_str("&lt;"),
            '>' => output.push_str("&gt;"),
            '&' => output.push_str("&amp;"),
            '"' if quoted => output.push_str("&quot;"),
            // Readers would make blanks of these.
            '\n' | '\t' if quoted => output.push_str(&format!("&#{};", u32::from(character))),
            '\r' => output.push_str("&#13;"),
            character if super::is_forbidden(character) => output.push('\u{fffd}'),
            character => output.push(character),
        }
    }
}
