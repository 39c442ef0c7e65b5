//! XML 1.0 documents as nodes: `{name, attributes: {name: value}, children: [node | string]}`.
//!
//! Invariants: only the five entities of XML itself and numbers of characters are known, so a document
//! cannot grow by its own definitions, nor name files; depth is bounded, and costs no stack of the thread.
//! Comments, instructions and the document type are dropped, and so is white space between elements that
//! have no text.
//!
//! Not done here: namespaces (a prefix is a part of its name), validation, encodings other than UTF-8.

#[cfg(test)]
mod tests;
mod write;

use bytes::Bytes;

use crate::{Error, Object, Value};
pub use write::stringify;

const PROTOCOL: &str = "XML";
/// LIMIT: elements within each other; real documents stay below forty.
const DEPTH_MAX: usize = 256;
/// LIMIT: elements, texts and attributes of a document: at most some 200 MB.
const NODES_MAX: usize = 1024 * 1024;

/// Reads a document; gives its root.
///
/// # Errors
///
/// When it is malformed or exceeds a limit.
pub fn decode(bytes: &Bytes) -> Result<Value, Error> {
    match std::str::from_utf8(bytes) {
        Ok(text) => parse(text),
        Err(error) => Err(Error::malformed(PROTOCOL, error.valid_up_to() as u64, "a document is not UTF-8")),
    }
}

/// The same, from text.
///
/// # Errors
///
/// When it is malformed or exceeds a limit.
pub fn parse(text: &str) -> Result<Value, Error> {
    let mut parser = Parser {
        all: text,
        rest: text.trim_start_matches('\u{feff}'),
        open: Vec::new(),
        root: None,
        nodes: 0,
    };
    while !parser.rest.is_empty() {
        parser.step()?;
    }
    if let Some(open) = parser.open.last() {
        return Err(parser.malformed(format!("<{}> is not closed", open.name)));
    }
    parser.root.take().ok_or_else(|| parser.malformed("no element"))
}

/// What no document may have (XML 1.0 §2.2).
const fn is_forbidden(c: char) -> bool {
    !matches!(c, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..)
}

struct Open {
    name: String,
    attributes: Vec<(String, Value)>,
    children: Vec<Value>,
}

struct Parser<'a> {
    all: &'a str,
    rest: &'a str,
    open: Vec<Open>,
    root: Option<Value>,
    nodes: usize,
}

impl<'a> Parser<'a> {
    fn position(&self) -> u64 {
        (self.all.len() - self.rest.len()) as u64
    }

    fn malformed(&self, reason: impl Into<std::borrow::Cow<'static, str>>) -> Error {
        Error::malformed(PROTOCOL, self.position(), reason)
    }

    fn count(&mut self) -> Result<(), Error> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            let position = self.position();
            return Err(Error::TooLarge {
                protocol: PROTOCOL,
                position,
                what: "nodes",
                max: NODES_MAX as u64,
            });
        }
        Ok(())
    }

    /// What comes before `end`, which is read too.
    fn until(&mut self, end: &str, what: &str) -> Result<&'a str, Error> {
        let Some((before, after)) = self.rest.split_once(end) else {
            return Err(self.malformed(format!("{what} is not closed")));
        };
        self.rest = after;
        Ok(before)
    }

    fn step(&mut self) -> Result<(), Error> {
        if let Some(rest) = self.rest.strip_prefix("<!--") {
            self.rest = rest;
            self.until("-->", "a comment")?;
        } else if let Some(rest) = self.rest.strip_prefix("<![CDATA[") {
            self.rest = rest;
            let text = self.until("]]>", "a CDATA section")?.to_owned();
            self.text(text)?;
        } else if let Some(rest) = self.rest.strip_prefix("<?") {
            self.rest = rest;
            self.until("?>", "an instruction")?;
        } else if self.rest.starts_with("<!DOCTYPE") {
            self.doctype()?;
        } else if let Some(rest) = self.rest.strip_prefix("</") {
            self.rest = rest;
            let name = self.until(">", "an end")?.trim_end();
            match self.open.pop() {
                Some(open) if open.name == name => self.close(open),
                Some(open) => {
                    return Err(self.malformed(format!("</{name}> where </{}> is expected", open.name)));
                }
                None => return Err(self.malformed(format!("</{name}> was not opened"))),
            }
        } else if let Some(rest) = self.rest.strip_prefix('<') {
            self.rest = rest;
            self.element()?;
        } else {
            let end = self.rest.find('<').unwrap_or(self.rest.len());
            let (text, rest) = self.rest.split_at(end);
            let text = self.unescape(text)?;
            self.rest = rest;
            self.text(text)?;
        }
        Ok(())
    }

    /// Passes over a document type; what it defines is not known to us.
    fn doctype(&mut self) -> Result<(), Error> {
        let mut depth = 0_usize;
        let mut quote = None;
        for (at, character) in self.rest.char_indices() {
            match (quote, character) {
                (Some(open), character) if open == character => quote = None,
                (Some(_), _) => {}
                (None, '"' | '\'') => quote = Some(character),
                (None, '[' | '<') => depth += 1,
                (None, ']') => depth = depth.saturating_sub(1),
                (None, '>') => {
                    depth = depth.saturating_sub(1);
                    if depth == 0 {
                        self.rest = self.rest.get(at + 1..).unwrap_or_default();
                        return Ok(());
                    }
                }
                _ => {}
            }
        }
        Err(self.malformed("a document type is not closed"))
    }

    fn name(&mut self) -> Result<String, Error> {
        let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | ':' | '-' | '.' | '\u{b7}');
        let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        if !name.starts_with(|c: char| c.is_alphabetic() || matches!(c, '_' | ':')) {
            return Err(self.malformed("a name is expected"));
        }
        self.rest = rest;
        Ok(name.to_owned())
    }

    fn element(&mut self) -> Result<(), Error> {
        self.count()?;
        if self.open.is_empty() && self.root.is_some() {
            return Err(self.malformed("a second root"));
        }
        if self.open.len() >= DEPTH_MAX {
            let position = self.position();
            return Err(Error::TooLarge {
                protocol: PROTOCOL,
                position,
                what: "depth",
                max: DEPTH_MAX as u64,
            });
        }
        let name = self.name()?;
        let mut attributes: Vec<(String, Value)> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        loop {
            let trimmed = self.rest.trim_start();
            let has_blank = trimmed.len() < self.rest.len();
            self.rest = trimmed;
            if let Some(rest) = self.rest.strip_prefix("/>") {
                self.rest = rest;
                self.close(Open { name, attributes, children: Vec::new() });
                return Ok(());
            }
            if let Some(rest) = self.rest.strip_prefix('>') {
                self.rest = rest;
                self.open.push(Open { name, attributes, children: Vec::new() });
                return Ok(());
            }
            if !has_blank {
                return Err(self.malformed(format!("<{name} is not closed")));
            }
            self.count()?;
            let key = self.name()?;
            let Some(rest) = self.rest.trim_start().strip_prefix('=').map(str::trim_start) else {
                return Err(self.malformed(format!("attribute {key} has no value")));
            };
            let Some(quote) = rest.chars().next().filter(|quote| matches!(quote, '"' | '\'')) else {
                return Err(self.malformed(format!("the value of {key} is not quoted")));
            };
            self.rest = rest.get(1..).unwrap_or_default();
            let value = self.until(quote.encode_utf8(&mut [0; 4]), "a value")?;
            if value.contains('<') {
                return Err(self.malformed(format!("the value of {key} has a <")));
            }
            let value = self.unescape(value)?;
            if value.contains(is_forbidden) {
                return Err(self.malformed("a character that no document may have"));
            }
            if !seen.insert(key.clone()) {
                return Err(self.malformed(format!("attribute {key} occurs twice")));
            }
            attributes.push((key, value.into()));
        }
    }

    fn close(&mut self, open: Open) {
        let Open { name, attributes, mut children } = open;
        // Indentation, and not text: blanks only, beside elements.
        if children.iter().any(|child| child.as_object().is_some()) {
            children.retain(|child| child.as_str().is_none_or(|text| !text.trim().is_empty()));
        }
        let node = Object::new()
            .with("name", name)
            .with("attributes", Object::from_pairs(attributes))
            .with("children", children);
        match self.open.last_mut() {
            Some(parent) => parent.children.push(node.into()),
            None => self.root = Some(node.into()),
        }
    }

    fn text(&mut self, text: String) -> Result<(), Error> {
        if text.contains(is_forbidden) {
            return Err(self.malformed("a character that no document may have"));
        }
        if self.open.is_empty() {
            return if text.trim().is_empty() {
                Ok(())
            } else {
                Err(self.malformed("text outside of the root"))
            };
        }
        if text.is_empty() {
            return Ok(());
        }
        self.count()?;
        let Some(open) = self.open.last_mut() else { return Ok(()) };
        // Text and CDATA beside each other are one text.
        match open.children.last_mut() {
            Some(Value::String(last)) => last.push_str(&text),
            _ => open.children.push(text.into()),
        }
        Ok(())
    }

    fn unescape(&self, text: &str) -> Result<String, Error> {
        let mut output = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('&') {
            output.push_str(before);
            let Some((name, after)) = after.split_once(';').filter(|(name, _)| name.len() <= 10) else {
                return Err(self.malformed("a & starts no entity"));
            };
            rest = after;
            let number = match name.strip_prefix('#').map(|number| number.strip_prefix('x').ok_or(number)) {
                Some(Ok(digits)) => u32::from_str_radix(digits, 16).ok(),
                Some(Err(digits)) => digits.parse().ok(),
                None => None,
            };
            output.push(match name {
                "lt" => '<',
                "gt" => '>',
                "amp" => '&',
                "apos" => '\'',
                "quot" => '"',
                _ => number
                    .and_then(char::from_u32)
                    .filter(|c| !is_forbidden(*c))
                    .ok_or_else(|| self.malformed(format!("unknown entity &{name};")))?,
            });
        }
        output.push_str(rest);
        Ok(output)
    }
}
